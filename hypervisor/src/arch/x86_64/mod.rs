//! x86-64: everything a PC-like guest without firmware, disk or PCI needs to find.
//!
//! [`boot`] is what the loader of images uses; [`platform`] and [`processor`] set up the virtual machine and its
//! virtual CPUs. Addresses are all in [`layout`], and what the guest may see of the processor in [`allow_list`].

pub mod acpi;
pub mod allow_list;
pub mod boot;
mod bzimage;
pub mod cpuid;
mod descriptor_tables;
mod elf;
pub mod layout;
pub mod memory_map;
mod mp_table;
pub mod msrs;
pub mod platform;
pub mod ports;
pub mod processor;
mod pvh;
pub mod registers;
mod zero_page;
