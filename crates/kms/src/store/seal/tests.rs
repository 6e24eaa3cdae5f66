use super::*;

const ROW: Row<'static> = Row { table: "keys", name: "one" };

fn sealer() -> Sealer {
    Sealer::new(MasterKey::from_bytes(Zeroizing::new([7; 32])), [1; DATABASE_ID_LEN])
}

fn fields(text: &[&str]) -> Fields {
    text.iter().fold(Fields::default(), |fields, text| fields.with(text.as_bytes()))
}

#[test]
fn what_was_sealed_is_opened_by_its_row_fields_database_and_key_alone() {
    let sealed = sealer().seal(ROW, &fields(&["a", "b"]), b"secret").unwrap();
    assert_eq!(sealer().open(ROW, &fields(&["a", "b"]), &sealed).unwrap().as_slice(), b"secret");
    for row in [Row { table: "aliases", name: "one" }, Row { table: "keys", name: "two" }] {
        assert!(sealer().open(row, &fields(&["a", "b"]), &sealed).is_none());
    }
    // The same bytes, otherwise divided.
    for other in [&["ab"][..], &["", "ab"], &["a", "b", ""], &["a"]] {
        assert!(sealer().open(ROW, &fields(other), &sealed).is_none());
    }
    let other_key = Sealer::new(MasterKey::from_bytes(Zeroizing::new([8; 32])), [1; DATABASE_ID_LEN]);
    let other_database = Sealer::new(MasterKey::from_bytes(Zeroizing::new([7; 32])), [2; DATABASE_ID_LEN]);
    for other in [other_key, other_database] {
        assert!(other.open(ROW, &fields(&["a", "b"]), &sealed).is_none());
        assert!(!other.is_key_check(&*sealer().key_check()));
    }
    assert!(sealer().is_key_check(&*sealer().key_check()));
}

#[test]
fn no_bit_and_no_length_of_a_seal_can_be_changed() {
    let sealed = sealer().seal(ROW, &fields(&[]), b"secret").unwrap();
    for bit in 0..sealed.len() * 8 {
        let mut changed = sealed.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(sealer().open(ROW, &fields(&[]), &changed).is_none(), "bit {bit}");
    }
    for length in 0..sealed.len() {
        assert!(sealer().open(ROW, &fields(&[]), &sealed[..length]).is_none());
    }
}

#[test]
fn the_same_secret_is_sealed_differently_each_time() {
    let seal = || sealer().seal(ROW, &fields(&[]), b"secret").unwrap();
    assert_ne!(seal()[..NONCE_LEN], seal()[..NONCE_LEN]);
}

#[test]
fn keys_are_derived_as_openssl_derives_them() {
    let info: Vec<u8> = (0..100).collect();
    let output = std::process::Command::new("openssl")
        .args(["kdf", "-keylen", "32", "-kdfopt", "digest:SHA2-256", "-kdfopt", "mode:EXPAND_ONLY"])
        .args(["-kdfopt", &format!("hexkey:{}", hex::encode([7; 32]))])
        .args(["-kdfopt", &format!("hexinfo:{}", hex::encode(&info)), "-binary", "HKDF"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.stdout, *expand(&[7; 32], &info));
}

#[test]
fn a_sum_forgets_what_is_taken_away_and_knows_no_order() {
    let sealer = sealer();
    let count = |name| sealer.count(Row { table: "keys", name }, b"sealed");
    let mut sum = Sum::default();
    ["a", "b", "c"].map(|name| sum.add(&count(name)));
    let mut other = Sum::default();
    ["c", "d", "a"].map(|name| other.add(&count(name)));
    assert_ne!(sum, other);
    other.subtract(&count("d"));
    other.add(&count("b"));
    assert_eq!(sum, other);
    assert_eq!(Sum::from_bytes(&*sum.to_bytes()), sum);
    assert_ne!(count("a"), sealer.count(Row { table: "keys", name: "a" }, b"another"));
}
