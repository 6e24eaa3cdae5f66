//! `kmstool-enclave-cli`: the options and the output of AWS's program of this name, which opens secrets in an enclave.
//!
//! Specification: aws-nitro-enclaves-sdk-c, bin/kmstool-enclave-cli/README.md. `--endpoint` and `--ca` are this project's.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use base64ct::{Base64, Encoding};
use clap::{Args, Parser, Subcommand};
use guest::nsm::Nsm;
use kms_client::client::Client;
use kms_client::credentials::Source;
use kms_client::endpoint::{Endpoint, Roots};
use kms_client::operation::SecretOperation;
use kms_client::recipient::Recipient;
use kms_client::route::Route;
use kms_protocol::ports;
use kms_protocol::sigv4::Credentials;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

/// In place of `--endpoint`.
const ENDPOINT_VARIABLE: &str = "ENCLAVE_KMS_ENDPOINT";
/// In place of `--ca`.
const CA_VARIABLE: &str = "ENCLAVE_KMS_CA";

/// Has the key service open or make secrets for this enclave.
#[derive(Debug, Parser)]
#[command(name = "kmstool-enclave-cli", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Decrypt a ciphertext
    Decrypt(Decrypt),
    /// Make a data key
    Genkey(Genkey),
    /// Make random bytes
    Genrandom(Genrandom),
}

#[derive(Debug, Args)]
struct Decrypt {
    /// The ciphertext in base64
    #[arg(long, value_name = "BASE64")]
    ciphertext: String,
    /// The key; symmetric ciphertexts name it themselves
    #[arg(long)]
    key_id: Option<String>,
    /// How it was encrypted: SYMMETRIC_DEFAULT, RSAES_OAEP_SHA_1 or RSAES_OAEP_SHA_256
    #[arg(long, requires = "key_id")]
    encryption_algorithm: Option<String>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct Genkey {
    /// The key that the data key is encrypted under
    #[arg(long)]
    key_id: String,
    /// What kind of data key
    #[arg(long, value_parser = ["AES-256", "AES-128"])]
    key_spec: String,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct Genrandom {
    /// How many bytes
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024))]
    length: u32,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct Common {
    /// The region of the key service
    #[arg(long, default_value = "us-east-1")]
    region: String,
    /// The host's vsock port that leads to it
    #[arg(long, default_value_t = ports::SERVICE)]
    proxy_port: u32,
    /// The access key's id
    #[arg(long)]
    aws_access_key_id: String,
    /// The secret access key
    #[arg(long)]
    aws_secret_access_key: String,
    /// The session token
    #[arg(long)]
    aws_session_token: String,
    /// The key service [default: $ENCLAVE_KMS_ENDPOINT, else https://kms.REGION.amazonaws.com]
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    /// Root certificates for its TLS, in PEM [default: $ENCLAVE_KMS_CA, else the image's CA bundle]
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
}

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let Arguments { command } = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.map_err(Failure::from).and_then(|runtime| runtime.block_on(run(command))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Told or not, the status says it too; `eprintln!` would abort.
            let _ = writeln!(io::stderr(), "kmstool-enclave-cli: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Command) -> Result<(), Failure> {
    let (common, operation, request) = request(command);
    let region = common.region.clone();
    let client = client(common)?;
    let Value::Object(request) = request else { return Err("no request".into()) };
    let request: Map<String, Value> = request.into_iter().filter(|(_, value)| !value.is_null()).collect();
    let opened = client.secret(&region, operation, request).await?;
    let mut stdout = io::stdout();
    if operation == SecretOperation::GenerateDataKey {
        let ciphertext = opened.members.get("CiphertextBlob").and_then(Value::as_str);
        writeln!(stdout, "CIPHERTEXT: {}", ciphertext.ok_or("the answer has no CiphertextBlob")?)?;
    }
    let plaintext = Zeroizing::new(Base64::encode_string(&opened.secret));
    writeln!(stdout, "PLAINTEXT: {}", *plaintext)?;
    Ok(())
}

/// What to ask; members that are null are none.
fn request(command: Command) -> (Common, SecretOperation, Value) {
    match command {
        Command::Decrypt(Decrypt { ciphertext, key_id, encryption_algorithm, common }) => (
            common,
            SecretOperation::Decrypt,
            json!({ "CiphertextBlob": ciphertext, "KeyId": key_id, "EncryptionAlgorithm": encryption_algorithm }),
        ),
        Command::Genkey(Genkey { key_id, key_spec, common }) => (
            common,
            SecretOperation::GenerateDataKey,
            json!({ "KeyId": key_id, "KeySpec": key_spec.replace('-', "_") }),
        ),
        Command::Genrandom(Genrandom { length, common }) => {
            (common, SecretOperation::GenerateRandom, json!({ "NumberOfBytes": length }))
        }
    }
}

fn client(common: Common) -> Result<Client, Failure> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let url = common.endpoint.or_else(|| variable(ENDPOINT_VARIABLE));
    let url = url.unwrap_or_else(|| format!("https://kms.{}.amazonaws.com", common.region));
    let ca = common.ca.or_else(|| variable(CA_VARIABLE).map(PathBuf::from));
    let roots = ca.as_deref().map_or(Roots::Image, Roots::File);
    let endpoint = Endpoint::new(&url, Route::host(common.proxy_port), roots)?;
    let recipient = Recipient::new(Nsm::open()?)?;
    let credentials = Credentials {
        access_key_id: common.aws_access_key_id,
        secret_access_key: common.aws_secret_access_key.into(),
        session_token: Some(common.aws_session_token).filter(|token| !token.is_empty()),
    };
    Ok(Client::new(endpoint, Arc::new(recipient), Source::Fixed(credentials)))
}
