//! The service as it runs: `enclave kms serve`, a process with a listener for HTTPS.

use std::fs;
use std::io::BufReader;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use kms_protocol::sigv4::Credentials;
use serde_json::Value;
use tests::product::User;
use zeroize::Zeroizing;

use super::enclave::Enclave;
use crate::processor;

/// A service that trusts an enclave's root; ended when dropped.
pub(super) struct Served {
    process: Child,
    pub(super) address: SocketAddr,
    /// Its administrator's.
    pub(super) credentials: Credentials,
    /// The certificate that its clients trust, in PEM.
    pub(super) authority: PathBuf,
}

impl Served {
    pub(super) fn new(user: &User, enclave: &Enclave) -> Self {
        let words = ["kms", "init", "--listen", "127.0.0.1:0", "-o", "json"];
        let made = user.enclave(&words).success().json();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let key = &made["Administrator"];
        let credentials = Credentials {
            access_key_id: text(&key["AccessKeyId"]),
            secret_access_key: Zeroizing::new(text(&key["SecretAccessKey"])),
            session_token: None,
        };
        trust(Path::new(&text(&made["Folder"])), enclave);
        let log = fs::File::create(user.path("kms.log")).unwrap();
        let mut command = user.command(&["kms", "serve", "-o", "json"]);
        let mut process = command.stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let told = BufReader::new(process.stdout.take().unwrap());
        let ready: Value = serde_json::Deserializer::from_reader(told).into_iter().next().unwrap().unwrap();
        let address = text(&ready["Listeners"][0]["Address"]).parse().unwrap();
        Self { process, address, credentials, authority: text(&made["Authority"]).into() }
    }

    /// Processor time of all its threads so far. While requests come none of them ends: the runtime keeps idle threads for 10 seconds.
    pub(super) fn spent(&self) -> Duration {
        processor::of_process(self.process.id())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Has the service in `folder` take documents of this enclave, not of this host's.
fn trust(folder: &Path, enclave: &Enclave) {
    fs::write(folder.join("enclave-root.pem"), enclave.root.to_pem().unwrap()).unwrap();
    let file = folder.join("kms.toml");
    let configuration = fs::read_to_string(&file).unwrap();
    let changed = configuration.replace(r#"roots = ["own"]"#, r#"roots = ["enclave-root.pem"]"#);
    assert_ne!(configuration, changed, "kms.toml names its roots otherwise");
    fs::write(file, changed).unwrap();
}
