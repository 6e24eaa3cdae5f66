//! Sealing an envelope.

use aes::Aes256;
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::{BlockModeEncrypt, KeyIvInit};
use rand_core::TryCryptoRng;
use rsa::Oaep;
use rsa::traits::PaddingScheme;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::{BLOCK, CmsError, Encoding, KEY, MAX_PLAINTEXT, RecipientKey, write};

/// Seals a plaintext for the holder of the recipient's private key.
///
/// # Errors
/// [`CmsError::Random`] if the generator fails, [`CmsError::Size`] for a plaintext longer than [`MAX_PLAINTEXT`].
pub fn seal<R: TryCryptoRng>(
    recipient: &RecipientKey,
    plaintext: &[u8],
    encoding: Encoding,
    rng: &mut R,
) -> Result<Vec<u8>, CmsError> {
    if plaintext.len() > MAX_PLAINTEXT {
        return Err(CmsError::Size);
    }
    let mut key = Zeroizing::new([0; KEY]);
    rng.try_fill_bytes(&mut *key).map_err(|_| CmsError::Random)?;
    let mut vector = [0; BLOCK];
    rng.try_fill_bytes(&mut vector).map_err(|_| CmsError::Random)?;
    // The recipient's key is checked, and has room for this one: nothing else can fail.
    let encrypted_key =
        Oaep::<Sha256>::new().encrypt(rng, recipient.rsa(), &*key).map_err(|_| CmsError::Random)?;
    let cipher = cbc::Encryptor::<Aes256>::new((&*key).into(), (&vector).into());
    let content = cipher.encrypt_padded_vec::<Pkcs7>(plaintext);
    Ok(write::write(encoding, recipient.identifier(), &encrypted_key, &vector, &content))
}
