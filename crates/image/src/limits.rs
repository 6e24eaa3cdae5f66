//! How much of a container image or archive is believed: everything that could grow without end has a bound.

/// Bounds on one image. The defaults are far above real images, and low enough that a hostile one ends as an error
/// message and not as a machine without memory or disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of all layers together once decompressed: what an archive bomb would fill the disk with.
    pub unpacked: u64,
    /// Layers of an image. Docker stops at 127, the overlay file system at 500.
    pub layers: usize,
    /// Files, folders and links of the whole image, and members of one archive.
    pub entries: usize,
    /// Bytes of the paths of all entries together, which are held in memory.
    pub names: u64,
    /// Bytes of the attributes of all entries together, which are held in memory.
    pub attributes: u64,
    /// Bytes of an index, manifest or configuration. Registries stop at 4 MiB.
    pub document: u64,
    /// Indexes inside indexes.
    pub nesting: usize,
    /// Manifests of all indexes together.
    pub manifests: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            unpacked: 16 << 30,
            layers: 512,
            entries: 2_000_000,
            names: 256 << 20,
            attributes: 16 << 20,
            document: 4 << 20,
            nesting: 4,
            manifests: 1024,
        }
    }
}
