//! AWS Signature Version 4: how requests are signed, and how a signature is checked.
