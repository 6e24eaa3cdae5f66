//! Errors by the names that AWS gives them.
