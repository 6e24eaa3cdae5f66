//! An image builder that shares nothing with the crate's writer, and hashes by the `sha384sum` program.

// Each test program uses its own part of this.
#![allow(dead_code, unreachable_pub)]

pub mod openssl;

use std::io::Write;
use std::process::{Command, Stdio};

use ciborium::value::Value;

pub const KERNEL: u16 = 1;
pub const CMDLINE: u16 = 2;
pub const RAMDISK: u16 = 3;
pub const SIGNATURE: u16 = 4;
pub const METADATA: u16 = 5;

/// Metadata that AWS's reader takes.
pub const FULL_METADATA: &[u8] = br#"{"ImageName":"n","ImageVersion":"v","BuildMetadata":{"BuildTime":"2026-01-01T00:00:00Z","BuildTool":"t","BuildToolVersion":"1","OperatingSystem":"Linux","KernelVersion":"6.6"},"DockerInfo":null,"CustomMetadata":null}"#;

/// A section, and the bytes of the gap before it.
#[derive(Debug, Clone)]
pub struct Piece {
    pub gap: Vec<u8>,
    pub kind: u16,
    pub flags: u16,
    pub data: Vec<u8>,
}

pub fn piece(kind: u16, data: &[u8]) -> Piece {
    Piece { gap: Vec::new(), kind, flags: 0, data: data.to_vec() }
}

/// Header fields that have a free choice.
#[derive(Debug, Clone)]
pub struct Fields {
    pub version: u16,
    pub flags: u16,
    pub default_mem: u64,
    pub default_cpus: u64,
    pub reserved: u16,
    pub unused: u32,
    pub unused_entry: u64,
}

impl Default for Fields {
    fn default() -> Self {
        Self {
            version: 4,
            flags: 0,
            default_mem: 1 << 30,
            default_cpus: 2,
            reserved: 0,
            unused: 0,
            unused_entry: 0,
        }
    }
}

pub fn build(fields: &Fields, pieces: &[Piece]) -> Vec<u8> {
    let mut body = Vec::new();
    let (mut offsets, mut sizes) = ([fields.unused_entry; 32], [fields.unused_entry; 32]);
    for (index, piece) in pieces.iter().enumerate() {
        body.extend(&piece.gap);
        if index < 32 {
            offsets[index] = 548 + body.len() as u64;
            sizes[index] = piece.data.len() as u64;
        }
        body.extend(piece.kind.to_be_bytes());
        body.extend(piece.flags.to_be_bytes());
        body.extend((piece.data.len() as u64).to_be_bytes());
        body.extend(&piece.data);
    }
    let mut image = b".eif".to_vec();
    image.extend(fields.version.to_be_bytes());
    image.extend(fields.flags.to_be_bytes());
    image.extend(fields.default_mem.to_be_bytes());
    image.extend(fields.default_cpus.to_be_bytes());
    image.extend(fields.reserved.to_be_bytes());
    image.extend((pieces.len() as u16).to_be_bytes());
    offsets.iter().chain(&sizes).for_each(|entry| image.extend(entry.to_be_bytes()));
    image.extend(fields.unused.to_be_bytes());
    image.extend([0; 4]);
    image.extend(body);
    mend_checksum(&mut image);
    image
}

/// Makes the checksum right, whatever else is wrong.
pub fn mend_checksum(image: &mut [u8]) {
    let mut checksum = crc32fast::Hasher::new();
    checksum.update(&image[..544]);
    checksum.update(&image[548..]);
    image[544..548].copy_from_slice(&checksum.finalize().to_be_bytes());
}

/// The layout of the published vectors: two ramdisks, and the metadata third.
pub fn vector(metadata: &[u8]) -> Vec<Piece> {
    vec![
        piece(KERNEL, b"KERNEL"),
        piece(CMDLINE, b"console=ttyS0"),
        piece(METADATA, metadata),
        piece(RAMDISK, b"RAMDISK-ONE"),
        piece(RAMDISK, b"RAMDISK-TWO"),
    ]
}

/// PCR 0, 1 and 2 of these sections, by the `sha384sum` program.
pub fn expected_pcrs(pieces: &[Piece]) -> [String; 3] {
    let (mut all, mut boot, mut application) = (Vec::new(), Vec::new(), Vec::new());
    let mut ramdisks = 0;
    for piece in pieces.iter().filter(|piece| (KERNEL..=RAMDISK).contains(&piece.kind)) {
        all.extend(&piece.data);
        ramdisks += usize::from(piece.kind == RAMDISK);
        let part = if piece.kind == RAMDISK && ramdisks > 1 { &mut application } else { &mut boot };
        part.extend(&piece.data);
    }
    [all, boot, application].map(|content| measuring(&content))
}

/// The register that measures `content`, by the `sha384sum` program.
pub fn measuring(content: &[u8]) -> String {
    let mut extended = vec![0; 48];
    extended.extend(hex::decode(sha384sum(content)).unwrap());
    sha384sum(&extended)
}

pub fn sha384sum(content: &[u8]) -> String {
    let mut program = Command::new("sha384sum")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("sha384sum (package coreutils) is needed");
    program.stdin.take().unwrap().write_all(content).unwrap();
    let output = program.wait_with_output().unwrap();
    String::from_utf8(output.stdout).unwrap()[..96].to_owned()
}

/// A section as AWS's signer writes it: byte strings as arrays of integers.
pub fn signature_section(certificate_pem: &[u8], cose: &[u8]) -> Vec<u8> {
    let bytes = |bytes: &[u8]| Value::Array(bytes.iter().map(|byte| Value::from(*byte)).collect());
    cbor(&Value::Array(vec![Value::Map(vec![
        (Value::from("signing_certificate"), bytes(certificate_pem)),
        (Value::from("signature"), bytes(cose)),
    ])]))
}

pub fn cbor(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes).unwrap();
    bytes
}
