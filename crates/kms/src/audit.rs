//! The append-only log of every decision.
