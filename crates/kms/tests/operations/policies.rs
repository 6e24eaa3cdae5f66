//! GetKeyPolicy, PutKeyPolicy, ListKeyPolicies, and the policy of a new key.

use kms::error::ErrorKind;
use serde_json::{Value, json};

use crate::world::{ACCOUNT, World, key_arn, text};

/// Gives the named user these permissions.
fn policy(user: &str, actions: &Value) -> Value {
    json!({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": actions, "Resource": "*",
        "Principal": {"AWS": format!("arn:aws:iam::{ACCOUNT}:user/{user}")}}]})
}

#[test]
fn a_key_without_a_policy_has_that_of_aws() {
    let world = World::new();
    let key = world.key();
    let answer = world.ok("GetKeyPolicy", &json!({"KeyId": key}));
    assert_eq!(answer["PolicyName"], "default");
    let found: Value = serde_json::from_str(text(&answer["Policy"])).unwrap();
    let statement = &found["Statement"][0];
    assert_eq!(statement["Principal"]["AWS"], format!("arn:aws:iam::{ACCOUNT}:root"));
    assert_eq!(statement["Action"], "kms:*");
    assert_eq!(statement["Effect"], "Allow");
}

#[test]
fn a_policy_that_was_put_is_given_back_as_it_was_and_decides() {
    let world = World::new();
    let key = world.key();
    let new = policy("app", &json!("kms:Encrypt")).to_string();
    let put = json!({"KeyId": key, "Policy": new, "BypassPolicyLockoutSafetyCheck": true});
    let encrypt = json!({"KeyId": key, "Plaintext": "AAAA"});
    assert!(world.call_as(&world.app, "Encrypt", &encrypt).is_err());
    assert!(world.ok("PutKeyPolicy", &put).is_null());
    world.call_as(&world.app, "Encrypt", &encrypt).unwrap();
    assert_eq!(world.refusal("Encrypt", &encrypt), ErrorKind::AccessDenied);
}

#[test]
fn the_text_of_a_policy_is_kept() {
    let world = World::new();
    let text_of = |policy: &Value| policy.to_string().replace(":{", ": {");
    let spaced = text_of(&policy("admin", &json!("kms:*")));
    let key = world.new_key(&json!({"Policy": spaced}));
    assert_eq!(text(&world.ok("GetKeyPolicy", &json!({"KeyId": key}))["Policy"]), spaced);
}

#[test]
fn a_policy_that_locks_its_author_out_is_refused() {
    let world = World::new();
    let key = world.key();
    let locking = policy("app", &json!("kms:*")).to_string();
    let put = json!({"KeyId": key, "Policy": locking});
    assert_eq!(world.refusal("PutKeyPolicy", &put), ErrorKind::MalformedPolicyDocument);
    assert_eq!(world.refusal("CreateKey", &json!({"Policy": locking})), ErrorKind::MalformedPolicyDocument);
    let bypass = json!({"Policy": locking, "BypassPolicyLockoutSafetyCheck": true});
    world.ok("CreateKey", &bypass);
}

#[test]
fn a_policy_that_is_not_understood_is_refused_with_the_place() {
    let world = World::new();
    let key = world.key();
    let mut unknown = policy("admin", &json!("kms:*"));
    unknown["Statement"][0]["Condition"] = json!({"StringAlmostEquals": {"aws:PrincipalArn": "x"}});
    for (bad, place) in [(unknown.to_string(), "StringAlmostEquals"), ("{".into(), ""), (String::new(), "")] {
        let put = json!({"KeyId": key, "Policy": bad});
        let refusal = world.call("PutKeyPolicy", &put).unwrap_err();
        assert_eq!(refusal.kind(), ErrorKind::MalformedPolicyDocument);
        assert!(refusal.message().contains(place), "{refusal}");
        assert_eq!(world.refusal("CreateKey", &json!({"Policy": bad})), ErrorKind::MalformedPolicyDocument);
    }
}

#[test]
fn a_policy_has_32768_bytes_at_most() {
    let world = World::new();
    let base = policy("admin", &json!("kms:*")).to_string();
    let padded = |length: usize| format!("{base}{}", " ".repeat(length - base.len()));
    world.ok("CreateKey", &json!({"Policy": padded(32768)}));
    let longer = json!({"Policy": padded(32769)});
    assert_eq!(world.refusal("CreateKey", &longer), ErrorKind::MalformedPolicyDocument);
}

#[test]
fn the_one_policy_of_a_key_is_named_default() {
    let world = World::new();
    let key = world.key();
    let names = world.ok("ListKeyPolicies", &json!({"KeyId": key}));
    assert_eq!(names, json!({"PolicyNames": ["default"], "Truncated": false}));
    world.ok("GetKeyPolicy", &json!({"KeyId": key, "PolicyName": "default"}));
    let other = json!({"KeyId": key, "PolicyName": "other"});
    assert_eq!(world.refusal("GetKeyPolicy", &other), ErrorKind::NotFound);
    let text = policy("admin", &json!("kms:*")).to_string();
    let put = json!({"KeyId": key, "PolicyName": "other", "Policy": text});
    assert_eq!(world.refusal("PutKeyPolicy", &put), ErrorKind::Validation);
    let marked = json!({"KeyId": key, "Marker": "default"});
    assert_eq!(world.refusal("ListKeyPolicies", &marked), ErrorKind::InvalidMarker);
}

#[test]
fn the_log_has_the_sha256_of_the_policy_that_was_put() {
    let world = World::new();
    let policy = policy("admin", &json!("kms:*")).to_string();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &policy).unwrap();
    let output = std::process::Command::new("sha256sum").arg(file.path()).output().unwrap();
    let expected = String::from_utf8(output.stdout).unwrap()[..64].to_owned();

    let key = world.new_key(&json!({"Policy": policy}));
    let logged = world.last_logged();
    assert_eq!((&logged["operation"], &logged["key"]), (&json!("kms:CreateKey"), &json!(key_arn(&key))));
    assert_eq!(logged["policySha256"], expected);
    world.ok("PutKeyPolicy", &json!({"KeyId": key, "Policy": policy}));
    let logged = world.last_logged();
    assert_eq!((&logged["operation"], &logged["key"]), (&json!("kms:PutKeyPolicy"), &json!(key_arn(&key))));
    assert_eq!(logged["policySha256"], expected);
}

#[test]
fn the_log_has_no_sha256_of_a_policy_that_was_not_put() {
    let world = World::new();
    let key = world.key();
    assert!(world.last_logged().get("policySha256").is_none(), "that of AWS was not put");
    let good = policy("admin", &json!("kms:*")).to_string();
    let locking = policy("app", &json!("kms:*")).to_string();
    let count = world.log().len();
    for (who, text) in [(&world.app, good.as_str()), (&world.admin, "{"), (&world.admin, locking.as_str())] {
        for (operation, request) in
            [("PutKeyPolicy", json!({"KeyId": key, "Policy": text})), ("CreateKey", json!({"Policy": text}))]
        {
            world.call_as(who, operation, &request).unwrap_err();
            let logged = world.last_logged();
            assert_eq!(logged["operation"], format!("kms:{operation}"));
            assert_eq!(logged["allowed"], who.arn == world.admin.arn);
            assert!(logged.get("policySha256").is_none(), "{logged}");
            assert!(operation == "PutKeyPolicy" || logged["key"].is_null(), "{logged}");
        }
    }
    assert_eq!(world.log().len(), count + 6, "each has one line");
}

#[test]
fn who_is_denied_learns_nothing_of_the_policy_that_he_sent() {
    let world = World::new();
    let key = world.key();
    for operation in ["PutKeyPolicy", "CreateKey"] {
        let mut request = json!({"Policy": "{"});
        if operation == "PutKeyPolicy" {
            request["KeyId"] = json!(key);
        }
        let refusal = world.call_as(&world.app, operation, &request).unwrap_err();
        assert_eq!(refusal.kind(), ErrorKind::AccessDenied, "{operation}");
    }
}
