//! What is signed: the canonical form of a request, and the signature over it.

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::timestamp::Timestamp;
use super::{ALGORITHM, CONTENT_SHA256, Request, Scope, SigV4Error, TERMINATOR};
use crate::mac::hmac_sha_256;

/// The digits of percent-encoding and of hashes in a canonical path.
const UPPER: &[u8; 16] = b"0123456789ABCDEF";

/// The signature of a request at a time in a scope, over the headers named: lower case, sorted, each once.
///
/// # Errors
/// The request has no canonical form: [`SigV4Error::NotCanonical`], [`SigV4Error::MissingHeader`],
/// [`SigV4Error::DuplicateHeader`], [`SigV4Error::HeaderValue`]. Or a header says that it has another body:
/// [`SigV4Error::BodyHash`].
pub(super) fn signature<N: AsRef<str>>(
    request: &Request<'_>,
    signed_headers: &[N],
    secret: &str,
    scope: &Scope,
    time: &Timestamp,
) -> Result<[u8; 32], SigV4Error> {
    let canonical = canonical_request(request, signed_headers)?;
    let hash = hex::encode(Sha256::digest(canonical));
    let scope_text = format!("{}/{}/{}/{TERMINATOR}", time.day(), scope.region, scope.service);
    let to_sign = format!("{ALGORITHM}\n{}\n{scope_text}\n{hash}", time.as_str());
    let key = signing_key(secret, scope, time.day());
    Ok(hmac_sha_256(&*key, to_sign.as_bytes()))
}

/// The key of one day, region and service.
fn signing_key(secret: &str, scope: &Scope, day: &str) -> Zeroizing<[u8; 32]> {
    let secret = Zeroizing::new(format!("AWS4{secret}"));
    let first = Zeroizing::new(hmac_sha_256(secret.as_bytes(), day.as_bytes()));
    [&scope.region, &scope.service, TERMINATOR]
        .into_iter()
        .fold(first, |key, part| Zeroizing::new(hmac_sha_256(&*key, part.as_bytes())))
}

/// The six parts of the canonical request, a line feed between them.
fn canonical_request<N: AsRef<str>>(
    request: &Request<'_>,
    signed_headers: &[N],
) -> Result<String, SigV4Error> {
    let method = canonical_method(request.method).ok_or(SigV4Error::NotCanonical("method"))?;
    let path = canonical_path(request.path).ok_or(SigV4Error::NotCanonical("path"))?;
    let query = canonical_query(request.query).ok_or(SigV4Error::NotCanonical("query"))?;
    let mut headers = String::new();
    for name in signed_headers {
        let name = name.as_ref();
        let value = canonical_value(single_value(request, name)?);
        let value = value.ok_or_else(|| SigV4Error::HeaderValue(name.to_owned()))?;
        headers.extend([name, ":", &value, "\n"]);
    }
    let names: Vec<&str> = signed_headers.iter().map(AsRef::as_ref).collect();
    let body = body_hash(request)?;
    Ok([method, &path, &query, &headers, &names.join(";"), &body].join("\n"))
}

/// The hash of the body, which is signed in any case. A client that repeats it in a header must mean the same.
fn body_hash(request: &Request<'_>) -> Result<String, SigV4Error> {
    let hash = hex::encode(Sha256::digest(request.body));
    if request.values(CONTENT_SHA256).all(|said| said == hash) { Ok(hash) } else { Err(SigV4Error::BodyHash) }
}

/// The value of a header that must be there once.
pub(super) fn single_value<'a>(request: &Request<'a>, name: &str) -> Result<&'a str, SigV4Error> {
    let mut values = request.values(name);
    let value = values.next().ok_or_else(|| SigV4Error::MissingHeader(name.to_owned()))?;
    match values.next() {
        None => Ok(value),
        Some(_) => Err(SigV4Error::DuplicateHeader(name.to_owned())),
    }
}

fn canonical_method(method: &str) -> Option<&str> {
    (!method.is_empty() && method.bytes().all(|byte| byte.is_ascii_uppercase())).then_some(method)
}

/// The path with each segment encoded once more, as all services but S3 have it. None for a path that could be read in
/// two ways.
fn canonical_path(path: &str) -> Option<String> {
    let segments = path.strip_prefix('/')?;
    let visible = segments.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#'));
    let normal = segments.is_empty()
        || segments
            .strip_suffix('/')
            .unwrap_or(segments)
            .split('/')
            .all(|segment| !matches!(segment, "" | "." | ".."));
    let encode = |text: &mut String, byte: u8| match byte {
        b'/' => text.push('/'),
        _ if is_unreserved(byte) => text.push(byte.into()),
        _ => text.extend(['%', upper_digit(byte >> 4), upper_digit(byte)]),
    };
    (visible && normal).then(|| {
        path.bytes().fold(String::with_capacity(path.len()), |mut text, byte| {
            encode(&mut text, byte);
            text
        })
    })
}

/// The pairs of the query, sorted. None for a query with anything not encoded, or encoded that need not be.
fn canonical_query(query: &str) -> Option<String> {
    if query.is_empty() {
        return Some(String::new());
    }
    let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let mut pairs: Vec<(&str, &str)> = pairs.collect();
    let canonical = |(name, value): &(&str, &str)| !name.is_empty() && is_encoded(name) && is_encoded(value);
    if !pairs.iter().all(canonical) {
        return None;
    }
    pairs.sort_unstable();
    let pairs: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={value}")).collect();
    Some(pairs.join("&"))
}

/// A header's value without spaces at its ends, and with single ones within. None if it has control characters.
fn canonical_value(value: &str) -> Option<String> {
    if value.chars().any(|character| character.is_control() && character != '\t') {
        return None;
    }
    let words = value.trim_matches([' ', '\t']).split(' ').filter(|word| !word.is_empty());
    Some(words.collect::<Vec<_>>().join(" "))
}

/// True for what RFC 3986, section 2.3 never encodes.
const fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// True for text in which just what must be is percent-encoded, in capitals.
fn is_encoded(text: &str) -> bool {
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let allowed = match byte {
            b'%' => {
                let decoded = bytes.next().and_then(digit).zip(bytes.next().and_then(digit));
                decoded.is_some_and(|(high, low)| !is_unreserved(high << 4 | low))
            }
            _ => is_unreserved(byte),
        };
        if !allowed {
            return false;
        }
    }
    true
}

fn upper_digit(nibble: u8) -> char {
    UPPER.get(usize::from(nibble & 0xf)).map_or('0', |digit| char::from(*digit))
}

fn digit(character: u8) -> Option<u8> {
    UPPER.iter().position(|upper| *upper == character).and_then(|value| u8::try_from(value).ok())
}
