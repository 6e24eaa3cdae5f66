//! Principals: entries of the configuration, and new ones.

use std::path::{Path, PathBuf};

use base64ct::{Base64, Encoding};
use rustix::fs::FlockOperation;
use serde::Deserialize;
use zeroize::Zeroizing;

use super::{ConfigError, file};
use crate::key::RandomnessError;
use crate::policy::{IdentityPolicy, MAX_IDENTITY_POLICY_BYTES};
use crate::principal::Principal;
use crate::server::Principals;
use crate::store::FileError;
use crate::store::private_file;

/// The folder of secrets and policies that we make.
const FOLDER: &str = "principals";
/// Shortest secret: what can be guessed from one request that was seen is none. AWS's have 40 characters.
const MIN_SECRET_LEN: usize = 20;
/// Longest secret or session token.
const MAX_SECRET_LEN: usize = 4096;
/// Lengths of an access key id (IAM API reference, data type `AccessKey`).
const ACCESS_KEY_ID_LEN: core::ops::RangeInclusive<usize> = 16..=128;
/// Longest name of a principal (IAM user guide, "IAM and AWS STS quotas").
const MAX_NAME_LEN: usize = 64;
/// Random bytes of a secret: 40 characters in base64.
const SECRET_BYTES: usize = 30;
/// Random letters and digits of an access key id, after its beginning: 80 bits.
const ID_RANDOM_LEN: usize = 16;
/// How the access key ids of users begin (IAM user guide, "IAM identifiers").
const ID_BEGINNING: &str = "AKIA";
/// What follows: base32 (RFC 4648), as AWS's.
const ID_LETTERS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// `[[principal]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PrincipalEntry {
    arn: String,
    access_key_id: String,
    /// The file of the secret access key.
    secret: PathBuf,
    /// The file of the session token.
    session_token: Option<PathBuf>,
    /// The file of the identity policy.
    identity_policy: Option<PathBuf>,
}

/// Reads what the entries name.
pub(super) fn load(
    path: &Path,
    folder: &Path,
    account: &str,
    entries: Vec<PrincipalEntry>,
) -> Result<Principals, ConfigError> {
    let principals: Result<Vec<_>, _> =
        entries.into_iter().map(|entry| principal(path, folder, account, entry)).collect();
    Principals::new(principals?).map_err(|error| {
        ConfigError::value(path, "principal", error, "give each principal an access key of its own")
    })
}

fn principal(
    path: &Path,
    folder: &Path,
    account: &str,
    entry: PrincipalEntry,
) -> Result<Principal, ConfigError> {
    let key = |member: &str| format!("principal {}: {member}", entry.arn);
    check_arn(path, account, &entry.arn)?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let id = &entry.access_key_id;
    if !ACCESS_KEY_ID_LEN.contains(&id.len()) || !id.bytes().all(plain) {
        let problem = format!("{id:?} is no access key id");
        return Err(ConfigError::value(
            path,
            key("access_key_id"),
            problem,
            "use 16 to 128 letters and digits",
        ));
    }
    let secret = read_text(path, &folder.join(&entry.secret), &key("secret"))?;
    if secret.len() < MIN_SECRET_LEN {
        let problem = format!("{} holds fewer than {MIN_SECRET_LEN} characters", entry.secret.display());
        return Err(ConfigError::value(
            path,
            key("secret"),
            problem,
            "`openssl rand -base64 30` makes a good one",
        ));
    }
    let token = |file: &PathBuf| read_text(path, &folder.join(file), &key("session_token"));
    let policy = |file: &PathBuf| read_policy(path, &folder.join(file), &key("identity_policy"));
    Ok(Principal {
        session_token: entry.session_token.as_ref().map(token).transpose()?,
        identity_policy: entry.identity_policy.as_ref().map(policy).transpose()?,
        secret,
        access_key_id: entry.access_key_id,
        arn: entry.arn,
    })
}

/// A principal is a user or a role of this account: policies are evaluated for no other.
fn check_arn(path: &Path, account: &str, arn: &str) -> Result<(), ConfigError> {
    let of_account = ["iam", "sts"].iter().find_map(|service| {
        arn.strip_prefix(&format!("arn:aws:{service}::{account}:"))?.split_once('/').map(|(_, name)| name)
    });
    let plain = |c: char| c.is_ascii_alphanumeric() || "+=,.@_-/".contains(c);
    if of_account.is_some_and(|name| !name.is_empty() && name.chars().all(plain)) {
        return Ok(());
    }
    let advice = format!("write arn:aws:iam::{account}:user/NAME");
    Err(ConfigError::value(
        path,
        "principal",
        format_args!("{arn:?} names no user or role of account {account}"),
        advice,
    ))
}

/// The one line of a private file.
fn read_text(path: &Path, file: &Path, key: &str) -> Result<Zeroizing<String>, ConfigError> {
    let bytes = private_file::read(file, MAX_SECRET_LEN)?;
    let text = core::str::from_utf8(&bytes).map(str::trim_ascii_end).unwrap_or_default();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(Zeroizing::new(text.to_owned()));
    }
    let problem = format!("{} does not hold one word of ASCII", file.display());
    Err(ConfigError::value(path, key, problem, "write the secret, and nothing else, into it"))
}

fn read_policy(path: &Path, file: &Path, key: &str) -> Result<IdentityPolicy, ConfigError> {
    let bytes = private_file::read(file, MAX_IDENTITY_POLICY_BYTES)?;
    let text = core::str::from_utf8(&bytes).unwrap_or_default();
    parse_policy(path, file, key, text)
}

fn parse_policy(path: &Path, file: &Path, key: &str, text: &str) -> Result<IdentityPolicy, ConfigError> {
    IdentityPolicy::parse(text).map_err(|error| {
        let problem = format!("{}: {error}", file.display());
        ConfigError::value(path, key, problem, "mend the policy: an identity policy has no Principal")
    })
}

/// A principal that was made, and the only time that its secret is shown.
pub struct Added {
    /// Its ARN.
    pub arn: String,
    /// Its access key id.
    pub access_key_id: String,
    /// Its secret.
    pub secret: Zeroizing<String>,
}

impl core::fmt::Debug for Added {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Added").field("arn", &self.arn).finish_non_exhaustive()
    }
}

/// Adds the user `name` to the configuration in `folder`, with a new access key and what `policy` allows.
///
/// The files of the secret and the policy are put into place first, then the configuration is replaced by one that names them: whatever
/// interrupts this, it says what it said before or all of it. No file but the configuration is ever replaced: where one has the principal's
/// name already, as after an interruption, the new ones get a longer name.
///
/// # Errors
/// If the configuration cannot be read or written, the name is taken or none, or the policy cannot be used.
pub fn add_principal(folder: &Path, name: &str, policy: Option<&str>) -> Result<Added, ConfigError> {
    let failed = |action: &'static str| {
        let folder = folder.to_owned();
        move |errno: rustix::io::Errno| FileError::io(action, &folder, errno)
    };
    let lock = std::fs::File::open(folder).map_err(|error| FileError::io("open", folder, error))?;
    rustix::fs::flock(&lock, FlockOperation::LockExclusive).map_err(failed("lock"))?;

    let (path, text) = file::read(folder)?;
    let account = file::load(folder)?.account;
    let arn = check_name(&path, &account, name, &text)?;
    if let Some(policy) = policy {
        parse_policy(&path, Path::new("the policy"), "identity_policy", policy)?;
    }
    let made = new_key(arn).map_err(|error| ConfigError::value(&path, "principal", error, "try again"))?;
    write(folder, &path, &text, name, policy, &made)?;
    Ok(made)
}

fn check_name(path: &Path, account: &str, name: &str, text: &str) -> Result<String, ConfigError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    if !(1..=MAX_NAME_LEN).contains(&name.len()) || !name.bytes().all(plain) {
        let advice = format!("use 1 to {MAX_NAME_LEN} letters, digits, - and _");
        return Err(ConfigError::value(path, "principal", format_args!("{name:?} is no name"), advice));
    }
    let arn = format!("arn:aws:iam::{account}:user/{name}");
    let taken = file::parse(path, text)?.principals.iter().any(|entry| entry.arn == arn);
    if taken {
        let problem = format!("{arn} is there already");
        return Err(ConfigError::value(path, "principal", problem, "choose another name"));
    }
    Ok(arn)
}

fn write(
    folder: &Path,
    path: &Path,
    text: &str,
    name: &str,
    policy: Option<&str>,
    made: &Added,
) -> Result<(), ConfigError> {
    let own = folder.join(FOLDER);
    match rustix::fs::mkdir(&own, rustix::fs::Mode::RWXU) {
        Err(errno) if errno != rustix::io::Errno::EXIST => {
            return Err(FileError::io("make", &own, errno).into());
        }
        _ => {}
    }
    let stem = free_name(&own, name, &made.access_key_id);
    let (secret, policy_file) = (format!("{FOLDER}/{stem}.secret"), format!("{FOLDER}/{stem}.json"));
    let workplace = private_file::workplace(path)?;
    let new = |file: &str| workplace.path().join(file);
    let line = Zeroizing::new(format!("{}\n", *made.secret));
    private_file::write_new(&new("secret"), line.as_bytes())?;
    let mut entry = format!(
        "\n[[principal]]\narn = \"{}\"\naccess_key_id = \"{}\"\nsecret = \"{secret}\"\n",
        made.arn, made.access_key_id
    );
    if let Some(policy) = policy {
        private_file::write_new(&new("policy"), policy.as_bytes())?;
        entry.push_str(&format!("identity_policy = \"{policy_file}\"\n"));
    }
    let newline = if text.ends_with('\n') || text.is_empty() { "" } else { "\n" };
    private_file::write_new(&new("configuration"), format!("{text}{newline}{entry}").as_bytes())?;
    private_file::rename_new(&new("secret"), &folder.join(&secret))?;
    if policy.is_some() {
        private_file::rename_new(&new("policy"), &folder.join(&policy_file))?;
    }
    Ok(private_file::rename(&new("configuration"), path)?)
}

/// What the new files are called before their ends: the principal's name, or one that nobody has.
fn free_name(own: &Path, name: &str, access_key_id: &str) -> String {
    let is_there = |end: &str| own.join(format!("{name}.{end}")).symlink_metadata().is_ok();
    if is_there("secret") || is_there("json") { format!("{name}.{access_key_id}") } else { name.to_owned() }
}

fn new_key(arn: String) -> Result<Added, RandomnessError> {
    let mut random = Zeroizing::new([0; SECRET_BYTES]);
    getrandom::fill(random.as_mut()).map_err(|_| RandomnessError)?;
    let mut letters = [0; ID_RANDOM_LEN];
    getrandom::fill(&mut letters).map_err(|_| RandomnessError)?;
    let letter = |byte: u8| ID_LETTERS.get(usize::from(byte & 31)).map(|letter| char::from(*letter));
    let access_key_id = ID_BEGINNING.chars().chain(letters.into_iter().filter_map(letter)).collect();
    Ok(Added { arn, access_key_id, secret: Zeroizing::new(Base64::encode_string(random.as_ref())) })
}
