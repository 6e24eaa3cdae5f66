//! Stock verifiers accept a document fetched from a running enclave, now, against its host's root; and refuse it changed.
//!
//! The scenarios fetch the documents and run before this, in the lab (`tools/run-tests`). Nothing here but the root of
//! another host is made by our own code.

mod export;
mod program;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use export::{Export, for_each, other_root};
use nsm_nitro_enclave_utils::api::nsm::AttestationDoc;
use nsm_nitro_enclave_utils::time::Time;
use nsm_nitro_enclave_utils::verify::AttestationDocVerifierExt;
use serde_json::Value;

/// DER as PEM, by openssl.
fn pem(certificate: &Path) -> Vec<u8> {
    program::output(
        "openssl",
        &["x509".as_ref(), "-inform=DER".as_ref(), "-in".as_ref(), certificate.as_ref()],
    )
}

/// A file with another host's root.
fn other_root_pem(export: &Export) -> PathBuf {
    export.write("other.pem", &pem(&export.write("other.der", &other_root())))
}

#[test]
fn nsm_nitro_enclave_utils_judges_them() {
    for_each("nsm_nitro_enclave_utils_judges_them", |export| {
        let read = export.verified();
        assert_eq!(read.nonce.unwrap().as_slice(), export.nonce);
        for (index, value) in &export.pcrs {
            assert_eq!(&hex::encode(&read.pcrs[index]), value, "PCR {index}");
        }
        let refused = |document: &[u8], root: &[u8]| {
            assert!(AttestationDoc::from_cose(document, root, Time::default()).is_err());
        };
        refused(&export.document, &other_root());
        refused(&export.changed(), &export.root_der());
    });
}

/// What `epsilon-verify` says of a document.
fn epsilon(export: &Export, document: &[u8], pcr0: &str, root: &Path) -> Value {
    let file = export.write("document.cose", document);
    let encoded =
        program::output("openssl", &["base64".as_ref(), "-A".as_ref(), "-in".as_ref(), file.as_ref()]);
    let file = export.write("document.base64", &encoded);
    let options = ["verify", "--json", "--pcr0", pcr0, "--aws-root-cert"].map(OsStr::new);
    let arguments = [&options[..], &[root.as_ref(), file.as_ref()]].concat();
    let done = program::run(program::of_python("epsilon-verify"), &arguments);
    let said: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(said["valid"], done.status.success(), "{said}");
    said
}

#[test]
fn epsilon_verify_judges_them() {
    for_each("epsilon_verify_judges_them", |export| {
        let (pcr0, root) = (export.pcr(0), export.root.as_path());
        let accepted = epsilon(export, &export.document, pcr0, root);
        assert_eq!(accepted["valid"], true, "{accepted}");
        assert_eq!(accepted["pcr0"], pcr0);
        // Each refusal is for its own reason: the check before it still holds.
        let said = epsilon(export, &export.document, export.pcr(1), root);
        assert_eq!(
            (&said["aws_signature_valid"], &said["pcr_verified"]),
            (&true.into(), &false.into()),
            "{said}"
        );
        let said = epsilon(export, &export.changed(), pcr0, root);
        assert_eq!(
            (&said["certificate_chain_valid"], &said["aws_signature_valid"]),
            (&true.into(), &false.into()),
            "{said}"
        );
        let said = epsilon(export, &export.document, pcr0, &other_root_pem(export));
        assert_eq!(
            (&said["syntax_valid"], &said["certificate_chain_valid"]),
            (&true.into(), &false.into()),
            "{said}"
        );
    });
}

#[test]
fn pycose_judges_their_signatures() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fetched/pycose_verify.py");
    for_each("pycose_judges_their_signatures", |export| {
        let judge = |document: &[u8]| {
            let file = export.write("document.cose", document);
            let said = program::output(program::of_python("python"), &[script.as_ref(), file.as_ref()]);
            String::from_utf8(said).unwrap()
        };
        assert_eq!(judge(&export.document), "accepted\n");
        assert_eq!(judge(&export.changed()), "refused\n");
    });
}

#[test]
fn openssl_judges_their_chains() {
    for_each("openssl_judges_their_chains", |export| {
        let document = export.verified();
        let leaf = pem(&export.write("leaf.der", &document.certificate));
        let leaf = export.write("leaf.pem", &leaf);
        // The first of the bundle is the root, which a verifier has to know by itself.
        let issuers: Vec<Vec<u8>> =
            document.cabundle[1..].iter().map(|issuer| pem(&export.write("issuer.der", issuer))).collect();
        let chain = export.write("chain.pem", &issuers.concat());
        let root_only = export.write("root_only.pem", &pem(&export.write("root.der", &document.cabundle[0])));
        let accepts = |root: &Path, chain: &Path| {
            let options = ["verify", "-x509_strict", "-no-CApath", "-no-CAstore", "-CAfile"].map(OsStr::new);
            let files = [root.as_ref(), "-untrusted".as_ref(), chain.as_ref(), leaf.as_ref()];
            program::run("openssl", &[&options[..], &files].concat()).status.success()
        };
        assert!(accepts(&export.root, &chain));
        assert!(!accepts(&other_root_pem(export), &chain));
        assert!(!accepts(&export.root, &root_only));
    });
}
