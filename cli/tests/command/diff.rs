//! `eif diff` on images that differ in one known thing.

use serde_json::{Value, json};

use crate::eif::METADATA;
use crate::newc::{Member, archive, piped, sound_image};
use crate::signed::Signer;
use crate::support::{Ran, User};

/// The sections of an image of two ramdisks.
#[derive(Clone)]
struct Parts {
    kernel: Vec<u8>,
    cmdline: Vec<u8>,
    metadata: String,
    ramdisks: Vec<Vec<u8>>,
}

fn members() -> Vec<Member> {
    vec![
        Member { inode: 1, ..Member::file("rootfs", "").mode(0o040_755) },
        Member { inode: 2, ..Member::file("rootfs/app", "program").mode(0o100_755) },
        Member { inode: 3, ..Member::file("rootfs/link", "app").mode(0o120_777) },
        Member { inode: 4, ..Member::file("rootfs/motd", "hello") },
    ]
}

fn parts() -> Parts {
    Parts {
        kernel: b"KERNEL".to_vec(),
        cmdline: b"console=ttyS0".to_vec(),
        metadata: METADATA.to_owned(),
        ramdisks: vec![archive(&[Member::file("init", "init")]), archive(&members())],
    }
}

impl Parts {
    fn image(&self) -> Vec<u8> {
        let mut sections: Vec<(u16, &[u8])> =
            vec![(1, &self.kernel), (2, &self.cmdline), (5, self.metadata.as_bytes())];
        sections.extend(self.ramdisks.iter().map(|ramdisk| (3, ramdisk.as_slice())));
        sound_image(&sections)
    }
}

/// Compares images A and B; text if not asked for JSON.
fn diff(user: &User, a: &Parts, b: &Parts, more: &[&str]) -> Ran {
    let (a, b) = (user.file("a.eif", a.image()), user.file("b.eif", b.image()));
    user.run(&[&["eif", "diff", &a, &b], more].concat())
}

#[track_caller]
fn differences(status: i32, b: &Parts) -> Value {
    let user = User::new();
    let ran = diff(&user, &parts(), b, &["-o", "json"]);
    assert_eq!(ran.status, status, "{ran:#?}");
    let report = ran.json();
    assert_eq!(report["Same"], status == 0);
    // What is said of registers is what `measure` says.
    for register in ["PCR0", "PCR1", "PCR2"] {
        let measured = |name: &str| {
            let path = user.path(name).to_str().unwrap().to_owned();
            user.run(&["eif", "measure", &path, "-o", "json"]).succeeded().json()["Measurements"][register]
                .clone()
        };
        let named = report["Differences"].as_array().unwrap().iter();
        let named = named.flat_map(|found| found["PCRs"].as_array().unwrap()).any(|name| name == register);
        assert_eq!(measured("a.eif") != measured("b.eif"), named, "{register}: {report}");
    }
    report["Differences"].clone()
}

fn with_members(change: impl FnOnce(&mut Vec<Member>)) -> Parts {
    let mut members = members();
    change(&mut members);
    Parts { ramdisks: vec![parts().ramdisks[0].clone(), archive(&members)], ..parts() }
}

#[test]
fn equal_images_and_images_that_differ_in_what_is_not_measured_have_the_same_pcrs() {
    assert_eq!(differences(0, &parts()), json!([]));
    let later =
        Parts { metadata: METADATA.replace("2026-01-01", "2026-01-02").replace("\"n\"", "\"m\""), ..parts() };
    let found = differences(0, &later);
    assert_eq!((&found[0]["Section"], &found[0]["PCRs"]), (&"metadata".into(), &json!([])));
    assert_eq!(
        found[0]["Keys"],
        json!([
            {"Key": "BuildMetadata.BuildTime", "A": "2026-01-01T00:00:00Z", "B": "2026-01-02T00:00:00Z"},
            {"Key": "ImageName", "A": "n", "B": "m"},
        ])
    );
    let user = User::new();
    let text = diff(&user, &parts(), &later, &[]).succeeded().stdout;
    assert!(text.contains("The PCRs are the same.") && text.contains("No PCR differs for:"), "{text}");
    assert!(text.contains("BuildMetadata.BuildTime"), "{text}");
    let text = diff(&user, &parts(), &parts(), &[]).succeeded().stdout;
    assert!(text.contains("Nothing in them differs."), "{text}");
}

#[test]
fn kernel_and_command_line_move_pcr_0_and_1() {
    let found = differences(1, &Parts { cmdline: b"console=ttyS0 quiet".to_vec(), ..parts() });
    assert_eq!(found.as_array().unwrap().len(), 1);
    assert_eq!((&found[0]["Section"], &found[0]["PCRs"]), (&"command line".into(), &json!(["PCR0", "PCR1"])));
    assert_eq!(found[0]["Text"], json!({"A": "console=ttyS0", "B": "console=ttyS0 quiet"}));

    let mut kernel = vec![0; 0x600];
    kernel[0x202..0x206].copy_from_slice(b"HdrS");
    kernel[0x20e..0x210].copy_from_slice(&0x300_u16.to_le_bytes());
    kernel[0x500..0x508].copy_from_slice(b"6.12.63 ");
    let found = differences(1, &Parts { kernel, ..parts() });
    assert_eq!((&found[0]["Section"], &found[0]["PCRs"]), (&"kernel".into(), &json!(["PCR0", "PCR1"])));
    assert_eq!(found[0]["KernelVersion"], json!({"A": null, "B": "6.12.63"}));
    assert_eq!((&found[0]["data"], &found[0]["Data"]["A"]["Size"]), (&Value::Null, &6.into()));
}

#[test]
fn every_property_of_a_file_is_told_and_moves_pcr_0_and_2() {
    type Change = fn(&mut Vec<Member>);
    let cases: [(Change, &str, &str, Value); 10] = [
        (|m| m[3].mode = 0o100_600, "Mode", "rootfs/motd", json!(["0644", "0600"])),
        (|m| m[3].uid = 5, "Owner", "rootfs/motd", json!(["0", "5"])),
        (|m| m[3].gid = 6, "Group", "rootfs/motd", json!(["0", "6"])),
        (|m| m[3].mtime = 7, "Mtime", "rootfs/motd", json!(["0", "7"])),
        (|m| m[3].inode = 8, "Inode", "rootfs/motd", json!(["4", "8"])),
        (|m| m[3].links = 2, "Links", "rootfs/motd", json!(["1", "2"])),
        (|m| m[2].content = b"motd".to_vec(), "Target", "rootfs/link", json!(["app", "motd"])),
        (|m| m[3].mode = 0o010_644, "Type", "rootfs/motd", json!(["file", "named pipe"])),
        (|m| m.push(Member::file("rootfs/new", "")), "OnlyInB", "rootfs/new", Value::Null),
        (|m| drop(m.pop()), "OnlyInA", "rootfs/motd", Value::Null),
    ];
    for (change, name, path, values) in cases {
        let found = differences(1, &with_members(change));
        assert_eq!(
            (&found[0]["Section"], &found[0]["PCRs"]),
            (&"ramdisk 2".into(), &json!(["PCR0", "PCR2"])),
            "{name}"
        );
        let file = &found[0]["Files"]["List"][0];
        assert_eq!((&file["Path"], &file["Change"]), (&path.into(), &name.into()), "{found}");
        if !values.is_null() {
            assert_eq!(json!([file["A"], file["B"]]), values, "{name}");
        }
    }
    let found = differences(1, &with_members(|m| m[3].content = b"HELLO".to_vec()));
    let file = &found[0]["Files"]["List"][0];
    assert_eq!(file["Change"], "Content");
    // `printf hello | sha384sum`
    let hash =
        "59e1748777448c69de6b800d7a33bbfb9ff1b463e44354c3553bcdb9c666fa90125a3c79f90397bdf5f6a13de828684f";
    assert_eq!(file["A"], format!("5 bytes, SHA-384 {hash}"));
}

#[test]
fn order_packing_and_compression_are_told_where_the_files_are_the_same() {
    let swapped = differences(1, &with_members(|m| m.swap(1, 3)));
    assert_eq!(swapped[0]["Files"]["Order"], json!({"A": "rootfs/app", "B": "rootfs/motd"}));
    let padded = |ramdisk: Vec<u8>| Parts { ramdisks: vec![parts().ramdisks[0].clone(), ramdisk], ..parts() };
    let found = differences(1, &padded([archive(&members()), vec![0; 512]].concat()));
    assert_eq!((&found[0]["Files"]["OnlyPacking"], &found[0]["Files"]["List"]), (&true.into(), &json!([])));
    let found = differences(1, &padded(piped("zstd", &archive(&members()))));
    assert_eq!(found[0]["Files"]["Compression"], json!({"A": "none", "B": "zstd"}));
    assert_eq!(found[0]["Files"]["OnlyPacking"], false);
    let cut = archive(&members());
    let found = differences(1, &padded(cut[..cut.len() - 130].to_vec()));
    assert!(found[0]["Files"]["Unread"]["B"].as_str().unwrap().contains("truncated"), "{found}");
}

#[test]
fn ramdisks_that_only_one_has_and_bytes_that_change_section_are_told() {
    let mut more = parts();
    more.ramdisks.push(b"third".to_vec());
    let found = differences(1, &more);
    assert_eq!((&found[0]["Section"], &found[0]["Data"]["A"]), (&"ramdisk 3".into(), &Value::Null));
    assert_eq!(found[0]["PCRs"], json!(["PCR0", "PCR2"]));
    // The same bytes in a row: PCR 0 and PCR 1 do not see where one section ends.
    let moved = Parts { kernel: b"KERNELcon".to_vec(), cmdline: b"sole=ttyS0".to_vec(), ..parts() };
    let found = differences(0, &moved);
    assert_eq!(found.as_array().unwrap().len(), 2);
    assert_eq!((&found[0]["PCRs"], &found[1]["PCRs"]), (&json!([]), &json!([])));
}

#[test]
fn signers_move_pcr_8_and_signatures_by_the_same_one_none() {
    let user = User::new();
    let (first, second) = (Signer::new(&user, "first"), Signer::new(&user, "second"));
    let signed = |name: &str, signer: &Signer| {
        let path = user.file(name, parts().image());
        let words = ["eif", "sign", &path, "--sign-key", &signer.key, "--sign-cert", &signer.certificate];
        let _ = user.run(&words).succeeded();
        path
    };
    let plain = user.file("plain.eif", parts().image());
    let (by_first, by_second) = (signed("first.eif", &first), signed("second.eif", &second));
    for (a, b) in [(&plain, &by_first), (&by_first, &by_second)] {
        let ran = user.run(&["eif", "diff", a, b, "-o", "json"]);
        assert_eq!(ran.status, 1, "{ran:#?}");
        let found = &ran.json()["Differences"];
        assert_eq!(found.as_array().unwrap().len(), 1, "{found}");
        assert_eq!((&found[0]["Section"], &found[0]["PCRs"]), (&"signature".into(), &json!(["PCR8"])));
        let ran = user.run(&["eif", "diff", a, b]);
        assert!(
            ran.stdout.contains("PCR8 differs") && ran.stdout.contains("signed by CN=signer"),
            "{ran:#?}"
        );
    }
    // OpenSSL's signature over the same bytes is another one each time.
    let (tbs, der) = (user.path("tbs"), user.path("der"));
    let (tbs, der) = (tbs.to_str().unwrap(), der.to_str().unwrap());
    let words = ["eif", "measure", &plain, "--sign-cert", &first.certificate, "--to-be-signed", tbs];
    let _ = user.run(&words).succeeded();
    crate::signed::openssl(&["dgst", "-sha384", "-sign", &first.key, "-out", der, tbs]);
    let words = ["eif", "sign", &plain, "--signature", der, "--sign-cert", &first.certificate];
    let _ = user.run(&words).succeeded();
    let ran = user.run(&["eif", "diff", &plain, &by_first, "-o", "json"]).succeeded();
    assert_eq!(ran.json()["Differences"][0]["PCRs"], json!([]));
}

#[test]
fn text_is_grouped_by_register_bounded_and_safe_and_json_is_complete() {
    let user = User::new();
    let many = |inode: u32, content: &str| {
        let files = (0..500).map(|number| Member {
            inode: number + inode,
            ..Member::file(&format!("rootfs/file-{number}"), content)
        });
        let files: Vec<Member> = files.chain([Member::file("rootfs/\x1b[2J", content)]).collect();
        Parts { ramdisks: vec![parts().ramdisks[0].clone(), archive(&files)], ..parts() }
    };
    let (a, b) = (many(0, "one"), Parts { cmdline: b"other".to_vec(), ..many(1, "two") });
    let ran = diff(&user, &a, &b, &[]);
    assert_eq!(ran.status, 1);
    let text = ran.stdout;
    let at = |words: &str| text.find(words).unwrap_or_else(|| panic!("{words}: {text}"));
    assert!(at("PCR0 differs") < at("PCR1 differs"));
    assert!(at("PCR1 differs") < at("A: console=ttyS0") && at("B: other") < at("PCR2 differs"));
    assert!(
        at("content: 501 files") < at("inode number of 500 files")
            && text.contains("first rootfs/file-0: 0 -> 1")
    );
    assert!(text.contains("more files: -o json has them all") && text.lines().count() < 40, "{text}");
    assert!(!text.contains('\x1b'));
    let report = diff(&user, &a, &b, &["-o", "json"]).json();
    assert_eq!(report["Differences"][1]["Files"]["List"].as_array().unwrap().len(), 1001);
}

#[test]
fn trouble_has_a_status_of_its_own() {
    let user = User::new();
    let image = user.file("a.eif", parts().image());
    let text = user.file("text", "hello");
    let missing = user.path("missing").to_str().unwrap().to_owned();
    for other in [&text, &missing] {
        let ran = user.run(&["eif", "diff", &image, other]);
        assert_eq!((ran.status, ran.stdout.as_str()), (2, ""), "{ran:#?}");
        let _ = ran.says(&[other]);
    }
    let mut damaged = parts().image();
    *damaged.last_mut().unwrap() ^= 1;
    let damaged = user.file("damaged.eif", damaged);
    let ran = user.run(&["eif", "diff", &image, &damaged]);
    assert_eq!(ran.status, 1);
    assert!(ran.stderr.contains("checksum of"), "{ran:#?}");
}
