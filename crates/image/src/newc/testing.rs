//! Archives for tests, put together field by field, so that they can be wrong.

/// One entry; fields that stand for nothing are 0.
#[derive(Debug, Clone, Default)]
pub(crate) struct Member {
    pub(crate) path: Vec<u8>,
    pub(crate) mode: u32,
    pub(crate) content: Vec<u8>,
    pub(crate) inode: u32,
    pub(crate) links: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: u32,
    pub(crate) special: (u32, u32),
}

pub(crate) fn member(path: &str, mode: u32, content: impl AsRef<[u8]>) -> Member {
    Member { path: path.into(), mode, content: content.as_ref().to_vec(), links: 1, ..Member::default() }
}

/// The entries, without an end.
pub(crate) fn entries(members: &[Member]) -> Vec<u8> {
    let mut archive = Vec::new();
    for member in members {
        let Member { path, mode, content, inode, links, uid, gid, mtime, special } = member;
        archive.extend(
            format!(
                "070701{inode:08X}{mode:08X}{uid:08X}{gid:08X}{links:08X}{mtime:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}",
                content.len(),
                0,
                0,
                special.0,
                special.1,
                path.len() + 1,
                0
            )
            .bytes(),
        );
        archive.extend(path);
        archive.push(0);
        archive.resize(archive.len().next_multiple_of(4), 0);
        archive.extend(content);
        archive.resize(archive.len().next_multiple_of(4), 0);
    }
    archive
}

/// A whole archive.
pub(crate) fn archive(members: &[Member]) -> Vec<u8> {
    [entries(members), entries(&[member("TRAILER!!!", 0, "")])].concat()
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(bytes, 3).unwrap()
}
