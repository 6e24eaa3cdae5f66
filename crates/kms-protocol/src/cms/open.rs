//! Opening an envelope.

use aes::Aes256;
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockModeDecrypt, KeyIvInit};
use rsa::traits::{PrivateKeyParts, PublicKeyParts};
use rsa::{Oaep, RsaPrivateKey};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::read::{Envelope, read};
use super::{CmsError, KEY};
use crate::mac::hmac_sha_256;

/// Opens an envelope of either encoding.
///
/// # Errors
/// [`CmsError::Structure`] says what is wrong with the envelope's form. Everything that goes wrong after that, be it a
/// wrong key, a changed byte or padding, is [`CmsError::Unopenable`], after the same work.
pub fn open(key: &RsaPrivateKey, cms: &[u8]) -> Result<Zeroizing<Vec<u8>>, CmsError> {
    let envelope = read(cms)?;
    if envelope.encrypted_key.len() != key.size() {
        return Err(CmsError::Structure("the encrypted key is not as long as the recipient's modulus"));
    }
    let content_key = content_key(key, &envelope);
    let mut content = Zeroizing::new(envelope.content.into_owned());
    let cipher = cbc::Decryptor::<Aes256>::new((&*content_key).into(), (&envelope.vector).into());
    let length = match cipher.decrypt_padded::<Pkcs7>(&mut content) {
        Ok(plaintext) => plaintext.len(),
        Err(_) => return Err(CmsError::Unopenable),
    };
    content.truncate(length);
    Ok(content)
}

/// The content's key. Where it does not decrypt, another one that nobody knows: the content is decrypted in any case, so
/// that neither the error nor the time tells how far an envelope got.
fn content_key(key: &RsaPrivateKey, envelope: &Envelope<'_>) -> Zeroizing<[u8; KEY]> {
    let substitute = substitute_key(key, &envelope.encrypted_key);
    let decrypted = key.decrypt(Oaep::<Sha256>::new(), &envelope.encrypted_key).map(Zeroizing::new);
    let decrypted = decrypted.ok().and_then(|bytes| Some(Zeroizing::new(bytes.as_slice().try_into().ok()?)));
    decrypted.unwrap_or(substitute)
}

/// A key that only the holder of the private key can calculate, always the same for the same encrypted key: repeating an
/// envelope teaches nothing.
fn substitute_key(key: &RsaPrivateKey, encrypted_key: &[u8]) -> Zeroizing<[u8; KEY]> {
    let exponent = Zeroizing::new(key.d().to_be_bytes());
    Zeroizing::new(hmac_sha_256(&exponent, encrypted_key))
}
