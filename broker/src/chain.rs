//! Where lines of the audit log go: whoever opens the broker brings it, so that there is one chain for decisions and calls.

use protocol::package::{AuditEntry, AuditLine};
use rusqlite::{Connection, Transaction};

/// Why the chain could not do it.
pub type ChainError = Box<dyn std::error::Error + Send + Sync>;

/// A hash-chained log in a database that the broker shares.
pub trait Chain: Send + Sync {
    /// Adds lines, in this order, within a transaction: they are there with it, or not at all.
    ///
    /// # Errors
    /// When the database cannot be written.
    fn append(&self, transaction: &Transaction<'_>, entries: &[AuditLine<'_>]) -> Result<(), ChainError>;

    /// The last lines about a package, oldest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    fn last(&self, connection: &Connection, package: &str, most: u32) -> Result<Vec<AuditEntry>, ChainError>;
}
