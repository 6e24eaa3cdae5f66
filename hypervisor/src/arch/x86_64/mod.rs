//! x86-64: everything a PC-like guest without firmware, disk or PCI needs to find.
//!
//! [`boot`] is what the loader of images uses. Addresses are all in [`layout`].

pub mod acpi;
pub mod boot;
mod bzimage;
mod descriptor_tables;
mod elf;
pub mod layout;
pub mod memory_map;
mod pvh;
pub mod registers;
mod zero_page;
