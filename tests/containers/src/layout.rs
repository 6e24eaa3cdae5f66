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

/// What changes an image's root folder.
pub type Step<'a> = &'a dyn Fn(&Path);

impl Layout {
    /// The image's tag.
    pub const TAG: &'static str = "test";

    /// Made by umoci in the new folder `into`: one layer for each of `roots`, all laid over `/`, and a configuration from options as
    /// `--config.entrypoint=/bin/app` (umoci-config(1)).
    #[must_use]
    pub fn by_umoci(roots: &[&Path], config: &[&str], into: &Path) -> Self {
        let copies: Vec<_> = roots.iter().map(|root| |tree: &Path| copy_over(root, tree)).collect();
        let steps: Vec<Step<'_>> = copies.iter().map(|copy| copy as Step<'_>).collect();
        Self::by_umoci_in_steps(&steps, config, into)
    }

    /// The same with one layer for what each step changes in the image's root folder, which it is given: what a step removes becomes a
    /// whiteout.
    #[must_use]
    pub fn by_umoci_in_steps(steps: &[Step<'_>], config: &[&str], into: &Path) -> Self {
        let layout = Self { folder: into.to_owned() };
        let (image, scratch) = (layout.image(), tempfile::tempdir_in(parent(into)).expect("a folder"));
        let bundle = scratch.path().join("bundle");
        umoci(&["init", "--layout", text(into)]);
        umoci(&["new", "--image", &image]);
        umoci(&[&["unpack", "--image", &image], rootless(), &[text(&bundle)]].concat());
        for step in steps {
            step(&bundle.join("rootfs"));
            umoci(&["repack", "--refresh-bundle", "--image", &image, text(&bundle)]);
        }
        if !config.is_empty() {
            umoci(&[&["config", "--image", &image], config].concat());
        }
        layout
    }

    /// Adds `root` as a layer that umoci 0.4.7 does not finish: its archive lacks the last file's padding and the mark of its end, as
    /// `umoci insert` leaves it. Docker accepts such layers.
    pub fn insert_unfinished_layer(&self, root: &Path) {
        umoci(&[&["insert", "--image", &self.image()], rootless(), &[text(root), "/"]].concat());
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
                .args(["--storage-driver", "vfs", "build", "--quiet", "--isolation", "chroot"])
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

fn umoci(arguments: &[&str]) {
    tool::run(Command::new("umoci").args(arguments));
}

/// umoci insists on root without it.
fn rootless() -> &'static [&'static str] {
    if rustix::process::geteuid().is_root() { &[] } else { &["--rootless"] }
}

fn copy_over(root: &Path, tree: &Path) {
    // With its links, modes and dates.
    tool::run(Command::new("cp").arg("-a").arg(root.join(".")).arg(tree));
}

fn parent(path: &Path) -> &Path {
    path.parent().expect("a folder in a folder")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}
