//! Keys and values of packages, in the host's database.
//!
//! ```text
//! kv      package, group, key → value (JSON), revision
//! secret  package, name → value, encrypted (see [`secrets`])
//! usage   package → keys, bytes, the last revision that was given
//! ```
//! Every statement names the package, which is the connection's; no key of one package is in reach of another. Groups that
//! begin with `_` are the host's. What a package may keep is bounded, secrets included.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use crate::error::{Error, Result};

pub mod secrets;

/// A key, in bytes.
pub const MAX_KEY: usize = 512;
/// A value, in bytes of JSON.
pub const MAX_VALUE: usize = 256 << 10;
/// Keys of one package.
pub const MAX_KEYS: i64 = 100_000;
/// Bytes of one package: of its keys, values and secrets.
pub const MAX_BYTES: i64 = 64 << 20;

pub(crate) const TABLES: &str = "
CREATE TABLE IF NOT EXISTS kv (
    package TEXT NOT NULL,
    grp TEXT NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    revision INTEGER NOT NULL,
    PRIMARY KEY (package, grp, key)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS secret (
    package TEXT NOT NULL,
    name TEXT NOT NULL,
    key INTEGER NOT NULL,
    value BLOB NOT NULL,
    PRIMARY KEY (package, name)
) STRICT, WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS usage (
    package TEXT PRIMARY KEY,
    keys INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    revision INTEGER NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS quarantine (
    package TEXT PRIMARY KEY,
    since INTEGER NOT NULL,
    reason TEXT NOT NULL
) STRICT;
";

/// Whether this may be a group of a package's.
pub(crate) fn check_group(group: &str) -> Result<()> {
    if group.starts_with('_') {
        return Err(Error::Denied(format!("group {group:?} is the host's: those that begin with _ are")));
    }
    Ok(())
}

pub(crate) fn check_key(key: &str) -> Result<()> {
    if key.is_empty() || key.len() > MAX_KEY {
        return Err(Error::Invalid(format!("a key has 1 to {MAX_KEY} bytes, not {}", key.len())));
    }
    Ok(())
}

/// A value as it stands, and its revision.
pub(crate) fn get(
    connection: &Connection,
    package: &str,
    group: &str,
    key: &str,
) -> rusqlite::Result<Option<(String, i64)>> {
    let query = "SELECT value, revision FROM kv WHERE package = ? AND grp = ? AND key = ?";
    connection.prepare_cached(query)?.query_row([package, group, key], pair).optional()
}

fn pair(row: &Row<'_>) -> rusqlite::Result<(String, i64)> {
    Ok((row.get(0)?, row.get(1)?))
}

/// Keys and their revisions, in order.
pub(crate) fn list(
    connection: &Connection,
    (package, group): (&str, &str),
    prefix: &str,
    after: &str,
    limit: u32,
) -> rusqlite::Result<Vec<(String, i64)>> {
    // From the prefix on; those behind it end the list. Not LIKE, which has words of its own.
    let query = "SELECT key, revision FROM kv WHERE package = ?1 AND grp = ?2 AND key >= ?3 AND key > ?4
                 AND substr(key, 1, length(?3)) = ?3 ORDER BY key LIMIT ?5";
    let mut statement = connection.prepare_cached(query)?;
    statement.query_map(params![package, group, prefix, after, limit], pair)?.collect()
}

struct Usage {
    keys: i64,
    bytes: i64,
    revision: i64,
}

fn usage(connection: &Connection, package: &str) -> rusqlite::Result<Usage> {
    let query = "SELECT keys, bytes, revision FROM usage WHERE package = ?";
    let found = connection
        .prepare_cached(query)?
        .query_row([package], |row| {
            Ok(Usage { keys: row.get(0)?, bytes: row.get(1)?, revision: row.get(2)? })
        })
        .optional()?;
    Ok(found.unwrap_or(Usage { keys: 0, bytes: 0, revision: 0 }))
}

fn set_usage(connection: &Connection, package: &str, usage: &Usage) -> rusqlite::Result<()> {
    let statement = "INSERT OR REPLACE INTO usage (package, keys, bytes, revision) VALUES (?, ?, ?, ?)";
    connection
        .prepare_cached(statement)?
        .execute(params![package, usage.keys, usage.bytes, usage.revision])
        .map(drop)
}

fn grow(usage: &mut Usage, keys: i64, bytes: i64) -> Result<()> {
    usage.keys += keys;
    usage.bytes += bytes;
    if keys > 0 && usage.keys > MAX_KEYS {
        return Err(Error::Limited(format!("a package has {MAX_KEYS} keys at most")));
    }
    if bytes > 0 && usage.bytes > MAX_BYTES {
        return Err(Error::Limited(format!("a package keeps {MAX_BYTES} bytes at most")));
    }
    Ok(())
}

fn size(key: &str, value: usize) -> i64 {
    i64::try_from(key.len() + value).unwrap_or(i64::MAX)
}

fn expect(found: i64, wanted: Option<u64>, group: &str, key: &str) -> Result<()> {
    match wanted {
        Some(wanted) if i64::try_from(wanted) != Ok(found) => {
            Err(Error::Conflict(format!("{group}/{key} has revision {found}, not {wanted}")))
        }
        _ => Ok(()),
    }
}

/// Writes a value, if it is as expected. Answers its revision.
pub(crate) fn set(
    connection: &Connection,
    package: &str,
    (group, key): (&str, &str),
    value: &str,
    wanted: Option<u64>,
) -> rusqlite::Result<Result<i64>> {
    let query =
        "SELECT length(CAST(value AS BLOB)), revision FROM kv WHERE package = ? AND grp = ? AND key = ?";
    let old: Option<(i64, i64)> = connection
        .prepare_cached(query)?
        .query_row([package, group, key], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let mut usage = usage(connection, package)?;
    let (keys, bytes) = match old {
        Some((length, _)) => (0, size("", value.len()) - length),
        None => (1, size(key, value.len())),
    };
    let fits = expect(old.map_or(0, |(_, revision)| revision), wanted, group, key)
        .and_then(|()| grow(&mut usage, keys, bytes));
    if let Err(error) = fits {
        return Ok(Err(error));
    }
    usage.revision += 1;
    let statement = "INSERT OR REPLACE INTO kv (package, grp, key, value, revision) VALUES (?, ?, ?, ?, ?)";
    connection.prepare_cached(statement)?.execute(params![package, group, key, value, usage.revision])?;
    set_usage(connection, package, &usage)?;
    Ok(Ok(usage.revision))
}

/// Deletes a value, if it is as expected. Answers whether there was one.
pub(crate) fn delete(
    connection: &Connection,
    package: &str,
    (group, key): (&str, &str),
    wanted: Option<u64>,
) -> rusqlite::Result<Result<bool>> {
    let found = get(connection, package, group, key)?;
    if let Err(error) = expect(found.as_ref().map_or(0, |(_, revision)| *revision), wanted, group, key) {
        return Ok(Err(error));
    }
    let Some((value, _)) = found else { return Ok(Ok(false)) };
    let statement = "DELETE FROM kv WHERE package = ? AND grp = ? AND key = ?";
    connection.prepare_cached(statement)?.execute([package, group, key])?;
    let mut usage = usage(connection, package)?;
    usage.keys -= 1;
    usage.bytes -= size(key, value.len());
    set_usage(connection, package, &usage)?;
    Ok(Ok(true))
}

/// Forgets everything of a package's.
pub(crate) fn forget(connection: &Connection, package: &str) -> rusqlite::Result<()> {
    for table in ["kv", "secret", "usage", "quarantine"] {
        connection.execute(&format!("DELETE FROM {table} WHERE package = ?"), [package])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database() -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(TABLES).unwrap();
        connection
    }

    fn keys(database: &Connection, prefix: &str, after: &str, limit: u32) -> Vec<String> {
        let listed = list(database, ("p", "g"), prefix, after, limit).unwrap();
        listed.into_iter().map(|(key, _)| key).collect()
    }

    #[test]
    fn b5_a_value_is_written_only_if_it_is_as_expected_and_no_revision_comes_twice() {
        let database = database();
        let at = ("g", "k");
        assert_eq!(set(&database, "p", at, "1", Some(0)).unwrap().unwrap(), 1);
        assert!(matches!(set(&database, "p", at, "2", Some(0)).unwrap(), Err(Error::Conflict(_))));
        assert_eq!(set(&database, "p", at, "2", Some(1)).unwrap().unwrap(), 2);
        assert!(matches!(delete(&database, "p", at, Some(1)).unwrap(), Err(Error::Conflict(_))));
        assert!(delete(&database, "p", at, Some(2)).unwrap().unwrap());
        assert_eq!(set(&database, "p", at, "2", None).unwrap().unwrap(), 3, "as it was before, and another");
        assert!(!delete(&database, "p", ("g", "none"), None).unwrap().unwrap());
    }

    #[test]
    fn b5_what_a_package_keeps_is_counted_to_the_byte() {
        let database = database();
        for (key, value) in [("a", "\"ü\""), ("a", "1"), ("b", "22"), ("a", "4444")] {
            set(&database, "p", ("g", key), value, None).unwrap().unwrap();
        }
        let now = usage(&database, "p").unwrap();
        assert_eq!((now.keys, now.bytes), (2, 1 + 4 + 1 + 2));
        delete(&database, "p", ("g", "a"), None).unwrap().unwrap();
        delete(&database, "p", ("g", "b"), None).unwrap().unwrap();
        let now = usage(&database, "p").unwrap();
        assert_eq!((now.keys, now.bytes), (0, 0));
    }

    #[test]
    fn b11_a_package_keeps_no_more_than_its_share_and_another_has_its_own() {
        let database = database();
        set_usage(&database, "p", &Usage { keys: MAX_KEYS, bytes: MAX_BYTES - 10, revision: 7 }).unwrap();
        assert!(matches!(set(&database, "p", ("g", "new"), "1", None).unwrap(), Err(Error::Limited(_))));
        assert!(get(&database, "p", "g", "new").unwrap().is_none());
        assert!(set(&database, "q", ("g", "new"), "1", None).unwrap().is_ok());
        // What is smaller than before always may be written.
        database.execute("INSERT INTO kv VALUES ('p', 'g', 'old', '12345', 7)", []).unwrap();
        set_usage(&database, "p", &Usage { keys: MAX_KEYS, bytes: MAX_BYTES + 5, revision: 7 }).unwrap();
        assert!(set(&database, "p", ("g", "old"), "1", None).unwrap().is_ok());
    }

    #[test]
    fn b5_a_list_has_pages_and_its_prefix_has_no_wildcards() {
        let database = database();
        for key in ["a%b", "a_b", "ab", "b", "ü1", "ü2"] {
            set(&database, "p", ("g", key), "1", None).unwrap().unwrap();
        }
        set(&database, "q", ("g", "ac"), "1", None).unwrap().unwrap();
        set(&database, "p", ("h", "ac"), "1", None).unwrap().unwrap();
        assert_eq!(keys(&database, "a", "", 10), ["a%b", "a_b", "ab"]);
        assert_eq!(keys(&database, "a%", "", 10), ["a%b"]);
        assert_eq!(keys(&database, "ü", "", 10), ["ü1", "ü2"]);
        assert_eq!(keys(&database, "", "", 2), ["a%b", "a_b"]);
        assert_eq!(keys(&database, "", "a_b", 2), ["ab", "b"]);
    }
}
