//! Images and values that were published or computed by other programs.

#![allow(
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a failed assumption in a test is a failed test"
)]

mod common;

use common::*;
use eif::describe::describe;
use eif::header::SectionKind;
use eif::load::{Loaded, measure};
use eif::signature;
use sha2::{Digest, Sha256};

const PCR0: &str =
    "501688b0181f09350c6c26ddaf67753f86d56e18ce4ed3311807ace73d90146b80bada418bac61e78d5d07a86f6f16fa";
const PCR1: &str =
    "d1c14ef97f2ec1d88858a54562275a1071f4cb51c4627e47bc6e72be68fefc15a0b15ca67dd1723478a5bcf1b77ed487";
const PCR2: &str =
    "f33eabf2c1c9c8488352690b8d9f5dded507ecfe30ea2d738e6f60c53adad8f499733128196224d78b0ae05b7be6544e";
const PCR2_OF_NOTHING: &str =
    "21b9efbc184807662e966d34f390821309eeac6802309798826296bf3e8bec7c10edb30948c90ba67310f7b964fc500a";

fn read(image: &[u8]) -> Loaded {
    measure(image, image.len() as u64).unwrap()
}

fn pcrs(loaded: &Loaded) -> [String; 3] {
    let measured = &loaded.measurements;
    [measured.pcr0, measured.pcr1, measured.pcr2].map(|pcr| pcr.to_string())
}

#[test]
fn vector_a_reads_as_published() {
    let image = build(&Fields::default(), &vector(b"{}"));
    assert_eq!(image.len(), 651);
    assert_eq!(
        hex::encode(&image[..64]),
        "2e6569660004000000000000400000000000000000000002000000050000000000000224\
         0000000000000236000000000000024f000000000000025d00000000"
            .replace(' ', "")
    );
    let loaded = read(&image);
    assert_eq!(loaded.checksum.computed, 0x3A5B_C1E2);
    assert!(loaded.checksum.matches());
    let places: Vec<_> = loaded.sections.iter().map(|section| (section.offset, section.size)).collect();
    assert_eq!(places, [(548, 6), (566, 13), (591, 2), (605, 11), (628, 11)]);
    assert_eq!(pcrs(&loaded), [PCR0, PCR1, PCR2]);
    assert_eq!(loaded.metadata.as_deref(), Some(b"{}".as_slice()));
}

#[test]
fn vector_b_differs_in_nothing_measured() {
    let image = build(&Fields::default(), &vector(FULL_METADATA));
    assert_eq!(image.len(), 865);
    let loaded = read(&image);
    assert_eq!(loaded.checksum.computed, 0xA598_E4BC);
    let offsets: Vec<_> = loaded.sections.iter().map(|section| section.offset).collect();
    assert_eq!(offsets, [548, 566, 591, 819, 842]);
    assert_eq!(pcrs(&loaded), [PCR0, PCR1, PCR2]);
}

#[test]
fn flags_are_in_the_checksum_but_not_in_the_measurements() {
    let loaded = read(&build(&Fields { flags: 1, ..Fields::default() }, &vector(b"{}")));
    assert_eq!(loaded.checksum.computed, 0xC191_91D8);
    assert!(loaded.header.flags.is_aarch64());
    assert_eq!(pcrs(&loaded), [PCR0, PCR1, PCR2]);
}

#[test]
fn a_version_3_image_with_one_ramdisk_needs_no_metadata() {
    let pieces = [piece(KERNEL, b"KERNEL"), piece(CMDLINE, b"console=ttyS0"), piece(RAMDISK, b"RAMDISK-ONE")];
    let image = build(&Fields { version: 3, ..Fields::default() }, &pieces);
    assert_eq!(image.len(), 614);
    let loaded = read(&image);
    assert_eq!(loaded.checksum.computed, 0xDC65_FC82);
    assert_eq!(pcrs(&loaded), [PCR1, PCR1, PCR2_OF_NOTHING]);
}

#[test]
fn the_signed_payload_is_that_of_the_published_signer() {
    let payload = signature::payload(&PCR0.parse().unwrap());
    assert_eq!(payload.len(), 123);
    // Published with the vector.
    let published = "83061c77bf8515c4f6bc92a83adf14fc8679a1e8a6c834ca33fd944c5591213d";
    assert_eq!(hex::encode(Sha256::digest(&payload)), published);
    let mut counting = vec![0xa2, 0x6e];
    counting.extend(b"register_index\x00\x6eregister_value\x98\x30");
    counting.extend((0..0x18).chain((0x18..0x30).flat_map(|byte| [0x18, byte])));
    let counted: [u8; 48] = core::array::from_fn(|index| index as u8);
    assert_eq!(signature::payload(&attestation::pcr::Pcr::from_bytes(counted)), counting);
}

#[test]
fn an_unsigned_image_is_described_as_nitro_cli_does() {
    let metadata = String::from_utf8(FULL_METADATA.to_vec()).unwrap();
    let metadata = metadata.replace(
        r#""CustomMetadata":null"#,
        r#""CustomMetadata":{"BuildTool":"mine","team":"a","Zebra":[1]}"#,
    );
    let image = build(&Fields::default(), &vector(metadata.as_bytes()));
    let json = serde_json::to_string(&describe(&read(&image)).unwrap()).unwrap();
    assert_eq!(
        json,
        format!(
            r#"{{"EifVersion":4,"Measurements":{{"HashAlgorithm":"Sha384 {{ ... }}","PCR0":"{PCR0}","PCR1":"{PCR1}","PCR2":"{PCR2}"}},"IsSigned":false,"CheckCRC":true,"ImageName":"n","ImageVersion":"v","Metadata":{{"BuildTime":"2026-01-01T00:00:00Z","BuildTool":"t","BuildToolVersion":"1","OperatingSystem":"Linux","KernelVersion":"6.6","DockerInfo":null,"Zebra":[1],"team":"a"}}}}"#
        )
    );
}

#[test]
fn an_image_before_metadata_is_described_without_it() {
    let pieces = [piece(KERNEL, b"KERNEL"), piece(CMDLINE, b"console=ttyS0"), piece(RAMDISK, b"RAMDISK-ONE")];
    let image = build(&Fields { version: 2, ..Fields::default() }, &pieces);
    let json = serde_json::to_value(describe(&read(&image)).unwrap()).unwrap();
    let keys: Vec<_> = json.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["CheckCRC", "EifVersion", "IsSigned", "Measurements"]);
}

#[test]
fn a_wrong_checksum_is_shown_not_hidden() {
    let mut image = build(&Fields::default(), &vector(FULL_METADATA));
    *image.last_mut().unwrap() ^= 1;
    let loaded = read(&image);
    assert!(!describe(&loaded).unwrap().check_crc);
    let error = loaded.checksum.check().unwrap_err().to_string();
    assert!(error.contains("a598e4bc") && error.contains("damaged"), "{error}");
}

#[test]
fn sections_are_found_by_the_table_in_any_order_and_across_gaps() {
    let mut pieces = vec![
        piece(METADATA, FULL_METADATA),
        piece(KERNEL, b"KERNEL"),
        piece(RAMDISK, b"RAMDISK-ONE"),
        piece(RAMDISK, b"RAMDISK-TWO"),
        piece(CMDLINE, b"console=ttyS0"),
        piece(RAMDISK, b""),
    ];
    pieces[0].gap = vec![0; 64];
    pieces[3].gap = b"between".to_vec();
    let image = build(&Fields::default(), &pieces);
    let loaded = read(&image);
    assert!(loaded.checksum.matches(), "the bytes of gaps count");
    assert_eq!(pcrs(&loaded), expected_pcrs(&pieces));
    assert_eq!(loaded.sections[4].kind, SectionKind::Cmdline);
}
