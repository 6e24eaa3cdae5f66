//! Who we are, and to whom it is said: token services, identity tokens, credential helpers.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicUsize, Ordering};

use image::registry::DockerConfig;
use tempfile::TempDir;

use crate::server::{Answer, Asked, Image, Server, digest};
use crate::stock::pull_elsewhere;
use crate::support::{Pull, docker_config};

const TOKEN: &str = "granted-token";
/// `printf 'me:secret' | base64`
const ME: &str = "bWU6c2VjcmV0";

fn bearer(realm: &str) -> Answer {
    let challenge =
        format!("Bearer realm=\"{realm}\",service=\"the service\",scope=\"repository:other:push\"");
    Answer::status(401).header("WWW-Authenticate", challenge)
}

/// An image behind tokens: whoever shows none is sent to the token service of the same server.
fn behind_tokens(grant: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Server {
    let image = Image::new();
    Server::start_knowing(|host| {
        let realm = format!("http://{host}/token");
        move |asked: &Asked| {
            if asked.path.starts_with("/token") {
                grant(asked)
            } else if asked.authorization() == Some(&format!("Bearer {TOKEN}")) {
                image.answer(asked)
            } else {
                bearer(&realm)
            }
        }
    })
}

fn granted() -> Answer {
    Answer::bytes(format!(r#"{{"token":"{TOKEN}","expires_in":300}}"#))
}

fn as_me(server: &Server) -> (TempDir, DockerConfig) {
    docker_config(&format!(r#"{{"auths":{{"{}":{{"auth":"{ME}"}}}}}}"#, server.host()))
}

#[test]
fn a_token_is_asked_for_as_nobody_where_there_are_no_credentials() {
    let server = behind_tokens(|_| granted());
    Pull::default().run(&server.image("team/app:1")).unwrap();
    let asked = server.asked();
    let tokens: Vec<&Asked> = asked.iter().filter(|asked| asked.path.starts_with("/token")).collect();
    assert_eq!(tokens.len(), 1, "one token for all");
    assert_eq!((tokens[0].method.as_str(), tokens[0].authorization()), ("GET", None));
    // What we need, whatever the registry says that we need.
    assert_eq!(tokens[0].path, "/token?scope=repository%3Ateam%2Fapp%3Apull&service=the+service");
}

#[test]
fn a_token_is_asked_for_with_the_users_password() {
    let server = behind_tokens(|asked| {
        if asked.authorization() == Some(&format!("Basic {ME}")) { granted() } else { Answer::status(401) }
    });
    let (_folder, credentials) = as_me(&server);
    Pull { credentials, ..Pull::default() }.run(&server.image("app:1")).unwrap();
    // The password goes to the token service and nowhere else.
    for asked in server.asked().iter().filter(|asked| !asked.path.starts_with("/token")) {
        assert!(!format!("{asked:?}").contains(ME), "{asked:?}");
    }

    let message = Pull::default().fails(&server.image("app:1"));
    assert!(message.contains("docker login"), "{message}");
}

#[test]
fn an_identity_token_is_exchanged_and_never_put_into_an_address() {
    let server = behind_tokens(|asked| {
        let wanted = "refresh_token=very-secret";
        if asked.method == "POST"
            && asked.body.contains(wanted)
            && asked.body.contains("grant_type=refresh_token")
        {
            Answer::bytes(format!(r#"{{"access_token":"{TOKEN}"}}"#))
        } else {
            Answer::status(401)
        }
    });
    let with = |token: &str| {
        docker_config(&format!(
            r#"{{"auths":{{"{}":{{"auth":"bWU6","identitytoken":"{token}"}}}}}}"#,
            server.host()
        ))
    };
    let (_folder, credentials) = with("very-secret");
    Pull { credentials, ..Pull::default() }.run(&server.image("app:1")).unwrap();
    assert!(server.asked().iter().all(|asked| !asked.path.contains("secret")));

    let (_folder, credentials) = with("old-secret");
    let message = Pull { credentials, ..Pull::default() }.fails(&server.image("app:1"));
    assert!(
        message.contains("refuses the credentials") && message.contains("an identity token"),
        "{message}"
    );
    assert!(!message.contains("old-secret"), "{message}");
}

#[test]
fn a_token_that_runs_out_in_the_middle_of_an_image_is_renewed() {
    let image = Image::new();
    let (grants, uses) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let server = Server::start_knowing(|host| {
        let realm = format!("http://{host}/token");
        move |asked: &Asked| {
            if asked.path.starts_with("/token") {
                uses.store(0, Ordering::SeqCst);
                let number = grants.fetch_add(1, Ordering::SeqCst) + 1;
                return Answer::bytes(format!(r#"{{"token":"number-{number}"}}"#));
            }
            let current = format!("Bearer number-{}", grants.load(Ordering::SeqCst));
            // Each token is good for two requests.
            if asked.authorization() == Some(&current) && uses.fetch_add(1, Ordering::SeqCst) < 2 {
                return image.answer(asked);
            }
            bearer(&realm)
        }
    });
    Pull::default().run(&server.image("app:1")).unwrap();
    assert_eq!(server.count("/token"), 2, "four requests, two for each token");
}

#[test]
fn a_registry_that_grants_tokens_and_refuses_them_is_asked_once() {
    let server = Server::start_knowing(|host| {
        let realm = format!("http://{host}/token");
        move |asked: &Asked| if asked.path.starts_with("/token") { granted() } else { bearer(&realm) }
    });
    let message = Pull::default().fails(&server.image("app:1"));
    assert!(message.contains("docker login"), "{message}");
    assert_eq!((server.count("/token"), server.count("/manifests/")), (1, 2));
}

#[test]
fn a_token_service_that_does_not_do_its_part_is_told_from_wrong_credentials() {
    for (answer, why) in [
        (Answer::bytes("nonsense"), "something else than a token"),
        (Answer::bytes("{}"), "gives no token"),
        (Answer::bytes(r#"{"token":""}"#), "gives no token"),
        (Answer::bytes("{\"token\":\"a\\r\\nX-Injected: yes\"}"), "the token that it grants is none"),
        (Answer::status(302).header("Location", "http://127.0.0.1:1/"), "gives no token"),
        (Answer::endless(), "more than 65536"),
        (Answer::status(429).header("Retry-After", "5"), "in 5 seconds"),
        (Answer::status(503), "its token service answered 503"),
        (Answer::status(403), "docker login"),
    ] {
        let server = behind_tokens(move |_| answer.clone());
        let message = Pull::default().fails(&server.image("app:1"));
        assert!(message.contains(why), "{message}");
    }
}

#[test]
fn a_token_that_never_comes_to_its_end_has_a_time_for_blobs_too() {
    let image = Image::new();
    let server = Server::start_knowing(|host| {
        let realm = format!("http://{host}/token");
        move |asked: &Asked| match asked.path.as_str() {
            path if path.contains("/manifests/") => image.answer(asked),
            path if path.starts_with("/token") => Answer::silent(100, b"{"),
            _ => bearer(&realm),
        }
    });
    let mut pull = Pull::default();
    pull.limits.document_time = std::time::Duration::from_secs(1);
    pull.limits.attempts = 2;
    let message = pull.fails(&server.image("app:1"));
    assert!(message.contains("blob sha256:") && message.contains("it took more than 1 s"), "{message}");
    assert_eq!(server.count("/token"), 2);
}

#[test]
fn credentials_are_not_sent_where_a_registry_must_not_send_them() {
    let other = Server::start(|_| granted());
    for (realm, why) in [
        ("http://registry.invalid/token".to_owned(), "not reached by HTTPS"),
        ("ftp://127.0.0.1/".to_owned(), "not reached by HTTPS"),
        ("nonsense".to_owned(), "the address of its token service is none"),
        (String::new(), "the address of its token service is none"),
        (format!("http://a:b@{}/", other.host()), "has a password in it"),
    ] {
        let server = Server::start(move |_| bearer(&realm));
        let (_folder, credentials) = as_me(&server);
        let message = Pull { credentials, ..Pull::default() }.fails(&server.image("app:1"));
        assert!(message.contains(why) && !message.contains("secret"), "{message}");
    }
    assert_eq!(other.count(""), 0);
}

#[test]
fn a_challenge_that_cannot_be_answered_is_said_so() {
    for header in ["", "Negotiate", "Digest realm=\"x\", nonce=\"y\"", "=,\"", "Bearer"] {
        let server = Server::start(move |_| Answer::status(401).header("WWW-Authenticate", header));
        let (_folder, credentials) = as_me(&server);
        let message = Pull { credentials, ..Pull::default() }.fails(&server.image("app:1"));
        assert!(message.contains("in a way that cannot be followed"), "{header}: {message}");
    }
    let server = Server::start(|_| Answer::status(401));
    assert!(Pull::default().fails(&server.image("app:1")).contains("in a way that cannot be followed"));
}

#[test]
fn the_credentials_of_another_registry_are_not_used() {
    let image = Image::new();
    let server = Server::start(move |asked| {
        if asked.authorization().is_some() {
            image.answer(asked)
        } else {
            Answer::status(401).header("WWW-Authenticate", "Basic realm=x")
        }
    });
    let (_folder, credentials) = docker_config(&format!(
        r#"{{"auths":{{"127.0.0.1:1":{{"auth":"{ME}"}},"127.0.0.1":{{"auth":"{ME}"}}}}}}"#
    ));
    let message = Pull { credentials, ..Pull::default() }.fails(&server.image("app:1"));
    assert!(message.contains("docker login"), "{message}");
    assert!(server.asked().iter().all(|asked| asked.authorization().is_none()));
}

/// A credential helper called `docker-credential-test`, which has `answer` for everybody, in a folder of its own.
fn helper(answer: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("docker-credential-test");
    fs::write(&program, format!("#!/bin/sh\n[ \"$1\" = get ] || exit 9\nread -r host\nprintf %s \"$host\" >\"${{0%/*}}/host\"\n{answer}\n")).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

/// Pulls in a process of its own, which finds the helper on its PATH.
fn pull_with_helper(reference: &str, helper: &TempDir, config: &str) -> Result<String, String> {
    fs::write(helper.path().join("config.json"), config).unwrap();
    let path = format!("{}:{}", helper.path().display(), std::env::var("PATH").unwrap());
    let folder = helper.path().to_str().unwrap();
    pull_elsewhere(reference, &[("PATH", &path), ("DOCKER_CONFIG", folder)])
}

#[test]
fn a_credential_helper_is_asked_for_the_registry() {
    let image = Image::new();
    let name = digest(&image.manifest);
    let server = Server::start(move |asked| {
        if asked.authorization() == Some(&format!("Basic {ME}")) {
            image.answer(asked)
        } else {
            Answer::status(401).header("WWW-Authenticate", "Basic realm=x")
        }
    });
    let knows = helper(r#"echo '{"ServerURL":"x","Username":"me","Secret":"secret"}'"#);
    let for_one = format!(r#"{{"credHelpers":{{"{}":"test"}}}}"#, server.host());
    let for_all = format!(r#"{{"auths":{{"{}":{{}}}},"credsStore":"test"}}"#, server.host());
    for config in [&for_one, &for_all] {
        let pulled = pull_with_helper(&server.image("app:1"), &knows, config).unwrap();
        assert!(pulled.contains(&name), "{pulled}");
        assert_eq!(fs::read_to_string(knows.path().join("host")).unwrap(), server.host());
        fs::remove_file(knows.path().join("host")).unwrap();
    }

    let fails = helper("echo top-secret; echo top-secret >&2; exit 1");
    let message = pull_with_helper(&server.image("app:1"), &fails, &for_one).unwrap_err();
    assert!(message.contains("docker-credential-test gave no credentials"), "{message}");
    assert!(!message.contains("top-secret"), "{message}");

    let nonsense = helper("echo top-secret");
    let message = pull_with_helper(&server.image("app:1"), &nonsense, &for_one).unwrap_err();
    assert!(
        message.contains("something else than credentials") && !message.contains("top-secret"),
        "{message}"
    );

    // Docker's helpers say this where they know nothing: then nobody is asking.
    let knows_none = helper("echo 'credentials not found in native keychain'; exit 1");
    let message = pull_with_helper(&server.image("app:1"), &knows_none, &for_one).unwrap_err();
    assert!(message.contains("docker login"), "{message}");
}
