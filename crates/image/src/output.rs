//! The image file: it appears complete or not at all.
//!
//! While it is written it has no name, so that nothing is left of it however the process ends. Only file systems
//! without nameless files (`O_TMPFILE`, open(2)) give it one at once.

use std::fs::{File, Permissions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, open};
use rustix::io::Errno;
use tempfile::NamedTempFile;

use crate::error::BuildError;

/// What a name begins with that the file has before it is complete.
const PREFIX: &str = ".enclave-image-";

/// Permissions, less what the user's umask takes away.
const PERMISSIONS: u32 = 0o666;

/// A file being written.
#[derive(Debug)]
pub(crate) struct Output {
    state: State,
    folder: PathBuf,
}

#[derive(Debug)]
enum State {
    Nameless(File),
    Named(NamedTempFile),
}

impl Output {
    /// Begins a file that is to lie in `folder`.
    ///
    /// # Errors
    /// If nothing can be written there.
    pub(crate) fn begin(folder: &Path) -> Result<Self, BuildError> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let state = match open(folder, flags, Mode::from_raw_mode(PERMISSIONS)) {
            Ok(descriptor) => State::Nameless(descriptor.into()),
            // What file systems and kernels answer that know no such files.
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOENT) => State::Named(
                builder()
                    .permissions(Permissions::from_mode(PERMISSIONS))
                    .tempfile_in(folder)
                    .map_err(BuildError::file(folder, STEP))?,
            ),
            Err(error) => return Err(BuildError::file(folder, STEP)(error)),
        };
        Ok(Self { state, folder: folder.to_owned() })
    }

    /// The file.
    pub(crate) fn file(&mut self) -> &mut File {
        match &mut self.state {
            State::Nameless(file) => file,
            State::Named(file) => file.as_file_mut(),
        }
    }

    /// Puts the file in the place of `path`, which lies in the folder.
    ///
    /// # Errors
    /// If it cannot be stored or put there. Nothing is left of it then.
    pub(crate) fn persist(mut self, path: &Path) -> Result<(), BuildError> {
        // Before it has a name: storing takes a while.
        self.file().sync_all().map_err(BuildError::Output)?;
        let named = match self.state {
            State::Named(file) => file,
            State::Nameless(file) => {
                let own = format!("/proc/self/fd/{}", file.as_raw_fd());
                let mut file = Some(file);
                // A link cannot replace a file that exists; a rename can.
                builder()
                    .make_in(&self.folder, |name| {
                        linkat(CWD, &own, CWD, name, AtFlags::SYMLINK_FOLLOW)?;
                        file.take().ok_or_else(|| Errno::EXIST.into())
                    })
                    .map_err(BuildError::file(&self.folder, STEP))?
            }
        };
        named
            .persist(path)
            .map(drop)
            .map_err(|error| BuildError::file(path, "putting the image into place")(error.error))
    }
}

const STEP: &str = "creating the image";

fn builder() -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(PREFIX);
    builder
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let names = std::fs::read_dir(folder).unwrap();
        names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_file_has_no_name_before_it_is_complete() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("image");
        std::fs::write(&path, "before").unwrap();
        let mut output = Output::begin(folder.path()).unwrap();
        output.file().write_all(b"after").unwrap();
        assert_eq!(names(folder.path()), ["image"]);
        output.persist(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "after");
        assert_eq!(names(folder.path()), ["image"]);
    }

    #[test]
    fn where_it_cannot_be_put_nothing_is_left() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("image")).unwrap();
        let output = Output::begin(folder.path()).unwrap();
        assert!(output.persist(&folder.path().join("image")).is_err());
        assert_eq!(names(folder.path()), ["image"]);
        assert!(Output::begin(&folder.path().join("missing")).is_err());
    }

    #[test]
    fn a_file_system_without_nameless_files_gives_it_a_name() {
        let folder = tempfile::tempdir().unwrap();
        let named = builder().tempfile_in(folder.path()).unwrap();
        let mut output = Output { state: State::Named(named), folder: folder.path().to_owned() };
        output.file().write_all(b"image").unwrap();
        output.persist(&folder.path().join("image")).unwrap();
        assert_eq!(names(folder.path()), ["image"]);
    }
}
