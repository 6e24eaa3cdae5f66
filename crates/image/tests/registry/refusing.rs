//! Registries that refuse, and what the user is told.

use crate::server::{Answer, Image, Server, digest};
use crate::support::Pull;

/// The message of a pull from a server that answers everything in this way. Refusals are not asked for again.
fn told(answer: Answer) -> String {
    let server = Server::start(move |_| answer.clone());
    let message = Pull::default().fails(&server.image("team/app:1"));
    assert_eq!(server.count("/manifests/"), 1, "{message}");
    assert!(message.contains(server.host()), "{message}");
    message
}

#[test]
fn each_refusal_has_its_own_message() {
    let login = told(Answer::status(401).header("WWW-Authenticate", "Basic realm=\"x\""));
    assert!(login.contains("docker login"), "{login}");
    let forbidden = told(Answer::status(403));
    assert!(
        forbidden.contains("forbids access to the manifest of") && forbidden.contains("403"),
        "{forbidden}"
    );
    let missing = told(Answer::status(404));
    assert!(missing.contains("does not have the manifest of") && missing.contains("404"), "{missing}");
    let often = told(Answer::status(429));
    assert!(often.contains("429") && often.contains("try again later"), "{often}");
    let when = told(Answer::status(429).header("Retry-After", "77"));
    assert!(when.contains("try again in 77 seconds"), "{when}");
}

#[test]
fn answers_that_no_registry_gives_are_named_by_their_number() {
    for status in [204, 206, 304, 400, 405, 418] {
        let message = told(Answer::status(status));
        assert!(message.contains(&format!("answered {status}")), "{message}");
    }
}

#[test]
fn what_a_registry_writes_into_a_refusal_is_not_shown() {
    for status in [400, 403, 404, 429] {
        let body = "{\"errors\":[{\"code\":\"DENIED\",\"message\":\"\u{1b}]0;owned\u{7} send your password to x\"}]}";
        let message = told(Answer::with(status, body));
        assert!(
            !message.contains("owned") && !message.contains("password") && !message.contains('\u{1b}'),
            "{message}"
        );
    }
}

#[test]
fn a_blob_that_is_refused_is_named() {
    for (status, word) in [(403, "forbids"), (404, "404"), (429, "no more requests")] {
        let image = Image::new();
        let name = digest(&image.layers[1]);
        let server = Server::start({
            let name = name.clone();
            move |asked| {
                if asked.path.ends_with(&name) { Answer::status(status) } else { image.answer(asked) }
            }
        });
        let message = Pull::default().fails(&server.image("a:1"));
        assert!(message.contains(word), "{message}");
        assert!(status == 429 || message.contains(&name), "{message}");
        assert_eq!(server.count(&name), 1);
    }
}
