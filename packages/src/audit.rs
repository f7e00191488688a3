//! What was done, by whom, and how it ended: a table to which lines are only added, each chained to the one before.
//!
//! ```text
//! hash(n) = sha256("start-container audit v1" ‖ hash(n-1) ‖ number ‖ time ‖ actor ‖ package ‖ action ‖ outcome ‖ detail)
//! ```
//! Triggers refuse changes and removals by whoever uses the database as it should be used; the chain shows those by
//! whoever does not, and the table's own counter shows a tail that was cut off. A copy of the last hash elsewhere is what
//! would show a log that was written anew from its beginning.
//!
//! Knows nothing of packages but their ids: whoever checks calls writes here too. An entry is written in the transaction
//! of what it tells, so that there is none without the other.

use protocol::Digest;
use protocol::package::{AuditEntry, AuditLine, AuditOutcome};
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, params};
use sha2::{Digest as _, Sha256};

use crate::{Error, Result};

/// The table, and what keeps it as it is.
pub(crate) const TABLE: &str = "
CREATE TABLE audit (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    time INTEGER NOT NULL,
    actor TEXT NOT NULL,
    package TEXT NOT NULL,
    action TEXT NOT NULL,
    outcome TEXT NOT NULL,
    detail TEXT NOT NULL,
    hash BLOB NOT NULL
) STRICT;
CREATE INDEX audit_package ON audit (package, number);
CREATE TRIGGER audit_is_not_changed BEFORE UPDATE ON audit BEGIN
    SELECT RAISE(ABORT, 'the audit log is only added to');
END;
CREATE TRIGGER audit_is_not_removed BEFORE DELETE ON audit BEGIN
    SELECT RAISE(ABORT, 'the audit log is only added to');
END;
";

fn outcome_text(outcome: AuditOutcome) -> &'static str {
    match outcome {
        AuditOutcome::Done => "done",
        AuditOutcome::Denied => "denied",
        AuditOutcome::Failed => "failed",
    }
}

/// Adds an entry.
///
/// # Errors
/// When the database cannot be read or written; then nothing of the transaction may stay.
pub fn append(transaction: &Transaction<'_>, entry: &AuditLine<'_>) -> Result<()> {
    append_all(transaction, std::slice::from_ref(entry))
}

/// Adds entries, in this order.
///
/// # Errors
/// As [`append`].
pub fn append_all(transaction: &Transaction<'_>, entries: &[AuditLine<'_>]) -> Result<()> {
    let write = || {
        let last = transaction
            .prepare_cached("SELECT number, hash FROM audit ORDER BY number DESC LIMIT 1")?
            .query_row([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, [u8; 32]>(1)?)))
            .optional()?;
        let (mut number, mut before) = last.unwrap_or((0, [0; 32]));
        let mut insert = transaction.prepare_cached(
            "INSERT INTO audit (number, time, actor, package, action, outcome, detail, hash)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        )?;
        for entry in entries {
            number += 1;
            let time = i64::try_from(entry.time).unwrap_or(i64::MAX);
            let outcome = outcome_text(entry.outcome);
            let texts = [entry.actor, entry.package, entry.action, outcome, entry.detail];
            before = link(&before, number, time, &texts);
            insert.execute(params![
                number,
                time,
                entry.actor,
                entry.package,
                entry.action,
                outcome,
                entry.detail,
                before
            ])?;
        }
        Ok(())
    };
    write().map_err(|source| Error::Database { step: "write the audit log", source })
}

fn link(before: &[u8; 32], number: i64, time: i64, texts: &[&str; 5]) -> [u8; 32] {
    let mut hasher = Sha256::new_with_prefix(b"start-container audit v1\0");
    hasher.update(before);
    hasher.update(number.to_le_bytes());
    hasher.update(time.to_le_bytes());
    for text in texts {
        hasher.update((text.len() as u64).to_le_bytes());
        hasher.update(text.as_bytes());
    }
    hasher.finalize().into()
}

/// The last entries, of one package or of all, oldest first.
///
/// # Errors
/// When the database cannot be read.
pub fn last(connection: &Connection, package: Option<&str>, most: u32) -> Result<Vec<AuditEntry>> {
    let columns = "SELECT number, time, actor, package, action, outcome, detail, hash FROM audit";
    let read = || {
        // Two statements: with a condition for both, no index would be used.
        let mut entries = match package {
            Some(package) => connection
                .prepare_cached(&format!("{columns} WHERE package = ? ORDER BY number DESC LIMIT ?"))?
                .query_map(params![package, most], entry)?
                .collect::<rusqlite::Result<Vec<_>>>()?,
            None => connection
                .prepare_cached(&format!("{columns} ORDER BY number DESC LIMIT ?"))?
                .query_map([most], entry)?
                .collect::<rusqlite::Result<Vec<_>>>()?,
        };
        entries.reverse();
        Ok(entries)
    };
    read().map_err(|source| Error::Database { step: "read the audit log", source })
}

fn entry(row: &Row<'_>) -> rusqlite::Result<AuditEntry> {
    let outcome = match row.get_ref(5)?.as_str()? {
        "denied" => AuditOutcome::Denied,
        "failed" => AuditOutcome::Failed,
        _ => AuditOutcome::Done,
    };
    Ok(AuditEntry {
        number: row.get::<_, i64>(0)?.unsigned_abs(),
        time: row.get::<_, i64>(1)?.unsigned_abs(),
        actor: row.get(2)?,
        package_id: row.get(3)?,
        action: row.get(4)?,
        outcome,
        detail: row.get(6)?,
        hash: Digest::from(row.get::<_, [u8; 32]>(7)?),
    })
}

/// Checks the whole chain, as the transaction sees it. Returns how many entries it has.
///
/// Without a transaction, an entry that somebody adds meanwhile would look like one that was cut off.
///
/// # Errors
/// When an entry was changed, removed or cut off, with its number; or the database cannot be read.
pub fn verify(view: &Transaction<'_>) -> Result<u64> {
    let failed = |source| Error::Database { step: "read the audit log", source };
    let mut statement = view
        .prepare(
            "SELECT number, hash, time, actor, package, action, outcome, detail FROM audit ORDER BY number",
        )
        .map_err(failed)?;
    let mut rows = statement.query([]).map_err(failed)?;
    let (mut count, mut before) = (0_i64, [0; 32]);
    while let Some(row) = rows.next().map_err(failed)? {
        let number: i64 = row.get(0).map_err(failed)?;
        let hash: [u8; 32] = row.get(1).map_err(failed)?;
        let time: i64 = row.get(2).map_err(failed)?;
        let mut texts = [""; 5];
        for (index, text) in texts.iter_mut().enumerate() {
            *text = row.get_ref(index + 3).map_err(failed)?.as_str().map_err(|error| failed(error.into()))?;
        }
        if number != count + 1 || link(&before, number, time, &texts) != hash {
            return Err(Error::Audit { number: (count + 1).unsigned_abs() });
        }
        (count, before) = (number, hash);
    }
    // SQLite keeps the highest number that was ever given.
    let ever: i64 = view
        .query_row("SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'audit'", [], |row| {
            row.get(0)
        })
        .map_err(failed)?;
    if ever != count {
        return Err(Error::Audit { number: (count + 1).unsigned_abs() });
    }
    Ok(count.unsigned_abs())
}
