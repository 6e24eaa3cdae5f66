//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Parser;
use kms_protocol::ports;

/// Starts an application in an enclave with a local endpoint of the key service.
#[derive(Debug, Parser)]
#[command(name = "enclave-kms-proxy", version)]
pub(crate) struct Arguments {
    /// The key service, such as https://kms.eu-central-1.amazonaws.com
    #[arg(long, value_name = "URL")]
    pub(crate) endpoint: String,

    /// The host's vsock port that leads to it
    #[arg(long, value_name = "PORT", default_value_t = ports::SERVICE)]
    pub(crate) port: u32,

    /// Root certificates for its TLS, in PEM [default: the image's CA bundle]
    #[arg(long, value_name = "FILE")]
    pub(crate) ca: Option<PathBuf>,

    /// The region that requests are signed for [default: what the SDK says]. Also AWS_REGION and AWS_DEFAULT_REGION of the application,
    /// unless they are set
    #[arg(long, value_name = "REGION")]
    pub(crate) region: Option<String>,

    /// The host's vsock port that gives credentials [default: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN are used]
    #[arg(long, value_name = "PORT")]
    pub(crate) credentials_port: Option<u32>,

    /// The port on 127.0.0.1 that SDKs are pointed to
    #[arg(long, value_name = "PORT", default_value_t = 8421)]
    pub(crate) listen_port: u16,

    /// Seconds to wait for listeners on the host
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub(crate) wait: u64,

    /// The application and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}
