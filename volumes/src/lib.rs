//! Mount sources to detached, id-mapped mounts, and those to their place in a rootfs.
//!
//! Owns what is beneath these directories of the data directory, and how it becomes a mount:
//!
//! ```text
//! D/volumes/<id>/                     a package's own data; made on first use
//! D/assets/                           its static files; always read-only
//! D/packages/<package>/volumes/<id>/  a dependency's data; never made here
//! D/packages/<package>/rpc/           a package's socket; always read-only, never made here
//! D/packages/<package>/backup/        what a package adds to a backup of it, while one is made or restored
//! D/backup/                           the backup target; the operator makes it
//! ```
//!
//! A mount goes through these hands, and only handles are passed between them:
//!
//! ```text
//! protocol::Mount --prepare--> Prepared (detached: attributes and id map set) --attach--> in the rootfs
//!                                 | dropped: gone, nobody ever saw it             --detach--> gone
//! ```
//!
//! Volumes, assets and the rootfs are hostile ground: whatever is in them was written by somebody's code. A source
//! is looked up beneath its root, where a link that leaves is an error; a mountpoint is looked up inside the rootfs,
//! where nothing leaves. Never follows a path twice, never decides who may mount what (that is the broker's), and
//! remembers nothing: what is mounted is what the kernel says is mounted.

pub mod backup;
mod bind;
mod error;
mod id;
mod idmap;
mod place;
mod source;
mod tree;

pub use bind::{BindOptions, bind};
pub use error::Error;
pub use idmap::{IdMapError, ParseIdMapError, Side, extents, parse_id_map};
pub use place::{attach, detach};
pub use source::{Package, Sources};
pub use tree::Prepared;
