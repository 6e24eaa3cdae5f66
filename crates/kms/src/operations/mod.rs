//! What the service does: one module for each group of operations.
