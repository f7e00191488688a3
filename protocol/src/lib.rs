//! The words on the wire.
//!
//! Owns every type that crosses `host.sock`: newline-delimited JSON-RPC 2.0 requests, results, errors and
//! notifications. Never does I/O and knows nothing of how a request is carried out.
//!
//! ```text
//! client                                   host
//!   | {"method":"hello",...}        ->      |   first request of every connection
//!   | <- {"result":{"protocol":1}}          |
//!   | {"method":"subcontainer.exec"} ->     |   one request, one response; many may be in flight
//!   | <- {"method":"$/progress",...}        |   notifications of a request under way
//!   | {"method":"$/cancelRequest"}   ->     |   answered with code -32800
//!
//! second connection, one for each byte stream:
//!   | {"method":"stream.attach",...} ->     |   first and only request
//!   | <- {"result":{}}                      |   and from here on raw bytes, until either side closes
//!
//! or {"method":"stream.connect",...}, for a TCP connection to a port inside
//! ```
//! Package code speaks the same way on a socket of its own, with other methods: see [`broker`]; and the host with the
//! process that runs a package's TypeScript: see [`worker`].
//!
//! The TypeScript types of the SDK and the JSON Schema are generated from here (see [`schema`]).

pub mod broker;
pub mod digest;
pub mod error;
pub mod file;
pub mod function;
pub mod image;
pub mod limits;
pub mod logs;
pub mod network;
pub mod package;
pub mod process;
pub mod sandbox;
pub mod schema;
pub mod session;
pub mod stats;
pub mod subcontainer;
pub mod worker;

mod data;

pub use data::Data;
pub use digest::Digest;
pub use error::{ErrorData, ErrorKind};

/// The version of this protocol. A host answers a `hello` that offers another one with
/// [`ErrorKind::UnsupportedProtocol`].
pub const PROTOCOL_VERSION: u32 = 1;

/// The longest line, in bytes without its newline, that either side accepts. A longer one ends the connection.
pub const MAX_LINE: usize = 32 * 1024 * 1024;
