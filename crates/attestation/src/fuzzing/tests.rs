//! The fuzz target's body, on its corpus and on mutations of it.

use std::collections::BTreeMap;

use getrandom::SysRng;

use super::*;
use crate::cose;
use crate::identity::EnclaveId;
use crate::pcr::{Pcr, PcrIndex};
use crate::pki::RootAuthority;

/// Mutations of each input.
const MUTATIONS: u64 = 60;

#[test]
fn the_corpus_breaks_nothing() {
    corpus::replay("document", MUTATIONS, |input| _ = document(input));
}

/// The genuine documents verify, in their several wrappings, and nothing else of the corpus does.
#[test]
fn the_corpus_is_what_its_names_say() {
    for (name, input) in corpus::inputs("document") {
        let genuine =
            ["aws-production", "aws-debug"].contains(&name.as_str()) || name.starts_with("our-document");
        assert_eq!(document(&input), genuine, "{name}");
        let certificates = ["aws-root", "aws-root-pem", "aws-leaf", "our-root", "our-leaf"];
        let is_certificate = certificates.contains(&name.as_str());
        assert_eq!(certificate(&input), is_certificate, "{name}");
        assert_eq!(policy_file(&input), name == "policy", "{name}");
    }
}

/// The form of a document's map that AWS's modules write since 2026: no length, but an end.
fn indefinite(payload: &[u8]) -> Vec<u8> {
    let rest = payload.strip_prefix(&[0xa9]).unwrap();
    [&[0xbf], rest, &[0xff]].concat()
}

#[test]
#[ignore = "writes the seeds of the corpus anew, all but AWS's"]
fn write_seeds() {
    let now = UNIX_EPOCH + Duration::from_secs(1_795_316_400);
    let enclave: EnclaveId = "i-1234567890abcdef0-enc0123456789abcdef".parse().unwrap();
    let root = RootAuthority::generate(now, &mut SysRng).unwrap();
    let host = root.issue_host(enclave.instance(), now, &mut SysRng).unwrap();
    let authority = host.issue_enclave(&enclave, now, &mut SysRng).unwrap();
    let leaf = authority.issue_leaf(&enclave, now, &mut SysRng).unwrap();
    let stranger = RootAuthority::generate(now, &mut SysRng).unwrap();
    let mut content = AttestationDocument {
        module_id: enclave.module_id(),
        timestamp: 1_795_316_400_000,
        pcrs: PcrIndex::all().take(16).map(|index| (index, Pcr::from_bytes([index.get(); 48]))).collect(),
        certificate: leaf.certificate.as_der().to_vec(),
        cabundle: authority.chain().iter().map(|link| link.as_der().to_vec()).collect(),
        public_key: Some(b"public key".to_vec()),
        user_data: Some(b"user data".to_vec()),
        nonce: None,
    };
    let sign = |payload: &[u8]| cose::sign(payload, &leaf.key).unwrap();
    let ours = sign(&content.to_payload());
    let array_without_length = [&[0x9f], ours.get(1..).unwrap(), &[0xff]].concat();
    let mut seeds = vec![
        ("our-root", root.chain().first().unwrap().as_der().to_vec()),
        ("our-leaf", leaf.certificate.as_der().to_vec()),
        ("our-document", ours.clone()),
        ("our-document-tagged", [&[0xd2], ours.as_slice()].concat()),
        ("our-document-array-without-length", array_without_length),
        ("our-document-indefinite", sign(&indefinite(&content.to_payload()))),
        ("signed-by-root", cose::sign(&content.to_payload(), root.key()).unwrap()),
    ];
    // A certificate with another signature than its issuer's, which says all the same.
    let last_byte = content.certificate.last_mut().unwrap();
    *last_byte ^= 1;
    seeds.push(("forged-link", sign(&content.to_payload())));
    content.cabundle = stranger.chain().iter().map(|link| link.as_der().to_vec()).collect();
    seeds.push(("another-chain", sign(&content.to_payload())));
    content.cabundle = vec![vec![0x30; 1024]; 10];
    content.pcrs = BTreeMap::from_iter(PcrIndex::all().map(|index| (index, Pcr::ZERO)));
    seeds.push(("certificates-that-are-none", sign(&content.to_payload())));
    corpus::write("document", &seeds);
}
