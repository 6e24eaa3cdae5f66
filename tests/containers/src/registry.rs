//! Debian's docker-registry on a loopback port that the system chooses, with a store of its own that ends with it.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use tempfile::TempDir;

use crate::layout::Layout;
use crate::tool;

/// The one user of a registry with users.
pub const USER: &str = "someone";
/// That user's password. The colon is there because the first one ends a user's name.
pub const PASSWORD: &str = "pass:word";
/// What `htpasswd -nbB` makes of the two.
const HTPASSWD: &str = "someone:$2y$05$hD3MKXNokuOA8eWE/r3O0uCdH2rkQD6pRwEuzNoGAhLsIJ8omHZXy\n";

/// A running registry. It ends with this value.
#[derive(Debug)]
pub struct Registry {
    process: Child,
    /// Host and port.
    host: String,
    with_users: bool,
    _folder: TempDir,
}

/// What a registry asks of those who come.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options<'a> {
    /// A name and a password: [`USER`] and [`PASSWORD`].
    pub users: bool,
    /// Certificate and key for TLS, as PEM files.
    pub tls: Option<(&'a Path, &'a Path)>,
}

impl Registry {
    /// Starts a registry for everybody.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(Options::default())
    }

    /// Starts a registry.
    #[must_use]
    pub fn start_with(options: Options<'_>) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("config.yml");
        fs::write(&file, configuration(folder.path(), options)).expect("written");
        static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
        let program = PROGRAM.get_or_init(|| tool::debian_tree("registry").join("usr/bin/docker-registry"));
        let mut process = Command::new(program)
            .arg("serve")
            .arg(&file)
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        let mut lines = BufReader::new(process.stderr.take().expect("a pipe")).lines().map_while(Result::ok);
        let host = lines
            .by_ref()
            .find_map(|line| Some(line.split_once("listening on ")?.1.split([',', '"']).next()?.to_owned()))
            .expect("docker-registry says where it listens");
        // It must never wait for somebody to read what it says.
        std::thread::spawn(move || lines.for_each(drop));
        Self { process, host, with_users: options.users, _folder: folder }
    }

    /// Host and port: `127.0.0.1:40000`.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Puts an image into the registry and returns its reference.
    #[must_use]
    pub fn push(&self, layout: &Layout, name: &str) -> String {
        let reference = format!("{}/{name}", self.host);
        let credentials = format!("--dest-creds={USER}:{PASSWORD}");
        let mut options = vec!["--dest-tls-verify=false"];
        options.extend(self.with_users.then_some(credentials.as_str()));
        tool::skopeo_copy(&options, &layout.skopeo(), &format!("docker://{reference}"));
        reference
    }
}

fn configuration(folder: &Path, options: Options<'_>) -> String {
    let folder_text = folder.display();
    let mut text = format!(
        "version: 0.1\nlog: {{accesslog: {{disabled: true}}}}\nstorage: {{filesystem: {{rootdirectory: '{folder_text}/store'}}}}\n"
    );
    if options.users {
        fs::write(folder.join("htpasswd"), HTPASSWD).expect("written");
        writeln!(text, "auth: {{htpasswd: {{realm: test, path: '{folder_text}/htpasswd'}}}}").expect("text");
    }
    text.push_str("http:\n  addr: 127.0.0.1:0\n");
    if let Some((certificate, key)) = options.tls {
        writeln!(text, "  tls: {{certificate: '{}', key: '{}'}}", certificate.display(), key.display())
            .expect("text");
    }
    text
}

impl Drop for Registry {
    fn drop(&mut self) {
        // It keeps nothing that would have to be saved.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
