//! `enclave-kms-proxy`: starts the application with a local endpoint of the key service, and ends as the application does.
//!
//! `enclave build --kms-endpoint` puts it into the image and before the application's command. It checks first that all is there
//! that a request will need: the security module, the host's port, the service behind it, credentials. Whatever is missing ends the
//! enclave with status 125 and a message on its console.

mod arguments;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use guest::nsm::Nsm;
use kms_client::application::{Application, FAILED};
use kms_client::client::Client;
use kms_client::console;
use kms_client::credentials::Source;
use kms_client::endpoint::{Endpoint, Roots};
use kms_client::proxy::token::Token;
use kms_client::proxy::{self, Proxy};
use kms_client::recipient::{Recipient, RecipientError};
use kms_client::route::Route;
use kms_protocol::sigv4::Credentials;

use self::arguments::Arguments;

/// Why the application is not started.
type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { FAILED } else { 0 });
        }
    };
    // One thread moves bytes; cryptography has threads of its own.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let ended = runtime.map_err(Failure::from).and_then(|runtime| {
        let ended = runtime.block_on(run(arguments));
        // A thread that still waits for the host holds nothing up.
        runtime.shutdown_background();
        ended
    });
    ended.unwrap_or_else(|error| {
        console::tell(error);
        ExitCode::from(FAILED)
    })
}

async fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let (client, from_host) = prepare(&arguments).await?;
    let listener = proxy::listen(arguments.listen_port).await.map_err(|error| {
        format!(
            "cannot listen on 127.0.0.1:{}: {error}; choose another port with --listen-port",
            arguments.listen_port
        )
    })?;
    let (address, token) = (listener.local_addr()?, Token::new()?);
    let mut application = Application::new(&arguments.command);
    application.set_endpoint(address);
    if from_host {
        application.set_credentials(address, &token);
    }
    if let Some(region) = &arguments.region {
        application.set_region(region);
    }
    let proxy = Proxy::new(client, arguments.region, token);
    tokio::spawn(Arc::new(proxy).serve(listener));
    Ok(application.run().await?.into())
}

/// Everything that a request will need, seen to be there. Also whether credentials are the host's.
async fn prepare(arguments: &Arguments) -> Result<(Client, bool), Failure> {
    let roots = arguments.ca.as_deref().map_or(Roots::Image, Roots::File);
    let endpoint = Endpoint::new(&arguments.endpoint, Route::host(arguments.port), roots)?;
    let credentials = credentials(arguments.credentials_port)?;
    let limit = Duration::from_secs(arguments.wait);
    let waiting = |port: u32| {
        move || console::tell(format_args!("waiting for a listener on the host's vsock port {port}"))
    };
    let nsm = Nsm::open()?;
    // The key is made while the host is waited for.
    let recipient = tokio::task::spawn_blocking(|| Recipient::new(nsm));
    endpoint.reach(limit, waiting(arguments.port)).await?;
    credentials.reach(limit, waiting(arguments.credentials_port.unwrap_or_default())).await?;
    let recipient: Result<Recipient, RecipientError> = recipient.await?;
    let from_host = matches!(credentials, Source::Host(_));
    Ok((Client::new(endpoint, Arc::new(recipient?), credentials), from_host))
}

/// What to sign with: exactly one of the two ways.
fn credentials(port: Option<u32>) -> Result<Source, Failure> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let known = (variable("AWS_ACCESS_KEY_ID"), variable("AWS_SECRET_ACCESS_KEY"));
    match (port, known) {
        (Some(port), (None, None)) => Ok(Source::host(Route::host(port))),
        (None, (Some(access_key_id), Some(secret))) => Ok(Source::Fixed(Credentials {
            access_key_id,
            secret_access_key: secret.into(),
            session_token: variable("AWS_SESSION_TOKEN"),
        })),
        (Some(_), _) => Err("AWS_ACCESS_KEY_ID or AWS_SECRET_ACCESS_KEY is set, and --credentials-port as well: SDKs would use the \
                             variables; leave out one of the two"
            .into()),
        (None, _) => Err("nothing to sign requests with; have the host give credentials with --credentials-port, or set \
                          AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
            .into()),
    }
}
