//! Kernel modules that the image brings along.
//!
//! * `/modules/order` names files in `/modules`, one per line, loaded in that order. A distribution's kernel
//!   needs this: its vsock and NSM drivers are modules.
//! * `/nsm.ko` is AWS's way to bring the NSM driver, loaded after the others, since it needs their transport.
//!
//! Files may be compressed in any way that the kernel itself can undo. Both are removed once loaded.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use rustix::io::Errno;

use crate::failure::Failure;
use crate::files;

/// Flag of finit_module(2): the file is compressed, the kernel decompresses it (`MODULE_INIT_COMPRESSED_FILE`).
const COMPRESSED_FILE: libc::c_int = 4;

/// Most modules that a list may name.
pub const MAX_MODULES: usize = 256;

/// Loads what the image at `root` brings.
pub fn load_all(root: &Path) -> Result<(), Failure> {
    let folder = root.join("modules");
    let order = files::read(&folder.join("order"))?.unwrap_or_default();
    for name in parse_order(&order)? {
        load(&folder.join(name))?;
    }
    if folder.is_dir() {
        fs::remove_dir_all(&folder).map_err(|error| files::failed("cannot remove", &folder, &error))?;
    }
    let nsm = root.join("nsm.ko");
    if nsm.exists() {
        load(&nsm)?;
        fs::remove_file(&nsm).map_err(|error| files::failed("cannot remove", &nsm, &error))?;
    }
    Ok(())
}

/// The file names in a list, empty lines left out. A name is a plain file name: nothing outside the folder is loaded.
fn parse_order(content: &[u8]) -> Result<Vec<&str>, Failure> {
    let text = std::str::from_utf8(content).map_err(|_| Failure::new("/modules/order is not UTF-8"))?;
    let names: Vec<&str> = text.lines().filter(|name| !name.is_empty()).collect();
    if names.len() > MAX_MODULES {
        return Err(Failure::new(format!("/modules/order names more than {MAX_MODULES} modules")));
    }
    match names.iter().find(|name| name.contains(['/', '\0']) || matches!(**name, "." | "..")) {
        Some(name) => Err(Failure::new(format!("{name:?} in /modules/order is not a plain file name"))),
        None => Ok(names),
    }
}

fn load(path: &Path) -> Result<(), Failure> {
    let file = File::open(path).map_err(|error| files::failed("cannot open the module", path, &error))?;
    let flags = if is_compressed(&file) { COMPRESSED_FILE } else { 0 };
    match rustix::system::finit_module(&file, c"", flags) {
        // Already there: the list names it twice, or the kernel loaded it for another one.
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(Failure::system(format!("cannot load the module {}", path.display()), error)),
    }
}

/// Whether a file begins like xz, gzip or zstd; the name says nothing reliable (AWS's is always nsm.ko).
fn is_compressed(mut file: &File) -> bool {
    let mut magic = [0; 6];
    let read = file.read(&mut magic).unwrap_or(0);
    // finit_module(2) reads from the file's start whatever the offset is, so there is no need to seek back.
    let magic = magic.get(..read).unwrap_or_default();
    [&b"\xfd7zXZ\0"[..], b"\x1f\x8b", b"\x28\xb5\x2f\xfd"].iter().any(|known| magic.starts_with(known))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn compressed(content: &[u8]) -> bool {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content).unwrap();
        is_compressed(&File::open(file.path()).unwrap())
    }

    #[test]
    fn names_come_in_the_lists_order() {
        let names = parse_order(b"virtio_mmio.ko.xz\n\nvsock.ko\nnsm.ko").unwrap();
        assert_eq!(names, ["virtio_mmio.ko.xz", "vsock.ko", "nsm.ko"]);
        assert!(parse_order(b"").unwrap().is_empty());
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        for name in ["../evil.ko", "/evil.ko", "a/b.ko", ".", "..", "a\0b"] {
            let message = parse_order(name.as_bytes()).unwrap_err().to_string();
            assert!(message.ends_with("in /modules/order is not a plain file name"), "{message}");
        }
        assert!(parse_order(b"\xff").is_err());
    }

    #[test]
    fn the_longest_list_is_taken_and_a_longer_one_refused() {
        assert_eq!(parse_order("m\n".repeat(MAX_MODULES).as_bytes()).unwrap().len(), MAX_MODULES);
        assert!(parse_order("m\n".repeat(MAX_MODULES + 1).as_bytes()).is_err());
    }

    #[test]
    fn compression_is_told_by_content() {
        assert!(compressed(b"\xfd7zXZ\0...."));
        assert!(compressed(b"\x1f\x8b\x08"));
        assert!(compressed(b"\x28\xb5\x2f\xfd.."));
        assert!(!compressed(b"\x7fELF\x02\x01"));
        assert!(!compressed(b"\xfd7z"));
        assert!(!compressed(b""));
    }

    #[test]
    fn an_image_without_modules_is_fine_and_a_missing_one_is_named() {
        let root = tempfile::tempdir().unwrap();
        load_all(root.path()).unwrap();
        fs::create_dir(root.path().join("modules")).unwrap();
        fs::write(root.path().join("modules/order"), "vsock.ko\n").unwrap();
        let message = load_all(root.path()).unwrap_err().to_string();
        assert!(message.contains("modules/vsock.ko"), "{message}");
    }
}
