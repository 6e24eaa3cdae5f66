//! What programs in the enclave may take of the local endpoint: how much, how many, how long.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc;
use std::time::Duration;

use kms_client::proxy::limits::{Limits, MAX_BODY, MAX_HEAD, MAX_HEADERS};

use crate::support::Local;
use crate::support::sdk::{answer, ask, connect, exchange, is_closed, message, signed};
use crate::support::service::Service;

/// For what a test waits to happen.
const SHORT: Duration = Duration::from_millis(200);

/// A signed request whose answer is its body.
fn request(local: &Local, body: &[u8]) -> Vec<u8> {
    message(&signed(local.address, "Encrypt", body), body.len(), body)
}

/// A JSON object of this length.
fn object(length: usize) -> String {
    format!("{{\"a\":\"{}\"}}", "b".repeat(length - 8))
}

#[track_caller]
fn is_served(stream: &mut TcpStream, local: &Local) {
    stream.write_all(&request(local, b"{}")).unwrap();
    assert_eq!(answer(stream).unwrap().status, 200);
}

#[test]
fn the_longest_body_is_passed_on_and_one_byte_more_refused() {
    let service = Service::echoing();
    let local = Local::new(&service);
    let answered = ask(local.address, "Encrypt", object(MAX_BODY));
    assert_eq!((answered.status, answered.body.len()), (200, MAX_BODY));
    assert_eq!(service.received().body.len(), MAX_BODY);
    let answered = ask(local.address, "Encrypt", object(MAX_BODY + 1));
    answered.refused(413, "RequestEntityTooLargeException", "more than 524288 bytes");
    service.received_nothing();
}

#[test]
fn a_body_in_chunks_has_the_same_limit() {
    let service = Service::echoing();
    let local = Local::new(&service);
    let chunked = |body: &str| {
        let mut headers = signed(local.address, "Encrypt", body.as_bytes());
        headers.push(("transfer-encoding".to_owned(), "chunked".to_owned()));
        let head = message(&headers, 0, b"");
        let head = String::from_utf8(head).unwrap().replace("content-length: 0\r\n", "");
        exchange(local.address, format!("{head}{:x}\r\n{body}\r\n0\r\n\r\n", body.len()).as_bytes())
    };
    assert_eq!(chunked(&object(MAX_BODY)).status, 200);
    assert_eq!(service.received().body.len(), MAX_BODY);
    chunked(&object(MAX_BODY + 1)).refused(413, "RequestEntityTooLargeException", "more than 524288 bytes");
    service.received_nothing();
}

#[test]
fn a_body_that_breaks_off_goes_nowhere() {
    let service = Service::echoing();
    let local = Local::new(&service);
    let headers = signed(local.address, "Encrypt", b"{}");
    for sent in [&b""[..], b"{}"] {
        let mut stream = connect(local.address);
        stream.write_all(&message(&headers, 3, sent)).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        // Who sends no more may be gone: there is an answer or none, but never the service's.
        if let Some(answer) = answer(&mut stream) {
            answer.refused(400, "SerializationException", "broke off");
        }
    }
    service.received_nothing();
}

#[test]
fn a_body_that_does_not_come_is_waited_for_no_longer_than_the_limit() {
    let service = Service::echoing();
    let local = Local::limited(&service, Limits { body_time: SHORT, ..Limits::default() });
    let headers = signed(local.address, "Encrypt", b"{}");
    let mut stream = connect(local.address);
    stream.write_all(&message(&headers, 3, b"{}")).unwrap();
    answer(&mut stream).unwrap().refused(408, "RequestTimeoutException", "in time");
    service.received_nothing();
}

#[test]
fn a_head_may_be_as_long_as_the_limit_and_no_longer() {
    let service = Service::echoing();
    let local = Local::new(&service);
    let padded = |extra: usize| {
        let mut headers = signed(local.address, "Encrypt", b"{}");
        let rest = message(&headers, 2, b"").len() + "a: \r\n".len();
        headers.push(("a".to_owned(), "b".repeat(MAX_HEAD - rest + extra)));
        exchange(local.address, &message(&headers, 2, b"{}")).status
    };
    assert_eq!(padded(0), 200);
    assert_eq!(padded(1), 431);
    let _ = service.received();
    service.received_nothing();
}

#[test]
fn as_many_fields_as_the_limit_are_read_and_no_more() {
    let service = Service::echoing();
    let local = Local::new(&service);
    let with = |fields: usize| {
        let mut headers = signed(local.address, "Encrypt", b"{}");
        // Content-Length comes on top.
        headers.resize(fields - 1, ("a".to_owned(), "b".to_owned()));
        exchange(local.address, &message(&headers, 2, b"{}")).status
    };
    assert_eq!(with(MAX_HEADERS), 200);
    assert_eq!(with(MAX_HEADERS + 1), 431);
    let _ = service.received();
    service.received_nothing();
}

#[test]
fn what_is_no_http_is_refused() {
    let service = Service::echoing();
    let local = Local::new(&service);
    assert_eq!(exchange(local.address, b"\x16\x03\x01 hello\r\n\r\n").status, 400);
    service.received_nothing();
}

#[test]
fn who_says_nothing_is_not_waited_for() {
    let service = Service::echoing();
    let local = Local::limited(&service, Limits { head_time: SHORT, ..Limits::default() });
    is_closed(&mut connect(local.address));
}

#[test]
fn who_stops_in_the_head_is_not_waited_for() {
    let service = Service::echoing();
    let local = Local::limited(&service, Limits { head_time: SHORT, ..Limits::default() });
    let mut stream = connect(local.address);
    stream.write_all(b"POST / HTTP/1.1\r\nhost: ").unwrap();
    is_closed(&mut stream);
}

#[test]
fn bytes_one_by_one_do_not_prolong_the_time_for_a_head() {
    let service = Service::echoing();
    let local = Local::limited(&service, Limits { head_time: SHORT, ..Limits::default() });
    let mut stream = connect(local.address);
    let mut other = stream.try_clone().unwrap();
    let dripping = std::thread::spawn(move || {
        // Slower than a head grows too long: waits for what never comes.
        let (_sender, never) = mpsc::channel::<()>();
        let drops = std::iter::from_fn(|| {
            let _ = never.recv_timeout(SHORT / 20);
            other.write_all(b"a").ok()
        });
        drops.count()
    });
    is_closed(&mut stream);
    assert!(dripping.join().unwrap() < 1000, "it was closed by another limit");
}

#[test]
fn who_is_silent_after_an_answer_is_not_waited_for() {
    let service = Service::echoing();
    let local = Local::limited(&service, Limits { head_time: SHORT, ..Limits::default() });
    let mut stream = connect(local.address);
    is_served(&mut stream, &local);
    is_closed(&mut stream);
}

#[test]
fn one_connection_more_than_allowed_waits_for_another_to_end() {
    let service = Service::echoing();
    let local = Local::limited(&service, Limits { connections: 2, ..Limits::default() });
    let mut held = [connect(local.address), connect(local.address)];
    for stream in &mut held {
        is_served(stream, &local);
    }
    let mut third = connect(local.address);
    third.write_all(&request(&local, b"{}")).unwrap();
    // Those that have their places are served while the third is not.
    for stream in &mut held {
        is_served(stream, &local);
    }
    third.set_nonblocking(true).unwrap();
    let nothing = third.read(&mut [0; 1]).unwrap_err();
    assert_eq!(nothing.kind(), std::io::ErrorKind::WouldBlock, "it is served although all places are taken");
    third.set_nonblocking(false).unwrap();
    drop(held);
    assert_eq!(answer(&mut third).unwrap().status, 200);
}

#[test]
fn who_takes_no_answer_loses_the_connection() {
    let service = Service::echoing();
    let local = Local::limited(&service, Limits { connections: 1, write_time: SHORT, ..Limits::default() });
    let mut greedy = connect(local.address);
    let body = object(MAX_BODY);
    let asking = request(&local, body.as_bytes());
    // Asks until the answers, none of which it reads, fill everything between: then nobody reads its requests either.
    let sending = std::thread::spawn(move || {
        while greedy.write_all(&asking).is_ok() {}
        greedy
    });
    // The only place is free again while the first still holds its end.
    is_served(&mut connect(local.address), &local);
    drop(sending.join().unwrap());
}
