//! Keys at rest: a database in which every row is sealed under the master key.
