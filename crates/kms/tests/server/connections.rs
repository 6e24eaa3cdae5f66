//! How long and how many connections may be, and how the service ends.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use kms::server::Limits;

use crate::support::{Client, LONG, Message, SHORT, World};

fn ping(client: &mut Client) -> String {
    client.ask(&Message::signed("Ping", b"{}")).body
}

/// Tries until a connection is served: places are given back when the service has noticed that a connection ended.
fn served_again(world: &World) {
    let end = Instant::now() + LONG;
    loop {
        assert!(Instant::now() < end, "no place became free");
        let mut client = world.connect();
        if client.send(&Message::signed("Ping", b"{}").bytes()).try_answer().is_some() {
            return;
        }
    }
}

#[test]
fn a_silent_connection_is_closed() {
    let world = World::new(Limits { head_time: SHORT, ..Limits::default() });
    world.connect().is_closed();
}

#[test]
fn a_head_that_is_slow_is_given_up() {
    let world = World::new(Limits { head_time: SHORT, ..Limits::default() });
    let mut client = world.connect();
    client.send(b"POST / HTTP/1.1\r\nhost: ").is_closed();
}

#[test]
fn bytes_one_by_one_do_not_prolong_the_time_for_a_head() {
    let world = World::new(Limits { head_time: SHORT, ..Limits::default() });
    let mut client = world.connect();
    let mut other = Client(client.0.try_clone().unwrap());
    let dripping = std::thread::spawn(move || {
        let pause = std::sync::mpsc::channel::<()>();
        let mut dripped = 0_u32;
        // Waits for what never comes: the drops must be slower than a buffer fills.
        while other.0.write_all(b"a").is_ok() {
            dripped += 1;
            let _ = pause.1.recv_timeout(SHORT / 20);
        }
        dripped
    });
    client.is_closed();
    // Closed by the clock, not by a buffer's end.
    assert!(dripping.join().unwrap() < 1000);
}

#[test]
fn an_idle_connection_is_closed_after_its_last_answer() {
    let world = World::new(Limits { head_time: SHORT, ..Limits::default() });
    let mut client = world.connect();
    assert_eq!(ping(&mut client), "Ping 2 tcp");
    client.is_closed();
}

#[test]
fn one_connection_more_than_the_limit_is_closed_at_once() {
    let world = World::new(Limits { connections: 2, ..Limits::default() });
    let mut held = [world.connect(), world.connect()];
    // An answer says that the connection has its place.
    for client in &mut held {
        assert_eq!(ping(client), "Ping 2 tcp");
    }
    world.connect().is_closed();
    assert_eq!(ping(&mut held[1]), "Ping 2 tcp");
    let [first, _second] = held;
    drop(first);
    served_again(&world);
}

#[test]
fn a_flood_of_one_listener_leaves_the_others_open() {
    let world = World::new(Limits { connections_per_listener: 1, ..Limits::default() });
    let mut held = world.connect();
    assert_eq!(ping(&mut held), "Ping 2 tcp");
    world.connect().is_closed();
    let mut other = UnixStream::connect(world.path("socket")).unwrap();
    other.set_read_timeout(Some(LONG)).unwrap();
    other.write_all(&Message::signed("Ping", b"{}").bytes()).unwrap();
    let mut answer = [0; 12];
    other.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
}

#[test]
fn a_request_that_finds_no_turn_is_told_to_come_again() {
    let world = World::new(Limits { requests: 1, turn_time: SHORT, ..Limits::default() });
    let mut first = world.connect();
    first.send(&Message::signed("Wait", b"{}").bytes());
    world.entered.recv_timeout(LONG).unwrap();
    let answer = world.connect().ask(&Message::signed("Ping", b"{}"));
    assert_eq!((answer.status, answer.error().as_str()), (400, "ThrottlingException"));
    world.leave.send(()).unwrap();
    assert_eq!(first.answer().body, "Wait 2 tcp");
    assert_eq!(ping(&mut world.connect()), "Ping 2 tcp");
}

#[test]
fn who_does_not_take_the_answer_loses_the_connection() {
    let world = World::new(Limits { connections: 1, write_time: SHORT, ..Limits::default() });
    let mut client = world.connect();
    client.send(&Message::signed("Huge", b"{}").bytes());
    // The only place is free again while the client still holds its end.
    served_again(&world);
    drop(client);
}

#[test]
fn a_client_that_goes_away_leaves_its_place() {
    let world = World::new(Limits { connections: 1, ..Limits::default() });
    let mut client = world.connect();
    client.send(&Message::signed("Wait", b"{}").bytes());
    world.entered.recv_timeout(LONG).unwrap();
    drop(client);
    world.leave.send(()).unwrap();
    served_again(&world);
}

#[test]
fn the_request_that_runs_is_answered_before_the_end() {
    let mut world = World::new(Limits::default());
    let mut running = world.connect();
    let mut idle = world.connect();
    assert_eq!(ping(&mut idle), "Ping 2 tcp");
    running.send(&Message::signed("Wait", b"{}").bytes());
    world.entered.recv_timeout(LONG).unwrap();
    let address = world.address(0);
    let server = world.server.take().unwrap();
    let end = std::thread::spawn(move || server.end());
    idle.is_closed();
    world.leave.send(()).unwrap();
    assert_eq!(running.answer().body, "Wait 2 tcp");
    running.is_closed();
    end.join().unwrap();
    assert!(std::net::TcpStream::connect(address).is_err());
    assert!(!world.path("socket").exists());
}

#[test]
fn the_end_does_not_wait_for_a_slow_client() {
    let mut world = World::new(Limits { shutdown_time: SHORT, ..Limits::default() });
    let mut client = world.connect();
    client.send(b"POST / HTTP/1.1\r\nhost: ");
    assert_eq!(ping(&mut world.connect()), "Ping 2 tcp");
    world.end();
    client.is_closed();
}
