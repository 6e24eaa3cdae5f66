//! HMAC-SHA-256 (RFC 2104) that cannot fail.

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// Bytes of a block of SHA-256: FIPS 180-4, section 1.
const BLOCK: usize = 64;

/// The code of `data` under a key of any length; one longer than a block is hashed first (RFC 2104, section 2).
pub fn hmac_sha_256(key: &[u8], data: &[u8]) -> [u8; 32] {
    let mut block = Zeroizing::new([0; BLOCK]);
    match block.get_mut(..key.len()) {
        Some(beginning) => beginning.copy_from_slice(key),
        None => {
            let hash = Zeroizing::new(<[u8; 32]>::from(Sha256::digest(key)));
            block.iter_mut().zip(hash.iter()).for_each(|(to, from)| *to = *from);
        }
    }
    // A whole block is a key that needs no check: there is no error, whose place a value would take that all can guess.
    let mac = Hmac::<Sha256>::new((&*block).into());
    mac.chain_update(data).finalize().into_bytes().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4231, test cases 2, 4 and 6: keys of 4, 25 and 131 bytes.
    #[test]
    fn keys_of_any_length_get_the_published_codes() {
        let twenty_five: Vec<u8> = (1..=25).collect();
        for (key, data, code) in [
            (
                &b"Jefe"[..],
                &b"what do ya want for nothing?"[..],
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
            ),
            (&twenty_five, &[0xcd; 50], "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b"),
            (
                &[0xaa; 131],
                b"Test Using Larger Than Block-Size Key - Hash Key First",
                "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
            ),
        ] {
            assert_eq!(hex::encode(hmac_sha_256(key, data)), code);
        }
    }
}
