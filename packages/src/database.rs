//! `DATA_DIR/state.db`: what must outlive the host, in SQLite.
//!
//! Write-ahead log, every commit on disk before it counts. Owns the file and its tables' versions; what is in them is the
//! business of others.

use std::path::Path;

use rusqlite::Connection;

use crate::{Error, Result, audit};

/// The file's name in the data directory.
pub const FILE: &str = "state.db";

const PACKAGES: &str = "
CREATE TABLE package (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    digest TEXT NOT NULL,
    status TEXT NOT NULL,
    asked TEXT NOT NULL,
    needed TEXT NOT NULL,
    granted TEXT NOT NULL,
    dependencies TEXT NOT NULL,
    signers TEXT NOT NULL,
    installed INTEGER NOT NULL,
    changed INTEGER NOT NULL
) STRICT;
CREATE TABLE version (
    package TEXT NOT NULL,
    version TEXT NOT NULL,
    digest TEXT NOT NULL,
    added INTEGER NOT NULL,
    PRIMARY KEY (package, version)
) STRICT;
CREATE TABLE highest (
    package TEXT PRIMARY KEY,
    version TEXT NOT NULL
) STRICT;
";

/// Each step of the tables' versions, from the first on. Never changed, only added to.
const STEPS: [&[&str]; 1] = [&[PACKAGES, audit::TABLE]];

const NEWEST: u32 = STEPS.len() as u32;

/// Opens the database, making or bringing it up to date where that is needed.
///
/// # Errors
/// When it cannot be opened, or a later release has written it.
pub fn open(data_dir: &Path) -> Result<Connection> {
    let failed = |source| Error::Database { step: "open state.db", source };
    let path = data_dir.join(FILE);
    // SQLite would make it for all to read.
    let flags = rustix::fs::OFlags::RDWR
        | rustix::fs::OFlags::CREATE
        | rustix::fs::OFlags::NOFOLLOW
        | rustix::fs::OFlags::CLOEXEC;
    rustix::fs::open(&path, flags, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR)
        .map_err(Error::kernel("open", path.display()))?;
    let mut connection = Connection::open(&path).map_err(failed)?;
    let configure = || {
        connection.busy_timeout(std::time::Duration::from_secs(10))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        connection.pragma_update(None, "trusted_schema", false)
    };
    configure().map_err(failed)?;
    let transaction =
        connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).map_err(failed)?;
    let version: u32 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(failed)?;
    if version > NEWEST {
        return Err(Error::Newer { file: path.display().to_string() });
    }
    for step in STEPS.iter().skip(version as usize).copied().flatten() {
        transaction.execute_batch(step).map_err(failed)?;
    }
    transaction.pragma_update(None, "user_version", NEWEST).map_err(failed)?;
    transaction.commit().map_err(failed)?;
    Ok(connection)
}
