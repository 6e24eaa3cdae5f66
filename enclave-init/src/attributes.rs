//! Extended attributes of the image's files, which a ramdisk cannot hold: the builder leaves them in a file, and they are set
//! before the application starts.
//!
//! `/xattrs` has a line for each, `NAME VALUE PATH`: the value in hexadecimal, the path below the root folder, in which `\\`
//! stands for a backslash and `\n` for a line feed. AWS's init ignores the file.

use std::ffi::{CStr, CString};
use std::path::Path;

use rustix::fs::{XattrFlags, lsetxattr};

use crate::failure::Failure;
use crate::files;

/// The file at the root of the initial file system.
const FILE: &str = "xattrs";

/// An attribute to be set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribute {
    name: CString,
    value: Vec<u8>,
    /// Relative to the root folder.
    path: CString,
}

/// Reads and removes the file under `root` (the root of the initial file system).
pub fn take(root: &Path) -> Result<Vec<Attribute>, Failure> {
    let content = files::take(&root.join(FILE))?.unwrap_or_default();
    let body = content.strip_suffix(b"\n").unwrap_or(&content);
    if body.is_empty() {
        return Ok(Vec::new());
    }
    let lines = body.split(|&byte| byte == b'\n').enumerate();
    lines
        .map(|(index, line)| {
            parse(line).ok_or_else(|| {
                Failure::new(format!("line {} of /{FILE} is not an attribute", index.saturating_add(1)))
            })
        })
        .collect()
}

/// Sets attributes of files below the working directory, which is the root of the application. Links are not followed.
pub fn set(attributes: &[Attribute]) -> Result<(), Failure> {
    for Attribute { name, value, path } in attributes {
        lsetxattr(path.as_c_str(), name.as_c_str(), value, XattrFlags::empty()).map_err(|error| {
            let (name, path) = (name.to_string_lossy(), path.to_string_lossy());
            Failure::system(format!("cannot set the attribute {name} of {path}"), error)
        })?;
    }
    Ok(())
}

fn parse(line: &[u8]) -> Option<Attribute> {
    let mut fields = line.splitn(3, |&byte| byte == b' ');
    let name = CString::new(fields.next().filter(|name| !name.is_empty())?).ok()?;
    let value = hexadecimal(fields.next()?)?;
    let path = unescape(fields.next().filter(|path| !path.is_empty())?)?;
    inside(&path).then_some(Attribute { name, value, path })
}

/// The builder writes nothing else; an attribute of another file is a mistake that shall be seen.
fn inside(path: &CStr) -> bool {
    let path = path.to_bytes();
    !path.starts_with(b"/") && path.split(|&byte| byte == b'/').all(|name| name != b"..")
}

fn hexadecimal(text: &[u8]) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_chunks::<2>();
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let bytes = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?));
    if rest.is_empty() { bytes.collect() } else { None }
}

fn unescape(text: &[u8]) -> Option<CString> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.iter();
    while let Some(&byte) = rest.next() {
        bytes.push(match byte {
            b'\\' => match rest.next()? {
                b'\\' => b'\\',
                b'n' => b'\n',
                _ => return None,
            },
            other => other,
        });
    }
    CString::new(bytes).ok()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    fn taken(content: &[u8]) -> Result<Vec<Attribute>, Failure> {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join(FILE), content).unwrap();
        let taken = take(root.path());
        assert!(!root.path().join(FILE).exists());
        taken
    }

    fn attribute(name: &CStr, value: &[u8], path: &CStr) -> Attribute {
        Attribute { name: name.into(), value: value.to_vec(), path: path.into() }
    }

    #[test]
    fn every_line_is_an_attribute_whatever_its_path_holds() {
        let content =
            b"security.capability 0100ff bin/ping\nuser.a  two words\nuser.b 0a back\\\\slash\\nline\n";
        let expected = [
            attribute(c"security.capability", &[1, 0, 0xff], c"bin/ping"),
            attribute(c"user.a", &[], c"two words"),
            attribute(c"user.b", b"\n", c"back\\slash\nline"),
        ];
        assert_eq!(taken(content).unwrap(), expected);
    }

    #[test]
    fn a_missing_and_an_empty_file_hold_none() {
        assert_eq!(take(tempfile::tempdir().unwrap().path()).unwrap(), []);
        assert_eq!(taken(b"").unwrap(), []);
        assert_eq!(taken(b"\n").unwrap(), []);
    }

    #[test]
    fn what_is_no_attribute_is_refused_by_its_line() {
        for line in [
            &b"user.a"[..],
            b"user.a 00",
            b"user.a 00 ",
            b" 00 path",
            b"user.a 0 path",
            b"user.a 0g path",
            b"user.a +1 path",
            b"user.a 00 /etc/passwd",
            b"user.a 00 a/../../b",
            b"user.a 00 ..",
            b"user.a 00 a\\",
            b"user.a 00 a\\t",
            b"user.a 00 a\0b",
            b"us\0er.a 00 a",
            b"",
        ] {
            let content = [b"user.a 00 first\n", line, b"\nuser.a 00 third\n"].concat();
            assert_eq!(
                taken(&content).unwrap_err().to_string(),
                "line 2 of /xattrs is not an attribute",
                "{line:?}"
            );
        }
    }

    #[test]
    fn an_attribute_of_a_missing_file_is_an_error_that_names_it() {
        let failure = set(&[attribute(c"user.a", b"", c"no/such/file")]).unwrap_err().to_string();
        assert!(failure.starts_with("cannot set the attribute user.a of no/such/file: "), "{failure}");
    }

    proptest! {
        #[test]
        fn no_content_makes_it_panic(content: Vec<u8>) {
            if let Ok(attributes) = taken(&content) {
                prop_assert!(attributes.iter().all(|attribute| inside(&attribute.path)));
            }
        }
    }
}
