//! `eif sign` and what `eif measure` says for it: keys and certificates are OpenSSL's, which also stands for a hardware module.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown, symlink};

use crate::eif::{PCR0, crc32, golden};
use crate::signed::{Signer, openssl, pcr8, sha384sum};
use crate::support::{Ran, User, mode, set_mode};

/// Curves that sign images, with the hash that goes with each.
const CURVES: [(&str, &str); 3] =
    [("prime256v1", "sha256"), ("secp384r1", "sha384"), ("secp521r1", "sha512")];

fn sign(user: &User, image: &str, signer: &Signer, more: &[&str]) -> Ran {
    let words = ["eif", "sign", image, "--sign-key", &signer.key, "--sign-cert", &signer.certificate];
    user.run(&[&words[..], more].concat())
}

fn names(user: &User) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(user.path(""))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn an_image_is_signed_in_place_with_every_curve() {
    for (curve, _) in CURVES {
        let user = User::new();
        let signer = Signer::on_curve(&user, "signer", curve);
        let image = user.file("app.eif", golden());
        set_mode(&user.path("app.eif"), 0o640);
        let before = names(&user);
        let report = sign(&user, &image, &signer, &["-o", "json"]).succeeded().json();
        assert_eq!((names(&user), mode(&user.path("app.eif"))), (before, 0o640));
        let (pcr8, _) = pcr8(&user, &signer.certificate);
        assert_eq!(
            (&report["Measurements"]["PCR0"], &report["Measurements"]["PCR8"]),
            (&PCR0.into(), &pcr8.into())
        );
        let ran = user.run(&["eif", "verify", &image, "--require-signature", &signer.certificate]);
        assert!(ran.succeeded().stdout.contains("signature, dates and signed PCR0"));

        // The same key signs the same image the same way.
        let signed = fs::read(&image).unwrap();
        let _ = sign(&user, &image, &signer, &[]).succeeded();
        assert!(fs::read(&image).unwrap() == signed);
        // Without its signature it is what it was.
        let _ = user.run(&["eif", "sign", &image, "--remove"]).succeeded();
        assert!(fs::read(&image).unwrap() == golden());
    }
}

#[test]
fn another_signer_takes_the_place_of_the_first() {
    let user = User::new();
    let image = user.file("app.eif", golden());
    let signers = ["secp521r1", "prime256v1", "secp384r1"].map(|curve| Signer::on_curve(&user, curve, curve));
    for signer in &signers {
        let _ = sign(&user, &image, signer, &[]).succeeded();
        let _ = user.run(&["eif", "verify", &image, "--require-signature", &signer.certificate]).succeeded();
        let direct = user.path("direct.eif").to_str().unwrap().to_owned();
        let plain = user.file("plain.eif", golden());
        let _ = sign(&user, &plain, signer, &["--output", &direct]).succeeded();
        assert!(fs::read(&image).unwrap() == fs::read(direct).unwrap(), "nothing is left of the one before");
        assert!(fs::read(plain).unwrap() == golden());
    }
}

#[test]
fn a_link_to_an_image_stays_one() {
    let user = User::new();
    let signer = Signer::new(&user, "signer");
    let image = user.file("app.eif", golden());
    symlink("app.eif", user.path("link.eif")).unwrap();
    let inode = fs::metadata(&image).unwrap().ino();
    let _ = sign(&user, user.path("link.eif").to_str().unwrap(), &signer, &[]).succeeded();
    assert!(fs::symlink_metadata(user.path("link.eif")).unwrap().is_symlink());
    assert_ne!(fs::metadata(&image).unwrap().ino(), inode, "the old file is not written to");
    let _ = user.run(&["eif", "verify", &image, "--require-signature", &signer.certificate]).succeeded();
}

#[test]
fn root_leaves_an_image_to_its_owner() {
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED root_leaves_an_image_to_its_owner: only root can give files away");
        return;
    }
    let user = User::new();
    let signer = Signer::new(&user, "signer");
    let image = user.file("app.eif", golden());
    chown(&image, Some(1234), Some(2345)).unwrap();
    let _ = sign(&user, &image, &signer, &[]).succeeded();
    let metadata = fs::metadata(&image).unwrap();
    assert_eq!((metadata.uid(), metadata.gid()), (1234, 2345));
    // A copy belongs to who makes it.
    let copy = user.path("copy.eif").to_str().unwrap().to_owned();
    let _ = sign(&user, &image, &signer, &["--output", &copy]).succeeded();
    assert_eq!(fs::metadata(&copy).unwrap().uid(), 0);
}

#[test]
fn a_signature_made_elsewhere_is_attached() {
    for (curve, hash) in CURVES {
        let user = User::new();
        let signer = Signer::on_curve(&user, "signer", curve);
        let image = user.file("app.eif", golden());
        let (tbs, der) = (user.path("tbs"), user.path("der"));
        let (tbs, der) = (tbs.to_str().unwrap(), der.to_str().unwrap());
        let words = [
            "eif",
            "measure",
            &image,
            "--sign-cert",
            &signer.certificate,
            "--to-be-signed",
            tbs,
            "-o",
            "json",
        ];
        let report = user.run(&words).succeeded().json();
        assert_eq!(report["ToBeSigned"]["Hash"], hash);
        assert_eq!(report["ToBeSigned"]["Hex"], hex::encode(fs::read(tbs).unwrap()));
        assert_eq!(report["Measurements"]["PCR8"], pcr8(&user, &signer.certificate).0);
        openssl(&["dgst", &format!("-{hash}"), "-sign", &signer.key, "-out", der, tbs]);
        let base64 = user.path("base64");
        openssl(&["base64", "-in", der, "-out", base64.to_str().unwrap()]);
        let hex = user.file("hex", hex::encode(fs::read(der).unwrap()));
        for signature in [der, base64.to_str().unwrap(), &hex] {
            let words = ["eif", "sign", &image, "--signature", signature, "--sign-cert", &signer.certificate];
            let _ = user.run(&words).succeeded();
            let verified = user.run(&["eif", "verify", &image, "--require-signature", &signer.certificate]);
            assert!(verified.succeeded().stdout.contains("signature, dates"));
            let _ = user.run(&["eif", "sign", &image, "--remove"]).succeeded();
        }
        // Over other bytes, or with another hash, it is not.
        let other_hash = if hash == "sha256" { "-sha512" } else { "-sha256" };
        openssl(&["dgst", other_hash, "-sign", &signer.key, "-out", der, tbs]);
        let words = ["eif", "sign", &image, "--signature", der, "--sign-cert", &signer.certificate];
        let _ = user.run(&words).failed(&["app.eif", "not made over this image", hash, "--to-be-signed"]);
        assert!(fs::read(&image).unwrap() == golden());
    }
}

#[test]
fn measure_prints_the_published_structure_to_sign_and_the_registers_of_a_host() {
    let user = User::new();
    let signer = Signer::new(&user, "signer");
    let image = user.file("app.eif", golden());
    let tbs = user.path("tbs");
    let role = "arn:aws:iam::123456789012:role/Webserver";
    let words = [
        "eif",
        "measure",
        &image,
        "--role",
        role,
        "--instance-id",
        "i-1234567890abcdef0",
        "--sign-cert",
        &signer.certificate,
        "--to-be-signed",
        tbs.to_str().unwrap(),
    ];
    let text = user.run(&words).succeeded().stdout;
    // Published with the format's vectors, and in AWS's user guide.
    assert_eq!(fs::read(&tbs).unwrap().len(), 143);
    assert_eq!(
        sha384sum(&tbs),
        "edb54046454686c92aad1b5ea4b34cb6d94f731f2ed8958081a08417a57c4adee0aaeffd223586c489a6b69ba8b14e7a"
    );
    let pcr3 =
        "78fce75db17cd4e0a3fb8dad3ad128ca5e77edbb2b2c7f75329dccd99aa5f6ef4fc1f1a452e315b9e98f9e312e6921e6";
    let pcr4 =
        "08f996b5d43e047a9eb51e7f548bfee7e164fd7dc8f65541f2ac09d6545ac812719327281c401a67a10fcba87ae79ce0";
    for word in [PCR0, pcr3, pcr4, "ES384", "sha384", &hex::encode(fs::read(&tbs).unwrap())] {
        assert!(text.contains(word), "{word}: {text}");
    }
    let json = user.run(&[&words[..], &["-o", "json"]].concat()).succeeded().json();
    assert_eq!((&json["Measurements"]["PCR3"], &json["Measurements"]["PCR4"]), (&pcr3.into(), &pcr4.into()));
    let plain = user.run(&["eif", "measure", &image, "-o", "json"]).succeeded().json();
    assert!(plain["Measurements"].get("PCR3").is_none() && plain.get("ToBeSigned").is_none());
    for wrong in [["--role", ""], ["--instance-id", "x y"]] {
        let ran = user.run(&[&["eif", "measure", &image], &wrong[..]].concat());
        assert_eq!(ran.status, 2, "{ran:#?}");
    }
}

#[test]
fn what_cannot_sign_is_refused_before_anything_is_written() {
    let user = User::new();
    let image = user.file("app.eif", golden());
    let (signer, other) = (Signer::new(&user, "signer"), Signer::new(&user, "other"));
    let with =
        |key: &str, certificate: &str| Signer { certificate: certificate.to_owned(), key: key.to_owned() };
    let path = |name: &str| user.path(name).to_str().unwrap().to_owned();
    let (rsa_key, rsa_certificate) = (path("rsa.key"), path("rsa.pem"));
    openssl(&[
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-subj",
        "/CN=x",
        "-keyout",
        &rsa_key,
        "-out",
        &rsa_certificate,
    ]);
    let (pkcs8, sec1) = (path("encrypted-pkcs8"), path("encrypted-sec1"));
    openssl(&["pkcs8", "-topk8", "-in", &signer.key, "-passout", "pass:x", "-out", &pkcs8]);
    openssl(&["ec", "-in", &signer.key, "-aes256", "-passout", "pass:x", "-out", &sec1]);
    let ended = Signer::valid(&user, "ended", "20200101000000Z", "20210101000000Z");
    let future = Signer::valid(&user, "future", "20900101000000Z", "20910101000000Z");
    let cases: [(&Signer, &[&str]); 10] = [
        (&with(&signer.key, &other.certificate), &["not that of the signing key", "made for this key"]),
        (&with(&signer.key, &rsa_certificate), &["certificate's key is RSA", "P-384"]),
        (&with(&rsa_key, &rsa_certificate), &["signing key is RSA", "P-384"]),
        (&with(&pkcs8, &signer.certificate), &["encrypted", "openssl pkey"]),
        (&with(&sec1, &signer.certificate), &["encrypted", "openssl pkey"]),
        (&with(&signer.certificate, &signer.certificate), &["no", "private key"]),
        (&with(&signer.key, &signer.key), &["certificate", "not the private key"]),
        (&ended, &["expired at Jan  1 00:00:00 2021", "new one"]),
        (&future, &["not valid before Jan  1 00:00:00 2090", "clock"]),
        (
            &with("arn:aws:kms:eu-west-1:123456789012:key/x", &signer.certificate),
            &["key service", "--to-be-signed"],
        ),
    ];
    let before = names(&user);
    for (signer, words) in cases {
        let _ = sign(&user, &image, signer, &[]).failed(words);
    }
    let words = ["eif", "measure", &image, "--sign-cert", &ended.certificate];
    let _ = user.run(&words).failed(&["expired at"]);
    let mut damaged = golden();
    *damaged.last_mut().unwrap() ^= 1;
    let damaged_file = user.file("damaged.eif", &damaged);
    let _ = sign(&user, &damaged_file, &signer, &[]).failed(&["damaged.eif", "checksum"]);
    assert!(fs::read(damaged_file).unwrap() == damaged);
    fs::remove_file(user.path("damaged.eif")).unwrap();

    let _ = sign(&user, &path("missing.eif"), &signer, &[]).failed(&["missing.eif", "check the path"]);
    let _ = sign(&user, &image, &signer, &["--output", &path("no/folder.eif")]).failed(&["folder.eif"]);
    let _ = sign(&user, &image, &signer, &["--output", &path("")]).failed(&["not an ordinary file"]);
    assert_eq!(names(&user), before);
    assert!(fs::read(&image).unwrap() == golden());
}

#[test]
fn flags_that_nobody_knows_are_kept_and_warned_of() {
    let user = User::new();
    let signer = Signer::new(&user, "signer");
    let mut flagged = golden();
    flagged[6..8].copy_from_slice(&0x0240_u16.to_be_bytes());
    let crc = crc32(&flagged);
    flagged[544..548].copy_from_slice(&crc.to_be_bytes());
    let image = user.file("flags.eif", &flagged);
    let ran = sign(&user, &image, &signer, &[]).succeeded();
    assert!(ran.stderr.contains("warning") && ran.stderr.contains("0x0240 (bits 6, 9)"), "{ran:#?}");
    assert_eq!(fs::read(&image).unwrap()[6..8], [0x02, 0x40]);
    let described = user.run(&["eif", "describe", &image, "-o", "json"]).succeeded().json();
    assert_eq!((&described["CheckCRC"], &described["SignatureCheck"]), (&true.into(), &true.into()));
    let _ = user.run(&["eif", "sign", &image, "--remove"]).succeeded();
    assert!(fs::read(&image).unwrap() == flagged);
}

#[test]
fn a_full_disk_leaves_the_old_image_and_nothing_half() {
    let user = User::new();
    let signer = Signer::new(&user, "signer");
    let image = user.file("app.eif", golden());
    let before = names(&user);
    // A limit on the size of files stands for it; SIGXFSZ is ignored, so that writing fails.
    let words = format!(
        "trap '' XFSZ; ulimit -f 1; exec {} eif sign {image} --sign-key {} --sign-cert {}",
        env!("CARGO_BIN_EXE_enclave"),
        signer.key,
        signer.certificate
    );
    let mut shell = std::process::Command::new("sh");
    let ran = Ran::of(shell.args(["-c", &words]).env("HOME", user.path("home")));
    let _ = ran.failed(&["app.eif", "cannot be written", "file system"]);
    assert_eq!(names(&user), before);
    assert!(fs::read(&image).unwrap() == golden());
}

#[test]
fn the_command_line_says_how_to_sign() {
    let user = User::new();
    let image = user.file("app.eif", golden());
    for words in [
        &["eif", "sign", &image][..],
        &["eif", "sign", &image, "--sign-key", "x"],
        &["eif", "sign", &image, "--signature", "x"],
        &["eif", "sign", &image, "--remove", "--sign-cert", "x"],
        &["eif", "sign", &image, "--sign-key", "x", "--signature", "x", "--sign-cert", "x"],
        &["eif", "measure", &image, "--to-be-signed", "x"],
    ] {
        assert_eq!(user.run(words).status, 2, "{words:?}");
    }
}
