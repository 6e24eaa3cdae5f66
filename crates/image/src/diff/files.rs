//! What differs between the files of two ramdisks.

use std::collections::HashMap;

use serde::Serialize;

use super::{Pair, RamdiskDifference};
use crate::newc::Entry;
use crate::newc::list::{Listed, Listing};

/// What differs about a file, the most telling first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum FileChange {
    /// Only the first image has it.
    OnlyInA,
    /// Only the second image has it.
    OnlyInB,
    /// It is something else: a file where a folder was.
    Type,
    /// Its content.
    Content,
    /// What a symbolic link says.
    Target,
    /// Its permissions.
    Mode,
    /// Its owner.
    Owner,
    /// Its group.
    Group,
    /// Which device it is.
    Device,
    /// How many names it has.
    Links,
    /// When it was last changed.
    Mtime,
    /// Its number, or the device it was on.
    Inode,
}

/// A file that differs, and one thing that does; a file with several differences comes several times in a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct FileDifference {
    /// Its path in the ramdisk.
    pub path: String,
    /// What differs about it.
    pub change: FileChange,
    /// The values, unless the change says all.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub values: Option<Pair<String>>,
}

/// A path, and the how manieth entry of that path it is: an archive may have several.
type Key<'l> = (&'l [u8], usize);

/// Compares two ramdisks entry by entry.
pub(super) fn compare(a: &Listing, b: &Listing) -> RamdiskDifference {
    let (keyed_a, keyed_b) = (keyed(a), keyed(b));
    let by_key_a: HashMap<Key<'_>, &Listed> = keyed_a.iter().copied().collect();
    let by_key_b: HashMap<Key<'_>, &Listed> = keyed_b.iter().copied().collect();
    let mut list = Vec::new();
    for (key, listed) in &keyed_a {
        match by_key_b.get(key) {
            Some(other) => list.extend(entry(listed, other)),
            None => list.push(only(listed, FileChange::OnlyInA)),
        }
    }
    let only_in_b = keyed_b.iter().filter(|(key, _)| !by_key_a.contains_key(key));
    list.extend(only_in_b.map(|(_, listed)| only(listed, FileChange::OnlyInB)));
    // Stable: files of one kind of change stay in the archive's order.
    list.sort_by_key(|difference| difference.change);

    let common = |keys: &[(Key<'_>, &Listed)], other: &HashMap<Key<'_>, &Listed>| -> Vec<String> {
        let common = keys.iter().filter(|(key, _)| other.contains_key(key));
        common.map(|(_, listed)| listed.entry.display()).collect()
    };
    let orders = common(&keyed_a, &by_key_b).into_iter().zip(common(&keyed_b, &by_key_a));
    let order = orders.into_iter().find(|(a, b)| a != b).map(|(a, b)| Pair { a, b });

    let packed = |listing: &Listing| {
        let names: Vec<&str> = listing.compressions.iter().map(|compression| compression.name()).collect();
        names.join(", ")
    };
    let compression = Pair::if_different(packed(a), packed(b));
    let reason = |listing: &Listing| listing.failure.as_ref().map(ToString::to_string);
    let unread = match (reason(a), reason(b)) {
        (None, None) => None,
        (a, b) => Some(Pair { a, b }),
    };
    let only_packing = list.is_empty() && order.is_none() && compression.is_none() && unread.is_none();
    RamdiskDifference { compression, unread, order, list, only_packing }
}

fn keyed(listing: &Listing) -> Vec<(Key<'_>, &Listed)> {
    let mut seen: HashMap<&[u8], usize> = HashMap::new();
    let keyed = listing.entries.iter().map(|listed| {
        let times = seen.entry(&listed.entry.path).or_default();
        *times = times.saturating_add(1);
        ((listed.entry.path.as_slice(), *times), listed)
    });
    keyed.collect()
}

fn only(listed: &Listed, change: FileChange) -> FileDifference {
    FileDifference { path: listed.entry.display(), change, values: None }
}

/// What differs between two entries of the same path.
fn entry(a: &Listed, b: &Listed) -> Vec<FileDifference> {
    let field = |change, value: fn(&Listed) -> String| (change, value(a), value(b));
    let fields = [
        field(FileChange::Type, |listed| kind(&listed.entry).to_owned()),
        field(FileChange::Content, content),
        field(FileChange::Target, |listed| {
            String::from_utf8_lossy(listed.entry.target.as_deref().unwrap_or_default()).into_owned()
        }),
        field(FileChange::Mode, |listed| format!("{:04o}", listed.entry.permissions())),
        field(FileChange::Owner, |listed| listed.entry.uid.to_string()),
        field(FileChange::Group, |listed| listed.entry.gid.to_string()),
        field(FileChange::Device, |listed| {
            let (major, minor) = listed.entry.special;
            format!("{major}:{minor}")
        }),
        field(FileChange::Links, |listed| listed.entry.links.to_string()),
        field(FileChange::Mtime, |listed| listed.entry.mtime.to_string()),
        field(FileChange::Inode, |listed| {
            let (major, minor) = listed.entry.device;
            if (major, minor) == (0, 0) {
                return listed.entry.inode.to_string();
            }
            format!("{} on {major}:{minor}", listed.entry.inode)
        }),
    ];
    let different = fields.into_iter().filter(|(_, a, b)| a != b);
    different
        .map(|(change, value_a, value_b)| FileDifference {
            path: a.entry.display(),
            change,
            values: Some(Pair { a: value_a, b: value_b }),
        })
        .collect()
}

fn content(listed: &Listed) -> String {
    listed.digest.map_or_else(String::new, |digest| {
        format!("{} bytes, SHA-384 {}", listed.entry.size, hex::encode(digest))
    })
}

fn kind(entry: &Entry) -> &'static str {
    entry.kind().name()
}
