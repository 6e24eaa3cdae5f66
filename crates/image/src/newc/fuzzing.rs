//! What the fuzz target and the test that replays its corpus both run.

use std::collections::HashSet;

use tar::EntryType;

use super::Limits;
use super::list::list;
use crate::extract::rootfs::write_ramdisk;

/// Small, so that a fuzzer meets them.
const LIMITS: Limits =
    Limits { unpacked_bytes: 1 << 20, entries: 1000, name_bytes: 64 << 10, zstd_window_log: 20 };

/// Takes bytes for a ramdisk, lists it, and makes a tar archive of the root folder in it.
///
/// # Panics
/// If a limit does not hold, or the archive holds a name that leads out of where it is unpacked: what a fuzzer looks for.
pub fn ramdisk(bytes: &[u8]) {
    let listing = list(bytes, LIMITS);
    let names: usize = listing.entries.iter().map(|listed| listed.entry.path.len()).sum();
    assert!(
        listing.entries.len() as u64 <= LIMITS.entries && names as u64 <= LIMITS.name_bytes,
        "too much was listed"
    );

    let mut archive = Vec::new();
    let written = write_ramdisk(&mut &*bytes, LIMITS, &mut archive);
    let Ok(report) = written else { return };
    assert!(listing.failure.is_none(), "what cannot be listed was written");
    let mut links = HashSet::new();
    let mut entries = 0;
    let mut read = tar::Archive::new(archive.as_slice());
    let members =
        read.entries().map(|members| members.map(|member| member.map(|member| check(&member, &mut links))));
    for member in members.into_iter().flatten() {
        assert!(matches!(member, Ok(true)), "a name leads out of the archive");
        entries += 1;
    }
    assert_eq!(entries, report.entries, "the archive holds something else than was said");
}

/// True if a member stays where it is put, whatever was unpacked before it.
fn check(member: &tar::Entry<'_, &[u8]>, links: &mut HashSet<Vec<u8>>) -> bool {
    let path = member.path_bytes();
    let path = path.strip_suffix(b"/").unwrap_or(&path).to_vec();
    let mut names = vec![path.clone()];
    match member.header().entry_type() {
        EntryType::Symlink => {
            links.insert(path);
        }
        EntryType::Link => names.extend(member.link_name_bytes().map(|name| name.to_vec())),
        _ => {
            links.remove(&path);
        }
    }
    names.iter().all(|name| stays(name, links))
}

fn stays(name: &[u8], links: &HashSet<Vec<u8>>) -> bool {
    let parts: Vec<&[u8]> = name.split(|byte| *byte == b'/').collect();
    let folders =
        (1..parts.len()).map(|count| parts.iter().take(count).copied().collect::<Vec<_>>().join(&b'/'));
    !name.starts_with(b"/")
        && !parts.contains(&&b".."[..])
        && !folders.into_iter().any(|folder| links.contains(&folder))
}
