//! The images that tests, demo and benchmarks run: made once, kept in `target/xtask/images/`, complete or absent.
//!
//! ```text
//! target/xtask/images/
//!   busybox.tar           OCI archive: a static busybox and its links
//!   busybox/              the same tree, unpacked, for the engines we compare with
//!   debian.tar            OCI archive: Debian minbase
//!   debian/               the same tree
//!   postgres-demo.tar     OCI archive: debian's layer and one with PostgreSQL over it
//!   mariadb-demo.tar      OCI archive: debian's layer and one with MariaDB and rsync over it
//!   layers/*.tar          the layers, as tar archives
//! ```

pub(crate) mod busybox;
pub(crate) mod debian;
pub(crate) mod layered;
mod oci;
