//! The `Authorization` header, read strictly.

use super::timestamp::is_day;
use super::{
    ALGORITHM, AUTHORIZATION, MAX_AUTHORIZATION, MAX_SIGNED_HEADERS, Request, SigV4Error, TERMINATOR,
    canonical, is_access_key_id, is_scope_name,
};

/// What an `Authorization` header says. Nothing of it is believed before [`Authorization::verify`] accepts it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorization {
    access_key_id: String,
    day: String,
    region: String,
    service: String,
    signed_headers: Vec<String>,
    signature: [u8; 32],
}

impl Authorization {
    /// Finds and reads the header of a request.
    ///
    /// # Errors
    /// [`SigV4Error::NotSigned`] if there is none, [`SigV4Error::DuplicateHeader`] if there are several, and those of
    /// [`Self::parse`].
    pub fn of(request: &Request<'_>) -> Result<Self, SigV4Error> {
        match canonical::single_value(request, AUTHORIZATION) {
            Ok(header) => Self::parse(header),
            Err(SigV4Error::MissingHeader(_)) => Err(SigV4Error::NotSigned),
            Err(error) => Err(error),
        }
    }

    /// Reads the header's value: the algorithm, then `Credential`, `SignedHeaders` and `Signature`, in any order, each once.
    ///
    /// # Errors
    /// [`SigV4Error`] says what of it has another form.
    pub fn parse(header: &str) -> Result<Self, SigV4Error> {
        if header.len() > MAX_AUTHORIZATION {
            return Err(SigV4Error::AuthorizationSize);
        }
        let components = header.strip_prefix(ALGORITHM).and_then(|rest| rest.strip_prefix(' '));
        let components = components.ok_or(SigV4Error::Algorithm)?;
        let (mut credential, mut signed_headers, mut signature) = (None, None, None);
        for component in components.split(',') {
            let (name, value) = component.trim_matches(' ').split_once('=').ok_or(SigV4Error::Component)?;
            let (name, place) = match name {
                "Credential" => ("Credential", &mut credential),
                "SignedHeaders" => ("SignedHeaders", &mut signed_headers),
                "Signature" => ("Signature", &mut signature),
                _ => return Err(SigV4Error::Component),
            };
            if place.replace(value).is_some() {
                return Err(SigV4Error::DuplicateComponent(name));
            }
        }
        let credential = credential.ok_or(SigV4Error::MissingComponent("Credential"))?;
        let signed_headers = signed_headers.ok_or(SigV4Error::MissingComponent("SignedHeaders"))?;
        let signature = signature.ok_or(SigV4Error::MissingComponent("Signature"))?;
        let [access_key_id, day, region, service] =
            read_credential(credential).ok_or(SigV4Error::Credential)?;
        Ok(Self {
            access_key_id: access_key_id.to_owned(),
            day: day.to_owned(),
            region: region.to_owned(),
            service: service.to_owned(),
            signed_headers: read_signed_headers(signed_headers).ok_or(SigV4Error::SignedHeaders)?,
            signature: read_signature(signature).ok_or(SigV4Error::SignatureForm)?,
        })
    }

    /// Whose key signed, as the header says.
    #[must_use]
    pub fn access_key_id(&self) -> &str {
        &self.access_key_id
    }

    /// The day for which the signature is: `YYYYMMDD`, in UTC.
    #[must_use]
    pub fn date(&self) -> &str {
        &self.day
    }

    /// The region for which the signature is.
    #[must_use]
    pub fn region(&self) -> &str {
        &self.region
    }

    /// The service for which the signature is.
    #[must_use]
    pub fn service(&self) -> &str {
        &self.service
    }

    /// The headers that are signed: lower case, sorted, each once.
    #[must_use]
    pub fn signed_headers(&self) -> &[String] {
        &self.signed_headers
    }

    /// The signature.
    #[must_use]
    pub const fn signature(&self) -> &[u8; 32] {
        &self.signature
    }
}

fn read_credential(credential: &str) -> Option<[&str; 4]> {
    let mut parts = credential.split('/');
    let [id, day, region, service, terminator] =
        [parts.next()?, parts.next()?, parts.next()?, parts.next()?, parts.next()?];
    let well_formed = is_access_key_id(id)
        && is_day(day)
        && is_scope_name(region)
        && is_scope_name(service)
        && terminator == TERMINATOR
        && parts.next().is_none();
    well_formed.then_some([id, day, region, service])
}

fn read_signed_headers(names: &str) -> Option<Vec<String>> {
    let names: Vec<&str> = names.split(';').take(MAX_SIGNED_HEADERS.saturating_add(1)).collect();
    are_signed_headers(&names).then(|| names.into_iter().map(str::to_owned).collect())
}

/// True for names that may be signed: lower case, sorted, each once, and no more than allowed.
pub(super) fn are_signed_headers<N: AsRef<str>>(names: &[N]) -> bool {
    let allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_' | b'.');
    let is_name = |name: &N| !name.as_ref().is_empty() && name.as_ref().bytes().all(allowed);
    names.len() <= MAX_SIGNED_HEADERS
        && names.iter().all(is_name)
        && names.is_sorted_by(|one, next| one.as_ref() < next.as_ref())
}

fn read_signature(digits: &str) -> Option<[u8; 32]> {
    let mut signature = [0; 32];
    let lower = digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    (lower && hex::decode_to_slice(digits, &mut signature).is_ok()).then_some(signature)
}
