//! Small files of the image: read within a limit, removed once read.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use rustix::io::Errno;

use crate::failure::Failure;

/// Largest file that init reads. The kernel refuses arguments and environments of this size anyway
/// (`ARG_MAX`, 2 MiB by default), and account files are far smaller.
pub const MAX_FILE_BYTES: u64 = 2 * 1024 * 1024;

/// Reads a file of at most [`MAX_FILE_BYTES`]; a missing file is `None`.
pub fn read(path: &Path) -> Result<Option<Vec<u8>>, Failure> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if is_missing(&error) => return Ok(None),
        Err(error) => return Err(failed("cannot open", path, &error)),
    };
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| failed("cannot read", path, &error))?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > MAX_FILE_BYTES {
        return Err(Failure::new(format!("{} is larger than {MAX_FILE_BYTES} bytes", path.display())));
    }
    Ok(Some(bytes))
}

/// Reads a file as [`read`] does and removes it: what only init needs shall not take the guest's memory.
pub fn take(path: &Path) -> Result<Option<Vec<u8>>, Failure> {
    let bytes = read(path)?;
    if bytes.is_some() {
        fs::remove_file(path).map_err(|error| failed("cannot remove", path, &error))?;
    }
    Ok(bytes)
}

/// A failure of the standard library's file functions.
pub fn failed(what: &str, path: &Path, error: &io::Error) -> Failure {
    let cause = Errno::from_io_error(error).unwrap_or(Errno::IO);
    Failure::system(format!("{what} {}", path.display()), cause)
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_file_is_none_and_a_taken_one_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cmd");
        assert_eq!(take(&path).unwrap(), None);
        fs::write(&path, b"/app\n").unwrap();
        assert_eq!(take(&path).unwrap().unwrap(), b"/app\n");
        assert!(!path.exists());
    }

    #[test]
    fn the_limit_itself_is_read_and_one_byte_more_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("env");
        let file = File::create(&path).unwrap();
        file.set_len(MAX_FILE_BYTES).unwrap();
        assert_eq!(read(&path).unwrap().unwrap().len() as u64, MAX_FILE_BYTES);
        file.set_len(MAX_FILE_BYTES + 1).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("larger than 2097152 bytes"));
    }

    #[test]
    fn a_folder_in_a_files_place_is_an_error_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let message = read(folder.path()).unwrap_err().to_string();
        assert!(message.starts_with("cannot read /"), "{message}");
    }
}
