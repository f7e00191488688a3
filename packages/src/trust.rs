//! Whom the operator trusts, and with which packages.
//!
//! ```text
//! DATA_DIR/trust.json   {"keys": [{"key": "ed25519:…", "name": "alice", "packages": ["com.alice.*"], …}]}
//! ```
//! Owns that file and the one question that it answers. A key is never taken from a bundle, nor from what is installed:
//! what is not in the file is not trusted, and a key without packages is trusted with none.
//!
//! A key that has expired signs nothing new, but what was installed before goes on. A key that was revoked, or taken
//! out, signs nothing at all: what it signed does not start any more.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::bundle::{Envelope, Sealed, Signature};
use crate::keys::PublicKey;
use crate::manifest::{Line, PackageId};
use crate::{Digest, Error, Result};

/// The file's name in the data directory.
pub const FILE: &str = "trust.json";

/// Those whom the operator trusts.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Trust {
    /// Each key once.
    pub keys: Vec<TrustedKey>,
}

/// A key, and what it is trusted with. Times are in milliseconds since the Unix epoch.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TrustedKey {
    /// The key.
    pub key: PublicKey,
    /// What the operator calls its owner.
    pub name: Line,
    /// Packages that it may sign. None: none.
    pub packages: Vec<Pattern>,
    /// When it was added.
    pub added: u64,
    /// From when on it signs nothing new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<u64>,
    /// When it was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<u64>,
}

/// Package ids: one, those beneath `com.example.*`, or `*` for all.
#[derive(Clone, Debug, Eq, JsonSchema, Ord, PartialEq, PartialOrd)]
#[schemars(with = "String")]
pub enum Pattern {
    /// Every package.
    All,
    /// Those whose id begins with this and a dot.
    Beneath(PackageId),
    /// This one.
    Exactly(PackageId),
}

impl Pattern {
    fn matches(&self, id: &PackageId) -> bool {
        match self {
            Self::All => true,
            Self::Beneath(prefix) => {
                id.as_str().strip_prefix(prefix.as_str()).is_some_and(|rest| rest.starts_with('.'))
            }
            Self::Exactly(one) => one == id,
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("*"),
            Self::Beneath(prefix) => write!(f, "{prefix}.*"),
            Self::Exactly(id) => write!(f, "{id}"),
        }
    }
}

impl FromStr for Pattern {
    type Err = crate::manifest::words::NotAWord;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match (text, text.strip_suffix(".*")) {
            ("*", _) => Self::All,
            (_, Some(prefix)) => Self::Beneath(prefix.parse()?),
            _ => Self::Exactly(text.parse()?),
        })
    }
}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Pattern {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What a signature is to be good for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum For {
    /// To be taken in: an expired key will not do.
    Entry,
    /// To be used, having been taken in when the key was good.
    Use,
}

/// A key that vouches for a bundle.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Signer {
    /// The key.
    pub key: PublicKey,
    /// What the operator calls its owner.
    pub name: Line,
}

impl Trust {
    /// Reads the file; one that is missing trusts nobody.
    ///
    /// # Errors
    /// When it cannot be read, somebody else may write to it, or it is not what it should be.
    pub fn read(path: &Path) -> Result<Self> {
        let wrong = |reason: String| Error::Trust { file: path.display().to_string(), reason };
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::NOENT) => return Ok(Self::default()),
            Err(errno) => return Err(Error::kernel("open", path.display())(errno)),
        };
        let stat = rustix::fs::fstat(&file).map_err(Error::kernel("look at", path.display()))?;
        let own = [0, rustix::process::geteuid().as_raw()].contains(&stat.st_uid);
        if !own || stat.st_mode & 0o022 != 0 {
            return Err(wrong("others than its owner, you or root, may write to it".to_owned()));
        }
        if stat.st_size > 16 << 20 {
            return Err(wrong("it is over 16 MiB".to_owned()));
        }
        let text = linux::tree::read_all(&file).map_err(Error::kernel("read", path.display()))?;
        let trust: Self = serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
        let keys: std::collections::BTreeSet<_> = trust.keys.iter().map(|one| one.key).collect();
        if keys.len() != trust.keys.len() {
            return Err(wrong("a key stands in it twice".to_owned()));
        }
        Ok(trust)
    }

    /// Changes the file, in one step and one after the other.
    ///
    /// # Errors
    /// As [`Trust::read`], when `change` refuses, or when it cannot be written.
    pub fn change(path: &Path, change: impl FnOnce(&mut Self) -> Result<()>) -> Result<Self> {
        let failed = |step| Error::kernel(step, path.display());
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(|| Error::Trust {
            file: path.display().to_string(),
            reason: "that is no name for a file".to_owned(),
        })?;
        let dir = linux::tree::ensure_dir(parent, 0o755).map_err(failed("open the directory of"))?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let lock = rustix::fs::openat(&dir, format!("{name}.lock"), flags, Mode::RUSR | Mode::WUSR)
            .map_err(failed("lock"))?;
        rustix::fs::flock(&lock, FlockOperation::LockExclusive).map_err(failed("lock"))?;
        let mut trust = Self::read(path)?;
        change(&mut trust)?;
        let mut text = serde_json::to_vec_pretty(&trust)
            .map_err(|error| Error::Trust { file: path.display().to_string(), reason: error.to_string() })?;
        text.push(b'\n');
        linux::tree::replace_file_at(&dir, name, &text, 0o600, true).map_err(failed("write"))?;
        rustix::fs::fsync(&dir).map_err(failed("write"))?;
        Ok(trust)
    }

    /// Adds a key.
    ///
    /// # Errors
    /// When it is there already, or no package is named.
    pub fn add(&mut self, key: TrustedKey) -> Result<()> {
        if let Some(known) = self.keys.iter().find(|known| known.key == key.key) {
            let state = if known.revoked.is_some() { ", revoked" } else { "" };
            return Err(Error::Exists(format!("key {} (of {}{state})", key.key, known.name)));
        }
        if key.packages.is_empty() {
            return Err(Error::Key {
                subject: key.key.to_string(),
                reason: "say which packages it may sign".to_owned(),
            });
        }
        self.keys.push(key);
        Ok(())
    }

    /// Revokes the key, or every key of that owner that is not revoked yet. It stays in the file, so that it cannot be
    /// added again by mistake. Returns how many.
    ///
    /// # Errors
    /// When there is none.
    pub fn revoke(&mut self, key_or_name: &str, now: u64) -> Result<usize> {
        let mut revoked = 0;
        for key in &mut self.keys {
            if key.revoked.is_none()
                && (key.name.as_str() == key_or_name || key.key.to_string() == key_or_name)
            {
                key.revoked = Some(now);
                revoked += 1;
            }
        }
        if revoked == 0 {
            return Err(Error::Unknown(format!("key {key_or_name:?} that is not revoked yet")));
        }
        Ok(revoked)
    }

    /// Who vouches for these bytes with a key that is trusted with anything at all: the question that is asked before
    /// the payload is looked at.
    ///
    /// # Errors
    /// When nobody does, with the reason for each signature.
    pub fn signers(&self, bundle: &Sealed, purpose: For, now: u64) -> Result<Vec<&TrustedKey>> {
        self.judge(&bundle.digest(), bundle.len(), bundle.envelope(), purpose, now)
    }

    pub(crate) fn judge(
        &self,
        digest: &Digest,
        length: u64,
        envelope: &Envelope,
        purpose: For,
        now: u64,
    ) -> Result<Vec<&TrustedKey>> {
        let (mut good, mut reasons) = (Vec::new(), Vec::new());
        for signature in &envelope.signatures {
            match self.weigh(signature, digest, length, purpose, now) {
                Ok(key) => good.push(key),
                Err(reason) => reasons.push(reason),
            }
        }
        if !good.is_empty() {
            return Ok(good);
        }
        if reasons.is_empty() {
            reasons.push("nobody has signed it".to_owned());
        }
        Err(Error::Untrusted { digest: *digest, reasons })
    }

    /// Whether a key may sign this package, whatever it did sign: for a look from afar.
    pub(crate) fn may_sign(&self, key: &PublicKey, id: &PackageId, purpose: For, now: u64) -> bool {
        self.keys.iter().any(|known| {
            known.key == *key
                && known.revoked.is_none()
                && (purpose == For::Use || known.expires.is_none_or(|expires| expires > now))
                && known.packages.iter().any(|pattern| pattern.matches(id))
        })
    }

    /// What one signature of a bundle is worth: the key that counts, or why it does not.
    ///
    /// # Errors
    /// A sentence for people.
    pub fn weigh(
        &self,
        signature: &Signature,
        digest: &Digest,
        length: u64,
        purpose: For,
        now: u64,
    ) -> Result<&TrustedKey, String> {
        let Some(known) = self.keys.iter().find(|known| known.key == signature.key) else {
            return Err(format!("key {} is not in the trust file", signature.key));
        };
        let who = format!("key {} of {}", known.key, known.name);
        if known.revoked.is_some() {
            Err(format!("{who} was revoked"))
        } else if purpose == For::Entry && known.expires.is_some_and(|expires| expires <= now) {
            Err(format!("{who} has expired"))
        } else if !signature.is_of(digest, length) {
            Err(format!("the signature by {who} is not for these bytes"))
        } else {
            Ok(known)
        }
    }

    /// Those of `signers` who may sign this package.
    ///
    /// # Errors
    /// When none may.
    pub fn for_package(signers: &[&TrustedKey], id: &PackageId, digest: Digest) -> Result<Vec<Signer>> {
        let (may, may_not): (Vec<&&TrustedKey>, Vec<_>) =
            signers.iter().partition(|key| key.packages.iter().any(|pattern| pattern.matches(id)));
        if may.is_empty() {
            let reason = |key: &&TrustedKey| {
                let packages: Vec<String> = key.packages.iter().map(ToString::to_string).collect();
                let packages = if packages.is_empty() { "none".to_owned() } else { packages.join(", ") };
                format!("key {} of {} is trusted with {packages}, not with {id}", key.key, key.name)
            };
            return Err(Error::Untrusted { digest, reasons: may_not.into_iter().map(reason).collect() });
        }
        Ok(may.into_iter().map(|key| Signer { key: key.key, name: key.name.clone() }).collect())
    }
}
