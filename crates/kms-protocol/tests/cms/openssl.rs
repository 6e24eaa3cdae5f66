//! OpenSSL opens what we seal, and we open what it seals.

use std::fs;
use std::path::Path;
use std::process::Command;

use rsa::pkcs8::DecodePrivateKey;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::*;

/// Longer than the pieces into which we cut, and than OpenSSL's.
const LONG: usize = 12_345;

fn openssl(folder: &Path, arguments: &str) {
    let output = Command::new("openssl").args(arguments.split_whitespace()).current_dir(folder).output();
    let output = output.expect("openssl is installed");
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {arguments}: {message}");
}

/// A folder with an RSA key that OpenSSL made (`key.pem`, `spki.der`), and a certificate that names it as we do.
struct Oracle {
    folder: TempDir,
    key: RsaPrivateKey,
    spki: Vec<u8>,
}

impl Oracle {
    fn new(bits: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let run = |arguments: &str| openssl(folder.path(), arguments);
        run(&format!("genpkey -quiet -algorithm RSA -pkeyopt rsa_keygen_bits:{bits} -out key.pem"));
        run("pkey -in key.pem -pubout -outform DER -out spki.der");
        let spki = fs::read(folder.path().join("spki.der")).unwrap();
        let identifier = hex::encode_upper(Sha256::digest(&spki));
        run(&format!(
            "req -x509 -key key.pem -subj /CN=recipient -out certificate.pem -addext subjectKeyIdentifier={identifier}"
        ));
        let pem = fs::read_to_string(folder.path().join("key.pem")).unwrap();
        let key = RsaPrivateKey::from_pkcs8_pem(&pem).unwrap();
        Self { folder, key, spki }
    }

    fn opens(&self, envelope: &[u8]) -> Vec<u8> {
        fs::write(self.folder.path().join("envelope"), envelope).unwrap();
        let decrypt = "cms -decrypt -binary -inform DER -in envelope -out opened";
        openssl(self.folder.path(), &format!("{decrypt} -recip certificate.pem -inkey key.pem"));
        fs::read(self.folder.path().join("opened")).unwrap()
    }

    fn seals(&self, plaintext: &[u8], options: &str) -> Vec<u8> {
        fs::write(self.folder.path().join("plaintext"), plaintext).unwrap();
        let encrypt = "cms -encrypt -binary -in plaintext -outform DER -out sealed";
        openssl(self.folder.path(), &format!("{encrypt} -keyid {options}"));
        fs::read(self.folder.path().join("sealed")).unwrap()
    }

    /// The form that we open: `more` says how it is written.
    fn seals_as_kms(&self, plaintext: &[u8], more: &str) -> Vec<u8> {
        self.seals(plaintext, &format!("{more} -aes256 -recip certificate.pem {OAEP}"))
    }
}

const OAEP: &str = "-keyopt rsa_padding_mode:oaep -keyopt rsa_oaep_md:sha256 -keyopt rsa_mgf1_md:sha256";

fn plaintexts() -> [Vec<u8>; 4] {
    [vec![], SECRET.to_vec(), vec![0; 32], vec![b'x'; LONG]]
}

fn agree(bits: usize) {
    let oracle = Oracle::new(bits);
    let recipient = RecipientKey::from_spki_der(&oracle.spki).unwrap();
    for plaintext in plaintexts() {
        for encoding in BOTH {
            let envelope = seal(&recipient, &plaintext, encoding, &mut random()).unwrap();
            assert_eq!(oracle.opens(&envelope), plaintext, "{encoding:?}");
        }
        for more in ["", "-stream -indef"] {
            let envelope = oracle.seals_as_kms(&plaintext, more);
            // OpenSSL streams nothing where there is nothing to stream.
            assert_eq!(envelope.get(1) == Some(&0x80), !more.is_empty(), "{more}");
            assert_eq!(open(&oracle.key, &envelope).unwrap().as_slice(), plaintext, "{more}");
        }
    }
}

#[test]
fn with_rsa_2048_both_open_what_the_other_seals() {
    agree(2048);
}

#[test]
fn with_rsa_3072_both_open_what_the_other_seals() {
    agree(3072);
}

#[test]
fn with_rsa_4096_both_open_what_the_other_seals() {
    agree(4096);
}

#[test]
fn a_long_content_of_openssl_in_several_pieces_opens() {
    let oracle = Oracle::new(2048);
    let plaintext: Vec<u8> = (0..LONG).map(|number| u8::try_from(number % 251).unwrap()).collect();
    let envelope = oracle.seals_as_kms(&plaintext, "-stream -indef");
    // Its pieces are of 4096 bytes at most.
    let header = [0x04, 0x82, 0x10, 0x00];
    assert!(envelope.windows(header.len()).filter(|window| *window == header).count() >= 2);
    assert_eq!(open(&oracle.key, &envelope).unwrap().as_slice(), plaintext);
}

#[test]
fn an_envelope_with_another_padding_hash_cipher_or_name_is_refused() {
    let oracle = Oracle::new(2048);
    let refused = |options: &str| open(&oracle.key, &oracle.seals(SECRET, options)).unwrap_err();
    let not_sha_256 = CmsError::Structure("RSAES-OAEP is not with SHA-256 and MGF1 of SHA-256");
    let pkcs1 = refused("-aes256 -recip certificate.pem");
    assert_eq!(pkcs1, CmsError::Structure("the key is not encrypted with RSAES-OAEP"));
    let sha_1 = "-aes256 -recip certificate.pem -keyopt rsa_padding_mode:oaep";
    assert_eq!(refused(sha_1), not_sha_256);
    for (hash, mask) in [("sha256", "sha1"), ("sha1", "sha256"), ("sha384", "sha384"), ("sha256", "sha512")] {
        let options = format!("{sha_1} -keyopt rsa_oaep_md:{hash} -keyopt rsa_mgf1_md:{mask}");
        assert_eq!(refused(&options), not_sha_256, "{hash} {mask}");
    }
    let label = format!("-aes256 -recip certificate.pem {OAEP} -keyopt rsa_oaep_label:6162");
    assert_eq!(refused(&label), not_sha_256);
    let not_aes_256 = CmsError::Structure("the content is not encrypted with AES-256-CBC");
    for cipher in ["-aes128", "-aes192", "-des3"] {
        let options = format!("{cipher} -recip certificate.pem {OAEP}");
        assert_eq!(refused(&options), not_aes_256, "{cipher}");
    }
}

#[test]
fn an_envelope_that_names_its_recipient_by_a_certificate_is_refused() {
    let oracle = Oracle::new(2048);
    fs::write(oracle.folder.path().join("plaintext"), SECRET).unwrap();
    let encrypt =
        "cms -encrypt -binary -in plaintext -outform DER -out sealed -aes256 -recip certificate.pem";
    openssl(oracle.folder.path(), &format!("{encrypt} {OAEP}"));
    let envelope = fs::read(oracle.folder.path().join("sealed")).unwrap();
    let refused = CmsError::Structure("the EnvelopedData is not of version 2");
    assert_eq!(open(&oracle.key, &envelope), Err(refused));
}

#[test]
fn an_envelope_for_two_recipients_is_refused() {
    let oracle = Oracle::new(2048);
    let twice = format!("-aes256 -recip certificate.pem {OAEP} -recip certificate.pem {OAEP}");
    let refused = CmsError::Structure("it has more than one recipient");
    assert_eq!(open(&oracle.key, &oracle.seals(SECRET, &twice)), Err(refused));
}

#[test]
fn a_signed_message_is_refused() {
    let oracle = Oracle::new(2048);
    fs::write(oracle.folder.path().join("plaintext"), SECRET).unwrap();
    let sign = "cms -sign -nodetach -binary -in plaintext -outform DER -out signed";
    openssl(oracle.folder.path(), &format!("{sign} -signer certificate.pem -inkey key.pem"));
    let message = fs::read(oracle.folder.path().join("signed")).unwrap();
    assert_eq!(open(&oracle.key, &message), Err(CmsError::Structure("its content is no EnvelopedData")));
}
