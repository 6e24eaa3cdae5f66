//! How long an enclave takes to answer, asked again and again.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::demo;
use crate::diagnosis::diagnosis;
use crate::enclave::Enclave;

/// How long a neighbour takes to answer: a round trip on a connection that is there, and a request to its security module on a
/// connection of its own.
#[derive(Debug, Default)]
pub struct RoundTrips {
    /// Of 64 bytes, echoed.
    pub echo: Vec<Duration>,
    /// `DescribeNSM` by the guest's kernel's driver.
    pub security_module: Vec<Duration>,
}

impl RoundTrips {
    /// Both kinds.
    pub fn all(&self) -> impl Iterator<Item = Duration> {
        self.echo.iter().chain(&self.security_module).copied()
    }
}

/// Talks to a neighbour, a demo application, for some time. An answer that does not come within `patience` is a failure that says
/// all about the neighbour.
#[must_use]
pub fn visit(neighbour: &Enclave<'_>, duration: Duration, patience: Duration) -> RoundTrips {
    let mut found = RoundTrips::default();
    let end = Instant::now() + duration;
    let mut echo = neighbour.connect(demo::PORT).unwrap();
    echo.set_read_timeout(Some(patience)).unwrap();
    echo.write_all(b"echo\n").unwrap();
    let answers = |began: Instant, answered: std::io::Result<()>| {
        let took = began.elapsed();
        let well = answered.is_ok() && took < patience;
        assert!(well, "after {took:?}: {answered:?}\n{}", diagnosis(neighbour));
        took
    };
    while Instant::now() < end {
        let began = Instant::now();
        found.echo.push(answers(began, echo_once(&mut echo)));
        let began = Instant::now();
        found.security_module.push(answers(began, describe_nsm(neighbour, patience)));
    }
    found
}

fn echo_once(stream: &mut UnixStream) -> std::io::Result<()> {
    let mut bytes = [0x55; 64];
    stream.write_all(&bytes)?;
    stream.read_exact(&mut bytes)
}

fn describe_nsm(neighbour: &Enclave<'_>, patience: Duration) -> std::io::Result<()> {
    let mut stream = neighbour.connect(demo::PORT)?;
    stream.set_read_timeout(Some(patience))?;
    stream.write_all(b"describe\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    if answer.starts_with("ok ") { Ok(()) } else { Err(std::io::Error::other(answer)) }
}
