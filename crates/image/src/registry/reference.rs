//! Image references as Docker reads them: `[REGISTRY/]REPOSITORY[:TAG][@DIGEST]`.
//!
//! Grammar: the OCI Distribution Specification for repositories and tags; Docker's defaults for what is left out: the registry
//! docker.io, its `library/` for names of one word, the tag `latest`.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use super::error::RegistryError;
use crate::digest::Digest;

/// The registry that is meant where none is named.
const DOCKER_HUB: &str = "docker.io";
/// Where its API is.
const DOCKER_HUB_HOST: &str = "registry-1.docker.io";
/// Under which name `docker login` keeps its credentials.
const DOCKER_HUB_LOGIN: &str = "https://index.docker.io/v1/";
/// Another name of it.
const DOCKER_HUB_ALIAS: &str = "index.docker.io";
/// Where its repositories of one word are.
const DOCKER_HUB_LIBRARY: &str = "library/";
/// Docker's longest repository.
const MAX_REPOSITORY_BYTES: usize = 255;
/// The longest tag (Distribution Specification, "Pulling manifests").
const MAX_TAG_BYTES: usize = 128;
/// The tag that is meant where none is named.
const DEFAULT_TAG: &str = "latest";

/// Where an image is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageReference {
    /// Host and port.
    registry: String,
    repository: String,
    tag: Option<String>,
    /// `sha256:` and 64 lower-case hexadecimal digits.
    digest: Option<String>,
}

impl ImageReference {
    /// The repository within its registry: `library/alpine`.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// Host and port of the registry, as in the reference: `docker.io`.
    #[must_use]
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The reference of exactly that manifest in the same repository.
    #[must_use]
    pub fn pinned(&self, digest: &str) -> String {
        format!("{}/{}@{digest}", self.registry, self.repository)
    }

    /// The manifest to ask for. A digest counts more than a tag beside it.
    pub(super) fn wanted(&self) -> &str {
        self.digest.as_deref().or(self.tag.as_deref()).unwrap_or(DEFAULT_TAG)
    }

    /// Host and port that answer for the registry.
    pub(super) fn host(&self) -> &str {
        if self.registry == DOCKER_HUB { DOCKER_HUB_HOST } else { &self.registry }
    }

    /// The name under which `docker login` keeps credentials for the registry.
    pub(super) fn login(&self) -> &str {
        if self.registry == DOCKER_HUB { DOCKER_HUB_LOGIN } else { &self.registry }
    }

    /// True if the registry is on this machine, which alone may be spoken to without TLS, as Docker has it.
    pub(super) fn is_loopback(&self) -> bool {
        is_loopback_host(split_port(&self.registry).0)
    }
}

/// True for `localhost` and for addresses of the loopback interface; an IPv6 address may stand in brackets.
pub(super) fn is_loopback_host(host: &str) -> bool {
    let address = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost")
        || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for ImageReference {
    type Err = RegistryError;

    fn from_str(text: &str) -> Result<Self, RegistryError> {
        parse(text).map_err(|why| RegistryError::Reference { text: text.to_owned(), why: why.to_owned() })
    }
}

fn parse(text: &str) -> Result<ImageReference, &'static str> {
    let (rest, digest) = match text.split_once('@') {
        None => (text, None),
        Some((rest, digest)) => {
            let digest: Digest = digest
                .parse()
                .map_err(|_| "what stands behind the @ is not sha256: and 64 digits in lower case")?;
            (rest, Some(digest.to_string()))
        }
    };
    // What stands before the first / is a registry if it cannot be the name of a user.
    let (registry, path) = match rest.split_once('/') {
        Some((first, path)) if first == "localhost" || first.contains(['.', ':', '[']) => (first, path),
        _ => (DOCKER_HUB, rest),
    };
    let (path, tag) = match path.split_once(':') {
        None => (path, None),
        Some((path, tag)) if is_tag(tag) => (path, Some(tag.to_owned())),
        Some(_) => return Err("the tag has letters that no tag has, or too many"),
    };
    if !is_registry(registry) {
        return Err("what stands before the first / is no host with or without a port");
    }
    if !path.split('/').all(is_component) {
        return Err(
            "the repository has letters that no repository has: it is made of lower-case letters, digits and single . _ - between them",
        );
    }
    let registry = if registry == DOCKER_HUB_ALIAS { DOCKER_HUB } else { registry };
    let library = if registry == DOCKER_HUB && !path.contains('/') { DOCKER_HUB_LIBRARY } else { "" };
    let repository = format!("{library}{path}");
    if repository.len() > MAX_REPOSITORY_BYTES {
        return Err("the repository has more than 255 letters");
    }
    let tag = tag.or_else(|| digest.is_none().then(|| DEFAULT_TAG.to_owned()));
    Ok(ImageReference { registry: registry.to_owned(), repository, tag, digest })
}

/// Host and port; the host is a name or an address, one of IPv6 in brackets.
fn is_registry(text: &str) -> bool {
    let (host, port) = split_port(text);
    let is_host = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').is_some_and(|address| address.parse::<Ipv6Addr>().is_ok()),
        None => host.split('.').all(|label| {
            let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
            !label.is_empty() && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-')
        }),
    };
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
    is_host && port.is_none_or(is_port)
}

/// The host, with brackets if it is an address of IPv6, and the port.
fn split_port(registry: &str) -> (&str, Option<&str>) {
    match registry.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (registry, None),
    }
}

/// One part of a repository: letters and digits in groups, with `.`, `_`, `__` or any number of `-` between them.
fn is_component(text: &str) -> bool {
    let is_group = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let between = |separator: &str| {
        matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|byte| byte == b'-')
    };
    let ends = [text.bytes().next(), text.bytes().next_back()];
    ends.iter().all(|end| end.is_some_and(is_group))
        && text.split(|letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit()).all(between)
}

/// One to 128 letters, digits, `_`, `.` and `-`; the last two not in front.
fn is_tag(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    (1..=MAX_TAG_BYTES).contains(&text.len()) && text.bytes().all(inner) && !text.starts_with(['.', '-'])
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn parse(text: &str) -> ImageReference {
        text.parse().expect(text)
    }

    #[test]
    fn what_is_left_out_is_what_docker_puts_there() {
        for (text, full) in [
            ("alpine", "docker.io/library/alpine:latest"),
            ("alpine:3", "docker.io/library/alpine:3"),
            ("team/app", "docker.io/team/app:latest"),
            ("index.docker.io/library/alpine", "docker.io/library/alpine:latest"),
            ("docker.io/alpine", "docker.io/library/alpine:latest"),
            ("localhost/app", "localhost/app:latest"),
            ("localhost:5000/app", "localhost:5000/app:latest"),
            ("ghcr.io/a/b/c:v1.2", "ghcr.io/a/b/c:v1.2"),
            ("[::1]:5000/app:1", "[::1]:5000/app:1"),
            ("[::1]/app", "[::1]/app:latest"),
            // As Docker reads it.
            ("localhost:5000", "docker.io/library/localhost:5000"),
            ("a.b/c__d/e--f/g.h_i:_T.a-g", "a.b/c__d/e--f/g.h_i:_T.a-g"),
        ] {
            assert_eq!(parse(text).to_string(), full, "{text}");
        }
        let pinned = format!("quay.io/a/b@{DIGEST}");
        assert_eq!(parse(&pinned).to_string(), pinned);
    }

    #[test]
    fn a_digest_counts_more_than_the_tag_beside_it() {
        assert_eq!(parse(&format!("alpine:3@{DIGEST}")).wanted(), DIGEST);
        assert_eq!(parse("alpine:3").wanted(), "3");
    }

    #[test]
    fn docker_hub_has_other_names_for_its_api_and_its_login() {
        let hub = parse("alpine");
        assert_eq!((hub.host(), hub.login()), ("registry-1.docker.io", "https://index.docker.io/v1/"));
        let other = parse("localhost:5000/app");
        assert_eq!((other.host(), other.login()), ("localhost:5000", "localhost:5000"));
    }

    #[test]
    fn only_this_machine_is_loopback() {
        for text in
            ["localhost:5000/a", "localhost/a", "127.0.0.1/a", "127.9.9.9:80/a", "[::1]:5000/a", "[::1]/a"]
        {
            assert!(parse(text).is_loopback(), "{text}");
        }
        for text in [
            "alpine",
            "localhost.example.com/a",
            "128.0.0.1:5000/a",
            "127.0.0.1.nip.io/a",
            "[::2]:5000/a",
            "10.0.0.1:5000/a",
        ] {
            assert!(!parse(text).is_loopback(), "{text}");
        }
    }

    #[test]
    fn tags_and_repositories_have_a_longest() {
        for (tag, repository, good) in [(128, 255, true), (129, 255, false), (128, 256, false)] {
            let text = format!("localhost/{}:{}", "a".repeat(repository), "t".repeat(tag));
            assert_eq!(text.parse::<ImageReference>().is_ok(), good, "{tag} {repository}");
        }
    }

    #[test]
    fn what_is_no_reference_is_refused() {
        for text in [
            "",
            ":",
            "@",
            "a b",
            "Alpine/x",
            "alpine:",
            "alpine@",
            "alpine@sha256:00",
            "../etc",
            "a/../b",
            "http://localhost/a",
            "user@localhost/a",
            "localhost:port/a",
            "localhost:65536/a",
            "localhost:+1/a",
            "a..b/c",
            "-a.b/c",
            "[::1]5000/a",
            "a//b",
            "/a",
            "a/",
            "a._b",
            "a-/b",
            "a___b",
            "a:b/c",
            "a:.b",
            "[::1]",
            "[::1]:5000",
            "[::1",
            "[x]/a",
            "a\nb",
            "alpine?x",
            "alpine#x",
            "alpine@sha512:cf83e1357eefb8bdf1542850d66d8007d620e4050b5715dc83f4a921d36ce9ce47d0d13c5d85f2b0ff8318d2877eec2f63b931bd47417a81a538327af927da3e",
            "alpine@sha256:E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855",
        ] {
            assert!(text.parse::<ImageReference>().is_err(), "{text:?}");
        }
    }
}
