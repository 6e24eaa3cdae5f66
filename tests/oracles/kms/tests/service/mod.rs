//! A key service that runs, and an enclave whose document it trusts.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::time::SystemTime;

use attestation::identity::{EnclaveId, InstanceId};
use attestation::pcr::{Measurements, Pcr};
use attestation::pki::RootAuthority;
use getrandom::SysRng;
use nsm_device::protocol::{Request, Response};
use nsm_device::{Identity, SecurityModule};
use serde_json::Value;
use tempfile::TempDir;

const HERE: &str = env!("CARGO_MANIFEST_DIR");

/// A service of its own, ended when dropped.
pub struct Service {
    folder: TempDir,
    listening: Listening,
    access_key: Value,
}

impl Service {
    /// `None`, and a word about it, where the product has not been built.
    pub fn start(test: &str) -> Option<Self> {
        let enclave = enclave(test)?;
        let folder = tempfile::tempdir().unwrap();
        let kms = folder.path().join("kms");
        make_document(folder.path());
        let made = run(Command::new(&enclave)
            .args(["kms", "init", "-o", "json", "--listen", "127.0.0.1:0", "--dir"])
            .arg(&kms));
        let made: Value = serde_json::from_slice(&made).unwrap();
        let config = kms.join("kms.toml");
        let text = fs::read_to_string(&config).unwrap();
        assert!(text.contains("roots = "), "{text}");
        let lines = text.lines().map(|line| if line.starts_with("roots = ") { ROOTS } else { line });
        fs::write(&config, lines.map(|line| format!("{line}\n")).collect::<String>()).unwrap();
        fs::copy(folder.path().join("root.pem"), kms.join("root.pem")).unwrap();

        let listening = Listening::start(&mut Command::new(&enclave), &kms);
        Some(Self { folder, listening, access_key: made["Administrator"].clone() })
    }

    /// Runs one of the programs beside this test. It fails if it ends with anything but 0.
    pub fn run(&self, python: &Path, program: &str) {
        let mut command = Command::new(python);
        command.arg(Path::new(HERE).join("tests").join(program));
        run(self.listening.for_client(&mut command, self.folder.path(), &self.access_key));
    }
}

/// The product's command; `None`, and a word about it, where it has not been built.
pub fn enclave(test: &str) -> Option<PathBuf> {
    let root = Path::new(HERE).join("../../..");
    let bin = std::env::var_os("ENCLAVE_BIN_DIR").map_or_else(|| root.join("target/release"), PathBuf::from);
    let enclave = bin.join("enclave");
    if !enclave.exists() {
        println!("SKIPPED {test}: needs {}; `make build` makes it", enclave.display());
        return None;
    }
    Some(enclave)
}

/// `enclave kms serve`, ended when dropped.
pub struct Listening {
    child: Child,
    endpoint: String,
}

impl Listening {
    /// Serves the folder `kms` by the command `enclave`, and waits until it listens.
    pub fn start(enclave: &mut Command, kms: &Path) -> Self {
        enclave.args(["kms", "serve", "-o", "json", "--dir"]).arg(kms);
        let mut child = enclave.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let mut answers =
            serde_json::Deserializer::from_reader(child.stdout.take().unwrap()).into_iter::<Value>();
        let ready = answers.next().expect("the service says where it listens").unwrap();
        let endpoint = format!("https://{}", ready["Listeners"][0]["Address"].as_str().unwrap());
        Self { child, endpoint }
    }

    /// Has a client ask this service, of which `folder/kms` is the folder, and nothing else that this machine is configured for.
    pub fn for_client<'a>(
        &self,
        client: &'a mut Command,
        folder: &Path,
        access_key: &Value,
    ) -> &'a mut Command {
        let text = |name: &str| access_key[name].as_str().unwrap();
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("AWS_")) {
            client.env_remove(name);
        }
        client
            .current_dir(folder)
            .env("HOME", folder)
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_ACCESS_KEY_ID", text("AccessKeyId"))
            .env("AWS_SECRET_ACCESS_KEY", text("SecretAccessKey"))
            .env("AWS_REGION", "local-1")
            .env("AWS_DEFAULT_REGION", "local-1")
            .env("AWS_ENDPOINT_URL_KMS", &self.endpoint)
            .env("AWS_CA_BUNDLE", folder.join("kms/ca.pem"))
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The service trusts the root of the enclave that [`make_document`] makes.
const ROOTS: &str = "roots = [\"root.pem\"]";

/// Leaves in `folder`: `root.pem`, `enclave.pem` (an RSA key) and `document.cose` (for that key).
fn make_document(folder: &Path) {
    let file = |name: &str| folder.join(name);
    let bits = "rsa_keygen_bits:2048";
    run(Command::new("openssl")
        .args(["genpkey", "-quiet", "-algorithm", "RSA", "-pkeyopt", bits, "-out"])
        .arg(file("enclave.pem")));
    let public_key = run(Command::new("openssl")
        .args(["pkey", "-pubout", "-outform", "DER", "-in"])
        .arg(file("enclave.pem")));
    let now = SystemTime::now();
    let instance: InstanceId = "i-1234567890abcdef0".parse().unwrap();
    let root = RootAuthority::generate(now, &mut SysRng).unwrap();
    let host = root.issue_host(&instance, now, &mut SysRng).unwrap();
    let enclave = EnclaveId::generate(instance, now, &mut SysRng).unwrap();
    let authority = host.issue_enclave(&enclave, now, &mut SysRng).unwrap();
    let mut module = SecurityModule::new(Identity { enclave, role: None, authority });
    let pcr = Pcr::from_bytes([0xa0; 48]);
    module.set_measurements(Some(&Measurements { pcr0: pcr, pcr1: pcr, pcr2: pcr, pcr8: None })).unwrap();
    let request = Request::Attestation { user_data: None, nonce: None, public_key: Some(public_key) };
    let Ok(Response::Attestation { document }) = Response::decode(&module.handle(&request.encode(), now))
    else {
        panic!("no document")
    };
    fs::write(file("document.cose"), document).unwrap();
    fs::write(file("root.pem"), root.chain()[0].to_pem().unwrap()).unwrap();
}

/// A program of the Python environment that the project pins.
pub fn python(name: &str) -> PathBuf {
    // Asked once: the first time of all, it is installed.
    static ENVIRONMENT: LazyLock<PathBuf> = LazyLock::new(|| {
        let tool = Path::new(HERE).join("../../../tools/python-oracles");
        PathBuf::from(String::from_utf8(run(Command::new(tool).arg("kms"))).unwrap().trim_end())
    });
    ENVIRONMENT.join("bin").join(name)
}

/// What is pinned.
pub fn requirements() -> String {
    fs::read_to_string(Path::new(HERE).join("requirements.txt")).unwrap()
}

/// Runs a program that must not fail; what it wrote.
pub fn run(command: &mut Command) -> Vec<u8> {
    let done = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&done.stdout);
    let complaint = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{command:?}\n{said}\n{complaint}");
    done.stdout
}
