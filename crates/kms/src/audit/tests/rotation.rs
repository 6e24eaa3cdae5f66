//! A log in several files.

use std::fs;

use super::*;

/// Checks these files, one after the other.
fn check_all(files: &[&Path], known: Option<&Head>) -> Result<Summary, VerifyError> {
    let mut verification = Verification::new(known);
    for file in files {
        verification.read(io::BufReader::new(File::open(file).unwrap()))?;
    }
    verification.finish()
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_new_file_names_the_last_entry_of_the_old_one_and_the_chain_goes_on() {
    let (folder, path, text) = log();
    let head = check(&text).unwrap().head;
    let rotated = rotate(&path).unwrap();
    assert_eq!((rotated.summary.entries, &rotated.summary.head), (5, &head));
    assert_eq!(rotated.archive, folder.path().join("audit.jsonl.000000000001"));
    assert_eq!(fs::read_to_string(&rotated.archive).unwrap(), text);
    assert_eq!(names(folder.path()), ["audit.jsonl", "audit.jsonl.000000000001"]);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);

    let first: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!((&first["number"], &first["operation"]), (&6.into(), &CONTINUED.into()));
    assert_eq!(first["previous"], hex::encode(head.hash));
    let reason = first["reason"].as_str().unwrap();
    assert!(reason.contains(&head.to_string()) && reason.contains("audit.jsonl.000000000001"), "{reason}");

    AuditLog::open(&path).unwrap().append(&entry("kms:Decrypt")).unwrap();
    let alone = check(&fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!((alone.entries, alone.head.number, alone.continues), (2, 7, Some(head)));
    let whole = check_all(&[&rotated.archive, &path], None).unwrap();
    assert_eq!((whole.entries, whole.head.number, whole.continues), (7, 7, None));
}

#[test]
fn files_are_named_so_that_they_sort_as_they_follow_each_other() {
    let (folder, path, _) = log();
    for _ in 0..3 {
        rotate(&path).unwrap();
    }
    let found = names(folder.path());
    assert_eq!(found[1..], [1, 6, 7].map(|first| format!("audit.jsonl.{first:012}")));
    let mut files: Vec<PathBuf> = found[1..].iter().map(|name| folder.path().join(name)).collect();
    files.push(path);
    let files: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
    assert_eq!(check_all(&files, None).unwrap().entries, 8);
}

#[test]
fn files_in_another_order_missing_ones_and_changed_ones_are_found() {
    let (folder, path, text) = log();
    let first = rotate(&path).unwrap().archive;
    let second = rotate(&path).unwrap().archive;
    assert!(matches!(check_all(&[&second, &first], None), Err(VerifyError::Order)));
    assert!(matches!(check_all(&[&first, &path], None), Err(VerifyError::Order)));
    assert!(matches!(check_all(&[&first, &first], None), Err(VerifyError::Order)));
    let changed = folder.path().join("changed");
    fs::write(&changed, text.replacen("kms:GenerateRandom", "kms:Decrypt", 1)).unwrap();
    assert!(matches!(check_all(&[&changed, &second, &path], None), Err(VerifyError::Order)));
    let shorter: String = text.split_inclusive('\n').take(4).collect();
    fs::write(&changed, shorter).unwrap();
    assert!(matches!(check_all(&[&changed, &second, &path], None), Err(VerifyError::Order)));
}

#[test]
fn an_entry_kept_elsewhere_is_found_in_the_file_that_goes_on_behind_it_and_in_any_earlier() {
    let (_folder, path, text) = log();
    let head = check(&text).unwrap().head;
    let archive = rotate(&path).unwrap().archive;
    assert!(check_all(&[&path], Some(&head)).is_ok());
    assert!(check_all(&[&archive, &path], Some(&head)).is_ok());
    let another = Head { hash: [7; 32], ..head };
    assert!(matches!(check_all(&[&path], Some(&another)), Err(VerifyError::Head(5))));
    assert!(matches!(check_all(&[&archive, &path], Some(&another)), Err(VerifyError::Head(5))));
}

#[test]
fn a_file_that_begins_in_the_middle_without_saying_so_is_refused() {
    let (_folder, _, text) = log();
    let rest: String = text.split_inclusive('\n').skip(2).collect();
    assert!(matches!(check(&rest), Err(VerifyError::Chain(1))));
    // Nor does it help to say so later, or to go on behind nothing.
    let (_folder, path, text) = log();
    let log = AuditLog::open(&path).unwrap();
    log.append(&entry(CONTINUED)).unwrap();
    let later = fs::read_to_string(&path).unwrap();
    let without_third: String =
        later.split_inclusive('\n').enumerate().filter(|(at, _)| *at != 2).map(|(_, line)| line).collect();
    assert!(matches!(check(&without_third), Err(VerifyError::Chain(3))));
    let first = text.replacen(FIRST, CONTINUED, 1);
    let first = first.split_inclusive('\n').next().unwrap();
    assert_eq!(check(first).unwrap().continues, None);
}

#[test]
fn a_rotation_that_was_interrupted_is_made_up_for_whatever_was_written_since() {
    let (folder, path, text) = log();
    // After the old file got its second name and before the new one took its place.
    let archive = folder.path().join("audit.jsonl.000000000001");
    fs::hard_link(&path, &archive).unwrap();
    AuditLog::open(&path).unwrap().append(&entry("kms:Decrypt")).unwrap();
    let rotated = rotate(&path).unwrap();
    assert_eq!((rotated.archive.as_path(), rotated.summary.entries), (archive.as_path(), 6));
    assert!(fs::read_to_string(&archive).unwrap().starts_with(&text));
    assert_eq!(names(folder.path()), ["audit.jsonl", "audit.jsonl.000000000001"]);
    assert_eq!(check_all(&[&archive, &path], None).unwrap().entries, 7);
}

#[test]
fn a_file_that_is_there_already_is_not_replaced() {
    let (folder, path, text) = log();
    let archive = folder.path().join("audit.jsonl.000000000001");
    fs::write(&archive, "mine").unwrap();
    let error = rotate(&path).unwrap_err();
    assert!(error.to_string().contains("audit.jsonl.000000000001"), "{error}");
    assert_eq!(fs::read_to_string(&archive).unwrap(), "mine");
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
    assert_eq!(names(folder.path()).len(), 2);
}

#[test]
fn a_log_that_is_in_use_missing_empty_or_changed_is_not_rotated() {
    let (folder, path, text) = log();
    let held = AuditLog::open(&path).unwrap();
    assert!(matches!(rotate(&path), Err(RotateError::Log(AuditError::InUse(_)))));
    drop(held);
    fs::write(&path, text.replacen("kms:Encrypt", "kms:Decrypt", 1)).unwrap();
    assert!(matches!(rotate(&path), Err(RotateError::NotWhole { error: VerifyError::Chain(3), .. })));
    fs::write(&path, "").unwrap();
    assert!(matches!(rotate(&path), Err(RotateError::Empty(_))));
    fs::remove_file(&path).unwrap();
    assert!(rotate(&path).unwrap_err().to_string().contains("No such file"));
    assert!(names(folder.path()).is_empty());
}

#[test]
fn a_line_that_was_cut_is_told_of_before_the_log_is_rotated() {
    let (_folder, path, text) = log();
    fs::write(&path, &text[..text.len() - 9]).unwrap();
    let rotated = rotate(&path).unwrap();
    assert_eq!((rotated.summary.entries, rotated.summary.unfinished), (5, 1));
    assert_eq!(check_all(&[&rotated.archive, &path], None).unwrap().unfinished, 1);
}

#[test]
fn a_log_that_was_put_away_while_it_was_being_opened_is_not_written() {
    let (_folder, path, text) = log();
    let held = AuditLog::open(&path).unwrap();
    // What a service does that was faster in opening the file than in locking it.
    let opened = private_file::open(&path, OFlags::RDWR | OFlags::APPEND).unwrap();
    drop(held);
    let archive = rotate(&path).unwrap().archive;
    assert!(matches!(AuditLog::of(opened, &path), Err(AuditError::InUse(_))));
    assert_eq!(fs::read_to_string(&archive).unwrap(), text);
}
