//! What a key is: its metadata and its material.
