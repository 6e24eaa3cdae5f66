//! Ramdisks and images put together field by field, so that tests know what is in them, hostile things included.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::eif::{crc32, image};

/// An entry of a ramdisk.
#[derive(Debug, Clone, Default)]
pub(crate) struct Member {
    pub(crate) path: String,
    pub(crate) mode: u32,
    pub(crate) content: Vec<u8>,
    pub(crate) inode: u32,
    pub(crate) links: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: u32,
    pub(crate) special: (u32, u32),
}

impl Member {
    /// A file of root's with mode 0644.
    pub(crate) fn file(path: &str, content: impl AsRef<[u8]>) -> Self {
        let content = content.as_ref().to_vec();
        Self { path: path.to_owned(), mode: 0o100_644, content, links: 1, ..Self::default() }
    }

    /// The same with other type and permissions.
    pub(crate) fn mode(self, mode: u32) -> Self {
        Self { mode, ..self }
    }
}

/// A cpio archive with its end.
pub(crate) fn archive(members: &[Member]) -> Vec<u8> {
    let end = Member { path: "TRAILER!!!".to_owned(), links: 1, ..Member::default() };
    let mut archive = Vec::new();
    for Member { path, mode, content, inode, links, uid, gid, mtime, special } in members.iter().chain([&end])
    {
        let fields = [
            *inode,
            *mode,
            *uid,
            *gid,
            *links,
            *mtime,
            u32::try_from(content.len()).unwrap(),
            0,
            0,
            special.0,
            special.1,
            u32::try_from(path.len() + 1).unwrap(),
            0,
        ];
        archive.extend(b"070701");
        fields.iter().for_each(|field| archive.extend(format!("{field:08x}").bytes()));
        for bytes in [[path.as_bytes(), &[0]].concat(), content.clone()] {
            archive.extend(bytes);
            archive.resize(archive.len().next_multiple_of(4), 0);
        }
    }
    archive
}

/// An image with a right checksum.
pub(crate) fn sound_image(sections: &[(u16, &[u8])]) -> Vec<u8> {
    let mut image = image(0, sections, 0);
    let crc = crc32(&image);
    image[544..548].copy_from_slice(&crc.to_be_bytes());
    image
}

/// What `program -c` makes of its input.
pub(crate) fn piped(program: &str, input: &[u8]) -> Vec<u8> {
    let mut command = Command::new(program);
    let mut child = command.arg("-c").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect(program);
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    output.stdout
}
