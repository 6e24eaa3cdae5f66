//! The master key under a key in a token: SoftHSM, asked by the service's own code through the program.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::SystemTime;

use kms::server::config::Config;
use kms::server::setup::{Wishes, make};
use kms::store::master_key::MasterKeySource;
use kms::store::{MasterKeyError, PinSource, Store, StoreError, Token, TokenError, rotate};
use kms_token::Failure;

/// Debian's package softhsm2.
const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
const PROGRAM: &str = env!("CARGO_BIN_EXE_enclave-kms-token");
const PIN: &str = "1234-user";

/// Tokens of one test: SoftHSM's folder and a private folder for the service.
struct Tokens {
    folder: tempfile::TempDir,
}

impl Tokens {
    fn new(labels: &[&str]) -> Self {
        let tokens = Self { folder: tempfile::tempdir().unwrap() };
        fs::create_dir(tokens.path("tokens")).unwrap();
        let settings =
            format!("directories.tokendir = {}\nlog.level = ERROR\n", tokens.path("tokens").display());
        fs::write(tokens.path("softhsm2.conf"), settings).unwrap();
        // SoftHSM finds its settings by the environment, which is this test program's for all tests at once.
        let script =
            format!("#!/bin/sh\nSOFTHSM2_CONF={} exec {PROGRAM}\n", tokens.path("softhsm2.conf").display());
        fs::write(tokens.path("program"), script).unwrap();
        fs::set_permissions(tokens.path("program"), fs::Permissions::from_mode(0o755)).unwrap();
        for label in labels {
            tokens.util(&["--init-token", "--free", "--label", label, "--so-pin", "so-pin", "--pin", PIN]);
        }
        tokens.private("pin", &format!("{PIN}\n"));
        tokens
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn private(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    fn util(&self, arguments: &[&str]) {
        let output = Command::new("softhsm2-util")
            .args(arguments)
            .env("SOFTHSM2_CONF", self.path("softhsm2.conf"))
            .output()
            .expect("softhsm2-util: tools/setup installs it");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn token(&self, label: &str) -> Token {
        Token {
            module: MODULE.into(),
            token: label.to_owned(),
            key: "kms".to_owned(),
            pin: PinSource::File(self.path("pin")),
            wrapped: self.path("master.key.wrapped"),
            program: Some(self.path("program")),
        }
    }
}

fn refusal(result: Result<kms::store::MasterKey, MasterKeyError>) -> Failure {
    match result {
        Err(MasterKeyError::Token(TokenError::Refused(failure))) => failure,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_database_opens_under_a_master_key_that_the_token_unwraps_and_rotates() {
    let tokens = Tokens::new(&["kms-token"]);
    let source = MasterKeySource::Token(tokens.token("kms-token"));
    let database = tokens.path("kms.db");
    let master = source.generate().unwrap();
    drop(Store::create(&database, &master).unwrap());
    let wrapped = fs::read(tokens.path("master.key.wrapped")).unwrap();
    assert_eq!(wrapped.len(), kms_token::WRAPPED_LEN);
    let mode = fs::metadata(tokens.path("master.key.wrapped")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    drop(Store::open_from(&database, &source).unwrap());
    rotate(&database, &source).unwrap();
    assert_ne!(fs::read(tokens.path("master.key.wrapped")).unwrap(), wrapped);
    assert_eq!(fs::read(tokens.path("master.key.wrapped.old")).unwrap(), wrapped);
    assert!(matches!(Store::open(&database, &master), Err(StoreError::WrongMasterKey)));
    drop(Store::open_from(&database, &source).unwrap());
}

#[test]
fn a_new_service_has_its_master_key_wrapped_by_the_token_and_nowhere_else() {
    let tokens = Tokens::new(&["kms-token"]);
    let folder = tokens.path("service");
    let token = Token { wrapped: "master.key.wrapped".into(), ..tokens.token("kms-token") };
    let wishes = Wishes {
        account: "123456789012".to_owned(),
        region: "local-1".to_owned(),
        listen: SocketAddr::from(([127, 0, 0, 1], 8443)),
        names: Vec::new(),
        master_key: MasterKeySource::Token(token),
    };
    make(&folder, &wishes, SystemTime::now()).unwrap();
    assert!(!folder.join("master.key").exists());
    assert_eq!(fs::metadata(folder.join("master.key.wrapped")).unwrap().permissions().mode() & 0o777, 0o600);
    let config = Config::load(&folder).unwrap();
    drop(Store::open_from(&config.database, &config.master_key).unwrap());

    let another = tokens.path("another");
    tokens.private("pin", "4321-user\n");
    make(&another, &wishes, SystemTime::now()).unwrap_err();
    assert!(!another.exists());
}

#[test]
fn the_key_that_is_made_in_the_token_can_be_used_by_a_second_service() {
    let tokens = Tokens::new(&["kms-token"]);
    let first = MasterKeySource::Token(tokens.token("kms-token"));
    first.generate().unwrap();
    let second =
        MasterKeySource::Token(Token { wrapped: tokens.path("second"), ..tokens.token("kms-token") });
    second.generate().unwrap();
    first.load().unwrap();
    second.load().unwrap();
}

#[test]
fn a_wrong_pin_is_told() {
    let tokens = Tokens::new(&["kms-token"]);
    let source = MasterKeySource::Token(tokens.token("kms-token"));
    source.generate().unwrap();
    tokens.private("pin", "4321-user\n");
    assert_eq!(refusal(source.load()), Failure::WrongPin);
}

#[test]
fn a_pin_that_others_can_read_or_that_is_none_is_refused() {
    let tokens = Tokens::new(&["kms-token"]);
    let source = MasterKeySource::Token(tokens.token("kms-token"));
    for nothing in ["", "\n", "12\n34\n"] {
        tokens.private("pin", nothing);
        assert!(matches!(source.load_pin(), Err(TokenError::BadPin)), "{nothing:?}");
    }
    tokens.private("pin", PIN);
    fs::set_permissions(tokens.path("pin"), fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(source.load_pin(), Err(TokenError::Pin(_))));
}

/// The error of making a key, as far as the token is concerned.
trait LoadPin {
    fn load_pin(&self) -> Result<(), TokenError>;
}

impl LoadPin for MasterKeySource {
    fn load_pin(&self) -> Result<(), TokenError> {
        match self.generate() {
            Ok(_) => Ok(()),
            Err(MasterKeyError::Token(error)) => Err(error),
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn a_missing_token_is_told() {
    let tokens = Tokens::new(&["kms-token"]);
    let source = MasterKeySource::Token(tokens.token("other"));
    assert_eq!(refusal(source.generate()), Failure::NoToken("other".to_owned()));
}

#[test]
fn two_tokens_of_one_label_are_refused() {
    let tokens = Tokens::new(&["kms-token", "kms-token"]);
    let source = MasterKeySource::Token(tokens.token("kms-token"));
    assert_eq!(refusal(source.generate()), Failure::ManyTokens("kms-token".to_owned()));
}

#[test]
fn a_missing_key_is_told_and_none_is_made_in_its_place() {
    let tokens = Tokens::new(&["kms-token"]);
    MasterKeySource::Token(tokens.token("kms-token")).generate().unwrap();
    let source = MasterKeySource::Token(Token { key: "lost".to_owned(), ..tokens.token("kms-token") });
    assert_eq!(refusal(source.load()), Failure::NoKey("lost".to_owned()));
    assert_eq!(refusal(source.load()), Failure::NoKey("lost".to_owned()));
}

#[test]
fn a_token_with_another_key_of_the_same_label_does_not_open_it() {
    let tokens = Tokens::new(&["kms-token", "other-token"]);
    let source = MasterKeySource::Token(tokens.token("kms-token"));
    source.generate().unwrap();
    let other = Token { wrapped: tokens.path("of-other"), ..tokens.token("other-token") };
    MasterKeySource::Token(other).generate().unwrap();
    let wrong = MasterKeySource::Token(tokens.token("other-token"));
    assert_eq!(refusal(wrong.load()), Failure::NotOurs);
    source.load().unwrap();
}

#[test]
fn a_wrapped_master_key_with_any_byte_changed_is_refused() {
    let tokens = Tokens::new(&["kms-token"]);
    let source = MasterKeySource::Token(tokens.token("kms-token"));
    source.generate().unwrap();
    let path = tokens.path("master.key.wrapped");
    let wrapped = fs::read(&path).unwrap();
    // One of each part: version, nonce, ciphertext, tag.
    for at in [0, 1, 13, wrapped.len() - 1] {
        let mut changed = wrapped.clone();
        changed[at] ^= 1;
        fs::write(&path, &changed).unwrap();
        assert_eq!(refusal(source.load()), Failure::NotOurs, "byte {at}");
    }
    for length in [0, 12, wrapped.len() - 1] {
        fs::write(&path, &wrapped[..length]).unwrap();
        assert_eq!(refusal(source.load()), Failure::NotOurs, "{length} bytes");
    }
}

#[test]
fn a_key_that_can_leave_the_token_is_refused() {
    let tokens = Tokens::new(&["kms-token"]);
    let status = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "make_a_key_that_can_leave"])
        .env("SOFTHSM2_CONF", tokens.path("softhsm2.conf"))
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    let source = MasterKeySource::Token(tokens.token("kms-token"));
    assert_eq!(refusal(source.generate()), Failure::KeyCanLeave("kms".to_owned()));
}

#[test]
#[ignore = "part of another test: makes a key in the token of its environment"]
fn make_a_key_that_can_leave() {
    use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
    use cryptoki::mechanism::Mechanism;
    use cryptoki::object::Attribute;
    let library = Pkcs11::new(MODULE).unwrap();
    library.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)).unwrap();
    let slot = library.get_slots_with_initialized_token().unwrap()[0];
    let session = library.open_rw_session(slot).unwrap();
    let pin = cryptoki::types::AuthPin::from(PIN.to_owned());
    session.login(cryptoki::session::UserType::User, Some(&pin)).unwrap();
    let template = [
        Attribute::Label(b"kms".to_vec()),
        Attribute::ValueLen(32.into()),
        Attribute::Token(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(true),
        Attribute::Encrypt(true),
        Attribute::Decrypt(true),
    ];
    session.generate_key(&Mechanism::AesKeyGen, &template).unwrap();
}

#[test]
fn a_module_that_is_not_there_or_is_no_token_library_is_told() {
    let tokens = Tokens::new(&["kms-token"]);
    for module in ["/nonexistent/module.so", "libsofthsm2.so", "/bin/sh"] {
        let token = Token { module: module.into(), ..tokens.token("kms-token") };
        let failure = refusal(MasterKeySource::Token(token).generate());
        assert!(matches!(failure, Failure::Module(_)), "{module}: {failure:?}");
    }
}

#[test]
fn a_program_that_is_not_there_says_nothing_or_too_much_is_told() {
    let tokens = Tokens::new(&["kms-token"]);
    let with = |program: &Path| {
        MasterKeySource::Token(Token { program: Some(program.to_owned()), ..tokens.token("kms-token") })
    };
    assert!(matches!(with(&tokens.path("missing")).load_pin(), Err(TokenError::Start { .. })));
    assert!(matches!(with(Path::new("/bin/true")).load_pin(), Err(TokenError::NoAnswer(_))));
    assert!(matches!(with(Path::new("/usr/bin/yes")).load_pin(), Err(TokenError::NoAnswer(_))));
}

#[test]
fn the_program_refuses_questions_that_are_none_or_too_long() {
    for (question, name) in [
        (String::new(), "empty"),
        ("{}".to_owned(), "no members"),
        (" ".repeat(kms_token::MAX_MESSAGE_LEN + 1), "too long"),
        (
            r#"{"module":"/","token":"t","key":"k","pin":"p","task":{"wrap":"00"},"more":1}"#.to_owned(),
            "an unknown member",
        ),
    ] {
        let mut child = Command::new(PROGRAM).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        // It may have stopped reading.
        let _ = std::io::Write::write_all(&mut child.stdin.take().unwrap(), question.as_bytes());
        let output = child.wait_with_output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), r#"{"failed":"question"}"#, "{name}");
    }
}
