//! boto3 and the AWS CLI use the key service as they use AWS's: every operation, `Recipient` included, and each error by its class.
//!
//! The service is the real one, `enclave kms serve` of `make build`, over TLS on a port of loopback that the system chooses. Documents
//! are our security module's, for an RSA key of openssl's. What the clients do is in the Python programs beside this file.

mod service;
mod token;

use std::process::Command;

use service::{Service, python, requirements, run};

#[test]
fn boto3_uses_every_operation_and_knows_every_error() {
    let Some(service) = Service::start("boto3_uses_every_operation_and_knows_every_error") else { return };
    service.run(&python("python"), "boto3_client.py");
}

#[test]
fn the_command_line_of_aws_uses_the_service() {
    let Some(service) = Service::start("the_command_line_of_aws_uses_the_service") else { return };
    service.run(&python("python"), "aws_cli.py");
}

#[test]
fn the_environment_is_the_one_that_is_pinned() {
    // The clients would otherwise be whatever this machine has.
    let asked = ["-c", "import boto3; print(boto3.__version__)"];
    let version = String::from_utf8(run(Command::new(python("python")).args(asked))).unwrap();
    let pinned = format!("boto3=={}", version.trim_end());
    assert!(requirements().lines().any(|line| line == pinned), "{pinned} is not what is pinned");
    assert!(python("aws").exists(), "the AWS CLI is not in the environment");
}
