//! What to start: the files that the image builder leaves at the root of the image.
//!
//! | file | content | when missing |
//! |---|---|---|
//! | `/cmd` | one argument per line | `sh` |
//! | `/env` | one `KEY=VALUE` per line | only PATH |
//! | `/workdir` | the working directory, an absolute path | `/` |
//! | `/user` | `user[:group]`, names or numbers | root |
//! | `/hostname` | the host name | `localhost` |
//!
//! Beside them `/xattrs`: see [`crate::attributes`]. The first two are AWS's (its init knows no others and ignores them). Lines end with a line feed, optional after the last one; an
//! argument or value that holds a line feed cannot be expressed, the builder refuses it.

use std::ffi::CString;
use std::path::Path;

use crate::failure::Failure;
use crate::files;

/// Search path when the environment has none: the one AWS's init sets.
pub const DEFAULT_PATH: &str = "/sbin:/usr/sbin:/bin:/usr/bin";

/// Host name when the image says nothing.
pub const DEFAULT_HOSTNAME: &str = "localhost";

/// Longest host name that Linux takes, in bytes (`__NEW_UTS_LEN`).
pub const MAX_HOSTNAME_BYTES: usize = 64;

/// The application as the image describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Application {
    /// The program's name or path.
    pub program: CString,
    /// The arguments after the program's name.
    pub arguments: Vec<CString>,
    /// `KEY=VALUE` strings, always with a PATH.
    pub environment: Vec<CString>,
    /// Absolute working directory.
    pub workdir: String,
    /// `user[:group]` as the image says it; `None` is root without any change of identity.
    pub user: Option<String>,
    /// The host name.
    pub hostname: String,
}

impl Application {
    /// Reads and removes the files under `root` (the root of the initial file system).
    pub fn take(root: &Path) -> Result<Self, Failure> {
        let mut arguments = lines("/cmd", files::take(&root.join("cmd"))?)?.into_iter();
        let program = arguments.next().unwrap_or_else(|| c"sh".into());
        if program.is_empty() {
            return Err(Failure::new("the first line of /cmd, the program's name, is empty"));
        }
        Ok(Self {
            program,
            arguments: arguments.collect(),
            environment: environment(files::take(&root.join("env"))?)?,
            workdir: workdir(files::take(&root.join("workdir"))?)?,
            user: single_line("/user", files::take(&root.join("user"))?)?,
            hostname: hostname(files::take(&root.join("hostname"))?)?,
        })
    }

    /// The value of a variable in the application's environment, as getenv(3) finds it: the first one counts.
    pub fn variable(&self, name: &str) -> Option<&[u8]> {
        self.environment
            .iter()
            .find_map(|entry| entry.to_bytes().strip_prefix(name.as_bytes())?.strip_prefix(b"="))
    }
}

fn environment(content: Option<Vec<u8>>) -> Result<Vec<CString>, Failure> {
    let mut entries = lines("/env", content)?;
    entries.retain(|entry| !entry.is_empty());
    if !entries.iter().any(|entry| entry.to_bytes().starts_with(b"PATH=")) {
        let path = CString::new(format!("PATH={DEFAULT_PATH}"))
            .map_err(|_| Failure::new("the default PATH holds a zero byte"))?;
        entries.push(path);
    }
    Ok(entries)
}

fn workdir(content: Option<Vec<u8>>) -> Result<String, Failure> {
    let Some(path) = single_line("/workdir", content)? else {
        return Ok("/".to_owned());
    };
    if path.starts_with('/') {
        Ok(path)
    } else {
        Err(Failure::new(format!("the working directory {path:?} in /workdir is not an absolute path")))
    }
}

fn hostname(content: Option<Vec<u8>>) -> Result<String, Failure> {
    let name = single_line("/hostname", content)?.unwrap_or_else(|| DEFAULT_HOSTNAME.to_owned());
    if name.len() > MAX_HOSTNAME_BYTES {
        return Err(Failure::new(format!(
            "the host name in /hostname has more than {MAX_HOSTNAME_BYTES} bytes"
        )));
    }
    Ok(name)
}

/// Splits a file into lines; the line feed after the last line is optional.
fn lines(file: &str, content: Option<Vec<u8>>) -> Result<Vec<CString>, Failure> {
    let content = content.unwrap_or_default();
    if content.is_empty() {
        return Ok(Vec::new());
    }
    let body = content.strip_suffix(b"\n").unwrap_or(&content);
    body.split(|&byte| byte == b'\n')
        .enumerate()
        .map(|(index, line)| {
            CString::new(line).map_err(|_| {
                Failure::new(format!("line {} of {file} holds a zero byte", index.saturating_add(1)))
            })
        })
        .collect()
}

/// The only line of a file; missing and empty files are `None`.
fn single_line(file: &str, content: Option<Vec<u8>>) -> Result<Option<String>, Failure> {
    let mut lines = lines(file, content)?.into_iter();
    let line = lines.next().filter(|line| !line.is_empty());
    if lines.next().is_some() {
        return Err(Failure::new(format!("{file} has more than one line")));
    }
    line.map(|line| line.into_string().map_err(|_| Failure::new(format!("{file} is not UTF-8")))).transpose()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;

    fn take(content: &[(&str, &[u8])]) -> Result<Application, Failure> {
        let root = tempfile::tempdir().unwrap();
        for (name, bytes) in content {
            fs::write(root.path().join(name), bytes).unwrap();
        }
        let application = Application::take(root.path());
        if application.is_ok() {
            assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0, "the files are removed");
        }
        application
    }

    fn refusal(content: &[(&str, &[u8])]) -> String {
        take(content).unwrap_err().to_string()
    }

    fn strings(list: &[CString]) -> Vec<&str> {
        list.iter().map(|entry| entry.to_str().unwrap()).collect()
    }

    #[test]
    fn without_files_a_shell_runs_as_root_with_awss_path() {
        let application = take(&[]).unwrap();
        assert_eq!(application.program.as_c_str(), c"sh");
        assert!(application.arguments.is_empty());
        assert_eq!(strings(&application.environment), ["PATH=/sbin:/usr/sbin:/bin:/usr/bin"]);
        assert_eq!(application.workdir, "/");
        assert_eq!(application.user, None);
        assert_eq!(application.hostname, "localhost");
    }

    #[test]
    fn empty_files_are_like_missing_ones() {
        let empty: [(&str, &[u8]); 5] =
            [("cmd", b""), ("env", b""), ("workdir", b"\n"), ("user", b""), ("hostname", b"\n")];
        assert_eq!(take(&empty).unwrap(), take(&[]).unwrap());
    }

    #[test]
    fn arguments_keep_spaces_quotes_empty_lines_and_bytes_that_are_not_utf8() {
        let application = take(&[("cmd", b"/bin/app\n-x\n\n a 'b' \xff\n")]).unwrap();
        assert_eq!(application.program.as_c_str(), c"/bin/app");
        let arguments: Vec<&[u8]> =
            application.arguments.iter().map(|argument| argument.to_bytes()).collect();
        assert_eq!(arguments, [&b"-x"[..], b"", b" a 'b' \xff"]);
    }

    #[test]
    fn the_last_line_feed_is_optional() {
        assert_eq!(take(&[("cmd", b"/app\n-v")]).unwrap(), take(&[("cmd", b"/app\n-v\n")]).unwrap());
    }

    #[test]
    fn variables_are_kept_as_they_are_and_path_is_added_only_when_missing() {
        let application = take(&[("env", b"A=1=2\n\nPATHOLOGY=x\nB=\n")]).unwrap();
        assert_eq!(
            strings(&application.environment),
            ["A=1=2", "PATHOLOGY=x", "B=", "PATH=/sbin:/usr/sbin:/bin:/usr/bin"]
        );
        let application = take(&[("env", b"PATH=/x\nA=1\n")]).unwrap();
        assert_eq!(strings(&application.environment), ["PATH=/x", "A=1"]);
    }

    #[test]
    fn a_variable_is_found_as_getenv_finds_it() {
        let application = take(&[("env", b"PATH=/first\nPATH=/second\nEMPTY=\nNAME\n")]).unwrap();
        assert_eq!(application.variable("PATH").unwrap(), b"/first");
        assert_eq!(application.variable("EMPTY").unwrap(), b"");
        assert_eq!(application.variable("NAME"), None);
        assert_eq!(application.variable("PAT"), None);
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_the_files_name() {
        assert_eq!(refusal(&[("cmd", b"\n-x\n")]), "the first line of /cmd, the program's name, is empty");
        assert_eq!(refusal(&[("cmd", b"a\nb\0c\n")]), "line 2 of /cmd holds a zero byte");
        assert_eq!(refusal(&[("env", b"A=\0\n")]), "line 1 of /env holds a zero byte");
        assert_eq!(
            refusal(&[("workdir", b"srv\n")]),
            "the working directory \"srv\" in /workdir is not an absolute path"
        );
        assert_eq!(refusal(&[("workdir", b"/a\n/b\n")]), "/workdir has more than one line");
        assert_eq!(refusal(&[("user", b"\xff\n")]), "/user is not UTF-8");
    }

    #[test]
    fn the_longest_host_name_is_taken_and_one_byte_more_refused() {
        let longest = "h".repeat(MAX_HOSTNAME_BYTES);
        assert_eq!(take(&[("hostname", longest.as_bytes())]).unwrap().hostname, longest);
        let message = refusal(&[("hostname", format!("{longest}h").as_bytes())]);
        assert_eq!(message, "the host name in /hostname has more than 64 bytes");
    }

    proptest! {
        #[test]
        fn any_arguments_without_zero_and_line_feed_survive(
            words in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 1..20)
        ) {
            let words: Vec<Vec<u8>> = words
                .into_iter()
                .map(|word| word.into_iter().filter(|&byte| byte != 0 && byte != b'\n').collect())
                .collect();
            prop_assume!(!words[0].is_empty());
            let mut file = words.join(&b'\n');
            file.push(b'\n');
            let application = take(&[("cmd", &file)]).unwrap();
            let mut read = vec![application.program.into_bytes()];
            read.extend(application.arguments.into_iter().map(CString::into_bytes));
            prop_assert_eq!(read, words);
        }

        #[test]
        fn no_content_makes_it_panic(cmd: Vec<u8>, env: Vec<u8>, workdir: Vec<u8>, user: Vec<u8>) {
            let _ = take(&[("cmd", &cmd), ("env", &env), ("workdir", &workdir), ("user", &user)]);
        }
    }
}
