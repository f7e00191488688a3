//! Requests to the outside: what may be reached, and what a request may be.
#![allow(clippy::unwrap_used, reason = "tests may fail loudly")]

mod addresses;
mod limits;
mod machine;
mod redirects;
mod requests;
mod rig;
