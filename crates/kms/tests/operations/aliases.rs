//! CreateAlias, UpdateAlias, DeleteAlias, ListAliases.

use std::time::{Duration, UNIX_EPOCH};

use kms::error::ErrorKind;
use serde_json::json;

use crate::world::{NO_KEY, World, alias_arn, key_arn, now, principal, text};

#[test]
fn an_alias_stands_for_its_key_until_it_is_deleted() {
    let mut world = World::new();
    let (first, second) = (world.key(), world.key());
    let target = |world: &World| {
        text(&world.ok("DescribeKey", &json!({"KeyId": "alias/a"}))["KeyMetadata"]["KeyId"]).to_owned()
    };
    assert!(world.ok("CreateAlias", &json!({"AliasName": "alias/a", "TargetKeyId": first})).is_null());
    assert_eq!(target(&world), first);
    world.later(Duration::from_secs(60));
    assert!(
        world.ok("UpdateAlias", &json!({"AliasName": "alias/a", "TargetKeyId": key_arn(&second)})).is_null()
    );
    assert_eq!(target(&world), second);
    let created = now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let expected = json!({"AliasName": "alias/a", "AliasArn": alias_arn("alias/a"), "TargetKeyId": second,
        "CreationDate": created, "LastUpdatedDate": created + 60});
    assert_eq!(world.ok("ListAliases", &json!({}))["Aliases"], json!([expected]));
    assert!(world.ok("DeleteAlias", &json!({"AliasName": "alias/a"})).is_null());
    assert_eq!(world.refusal("DescribeKey", &json!({"KeyId": "alias/a"})), ErrorKind::NotFound);
}

#[test]
fn two_aliases_of_one_name_cannot_be() {
    let world = World::new();
    let request = json!({"AliasName": "alias/a", "TargetKeyId": world.key()});
    world.ok("CreateAlias", &request);
    assert_eq!(world.refusal("CreateAlias", &request), ErrorKind::AlreadyExists);
}

#[test]
fn an_alias_that_is_not_there_is_neither_changed_nor_deleted() {
    let world = World::new();
    let update = json!({"AliasName": "alias/a", "TargetKeyId": world.key()});
    assert_eq!(world.refusal("UpdateAlias", &update), ErrorKind::NotFound);
    assert_eq!(world.refusal("DeleteAlias", &json!({"AliasName": "alias/a"})), ErrorKind::NotFound);
}

#[test]
fn an_alias_for_no_key_cannot_be() {
    let world = World::new();
    let request = json!({"AliasName": "alias/a", "TargetKeyId": NO_KEY});
    assert_eq!(world.refusal("CreateAlias", &request), ErrorKind::NotFound);
    let key = world.key();
    world.ok("CreateAlias", &json!({"AliasName": "alias/a", "TargetKeyId": key}));
    let of_an_alias = json!({"AliasName": "alias/b", "TargetKeyId": "alias/a"});
    assert_eq!(world.refusal("CreateAlias", &of_an_alias), ErrorKind::NotFound);
}

#[test]
fn names_of_aliases_follow_the_rules_of_aws() {
    let world = World::new();
    let key = world.key();
    let create = |name: &str| world.call("CreateAlias", &json!({"AliasName": name, "TargetKeyId": key}));
    create("alias/a:b/c_d-E9").unwrap();
    create(&format!("alias/{}", "a".repeat(250))).unwrap();
    for name in ["", "a", "alias/", "alias", "Alias/a", "alias/a b", "alias/\u{e9}", "alias/a.b"] {
        assert_eq!(create(name).unwrap_err().kind(), ErrorKind::Validation, "{name}");
    }
    let longer = format!("alias/{}", "a".repeat(251));
    assert_eq!(create(&longer).unwrap_err().kind(), ErrorKind::Validation);
    assert_eq!(create("alias/aws/s3").unwrap_err().kind(), ErrorKind::InvalidAliasName);
}

#[test]
fn an_alias_does_not_change_to_a_key_of_another_kind() {
    let world = World::new();
    world.ok("CreateAlias", &json!({"AliasName": "alias/a", "TargetKeyId": world.key()}));
    let other = world.new_key(&json!({"KeySpec": "ECC_NIST_P256", "KeyUsage": "KEY_AGREEMENT"}));
    let request = json!({"AliasName": "alias/a", "TargetKeyId": other});
    assert_eq!(world.refusal("UpdateAlias", &request), ErrorKind::Validation);
}

#[test]
fn aliases_are_listed_page_by_page_and_by_key() {
    let world = World::new();
    let (first, second) = (world.key(), world.key());
    for (name, key) in [("alias/a", &first), ("alias/b", &second), ("alias/c", &first)] {
        world.ok("CreateAlias", &json!({"AliasName": name, "TargetKeyId": key}));
    }
    let page = world.ok("ListAliases", &json!({"Limit": 2}));
    assert_eq!(page["Truncated"], true);
    assert_eq!(page["Aliases"].as_array().unwrap().len(), 2);
    let rest = world.ok("ListAliases", &json!({"Limit": 2, "Marker": page["NextMarker"]}));
    assert_eq!(rest["Truncated"], false);
    assert_eq!(rest["Aliases"][0]["AliasName"], "alias/c");
    let of_first = world.ok("ListAliases", &json!({"KeyId": first}));
    let names: Vec<_> =
        of_first["Aliases"].as_array().unwrap().iter().map(|a| text(&a["AliasName"])).collect();
    assert_eq!(names, ["alias/a", "alias/c"]);
    assert_eq!(world.refusal("ListAliases", &json!({"KeyId": NO_KEY})), ErrorKind::NotFound);
}

#[test]
fn an_alias_needs_the_permission_for_the_alias_and_for_the_key() {
    let world = World::new();
    let key = world.key();
    let request = json!({"AliasName": "alias/a", "TargetKeyId": key});
    let allow = |resource: &str| {
        let policy = json!({"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Action": "kms:CreateAlias", "Resource": resource}]});
        principal("user", Some(&policy.to_string()))
    };
    for half in [allow(&key_arn(&key)), allow(&alias_arn("alias/a"))] {
        let refusal = world.call_as(&half, "CreateAlias", &request).unwrap_err();
        assert_eq!(refusal.kind(), ErrorKind::AccessDenied);
    }
    world.call_as(&allow("*"), "CreateAlias", &request).unwrap();
}
