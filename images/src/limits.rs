//! How much an image may ask for before it is called a bomb.

/// Upper bounds on what is read from an image. One over the bound is refused with an error that says which.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of a manifest, an index or a config.
    pub document: u64,
    /// Layers of one image. Overlay itself takes 500 (OVL_MAX_STACK).
    pub layers: usize,
    /// Bytes of one layer as it arrives.
    pub compressed: u64,
    /// Bytes of one layer's tar, and of the files in it as they appear (holes included).
    pub expanded: u64,
    /// A layer may be this many times larger than it arrived, once it is over `ratio_from`.
    pub ratio: u64,
    /// Expanded bytes beneath which `ratio` is not looked at: small files of zeros are common.
    pub ratio_from: u64,
    /// Entries of one layer.
    pub entries: u64,
    /// Components of one path.
    pub depth: usize,
    /// Bytes of one path, as for the kernel's PATH_MAX.
    pub path: usize,
    /// Bytes of the extended headers (pax, GNU long names, sparse maps) of one entry.
    pub extended_header: u64,
    /// Bytes of one file as it appears, holes included.
    pub file: u64,
    /// Bytes of all the files of one image as they appear.
    pub image: u64,
}

impl Default for Limits {
    fn default() -> Self {
        const GIB: u64 = 1 << 30;
        Self {
            document: 4 << 20,
            layers: 500,
            compressed: 32 * GIB,
            expanded: 64 * GIB,
            ratio: 250,
            ratio_from: GIB,
            entries: 4_000_000,
            depth: 256,
            path: 4095,
            extended_header: 1 << 20,
            file: 64 * GIB,
            image: 128 * GIB,
        }
    }
}
