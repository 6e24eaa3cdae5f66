//! Listeners, TLS, HTTP and its limits.
