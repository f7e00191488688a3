//! Keys: ed25519, by ring, which the workspace has for TLS already.
//!
//! A private key is a PKCS#8 file as OpenSSL writes it (`openssl genpkey -algorithm ed25519`), which only its owner may
//! read. A public key is the text `ed25519:` and base64 of its 32 bytes: short enough to be compared by eye and to
//! stand in the trust file.

use std::fmt;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Error, Result};

const BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const END: &str = "-----END PRIVATE KEY-----";
/// RFC 8410: version 0, algorithm 1.3.101.112, an octet string within an octet string, before the 32 bytes of the key.
const PKCS8: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// A public key.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.0).verify(message, signature).is_ok()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ed25519:{}", STANDARD.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PublicKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        text.strip_prefix("ed25519:")
            .and_then(|rest| STANDARD.decode(rest).ok())
            .and_then(|bytes| bytes.try_into().ok())
            .map(Self)
            .ok_or_else(|| Error::Key {
                subject: format!("{:?}", text.chars().take(80).collect::<String>()),
                reason: "not ed25519: and the base64 of 32 bytes".to_owned(),
            })
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A private key. Says nothing of itself but its public half.
pub struct PrivateKey(Ed25519KeyPair);

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey of {}", self.public())
    }
}

impl PrivateKey {
    /// Makes a key and writes it to a new file, which only its owner may read.
    ///
    /// # Errors
    /// When the file exists, or cannot be written.
    pub fn create(path: &Path) -> Result<Self> {
        let mut seed = [0; 32];
        rustix::rand::getrandom(&mut seed, rustix::rand::GetRandomFlags::empty())
            .map_err(Error::kernel("make", "a key"))?;
        let text = format!("{BEGIN}\n{}\n{END}\n", STANDARD.encode([&PKCS8[..], &seed].concat()));
        let failed = |step| Error::io(step, path.display());
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(failed("create"))?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed("write"))?;
        Self::parse(&text, path)
    }

    /// Reads a key.
    ///
    /// # Errors
    /// When it is none, or when others than its owner may read the file.
    pub fn read(path: &Path) -> Result<Self> {
        let failed = |step| Error::io(step, path.display());
        let file = std::fs::File::open(path).map_err(failed("open"))?;
        let mode = file.metadata().map_err(failed("look at"))?.mode();
        if mode & 0o077 != 0 {
            return Err(Error::Key {
                subject: path.display().to_string(),
                reason: format!("others may read this private key (mode {:03o}): chmod 600", mode & 0o777),
            });
        }
        let mut text = String::new();
        std::io::Read::read_to_string(&mut std::io::Read::take(file, 4096), &mut text)
            .map_err(failed("read"))?;
        Self::parse(&text, path)
    }

    fn parse(text: &str, path: &Path) -> Result<Self> {
        text.trim()
            .strip_prefix(BEGIN)
            .and_then(|rest| rest.strip_suffix(END))
            .map(|body| body.split_whitespace().collect::<String>())
            .and_then(|body| STANDARD.decode(body).ok())
            .and_then(|bytes| Ed25519KeyPair::from_pkcs8_maybe_unchecked(&bytes).ok())
            .map(Self)
            .ok_or_else(|| Error::Key {
                subject: path.display().to_string(),
                reason: "not an ed25519 private key in PKCS#8".to_owned(),
            })
    }

    /// Its public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.0.public_key().as_ref());
        PublicKey(bytes)
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.0.sign(message).as_ref().to_vec()
    }
}
