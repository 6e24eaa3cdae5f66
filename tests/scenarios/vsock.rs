//! Bytes between host programs and guests.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::thread;

use tests::demo::PORT;
use tests::enclave::{Enclave, PATIENCE, Start};
use tests::product::User;
use tests::{demo, image};

fn echo_stream(enclave: &Enclave<'_>) -> UnixStream {
    let mut stream = enclave.connect(PORT).unwrap();
    stream.write_all(b"echo\n").unwrap();
    stream
}

/// Bytes that show a loss, a repetition or a change of order.
fn pattern(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    (0..length)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state.to_be_bytes()[0]
        })
        .collect()
}

#[test]
#[ignore = "needs a KVM that can run a kernel"]
fn what_is_sent_comes_back_through_a_half_closed_stream() {
    let user = User::new();
    let enclave = Start::new(&image::demo(), "echo").run(&user);
    let sent = pattern(3 << 20, 1);
    let mut stream = echo_stream(&enclave);
    let mut writer = stream.try_clone().unwrap();
    let mut received = Vec::new();
    thread::scope(|scope| {
        scope.spawn(|| {
            writer.write_all(&sent).unwrap();
            writer.shutdown(Shutdown::Write).unwrap();
        });
        stream.read_to_end(&mut received).unwrap();
    });
    assert!(received == sent, "{} of {} bytes came back, or others", received.len(), sent.len());
}

#[test]
#[ignore = "needs a KVM that can run a kernel"]
fn a_reader_that_does_not_read_stalls_nobody_else() {
    let user = User::new();
    let enclave = Start::new(&image::demo(), "slow").run(&user);
    // The guest writes 64 MiB to a host program that reads none of it.
    let mut stalled = enclave.connect(PORT).unwrap();
    stalled.write_all(format!("source {}\n", 64 << 20).as_bytes()).unwrap();
    let mut first = [0];
    stalled.read_exact(&mut first).unwrap();
    // Meanwhile the other direction and other connections work.
    for round in 0..20 {
        let sent = pattern(10_000, round);
        let mut stream = echo_stream(&enclave);
        stream.write_all(&sent).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut received = Vec::new();
        stream.read_to_end(&mut received).unwrap();
        assert!(received == sent, "round {round}");
    }
    // And the stalled stream has lost nothing.
    let mut rest = vec![0; 1 << 20];
    let mut count = 1u64;
    loop {
        let read = stalled.read(&mut rest).unwrap();
        if read == 0 {
            break;
        }
        count += read as u64;
    }
    assert!(count >= 64 << 20, "{count}");
}

#[test]
#[ignore = "needs a KVM that can run a kernel"]
fn many_connections_at_once() {
    let user = User::new();
    let enclave = Start::new(&image::demo(), "many").with(&[]).run(&user);
    let mut streams: Vec<UnixStream> = (0..300).map(|_| echo_stream(&enclave)).collect();
    for (number, stream) in streams.iter_mut().enumerate() {
        writeln!(stream, "connection {number}").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
    }
    for (number, stream) in streams.iter_mut().enumerate() {
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        assert_eq!(text, format!("connection {number}\n"));
    }
}

/// Listens as a host program for the guest's connections to this port.

#[test]
#[ignore = "needs a KVM that can run a kernel"]
fn a_guest_reaches_the_host_at_both_of_its_addresses() {
    let user = User::new();
    let enclave = Start::new(&image::demo(), "outwards").run(&user);
    let listener = enclave.listen(7000);
    for cid in [2, 3] {
        let mut relayed = enclave.connect(PORT).unwrap();
        relayed.write_all(format!("connect {cid} 7000\n").as_bytes()).unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(b"from the host\n").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut text = String::new();
        relayed.shutdown(Shutdown::Write).unwrap();
        relayed.read_to_string(&mut text).unwrap();
        assert!(text.ends_with("from the host\n"), "CID {cid}: {text:?}");
    }
}

#[test]
#[ignore = "needs a KVM that can run a kernel"]
fn a_guest_that_reaches_nobody_is_refused() {
    let user = User::new();
    let enclave = Start::new(&image::demo(), "alone").run(&user);
    let neighbour = Start::new(&image::demo(), "beside").run(&user);
    let neighbour_listens = format!("{} {PORT}", neighbour.started["EnclaveCID"]);
    for target in ["2 7001", "3 7001", "1 9000", &neighbour_listens] {
        let refused = demo::ask(&enclave, &format!("connect {target}")).unwrap_err();
        assert!(refused.contains("cannot connect"), "{target}: {refused}");
    }
    // The same words reach somebody where the guest asks for itself.
    let own = format!("connect {} {PORT}", enclave.started["EnclaveCID"]);
    assert_eq!(demo::ask(&enclave, &own), Ok(String::new()));
    assert!(enclave.connect(4321).is_err(), "nobody listens on port 4321 in the guest");
    // The enclave is none the worse.
    assert!(demo::ask(&enclave, "clock").is_ok());
}

#[test]
#[ignore = "needs a KVM that can run a kernel"]
fn a_host_program_that_dies_in_the_middle_disturbs_nobody() {
    let user = User::new();
    let enclave = Start::new(&image::demo(), "dies").run(&user);
    for _ in 0..20 {
        let mut stream = enclave.connect(PORT).unwrap();
        stream.write_all(format!("source {}\n", 8 << 20).as_bytes()).unwrap();
        let mut some = [0; 1000];
        stream.read_exact(&mut some).unwrap();
        drop(stream);
        let mut stream = enclave.connect(PORT).unwrap();
        stream.write_all(format!("sink {}\nand then nothing", 8 << 20).as_bytes()).unwrap();
        drop(stream);
    }
    assert_eq!(demo::attest(&enclave, b"still here").first(), Some(&0x84));
}

#[test]
#[ignore = "needs a KVM that can run a kernel"]
fn a_guest_that_opens_thousands_of_connections_disturbs_nobody() {
    let user = User::new();
    let enclave = Start::new(&image::demo(), "flood").run(&user);
    let neighbour = Start::new(&image::demo(), "neighbour").run(&user);
    let listener = enclave.listen(7002);
    let accepting = thread::spawn(move || {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept() {
            held.push(stream);
            if held.len() >= 500 {
                break;
            }
        }
        held.len()
    });
    let flooded = demo::ask(&enclave, "flood 7002 2000");
    assert!(flooded.is_ok(), "{flooded:?}");
    assert_eq!(accepting.join().unwrap(), 500);
    assert!(demo::ask(&enclave, "clock").is_ok());
    assert!(demo::ask(&neighbour, "clock").is_ok());
}

#[test]
#[ignore = "needs a KVM that can run a kernel"]
fn the_connect_command_relays_both_ways() {
    let user = User::new();
    let enclave = Start::new(&image::demo(), "relay").run(&user);
    let mut child = user
        .command(&["connect", &enclave.name, "5005"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"echo\nover the command line").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "over the command line");
}
