mod rotation;

use std::os::unix::fs::PermissionsExt;

use super::*;

const FIRST: &str = "kms:CreateKey";

fn entry(operation: &str) -> Entry<'_> {
    Entry {
        time: SystemTime::UNIX_EPOCH,
        principal: "arn:aws:iam::000000000000:user/a",
        operation,
        key: Some("arn:aws:kms:local-1:000000000000:key/1234"),
        policy_sha256: None,
        allowed: true,
        reason: "statement 0",
        request_id: "1",
        source: "unix",
    }
}

/// A log of five entries; its text.
fn log() -> (tempfile::TempDir, PathBuf, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let log = AuditLog::open(&path).unwrap();
    log.append_durably(&entry(FIRST)).unwrap();
    for operation in ["kms:Encrypt", "kms:Decrypt", "kms:Decrypt", "kms:GenerateRandom"] {
        log.append(&entry(operation)).unwrap();
    }
    drop(log);
    let text = std::fs::read_to_string(&path).unwrap();
    (folder, path, text)
}

fn check(text: &str) -> Result<Summary, VerifyError> {
    verify(text.as_bytes(), None)
}

#[test]
fn each_line_has_the_sha256_of_the_line_before_as_sha256sum_computes_it() {
    let (folder, _, text) = log();
    let lines: Vec<&str> = text.lines().collect();
    for pair in lines.windows(2) {
        let file = folder.path().join("line");
        std::fs::write(&file, pair[0]).unwrap();
        let output = std::process::Command::new("sha256sum").arg(&file).output().unwrap();
        let expected = String::from_utf8(output.stdout).unwrap()[..64].to_owned();
        let line: serde_json::Value = serde_json::from_str(pair[1]).unwrap();
        assert_eq!(line["previous"], expected);
    }
    let first: serde_json::Value = serde_json::from_str(lines[0]).unwrap();
    assert_eq!((first["number"].clone(), first["previous"].clone()), (1.into(), "0".repeat(64).into()));
    assert_eq!(check(&text).unwrap().entries, 5);
}

#[test]
fn the_file_is_its_users_alone_and_goes_on_where_it_ended() {
    let (_folder, path, text) = log();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    AuditLog::open(&path).unwrap().append(&entry("kms:Encrypt")).unwrap();
    let longer = std::fs::read_to_string(&path).unwrap();
    assert!(longer.starts_with(&text));
    assert_eq!(check(&longer).unwrap().entries, 6);
}

#[test]
fn a_changed_line_is_found() {
    let (_folder, _, text) = log();
    let changed = text.replacen("kms:Encrypt", "kms:Decrypt", 1);
    assert!(matches!(check(&changed), Err(VerifyError::Chain(3))));
}

#[test]
fn a_removed_line_is_found_wherever_it_was_but_at_the_end() {
    let (_folder, _, text) = log();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    for removed in 0..4 {
        let mut left = lines.clone();
        left.remove(removed);
        let expected = u64::try_from(removed).unwrap() + 1;
        assert!(
            matches!(check(&left.concat()), Err(VerifyError::Chain(line)) if line == expected),
            "{removed}"
        );
    }
}

#[test]
fn lines_missing_at_the_end_are_found_by_an_entry_kept_elsewhere() {
    let (_folder, _, text) = log();
    let head = check(&text).unwrap().head;
    let shorter: String = text.split_inclusive('\n').take(4).collect();
    assert!(check(&shorter).is_ok());
    assert!(matches!(verify(shorter.as_bytes(), Some(&head)), Err(VerifyError::Head(5))));
    assert_eq!(verify(text.as_bytes(), Some(&head.to_string().parse().unwrap())).unwrap().head, head);
}

#[test]
fn exchanged_lines_and_a_line_that_is_there_twice_are_found() {
    let (_folder, _, text) = log();
    let mut lines: Vec<&str> = text.split_inclusive('\n').collect();
    lines.swap(2, 3);
    assert!(matches!(check(&lines.concat()), Err(VerifyError::Chain(3))));
    lines.swap(2, 3);
    lines.insert(3, lines[2]);
    assert!(matches!(check(&lines.concat()), Err(VerifyError::Chain(4))));
}

#[test]
fn a_line_cut_at_any_byte_is_told_of_and_the_chain_goes_on() {
    let (_folder, path, text) = log();
    let start = text.trim_end().rfind('\n').unwrap() + 1;
    // 0 bytes of a line are no line; all but the newline are a whole one.
    for kept in start..text.len() {
        std::fs::write(&path, &text[..kept]).unwrap();
        let log = AuditLog::open(&path).unwrap();
        log.append(&entry("kms:Decrypt")).unwrap();
        drop(log);
        let mended = std::fs::read_to_string(&path).unwrap();
        let summary = check(&mended).unwrap();
        let (entries, unfinished) = match kept {
            _ if kept == start => (5, 0),
            _ if kept == text.len() - 1 => (6, 0),
            _ => (6, 1),
        };
        assert_eq!((summary.entries, summary.unfinished), (entries, unfinished), "{kept}");
        assert_eq!(mended.contains(RECOVERED), unfinished == 1);
        assert!(mended.starts_with(&text[..kept]), "nothing is ever removed");
    }
}

#[test]
fn a_first_line_cut_is_told_of() {
    let (_folder, path, text) = log();
    std::fs::write(&path, &text[..20]).unwrap();
    drop(AuditLog::open(&path).unwrap());
    // As after a crash before the entry that tells of it.
    let mended = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{}\n", &text[..20])).unwrap();
    drop(AuditLog::open(&path).unwrap());
    assert_eq!(check(&mended).unwrap().unfinished, 1);
    assert_eq!(check(&std::fs::read_to_string(&path).unwrap()).unwrap().unfinished, 1);
}

#[test]
fn a_line_of_something_else_is_refused_unless_the_next_tells_of_it() {
    let (_folder, path, text) = log();
    assert!(matches!(check(&format!("{text}hello\n")), Err(VerifyError::NotAnEntry(6))));
    assert!(matches!(check(&format!("hello\nhello\n{text}")), Err(VerifyError::NotAnEntry(1))));
    assert!(matches!(check(&text[..text.len() - 1]), Err(VerifyError::Unfinished(5))));
    std::fs::write(&path, format!("{text}hello\nhello\n")).unwrap();
    assert!(matches!(AuditLog::open(&path), Err(AuditError::Damaged(_))));
}

#[test]
fn a_log_in_use_readable_by_others_or_behind_a_link_is_refused() {
    let (folder, path, _) = log();
    let held = AuditLog::open(&path).unwrap();
    assert!(matches!(AuditLog::open(&path), Err(AuditError::InUse(_))));
    drop(held);
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    assert!(matches!(AuditLog::open(&link), Err(AuditError::File(FileError::NotPrivate { .. }))));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(AuditLog::open(&path), Err(AuditError::File(FileError::NotPrivate { .. }))));
}

#[test]
fn the_longest_entry_fits_and_a_longer_one_is_cut_with_a_mark() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let log = AuditLog::open(&path).unwrap();
    let (field, reason) = ("\u{1}".repeat(MAX_FIELD_LEN), "\u{1}".repeat(MAX_REASON_LEN));
    let longest = |reason| Entry {
        principal: &field,
        operation: &field,
        key: Some(&field),
        policy_sha256: Some([0xff; 32]),
        request_id: &field,
        source: &field,
        reason,
        ..entry("")
    };
    log.append(&longest(&reason)).unwrap();
    log.append(&longest(&format!("{reason}x"))).unwrap();
    drop(log);
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["reason"], reason);
    assert_eq!(lines[1]["reason"].as_str().unwrap().len(), MAX_REASON_LEN);
    assert!(lines[1]["reason"].as_str().unwrap().ends_with(CUT));
    assert!(text.lines().all(|line| line.len() <= MAX_LINE_LEN));
    AuditLog::open(&path).unwrap().append(&entry("kms:Decrypt")).unwrap();
    assert_eq!(check(&std::fs::read_to_string(&path).unwrap()).unwrap().entries, 3);
}

#[test]
fn a_write_that_fails_in_the_middle_is_mended_by_the_next() {
    let (_folder, path, text) = log();
    let log = AuditLog::open(&path).unwrap();
    {
        // What a full disk leaves: the beginning of a line.
        let mut tail = log.tail.lock().unwrap();
        tail.file.write_all(b"{\"number\":6,").unwrap();
        tail.unfinished = true;
    }
    log.append(&entry("kms:Decrypt")).unwrap();
    let mended = std::fs::read_to_string(&path).unwrap();
    assert!(mended.starts_with(&text));
    assert_eq!(check(&mended).unwrap(), Summary { entries: 7, unfinished: 1, ..check(&mended).unwrap() });
}

#[test]
fn a_log_of_an_earlier_version_goes_on_with_lines_that_name_a_policy() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    // As versions before `policySha256` wrote it.
    let old = r#"{"number":1,"time":"2026-11-22T21:40:36.682492Z","principal":"p","operation":"kms:PutKeyPolicy","key":"k","allowed":true,"reason":"r","requestId":"1","source":"unix","previous":"0000000000000000000000000000000000000000000000000000000000000000"}"#;
    std::fs::write(&path, format!("{old}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let log = AuditLog::open(&path).unwrap();
    log.append(&Entry { policy_sha256: Some([0xab; 32]), ..entry("kms:PutKeyPolicy") }).unwrap();
    log.append(&entry("kms:Decrypt")).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(check(&text).unwrap().entries, 3);
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[1]["policySha256"], "ab".repeat(32));
    assert!(lines[2].get("policySha256").is_none(), "{text}");
}
