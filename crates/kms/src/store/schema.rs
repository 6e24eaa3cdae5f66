//! The database's file: its format, and how it is opened.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::limits::Limit;
use rusqlite::{Connection, OpenFlags};
use rustix::fs::OFlags;

use super::error::StoreError;
use super::private_file::{self, FileError};
use super::seal::{DATABASE_ID_LEN, KEY_CHECK_LEN};

/// The version of the format: SQLite's `user_version`.
pub(super) const FORMAT: i64 = 1;
/// Marks our databases: SQLite's `application_id`, "EKMS" in ASCII.
pub(super) const APPLICATION_ID: i32 = 0x454b_4d53;
/// No value or statement is longer: the longest is a policy.
const MAX_VALUE_LEN: i32 = 1 << 20;
/// How long a command waits for another's read to end before it gives up.
const BUSY: Duration = Duration::from_secs(10);

/// SQLite's file header: <https://www.sqlite.org/fileformat2.html#the_database_header>.
const HEADER_LEN: usize = 100;
const MAGIC: &[u8; 16] = b"SQLite format 3\0";
const APPLICATION_ID_AT: usize = 68;

/// One statement for each object. An index that SQLite makes by itself has none.
const STATEMENTS: [&str; 5] = [
    "CREATE TABLE meta (id INTEGER PRIMARY KEY CHECK (id = 1), database BLOB NOT NULL, key_check BLOB NOT NULL, \
     sum BLOB NOT NULL) STRICT",
    "CREATE TABLE keys (id TEXT PRIMARY KEY, created INTEGER NOT NULL, description TEXT NOT NULL, \
     usage TEXT NOT NULL, spec TEXT NOT NULL, state TEXT NOT NULL, deletion INTEGER, policy TEXT NOT NULL, \
     sealed BLOB NOT NULL) STRICT, WITHOUT ROWID",
    "CREATE INDEX keys_by_deletion ON keys (deletion) WHERE deletion IS NOT NULL",
    "CREATE TABLE aliases (name TEXT PRIMARY KEY, target TEXT NOT NULL REFERENCES keys (id), \
     created INTEGER NOT NULL, updated INTEGER NOT NULL, sealed BLOB NOT NULL) STRICT, WITHOUT ROWID",
    "CREATE INDEX aliases_by_target ON aliases (target, name)",
];

/// The one row of the table `meta`.
#[derive(Debug)]
pub(super) struct Meta {
    pub(super) database: [u8; DATABASE_ID_LEN],
    pub(super) key_check: Vec<u8>,
    pub(super) sum: Vec<u8>,
}

/// Fills a new, empty database.
pub(super) fn fill(connection: &mut Connection, meta: &Meta) -> Result<(), StoreError> {
    let transaction = connection.transaction()?;
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", FORMAT)?;
    for statement in STATEMENTS {
        transaction.execute(statement, ())?;
    }
    transaction.execute(
        "INSERT INTO meta (id, database, key_check, sum) VALUES (1, ?, ?, ?)",
        (meta.database, &meta.key_check, &meta.sum),
    )?;
    transaction.commit()?;
    Ok(())
}

/// Reads the table `meta`.
pub(super) fn meta(connection: &Connection) -> Result<Meta, StoreError> {
    let row = connection.query_row("SELECT database, key_check, sum FROM meta WHERE id = 1", (), |row| {
        Ok(Meta { database: row.get(0)?, key_check: row.get(1)?, sum: row.get(2)? })
    });
    let meta = row.map_err(|error| match error {
        rusqlite::Error::QueryReturnedNoRows => StoreError::Damaged("its table `meta` is empty".to_owned()),
        other => other.into(),
    })?;
    if meta.key_check.len() != KEY_CHECK_LEN {
        return Err(StoreError::Damaged("its key check has the wrong length".to_owned()));
    }
    Ok(meta)
}

/// A connection that changes the database: what a change says is on the disk once it returns.
pub(super) fn connect_writer(path: &Path) -> Result<Connection, StoreError> {
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    // SQLite opens a file that it cannot write for reading.
    if connection.is_readonly(rusqlite::MAIN_DB)? {
        return Err(StoreError::ReadOnly);
    }
    let mode: String = connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if mode != "wal" {
        return Err(StoreError::Damaged(format!("its journal cannot be a write-ahead log but is `{mode}`")));
    }
    connection.pragma_update(None, "synchronous", "FULL")?;
    // What was deleted is overwritten in the file.
    connection.pragma_update_and_check(None, "secure_delete", true, |row| row.get::<_, i64>(0))?;
    Ok(connection)
}

/// A connection that only reads.
pub(super) fn connect_reader(path: &Path) -> Result<Connection, StoreError> {
    // Not opened for reading alone: after a crash, whoever comes first replays the log.
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.pragma_update(None, "query_only", true)?;
    Ok(connection)
}

/// A connection to a database that is being made, and that no other has open.
pub(super) fn connect_new(path: &Path) -> Result<Connection, StoreError> {
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    Ok(connection)
}

/// `path` is absolute and without symbolic links.
fn connect(path: &Path, access: OpenFlags) -> Result<Connection, StoreError> {
    let flags = access | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_NOFOLLOW;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    // The file may have been written by an enemy: nothing in it may act.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_TRIGGER, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_VIEW, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_ATTACH_CREATE, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_ATTACH_WRITE, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DML, false)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DQS_DDL, false)?;
    connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, MAX_VALUE_LEN)?;
    connection.set_limit(Limit::SQLITE_LIMIT_SQL_LENGTH, MAX_VALUE_LEN)?;
    connection.set_limit(Limit::SQLITE_LIMIT_ATTACHED, 0)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    Ok(connection)
}

/// Looks at a file before SQLite does: it must be private, and one of ours.
pub(super) fn check_file(path: &Path) -> Result<(), StoreError> {
    let file = private_file::open(path, OFlags::RDONLY)?;
    let failed = |error: io::Error| FileError::io("read", path, error);
    let length = file.metadata().map_err(failed)?.len();
    let mut header = [0; HEADER_LEN];
    let mut reader: &File = &file;
    match reader.read_exact(&mut header) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            return Err(StoreError::Damaged(format!("it has {length} bytes, which is less than a header")));
        }
        Err(error) => return Err(failed(error).into()),
    }
    let ours = APPLICATION_ID.to_be_bytes();
    let marked = header.get(APPLICATION_ID_AT..).is_some_and(|rest| rest.starts_with(&ours));
    if !header.starts_with(MAGIC) || !marked {
        return Err(StoreError::Foreign(path.to_owned()));
    }
    Ok(())
}

/// Refuses a database of a newer format, then one that is damaged or has objects that we did not make.
pub(super) fn check_database(connection: &Connection) -> Result<(), StoreError> {
    let format: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if format > FORMAT {
        return Err(StoreError::Newer { found: format });
    }
    if format < FORMAT {
        return Err(StoreError::Damaged(format!("its format has version {format}, which never was")));
    }
    let report: String = connection.query_row("PRAGMA integrity_check(1)", (), |row| row.get(0))?;
    if report != "ok" {
        return Err(StoreError::Damaged(report));
    }
    let orphans: i64 =
        connection.query_row("SELECT count(*) FROM pragma_foreign_key_check", (), |row| row.get(0))?;
    if orphans != 0 {
        return Err(StoreError::Damaged(format!("{orphans} aliases are of keys that are not there")));
    }
    check_objects(connection)
}

fn check_objects(connection: &Connection) -> Result<(), StoreError> {
    let mut statement =
        connection.prepare("SELECT sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\'")?;
    let mut found =
        statement.query_map((), |row| row.get::<_, Option<String>>(0))?.collect::<Result<Vec<_>, _>>()?;
    found.sort_unstable();
    let mut wanted = STATEMENTS.map(|statement| Some(statement.to_owned()));
    wanted.sort_unstable();
    if found != wanted {
        return Err(StoreError::Damaged("its tables are not those of this format".to_owned()));
    }
    Ok(())
}
