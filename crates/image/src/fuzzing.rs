//! The bodies of this crate's fuzz targets: what whoever made a container image says. The same bodies replay the corpora in
//! ordinary tests.
//!
//! - [`layers`]: tar layers applied one after the other.
//! - [`layout`]: index, manifest and configuration of a layout, and the manifest of `docker save`.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::panic,
    reason = "test code: a failed assumption is a failed test"
)]

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use rustix::fs::{MemfdFlags, memfd_create};
use tar::Header;

use crate::archive::{Archive, Content};
use crate::attributes::{self, Others};
use crate::container::{ContainerImage, Overrides, Selection, open_docker_archive, open_layout};
use crate::cpio;
use crate::digest::Digest;
use crate::extent::{Extent, Source};
use crate::kernel::Architecture;
use crate::layer::apply::{Layers, Whiteouts};
use crate::layer::members::Reader;
use crate::limits::Limits;

/// Bounds that small inputs reach.
const SMALL: Limits = Limits {
    unpacked: 1 << 20,
    layers: 4,
    entries: 60,
    names: 8 << 10,
    attributes: 4 << 10,
    document: 16 << 10,
    nesting: 3,
    manifests: 8,
};

/// Bytes of a tar header, and what members are padded to.
const BLOCK: usize = 512;

/// Takes the packets of an input for layers; their checksums are mended, so that a change gets past them. Returns whether all
/// could be applied.
pub fn layers(input: &[u8]) -> bool {
    let mut archive = Archive::default();
    archive.directory("root").expect("a short path");
    let mut layers = Layers::new(&mut archive, "root", &SMALL, Whiteouts::Apply);
    let mut applied = true;
    for packet in corpus::packets(input).take(SMALL.layers) {
        let bytes = memory_file(&mended(packet));
        let extent = Extent::whole(Source::new(bytes, "layer").expect("a file"));
        let reader = Reader {
            name: "layer",
            archive: &extent,
            limits: &SMALL,
            others: if packet.len() % 2 == 0 { Others::Refuse } else { Others::Drop },
            must_end: false,
        };
        if layers.apply(&reader).is_err() {
            applied = false;
            break;
        }
    }
    // Also what was applied before an error must be a tree.
    check_tree(&archive);
    applied
}

fn check_tree(archive: &Archive) {
    assert!(archive.entries().count() <= SMALL.entries + 1, "more entries than allowed");
    let mut names = 0;
    for (path, entry) in archive.entries() {
        names += path.len() - "root".len();
        let mut parts = path.split(|byte| *byte == b'/');
        assert_eq!(parts.next(), Some(&b"root"[..]), "an entry outside the root");
        assert!(parts.all(|part| !matches!(part, b"" | b"." | b"..") && !part.contains(&0)), "{path:?}");
        if let Some(slash) = path.iter().rposition(|byte| *byte == b'/') {
            let folder = archive.get(&path[..slash]).map(|folder| &folder.content);
            assert!(matches!(folder, Some(Content::Directory)), "{path:?} is in no folder");
        }
        assert!(entry.permissions <= 0o7777);
        assert!(entry.link.is_none() || !matches!(entry.content, Content::Directory | Content::Symlink(_)));
    }
    // The slashes between root and path are not counted.
    assert!(names as u64 <= SMALL.names + SMALL.entries as u64, "more bytes of names than allowed");
    let written = cpio::write(archive, std::io::sink()).expect("what was listed can be written");
    assert_eq!(written, cpio::length(archive));
    let _ = attributes::file(archive, b"root");
}

/// The checksum of every header as it should be, as far as the sizes in them lead to further ones.
fn mended(archive: &[u8]) -> Vec<u8> {
    let mut archive = archive.to_vec();
    let mut at = 0_usize;
    while let Some(block) = archive.get_mut(at..at.saturating_add(BLOCK)) {
        let mut header = Header::new_old();
        header.as_mut_bytes().copy_from_slice(block);
        if block.iter().any(|byte| *byte != 0) {
            header.set_cksum();
            block.copy_from_slice(header.as_bytes());
        }
        let size = header.entry_size().ok().and_then(|size| usize::try_from(size).ok()).unwrap_or(0);
        let content = size.checked_next_multiple_of(BLOCK).unwrap_or(0);
        at = at.saturating_add(BLOCK).saturating_add(content);
    }
    archive
}

/// Takes the packets of an input for the parts of an image: the index, the manifest of `docker save`, and blobs. In
/// each, `@2` stands for the digest of the third part and `#2` for its length, so that changed blobs are still found; parts name later
/// ones alone. Returns
/// whether there is an image in it, read as layout and as Docker's archive.
pub fn layout(input: &[u8]) -> (bool, bool) {
    let mut parts: Vec<Vec<u8>> = corpus::packets(input).take(8).map(<[u8]>::to_vec).collect();
    parts.resize(parts.len().max(2), Vec::new());
    for later in (1..parts.len()).rev() {
        let (digest, length) = (Digest::of(&parts[later]).hex(), parts[later].len().to_string());
        for part in parts.iter_mut() {
            replace(part, &format!("@{later}"), &digest);
            replace(part, &format!("#{later}"), &length);
        }
    }
    let mut archive = tar::Builder::new(Vec::new());
    let mut add = |name: String, bytes: &[u8]| {
        let mut header = Header::new_gnu();
        header.set_size(bytes.len() as u64);
        archive.append_data(&mut header, name, bytes).expect("memory takes everything");
    };
    add("index.json".to_owned(), &parts[0]);
    add("manifest.json".to_owned(), &parts[1]);
    for part in &parts[2..] {
        add(format!("blobs/sha256/{}", Digest::of(part).hex()), part);
    }
    let file = memory_file(&archive.into_inner().expect("memory takes everything"));
    let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    let mut found = (false, false);
    for tag in [None, Some("name".to_owned())] {
        let selection = Selection {
            architecture: Architecture::X86_64,
            tag,
            limits: SMALL,
            temporary: std::env::temp_dir(),
        };
        found.0 |= open_layout(&path, &selection).is_ok_and(|image| check_image(&image));
        found.1 |= open_docker_archive(&path, &selection).is_ok_and(|image| check_image(&image));
    }
    found
}

fn check_image(image: &ContainerImage) -> bool {
    assert!(image.layers.len() <= SMALL.layers);
    assert!(image.layers.iter().all(|layer| layer.diff_id.is_some()), "a layer that nothing vouches for");
    let _ = (image.application(&Overrides::default()), image.docker_info(), image.name());
    true
}

fn replace(bytes: &mut Vec<u8>, from: &str, to: &str) {
    if let Ok(text) = std::str::from_utf8(bytes)
        && text.contains(from)
    {
        *bytes = text.replace(from, to).into_bytes();
    }
}

fn memory_file(bytes: &[u8]) -> File {
    let descriptor = memfd_create("fuzzing", MemfdFlags::CLOEXEC).expect("memory");
    let mut file = File::from(descriptor);
    file.write_all(bytes).expect("memory takes everything");
    file
}
