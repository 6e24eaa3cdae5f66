//! `eif describe|measure|verify` on the format's published vectors, put together here byte by byte.

use crate::newc::{Member, archive, piped, sound_image};
use crate::signed::sha384sum;
use crate::support::{User, keys};

pub(crate) const METADATA: &str = concat!(
    r#"{"ImageName":"n","ImageVersion":"v","BuildMetadata":{"BuildTime":"2026-01-01T00:00:00Z","BuildTool":"t","#,
    r#""BuildToolVersion":"1","OperatingSystem":"Linux","KernelVersion":"6.6"},"DockerInfo":null,"CustomMetadata":null}"#
);
const CRC: u32 = 0xA598_E4BC;
// Computed with sha384sum from the sections' contents.
pub(crate) const PCR0: &str =
    "501688b0181f09350c6c26ddaf67753f86d56e18ce4ed3311807ace73d90146b80bada418bac61e78d5d07a86f6f16fa";
pub(crate) const PCR1: &str =
    "d1c14ef97f2ec1d88858a54562275a1071f4cb51c4627e47bc6e72be68fefc15a0b15ca67dd1723478a5bcf1b77ed487";
pub(crate) const PCR2: &str =
    "f33eabf2c1c9c8488352690b8d9f5dded507ecfe30ea2d738e6f60c53adad8f499733128196224d78b0ae05b7be6544e";

/// An image of version 4 with these flags, sections and checksum.
pub(crate) fn image(flags: u16, sections: &[(u16, &[u8])], crc: u32) -> Vec<u8> {
    let mut header = vec![0; 548];
    header[..4].copy_from_slice(b".eif");
    header[4..6].copy_from_slice(&4u16.to_be_bytes());
    header[6..8].copy_from_slice(&flags.to_be_bytes());
    header[8..16].copy_from_slice(&(1u64 << 30).to_be_bytes());
    header[16..24].copy_from_slice(&2u64.to_be_bytes());
    header[26..28].copy_from_slice(&u16::try_from(sections.len()).unwrap().to_be_bytes());
    header[544..548].copy_from_slice(&crc.to_be_bytes());
    let mut data = Vec::new();
    for (index, (kind, content)) in sections.iter().enumerate() {
        let (offset, size) = ((548 + data.len()) as u64, content.len() as u64);
        header[0x1c + 8 * index..][..8].copy_from_slice(&offset.to_be_bytes());
        header[0x11c + 8 * index..][..8].copy_from_slice(&size.to_be_bytes());
        data.extend(kind.to_be_bytes());
        data.extend([0, 0]);
        data.extend(size.to_be_bytes());
        data.extend(*content);
    }
    header.extend(data);
    header
}

/// The sections of golden vector B.
pub(crate) fn golden_sections() -> [(u16, &'static [u8]); 5] {
    [
        (1, b"KERNEL"),
        (2, b"console=ttyS0"),
        (5, METADATA.as_bytes()),
        (3, b"RAMDISK-ONE"),
        (3, b"RAMDISK-TWO"),
    ]
}

/// Golden vector B.
pub(crate) fn golden() -> Vec<u8> {
    image(0, &golden_sections(), CRC)
}

#[test]
fn describe_prints_nitro_clis_object() {
    let user = User::new();
    let path = user.file("golden.eif", golden());
    let ran = user.run(&["eif", "describe", &path, "-o", "json"]).succeeded();
    assert_eq!(
        keys(&ran.stdout)[..7],
        ["EifVersion", "Measurements", "IsSigned", "CheckCRC", "ImageName", "ImageVersion", "Metadata"]
    );
    let report = ran.json();
    assert_eq!(report["EifVersion"], 4);
    assert_eq!(report["Measurements"]["HashAlgorithm"], "Sha384 { ... }");
    assert_eq!(report["Measurements"]["PCR0"], PCR0);
    assert_eq!((&report["CheckCRC"], &report["IsSigned"]), (&true.into(), &false.into()));
    assert_eq!(report["Metadata"]["KernelVersion"], "6.6");
    assert_eq!((&report["Architecture"], &report["Sections"][4]["Offset"]), (&"x86_64".into(), &842.into()));
    let text = user.run(&["eif", "describe", &path]).succeeded().stdout;
    for word in [PCR0, PCR1, PCR2, "n (version v)", "Linux 6.6"] {
        assert!(text.contains(word), "{word}: {text}");
    }
}

#[test]
fn describe_shows_each_section_the_kernel_and_the_files() {
    let user = User::new();
    let mut kernel = vec![0; 0x600];
    kernel[0x202..0x206].copy_from_slice(b"HdrS");
    kernel[0x20e..0x210].copy_from_slice(&0x300_u16.to_le_bytes());
    kernel[0x500..0x517].copy_from_slice(b"6.12.63 (b@h) #1 SMP x\0");
    let first = archive(&[
        Member::file("init", "#!init").mode(0o100_755),
        Member::file("sh", "init").mode(0o120_777),
        Member { special: (5, 1), ..Member::file("console", "").mode(0o020_600) },
    ]);
    let second = archive(&[Member { uid: 7, gid: 8, mtime: 9, ..Member::file("a\x1bb", "hello") }]);
    let compressed = piped("gzip", &second);
    let sections: [(u16, &[u8]); 5] =
        [(1, &kernel), (2, b"quiet"), (5, METADATA.as_bytes()), (3, &first), (3, &compressed)];
    let path = user.file("app.eif", sound_image(&sections));
    let report = user.run(&["eif", "describe", "--files", &path, "-o", "json"]).succeeded().json();
    assert_eq!((&report["KernelVersion"], &report["CommandLine"]), (&"6.12.63".into(), &"quiet".into()));
    for (index, (_, data)) in sections.iter().enumerate() {
        let file = user.file("section", data);
        assert_eq!(
            report["Sections"][index]["SHA384"],
            sha384sum(std::path::Path::new(&file)),
            "section {index}"
        );
    }
    let ramdisks = &report["Ramdisks"];
    assert_eq!(
        (&ramdisks[0]["Compression"][0], &ramdisks[1]["Compression"][0]),
        (&"none".into(), &"gzip".into())
    );
    let files = &ramdisks[0]["Files"];
    let content = user.file("content", "#!init");
    assert_eq!(files[0]["SHA384"], sha384sum(std::path::Path::new(&content)));
    assert_eq!((&files[0]["Mode"], &files[0]["Type"]), (&"0755".into(), &"file".into()));
    assert_eq!((&files[1]["Target"], &files[1]["Type"]), (&"init".into(), &"symbolic link".into()));
    assert_eq!(files[2]["Device"], serde_json::json!([5, 1]));
    let file = &ramdisks[1]["Files"][0];
    assert_eq!(
        (&file["UID"], &file["GID"], &file["Mtime"], &file["Size"]),
        (&7.into(), &8.into(), &9.into(), &5.into())
    );

    let text = user.run(&["eif", "describe", "--files", &path]).succeeded().stdout;
    for line in [
        "Linux 6.12.63",
        "-0755     0     0          6 init",
        "sh -> init",
        "5, 1 console",
        "gzip",
        "a\u{fffd}b",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert!(!text.contains('\x1b'));
    let plain = user.run(&["eif", "describe", &path, "-o", "json"]).succeeded().json();
    assert!(plain.get("Ramdisks").is_none());
    assert_eq!(plain["KernelVersion"], "6.12.63");
}

#[test]
fn ramdisks_that_cannot_be_read_are_shown_as_far_as_they_can() {
    let user = User::new();
    let whole = archive(&[Member::file("one", "1"), Member::file("two", "2")]);
    let xz = piped("xz", &whole);
    let cases: [(&[u8], usize, &str); 4] = [
        (&whole[..whole.len() - 180], 1, "truncated"),
        (b"no ramdisk", 0, "neither a cpio archive"),
        (&xz, 0, "xz, which is not looked into"),
        (b"", 0, ""),
    ];
    for (ramdisk, files, words) in cases {
        let sections: [(u16, &[u8]); 4] = [(1, b"K"), (2, b"c"), (5, METADATA.as_bytes()), (3, ramdisk)];
        let path = user.file("app.eif", sound_image(&sections));
        let report = user.run(&["eif", "describe", "--files", &path, "-o", "json"]).succeeded().json();
        assert_eq!(report["Ramdisks"][0]["Files"].as_array().map(Vec::len), Some(files), "{words}");
        assert!(report["Ramdisks"][0]["Unread"].as_str().unwrap_or_default().contains(words), "{report}");
    }
}

#[test]
fn measure_prints_the_published_registers() {
    let user = User::new();
    let path = user.file("golden.eif", golden());
    let report = user.run(&["eif", "measure", &path, "-o", "json"]).succeeded().json();
    let measurements = &report["Measurements"];
    assert_eq!([&measurements["PCR0"], &measurements["PCR1"], &measurements["PCR2"]], [PCR0, PCR1, PCR2]);
    assert!(measurements.get("PCR8").is_none());
    assert!(user.run(&["eif", "measure", &path]).succeeded().stdout.contains(PCR2));
}

#[test]
fn several_files_give_an_array() {
    let user = User::new();
    let (one, other) = (user.file("one.eif", golden()), user.file("other.eif", golden()));
    for verb in ["describe", "measure", "verify"] {
        let report = user.run(&["eif", verb, &one, &other, "-o", "json"]).succeeded().json();
        assert_eq!(report.as_array().map(Vec::len), Some(2), "{verb}");
        assert_eq!(report[1]["Path"], other);
    }
}

#[test]
fn verify_accepts_a_sound_image_and_insists_on_a_signature_if_told() {
    let user = User::new();
    let path = user.file("golden.eif", golden());
    let report = user.run(&["eif", "verify", &path, "-o", "json"]).succeeded().json();
    assert_eq!((&report["Valid"], &report["IsSigned"]), (&true.into(), &false.into()));
    let certificate = user.file("root.pem", user.run(&["pki", "export-root"]).succeeded().stdout);
    let _ = user
        .run(&["eif", "verify", &path, "--require-signature", &certificate])
        .failed(&["golden.eif", "not signed"]);
    let _ = user.run(&["eif", "verify", &path, "--require-signature", &path]).failed(&["certificate"]);
}

#[test]
fn damaged_images_are_refused_with_the_reason() {
    let user = User::new();
    let mut changed = golden();
    *changed.last_mut().unwrap() ^= 1;
    let changed = user.file("changed.eif", changed);
    let _ = user.run(&["eif", "verify", &changed]).failed(&["changed.eif", "checksum"]);
    let _ = user.run(&["eif", "measure", &changed]).failed(&["checksum"]);
    // As in nitro-cli, a wrong checksum is shown and does not stop describe.
    let shown = user.run(&["eif", "describe", &changed, "-o", "json"]).succeeded();
    assert_eq!(shown.json()["CheckCRC"], false);

    let cut = user.file("cut.eif", &golden()[..700]);
    let _ = user.run(&["eif", "verify", &cut]).failed(&["cut.eif", "truncated"]);
    let text = user.file("text.eif", "hello");
    let _ = user.run(&["eif", "describe", &text]).failed(&["text.eif", "EIF"]);
    let missing = user.path("missing.eif").to_str().unwrap().to_owned();
    let _ = user.run(&["eif", "describe", &missing]).failed(&["missing.eif"]);
    let _ = user.run(&["eif", "describe", user.path("").to_str().unwrap()]).failed(&["not an ordinary file"]);
}

#[test]
fn unknown_header_flags_are_named() {
    let user = User::new();
    let mut flagged = golden();
    flagged[6..8].copy_from_slice(&0x0240u16.to_be_bytes());
    let crc = crc32(&flagged);
    flagged[544..548].copy_from_slice(&crc.to_be_bytes());
    let path = user.file("flags.eif", flagged);
    let _ = user.run(&["eif", "verify", &path]).failed(&["flags.eif", "0x0240"]);
    let _ = user.run(&["eif", "describe", &path]).succeeded();
}

/// CRC-32 of a file as the format wants it: everything but the checksum itself, bit by bit.
pub(crate) fn crc32(file: &[u8]) -> u32 {
    let bytes = file[..544].iter().chain(&file[548..]);
    !bytes.fold(!0u32, |crc, byte| {
        (0..8).fold(
            crc ^ u32::from(*byte),
            |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xEDB8_8320 } else { crc >> 1 },
        )
    })
}

#[test]
fn control_characters_of_an_image_do_not_reach_the_terminal() {
    let user = User::new();
    let metadata = METADATA.replace("\"n\"", "\"a\\u001b[2J\"");
    let sections: [(u16, &[u8]); 4] = [(1, b"K"), (2, b"c"), (5, metadata.as_bytes()), (3, b"R")];
    let path = user.file("escape.eif", image(0, &sections, 0));
    let text = user.run(&["eif", "describe", &path]).succeeded().stdout;
    assert!(!text.contains('\x1b') && text.contains("[2J"), "{text}");
}
