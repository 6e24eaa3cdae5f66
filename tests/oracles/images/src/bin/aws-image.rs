//! AWS's image-format crate as a program, for the benchmark to measure ours beside it.
//!
//! `aws-image build OUTPUT KERNEL COMMAND-LINE RAMDISK...` and `aws-image describe IMAGE`, each as nitro-cli does it.

use std::env;
use std::fs::OpenOptions;
use std::path::Path;

use aws_nitro_enclaves_image_format::defs::{EifBuildInfo, EifIdentityInfo};
use aws_nitro_enclaves_image_format::utils::EifBuilder;
use aws_nitro_enclaves_image_format::utils::eif_reader::EifReader;
use serde_json::Value;
use sha2::{Digest, Sha384};

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["build", output, kernel, command_line, ramdisks @ ..] => {
            build(output, kernel, command_line, ramdisks);
        }
        ["describe", image] => describe(image),
        _ => panic!("aws-image build OUTPUT KERNEL COMMAND-LINE RAMDISK... | aws-image describe IMAGE"),
    }
}

fn build(output: &str, kernel: &str, command_line: &str, ramdisks: &[&str]) {
    let identity = EifIdentityInfo {
        img_name: "image".into(),
        img_version: "1".into(),
        build_info: EifBuildInfo {
            build_time: "1970-01-01T00:00:00Z".into(),
            build_tool: "aws-image".into(),
            build_tool_version: "1".into(),
            img_os: "Linux".into(),
            img_kernel: "Unknown".into(),
        },
        docker_info: Value::Null,
        custom_info: Value::Null,
    };
    let mut builder =
        EifBuilder::new(Path::new(kernel), command_line.to_owned(), None, Sha384::new(), 0, identity);
    for ramdisk in ramdisks {
        builder.add_ramdisk(Path::new(ramdisk));
    }
    let mut options = OpenOptions::new();
    let mut file = options.read(true).write(true).create(true).truncate(true).open(output).unwrap();
    println!("{}", builder.write_to(&mut file)["PCR0"]);
}

fn describe(image: &str) {
    let mut reader = EifReader::from_eif(image.to_owned()).unwrap();
    let checksum = reader.check_crc();
    println!("{} {checksum}", reader.get_measurements().unwrap()["PCR0"]);
}
