//! `enclave eif diff`: why two images have different PCRs.

use std::path::Path;

use eif::describe::MeasurementReport;
use image::diff::{
    Details, Difference, FileChange, FileDifference, Image, KeyDifference, Pair, RamdiskDifference,
    SectionFacts, differences,
};
use serde::Serialize;

use crate::args::EifDiffArgs;
use crate::error::Result;
use crate::image_file::{look_into, measure};
use crate::output::{self, plural, printable, tell};

/// Exit status if the PCRs differ, as diff has it.
const STATUS_DIFFERENT: u8 = 1;
/// Exit status if something went wrong.
const STATUS_TROUBLE: u8 = 2;
/// Files told of one ramdisk, for each kind of change; JSON has them all.
const FILES_TOLD: usize = 12;
/// Keys told of the metadata.
const KEYS_TOLD: usize = 20;
/// Characters told of a value.
const VALUE_TOLD: usize = 300;

/// Compares two files; the value is the exit status.
pub(super) fn diff(args: &EifDiffArgs) -> Result<u8> {
    compare(args).map_err(|failure| failure.with_status(STATUS_TROUBLE))
}

fn compare(args: &EifDiffArgs) -> Result<u8> {
    let (a, b) = (image(&args.a)?, image(&args.b)?);
    let report = Report {
        same: a.loaded.measurements == b.loaded.measurements,
        a: Measured::new(&args.a, &a),
        b: Measured::new(&args.b, &b),
        differences: differences(&a, &b),
    };
    output::print(args.output.format, &report, Report::text)?;
    Ok(if report.same { 0 } else { STATUS_DIFFERENT })
}

fn image(path: &Path) -> Result<Image> {
    let mut loaded = measure(path)?;
    if !loaded.checksum.matches() {
        tell(format_args!(
            "warning: the checksum of {} is wrong: it is damaged, and would not boot",
            printable(&path.display().to_string())
        ));
    }
    let certificate = loaded.signature.as_deref().map(eif::signature::first_entry);
    loaded.measurements.pcr8 = certificate.and_then(|entry| Some(entry.ok()?.certificate().ok()?.pcr8()));
    Ok(Image { loaded, contents: look_into(path, true)? })
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Report {
    /// The PCRs are; the files need not be.
    same: bool,
    a: Measured,
    b: Measured,
    differences: Vec<Difference>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Measured {
    path: String,
    measurements: MeasurementReport,
}

impl Measured {
    fn new(path: &Path, image: &Image) -> Self {
        Self {
            path: path.display().to_string(),
            measurements: MeasurementReport(image.loaded.measurements.clone()),
        }
    }
}

impl Report {
    /// One part for each register, then what moves none.
    fn text(&self) -> String {
        let mut text = format!("A: {}\nB: {}\n", printable(&self.a.path), printable(&self.b.path));
        let (a, b) = (&self.a.measurements.0, &self.b.measurements.0);
        if self.same {
            text.push_str("\nThe PCRs are the same.\n");
        } else if a.pcr0 != b.pcr0 {
            text.push_str("\nPCR0 differs: it measures all that PCR1 and PCR2 measure.\n");
        }
        let parts = [
            (1, "PCR1 differs (kernel, command line, first ramdisk):"),
            (2, "PCR2 differs (the other ramdisks):"),
            (8, "PCR8 differs (the signing certificate):"),
            (0, "Only PCR0 differs for:"),
        ];
        let mut told = vec![false; self.differences.len()];
        for (register, title) in parts {
            let mut part = String::new();
            for (difference, told) in self.differences.iter().zip(&mut told) {
                if !*told && difference.registers.contains(&register) {
                    *told = true;
                    part.push_str(&lines(difference));
                }
            }
            if !part.is_empty() {
                text.push_str(&format!("\n{title}\n{part}"));
            }
        }
        let rest = self.differences.iter().zip(&told).filter(|(_, told)| !**told);
        let rest: String = rest.map(|(difference, _)| lines(difference)).collect();
        match (rest.is_empty(), self.differences.is_empty()) {
            (false, _) => text.push_str(&format!("\nNo PCR differs for:\n{rest}")),
            (true, true) => text.push_str("Nothing in them differs.\n"),
            _ => {}
        }
        text
    }
}

/// A difference as indented lines.
fn lines(difference: &Difference) -> String {
    let mut text = format!("  {}{}\n", difference.section, sizes(difference.data.as_ref()));
    match &difference.details {
        None => {}
        Some(Details::Kernel(Pair { a, b })) => {
            let version = |version: &Option<String>| version.clone().unwrap_or_else(|| "not told".to_owned());
            let (a, b) = (version(a), version(b));
            let note = if a == b { ", built differently" } else { "" };
            text.push_str(&format!("    version {}{note}\n", change(&a, &b)));
        }
        Some(Details::Text(Pair { a, b })) => {
            text.push_str(&format!("    A: {}\n    B: {}\n", value(a), value(b)));
        }
        Some(Details::Keys(keys)) => text.push_str(&key_lines(keys)),
        Some(Details::Files(files)) => text.push_str(&ramdisk_lines(files)),
    }
    text
}

fn sizes(data: Option<&Pair<Option<SectionFacts>>>) -> String {
    match data {
        Some(Pair { a: Some(a), b: Some(b) }) if a.size == b.size => format!(" ({} bytes in both)", a.size),
        Some(Pair { a: Some(a), b: Some(b) }) => format!(" ({} and {} bytes)", a.size, b.size),
        Some(Pair { a: Some(a), b: None }) => format!(": only in A ({} bytes)", a.size),
        Some(Pair { a: None, b: Some(b) }) => format!(": only in B ({} bytes)", b.size),
        _ => String::new(),
    }
}

fn key_lines(keys: &[KeyDifference]) -> String {
    let side = |side: &Option<serde_json::Value>| {
        side.as_ref().map_or_else(|| "nothing".to_owned(), |found| value(&found.to_string()))
    };
    let mut text = String::new();
    for KeyDifference { key, a, b } in keys.iter().take(KEYS_TOLD) {
        text.push_str(&format!("    {}: {} -> {}\n", printable(key), side(a), side(b)));
    }
    text + &more(keys.len(), KEYS_TOLD, "keys")
}

fn ramdisk_lines(ramdisk: &RamdiskDifference) -> String {
    let mut text = String::new();
    if ramdisk.only_packing {
        text.push_str(
            "    the same files, packed differently (padding, spelling of headers or level of compression)\n",
        );
    }
    if let Some(Pair { a, b }) = &ramdisk.unread {
        for (name, reason) in [("A", a), ("B", b)] {
            if let Some(reason) = reason {
                text.push_str(&format!("    {name} could not be read to its end: {}\n", value(reason)));
            }
        }
    }
    if let Some(Pair { a, b }) = &ramdisk.compression {
        text.push_str(&format!("    compression {}\n", change(a, b)));
    }
    for group in ramdisk.list.chunk_by(|one, other| one.change == other.change) {
        text.push_str(&group_lines(group));
    }
    if let Some(Pair { a, b }) = &ramdisk.order {
        text.push_str(&format!(
            "    order: where A has {}, B has {} (the builder did not sort them the same way)\n",
            value(a),
            value(b)
        ));
    }
    text
}

/// Files with the same kind of change. What follows from something else is summed up.
fn group_lines(group: &[FileDifference]) -> String {
    let Some(first) = group.first() else { return String::new() };
    let label = label(first.change);
    let files = plural(group.len(), "file", "files");
    let mut text = String::new();
    if matches!(first.change, FileChange::Mtime | FileChange::Inode | FileChange::Links) && group.len() > 3 {
        return format!(
            "    {label} of {files} (often no more than what the others bring with them), first {}\n",
            file_line(first)
        );
    }
    text.push_str(&format!("    {label}: {files}\n"));
    for difference in group.iter().take(FILES_TOLD) {
        text.push_str(&format!("      {}\n", file_line(difference)));
    }
    text + &more(group.len(), FILES_TOLD, "files")
}

fn file_line(difference: &FileDifference) -> String {
    let path = value(&difference.path);
    match &difference.values {
        None => path,
        Some(Pair { a, b }) if difference.change == FileChange::Content => {
            format!("{path}: {}", change(&short_hash(a), &short_hash(b)))
        }
        Some(Pair { a, b }) => format!("{path}: {}", change(a, b)),
    }
}

/// A hash is there to be seen to differ; JSON has all of it.
fn short_hash(content: &str) -> String {
    const MARK: &str = "SHA-384 ";
    match content.split_once(MARK) {
        Some((size, hash)) => format!("{size}{MARK}{}...", hash.get(..12).unwrap_or(hash)),
        None => content.to_owned(),
    }
}

fn label(change: FileChange) -> &'static str {
    match change {
        FileChange::OnlyInA => "only in A",
        FileChange::OnlyInB => "only in B",
        FileChange::Type => "type",
        FileChange::Content => "content",
        FileChange::Target => "target of symbolic link",
        FileChange::Mode => "mode",
        FileChange::Owner => "owner",
        FileChange::Group => "group",
        FileChange::Device => "device number",
        FileChange::Links => "number of names",
        FileChange::Mtime => "time of change",
        FileChange::Inode => "inode number",
    }
}

fn more(found: usize, told: usize, what: &str) -> String {
    match found.checked_sub(told) {
        Some(rest @ 1..) => format!("      and {rest} more {what}: -o json has them all\n"),
        _ => String::new(),
    }
}

fn change(a: &str, b: &str) -> String {
    format!("{} -> {}", value(a), value(b))
}

/// A value from a file, safe to print and not longer than a few lines.
fn value(text: &str) -> String {
    let text = printable(text);
    match text.char_indices().nth(VALUE_TOLD) {
        Some((end, _)) => format!("{}...", text.get(..end).unwrap_or_default()),
        None => text,
    }
}
