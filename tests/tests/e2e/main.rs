//! End to end, through public doors only: the command line and the socket.
//!
//! Each test runs on a machine of its own (see `tests::isolate`) and fails when it leaves anything there. Names carry
//! the id of the row of the feature list that they show.
#![allow(
    clippy::unwrap_used,
    clippy::let_underscore_must_use,
    reason = "a test fails by panicking, and may ignore"
)]

mod adoption;
mod attack;
mod backup;
mod bad_input;
mod broker;
mod cli;
mod connect;
mod develop;
mod disk;
mod doctor;
mod door;
mod exec;
mod faults;
mod functions;
mod images;
mod limits;
mod locks;
mod logs;
mod mounts;
mod network;
mod operate;
mod packages;
mod pipe_wrap;
mod ported;
mod privileges;
mod registry;
mod replace;
mod rootfs;
mod rpc;
mod sandbox;
mod scarcity;
mod service;
mod sessions;
mod settings;
mod sources;
mod stats;
mod storm;
mod streams;
mod survival;
mod terminal;
mod userns;
mod workers;
