//! CMS EnvelopedData (RFC 5652, section 6) as a key service answers an enclave.
