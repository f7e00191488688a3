//! What a package keeps with the host, for a backup of it, and from one.
//!
//! Secrets stay encrypted on the way: the key that they are encrypted with is the host's and in no backup, so that who has the
//! backup has no secret. A restore opens each before it changes anything, and encrypts it with the key that is used now.
//!
//! Keys of the host's groups are in no backup. One of them says which restore was completed last ([`Broker::complete_restore`]): the
//! host reads it after it was killed.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use protocol::package::AuditOutcome;
use rusqlite::{Connection, OptionalExtension as _, params};
use serde::{Deserialize, Serialize};

use crate::caller::lock;
use crate::error::{Error, Result};
use crate::ledger::Line;
use crate::store::{self, secrets};
use crate::{Broker, store::MAX_VALUE};

/// The host's group, and its key: the last restore that was completed.
const GROUP: &str = "_restore";
const LAST: &str = "last";

/// Everything that a package keeps.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Kept {
    /// Its keys.
    pub keys: Vec<KeptKey>,
    /// Its secrets.
    pub secrets: Vec<KeptSecret>,
}

/// A key.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KeptKey {
    /// Its group.
    pub group: String,
    /// Its name.
    pub key: String,
    /// Its value, JSON as text.
    pub value: String,
}

/// A secret, encrypted.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KeptSecret {
    /// Its name.
    pub name: String,
    /// The number of the key that it is encrypted with.
    pub key: u32,
    /// What is kept of it, as base64.
    pub value: String,
}

impl Broker {
    /// Everything that a package keeps, as it is at one moment.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn kept(&self, package: &str) -> Result<Kept> {
        let database = lock(&self.reader);
        let read = || {
            // One view for both.
            let view = database.unchecked_transaction()?;
            let keys = view
                .prepare("SELECT grp, key, value FROM kv WHERE package = ? AND substr(grp, 1, 1) <> '_' ORDER BY grp, key")?
                .query_map([package], |row| {
                    Ok(KeptKey { group: row.get(0)?, key: row.get(1)?, value: row.get(2)? })
                })?
                .collect::<rusqlite::Result<_>>()?;
            let secrets = view
                .prepare("SELECT name, key, value FROM secret WHERE package = ? ORDER BY name")?
                .query_map([package], |row| {
                    let value: Vec<u8> = row.get(2)?;
                    Ok(KeptSecret { name: row.get(0)?, key: row.get(1)?, value: STANDARD.encode(value) })
                })?
                .collect::<rusqlite::Result<_>>()?;
            Ok(Kept { keys, secrets })
        };
        read().map_err(Error::database("read what is kept"))
    }

    /// The names of secrets that cannot be opened here: they were encrypted with the key of another host, or with one that was
    /// exchanged.
    ///
    /// # Errors
    /// When the key cannot be read.
    pub fn closed_secrets(&self, package: &str, kept: &Kept) -> Result<Vec<String>> {
        if kept.secrets.is_empty() {
            return Ok(Vec::new());
        }
        let database = lock(&self.reader);
        self.keys.with(&database, |keys| {
            let closed = kept.secrets.iter().filter(|secret| open(keys, package, secret).is_err());
            Ok(closed.map(|secret| secret.name.clone()).collect())
        })
    }

    /// Puts what a package keeps in the place of all that it kept, with a line in the audit log. Secrets that cannot be opened are left
    /// out. The package must not run.
    ///
    /// # Errors
    /// When it is more than a package may keep, or holds what none does; when it cannot be written down. Nothing is changed then.
    pub async fn replace_kept(
        &self,
        package: &str,
        kept: Kept,
        (action, subject): (&'static str, &str),
    ) -> Result<()> {
        let (id, keys) = (package.to_owned(), std::sync::Arc::clone(&self.keys));
        let change = move |database: &rusqlite::Transaction<'_>| {
            // Of this change alone: others are in the same transaction.
            database.execute_batch("SAVEPOINT kept")?;
            database.execute("DELETE FROM kv WHERE package = ? AND substr(grp, 1, 1) <> '_'", [&id])?;
            database.execute("DELETE FROM secret WHERE package = ?", [&id])?;
            // No revision comes twice.
            database.execute("UPDATE usage SET keys = 0, bytes = 0 WHERE package = ?", [&id])?;
            let result = put(database, &keys, &id, &kept)?;
            let over = if result.is_ok() { "RELEASE kept" } else { "ROLLBACK TO kept; RELEASE kept" };
            database.execute_batch(over)?;
            Ok(result.map(|()| String::new()))
        };
        self.decide_about(package, action, subject, change).await.map(drop)
    }

    /// Writes down that a restore is complete: from then on it is not undone.
    ///
    /// # Errors
    /// When that cannot be written down.
    pub async fn complete_restore(&self, package: &str, restore: &str, subject: &str) -> Result<()> {
        let (id, value) = (package.to_owned(), restore.to_owned());
        let change = move |database: &rusqlite::Transaction<'_>| {
            let statement =
                "INSERT OR REPLACE INTO kv (package, grp, key, value, revision) VALUES (?, ?, ?, ?, 0)";
            database.execute(statement, params![id, GROUP, LAST, value]).map(|_| Ok(String::new()))
        };
        self.decide_about(package, "package.restore", subject, change).await.map(drop)
    }

    /// Whether [`Broker::complete_restore`] was called for it.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn is_restored(&self, package: &str, restore: &str) -> Result<bool> {
        let query = "SELECT value FROM kv WHERE package = ? AND grp = ? AND key = ?";
        let database = lock(&self.reader);
        let last: Option<String> = database
            .query_row(query, [package, GROUP, LAST], |row| row.get(0))
            .optional()
            .map_err(Error::database("read the last restore"))?;
        Ok(last.as_deref() == Some(restore))
    }

    /// Writes down what the operator has done with a package's data, or could not do.
    ///
    /// # Errors
    /// When that cannot be written down.
    pub async fn note(
        &self,
        package: &str,
        action: &'static str,
        subject: &str,
        failed: Option<&str>,
    ) -> Result<()> {
        let mut line = Line::of_operator(package, action, subject);
        if let Some(why) = failed {
            line.outcome = AuditOutcome::Failed;
            line.reason = why.into();
        }
        self.ledger.commit(line, None).await.map(drop)
    }
}

fn open(keys: &secrets::Keys, package: &str, secret: &KeptSecret) -> Result<Vec<u8>> {
    let kept = STANDARD
        .decode(&secret.value)
        .map_err(|_secret| Error::Invalid(format!("secret {} is no base64", secret.name)))?;
    secrets::open(keys, (package, &secret.name), secret.key, &kept)
}

/// Into tables that hold nothing of the package's. By the way that calls of packages go: what they may not write, this does not.
fn put(
    database: &Connection,
    ring: &crate::caller::KeyRing,
    package: &str,
    kept: &Kept,
) -> rusqlite::Result<Result<()>> {
    for KeptKey { group, key, value } in &kept.keys {
        let fits = store::check_group(group).and_then(|()| store::check_key(key)).and_then(|()| {
            let json = serde_json::from_str::<serde::de::IgnoredAny>(value).is_ok();
            if json && value.len() <= MAX_VALUE {
                return Ok(());
            }
            Err(Error::Invalid(format!("the value of a key has {MAX_VALUE} bytes of JSON at most")))
        });
        if let Err(error) = fits {
            return Ok(Err(error));
        }
        match store::set(database, package, (group, key), value, Some(0))? {
            Ok(_) => {}
            Err(error) => return Ok(Err(error)),
        }
    }
    if kept.secrets.is_empty() {
        return Ok(Ok(()));
    }
    let sealed = ring.with(database, |keys| {
        let opened = kept.secrets.iter().filter_map(|secret| {
            let value = open(keys, package, secret).ok()?;
            Some(secrets::seal(keys, package, &secret.name, &value).map(|sealed| (&secret.name, sealed)))
        });
        opened.collect::<Result<Vec<_>>>()
    });
    let sealed = match sealed {
        Ok(sealed) => sealed,
        Err(error) => return Ok(Err(error)),
    };
    for (name, (number, value)) in sealed {
        match secrets::set(database, package, name, (number, &value))? {
            Ok(()) => {}
            Err(error) => return Ok(Err(error)),
        }
    }
    Ok(Ok(()))
}
