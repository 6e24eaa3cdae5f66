//! A pull and what it leaves.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use image::kernel::Architecture;
use image::registry::{self, DockerConfig, Event, Limits, Pulled, RegistryError, Request};
use tempfile::TempDir;

/// Limits that let a test fail quickly.
pub(crate) fn limits() -> Limits {
    Limits {
        attempts: 3,
        pause: Duration::from_millis(1),
        stall_time: Duration::from_secs(20),
        ..Limits::default()
    }
}

/// A pull for 64-bit x86.
pub(crate) struct Pull {
    pub(crate) limits: Limits,
    pub(crate) credentials: DockerConfig,
    pub(crate) platform: Architecture,
}

impl Default for Pull {
    fn default() -> Self {
        Self { limits: limits(), credentials: DockerConfig::none(), platform: Architecture::X86_64 }
    }
}

/// A layout that was pulled.
pub(crate) struct Got {
    pub(crate) pulled: Pulled,
    pub(crate) folder: TempDir,
    /// Bytes done and in all, by blob, as last told.
    pub(crate) progress: BTreeMap<String, (u64, u64)>,
    pub(crate) retries: usize,
}

impl Pull {
    /// Pulls into a folder of its own. A pull that fails must not have left a layout.
    pub(crate) fn run(&self, reference: &str) -> Result<Got, RegistryError> {
        let folder = tempfile::tempdir().unwrap();
        let (mut progress, mut retries) = (BTreeMap::new(), 0);
        let reference = reference.parse().unwrap();
        let request = Request {
            reference: &reference,
            platform: self.platform,
            limits: &self.limits,
            credentials: &self.credentials,
        };
        let result = registry::pull(&request, folder.path(), &mut |event| match event {
            Event::Blob { digest, done, total } => {
                let last = progress.insert(digest.to_owned(), (done, total));
                assert!(last.is_none_or(|(_, known)| known == total), "the total stays");
            }
            Event::Retry { .. } => retries += 1,
        });
        match result {
            Ok(pulled) => Ok(Got { pulled, folder, progress, retries }),
            Err(error) => {
                assert!(!folder.path().join("index.json").exists(), "no layout after: {error}");
                Err(error)
            }
        }
    }

    /// Pulls what must not be pulled, and returns the message.
    pub(crate) fn fails(&self, reference: &str) -> String {
        match self.run(reference) {
            Ok(got) => panic!("pulled {:?}", got.pulled),
            Err(error) => error.to_string(),
        }
    }
}

/// The names of a layout's blobs.
pub(crate) fn blobs(layout: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(layout.join("blobs/sha256"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// A Docker configuration file with these credentials for this registry, in a folder of its own.
pub(crate) fn docker_config(text: &str) -> (TempDir, DockerConfig) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.json");
    fs::write(&file, text).unwrap();
    (folder, DockerConfig::file(file))
}
