//! TLS, seen by an independent client: openssl.

use std::io::Write;
use std::process::{Command, Stdio};

use kms::server::Limits;

use crate::support::{Client, Message, SHORT, World};

/// What `openssl s_client` says on both streams when it sends a signed request, and whether it was content.
fn s_client(world: &World, arguments: &[&str]) -> (bool, String) {
    let address = world.address(1).to_string();
    s_client_to(world, &[&["-connect", &address], arguments].concat())
}

/// The same to where the arguments say.
pub(crate) fn s_client_to(world: &World, arguments: &[&str]) -> (bool, String) {
    let mut child = Command::new("openssl")
        .args(["s_client", "-quiet", "-verify_return_error", "-CAfile"])
        .arg(world.path("ca.pem"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let request = Message::signed("Ping", b"{}").with("connection", "close");
    // It may have refused the service by now.
    let _ = child.stdin.take().unwrap().write_all(&request.bytes());
    let output = child.wait_with_output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

#[test]
fn openssl_verifies_the_certificate_for_name_and_address_in_both_versions() {
    let world = World::new(Limits::default());
    for version in ["-tls1_2", "-tls1_3"] {
        for name in [["-verify_hostname", "localhost"], ["-verify_ip", "127.0.0.1"], ["-verify_ip", "::1"]] {
            let (fine, text) = s_client(&world, &[version, name[0], name[1]]);
            assert!(fine && text.contains("Ping 2 tcp"), "{version} {name:?}: {text}");
        }
    }
}

#[test]
fn openssl_refuses_the_certificate_for_another_name() {
    let (fine, text) = s_client(&World::new(Limits::default()), &["-verify_hostname", "kms.example.org"]);
    assert!(!fine && !text.contains("Ping 2 tcp"), "{text}");
}

#[test]
fn openssl_refuses_the_certificate_of_another_authority() {
    let (world, other) = (World::new(Limits::default()), World::new(Limits::default()));
    let other = other.path("ca.pem");
    let (fine, text) = s_client(&world, &["-CAfile", other.to_str().unwrap()]);
    assert!(!fine && !text.contains("Ping 2 tcp"), "{text}");
}

#[test]
fn versions_before_1_2_are_refused() {
    let (fine, text) =
        s_client(&World::new(Limits::default()), &["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"]);
    assert!(!fine && !text.contains("Ping 2 tcp"), "{text}");
}

#[test]
fn what_is_not_tls_ends_the_connection() {
    let world = World::new(Limits::default());
    for bytes in [
        &Message::signed("Ping", b"{}").bytes()[..],
        b"\0\0\0\0\0\0\0\0",
        b"\x16\x03\x01\xff\xff\xff\xff\xff\xff",
    ] {
        let mut client = Client::to(world.address(1));
        client.send(bytes);
        client.0.shutdown(std::net::Shutdown::Write).unwrap();
        client.is_closed();
    }
    let (fine, text) = s_client(&world, &[]);
    assert!(fine && text.contains("Ping 2 tcp"), "{text}");
}

#[test]
fn a_handshake_that_is_not_begun_is_given_up() {
    let world = World::new(Limits { handshake_time: SHORT, ..Limits::default() });
    Client::to(world.address(1)).is_closed();
}

#[test]
fn half_a_handshake_is_given_up() {
    let world = World::new(Limits { handshake_time: SHORT, ..Limits::default() });
    // A record of 512 bytes of which nothing comes.
    Client::to(world.address(1)).send(b"\x16\x03\x01\x02\x00").is_closed();
}
