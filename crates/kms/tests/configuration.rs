//! `kms.toml`: what is refused, and that the message names the file, the key and what to do.

// Helpers fail the test that calls them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use kms::server::config::{Config, Root, add_principal};
use kms::server::setup::{Wishes, make};
use kms::server::{Endpoint, Limits};
use kms::store::MasterKeySource;
use tempfile::TempDir;

/// A service that was just made.
struct Made {
    temporary: TempDir,
}

fn wishes() -> Wishes {
    Wishes {
        account: "123456789012".to_owned(),
        region: "local-1".to_owned(),
        listen: SocketAddr::from(([127, 0, 0, 1], 8443)),
        names: vec!["kms.example.org".to_owned()],
        master_key: MasterKeySource::File("master.key".into()),
    }
}

impl Made {
    fn new() -> Self {
        let made = Self { temporary: tempfile::tempdir().unwrap() };
        make(&made.folder(), &wishes(), SystemTime::now()).unwrap();
        made
    }

    fn folder(&self) -> PathBuf {
        self.temporary.path().join("kms")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    /// Replaces a part of the configuration that is there.
    fn change(&self, from: &str, to: &str) -> &Self {
        let text = std::fs::read_to_string(self.path("kms.toml")).unwrap();
        assert!(text.contains(from), "{text}");
        std::fs::write(self.path("kms.toml"), text.replacen(from, to, 1)).unwrap();
        self
    }

    fn append(&self, lines: &str) -> &Self {
        let text = std::fs::read_to_string(self.path("kms.toml")).unwrap();
        std::fs::write(self.path("kms.toml"), format!("{text}\n{lines}\n")).unwrap();
        self
    }

    fn mode(&self, name: &str, mode: u32) -> &Self {
        std::fs::set_permissions(self.path(name), std::fs::Permissions::from_mode(mode)).unwrap();
        self
    }

    fn load(&self) -> Config {
        Config::load(&self.folder()).unwrap()
    }

    /// The error says all of this, and what to do about it.
    #[track_caller]
    fn refused(&self, words: &[&str]) {
        let error = Config::load(&self.folder()).unwrap_err().to_string();
        assert!(error.contains("; "), "no advice: {error}");
        for word in words {
            assert!(error.contains(word), "{word:?} is missing: {error}");
        }
    }
}

#[test]
fn a_new_service_is_for_its_user_alone() {
    let made = Made::new();
    let mode = |name: &str| std::fs::metadata(made.path(name)).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode("."), 0o700);
    assert_eq!(mode("principals"), 0o700);
    for name in
        ["kms.toml", "master.key", "keys.db", "ca.key", "server.key", "principals/administrator.secret"]
    {
        assert_eq!(mode(name), 0o600, "{name}");
    }
}

#[test]
fn a_new_service_says_what_was_wished() {
    let config = Made::new().load();
    assert_eq!((config.region.as_str(), config.account.as_str()), ("local-1", "123456789012"));
    assert_eq!(config.roots, [Root::Own]);
    assert_eq!(config.max_document_age, Duration::from_secs(300));
    assert_eq!(config.limits, Limits::default());
    assert_eq!(config.principals.count(), 1);
    assert!(matches!(config.endpoints[..], [Endpoint::Https(address)] if address.port() == 8443));
}

#[test]
fn a_service_is_not_made_over_another() {
    let made = Made::new();
    let before = std::fs::read(made.path("master.key")).unwrap();
    let error = make(&made.folder(), &wishes(), SystemTime::now()).unwrap_err();
    assert!(error.to_string().contains("there already; "), "{error}");
    assert_eq!(std::fs::read(made.path("master.key")).unwrap(), before);
}

#[test]
fn what_an_interrupted_init_or_somebody_else_left_beside_it_is_neither_an_obstacle_nor_touched() {
    let temporary = tempfile::tempdir().unwrap();
    let beside = ["kms.new", ".kms-AAAAAA.new"].map(|name| temporary.path().join(name).join("file"));
    for file in &beside {
        std::fs::create_dir(file.parent().unwrap()).unwrap();
        std::fs::write(file, "mine").unwrap();
    }
    make(&temporary.path().join("kms"), &wishes(), SystemTime::now()).unwrap();
    for file in &beside {
        assert_eq!(std::fs::read_to_string(file).unwrap(), "mine");
    }
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 3);
}

#[test]
fn of_services_that_are_made_in_one_place_at_once_one_is_and_it_is_whole() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path().join("kms");
    let made: Vec<_> = std::thread::scope(|scope| {
        let all: Vec<_> =
            (0..4).map(|_| scope.spawn(|| make(&folder, &wishes(), SystemTime::now()))).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let administrators: Vec<_> = made.iter().flatten().collect();
    assert_eq!(administrators.len(), 1, "{made:?}");
    for error in made.iter().filter_map(|made| made.as_ref().err()) {
        assert!(error.to_string().contains("is there already"), "{error}");
    }
    let secret = std::fs::read_to_string(folder.join("principals/administrator.secret")).unwrap();
    assert_eq!(secret.trim_end(), *administrators[0].secret);
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 1);
}

#[test]
fn a_wish_that_cannot_be_fulfilled_leaves_nothing() {
    let temporary = tempfile::tempdir().unwrap();
    let folder = temporary.path().join("kms");
    for wrong in [
        Wishes { account: "1".to_owned(), ..wishes() },
        Wishes { region: "Local 1".to_owned(), ..wishes() },
        Wishes { region: "\"\naccount = \"".to_owned(), ..wishes() },
        Wishes { names: vec!["not a name".to_owned()], ..wishes() },
        Wishes { master_key: MasterKeySource::Credential("no-such-credential".to_owned()), ..wishes() },
    ] {
        make(&folder, &wrong, SystemTime::now()).unwrap_err();
        assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0, "{wrong:?}");
    }
}

#[test]
fn a_key_that_is_not_known_is_refused() {
    for lines in
        ["[limits]\nconections = 1", "[[listener]]\nhtps = \"127.0.0.1:1\"", "[[principal]]\nname = \"a\""]
    {
        let made = Made::new();
        made.append(lines).refused(&["kms.toml", "unknown field", "mend the file"]);
    }
    let made = Made::new();
    made.change("region = ", "regoin = ").refused(&["kms.toml", "regoin"]);
}

#[test]
fn a_file_that_others_can_read_is_refused() {
    for name in ["kms.toml", "principals/administrator.secret", "principals/administrator.json"] {
        let made = Made::new();
        made.mode(name, 0o640).refused(&[name, "0600"]);
    }
}

#[test]
fn a_symbolic_link_in_a_secrets_place_is_refused() {
    let made = Made::new();
    let secret = made.path("principals/administrator.secret");
    std::fs::rename(&secret, made.path("elsewhere")).unwrap();
    symlink(made.path("elsewhere"), &secret).unwrap();
    made.refused(&["administrator.secret", "symbolic link"]);
}

#[test]
fn a_secret_that_can_be_guessed_is_refused() {
    let made = Made::new();
    std::fs::write(made.path("principals/administrator.secret"), "x".repeat(19)).unwrap();
    made.refused(&["kms.toml", "administrator: secret", "fewer than 20"]);
    std::fs::write(made.path("principals/administrator.secret"), "x".repeat(20)).unwrap();
    made.load();
}

#[test]
fn a_secret_is_one_word() {
    for text in ["", "\n", "two words of many characters", "\u{fc}ber all the bytes of ascii"] {
        let made = Made::new();
        std::fs::write(made.path("principals/administrator.secret"), text).unwrap();
        made.refused(&["administrator.secret", "one word"]);
    }
}

#[test]
fn a_policy_that_is_none_is_refused() {
    let made = Made::new();
    std::fs::write(made.path("principals/administrator.json"), "{}").unwrap();
    made.refused(&["administrator: identity_policy", "administrator.json"]);
}

#[test]
fn regions_and_accounts_are_checked() {
    for region in ["", "Local", "a b", &"a".repeat(65)] {
        let made = Made::new();
        made.change("region = \"local-1\"", &format!("region = \"{region}\"")).refused(&["kms.toml: region"]);
    }
    for account in ["", "12345678901", "1234567890123", "12345678901a"] {
        let made = Made::new();
        made.change("\"123456789012\"", &format!("\"{account}\""))
            .refused(&["kms.toml: account", "12 digits"]);
    }
}

#[test]
fn roots_are_named_one_by_one() {
    let made = Made::new();
    made.change("[\"own\"]", "[]").refused(&["kms.toml: roots"]);
    made.change("roots = []", "roots = [\"aws\"]").refused(&["kms.toml: roots", "path of root.pem"]);
    made.change("\"aws\"", "\"own\", \"/roots/aws.pem\", \"other.pem\"");
    let files = ["/roots/aws.pem".into(), made.path("other.pem")].map(Root::File);
    assert_eq!(made.load().roots, [vec![Root::Own], files.to_vec()].concat());
}

#[test]
fn a_document_may_be_three_hours_old_and_no_older() {
    for (seconds, fine) in [("0", false), ("1", true), ("10800", true), ("10801", false)] {
        let made = Made::new();
        made.change("seconds = 300", &format!("seconds = {seconds}"));
        if fine {
            made.load();
        } else {
            made.refused(&["max_document_age_seconds", "10800"]);
        }
    }
}

#[test]
fn http_without_tls_is_for_loopback_alone() {
    for address in ["0.0.0.0:8080", "192.0.2.1:8080", "[::]:8080", "[2001:db8::1]:8080"] {
        let made = Made::new();
        made.append(&format!("[[listener]]\nhttp = \"{address}\"")).refused(&["listener 2", "loopback"]);
    }
    for address in ["127.0.0.1:8080", "127.9.9.9:8080", "[::1]:8080"] {
        let made = Made::new();
        assert_eq!(made.append(&format!("[[listener]]\nhttp = \"{address}\"")).load().endpoints.len(), 2);
    }
}

#[test]
fn a_listener_is_one_thing() {
    for lines in ["", "tls = true", "https = \"127.0.0.1:1\"\nunix = \"a\"", "unix = \"a\"\nvsock = 1"] {
        let made = Made::new();
        made.append(&format!("[[listener]]\n{lines}")).refused(&["listener 2", "just one"]);
    }
    let made = Made::new();
    made.append("[[listener]]\nhttp = \"127.0.0.1:1\"\ntls = true").refused(&["listener 2", "leave tls out"]);
}

#[test]
fn unix_and_vsock_speak_tls_unless_told_otherwise() {
    let made = Made::new();
    made.append(
        "[[listener]]\nunix = \"a\"\n[[listener]]\nvsock = 8000\n[[listener]]\nunix = \"/b\"\ntls = false",
    );
    let config = made.load();
    assert!(matches!(&config.endpoints[1], Endpoint::Unix { path, tls: true } if *path == made.path("a")));
    assert!(matches!(config.endpoints[2], Endpoint::Vsock { port: 8000, tls: true }));
    assert!(matches!(config.endpoints[3], Endpoint::Unix { tls: false, .. }));
}

#[test]
fn limits_have_limits() {
    for (name, most) in
        [("connections", 4096), ("connections_per_listener", 4096), ("requests", 64), ("body_seconds", 3600)]
    {
        for (value, fine) in [(0, false), (1, true), (most, true), (most + 1, false)] {
            let made = Made::new();
            made.append(&format!("[limits]\n{name} = {value}"));
            if fine {
                made.load();
            } else {
                made.refused(&[&format!("limits.{name}"), &most.to_string()]);
            }
        }
    }
}

#[test]
fn a_principal_is_of_this_account() {
    for arn in [
        "",
        "administrator",
        "arn:aws:iam::123456789012:root",
        "arn:aws:iam::000000000000:user/administrator",
        "arn:aws:iam::123456789012:user/",
        "arn:aws:iam::123456789012:user/*",
    ] {
        let made = Made::new();
        made.change("arn:aws:iam::123456789012:user/administrator", arn).refused(&["principal", "user/NAME"]);
    }
}

#[test]
fn an_access_key_id_is_16_to_128_letters() {
    for id in ["A".repeat(15), "A".repeat(129), "A".repeat(19) + "/"] {
        let made = Made::new();
        let text = std::fs::read_to_string(made.path("kms.toml")).unwrap();
        let line = text.lines().find(|line| line.starts_with("access_key_id")).unwrap();
        made.change(line, &format!("access_key_id = \"{id}\"")).refused(&["access_key_id", "16 to 128"]);
    }
}

#[test]
fn a_principal_that_was_added_is_there_and_the_others_stay() {
    let made = Made::new();
    let policy =
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"kms:Decrypt","Resource":"*"}]}"#;
    let added = add_principal(&made.folder(), "application", Some(policy)).unwrap();
    assert_eq!(added.arn, "arn:aws:iam::123456789012:user/application");
    assert_eq!((added.access_key_id.len(), added.secret.len()), (20, 40));
    assert!(added.access_key_id.starts_with("AKIA"));
    add_principal(&made.folder(), "other", None).unwrap();
    assert_eq!(made.load().principals.count(), 3);
}

#[test]
fn what_an_interrupted_addition_left_blocks_none_and_is_not_overwritten() {
    let policy =
        r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"kms:Decrypt","Resource":"*"}]}"#;
    for left in ["application.secret", "application.json"] {
        let made = Made::new();
        let file = made.path("principals").join(left);
        // Another entry may name it, or its owner mean to: it is not ours to replace.
        std::fs::write(&file, "left").unwrap();
        std::fs::write(made.path("kms.toml.new"), "left").unwrap();
        let added = add_principal(&made.folder(), "application", Some(policy)).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "left");
        assert_eq!(std::fs::read_to_string(made.path("kms.toml.new")).unwrap(), "left");
        assert_eq!(made.load().principals.count(), 2);
        let secret = made.path(&format!("principals/application.{}.secret", added.access_key_id));
        assert_eq!(std::fs::read_to_string(&secret).unwrap(), format!("{}\n", *added.secret));
        assert_eq!(std::fs::metadata(&secret).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn an_addition_that_fails_leaves_nothing() {
    let made = Made::new();
    let names = |folder: &str| std::fs::read_dir(made.path(folder)).unwrap().count();
    let before = (names("."), names("principals"));
    // Where the secret belongs nothing can be made.
    std::fs::rename(made.path("principals"), made.path("elsewhere")).unwrap();
    std::fs::write(made.path("principals"), "").unwrap();
    made.change("\"principals/", "\"elsewhere/").change("\"principals/", "\"elsewhere/");
    let text = std::fs::read_to_string(made.path("kms.toml")).unwrap();
    add_principal(&made.folder(), "application", None).unwrap_err();
    assert_eq!(std::fs::read_to_string(made.path("kms.toml")).unwrap(), text);
    assert_eq!((names(".") - 1, names("elsewhere")), before);
}

#[test]
fn a_name_that_is_taken_or_none_adds_nothing() {
    let made = Made::new();
    let before = std::fs::read(made.path("kms.toml")).unwrap();
    for name in ["administrator", "", "../a", "a b", "a\"b", &"a".repeat(65)] {
        add_principal(&made.folder(), name, None).unwrap_err();
    }
    let error = add_principal(&made.folder(), "application", Some("{}")).unwrap_err();
    assert!(error.to_string().contains("identity_policy"), "{error}");
    assert_eq!(std::fs::read(made.path("kms.toml")).unwrap(), before);
    assert!(!made.path("principals/application.secret").exists());
}

#[test]
fn a_setting_that_a_running_service_keeps_is_named_when_it_is_changed_and_no_other_is() {
    let principal = "arn:aws:iam::123456789012:user";
    for (from, to, changed) in [
        ("region = \"local-1\"", "region = \"local-2\"", &["region"][..]),
        ("database = \"keys.db\"", "database = \"other.db\"", &["database"]),
        ("\"audit.log\"", "\"other.log\"", &["audit_log"]),
        ("\"master.key\"", "\"other.key\"", &["master_key"]),
        ("certificate = \"server.pem\"", "certificate = \"other.pem\"", &["tls"]),
        ("127.0.0.1:8443", "127.0.0.1:8444", &["listener"]),
        ("[[listener]]", "[limits]\nrequests = 9\n[[listener]]", &["limits"]),
        ("[[listener]]\n", "[[listener]]\nunix = \"a\"\n[[listener]]\n", &["listener"]),
        // What is said is what was the case before.
        ("[[listener]]", "[limits]\nrequests = 8\n[[listener]]", &[]),
        ("[\"own\"]", "[\"other.pem\"]", &[]),
        ("seconds = 300", "seconds = 301", &[]),
        ("\"ber\"", "\"der\"", &[]),
        (&format!("{principal}/administrator"), &format!("{principal}/other"), &[]),
    ] {
        let made = Made::new();
        let started = made.load().until_restart();
        assert_eq!(started.changed(&made.load().until_restart()), <[&str; 0]>::default());
        assert_eq!(started.changed(&made.change(from, to).load().until_restart()), changed, "{to}");
    }
    // Principals are of the account: both change.
    let made = Made::new();
    let started = made.load().until_restart();
    made.change("\"123456789012\"", "\"210987654321\"").change("iam::123456789012", "iam::210987654321");
    made.change("region = \"local-1\"", "region = \"local-2\"");
    assert_eq!(started.changed(&made.load().until_restart()), ["region", "account"]);
}
