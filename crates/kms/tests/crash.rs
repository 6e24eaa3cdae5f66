//! The store under kill -9: whatever was acknowledged is there afterwards, and the database is sound.
//!
//! A process of its own changes a store by several threads and says each change that was made; it is killed after a random number of them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use kms::key::{KeyId, KeyMetadata, KeySpec, KeyState, KeyUsage};
use kms::store::{MasterKeySource, Store, StoreError};
use rand_core::TryRng;

/// Tells the process that is killed where to work.
const FOLDER: &str = "KMS_CRASH_FOLDER";
/// Tells it what to do beside changing keys.
const BESIDE: &str = "KMS_CRASH_BESIDE";
/// Threads that change keys.
const WRITERS: usize = 3;
/// Kills before a new database is begun: each round looks at all of it.
const KILLS_OF_ONE: usize = 10;
/// The last version of a key's policy.
const LAST_VERSION: u32 = 2;

#[test]
fn nothing_acknowledged_is_lost_by_50_kills() {
    kill(50);
}

#[test]
#[ignore = "minutes: part of make soak"]
fn nothing_acknowledged_is_lost_by_500_kills() {
    kill(500);
}

/// What happens beside the changes.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Beside {
    Nothing,
    Rotation,
    Backup,
}

fn kill(kills: usize) {
    let (mut rotations, mut backups, mut acknowledged) = (0, 0, 0);
    for first in (0..kills).step_by(KILLS_OF_ONE) {
        let folder = tempfile::tempdir().unwrap();
        let source = source(folder.path());
        drop(Store::create(&database(folder.path()), &source.generate().unwrap()).unwrap());
        let mut known = Known::default();
        for number in first..kills.min(first + KILLS_OF_ONE) {
            let beside = [Beside::Nothing, Beside::Rotation, Beside::Backup][number % 3];
            let said = changes_until_killed(folder.path(), beside);
            acknowledged += said.len();
            said.iter().for_each(|line| known.learn(line));
            // Left by what was under way.
            rotations += usize::from(folder.path().join("master.key.next").exists());
            backups += usize::from(unfinished_backup(folder.path()));
            let store = Store::open_from(&database(folder.path()), &source)
                .unwrap_or_else(|error| panic!("after kill {number} beside {beside:?}: {error}"));
            known.assert_kept(&store);
            drop(store);
            if beside == Beside::Backup {
                known.assert_backed_up(folder.path(), &source);
            }
        }
    }
    println!(
        "{kills} kills, {acknowledged} changes acknowledged; {rotations} rotations and {backups} backups cut short"
    );
    assert!(rotations > 0 && backups > 0, "{rotations} rotations and {backups} backups were cut short");
}

/// Runs the process, kills it at a random moment, and returns all that it said.
fn changes_until_killed(folder: &Path, beside: Beside) -> Vec<String> {
    let mut child = Reaped(
        Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--exact", "--nocapture", "the_process_that_is_killed"])
            .env(FOLDER, folder)
            .env(BESIDE, format!("{beside:?}"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap(),
    );
    let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut random = [0; 1];
    getrandom::SysRng.try_fill_bytes(&mut random).unwrap();
    let wanted = 1 + usize::from(random[0] % 60);
    let is_change = |line: &String| line.starts_with("made ");
    let mut said: Vec<String> = lines.by_ref().filter(is_change).take(wanted).collect();
    assert_eq!(said.len(), wanted, "the process ended by itself");
    child.0.kill().unwrap();
    // What it had said by then counts too; of its last line perhaps only the beginning.
    said.extend(lines.filter(is_change).filter(|line| line.ends_with('.')));
    said
}

struct Reaped(Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What was acknowledged.
#[derive(Default)]
struct Known {
    keys: HashMap<KeyId, Key>,
    /// Backups by file name, and the keys that were acknowledged when each began.
    backups: HashMap<String, Vec<KeyId>>,
}

#[derive(Default)]
struct Key {
    /// Whether its end is part of the plan.
    doomed: bool,
    version: u32,
    alias: bool,
    gone: bool,
}

impl Known {
    fn learn(&mut self, line: &str) {
        let words: Vec<&str> = line.trim_end_matches('.').split(' ').collect();
        match words[1..] {
            ["key", id, doomed] => {
                self.keys.insert(id.parse().unwrap(), Key { doomed: doomed == "true", ..Key::default() });
            }
            ["alias", id] => self.key(id).alias = true,
            ["policy", id, version] => self.key(id).version = version.parse().unwrap(),
            ["gone", id] => self.key(id).gone = true,
            ["begin", name] => {
                let now = self.keys.iter().filter(|(_, key)| !key.doomed).map(|(id, _)| id.clone());
                self.backups.insert(name.to_owned(), now.collect());
            }
            ["backup", _] => {}
            _ => panic!("{line}"),
        }
    }

    fn key(&mut self, id: &str) -> &mut Key {
        self.keys.get_mut(&id.parse().unwrap()).unwrap()
    }

    fn assert_kept(&self, store: &Store) {
        for (id, known) in &self.keys {
            let found = store.key(id).unwrap();
            if known.gone {
                assert!(found.is_none(), "{id} was destroyed");
            }
            let alias = store.alias(&alias(id)).unwrap();
            let Some(found) = found else {
                assert!(known.doomed && known.version == LAST_VERSION, "{id} is lost");
                assert_eq!(alias, None, "{id} has left its alias");
                continue;
            };
            assert_eq!(found.material.as_slice(), material(id), "{id}");
            let version: u32 = found.policy.parse().unwrap();
            // The change that was under way may have been made, and not yet acknowledged.
            assert!((known.version..=known.version + 1).contains(&version), "{id}: {version}");
            assert!(alias.as_ref() == Some(id) || (alias.is_none() && !known.alias), "{id}: {alias:?}");
        }
    }

    /// Every file that has a backup's name is whole, whether it was acknowledged or not.
    fn assert_backed_up(&mut self, folder: &Path, source: &MasterKeySource) {
        for name in names(folder).iter().filter(|name| is_backup(name)) {
            let path = folder.join(name);
            let copy = Store::open_from(&path, source).unwrap_or_else(|error| panic!("{name}: {error}"));
            for id in self.backups.get(name).into_iter().flatten() {
                assert!(copy.key(id).unwrap().is_some(), "{id} is not in {name}");
            }
            drop(copy);
            std::fs::remove_file(path).unwrap();
        }
        self.backups.clear();
    }
}

fn names(folder: &Path) -> Vec<String> {
    std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

fn is_backup(name: &str) -> bool {
    name.starts_with("backup-") && name.ends_with(".db")
}

/// Looks for what a backup that was cut short has left, and removes it.
fn unfinished_backup(folder: &Path) -> bool {
    let mut any = false;
    for name in names(folder).iter().filter(|name| name.starts_with(".kms-") && name.ends_with(".new")) {
        std::fs::remove_dir_all(folder.join(name)).unwrap();
        any = true;
    }
    any
}

fn database(folder: &Path) -> PathBuf {
    folder.join("kms.db")
}

fn source(folder: &Path) -> MasterKeySource {
    MasterKeySource::File(folder.join("master.key"))
}

fn alias(id: &KeyId) -> String {
    format!("alias/{id}")
}

fn material(id: &KeyId) -> [u8; 32] {
    let mut material = [0; 32];
    material[..16].copy_from_slice(id.as_bytes());
    material
}

#[test]
#[ignore = "part of other tests: changes a store until it is killed"]
fn the_process_that_is_killed() {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL)).unwrap();
    // The test harness may have begun a line.
    std::io::stdout().write_all(b"\n").unwrap();
    let folder = PathBuf::from(std::env::var_os(FOLDER).unwrap());
    let source = source(&folder);
    let store = Store::open_from(&database(&folder), &source).unwrap();
    let beside = std::env::var(BESIDE).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..WRITERS {
            scope.spawn(|| {
                for number in 0_u64.. {
                    change_one_key(&store, number % 3 == 0).unwrap();
                }
            });
        }
        match beside.as_str() {
            "Rotation" => loop {
                store.rotate(&source).unwrap();
            },
            "Backup" => {
                for number in 0_u64.. {
                    let name = format!("backup-{number}.db");
                    say(&format!("begin {name}"));
                    store.backup(&folder.join(&name)).unwrap();
                    say(&format!("backup {name}"));
                }
            }
            _ => {}
        }
    });
}

/// The life of one key, said step by step.
fn change_one_key(store: &Store, doomed: bool) -> Result<(), StoreError> {
    let id = KeyId::generate(&mut getrandom::SysRng).unwrap();
    let now = SystemTime::now();
    let metadata = KeyMetadata {
        id: id.clone(),
        created: now,
        description: String::new(),
        usage: KeyUsage::EncryptDecrypt,
        spec: KeySpec::SymmetricDefault,
        state: KeyState::Enabled,
    };
    store.insert_key(&metadata, "0", &material(&id))?;
    say(&format!("key {id} {doomed}"));
    store.create_alias(&alias(&id), &id, now)?;
    say(&format!("alias {id}"));
    for version in 1..=LAST_VERSION {
        store.set_policy(&id, &version.to_string())?;
        say(&format!("policy {id} {version}"));
    }
    if doomed {
        // Another thread may be the one that destroys it, from here on.
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
        store.set_state(&id, KeyState::PendingDeletion { at })?;
        for gone in store.destroy_due(now)? {
            say(&format!("gone {gone}"));
        }
    }
    Ok(())
}

/// One line by one write: it is there whole, or the process was killed while it was written.
fn say(change: &str) {
    std::io::stdout().lock().write_all(format!("made {change}.\n").as_bytes()).unwrap();
}
