//! End to end, through public doors only: the command line and the socket.
//!
//! Each test runs on a machine of its own (see `tests::isolate`) and fails when it leaves anything there. Names carry
//! the id of the row of the feature list that they show.
#![allow(
    clippy::unwrap_used,
    clippy::let_underscore_must_use,
    reason = "a test fails by panicking, and may ignore"
)]

mod attack;
mod bad_input;
mod cli;
mod disk;
mod exec;
mod images;
mod limits;
mod mounts;
mod network;
mod pipe_wrap;
mod privileges;
mod registry;
mod rootfs;
mod rpc;
mod sandbox;
mod scarcity;
mod settings;
mod stats;
mod storm;
mod streams;
mod survival;
mod terminal;
mod userns;
