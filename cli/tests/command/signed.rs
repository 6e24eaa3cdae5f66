//! Signed images: keys, certificates and signatures are OpenSSL's, the encoding is put together here byte by byte.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::eif::{PCR0, crc32, golden, golden_sections, image};
use crate::support::User;

const SIGNATURE: u16 = 4;
/// The protected header that says ES384, as a CBOR byte string.
const PROTECTED: [u8; 5] = [0x44, 0xa1, 0x01, 0x38, 0x22];

pub(crate) fn openssl(arguments: &[&str]) {
    let output = Command::new("openssl").args(arguments).output().expect("openssl is installed");
    assert!(output.status.success(), "{output:?}");
}

/// A certificate and its key, both in PEM.
pub(crate) struct Signer {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Signer {
    pub(crate) fn new(user: &User, name: &str) -> Self {
        Self::on_curve(user, name, "secp384r1")
    }

    pub(crate) fn on_curve(user: &User, name: &str, curve: &str) -> Self {
        let path = |end: &str| user.path(&format!("{name}.{end}")).to_str().unwrap().to_owned();
        let (certificate, key) = (path("pem"), path("key"));
        openssl(&[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            &format!("ec_paramgen_curve:{curve}"),
            "-nodes",
            "-sha384",
            "-days",
            "2",
            "-subj",
            "/CN=signer",
            "-keyout",
            &key,
            "-out",
            &certificate,
        ]);
        Self { certificate, key }
    }

    /// A certificate valid between these dates (`YYYYMMDDHHMMSSZ`).
    pub(crate) fn valid(user: &User, name: &str, start: &str, end: &str) -> Self {
        let signer = Self::new(user, name);
        let request = user.path("request").to_str().unwrap().to_owned();
        openssl(&["req", "-new", "-key", &signer.key, "-subj", "/CN=dated", "-out", &request]);
        let database = user.file("database", "");
        let folder = user.path("").to_str().unwrap().to_owned();
        let settings = format!(
            "[ca]\ndefault_ca=d\n[d]\ndatabase={database}\nnew_certs_dir={folder}\nrand_serial=yes\npolicy=p\n\
             default_md=sha384\n[p]\ncommonName=supplied\n"
        );
        let settings = user.file("settings", settings);
        openssl(&[
            "ca",
            "-batch",
            "-notext",
            "-selfsign",
            "-config",
            &settings,
            "-keyfile",
            &signer.key,
            "-in",
            &request,
            "-startdate",
            start,
            "-enddate",
            end,
            "-out",
            &signer.certificate,
        ]);
        signer
    }

    /// One whose certificate expired long ago.
    pub(crate) fn expired(user: &User, name: &str) -> Self {
        Self::valid(user, name, "20200101000000Z", "20210101000000Z")
    }

    /// The golden image, signed as if its PCR 0 were this.
    pub(crate) fn signed_image(&self, user: &User, name: &str, pcr0: &str) -> String {
        signed_image(user, name, &self.section(user, pcr0))
    }

    /// The golden image with a signature of which one bit is wrong.
    pub(crate) fn damaged_image(&self, user: &User, name: &str) -> String {
        let mut section = self.section(user, PCR0);
        // The last number is one of the signature's; 0 and 1 are as long as each other.
        let last = section.len() - 1;
        section[last] ^= 1;
        signed_image(user, name, &section)
    }

    /// The signature section over an image with this PCR 0.
    fn section(&self, user: &User, pcr0: &str) -> Vec<u8> {
        let mut payload = vec![0xa2];
        text(&mut payload, "register_index");
        payload.push(0);
        text(&mut payload, "register_value");
        numbers(&mut payload, &hex::decode(pcr0).unwrap());

        let mut signed = vec![0x84];
        text(&mut signed, "Signature1");
        signed.extend(PROTECTED);
        signed.push(0x40);
        bytes(&mut signed, &payload);
        let signature = self.sign(user, &signed);

        let mut cose = vec![0x84];
        cose.extend(PROTECTED);
        cose.push(0xa0);
        bytes(&mut cose, &payload);
        bytes(&mut cose, &signature);

        let mut section = vec![0x81, 0xa2];
        text(&mut section, "signing_certificate");
        numbers(&mut section, &fs::read(&self.certificate).unwrap());
        text(&mut section, "signature");
        numbers(&mut section, &cose);
        section
    }

    /// r and s, 48 bytes each.
    fn sign(&self, user: &User, data: &[u8]) -> Vec<u8> {
        let (input, output) = (user.file("signed", data), user.path("signature"));
        openssl(&["dgst", "-sha384", "-sign", &self.key, "-out", output.to_str().unwrap(), &input]);
        let der = fs::read(output).unwrap();
        let (first, rest) = integer(&der[2..]);
        let (second, _) = integer(rest);
        [first, second].concat()
    }
}

/// The DER integer at the start, as 48 bytes, and what follows it.
fn integer(der: &[u8]) -> (Vec<u8>, &[u8]) {
    let (content, rest) = der[2..].split_at(usize::from(der[1]));
    let digits = &content[content.len().saturating_sub(48)..];
    ([&vec![0; 48 - digits.len()], digits].concat(), rest)
}

/// CBOR: the head of an item.
fn head(out: &mut Vec<u8>, major: u8, value: usize) {
    match u8::try_from(value) {
        Ok(small @ 0..24) => out.push(major << 5 | small),
        Ok(byte) => out.extend([major << 5 | 24, byte]),
        Err(_) => {
            out.push(major << 5 | 25);
            out.extend(u16::try_from(value).unwrap().to_be_bytes());
        }
    }
}

fn text(out: &mut Vec<u8>, text: &str) {
    head(out, 3, text.len());
    out.extend(text.as_bytes());
}

fn bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    head(out, 2, bytes.len());
    out.extend(bytes);
}

/// Bytes as this format writes them: an array of numbers.
fn numbers(out: &mut Vec<u8>, bytes: &[u8]) {
    head(out, 4, bytes.len());
    bytes.iter().for_each(|byte| head(out, 0, usize::from(*byte)));
}

/// The golden image with a signature section.
fn signed_image(user: &User, name: &str, section: &[u8]) -> String {
    let mut sections = golden_sections().to_vec();
    sections.push((SIGNATURE, section));
    let mut image = image(0, &sections, 0);
    let crc = crc32(&image);
    image[544..548].copy_from_slice(&crc.to_be_bytes());
    user.file(name, image)
}

/// PCR 8 of a certificate: OpenSSL makes the DER, sha384sum the hashes.
pub(crate) fn pcr8(user: &User, certificate: &str) -> (String, String) {
    let der = user.path("signer.der").to_str().unwrap().to_owned();
    openssl(&["x509", "-in", certificate, "-outform", "DER", "-out", &der]);
    let content = hex::decode(sha384sum(Path::new(&der))).unwrap();
    let extended = user.file("extended", [vec![0; 48], content].concat());
    (sha384sum(Path::new(&extended)), der)
}

pub(crate) fn sha384sum(file: &Path) -> String {
    let output = Command::new("sha384sum").arg(file).output().unwrap();
    String::from_utf8(output.stdout).unwrap()[..96].to_owned()
}

#[test]
fn a_signed_image_is_verified_and_its_signer_can_be_required() {
    let user = User::new();
    let signer = Signer::new(&user, "signer");
    let image = signed_image(&user, "signed.eif", &signer.section(&user, PCR0));
    let (pcr8, der) = pcr8(&user, &signer.certificate);
    for required in [&signer.certificate, &der] {
        let ran =
            user.run(&["eif", "verify", &image, "--require-signature", required, "-o", "json"]).succeeded();
        assert_eq!(
            (&ran.json()["IsSigned"], &ran.json()["Measurements"]["PCR8"]),
            (&true.into(), &pcr8.clone().into())
        );
    }
    let measured = user.run(&["eif", "measure", &image, "-o", "json"]).succeeded().json();
    assert_eq!(measured["Measurements"]["PCR8"], pcr8);
    let described = user.run(&["eif", "describe", &image, "-o", "json"]).succeeded().json();
    assert_eq!((&described["IsSigned"], &described["SignatureCheck"]), (&true.into(), &true.into()));
    assert_eq!(described["SigningCertificate"]["IssuerName"]["commonName"], "signer");
    let other = Signer::new(&user, "other");
    let _ = user
        .run(&["eif", "verify", &image, "--require-signature", &other.certificate])
        .failed(&["another certificate"]);
}

#[test]
fn a_signature_that_does_not_hold_is_refused() {
    let user = User::new();
    let signer = Signer::new(&user, "signer");
    let of_another_image = signed_image(&user, "a.eif", &signer.section(&user, &"ab".repeat(48)));
    let _ = user.run(&["eif", "verify", &of_another_image]).failed(&["a.eif", "abababab", PCR0]);
    let mut section = signer.section(&user, PCR0);
    // The last number is one of the signature's; 0 and 1 are as long as each other.
    let last = section.len() - 1;
    section[last] ^= 1;
    let damaged = signed_image(&user, "b.eif", &section);
    let _ = user.run(&["eif", "verify", &damaged]).failed(&["b.eif", "signature"]);
    let shown = user.run(&["eif", "describe", &damaged]).succeeded().stdout;
    assert!(shown.contains("NOT VALID"), "{shown}");
    assert_ne!(golden(), fs::read(&damaged).unwrap());
}

#[test]
fn a_certificate_that_is_not_valid_now_is_refused_with_its_dates() {
    let user = User::new();
    for (start, end, words) in [
        ("20200101000000Z", "20210101000000Z", ["expired at Jan  1 00:00:00 2021 GMT", "sign the image"]),
        ("20900101000000Z", "20910101000000Z", ["not valid before Jan  1 00:00:00 2090 GMT", "clock"]),
    ] {
        let signer = Signer::valid(&user, "dated", start, end);
        let image = signed_image(&user, "dated.eif", &signer.section(&user, PCR0));
        let _ = user.run(&["eif", "verify", &image]).failed(&[&["dated.eif"], &words[..]].concat());
        let required = ["eif", "verify", &image, "--require-signature", &signer.certificate];
        let _ = user.run(&required).failed(&words);
        // The signature itself is good, and what it is over can be looked at.
        let shown = user.run(&["eif", "describe", &image, "-o", "json"]).succeeded().json();
        assert_eq!(shown["SignatureCheck"], true);
    }
}

#[test]
fn a_certificate_that_signs_no_images_is_refused() {
    let user = User::new();
    let signer = Signer::new(&user, "signer");
    let other = Signer::on_curve(&user, "other", "prime256v1");
    let of = |certificate: &str| Signer { certificate: certificate.to_owned(), key: signer.key.clone() };
    let (key, rsa) = (user.path("rsa.key"), user.path("rsa.pem"));
    let (key, rsa) = (key.to_str().unwrap(), rsa.to_str().unwrap());
    openssl(&[
        "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=x", "-keyout", key, "-out", rsa,
    ]);
    for (certificate, words) in
        [(rsa, "key is RSA"), (&*other.certificate, "algorithm"), (&*signer.key, "PEM")]
    {
        let image = signed_image(&user, "a.eif", &of(certificate).section(&user, PCR0));
        let _ = user.run(&["eif", "verify", &image]).failed(&["a.eif", words]);
    }
}
