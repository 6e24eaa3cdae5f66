//! Real images through the whole path into real guest memory; registers expected by the `sha384sum` program.

use std::cell::RefCell;
use std::fs::File;
use std::io::{Cursor, Write};
use std::os::unix::fs::FileExt;
use std::process::{Command, Stdio};

use coset::{CborSerializable, CoseSign1Builder, HeaderBuilder, iana};
use eif::writer::Writer;
use p384::ecdsa::signature::Signer;
use p384::pkcs8::DecodePrivateKey;
use vm_memory::{Bytes, GuestAddress};

use super::*;

const MIB: u64 = 1 << 20;
const COMMAND_LINE: &[u8] = b"console=ttyS0 quiet";
const KEY: &str = include_str!("../../../crates/eif/tests/data/p384.key.pem");
const CERTIFICATE: &[u8] = include_bytes!("../../../crates/eif/tests/data/p384.cert.pem");
const OTHER_CERTIFICATE: &[u8] = include_bytes!("../../../crates/eif/tests/data/p256.cert.pem");
/// Inside the validity of both certificates: 2030-01-01.
const NOW: u64 = 1_893_456_000;

/// An ELF kernel of one page at 2 MiB that does nothing but halt.
fn kernel() -> Vec<u8> {
    let code_at = 0x1000_u64;
    let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
    elf.resize(16, 0);
    for half in [2_u16, 62] {
        elf.extend(half.to_le_bytes());
    }
    elf.extend(1_u32.to_le_bytes());
    for word in [0x20_0000_u64, 64, 0] {
        elf.extend(word.to_le_bytes());
    }
    elf.extend(0_u32.to_le_bytes());
    for half in [64_u16, 56, 1, 64, 0, 0] {
        elf.extend(half.to_le_bytes());
    }
    elf.extend(1_u32.to_le_bytes());
    elf.extend(5_u32.to_le_bytes());
    for word in [code_at, 0x20_0000, 0x20_0000, 16, 0x4000, 0x1000] {
        elf.extend(word.to_le_bytes());
    }
    elf.resize(usize::try_from(code_at).unwrap(), 0);
    elf.extend([0xf4; 16]);
    elf
}

fn noise(seed: u32, length: u32) -> Vec<u8> {
    (0..length).map(|index| (index.wrapping_mul(2_654_435_761).rotate_left(seed) >> 24) as u8).collect()
}

struct Parts {
    header: Header,
    kernel: Vec<u8>,
    ramdisks: Vec<Vec<u8>>,
    signature: Option<Vec<u8>>,
}

impl Default for Parts {
    fn default() -> Self {
        let ramdisks = vec![noise(1, 300_000), noise(2, 2_000_001), noise(3, 5)];
        Self { header: Header::default(), kernel: kernel(), ramdisks, signature: None }
    }
}

impl Parts {
    fn image(&self) -> Vec<u8> {
        let mut writer = Writer::new(Cursor::new(Vec::new()), self.header.clone()).unwrap();
        writer.section(SectionKind::Kernel, self.kernel.as_slice()).unwrap();
        writer.section(SectionKind::Cmdline, COMMAND_LINE).unwrap();
        writer.section(SectionKind::Metadata, b"[not JSON: nothing here parses it".as_slice()).unwrap();
        for ramdisk in &self.ramdisks {
            writer.section(SectionKind::Ramdisk, ramdisk.as_slice()).unwrap();
        }
        if let Some(signature) = &self.signature {
            writer.section(SectionKind::Signature, signature.as_slice()).unwrap();
        }
        writer.finish().unwrap().output.into_inner()
    }

    /// PCR 0, by the `sha384sum` program.
    fn pcr0(&self) -> String {
        let mut content = [self.kernel.as_slice(), COMMAND_LINE].concat();
        content.extend(self.ramdisks.concat());
        measuring(&content)
    }

    /// Signs for the image whose PCR 0 is given.
    fn signed_for(mut self, pcr0: &str) -> Self {
        let key = p384::ecdsa::SigningKey::from_pkcs8_pem(KEY).unwrap();
        let cose = CoseSign1Builder::new()
            .protected(HeaderBuilder::new().algorithm(iana::Algorithm::ES384).build())
            .payload(signature::payload(&pcr0.parse().unwrap()))
            .create_signature(b"", |data| {
                let signature: p384::ecdsa::Signature = key.sign(data);
                signature.to_vec()
            })
            .build();
        let entry = ciborium::value::Value::Map(vec![
            ("signing_certificate".into(), CERTIFICATE.to_vec().into()),
            ("signature".into(), cose.to_vec().unwrap().into()),
        ]);
        let mut section = Vec::new();
        ciborium::into_writer(&vec![entry], &mut section).unwrap();
        self.signature = Some(section);
        self
    }

    fn signed() -> Self {
        let parts = Self::default();
        let pcr0 = parts.pcr0();
        parts.signed_for(&pcr0)
    }
}

fn measuring(content: &[u8]) -> String {
    let digest = hex::decode(sha384sum(content)).unwrap();
    sha384sum(&[vec![0; 48], digest].concat())
}

fn sha384sum(content: &[u8]) -> String {
    let mut program = Command::new("sha384sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    program.stdin.take().unwrap().write_all(content).unwrap();
    String::from_utf8(program.wait_with_output().unwrap().stdout).unwrap()[..96].to_owned()
}

fn options() -> LoadOptions<'static> {
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW);
    LoadOptions { vcpus: 2, required_certificate: None, at }
}

fn load_into(
    memory: &mut GuestMemory,
    image: &[u8],
    options: &LoadOptions<'_>,
) -> Result<LoadedImage, LoadingError> {
    load(image, image.len() as u64, memory, options, &mut |_| {})
}

fn try_load(image: &[u8], options: &LoadOptions<'_>) -> Result<LoadedImage, LoadingError> {
    load_into(&mut GuestMemory::allocate(128 * MIB, None).unwrap(), image, options)
}

/// Where the ramdisks were put: the boot structures must announce it, so it is looked for in all of memory.
fn find(memory: &mut GuestMemory, wanted: &[u8]) -> Option<u64> {
    let shared = memory.share().unwrap();
    (0..128 * MIB - wanted.len() as u64).step_by(4096).find(|address| {
        let mut read = vec![0; wanted.len()];
        shared.read_slice(&mut read[..64], GuestAddress(*address)).unwrap();
        read[..64] == wanted[..64] && {
            shared.read_slice(&mut read, GuestAddress(*address)).unwrap();
            read == wanted
        }
    })
}

#[test]
fn an_image_lies_in_memory_as_measured() {
    let parts = Parts::default();
    let mut memory = GuestMemory::allocate(128 * MIB, None).unwrap();
    let image = parts.image();
    let progress = RefCell::new(Vec::new());
    let loaded = load(image.as_slice(), image.len() as u64, &mut memory, &options(), &mut |bytes| {
        progress.borrow_mut().push(bytes);
    })
    .unwrap();
    assert_eq!(loaded.measurements.pcr0.to_string(), parts.pcr0());
    let boot = [parts.kernel.as_slice(), COMMAND_LINE, &parts.ramdisks[0]].concat();
    assert_eq!(loaded.measurements.pcr1.to_string(), measuring(&boot));
    assert_eq!(loaded.measurements.pcr2.to_string(), measuring(&parts.ramdisks[1..].concat()));
    assert_eq!(loaded.measurements.pcr8, None);
    assert_eq!(loaded.boot.regions, memory.regions());
    assert!(matches!(loaded.boot.entry, EntryPoint::Linux64 { instruction: 0x20_0000, .. }));
    assert_eq!(loaded.image.ramdisk_bytes, 2_300_006);
    assert_eq!(progress.borrow().last(), Some(&(image.len() as u64)));
    assert!(find(&mut memory, &parts.ramdisks.concat()).is_some(), "the ramdisks lie end to end");
    let mut code = [0; 16];
    memory.share().unwrap().read_slice(&mut code, GuestAddress(0x20_0000)).unwrap();
    assert_eq!(code, [0xf4; 16]);
}

/// A file that changes under the reader: once `after` bytes have been read, everything in it is overwritten.
struct Rewritten {
    file: File,
    read: usize,
    after: usize,
    length: usize,
}

impl Read for Rewritten {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.read >= self.after {
            self.file.write_all_at(&vec![0xEE; self.length], 0)?;
        }
        let count = self.file.read(buffer)?;
        self.read += count;
        Ok(count)
    }
}

#[test]
fn an_image_rewritten_while_it_loads_is_never_measured_as_what_it_was() {
    let parts = Parts::default();
    let image = parts.image();
    // The last read is of the last ramdisk, which has 5 bytes.
    let last_read = image.len() - 5;
    let moments = (0..last_read).step_by(image.len() / 40).chain([last_read, last_read + 1]);
    for after in moments {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&image).unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        let source = Rewritten { file, read: 0, after, length: image.len() };
        let mut memory = GuestMemory::allocate(128 * MIB, None).unwrap();
        let outcome = load(source, image.len() as u64, &mut memory, &options(), &mut |_| {});
        // Accepted if and only if every byte was read before the change, and then it is the old image that lies there.
        assert_eq!(outcome.is_ok(), after > last_read, "rewritten after {after} of {} bytes", image.len());
        if let Ok(loaded) = outcome {
            assert_eq!(loaded.measurements.pcr0.to_string(), parts.pcr0());
            assert!(find(&mut memory, &parts.ramdisks.concat()).is_some());
        }
    }
}

#[test]
fn a_signed_image_gives_pcr8() {
    let parts = Parts::signed();
    let loaded = try_load(&parts.image(), &options()).unwrap();
    let der = SigningCertificate::from_pem(CERTIFICATE).unwrap().der().to_vec();
    assert_eq!(loaded.measurements.pcr8.unwrap().to_string(), measuring(&der));
    assert_eq!(loaded.measurements.pcr0.to_string(), parts.pcr0());
    let required = LoadOptions { required_certificate: Some(&der), ..options() };
    assert_eq!(try_load(&parts.image(), &required).unwrap().measurements, loaded.measurements);
}

#[test]
fn signatures_that_do_not_hold_are_refused() {
    let other = Parts::default().signed_for(&"11".repeat(48));
    let refused = try_load(&other.image(), &options()).unwrap_err();
    assert!(matches!(refused, LoadingError::Signature(SignatureError::OtherImage { .. })), "{refused}");
    let mut forged = Parts::signed();
    *forged.signature.as_mut().unwrap().last_mut().unwrap() ^= 1;
    let refused = try_load(&forged.image(), &options()).unwrap_err();
    assert!(matches!(refused, LoadingError::Signature(SignatureError::Invalid)), "{refused}");
    let late = LoadOptions { at: SystemTime::UNIX_EPOCH + Duration::from_secs(6_000_000_000), ..options() };
    let refused = try_load(&Parts::signed().image(), &late).unwrap_err();
    assert!(matches!(refused, LoadingError::Certificate(CertificateError::Expired { .. })), "{refused}");
    let early = LoadOptions { at: SystemTime::UNIX_EPOCH, ..options() };
    let refused = try_load(&Parts::signed().image(), &early).unwrap_err();
    assert!(matches!(refused, LoadingError::Certificate(CertificateError::NotYetValid { .. })), "{refused}");
}

#[test]
fn the_required_signer_is_required() {
    let der = SigningCertificate::from_pem(CERTIFICATE).unwrap().der().to_vec();
    let required = LoadOptions { required_certificate: Some(&der), ..options() };
    let refused = try_load(&Parts::default().image(), &required).unwrap_err();
    assert!(matches!(refused, LoadingError::Unsigned), "{refused}");
    let other = SigningCertificate::from_pem(OTHER_CERTIFICATE).unwrap().der().to_vec();
    let required = LoadOptions { required_certificate: Some(&other), ..options() };
    let refused = try_load(&Parts::signed().image(), &required).unwrap_err();
    assert!(matches!(refused, LoadingError::OtherSigner { .. }), "{refused}");
    let required = LoadOptions { required_certificate: Some(b"nonsense"), ..options() };
    let refused = try_load(&Parts::signed().image(), &required).unwrap_err();
    assert!(matches!(refused, LoadingError::RequiredCertificate(_)), "{refused}");
}

#[test]
fn flags_that_are_not_ours_are_refused_by_name_before_anything_is_read() {
    let with_flags = |bits| Parts {
        header: Header { flags: Flags::from_bits(bits), ..Header::default() },
        ..Parts::default()
    };
    let refused = try_load(&with_flags(0x0240).image(), &options()).unwrap_err();
    assert!(refused.to_string().contains("0x0240 (bits 6, 9)"), "{refused}");
    let refused = try_load(&with_flags(1).image(), &options()).unwrap_err();
    assert!(matches!(refused, LoadingError::Architecture { image: "aarch64" }), "{refused}");
    assert!(refused.to_string().contains("aarch64"), "{refused}");
    let header_only = &with_flags(0x0240).image()[..548];
    let mut memory = GuestMemory::allocate(128 * MIB, None).unwrap();
    let length = with_flags(0x0240).image().len() as u64;
    let refused = load(header_only, length, &mut memory, &options(), &mut |_| {}).unwrap_err();
    assert!(matches!(refused, LoadingError::UnknownFlags(_)), "{refused}");
}

#[test]
fn a_wrong_checksum_is_refused() {
    let mut image = Parts::default().image();
    *image.last_mut().unwrap() ^= 1;
    let refused = try_load(&image, &options()).unwrap_err();
    assert!(matches!(refused, LoadingError::Checksum(_)), "{refused}");
}

#[test]
fn a_truncated_image_is_refused() {
    let image = Parts::default().image();
    let refused = try_load(&image[..image.len() - 1], &options()).unwrap_err();
    assert!(matches!(refused, LoadingError::Image(ReadError::Beyond { .. })), "{refused}");
}

#[test]
fn what_is_no_kernel_is_refused() {
    let parts = Parts { kernel: b"no kernel".to_vec(), ..Parts::default() };
    let refused = try_load(&parts.image(), &options()).unwrap_err();
    assert!(matches!(refused, LoadingError::Kernel(BootError::NotAKernel)), "{refused}");
}

#[test]
fn memory_that_is_too_small_is_said_with_what_would_do() {
    let image = Parts { ramdisks: vec![noise(1, 4 << 20), noise(2, 8 << 20)], ..Parts::default() }.image();
    let mut needed = 0;
    for mib in [8, 16, 32] {
        let mut memory = GuestMemory::allocate(mib * MIB, None).unwrap();
        match load_into(&mut memory, &image, &options()).unwrap_err() {
            LoadingError::Kernel(BootError::MemoryTooSmall { needed: bytes, available }) => {
                assert_eq!(available, mib * MIB);
                needed = needed.max(bytes);
            }
            other => panic!("{other}"),
        }
    }
    let mut enough = GuestMemory::allocate(needed.next_multiple_of(MIB), None).unwrap();
    load_into(&mut enough, &image, &options()).unwrap();
}

#[test]
fn memory_for_what_a_compressed_ramdisk_unpacks_to_is_demanded() {
    // A zstd frame of one segment whose header tells 64 MiB: RFC 8878, 3.1.1.1.
    let frame = [&[0x28, 0xb5, 0x2f, 0xfd, 0xa0][..], &(64_u32 << 20).to_le_bytes(), &[0; 16]].concat();
    let mut parts = Parts::default();
    parts.ramdisks[1] = frame;
    let image = parts.image();
    let mut memory = GuestMemory::allocate(128 * MIB, None).unwrap();
    let refused =
        load(image.as_slice(), image.len() as u64, &mut memory, &options(), &mut |_| {}).unwrap_err();
    let LoadingError::Kernel(BootError::MemoryTooSmall { needed, .. }) = refused else { panic!("{refused}") };
    assert!(needed > 128 * MIB);
    let mut memory = GuestMemory::allocate(256 * MIB, None).unwrap();
    let loaded = load(image.as_slice(), image.len() as u64, &mut memory, &options(), &mut |_| {}).unwrap();
    assert_eq!(loaded.image.memory_needed, needed);
}
