//! Checks between certificates: from a trusted root down to the key that signed a document.
//!
//! RFC 5280 section 6 as far as attestation documents use it, in the order of AWS's
//! `attestation_process.md`: signatures, BasicConstraints, path length, KeyUsage. Revocation is not checked
//! (AWS turns it off as well). Dates are a step of their own.

use std::time::SystemTime;

use thiserror::Error;

use crate::certificate::Certificate;

/// Why a row of certificates does not lead from the root to the leaf. Positions count from the root, 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PathError {
    /// There is no certificate at all.
    #[error("there is no certificate")]
    Empty,
    /// A certificate names another issuer than the one before it.
    #[error("certificate {0} names another issuer than the certificate before it")]
    Issuer(usize),
    /// A certificate was not signed by the one before it.
    #[error("certificate {0} was not signed with the key of the certificate before it")]
    Signature(usize),
    /// A certificate that issues another is no authority.
    #[error("certificate {0} issues another but is not a certificate authority (BasicConstraints)")]
    NotAnAuthority(usize),
    /// A certificate that issues another may not sign certificates.
    #[error("certificate {0} issues another but its key may not sign certificates (KeyUsage)")]
    MayNotSignCertificates(usize),
    /// More authorities follow than a certificate allows.
    #[error("more authorities follow certificate {0} than its path length allows")]
    PathLength(usize),
    /// The certificate of the signing key is an authority.
    #[error("the last certificate is an authority's, not a signing key's")]
    LeafIsAuthority,
    /// The signing key may not sign.
    #[error("the key of the last certificate may not sign documents (KeyUsage)")]
    MayNotSignDocuments,
}

/// A certificate that is not valid at the time of interest. Positions count from the root, 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DatesError {
    /// Not yet valid.
    #[error("certificate {0} is not valid yet at that time; compare the clocks")]
    NotYetValid(usize),
    /// No longer valid.
    #[error("certificate {0} has expired at that time")]
    Expired(usize),
}

/// Checks that each of `authorities`, root first, was issued by the one before it, and was allowed to be; the root by itself.
///
/// # Errors
/// The first rule that is broken.
pub fn check_authorities(authorities: &[Certificate]) -> Result<(), PathError> {
    let root = authorities.first().ok_or(PathError::Empty)?;
    check_link(root, root, 0)?;
    check_below_root(authorities)
}

/// Checks the whole way from the first of `authorities`, a root that you trust, to `leaf`.
///
/// Trusting the root is the caller's decision: compare `authorities[0]` with what you pinned. Its signature is by itself and
/// would prove nothing about bytes that are trusted as they are, so it is not checked (RFC 5280 section 6 does not either).
///
/// # Errors
/// The first rule that is broken.
pub fn check_path(authorities: &[Certificate], leaf: &Certificate) -> Result<(), PathError> {
    let (root, issuer) = authorities.first().zip(authorities.last()).ok_or(PathError::Empty)?;
    if !root.names_as_issuer(root) {
        return Err(PathError::Issuer(0));
    }
    check_below_root(authorities)?;
    check_link(leaf, issuer, authorities.len())?;
    if leaf.is_authority() || leaf.path_length().is_some() {
        return Err(PathError::LeafIsAuthority);
    }
    if !leaf.may_sign_documents() {
        return Err(PathError::MayNotSignDocuments);
    }
    Ok(())
}

/// Each authority may be one, and each below the first was issued by the one before it.
fn check_below_root(authorities: &[Certificate]) -> Result<(), PathError> {
    for (position, certificate) in authorities.iter().enumerate() {
        let below = authorities.len().saturating_sub(position).saturating_sub(1);
        check_authority(certificate, position, below)?;
    }
    for (position, (issuer, subject)) in authorities.iter().zip(authorities.iter().skip(1)).enumerate() {
        check_link(subject, issuer, position.saturating_add(1))?;
    }
    Ok(())
}

/// Checks that every certificate is valid at `time`.
///
/// # Errors
/// The first certificate, from the root, that is not.
pub fn check_dates<'a>(
    certificates: impl IntoIterator<Item = &'a Certificate>,
    time: SystemTime,
) -> Result<(), DatesError> {
    for (position, certificate) in certificates.into_iter().enumerate() {
        if time < certificate.not_before() {
            return Err(DatesError::NotYetValid(position));
        }
        if time > certificate.not_after() {
            return Err(DatesError::Expired(position));
        }
    }
    Ok(())
}

fn check_link(subject: &Certificate, issuer: &Certificate, position: usize) -> Result<(), PathError> {
    if !subject.names_as_issuer(issuer) {
        return Err(PathError::Issuer(position));
    }
    if !subject.is_signed_by(issuer) {
        return Err(PathError::Signature(position));
    }
    Ok(())
}

/// `followers` authorities stand between this one and the leaf.
fn check_authority(certificate: &Certificate, position: usize, followers: usize) -> Result<(), PathError> {
    if !certificate.is_authority() {
        return Err(PathError::NotAnAuthority(position));
    }
    if !certificate.may_sign_certificates() {
        return Err(PathError::MayNotSignCertificates(position));
    }
    match certificate.path_length() {
        Some(allowed) if followers > usize::from(allowed) => Err(PathError::PathLength(position)),
        _ => Ok(()),
    }
}
