//! Rows, read and written. Whoever writes does so in a transaction.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use protocol::Digest;
use protocol::package::{PackageStatus, Scopes};
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use semver::Version;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::keys::PublicKey;
use crate::manifest::PackageId;
use crate::plan::Needs;
use crate::store::Stored;
use crate::{Error, Result, lifecycle};

/// A row of `package`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Record {
    pub(super) id: PackageId,
    pub(super) name: String,
    pub(super) version: Version,
    pub(super) digest: Digest,
    pub(super) status: PackageStatus,
    /// These three are one where they say the same.
    pub(super) asked: Arc<Scopes>,
    /// Of what is asked, that without which it does not work.
    pub(super) needed: Arc<Scopes>,
    pub(super) granted: Arc<Scopes>,
    pub(super) dependencies: Needs,
    /// Whose signatures counted: for a first look. What counts when it is used is asked of the trust file.
    pub(super) signers: Vec<PublicKey>,
    pub(super) installed: u64,
    pub(super) changed: u64,
}

impl Record {
    /// Of a bundle that was taken in, with nothing granted.
    pub(super) fn new(stored: &Stored, now: u64) -> Self {
        let manifest = &stored.manifest;
        let asked = manifest.capabilities.asked();
        let needed = asked.iter().filter(|(_, ask)| !ask.optional());
        Self {
            id: manifest.id.clone(),
            name: manifest.name.to_string(),
            version: manifest.version.clone(),
            digest: stored.digest,
            status: PackageStatus::Installed,
            needed: Arc::new(needed.map(|(kind, ask)| (kind.name.to_owned(), ask.scope())).collect()),
            asked: Arc::new(manifest.capabilities.scopes()),
            granted: Arc::default(),
            dependencies: manifest
                .dependencies
                .iter()
                .map(|(id, one)| (id.clone(), one.version.clone()))
                .collect(),
            signers: stored.signers.iter().map(|signer| signer.key).collect(),
            installed: now,
            changed: now,
        }
    }
}

fn failed(step: &'static str) -> impl Fn(rusqlite::Error) -> Error {
    move |source| Error::Database { step, source }
}

const READ: &str = "read what is installed";
const WRITE: &str = "write what is installed";
const COLUMNS: &str =
    "id, name, version, digest, status, asked, needed, granted, dependencies, signers, installed, changed";

fn json<T: DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    serde_json::from_str(row.get_ref(column)?.as_str()?).map_err(|error| wrong(column, error))
}

fn word<T: std::str::FromStr<Err: std::error::Error + Send + Sync + 'static>>(
    row: &Row<'_>,
    column: usize,
) -> rusqlite::Result<T> {
    row.get_ref(column)?.as_str()?.parse().map_err(|error| wrong(column, error))
}

fn wrong(column: usize, error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
}

fn text(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| {
        let source = rusqlite::Error::ToSqlConversionFailure(Box::new(error));
        Error::Database { step: WRITE, source }
    })
}

fn record(row: &Row<'_>) -> rusqlite::Result<Record> {
    record_with(row, json(row, 8)?, json(row, 9)?)
}

fn record_with(row: &Row<'_>, dependencies: Needs, signers: Vec<PublicKey>) -> rusqlite::Result<Record> {
    let status = row.get_ref(4)?.as_str()?;
    let asked: Arc<Scopes> = Arc::new(json(row, 5)?);
    // Most packages need all that they ask for, and have been granted it.
    let scopes = |column| match row.get_ref(column)? == row.get_ref(5)? {
        true => Ok(Arc::clone(&asked)),
        false => json(row, column).map(Arc::new),
    };
    Ok(Record {
        id: word(row, 0)?,
        name: row.get(1)?,
        version: word(row, 2)?,
        digest: word(row, 3)?,
        status: lifecycle::parse(status)
            .ok_or_else(|| wrong(4, std::io::Error::other(format!("no status {status:?}"))))?,
        needed: scopes(6)?,
        granted: scopes(7)?,
        asked,
        dependencies,
        signers,
        installed: row.get::<_, i64>(10)?.unsigned_abs(),
        changed: row.get::<_, i64>(11)?.unsigned_abs(),
    })
}

/// All rows of a query.
fn rows<T, C: FromIterator<T>>(
    database: &Connection,
    query: &str,
    params: impl rusqlite::Params,
    row: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> Result<C> {
    let read = || database.prepare(query)?.query_map(params, row)?.collect::<rusqlite::Result<C>>();
    read().map_err(failed(READ))
}

pub(super) fn all(database: &Connection) -> Result<Vec<Record>> {
    rows(database, &format!("SELECT {COLUMNS} FROM package ORDER BY id"), [], record)
}

/// All of them, without what they depend on: to be shown.
pub(super) fn shown(database: &Connection) -> Result<Vec<Record>> {
    let (mut text, mut signers) = (String::new(), Vec::new());
    rows(database, &format!("SELECT {COLUMNS} FROM package ORDER BY id"), [], |row| {
        // Mostly those of the row before.
        let these = row.get_ref(9)?.as_str()?;
        if text != these {
            signers = json(row, 9)?;
            these.clone_into(&mut text);
        }
        record_with(row, Needs::default(), signers.clone())
    })
}

pub(super) fn find(database: &Connection, id: &PackageId) -> Result<Option<Record>> {
    let statement = format!("SELECT {COLUMNS} FROM package WHERE id = ?");
    database.query_row(&statement, [id.as_str()], record).optional().map_err(failed(READ))
}

pub(super) fn get(database: &Connection, id: &PackageId) -> Result<Record> {
    find(database, id)?.ok_or_else(|| Error::Unknown(format!("package {id}")))
}

/// Those that are active, with their versions.
pub(super) fn active(database: &Connection) -> Result<BTreeMap<PackageId, Version>> {
    let query = "SELECT id, version FROM package WHERE status = 'active'";
    rows(database, query, [], |row| Ok((word(row, 0)?, word(row, 1)?)))
}

/// Writes a row, in the place of an older one.
pub(super) fn put(database: &Connection, record: &Record) -> Result<()> {
    let values = params![
        record.id.as_str(),
        record.name,
        record.version.to_string(),
        record.digest.to_string(),
        lifecycle::word(record.status),
        text(&record.asked)?,
        text(&record.needed)?,
        text(&record.granted)?,
        text(&record.dependencies)?,
        text(&record.signers)?,
        i64::try_from(record.installed).unwrap_or(i64::MAX),
        i64::try_from(record.changed).unwrap_or(i64::MAX),
    ];
    let statement = format!("INSERT OR REPLACE INTO package ({COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)");
    database.execute(&statement, values).map(drop).map_err(failed(WRITE))
}

/// Remembers a version, and that there was one as high.
pub(super) fn add_version(database: &Connection, record: &Record) -> Result<()> {
    let (id, version) = (record.id.as_str(), record.version.to_string());
    let added = i64::try_from(record.changed).unwrap_or(i64::MAX);
    database
        .execute(
            "INSERT OR REPLACE INTO version (package, version, digest, added) VALUES (?, ?, ?, ?)",
            params![id, version, record.digest.to_string(), added],
        )
        .map_err(failed(WRITE))?;
    let higher = highest(database, &record.id)?.is_none_or(|highest| highest < record.version);
    if higher {
        database
            .execute("INSERT OR REPLACE INTO highest (package, version) VALUES (?, ?)", [id, &version])
            .map_err(failed(WRITE))?;
    }
    Ok(())
}

pub(super) fn drop_version(database: &Connection, id: &PackageId, version: &Version) -> Result<()> {
    database
        .execute("DELETE FROM version WHERE package = ? AND version = ?", [id.as_str(), &version.to_string()])
        .map(drop)
        .map_err(failed(WRITE))
}

/// Removes everything but the memory of the highest version.
pub(super) fn remove(database: &Connection, id: &PackageId) -> Result<()> {
    for statement in ["DELETE FROM version WHERE package = ?", "DELETE FROM package WHERE id = ?"] {
        database.execute(statement, [id.as_str()]).map_err(failed(WRITE))?;
    }
    Ok(())
}

/// The highest version that ever was installed.
pub(super) fn highest(database: &Connection, id: &PackageId) -> Result<Option<Version>> {
    database
        .query_row("SELECT version FROM highest WHERE package = ?", [id.as_str()], |row| word(row, 0))
        .optional()
        .map_err(failed(READ))
}

/// The versions of a package and their bundles.
pub(super) fn digests_of(database: &Connection, id: &PackageId) -> Result<Vec<(Version, Digest)>> {
    let query = "SELECT version, digest FROM version WHERE package = ?";
    rows(database, query, [id.as_str()], |row| Ok((word(row, 0)?, word(row, 1)?)))
}

pub(super) fn versions_of(database: &Connection, id: &PackageId) -> Result<Vec<Version>> {
    let mut versions: Vec<Version> =
        digests_of(database, id)?.into_iter().map(|(version, _)| version).collect();
    versions.sort();
    Ok(versions)
}

/// The versions of every package beside the one that is installed.
pub(super) fn versions(database: &Connection) -> Result<BTreeMap<PackageId, Vec<Version>>> {
    let query = "SELECT version.package, version.version FROM version JOIN package ON package.id = version.package \
        WHERE package.version <> version.version";
    let all: Vec<(PackageId, Version)> = rows(database, query, [], |row| Ok((word(row, 0)?, word(row, 1)?)))?;
    let mut versions: BTreeMap<PackageId, Vec<Version>> = BTreeMap::new();
    for (id, version) in all {
        versions.entry(id).or_default().push(version);
    }
    versions.values_mut().for_each(|versions| versions.sort());
    Ok(versions)
}

/// Every bundle that a version refers to.
pub(super) fn digests(database: &Connection) -> Result<BTreeSet<Digest>> {
    rows(database, "SELECT digest FROM version", [], |row| word(row, 0))
}
