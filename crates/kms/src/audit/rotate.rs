//! A new file for a log. Nothing is copied or removed: the old file gets another name, and the new one goes on with its chain.

use std::fs::File;
use std::io::{BufReader, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use thiserror::Error;

use super::{AuditError, AuditLog, CONTINUED, Entry, Summary, VerifyError, verify};
use crate::store::FileError;
use crate::store::private_file;

/// Digits of the number in the old file's name, so that names sort as the files follow each other.
const DIGITS: usize = 12;

/// A log that goes on in a new file.
#[derive(Debug)]
pub struct Rotated {
    /// The old file: the log's name, a dot, and the number of the first entry in it.
    pub archive: PathBuf,
    /// What is in it.
    pub summary: Summary,
}

/// Why a log has no new file. Advice stands behind a semicolon.
#[derive(Debug, Error)]
pub enum RotateError {
    /// The log could not be opened; a service may have it open.
    #[error(transparent)]
    Log(#[from] AuditError),
    /// One of the files could not be used.
    #[error(transparent)]
    File(#[from] FileError),
    /// The old file is not what was written.
    #[error("{}: {error}", path.display())]
    NotWhole {
        /// Which one.
        path: PathBuf,
        /// What is wrong with it.
        error: VerifyError,
    },
    /// There is nothing that could be put away.
    #[error("the log {} has no entries; it can go on as it is", .0.display())]
    Empty(PathBuf),
}

/// Puts the log at `path` away under another name, and begins a new one that names the last entry of the old.
///
/// Whatever interrupts this, there is a log at `path`, the old one or the new one, and the next attempt is not hindered.
///
/// # Errors
/// If a service has the log open, it is not what was written, or a file cannot be made.
pub fn rotate(path: &Path) -> Result<Rotated, RotateError> {
    // No service writes as long as this is held, and one that has opened the old file by then looks again where that is. Opened here,
    // as AuditLog::open makes a log where there is none.
    let held = AuditLog::of(private_file::open(path, OFlags::RDWR | OFlags::APPEND)?, path)?;
    let mut old = &held.disk.0;
    old.seek(SeekFrom::Start(0)).map_err(|error| FileError::io("read", path, error))?;
    let failed = |error| RotateError::NotWhole { path: path.to_owned(), error };
    let summary = verify(BufReader::new(old), None).map_err(failed)?;
    if summary.entries == 0 {
        return Err(RotateError::Empty(path.to_owned()));
    }
    // The first number, not the last: it is the same at each attempt, whatever was written in between.
    let first = summary.continues.as_ref().map_or(0, |head| head.number).saturating_add(1);
    let archive = private_file::beside(path, &format!(".{first:0DIGITS$}"));
    let name = archive.file_name().unwrap_or_default().to_string_lossy();
    let reason = format!("goes on behind entry {}, the last of {name}", summary.head);
    let number = summary.head.number.saturating_add(1);
    let mut line = Entry::of_the_log(CONTINUED, &reason).line(number, &summary.head.hash)?;
    line.push(b'\n');
    // The new file names the old one's last entry: after a power failure, too, that has to be there.
    old.sync_all().map_err(|error| FileError::io("write to the disk", path, error))?;
    let workplace = private_file::workplace(path)?;
    let new = workplace.path().join("log");
    private_file::write_new(&new, &line)?;
    keep(old, path, &archive)?;
    private_file::rename(&new, path)?;
    Ok(Rotated { archive, summary })
}

/// Gives the old file its second name. That it has it already is what an interrupted attempt left.
fn keep(old: &File, path: &Path, archive: &Path) -> Result<(), FileError> {
    match private_file::link(path, archive) {
        Err(FileError::Io { source, .. })
            if source.kind() == std::io::ErrorKind::AlreadyExists && private_file::is_at(old, archive)? =>
        {
            Ok(())
        }
        kept => kept,
    }
}
