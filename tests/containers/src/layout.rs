//! OCI layouts on disk.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::tool;

/// A folder that is an OCI image layout with one image, tagged [`Layout::TAG`].
#[derive(Debug, Clone)]
pub struct Layout {
    folder: PathBuf,
}

impl Layout {
    /// The image's tag.
    pub const TAG: &'static str = "test";

    /// Made by umoci in the new folder `into`: one layer for each of `roots`, all laid over `/`, and a configuration from options as
    /// `--config.entrypoint=/bin/app` (umoci-config(1)).
    #[must_use]
    pub fn by_umoci(roots: &[&Path], config: &[&str], into: &Path) -> Self {
        let layout = Self { folder: into.to_owned() };
        let umoci = |arguments: &[&str]| {
            tool::run(Command::new("umoci").args(arguments));
        };
        let image = layout.image();
        umoci(&["init", "--layout", into.to_str().expect("a path in UTF-8")]);
        umoci(&["new", "--image", &image]);
        for root in roots {
            umoci(&["insert", "--image", &image, root.to_str().expect("a path in UTF-8"), "/"]);
        }
        if !config.is_empty() {
            umoci(&[&["config", "--image", &image], config].concat());
        }
        layout
    }

    /// Made by buildah in the new folder `into`: `root` as one layer over nothing, and the configuration that these lines of a Dockerfile give.
    #[must_use]
    pub fn by_buildah(root: &Path, lines: &[&str], into: &Path) -> Self {
        let scratch = tempfile::tempdir().expect("a folder");
        let dockerfile = scratch.path().join("Dockerfile");
        fs::write(&dockerfile, format!("FROM scratch\nCOPY . /\n{}\n", lines.join("\n"))).expect("written");
        let layout = Self { folder: into.to_owned() };
        let place = |name: &str| scratch.path().join(name);
        tool::run(
            Command::new("buildah")
                .arg("--root")
                .arg(place("root"))
                .arg("--runroot")
                .arg(place("runroot"))
                .args([
                    "--storage-driver",
                    "vfs",
                    "build",
                    "--quiet",
                    "--isolation",
                    "chroot",
                    "--network",
                    "none",
                ])
                .arg("--file")
                .arg(&dockerfile)
                .arg("--tag")
                .arg(layout.skopeo())
                .arg(root),
        );
        layout
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The image as umoci names it.
    #[must_use]
    pub fn image(&self) -> String {
        format!("{}:{}", self.folder.display(), Self::TAG)
    }

    /// The image as skopeo and buildah name it.
    #[must_use]
    pub fn skopeo(&self) -> String {
        format!("oci:{}", self.image())
    }

    /// The digest of the image's manifest, as the tool that made the layout says it: `sha256:` and 64 digits.
    #[must_use]
    pub fn digest(&self) -> String {
        let index = fs::read(self.folder.join("index.json")).expect("an index");
        let index: Value = serde_json::from_slice(&index).expect("JSON");
        index["manifests"][0]["digest"].as_str().expect("a digest").to_owned()
    }

    /// The same image as `docker save` writes it, in the new file `into`.
    pub fn save_as_docker_archive(&self, name: &str, into: &Path) {
        tool::skopeo_copy(&[], &self.skopeo(), &format!("docker-archive:{}:{name}", into.display()));
    }
}
