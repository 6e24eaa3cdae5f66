//! What the scenario `a_document_verifies_and_says_what_was_booted` leaves in the lab's output folder.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use std::{env, fs};

use attestation::pki::RootAuthority;
use getrandom::SysRng;
use nsm_nitro_enclave_utils::api::nsm::AttestationDoc;
use nsm_nitro_enclave_utils::time::Time;
use nsm_nitro_enclave_utils::verify::AttestationDocVerifierExt;

use crate::program;

/// The leaf's certificate lives three hours: what an earlier run left is no longer for a stock verifier.
const OLDEST: Duration = Duration::from_secs(2 * 3600);

/// A document from an enclave that ran, and what the one who fetched it knew.
pub struct Export {
    /// The root it should verify against.
    pub root: PathBuf,
    /// The image's PCRs, as (index, hexadecimal).
    pub pcrs: Vec<(usize, String)>,
    /// What was sent to the enclave.
    pub nonce: Vec<u8>,
    /// The document.
    pub document: Vec<u8>,
    /// Where the test may write.
    pub work: PathBuf,
}

impl Export {
    fn read(folder: &Path, test: &str) -> Self {
        let text = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
        let pcr = |line: &str| {
            let (index, value) = line.split_once('=').unwrap();
            (index.parse().unwrap(), value.to_owned())
        };
        let work = Path::new(env!("CARGO_TARGET_TMPDIR"))
            .join("fetched")
            .join(test)
            .join(folder.file_name().unwrap());
        fs::create_dir_all(&work).unwrap();
        Self {
            root: folder.join("root.pem"),
            pcrs: text("pcrs").lines().map(pcr).collect(),
            nonce: hex::decode(text("nonce").trim()).unwrap(),
            document: fs::read(folder.join("document.cose")).unwrap(),
            work,
        }
    }

    /// The same document with one bit of the signed nonce changed: it reads as well as before, and was never signed.
    pub fn changed(&self) -> Vec<u8> {
        let mut changed = self.document.clone();
        let position = changed.windows(self.nonce.len()).position(|window| window == self.nonce).unwrap();
        changed[position] ^= 1;
        changed
    }

    /// The root as DER.
    pub fn root_der(&self) -> Vec<u8> {
        program::output(
            "openssl",
            &["x509".as_ref(), "-in".as_ref(), self.root.as_ref(), "-outform=DER".as_ref()],
        )
    }

    /// A file for a verifier that wants one.
    pub fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let file = self.work.join(name);
        fs::write(&file, bytes).unwrap();
        file
    }

    /// The document as the Rust verifier reads it now.
    pub fn verified(&self) -> AttestationDoc {
        AttestationDoc::from_cose(&self.document, &self.root_der(), Time::default()).unwrap()
    }

    /// One of the image's PCRs.
    pub fn pcr(&self, index: usize) -> &str {
        &self.pcrs.iter().find(|(candidate, _)| *candidate == index).unwrap().1
    }
}

/// A root that is named as ours is, with another key.
pub fn other_root() -> Vec<u8> {
    let root = RootAuthority::generate(SystemTime::now(), &mut SysRng).unwrap();
    root.chain()[0].as_der().to_vec()
}

/// Runs `judge` for each document that the scenarios left, or says why there is nothing to judge.
pub fn for_each(test: &str, judge: impl Fn(&Export)) {
    match folders() {
        Ok(folders) => folders.iter().for_each(|folder| judge(&Export::read(folder, test))),
        Err(reason) => println!("SKIPPED {test}: {reason}"),
    }
}

fn folders() -> Result<Vec<PathBuf>, String> {
    let out = env::var_os("LAB_OUT").ok_or("LAB_OUT is not set: run tools/run-tests")?;
    let parent = Path::new(&out).join("documents");
    let entries = fs::read_dir(&parent).map_err(|error| format!("{}: {error}", parent.display()))?;
    let folders: Vec<PathBuf> =
        entries.map(|entry| entry.unwrap().path()).filter(|folder| is_recent(folder)).collect();
    if folders.is_empty() {
        return Err(format!("no document of the last two hours in {}", parent.display()));
    }
    Ok(folders)
}

fn is_recent(folder: &Path) -> bool {
    let written = fs::metadata(folder.join("document.cose")).and_then(|file| file.modified()).unwrap();
    // The lab's clock may be a little ahead.
    written.elapsed().unwrap_or_default() < OLDEST
}
