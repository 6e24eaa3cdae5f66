//! Extended attributes: which an image keeps, and the file in which it keeps them.
//!
//! A ramdisk cannot hold attributes. Those that programs rely on stand in the file `xattrs` of the application's ramdisk,
//! and our init sets them before it starts the application. A line for each, sorted by path and name:
//!
//! ```text
//! security.capability 0100000200040000000000000000000000000000 bin/ping
//! ```
//!
//! which is the attribute's name, its value in hexadecimal, and the path below the root folder, in which `\\` stands for a
//! backslash and `\n` for a line feed. The reader is `enclave_init::attributes`.

use std::collections::BTreeMap;

use crate::archive::Archive;
use crate::error::BuildError;
use crate::folder::to_path;

/// Attributes by name.
pub type Attributes = BTreeMap<String, Vec<u8>>;

/// What a program may do without being root's (capabilities(7)).
const CAPABILITIES: &str = "security.capability";

/// What programs note for themselves (xattr(7)).
const USER: &str = "user.";

/// The label that SELinux of the host has put on every file: it says nothing about the file itself, and the
/// guest kernel has no SELinux. It is left out without a word.
const HOST_LABEL: &str = "security.selinux";

/// Longest name of an attribute in bytes (`XATTR_NAME_MAX`, include/uapi/linux/limits.h).
const MAX_NAME: usize = 255;

/// Largest file of attributes: what our init reads (`enclave_init::files::MAX_FILE_BYTES`).
pub const MAX_FILE_BYTES: usize = 2 << 20;

/// What becomes of attributes that an image cannot keep.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Others {
    /// They are refused: what relies on them would fail in the guest.
    #[default]
    Refuse,
    /// They are left out.
    Drop,
}

/// Whether an image keeps an attribute. `Err` if it is neither kept nor left out.
pub(crate) fn keeps(name: &[u8], others: Others) -> Result<Option<&str>, ()> {
    let text = core::str::from_utf8(name).ok().filter(|name| is_plain(name));
    match text {
        Some(CAPABILITIES) => Ok(Some(CAPABILITIES)),
        Some(name) if name.starts_with(USER) => Ok(Some(name)),
        Some(HOST_LABEL) => Ok(None),
        _ if others == Others::Drop => Ok(None),
        _ => Err(()),
    }
}

fn is_plain(name: &str) -> bool {
    name.len() <= MAX_NAME && name.bytes().all(|byte| byte.is_ascii_graphic())
}

/// The file of an archive's attributes, for what lies below the folder `prefix`; none if there are no attributes.
///
/// # Errors
/// If it would be larger than init reads.
pub(crate) fn file(archive: &Archive, prefix: &[u8]) -> Result<Option<Vec<u8>>, BuildError> {
    let mut text = Vec::new();
    for (path, entry) in archive.entries() {
        let Some(path) = path.strip_prefix(prefix) else { continue };
        for (name, value) in &entry.attributes {
            line(&mut text, name, value, path.strip_prefix(b"/").unwrap_or(b"."));
        }
        if text.len() > MAX_FILE_BYTES {
            return Err(BuildError::TooManyAttributes(to_path(path)));
        }
    }
    Ok((!text.is_empty()).then_some(text))
}

fn line(text: &mut Vec<u8>, name: &str, value: &[u8], path: &[u8]) {
    text.extend_from_slice(name.as_bytes());
    text.push(b' ');
    text.extend_from_slice(hex::encode(value).as_bytes());
    text.push(b' ');
    for byte in path {
        match byte {
            b'\\' => text.extend_from_slice(br"\\"),
            b'\n' => text.extend_from_slice(br"\n"),
            other => text.push(*other),
        }
    }
    text.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::{Content, Entry};

    #[test]
    fn capabilities_and_user_attributes_are_kept_labels_left_out_and_others_refused() {
        assert_eq!(keeps(b"security.capability", Others::Refuse), Ok(Some("security.capability")));
        assert_eq!(keeps(b"user.note", Others::Drop), Ok(Some("user.note")));
        assert_eq!(keeps(b"security.selinux", Others::Refuse), Ok(None));
        for name in
            [&b"trusted.overlay.opaque"[..], b"security.ima", b"system.posix_acl_access", b"user", b"\xff"]
        {
            assert_eq!(keeps(name, Others::Refuse), Err(()), "{name:?}");
            assert_eq!(keeps(name, Others::Drop), Ok(None), "{name:?}");
        }
        for name in ["user.two words", "user.two\nlines"] {
            assert_eq!(keeps(name.as_bytes(), Others::Refuse), Err(()), "{name:?}");
        }
    }

    #[test]
    fn the_longest_name_is_kept_and_one_byte_more_refused() {
        let longest = format!("user.{}", "n".repeat(MAX_NAME - 5));
        assert_eq!(keeps(longest.as_bytes(), Others::Refuse), Ok(Some(longest.as_str())));
        assert_eq!(keeps(format!("{longest}n").as_bytes(), Others::Refuse), Err(()));
    }

    fn archive(entries: &[(&str, &str, usize)]) -> Archive {
        let mut archive = Archive::default();
        for (path, name, length) in entries {
            let mut entry = Entry::of_root(Content::Directory, 0o755);
            entry.attributes.insert((*name).to_owned(), vec![0xab; *length]);
            archive.insert(*path, entry).unwrap();
        }
        archive
    }

    #[test]
    fn every_attribute_has_a_line_and_no_path_breaks_it() {
        let archive = archive(&[
            ("rootfs/two\nlines", "user.a", 1),
            ("rootfs", "user.empty", 0),
            ("rootfs/back\\slash here", "security.capability", 2),
        ]);
        let expected = "user.empty  .\nsecurity.capability abab back\\\\slash here\nuser.a ab two\\nlines\n";
        assert_eq!(file(&archive, b"rootfs").unwrap().unwrap(), expected.as_bytes());
        assert_eq!(file(&Archive::default(), b"rootfs").unwrap(), None);
    }

    #[test]
    fn the_largest_file_is_written_and_one_byte_more_refused() {
        let longest = (MAX_FILE_BYTES - "user.a  a\n".len()) / 2;
        assert_eq!(
            file(&archive(&[("rootfs/a", "user.a", longest)]), b"rootfs").unwrap().unwrap().len(),
            MAX_FILE_BYTES
        );
        let one_more = archive(&[("rootfs/ab", "user.a", longest)]);
        assert!(matches!(file(&one_more, b"rootfs"), Err(BuildError::TooManyAttributes(_))));
    }
}
