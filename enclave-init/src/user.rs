//! Who the application runs as: the image's `user[:group]`, looked up as container engines do.
//!
//! * Names are looked up in the image's own /etc/passwd and /etc/group; numbers need no entry.
//! * Without a group: the user's primary group, and the supplementary groups that list the user.
//! * With a group: that one and no supplementary groups.
//! * A number that has no entry and no group gets group 0.

use std::fmt;

/// Largest user and group id: the kernel keeps 2^32 - 1 for "unchanged", and engines stop at 2^31 - 1.
pub const MAX_ID: u32 = 0x7fff_ffff;

/// Most supplementary groups (`NGROUPS_MAX` of Linux).
pub const MAX_GROUPS: usize = 65536;

/// A user as setuid(2) and friends need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups, in the order of /etc/group, without `gid`.
    pub groups: Vec<u32>,
    /// The home folder, if the user has an entry that names one.
    pub home: Option<String>,
}

/// Why a user could not be found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserError {
    /// No such name, and not a number.
    UnknownUser(String),
    /// No such name, and not a number.
    UnknownGroup(String),
    /// An id above [`MAX_ID`].
    IdTooLarge(String),
}

impl fmt::Display for UserError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownUser(name) => write!(f, "the image's /etc/passwd has no user {name:?}"),
            Self::UnknownGroup(name) => write!(f, "the image's /etc/group has no group {name:?}"),
            Self::IdTooLarge(id) => write!(f, "user or group id {id} is larger than {MAX_ID}"),
        }
    }
}

impl std::error::Error for UserError {}

/// A line of /etc/passwd.
struct User<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

/// A line of /etc/group.
struct Group<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

/// Looks up `user[:group]`; `passwd` and `group` are the contents of the image's account files.
pub fn resolve(specification: &str, passwd: &[u8], group: &[u8]) -> Result<Identity, UserError> {
    let (user_part, group_part) = match specification.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (specification, None),
    };
    let user = find_user(user_part, passwd);
    let uid = match (&user, user_part) {
        (Some(user), _) => user.uid,
        (None, "") => 0,
        (None, text) => number(text)?.ok_or_else(|| UserError::UnknownUser(text.to_owned()))?,
    };
    let home = user.as_ref().map(|user| user.home.to_owned()).filter(|home| home.starts_with('/'));
    if let Some(text) = group_part {
        return Ok(Identity { uid, gid: find_group(text, group)?, groups: Vec::new(), home });
    }
    let gid = user.as_ref().map_or(0, |user| user.gid);
    let groups = user.as_ref().map(|user| supplementary(user.name, gid, group)).unwrap_or_default();
    Ok(Identity { uid, gid, groups, home })
}

/// An entry with that name, or else one with that number. An empty text means root.
fn find_user<'a>(text: &str, passwd: &'a [u8]) -> Option<User<'a>> {
    let text = if text.is_empty() { "0" } else { text };
    let entries = || lines(passwd).filter_map(parse_user);
    entries().find(|user| user.name == text).or_else(|| {
        let id = number(text).ok().flatten()?;
        entries().find(|user| user.uid == id)
    })
}

fn find_group(text: &str, group: &[u8]) -> Result<u32, UserError> {
    if let Some(group) = lines(group).filter_map(parse_group).find(|group| group.name == text) {
        return Ok(group.gid);
    }
    number(text)?.ok_or_else(|| UserError::UnknownGroup(text.to_owned()))
}

fn supplementary(user: &str, primary: u32, group: &[u8]) -> Vec<u32> {
    let mut found = Vec::new();
    for group in lines(group).filter_map(parse_group) {
        let listed = group.members.split(',').any(|member| member == user);
        if listed && group.gid != primary && !found.contains(&group.gid) && found.len() < MAX_GROUPS {
            found.push(group.gid);
        }
    }
    found
}

/// `None` for what is no decimal number at all.
fn number(text: &str) -> Result<Option<u32>, UserError> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse() {
        Ok(id) if id <= MAX_ID => Ok(Some(id)),
        _ => Err(UserError::IdTooLarge(text.to_owned())),
    }
}

/// Lines that are text; others cannot be meant by a name.
fn lines(content: &[u8]) -> impl Iterator<Item = &str> {
    content.split(|&byte| byte == b'\n').filter_map(|line| std::str::from_utf8(line).ok())
}

/// `name:password:uid:gid:comment:home:shell`, see passwd(5); a malformed line is no entry.
fn parse_user(line: &str) -> Option<User<'_>> {
    let mut fields = line.split(':');
    let name = fields.next().filter(|name| !name.is_empty())?;
    let uid = number(fields.nth(1)?).ok()??;
    let gid = number(fields.next()?).ok()??;
    let home = fields.nth(1).unwrap_or_default();
    Some(User { name, uid, gid, home })
}

/// `name:password:gid:member,member`, see group(5); a malformed line is no entry.
fn parse_group(line: &str) -> Option<Group<'_>> {
    let mut fields = line.split(':');
    let name = fields.next().filter(|name| !name.is_empty())?;
    let gid = number(fields.nth(1)?).ok()??;
    Some(Group { name, gid, members: fields.next().unwrap_or_default() })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/sh\n\
        # a comment\n\
        bad line\n\
        toolarge:x:4294967296:0::/:\n\
        nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n\
        app:x:1000:1000:An application:/srv/app:/bin/false\n\
        1000:x:42:43:a name made of digits:/home/42:\n\
        nohome:x:1001:1001\n\
        \xff\xfe:x:7:7::/:\n";
    const GROUP: &[u8] = b"root:x:0:\nnogroup:x:65534:\napp:x:1000:\naudio:x:29:app,other\n\
        adm:x:4:other\nvideo:x:44:other,app\nvideo2:x:44:app\nown:x:1000:app\nbroken\nhuge:x:99999999999:app\n";

    fn identity(uid: u32, gid: u32, groups: &[u32], home: Option<&str>) -> Identity {
        Identity { uid, gid, groups: groups.to_vec(), home: home.map(str::to_owned) }
    }

    #[test]
    fn a_name_brings_its_primary_and_supplementary_groups_and_home() {
        assert_eq!(resolve("app", PASSWD, GROUP).unwrap(), identity(1000, 1000, &[29, 44], Some("/srv/app")));
        assert_eq!(
            resolve("nobody", PASSWD, GROUP).unwrap(),
            identity(65534, 65534, &[], Some("/nonexistent"))
        );
    }

    #[test]
    fn a_number_with_an_entry_is_that_user() {
        assert_eq!(resolve("65534", PASSWD, GROUP).unwrap(), resolve("nobody", PASSWD, GROUP).unwrap());
    }

    #[test]
    fn a_name_made_of_digits_comes_before_the_number() {
        assert_eq!(resolve("1000", PASSWD, GROUP).unwrap(), identity(42, 43, &[], Some("/home/42")));
    }

    #[test]
    fn a_number_without_an_entry_has_group_zero() {
        assert_eq!(resolve("5000", PASSWD, GROUP).unwrap(), identity(5000, 0, &[], None));
        assert_eq!(resolve("5000", b"", b"").unwrap(), identity(5000, 0, &[], None));
    }

    #[test]
    fn a_given_group_replaces_all_others() {
        assert_eq!(resolve("app:adm", PASSWD, GROUP).unwrap(), identity(1000, 4, &[], Some("/srv/app")));
        assert_eq!(resolve("app:77", PASSWD, GROUP).unwrap(), identity(1000, 77, &[], Some("/srv/app")));
        assert_eq!(resolve("5000:5001", PASSWD, GROUP).unwrap(), identity(5000, 5001, &[], None));
        assert_eq!(resolve("5000:audio", PASSWD, GROUP).unwrap(), identity(5000, 29, &[], None));
    }

    #[test]
    fn an_empty_user_is_root_and_an_empty_group_is_none() {
        assert_eq!(resolve("", PASSWD, GROUP).unwrap(), identity(0, 0, &[], Some("/root")));
        assert_eq!(resolve(":audio", PASSWD, GROUP).unwrap(), identity(0, 29, &[], Some("/root")));
        assert_eq!(resolve("app:", PASSWD, GROUP).unwrap(), resolve("app", PASSWD, GROUP).unwrap());
    }

    #[test]
    fn an_entry_without_a_home_has_none() {
        assert_eq!(resolve("nohome", PASSWD, GROUP).unwrap(), identity(1001, 1001, &[], None));
    }

    #[test]
    fn unknown_names_are_refused_by_name() {
        assert_eq!(resolve("ghost", PASSWD, GROUP), Err(UserError::UnknownUser("ghost".into())));
        assert_eq!(resolve("app:ghosts", PASSWD, GROUP), Err(UserError::UnknownGroup("ghosts".into())));
        assert_eq!(resolve("-1", PASSWD, GROUP), Err(UserError::UnknownUser("-1".into())));
        assert_eq!(resolve("toolarge", PASSWD, GROUP), Err(UserError::UnknownUser("toolarge".into())));
        assert_eq!(resolve("app:a:b", PASSWD, GROUP), Err(UserError::UnknownGroup("a:b".into())));
    }

    #[test]
    fn the_largest_id_is_taken_and_one_more_refused() {
        assert_eq!(resolve("2147483647:2147483647", b"", b"").unwrap().uid, MAX_ID);
        assert_eq!(resolve("2147483648", b"", b""), Err(UserError::IdTooLarge("2147483648".into())));
        assert_eq!(resolve("0:4294967295", b"", b""), Err(UserError::IdTooLarge("4294967295".into())));
        assert!(resolve("99999999999999999999", b"", b"").is_err());
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic_or_exceed_its_limits(user: String, passwd: Vec<u8>, group: Vec<u8>) {
            if let Ok(identity) = resolve(&user, &passwd, &group) {
                prop_assert!(identity.uid <= MAX_ID && identity.gid <= MAX_ID);
            }
        }

        #[test]
        fn a_user_is_only_ever_given_ids_that_its_files_name(lines in "([a-c]:x:[0-9]{1,3}:[0-9]{1,3}\n){0,5}") {
            if let Ok(identity) = resolve("a", lines.as_bytes(), b"") {
                let entry = lines.lines().find(|line| line.starts_with("a:")).unwrap();
                let ids: Vec<u32> = entry.split(':').skip(2).map(|id| id.parse().unwrap()).collect();
                prop_assert_eq!([identity.uid, identity.gid], [ids[0], ids[1]]);
            }
        }
    }
}
