//! The broker: every call of package code to the host passes here.
//!
//! ```text
//! request ─▶ which capability ─▶ granted? ─▶ in its scope? ─▶ within quotas? ─▶ act ─▶ audit ─▶ answer
//! ```
//! Owns what is decided about a call, and what files, keys, secrets and requests to the outside come of it. Never takes a
//! word of the caller's for who it is: a [`Caller`] is a package's, and the host gives it to the connections of that package's
//! socket alone. Starts no process: the host brings who does ([`hands`]). Its tables are in a database that it shares, so that
//! what a call changes and the line that tells of it are one transaction ([`ledger`]).

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use protocol::package::{CallsInfo, Scopes};
use rusqlite::Connection;

pub mod capability;
pub mod chain;
pub mod confine;
pub mod egress;
pub mod files;
pub mod grants;
pub mod hands;
pub mod ledger;
pub mod store;

mod backup;
mod caller;
mod calls;
mod error;
mod meter;

pub use backup::{Kept, KeptKey, KeptSecret};
pub use caller::{Admitted, Called, Caller, Refusal, Stream};
pub use calls::METHODS;
pub use error::{Error, Result};
pub use meter::{Class, Rates};

use caller::{KeyRing, Standing, lock};
use chain::Chain;
use egress::Guard;
use files::Root;
use hands::Hands;
use ledger::{Ledger, Line};
use meter::Meter;

/// Two connections to one database.
#[derive(Debug)]
pub struct Databases {
    /// For the one who writes.
    pub write: Connection,
    /// For those who read.
    pub read: Connection,
}

/// The broker of a host.
pub struct Broker {
    ledger: Ledger,
    reader: Mutex<Connection>,
    chain: Arc<dyn Chain>,
    keys: Arc<KeyRing>,
    standings: Mutex<HashMap<String, Arc<Standing>>>,
    guard: Guard,
    rates: Rates,
    clock: fn() -> u64,
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker").finish_non_exhaustive()
    }
}

impl Broker {
    /// Opens the broker on a database, making its tables where they are missing. `guard`
    /// is the way to the outside, `clock` gives milliseconds since the Unix epoch. It has a thread, which ends with [`Broker::close`].
    ///
    /// # Errors
    /// When the database cannot be used.
    pub fn open(
        databases: Databases,
        chain: Arc<dyn Chain>,
        data_dir: &Path,
        guard: Guard,
        rates: Rates,
        clock: fn() -> u64,
    ) -> Result<Arc<Self>> {
        let failed = Error::database("open the broker's tables");
        let Databases { write, read } = databases;
        write.execute_batch(store::TABLES).map_err(&failed)?;
        // What was deleted is not left in free pages.
        write.pragma_update(None, "secure_delete", true).map_err(&failed)?;
        read.set_prepared_statement_cache_capacity(32);
        let mut standings = HashMap::new();
        {
            let mut statement = read.prepare("SELECT package, reason FROM quarantine").map_err(&failed)?;
            let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).map_err(&failed)?;
            for row in rows {
                let (package, reason): (String, String) = row.map_err(&failed)?;
                standings.insert(package, Arc::new(Standing::new(Meter::new(&rates), Some(reason))));
            }
        }
        Ok(Arc::new(Self {
            ledger: Ledger::start(write, Arc::clone(&chain), clock)?,
            reader: Mutex::new(read),
            chain,
            keys: Arc::new(KeyRing::new(data_dir)),
            standings: Mutex::new(standings),
            guard,
            rates,
            clock,
        }))
    }

    /// Takes the calls of a package that becomes active: with what it was granted, and the trees that it sees. Those who held
    /// a caller of it before must have let go of it.
    #[must_use]
    pub fn admit(
        self: &Arc<Self>,
        package: &str,
        granted: Scopes,
        roots: Vec<Root>,
        hands: Arc<dyn Hands>,
    ) -> Arc<Caller> {
        let standing = Arc::clone(
            lock(&self.standings)
                .entry(package.to_owned())
                .or_insert_with(|| Arc::new(Standing::new(Meter::new(&self.rates), None))),
        );
        Arc::new(Caller::new(Arc::clone(self), package, standing, granted, roots, hands))
    }

    /// What became of a package's calls since this broker was opened.
    #[must_use]
    pub fn info(&self, package: &str) -> Option<CallsInfo> {
        lock(&self.standings).get(package)?.info()
    }

    /// Ends a package's quarantine.
    ///
    /// # Errors
    /// When it is in none, or that cannot be written down.
    pub async fn lift(&self, package: &str) -> Result<()> {
        let standing = lock(&self.standings).get(package).map(Arc::clone);
        let quarantined = standing.filter(|one| one.info().is_some_and(|info| info.quarantined.is_some()));
        let standing = quarantined.ok_or_else(|| Error::NotFound(format!("quarantine of {package}")))?;
        let id = package.to_owned();
        self.decide(package, "package.lift", move |database| {
            database.execute("DELETE FROM quarantine WHERE package = ?", [&id]).map(|_| Ok(String::new()))
        })
        .await?;
        standing.forgive();
        Ok(())
    }

    /// Forgets everything that a package keeps: keys, secrets, quarantine.
    ///
    /// # Errors
    /// When that cannot be written down.
    pub async fn forget(&self, package: &str) -> Result<()> {
        let id = package.to_owned();
        self.decide(package, "package.forget", move |database| {
            store::forget(database, &id).map(|()| Ok(String::new()))
        })
        .await?;
        lock(&self.standings).remove(package);
        Ok(())
    }

    /// Makes a new key for secrets and encrypts all of them with it. Answers how many.
    ///
    /// # Errors
    /// When a secret cannot be read, or the key or the database cannot be written. Then both keys are kept.
    pub async fn rekey(&self) -> Result<u64> {
        let keys = Arc::clone(&self.keys);
        let count = self
            .decide("", "package.rekey", move |database| {
                let mut failed = None;
                let count = keys.with_mut(database, |keys| match store::secrets::rekey(database, keys) {
                    Ok(count) => count,
                    Err(error) => {
                        failed = Some(error);
                        Ok(0)
                    }
                });
                match failed {
                    Some(error) => Err(error),
                    None => Ok(count.map(|count| count.to_string())),
                }
            })
            .await?;
        // Nothing needs the old one any more, and that is on disk.
        let database = lock(&self.reader);
        self.keys.with_mut(&database, |keys| keys.drop_old())?;
        Ok(count.parse().unwrap_or(0))
    }

    async fn decide(
        &self,
        package: &str,
        action: &'static str,
        change: impl FnOnce(&rusqlite::Transaction<'_>) -> rusqlite::Result<Result<String>> + Send + 'static,
    ) -> Result<String> {
        self.decide_about(package, action, "", change).await
    }

    async fn decide_about(
        &self,
        package: &str,
        action: &'static str,
        subject: &str,
        change: impl FnOnce(&rusqlite::Transaction<'_>) -> rusqlite::Result<Result<String>> + Send + 'static,
    ) -> Result<String> {
        let line = Line::of_operator(package, action, subject);
        self.ledger.commit(line, Some(Box::new(change))).await
    }

    /// Writes all that waits to be written. What is asked for from now on is refused.
    pub fn close(&self) {
        self.ledger.close();
    }
}
