//! Nothing but tests: AWS's own image reader and builder (crate `aws-nitro-enclaves-image-format`) against ours.
