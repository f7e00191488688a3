//! Secrets: encrypted where they are kept, with a key that only the host has.
//!
//! ```text
//! DATA_DIR/secrets.key   {"current": 2, "keys": {"2": "base64…"}}   0600; made with the first secret
//! secret.value           nonce (12) ‖ AES-256-GCM(value) ‖ tag (16), bound to package, name and number of the key
//! ```
//! A copy of the database without the file tells nothing but names and lengths. The file is never made anew where there are
//! secrets. To exchange the key: a second one is written beside the first, all secrets are encrypted with it in one
//! transaction, and then the first one is taken away; killed in between, both are there, and it can be done again.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom as _, SystemRandom};
use rusqlite::{Connection, OptionalExtension as _, params};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::{grow, set_usage, size, usage};
use crate::error::{Error, Result};

/// The key's file in the data directory.
pub const FILE: &str = "secrets.key";
/// A secret, in bytes.
pub const MAX_SECRET: usize = 64 << 10;

const KEY: usize = 32;

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    current: u32,
    keys: BTreeMap<u32, String>,
}

/// The keys of a host's secrets.
#[derive(Debug)]
pub(crate) struct Keys {
    data_dir: OwnedFd,
    current: u32,
    keys: BTreeMap<u32, LessSafeKey>,
    raw: BTreeMap<u32, String>,
}

fn key_error(why: impl std::fmt::Display) -> Error {
    Error::Key(why.to_string())
}

fn usable(raw: &str) -> Result<LessSafeKey> {
    let bytes = STANDARD.decode(raw).map_err(|_secret| key_error("it is no base64"))?;
    let key = UnboundKey::new(&AES_256_GCM, &bytes).map_err(|_secret| key_error("it has not 256 bits"))?;
    Ok(LessSafeKey::new(key))
}

impl Keys {
    /// Reads the file, if it is there; makes it otherwise, unless there are secrets that it was for.
    pub(crate) fn open(data_dir: OwnedFd, any_secrets: bool) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let mut keys = Self { data_dir, current: 0, keys: BTreeMap::new(), raw: BTreeMap::new() };
        let file = match rustix::fs::openat(&keys.data_dir, FILE, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT) if any_secrets => return Err(key_error(format!("{FILE} is gone"))),
            Err(Errno::NOENT) => {
                keys.add()?;
                return Ok(keys);
            }
            Err(errno) => return Err(Error::kernel("open", FILE)(errno)),
        };
        let stat = rustix::fs::fstat(&file).map_err(Error::kernel("look at", FILE))?;
        let own = stat.st_uid == rustix::process::geteuid().as_raw();
        if rustix::fs::FileType::from_raw_mode(stat.st_mode) != rustix::fs::FileType::RegularFile
            || !own
            || stat.st_mode & 0o077 != 0
        {
            return Err(key_error(format!("{FILE} must be the host's own file, with mode 600")));
        }
        let bytes = linux::tree::read_all(&file).map_err(Error::kernel("read", FILE))?;
        // Nothing of the file may stand in an error.
        let kept: Kept =
            serde_json::from_slice(&bytes).map_err(|_secret| key_error(format!("{FILE} cannot be read")))?;
        for (number, raw) in &kept.keys {
            keys.keys.insert(*number, usable(raw)?);
        }
        if !keys.keys.contains_key(&kept.current) {
            return Err(key_error(format!("{FILE} has no key {}", kept.current)));
        }
        (keys.current, keys.raw) = (kept.current, kept.keys);
        Ok(keys)
    }

    /// Makes a key that is used from now on.
    fn add(&mut self) -> Result<()> {
        let mut bytes = [0_u8; KEY];
        SystemRandom::new().fill(&mut bytes).map_err(|_none| key_error("there is no randomness"))?;
        let number = self.keys.keys().max().copied().unwrap_or(0) + 1;
        let raw = STANDARD.encode(bytes);
        let mut keys = self.raw.clone();
        keys.insert(number, raw.clone());
        self.write(number, &keys)?;
        self.keys.insert(number, usable(&raw)?);
        (self.current, self.raw) = (number, keys);
        Ok(())
    }

    /// Forgets the keys before the current one.
    pub(crate) fn drop_old(&mut self) -> Result<()> {
        let keys: BTreeMap<u32, String> = self
            .raw
            .iter()
            .filter(|(number, _)| **number == self.current)
            .map(|(n, k)| (*n, k.clone()))
            .collect();
        self.write(self.current, &keys)?;
        self.keys.retain(|number, _| *number == self.current);
        self.raw = keys;
        Ok(())
    }

    fn write(&self, current: u32, keys: &BTreeMap<u32, String>) -> Result<()> {
        let kept = Kept { current, keys: keys.clone() };
        let text = serde_json::to_string(&kept).map_err(|_never| key_error("it cannot be written"))?;
        linux::tree::replace_file_at(&self.data_dir, FILE, text.as_bytes(), 0o600, true)
            .and_then(|()| rustix::fs::fsync(&self.data_dir))
            .map_err(Error::kernel("write", FILE))
    }

    fn bound_to(number: u32, package: &str, name: &str) -> Vec<u8> {
        // Neither an id nor a name holds a zero.
        format!("start-container secret v1\0{number}\0{package}\0{name}").into_bytes()
    }

    fn encrypt(&self, package: &str, name: &str, value: &[u8]) -> Result<Vec<u8>> {
        let key = self.keys.get(&self.current).ok_or_else(|| key_error("there is none"))?;
        let mut nonce = [0_u8; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).map_err(|_none| key_error("there is no randomness"))?;
        let mut sealed = value.to_vec();
        let aad = Aad::from(Self::bound_to(self.current, package, name));
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut sealed)
            .map_err(|_never| key_error("it cannot encrypt this"))?;
        let mut all = nonce.to_vec();
        all.append(&mut sealed);
        Ok(all)
    }

    fn decrypt(&self, number: u32, package: &str, name: &str, kept: &[u8]) -> Result<Vec<u8>> {
        let changed = || key_error(format!("secret {name} of {package} was changed, or is another's"));
        let key = self
            .keys
            .get(&number)
            .ok_or_else(|| key_error(format!("{FILE} has no key {number}, which {name} needs")))?;
        let (nonce, sealed) = kept.split_first_chunk::<NONCE_LEN>().ok_or_else(changed)?;
        let mut bytes = sealed.to_vec();
        let aad = Aad::from(Self::bound_to(number, package, name));
        let open = key.open_in_place(Nonce::assume_unique_for_key(*nonce), aad, &mut bytes);
        let length = open.map_err(|_changed| changed())?.len();
        bytes.truncate(length);
        Ok(bytes)
    }
}

/// Whether anybody has a secret.
pub(crate) fn any(connection: &Connection) -> rusqlite::Result<bool> {
    connection.query_row("SELECT EXISTS (SELECT 1 FROM secret)", [], |row| row.get(0))
}

/// A secret, if it was set.
pub(crate) fn get(
    connection: &Connection,
    keys: &Keys,
    package: &str,
    name: &str,
) -> Result<Option<Vec<u8>>> {
    let query = "SELECT key, value FROM secret WHERE package = ? AND name = ?";
    let read = || {
        connection
            .prepare_cached(query)?
            .query_row([package, name], |row| Ok((row.get::<_, u32>(0)?, row.get::<_, Vec<u8>>(1)?)))
            .optional()
    };
    let found = read().map_err(Error::database("read secret"))?;
    found.map(|(number, kept)| keys.decrypt(number, package, name, &kept)).transpose()
}

/// Opens what was kept of a secret, wherever that was.
pub(crate) fn open(keys: &Keys, (package, name): (&str, &str), number: u32, kept: &[u8]) -> Result<Vec<u8>> {
    keys.decrypt(number, package, name, kept)
}

/// What is to be written for a secret: encrypted before it goes anywhere.
pub(crate) fn seal(keys: &Keys, package: &str, name: &str, value: &[u8]) -> Result<(u32, Vec<u8>)> {
    if value.len() > MAX_SECRET {
        return Err(Error::Invalid(format!("a secret has {MAX_SECRET} bytes at most, not {}", value.len())));
    }
    Ok((keys.current, keys.encrypt(package, name, value)?))
}

fn length(connection: &Connection, package: &str, name: &str) -> rusqlite::Result<Option<i64>> {
    let query = "SELECT length(value) FROM secret WHERE package = ? AND name = ?";
    connection.prepare_cached(query)?.query_row([package, name], |row| row.get(0)).optional()
}

/// Writes what [`seal`] has made.
pub(crate) fn set(
    connection: &Connection,
    package: &str,
    name: &str,
    (key, value): (u32, &[u8]),
) -> rusqlite::Result<Result<()>> {
    let mut usage = usage(connection, package)?;
    let (keys, bytes) = match length(connection, package, name)? {
        Some(length) => (0, size("", value.len()) - length),
        None => (1, size(name, value.len())),
    };
    if let Err(error) = grow(&mut usage, keys, bytes) {
        return Ok(Err(error));
    }
    let statement = "INSERT OR REPLACE INTO secret (package, name, key, value) VALUES (?, ?, ?, ?)";
    connection.prepare_cached(statement)?.execute(params![package, name, key, value])?;
    set_usage(connection, package, &usage)?;
    Ok(Ok(()))
}

/// Deletes a secret. Answers whether there was one.
pub(crate) fn delete(connection: &Connection, package: &str, name: &str) -> rusqlite::Result<bool> {
    let Some(length) = length(connection, package, name)? else { return Ok(false) };
    connection.execute("DELETE FROM secret WHERE package = ? AND name = ?", [package, name])?;
    let mut usage = usage(connection, package)?;
    usage.keys -= 1;
    usage.bytes -= size(name, 0) + length;
    set_usage(connection, package, &usage)?;
    Ok(true)
}

/// Makes a new key, and encrypts every secret with it. Answers how many. When that is on disk, the old key may be dropped.
pub(crate) fn rekey(connection: &Connection, keys: &mut Keys) -> rusqlite::Result<Result<u64>> {
    if let Err(error) = keys.add() {
        return Ok(Err(error));
    }
    let all: Vec<(String, String, u32, Vec<u8>)> = connection
        .prepare("SELECT package, name, key, value FROM secret")?
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?
        .collect::<rusqlite::Result<_>>()?;
    // All of them before the first is written: an answer that is an error has changed nothing.
    let sealed: Result<Vec<Vec<u8>>> = all
        .iter()
        .map(|(package, name, number, kept)| {
            keys.encrypt(package, name, &keys.decrypt(*number, package, name, kept)?)
        })
        .collect();
    let sealed = match sealed {
        Ok(sealed) => sealed,
        Err(error) => return Ok(Err(error)),
    };
    for ((package, name, ..), sealed) in all.iter().zip(&sealed) {
        connection.execute(
            "UPDATE secret SET key = ?, value = ? WHERE package = ? AND name = ?",
            params![keys.current, sealed, package, name],
        )?;
    }
    Ok(Ok(all.len() as u64))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    struct World {
        dir: tempfile::TempDir,
        database: Connection,
    }

    impl World {
        fn new() -> Self {
            let database = Connection::open_in_memory().unwrap();
            database.execute_batch(super::super::TABLES).unwrap();
            Self { dir: tempfile::tempdir().unwrap(), database }
        }

        fn keys(&self) -> Result<Keys> {
            let dir = linux::tree::open_dir(self.dir.path()).unwrap();
            Keys::open(dir, any(&self.database).unwrap())
        }

        fn put(&self, keys: &Keys, package: &str, name: &str, value: &[u8]) {
            let (number, sealed) = seal(keys, package, name, value).unwrap();
            set(&self.database, package, name, (number, &sealed)).unwrap().unwrap();
        }

        fn file(&self) -> std::path::PathBuf {
            self.dir.path().join(FILE)
        }
    }

    #[test]
    fn b5_a_secret_is_encrypted_and_bound_to_its_package_and_name() {
        let world = World::new();
        let keys = world.keys().unwrap();
        world.put(&keys, "p", "token", b"hunter2 hunter2");
        assert_eq!(get(&world.database, &keys, "p", "token").unwrap().unwrap(), b"hunter2 hunter2");
        assert_eq!(get(&world.database, &keys, "q", "token").unwrap(), None);
        let kept: Vec<u8> =
            world.database.query_row("SELECT value FROM secret", [], |row| row.get(0)).unwrap();
        assert!(!kept.windows(7).any(|window| window == b"hunter2"));
        // Whoever can write the database cannot give one package's to another.
        world.database.execute("UPDATE secret SET package = 'q'", []).unwrap();
        assert!(matches!(get(&world.database, &keys, "q", "token"), Err(Error::Key(_))));
    }

    #[test]
    fn b5_the_key_is_the_hosts_alone_and_is_not_made_anew_where_there_are_secrets() {
        let world = World::new();
        let keys = world.keys().unwrap();
        assert_eq!(std::fs::metadata(world.file()).unwrap().permissions().mode() & 0o777, 0o600);
        world.put(&keys, "p", "a", b"x");
        std::fs::set_permissions(world.file(), std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(world.keys().unwrap_err().to_string().contains("mode 600"));
        std::fs::remove_file(world.file()).unwrap();
        assert!(world.keys().unwrap_err().to_string().contains("is gone"));
        assert!(!world.file().exists());
    }

    #[test]
    fn b5_the_key_is_exchanged_and_the_old_one_is_of_no_use() {
        let world = World::new();
        let mut keys = world.keys().unwrap();
        world.put(&keys, "p", "a", b"x");
        world.put(&keys, "q", "b", b"y");
        let before = std::fs::read(world.file()).unwrap();
        assert_eq!(rekey(&world.database, &mut keys).unwrap().unwrap(), 2);
        keys.drop_old().unwrap();
        let keys = world.keys().unwrap();
        assert_eq!(get(&world.database, &keys, "q", "b").unwrap().unwrap(), b"y");
        std::fs::write(world.file(), before).unwrap();
        let old = world.keys().unwrap();
        assert!(get(&world.database, &old, "p", "a").is_err());
    }

    #[test]
    fn b5_a_kill_between_new_key_and_new_secrets_loses_nothing() {
        let world = World::new();
        let mut keys = world.keys().unwrap();
        world.put(&keys, "p", "a", b"x");
        keys.add().unwrap();
        drop(keys);
        let mut keys = world.keys().unwrap();
        assert_eq!(get(&world.database, &keys, "p", "a").unwrap().unwrap(), b"x");
        rekey(&world.database, &mut keys).unwrap().unwrap();
        assert_eq!(get(&world.database, &world.keys().unwrap(), "p", "a").unwrap().unwrap(), b"x");
    }

    #[test]
    fn b5_what_secrets_take_is_counted() {
        let world = World::new();
        let keys = world.keys().unwrap();
        world.put(&keys, "p", "a", b"12345");
        world.put(&keys, "p", "a", b"1");
        assert!(delete(&world.database, "p", "a").unwrap());
        let now = usage(&world.database, "p").unwrap();
        assert_eq!((now.keys, now.bytes), (0, 0));
    }
}
