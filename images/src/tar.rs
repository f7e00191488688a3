//! Tar streams, read and written.
//!
//! Headers are decoded by the tar crate; the walk from entry to entry is ours, because that crate's own skips what
//! it does not understand and hides where an archive ends, and an archive from a stranger must not be read more
//! leniently by us than by whoever vouched for it.

mod pax;
mod reader;
mod sparse;
mod writer;

pub(crate) use reader::{Entry, Input, Kind, Reader, has_right_sum};
pub(crate) use writer::{read_xattrs, write_tree};
