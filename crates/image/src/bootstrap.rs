//! A folder with what boots an enclave, laid out as AWS's blobs are: `bzImage` (or `Image`), `init`, `nsm.ko`, `cmdline`, and
//! `bzImage.config`, whose third line names operating system and version.
//!
//! Specification: `blobs/` and `enclave_build` of aws-nitro-enclaves-cli.

use std::path::{Path, PathBuf};

use crate::error::BuildError;
use crate::folder;

/// Names of the kernel, for either architecture.
const KERNELS: [&str; 2] = ["bzImage", "Image"];

/// The line of a kernel's configuration that names its version, counted from 0: `# Linux/x86_64 4.14.256 Kernel Configuration`.
const VERSION_LINE: usize = 2;

/// What such a folder holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bootstrap {
    /// The kernel.
    pub kernel: PathBuf,
    /// The first process.
    pub init: PathBuf,
    /// The driver of the security module, if the kernel has it as a module.
    pub nsm_module: Option<PathBuf>,
    /// The command line, without the line break at its end.
    pub command_line: Option<String>,
    /// The name of the operating system.
    pub operating_system: Option<String>,
    /// The version of the kernel.
    pub kernel_version: Option<String>,
}

impl Bootstrap {
    /// Looks into a folder.
    ///
    /// # Errors
    /// If it has no kernel or init, or a text in it cannot be read.
    pub fn open(folder: &Path) -> Result<Self, BuildError> {
        let present = |name: &str| Some(folder.join(name)).filter(|path| path.is_file());
        let missing = |what| BuildError::Bootstrap { folder: folder.to_owned(), what };
        let kernel =
            KERNELS.iter().find_map(|name| present(name)).ok_or_else(|| missing("bzImage or Image"))?;
        let text = |path: Option<PathBuf>| {
            path.map(|path| {
                let bytes = folder::read(&path, "reading it")?;
                String::from_utf8(bytes).map_err(|_| BuildError::Setting {
                    what: "the file",
                    text: path.display().to_string(),
                    why: "it is not text",
                })
            })
            .transpose()
        };
        let mut configuration = kernel.clone().into_os_string();
        configuration.push(".config");
        let configuration = text(Some(PathBuf::from(configuration)).filter(|path| path.is_file()))?;
        let (operating_system, kernel_version) = configuration.as_deref().map(identity).unwrap_or_default();
        Ok(Self {
            init: present("init").ok_or_else(|| missing("init"))?,
            nsm_module: present("nsm.ko"),
            command_line: text(present("cmdline"))?
                .map(|text| text.trim_end_matches(['\n', '\r']).to_owned()),
            operating_system,
            kernel_version,
            kernel,
        })
    }
}

/// Operating system and version, the second and fourth word of the line as AWS's builder splits it.
fn identity(configuration: &str) -> (Option<String>, Option<String>) {
    let Some(line) = configuration.lines().nth(VERSION_LINE) else { return (None, None) };
    let word =
        |index| line.split([' ', '/', '-']).nth(index).filter(|word| !word.is_empty()).map(str::to_owned);
    (word(1), word(3))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const CONFIGURATION: &str = "#\n# Automatically generated file; DO NOT EDIT.\n# Linux/x86_64 4.14.256-209.484 Kernel Configuration\n#\n";

    #[test]
    fn awss_folder_is_taken_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for (name, content) in [
            ("bzImage", ""),
            ("init", ""),
            ("nsm.ko", ""),
            ("cmdline", "a b \n"),
            ("bzImage.config", CONFIGURATION),
        ] {
            fs::write(path(name), content).unwrap();
        }
        let expected = Bootstrap {
            kernel: path("bzImage"),
            init: path("init"),
            nsm_module: Some(path("nsm.ko")),
            command_line: Some("a b ".to_owned()),
            operating_system: Some("Linux".to_owned()),
            kernel_version: Some("4.14.256".to_owned()),
        };
        assert_eq!(Bootstrap::open(folder.path()).unwrap(), expected);
    }

    #[test]
    fn what_is_missing_is_named_and_the_rest_is_optional() {
        let folder = tempfile::tempdir().unwrap();
        let refusal = || Bootstrap::open(folder.path()).unwrap_err().to_string();
        assert!(refusal().contains("bzImage or Image"));
        fs::write(folder.path().join("Image"), "").unwrap();
        assert!(refusal().contains("init"));
        fs::write(folder.path().join("init"), "").unwrap();
        let found = Bootstrap::open(folder.path()).unwrap();
        assert_eq!((found.nsm_module, found.command_line, found.kernel_version), (None, None, None));
        fs::write(folder.path().join("cmdline"), b"\xff").unwrap();
        assert!(refusal().contains("cmdline"));
    }

    #[test]
    fn a_configuration_that_says_nothing_names_nothing() {
        for text in ["", "\n\n", "\n\nword\n", "\n\n# Linux/x86_64\n"] {
            assert_eq!(identity(text).1, None, "{text:?}");
        }
    }
}
