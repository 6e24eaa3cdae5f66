//! Image references as Docker reads them: `[REGISTRY/]REPOSITORY[:TAG][@DIGEST]`.
//!
//! Grammar: the OCI Distribution Specification for repositories and tags; Docker's defaults for what is left out: the registry
//! docker.io, its `library/` for names of one word, the tag `latest`.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use oci_spec::distribution::Reference;

use super::error::RegistryError;

/// The registry that is meant where none is named.
const DOCKER_HUB: &str = "docker.io";
/// Where its API is.
const DOCKER_HUB_HOST: &str = "registry-1.docker.io";
/// Under which name `docker login` keeps its credentials.
const DOCKER_HUB_LOGIN: &str = "https://index.docker.io/v1/";
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
        let host = match self.registry.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((address, _)) => address,
            None => self.registry.split_once(':').map_or(self.registry.as_str(), |(host, _)| host),
        };
        is_loopback_host(host)
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
        let error = |why: &str| RegistryError::Reference { text: text.to_owned(), why: why.to_owned() };
        // The grammar of the library knows no IPv6 addresses: it reads the rest with another host in their place.
        let (address, rest) = match text.strip_prefix('[') {
            None => (None, text.to_owned()),
            Some(inner) => {
                let (address, rest) = inner.split_once(']').ok_or_else(|| error("a ] is missing"))?;
                let address: Ipv6Addr =
                    address.parse().map_err(|_| error("what stands in [ ] is no IPv6 address"))?;
                (Some(address), format!("localhost{rest}"))
            }
        };
        let parsed = Reference::from_str(&rest).map_err(|why| error(&why.to_string()))?;
        let registry = match address {
            None => parsed.registry().to_owned(),
            Some(address) => parsed.registry().replacen("localhost", &format!("[{address}]"), 1),
        };
        if address.is_some() && parsed.registry() == DOCKER_HUB {
            return Err(error("a / is missing behind the registry's address"));
        }
        let digest = parsed.digest().map(str::to_owned);
        if digest.as_ref().is_some_and(|digest| {
            !digest.starts_with("sha256:") || digest.bytes().any(|byte| byte.is_ascii_uppercase())
        }) {
            return Err(error("only sha256 digests are supported, in lower case"));
        }
        Ok(Self {
            registry,
            repository: parsed.repository().to_owned(),
            tag: parsed.tag().map(str::to_owned),
            digest,
        })
    }
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
            "localhost:5000",
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
            // Docker reads this one as an image of the hub called localhost.
            if text == "localhost:5000" {
                continue;
            }
            assert!(text.parse::<ImageReference>().is_err(), "{text:?}");
        }
    }
}
