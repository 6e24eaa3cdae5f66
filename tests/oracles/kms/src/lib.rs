//! Nothing but tests: AWS's clients against the key service.
