//! Secrets that only the right enclave can open: boto3 in an enclave, unchanged, through the helper and this project's key service.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use containers::tool;
use rustix::process::Signal;
use serde_json::{Value, json};
use tests::enclave::{Enclave, PATIENCE, Start};
use tests::image_file::ImageFile;
use tests::processes::signal;
use tests::product::{User, bin_dir};

/// The port of the application in the enclave.
const PORT: u32 = 5007;
/// What is to be kept from everybody else.
const SECRET: &str = "only the right enclave reads this";

/// What applications do with boto3, and nothing that has to do with enclaves but the way in. Without arguments it serves on vsock, with
/// one it asks once. It can be made to fetch a URL, as applications should not.
const APPLICATION: &str = r#"import json, socket, sys, urllib.error, urllib.request
import boto3, botocore.exceptions

def answer(question):
    try:
        if "Fetch" in question:
            return {"Status": urllib.request.urlopen(question["Fetch"]).status}
        kms = boto3.client("kms")
        opened = kms.decrypt(KeyId=question["KeyId"], CiphertextBlob=bytes.fromhex(question["Ciphertext"]))
        return {"Plaintext": opened["Plaintext"].decode(), "Members": sorted(opened)}
    except urllib.error.HTTPError as error:
        return {"Status": error.code}
    except botocore.exceptions.ClientError as error:
        return {"Error": error.response["Error"]["Code"], "Message": str(error)}

if len(sys.argv) > 1:
    print(json.dumps(answer(json.loads(sys.argv[1]))))
    sys.exit()
server = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
server.bind((socket.VMADDR_CID_ANY, 5007))
server.listen()
while True:
    client, _ = server.accept()
    client.sendall((json.dumps(answer(json.loads(client.makefile("rb").readline()))) + "\n").encode())
    client.close()
"#;

/// The administrator's part: a key whose policy names an image, and a secret under it.
const ADMINISTRATION: &str = r#"import boto3, json, sys
kms = boto3.client("kms")
key = kms.create_key(Policy=sys.argv[1])["KeyMetadata"]["KeyId"]
sealed = kms.encrypt(KeyId=key, Plaintext=sys.argv[2].encode())["CiphertextBlob"]
print(json.dumps({"KeyId": key, "Ciphertext": sealed.hex()}))
"#;

/// A request without and one with a signature over vsock, TLS within: what a virtual machine beside the host would send.
const OVER_VSOCK: &str = r#"import http.client, json, os, socket, ssl, sys
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

def ask(signed):
    request = AWSRequest("POST", "https://kms.example/", data=b"{}")
    request.headers["Content-Type"] = "application/x-amz-json-1.1"
    request.headers["X-Amz-Target"] = "TrentService.ListKeys"
    if signed:
        key = Credentials(os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"])
        SigV4Auth(key, "kms", os.environ["AWS_DEFAULT_REGION"]).add_auth(request)
    connected = socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    connected.connect((1, int(sys.argv[1])))
    connection = http.client.HTTPConnection("kms.example")
    authority = ssl.create_default_context(cafile=os.environ["AWS_CA_BUNDLE"])
    connection.sock = authority.wrap_socket(connected, server_hostname="kms.example")
    connection.request("POST", "/", b"{}", dict(request.headers))
    return json.loads(connection.getresponse().read())

print(json.dumps([ask(False), ask(True)]))
"#;

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A key service of a user, and an application's access key for it.
struct Keys<'u> {
    user: &'u User,
    made: Value,
    application: Value,
}

/// A command that runs until it is told to end, with what it tells in a file.
struct Running {
    process: Child,
    log: PathBuf,
    /// What it printed when it was ready.
    ready: Value,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Running {
    /// Starts a command, and comes back once it is ready.
    fn start(user: &User, words: &[&str], log: &str) -> Self {
        let log = user.path(log);
        let mut command = user.command(words);
        let mut process = command.stdout(Stdio::piped()).stderr(File::create(&log).unwrap()).spawn().unwrap();
        let stdout = BufReader::new(process.stdout.take().unwrap());
        let ready = serde_json::Deserializer::from_reader(stdout).into_iter().next();
        let ready = ready.and_then(Result::ok);
        let ready = ready.unwrap_or_else(|| panic!("{words:?}: {}", fs::read_to_string(&log).unwrap()));
        Self { process, log, ready }
    }

    /// Tells it to end.
    fn end(self) -> String {
        signal(self.process.id(), Signal::TERM);
        self.ended()
    }

    /// Waits until it has ended without an error, and returns what it told.
    fn ended(mut self) -> String {
        let (status, log) = (self.process.wait().unwrap(), fs::read_to_string(&self.log).unwrap());
        assert!(status.success(), "{status}: {log}");
        log
    }

    /// Where a service listens, with the port that the system chose.
    fn address(&self) -> &str {
        self.ready["Listeners"][0]["Address"].as_str().unwrap()
    }
}

impl<'u> Keys<'u> {
    /// At a port that the system chooses: scenarios run side by side.
    fn new(user: &'u User) -> Self {
        let words = ["kms", "init", "--listen", "127.0.0.1:0", "--san", "kms.example", "-o", "json"];
        let made = user.enclave(&words).success().json();
        let application =
            user.enclave(&["kms", "principal", "add", "application", "-o", "json"]).success().json();
        Self { user, made, application }
    }

    /// Serves, to this enclave too if one is named.
    fn serve(&self, enclave: Option<&str>) -> Running {
        let mut words = vec!["kms", "serve", "-o", "json"];
        words.extend(enclave.iter().flat_map(|name| ["--enclave", name]));
        Running::start(self.user, &words, &format!("kms-{}.log", enclave.unwrap_or("alone")))
    }

    /// Gives an enclave the application's access key.
    fn give(&self, enclave: &str) -> Running {
        let path = self.user.path("application.json");
        fs::write(&path, self.application.to_string()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let words = ["kms", "credentials", text(&path), "--enclave", enclave, "-o", "json"];
        Running::start(self.user, &words, &format!("credentials-{enclave}.log"))
    }

    /// Runs Python with boto3 on the host, as who holds this access key of a service that runs.
    fn outside(&self, served: &Running, key: &Value, script: &str, arguments: &[&str]) -> Value {
        let packages = tool::boto3_root().join("usr/lib/python3/dist-packages");
        let output = Command::new("/usr/bin/python3")
            .args(["-B", "-c", script])
            .args(arguments)
            .env_clear()
            .env("PYTHONPATH", packages)
            .env("AWS_ACCESS_KEY_ID", key["AccessKeyId"].as_str().unwrap())
            .env("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"].as_str().unwrap())
            .env("AWS_DEFAULT_REGION", self.made["Region"].as_str().unwrap())
            .env("AWS_ENDPOINT_URL_KMS", format!("https://{}", served.address()))
            .env("AWS_CA_BUNDLE", self.made["Authority"].as_str().unwrap())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Builds an image that asks this service.
    fn build(&self, name: &str, more: &[&str]) -> PathBuf {
        let output = self.user.path(name);
        let ca = self.made["Authority"].as_str().unwrap();
        let words = [
            "build",
            "--output",
            text(&output),
            "--kms-endpoint",
            "https://kms.example",
            "--kms-ca",
            ca,
            "--kms-region",
            self.made["Region"].as_str().unwrap(),
            "--kms-credentials-port",
            "8001",
        ];
        let _ = self.user.enclave(&[&words[..], more].concat()).success();
        output
    }
}

/// A root folder with Python, boto3 and the application.
fn root(user: &User) -> PathBuf {
    let root = user.path("root");
    let _ = tool::run(Command::new("cp").arg("-a").arg(tool::boto3_root()).arg(&root));
    fs::create_dir_all(root.join("srv")).unwrap();
    fs::write(root.join("srv/application.py"), APPLICATION).unwrap();
    root
}

/// The policy of a key that only one image may decrypt with.
fn policy(pcr0: &str) -> String {
    json!({
        "Version": "2012-10-17",
        "Statement": [
            { "Sid": "Administration", "Effect": "Allow", "Principal": { "AWS": "arn:aws:iam::000000000000:root" }, "Action": "kms:*", "Resource": "*" },
            {
                "Sid": "TheRightEnclave", "Effect": "Allow", "Principal": { "AWS": "arn:aws:iam::000000000000:user/application" },
                "Action": "kms:Decrypt", "Resource": "*",
                "Condition": { "StringEqualsIgnoreCase": { "kms:RecipientAttestation:ImageSha384": pcr0 } }
            },
        ],
    })
    .to_string()
}

/// Asks until the application listens: the helper waits for the key service before it starts it.
fn ask(enclave: &Enclave<'_>, question: &Value) -> Value {
    let deadline = Instant::now() + PATIENCE;
    let mut stream = loop {
        match enclave.connect(PORT) {
            Ok(stream) => break stream,
            Err(error) => assert!(Instant::now() < deadline, "nobody listens: {error}"),
        }
    };
    writeln!(stream, "{question}").unwrap();
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).unwrap();
    serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{error}: {answer:?}"))
}

/// Boots an image, has it ask, and returns its answer and the service's log.
fn asked_inside(
    keys: &Keys<'_>,
    image: &Path,
    name: &str,
    more: &[&str],
    question: &Value,
) -> (Value, String) {
    let mut start = Start::new(image, name).with(more);
    start.memory = 512;
    let enclave = start.launch(keys.user);
    let (given, served) = (keys.give(name), keys.serve(Some(name)));
    let answer = ask(&enclave, question);
    // Who can have the application fetch a URL does not get its credentials.
    let fetched = ask(&enclave, &json!({ "Fetch": "http://127.0.0.1:8421/credentials" }));
    assert_eq!(fetched, json!({ "Status": 401 }));
    let socket = enclave.run_dir().join("vsock.sock_8001");
    assert!(socket.exists());
    keeps_secrets_inside(&given);
    let _ = given.end();
    assert!(!socket.exists());
    let given = keys.give(name);
    let _ = enclave.terminate().success();
    let log = given.ended();
    assert!(log.contains("has ended") && !log.contains("gave no credentials"), "{log}");
    (answer, served.end())
}

/// Insists that a process leaves no core dump and gains no privilege.
fn keeps_secrets_inside(running: &Running) {
    let proc = |name: &str| fs::read_to_string(format!("/proc/{}/{name}", running.process.id())).unwrap();
    let limits = proc("limits");
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().collect::<Vec<_>>()[4..6], ["0", "0"]);
    assert!(proc("status").contains("NoNewPrivs:\t1"));
}

#[track_caller]
fn denied(answer: &Value, log: &str, expected: &str, presented: &str) {
    assert_eq!(answer["Error"], "AccessDeniedException", "{answer}\n{log}");
    for words in ["denied", "TheRightEnclave", "kms:RecipientAttestation:ImageSha384", expected, presented] {
        assert!(log.contains(words), "{words:?} is not in the log: {log}");
    }
}

#[test]
#[ignore = "needs a KVM that can run a kernel"]
fn boto3_opens_a_secret_in_the_right_enclave_and_nowhere_else() {
    let user = User::new();
    let (keys, root) = (Keys::new(&user), root(&user));
    let command = ["--rootfs", text(&root), "--", "/usr/bin/python3", "-B", "/srv/application.py"];
    let image = keys.build("right.eif", &command);
    let [pcr0, ..] = ImageFile::read(&image).pcrs();

    let served = keys.serve(None);
    let sealed =
        keys.outside(&served, &keys.made["Administrator"], ADMINISTRATION, &[&policy(&pcr0), SECRET]);
    let answer = keys.outside(&served, &keys.application, APPLICATION, &[&sealed.to_string()]);
    let log = served.end();
    assert_eq!(answer["Error"], "AccessDeniedException", "{answer}\n{log}");
    assert!(log.contains("denied") && log.contains(&pcr0), "{log}");

    let (answer, log) = asked_inside(&keys, &image, "right", &[], &sealed);
    assert_eq!(answer["Plaintext"], SECRET, "{answer}\n{log}");
    assert!(answer["Members"].as_array().unwrap().contains(&"KeyId".into()), "{answer}");

    let zeros = "0".repeat(96);
    let (answer, log) = asked_inside(&keys, &image, "debug", &["--debug"], &sealed);
    denied(&answer, &log, &pcr0, &zeros);

    fs::write(root.join("srv/application.py"), format!("{APPLICATION}# one line more\n")).unwrap();
    let modified = keys.build("modified.eif", &command);
    let [other, ..] = ImageFile::read(&modified).pcrs();
    assert_ne!(other, pcr0);
    let (answer, log) = asked_inside(&keys, &modified, "modified", &[], &sealed);
    denied(&answer, &log, &pcr0, &other);
}

/// A host whose kernel has vsock for virtual machines serves them on it. CID 1 is the host itself.
#[test]
#[ignore = "needs a KVM that can run a kernel"]
fn the_service_answers_on_the_vsock_of_the_host() {
    if !Path::new("/sys/module/vsock_loopback").exists() {
        println!("SKIPPED the_service_answers_on_the_vsock_of_the_host: needs the module vsock_loopback");
        return;
    }
    let user = User::new();
    let keys = Keys::new(&user);
    let configuration = Path::new(keys.made["Folder"].as_str().unwrap()).join("kms.toml");
    let port = free_vsock_port();
    let listeners =
        format!("{}\n[[listener]]\nvsock = {port}\n", fs::read_to_string(&configuration).unwrap());
    fs::write(&configuration, listeners).unwrap();
    let served = keys.serve(None);
    let answers = keys.outside(&served, &keys.made["Administrator"], OVER_VSOCK, &[&port]);
    assert_eq!(answers[0]["__type"], "MissingAuthenticationTokenException", "{answers}");
    assert_eq!(answers[1]["Keys"], json!([]), "{answers}");
    let log = served.end();
    assert!(log.contains("vsock"), "{log}");
}

#[test]
#[ignore = "needs a KVM that can run a kernel"]
fn awss_kmstool_is_denied_in_the_wrong_image_and_served_in_the_right_one() {
    let user = User::new();
    let keys = Keys::new(&user);
    let root = user.path("root");
    fs::create_dir_all(root.join("bin")).unwrap();
    fs::copy(bin_dir().join("kmstool-enclave-cli"), root.join("bin/kmstool")).unwrap();
    fs::set_permissions(root.join("bin/kmstool"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::copy(keys.made["Authority"].as_str().unwrap(), root.join("ca.pem")).unwrap();
    let zeros = "0".repeat(96);
    let nobody = "f".repeat(96);
    for (pcr0, status, says) in [(&zeros, 0, "PLAINTEXT: "), (&nobody, 1, "AccessDeniedException")] {
        let served = keys.serve(None);
        let sealed =
            keys.outside(&served, &keys.made["Administrator"], ADMINISTRATION, &[&policy(pcr0), SECRET]);
        let _ = served.end();
        // A debug run shows what the program prints; its documents hold zeros.
        let ciphertext = base64(&hex::decode(sealed["Ciphertext"].as_str().unwrap()).unwrap());
        let key = |member: &str| keys.application[member].as_str().unwrap();
        let output = user.path("kmstool.eif");
        let words = [
            "build",
            "--rootfs",
            text(&root),
            "--output",
            text(&output),
            "--env",
            "ENCLAVE_KMS_ENDPOINT=https://kms.example",
            "--env",
            "ENCLAVE_KMS_CA=/ca.pem",
            "--workdir",
            "/",
            "--",
            "/bin/kmstool",
            "decrypt",
            "--region",
            "local-1",
            "--aws-access-key-id",
            key("AccessKeyId"),
            "--aws-secret-access-key",
            key("SecretAccessKey"),
            "--aws-session-token",
            "",
            "--ciphertext",
            &ciphertext,
        ];
        let _ = user.enclave(&words).success();
        let name = format!("kmstool-{status}");
        // Created first, so that the service listens when the program asks.
        let _ = Start::new(&output, &name).with(&["--debug"]).attempt(&user, "create").success();
        let served = keys.serve(Some(&name));
        let _ = user.enclave(&["start", &name]);
        assert_eq!(user.enclave(&["wait", &name]).status, Some(status));
        let logs = user.enclave(&["logs", &name]).success().stdout;
        assert!(logs.contains(says), "{logs}");
        assert_eq!(logs.contains(&base64(SECRET.as_bytes())), status == 0, "{logs}");
        let _ = served.end();
        let _ = user.enclave(&["terminate", &name]).success();
    }
}

/// A vsock port of this host that nobody listens on.
fn free_vsock_port() -> String {
    let script = "import socket; s = socket.socket(socket.AF_VSOCK); s.bind((socket.VMADDR_CID_ANY, socket.VMADDR_PORT_ANY)); print(s.getsockname()[1])";
    let output = Command::new("/usr/bin/python3").args(["-c", script]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// By coreutils' base64.
fn base64(bytes: &[u8]) -> String {
    let mut program =
        Command::new("base64").arg("-w0").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    program.stdin.take().unwrap().write_all(bytes).unwrap();
    String::from_utf8(program.wait_with_output().unwrap().stdout).unwrap()
}
