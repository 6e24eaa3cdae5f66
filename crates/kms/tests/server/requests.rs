//! What becomes of one request.

use std::io::Write;
use std::net::Shutdown;
use std::time::{Duration, SystemTime};

use kms::server::Limits;
use kms::server::limits::{MAX_BODY_LEN, MAX_HEAD_LEN, MAX_HEADERS};

use crate::support::{Client, ID, Message, SECRET, SHORT, World};

/// The error that a request is refused with, by a service that answers the next one on the same connection.
fn refused(message: &Message) -> String {
    let world = World::new(Limits::default());
    let mut client = world.connect();
    let answer = client.ask(message);
    assert_eq!(answer.status, 400, "{answer:?}");
    assert_eq!(client.ask(&Message::signed("Ping", b"{}")).body, "Ping 2 tcp");
    answer.error()
}

#[test]
fn a_signed_request_is_answered_with_a_request_id() {
    let world = World::new(Limits::default());
    let answer = world.connect().ask(&Message::signed("Ping", b"{}"));
    assert_eq!((answer.status, answer.body.as_str()), (200, "Ping 2 tcp"));
    assert_eq!(answer.header("content-type"), Some("application/x-amz-json-1.1"));
    assert_eq!(answer.header("x-amzn-requestid").unwrap().len(), 36);
}

#[test]
fn a_refusal_has_a_request_id_of_its_own() {
    let world = World::new(Limits::default());
    let mut client = world.connect();
    let unsigned = Message::signed("Ping", b"{}").without("authorization");
    let ids = [client.ask(&unsigned), client.ask(&unsigned)]
        .map(|answer| answer.header("x-amzn-requestid").unwrap().to_owned());
    assert!(ids[0].len() == 36 && ids[0] != ids[1], "{ids:?}");
}

#[test]
fn an_unsigned_request_is_refused_on_loopback_too() {
    let unsigned = Message::signed("Ping", b"{}").without("authorization");
    assert_eq!(refused(&unsigned), "MissingAuthenticationTokenException");
}

#[test]
fn an_unknown_access_key_is_refused() {
    let message = Message::signed_by("AKIABBBBBBBBBBBBBBBB", SECRET, SystemTime::now(), "Ping", b"{}");
    assert_eq!(refused(&message), "UnrecognizedClientException");
}

#[test]
fn another_secret_is_refused() {
    let message = Message::signed_by(ID, "not the secret", SystemTime::now(), "Ping", b"{}");
    assert_eq!(refused(&message), "InvalidSignatureException");
}

#[test]
fn a_request_of_six_minutes_ago_is_refused() {
    let then = SystemTime::now() - Duration::from_secs(360);
    assert_eq!(refused(&Message::signed_by(ID, SECRET, then, "Ping", b"{}")), "InvalidSignatureException");
}

#[test]
fn a_signed_request_with_another_body_is_refused() {
    let mut message = Message::signed("Ping", b"{}");
    message.body = b"[]".to_vec();
    assert_eq!(refused(&message), "InvalidSignatureException");
}

#[test]
fn a_signed_request_for_another_operation_is_refused() {
    let target = ("x-amz-target", "TrentService.Pong");
    let message = Message::signed("Ping", b"{}").without(target.0).with(target.0, target.1);
    assert_eq!(refused(&message), "InvalidSignatureException");
}

#[test]
fn a_field_twice_is_refused() {
    for (name, value) in [("authorization", "x"), ("x-amz-date", "x"), ("host", "other")] {
        assert_eq!(
            refused(&Message::signed("Ping", b"{}").with(name, value)),
            "IncompleteSignatureException",
            "{name}"
        );
    }
    let twice = Message::signed("Ping", b"{}").with("x-amz-target", "TrentService.Pong");
    assert_eq!(refused(&twice), "UnknownOperationException");
}

#[test]
fn what_is_not_a_post_to_the_root_is_refused() {
    for line in
        ["GET / HTTP/1.1", "PUT / HTTP/1.1", "POST /x HTTP/1.1", "POST /?a=b HTTP/1.1", "POST // HTTP/1.1"]
    {
        assert_eq!(
            refused(&Message::signed("Ping", b"{}").line(line)),
            "UnknownOperationException",
            "{line}"
        );
    }
}

#[test]
fn another_content_type_or_none_is_refused() {
    let name = "content-type";
    assert_eq!(refused(&Message::signed("Ping", b"{}").without(name)), "UnknownOperationException");
    for value in ["application/json", "application/x-amz-json-1.0", ""] {
        let message = Message::signed("Ping", b"{}").without(name).with(name, value);
        assert_eq!(refused(&message), "UnknownOperationException", "{value}");
    }
}

#[test]
fn a_target_that_is_none_is_refused() {
    let name = "x-amz-target";
    assert_eq!(refused(&Message::signed("Ping", b"{}").without(name)), "UnknownOperationException");
    for value in ["Ping", "TrentService.", "TrentService.a/b", "trentservice.Ping", "Kinesis.Ping"] {
        let message = Message::signed("Ping", b"{}").without(name).with(name, value);
        assert_eq!(refused(&message), "UnknownOperationException", "{value}");
    }
}

#[test]
fn a_body_may_be_as_long_as_the_limit_and_no_longer() {
    let world = World::new(Limits::default());
    let mut client = world.connect();
    let answer = client.ask(&Message::signed("Ping", &vec![b' '; MAX_BODY_LEN]));
    assert_eq!(answer.body, format!("Ping {MAX_BODY_LEN} tcp"));
    let answer = client.ask(&Message::signed("Ping", &vec![b' '; MAX_BODY_LEN + 1]));
    assert_eq!((answer.status, answer.error().as_str()), (413, "RequestEntityTooLargeException"));
    client.is_closed();
}

#[test]
fn a_body_that_is_announced_as_huge_is_refused_before_it_comes() {
    let world = World::new(Limits::default());
    let head = Message::signed("Ping", b"").head("content-length: 4294967296\r\n");
    let mut client = world.connect();
    let answer = client.send(&head).answer();
    assert_eq!(answer.status, 413, "{answer:?}");
    client.is_closed();
}

#[test]
fn a_body_in_chunks_is_a_body() {
    let world = World::new(Limits::default());
    let mut bytes = Message::signed("Ping", b"{\"a\":1}").head("transfer-encoding: chunked\r\n");
    bytes.extend_from_slice(b"3\r\n{\"a\r\n4\r\n\":1}\r\n0\r\n\r\n");
    assert_eq!(world.connect().send(&bytes).answer().body, "Ping 7 tcp");
}

#[test]
fn chunks_without_end_are_refused() {
    let world = World::new(Limits::default());
    let mut client = world.connect();
    client.send(&Message::signed("Ping", b"").head("transfer-encoding: chunked\r\n"));
    let mut chunk = b"10000\r\n".to_vec();
    chunk.resize(chunk.len() + 0x10000, b' ');
    chunk.extend_from_slice(b"\r\n");
    let mut other = Client(client.0.try_clone().unwrap());
    // Sends until the service closes the connection; the answer comes before.
    let sender = std::thread::spawn(move || while other.0.write_all(&chunk).is_ok() {});
    client.is_closed();
    sender.join().unwrap();
}

#[test]
fn chunks_that_are_none_are_refused() {
    let world = World::new(Limits::default());
    for broken in ["x\r\n", "-1\r\n", "ffffffffffffffffff\r\n", "2\r\nabc\r\n"] {
        let mut bytes = Message::signed("Ping", b"").head("transfer-encoding: chunked\r\n");
        bytes.extend_from_slice(broken.as_bytes());
        let answer = world.connect().send(&bytes).answer();
        assert_eq!(answer.error(), "SerializationException", "{broken:?}: {answer:?}");
    }
}

#[test]
fn a_length_that_is_a_lie_ends_the_connection() {
    let world = World::new(Limits::default());
    for lines in
        ["content-length: 2\r\ncontent-length: 3\r\n", "content-length: -1\r\n", "content-length: two\r\n"]
    {
        let mut bytes = Message::signed("Ping", b"{}").head(lines);
        bytes.extend_from_slice(b"{}");
        let mut client = world.connect();
        assert_eq!(client.send(&bytes).answer().status, 400, "{lines:?}");
        client.is_closed();
    }
}

#[test]
fn a_body_longer_than_its_length_is_not_the_next_request() {
    let world = World::new(Limits::default());
    let mut bytes = Message::signed("Ping", b"{}").bytes();
    bytes.extend_from_slice(b"garbage\r\n\r\n");
    let mut client = world.connect();
    assert_eq!(client.send(&bytes).answer().body, "Ping 2 tcp");
    assert_eq!(client.answer().status, 400);
    client.is_closed();
}

#[test]
fn a_body_that_ends_early_is_answered_by_nothing() {
    let world = World::new(Limits::default());
    let mut client = world.connect();
    client.send(&Message::signed("Ping", b"{}").head("content-length: 100\r\n")).send(b"{}");
    client.0.shutdown(Shutdown::Write).unwrap();
    if let Some(answer) = client.try_answer() {
        assert_eq!(answer.error(), "SerializationException", "{answer:?}");
    }
    assert_eq!(world.connect().ask(&Message::signed("Ping", b"{}")).status, 200);
}

#[test]
fn a_body_that_is_slow_is_given_up() {
    let world = World::new(Limits { body_time: SHORT, ..Limits::default() });
    let mut client = world.connect();
    client.send(&Message::signed("Ping", b"{}").head("content-length: 100\r\n")).send(b"{");
    let answer = client.answer();
    assert_eq!((answer.status, answer.error().as_str()), (408, "RequestTimeoutException"));
    client.is_closed();
}

#[test]
fn as_many_fields_as_the_limit_are_read_and_no_more() {
    let world = World::new(Limits::default());
    let mut message = Message::signed("Ping", b"{}");
    // Content-Length comes on top.
    while message.headers.len() < MAX_HEADERS - 1 {
        message = message.with("a", "b");
    }
    assert_eq!(world.connect().ask(&message).status, 200);
    let mut client = world.connect();
    assert_eq!(client.ask(&message.with("a", "b")).status, 431);
    client.is_closed();
}

#[test]
fn a_head_may_be_as_long_as_the_limit_and_no_longer() {
    let world = World::new(Limits::default());
    let padded = |extra: usize| {
        let message = Message::signed("Ping", b"{}");
        let rest = message.bytes().len() - message.body.len() + "a: \r\n".len();
        message.with("a", &"b".repeat(MAX_HEAD_LEN - rest + extra))
    };
    assert_eq!(world.connect().ask(&padded(0)).status, 200);
    let mut client = world.connect();
    assert_eq!(client.ask(&padded(1)).status, 431);
    client.is_closed();
}

#[test]
fn a_head_without_end_is_cut_off() {
    let world = World::new(Limits::default());
    let mut client = world.connect();
    let mut other = Client(client.0.try_clone().unwrap());
    let sender = std::thread::spawn(move || while other.0.write_all(&[b'a'; 4096]).is_ok() {});
    client.is_closed();
    sender.join().unwrap();
}

#[test]
fn what_is_not_http_ends_the_connection() {
    let world = World::new(Limits::default());
    for bytes in
        [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"[..], b"\0\0\0\0\r\n\r\n", b"HELLO\r\n\r\n"]
    {
        let mut client = world.connect();
        client.send(bytes).is_closed();
    }
    assert_eq!(world.connect().ask(&Message::signed("Ping", b"{}")).status, 200);
}

#[test]
fn requests_sent_together_are_answered_in_their_order() {
    let world = World::new(Limits::default());
    let mut bytes = Vec::new();
    for operation in ["One", "Two", "Three"] {
        bytes.extend(Message::signed(operation, b"{}").bytes());
    }
    let mut client = world.connect();
    client.send(&bytes);
    let bodies = [client.answer().body, client.answer().body, client.answer().body];
    assert_eq!(bodies, ["One 2 tcp", "Two 2 tcp", "Three 2 tcp"]);
}
