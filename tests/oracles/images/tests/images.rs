//! An image of ours read by AWS's reader, and one of AWS's read by ours: the same registers, the same metadata.

mod nitro_cli;
mod signing;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};

use aws_nitro_enclaves_image_format::defs::{EifBuildInfo, EifIdentityInfo};
use aws_nitro_enclaves_image_format::utils::eif_reader::EifReader;
use aws_nitro_enclaves_image_format::utils::eif_signer::{EifSigner, SignKeyData};
use aws_nitro_enclaves_image_format::utils::{EifBuilder, PcrSignatureChecker};
use eif::describe::describe;
use eif::load::{Loaded, measure};
use image::builder::{BuildPlan, KERNEL_ORIGIN, build};
use image::folder::Builder;
use image::ramdisk::{Application, BootFiles};
use image::root::Root;
use serde_json::{Value, json};
use sha2::{Digest, Sha384};
use tempfile::TempDir;

const CURVES: [&str; 3] = ["p256", "p384", "p521"];

/// Certificate and key that OpenSSL made for the tests of the crate `eif`.
fn signer(curve: &str) -> (PathBuf, PathBuf) {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../crates/eif/tests/data");
    (data.join(format!("{curve}.cert.pem")), data.join(format!("{curve}.key.pem")))
}

fn noise(seed: u32, length: u32) -> Vec<u8> {
    (0..length).flat_map(|index| (index ^ seed).wrapping_mul(2_654_435_761).to_be_bytes()).collect()
}

/// A bzImage's first sectors, as far as our builder looks.
fn kernel() -> Vec<u8> {
    let mut kernel = noise(1, 10_000);
    kernel[0x202..0x206].copy_from_slice(b"HdrS");
    kernel[0x20e..0x210].copy_from_slice(&[0, 0]);
    kernel
}

fn ours(folder: &TempDir) -> PathBuf {
    let path = |name: &str| folder.path().join(name);
    fs::write(path("bzImage"), kernel()).unwrap();
    fs::write(path("init"), noise(2, 1000)).unwrap();
    fs::create_dir_all(path("root/bin")).unwrap();
    fs::write(path("root/bin/app"), noise(3, 100_000)).unwrap();
    let boot = BootFiles { init: path("init"), ..BootFiles::default() };
    let application = Application { arguments: vec!["/bin/app".into()], ..Application::default() };
    let root = Root::Folder(path("root"), Builder::current());
    let plan = BuildPlan {
        kernel_version: Some("6.12.63".into()),
        notes: vec![(KERNEL_ORIGIN, json!({"source_package": "linux-source-6.12"}))],
        name: "oracle".into(),
        version: "7".into(),
        custom_metadata: json!({"team": "a"}),
        ..BuildPlan::new(path("bzImage"), boot, root, application, path("ours.eif"))
    };
    build(&plan, &mut |_| {}).unwrap();
    plan.output
}

fn theirs(folder: &TempDir, curve: Option<&str>) -> (PathBuf, BTreeMap<String, String>) {
    let path = |name: &str| folder.path().join(name);
    fs::write(path("kernel"), kernel()).unwrap();
    fs::write(path("ramdisk0"), noise(4, 5000)).unwrap();
    fs::write(path("ramdisk1"), noise(5, 300_000)).unwrap();
    fs::write(path("ramdisk2"), b"a third").unwrap();
    let identity = EifIdentityInfo {
        img_name: "theirs".into(),
        img_version: "1".into(),
        build_info: EifBuildInfo {
            build_time: "2026-01-01T00:00:00+00:00".into(),
            build_tool: "nitro-cli".into(),
            build_tool_version: "1.5.2".into(),
            img_os: "Linux".into(),
            img_kernel: "4.14.256".into(),
        },
        docker_info: json!({"Id": "sha256:00", "Config": {"Env": ["A=b"]}}),
        custom_info: json!({"owner": "x"}),
    };
    let signing = curve.map(|curve| {
        let (certificate, key) = signer(curve);
        SignKeyData::new(key.to_str().unwrap(), &certificate).unwrap()
    });
    let mut builder =
        EifBuilder::new(&path("kernel"), "console=ttyS0".into(), signing, Sha384::new(), 0, identity);
    for name in ["ramdisk0", "ramdisk1", "ramdisk2"] {
        builder.add_ramdisk(&path(name));
    }
    let output = path("theirs.eif");
    let mut file = OpenOptions::new().read(true).write(true).create_new(true).open(&output).unwrap();
    let measurements = builder.write_to(&mut file);
    (output, measurements)
}

fn read_ours(path: &Path) -> Loaded {
    let file = File::open(path).unwrap();
    let length = file.metadata().unwrap().len();
    measure(file, length).unwrap()
}

/// Our description of an image, as JSON.
fn described(path: &Path) -> Value {
    serde_json::to_value(describe(&read_ours(path)).unwrap()).unwrap()
}

/// Compares registers only: the hash's name in AWS's crate is its Rust name, which changes.
fn assert_same_registers(described: &Value, measurements: &BTreeMap<String, String>) {
    let ours = described["Measurements"].as_object().unwrap();
    let registers = |name: &str| name.starts_with("PCR");
    let ours: BTreeMap<String, String> = ours
        .iter()
        .filter(|(name, _)| registers(name))
        .map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()))
        .collect();
    let theirs: BTreeMap<String, String> =
        measurements.clone().into_iter().filter(|(name, _)| registers(name)).collect();
    assert_eq!(ours, theirs);
}

fn read_theirs(path: &Path) -> EifReader {
    EifReader::from_eif(path.to_str().unwrap().to_owned()).unwrap()
}

#[test]
fn aws_reads_our_image_as_we_do() {
    let folder = tempfile::tempdir().unwrap();
    let path = ours(&folder);
    let mut reader = read_theirs(&path);
    assert!(reader.check_crc());
    let ours = described(&path);
    assert_same_registers(&ours, &reader.get_measurements().unwrap());
    assert_eq!(reader.get_header().version, 4);
    let metadata = reader.get_metadata().unwrap();
    assert_eq!(ours["ImageName"], metadata.img_name);
    assert_eq!(ours["ImageVersion"], metadata.img_version);
    assert_eq!(ours["Metadata"]["BuildTime"], metadata.build_info.build_time);
    assert_eq!(ours["Metadata"]["BuildTool"], metadata.build_info.build_tool);
    assert_eq!(ours["Metadata"]["KernelVersion"], "6.12.63");
    assert_eq!(metadata.build_info.img_kernel, "6.12.63");
    assert_eq!(metadata.docker_info, Value::Null);
    let custom = json!({"Kernel": {"source_package": "linux-source-6.12"}, "team": "a"});
    assert_eq!(metadata.custom_info, custom);
}

#[test]
fn we_read_awss_image_as_aws_does() {
    let folder = tempfile::tempdir().unwrap();
    let (path, measurements) = theirs(&folder, None);
    let ours = described(&path);
    assert_eq!(ours["CheckCRC"], true);
    assert_eq!(ours["IsSigned"], false);
    assert_same_registers(&ours, &measurements);
    assert_same_registers(&ours, &read_theirs(&path).get_measurements().unwrap());
    assert_eq!(ours["ImageName"], "theirs");
    assert_eq!(ours["Metadata"]["KernelVersion"], "4.14.256");
    assert_eq!(ours["Metadata"]["DockerInfo"]["Id"], "sha256:00");
    assert_eq!(ours["Metadata"]["owner"], "x");
}

#[test]
fn we_read_images_that_aws_signed_as_aws_does() {
    for curve in CURVES {
        let folder = tempfile::tempdir().unwrap();
        let (path, measurements) = theirs(&folder, Some(curve));
        assert!(measurements.contains_key("PCR8"));
        let ours = described(&path);
        assert_same_registers(&ours, &measurements);
        assert_same_certificate(&path, &ours);
    }
}

#[test]
fn our_image_signed_by_aws_is_the_same_to_both() {
    for curve in CURVES {
        let folder = tempfile::tempdir().unwrap();
        let path = ours(&folder);
        let unsigned = described(&path);
        let (certificate, key) = signer(curve);
        let signing = SignKeyData::new(key.to_str().unwrap(), &certificate).unwrap();
        EifSigner::new(Some(signing)).unwrap().sign_image(path.to_str().unwrap()).unwrap();
        let signed = described(&path);
        for register in ["PCR0", "PCR1", "PCR2"] {
            assert_eq!(signed["Measurements"][register], unsigned["Measurements"][register]);
        }
        assert_same_registers(&signed, &read_theirs(&path).get_measurements().unwrap());
        assert_same_certificate(&path, &signed);
    }
}

/// Both find the signature good, and say the same about the certificate.
fn assert_same_certificate(path: &Path, ours: &Value) {
    assert_eq!(ours["CheckCRC"], true);
    assert_eq!(ours["SignatureCheck"], true);
    PcrSignatureChecker::from_eif(path.to_str().unwrap()).unwrap().verify().unwrap();
    let mut reader = read_theirs(path);
    let measurements = reader.get_measurements().unwrap();
    let theirs = reader.get_certificate_info(measurements).unwrap();
    assert_eq!(reader.sign_check, Some(true));
    assert_eq!(ours["SigningCertificate"], serde_json::to_value(theirs).unwrap());
}

#[test]
fn a_copy_of_awss_image_is_the_same_file() {
    let folder = tempfile::tempdir().unwrap();
    let (path, _) = theirs(&folder, Some("p384"));
    let image = fs::read(&path).unwrap();
    let length = u64::try_from(image.len()).unwrap();
    let copied = eif::rewrite::copy(image.as_slice(), length, std::io::Cursor::new(Vec::new())).unwrap();
    assert_eq!(copied.output.into_inner(), image);
}
