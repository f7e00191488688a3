//! Signatures: the frame that holds them, and what they are over.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use protocol::Digest;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use super::{Limits, Refusal, Sealed};
use crate::keys::{PrivateKey, PublicKey};
use crate::{Error, Result};

/// A frame that every reader of zstd skips (RFC 8878, 3.1.2).
const MAGIC: [u8; 4] = 0x184D_2A5C_u32.to_le_bytes();
/// What a frame with contents begins with.
const CONTENTS: [u8; 4] = 0xFD2F_B528_u32.to_le_bytes();
/// Bytes of the envelope's JSON.
const MAX_BYTES: u32 = 16 << 10;
/// Signatures of one bundle: two while a key is exchanged, some more for those who vouch for others' packages.
const MAX_SIGNATURES: usize = 8;
/// So that a signature for a bundle is one for nothing else, whatever else these keys may ever sign.
const DOMAIN: &[u8] = b"start-container bundle v1\0";

/// The signatures of a bundle.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Envelope {
    /// At most eight, each by another key.
    pub signatures: Vec<Signature>,
}

/// A signature. The key says whose it claims to be; whether that key counts, the trust file says.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Signature {
    /// Whose.
    pub key: PublicKey,
    /// 64 bytes.
    #[serde(serialize_with = "encode", deserialize_with = "decode")]
    pub signature: Vec<u8>,
}

fn encode<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&STANDARD.encode(bytes))
}

fn decode<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let bytes = STANDARD.decode(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)?;
    if bytes.len() != 64 {
        return Err(serde::de::Error::custom("a signature has 64 bytes"));
    }
    Ok(bytes)
}

impl Signature {
    /// Whether its key made it for this payload.
    pub(crate) fn is_of(&self, digest: &Digest, length: u64) -> bool {
        self.key.verifies(&message(digest, length), &self.signature)
    }
}

fn message(digest: &Digest, length: u64) -> Vec<u8> {
    [DOMAIN, digest.bytes(), &length.to_le_bytes()].concat()
}

impl Sealed {
    /// Reads the envelope and hashes the payload, which nothing else looks at before somebody has verified it.
    ///
    /// # Errors
    /// When it is too large, its envelope is malformed, or it cannot be read.
    pub fn open(file: File, limits: &Limits) -> Result<Self> {
        let failed = || Error::io("read", "the bundle");
        let size = file.metadata().map_err(failed())?.len();
        if size > limits.compressed {
            return Err(Error::Bundle(Refusal::TooLarge(limits.compressed)));
        }
        let (envelope, start) = read_envelope(&file)?;
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; 256 << 10];
        let mut at = start;
        loop {
            let read = file.read_at(&mut buffer, at).map_err(failed())?;
            if read == 0 {
                break;
            }
            hasher.update(&buffer[..read]);
            at += read as u64;
            // A file that grows as we read it would never end.
            if at > size {
                return Err(Error::Bundle(Refusal::Moved));
            }
        }
        if at != size {
            return Err(Error::Bundle(Refusal::Moved));
        }
        Ok(Self { file, start, length: at - start, digest: Digest::finish(hasher), envelope })
    }

    pub(super) fn parts(&self) -> (&File, u64, u64) {
        (&self.file, self.start, self.length)
    }
}

/// The envelope, and where the payload begins.
fn read_envelope(file: &File) -> Result<(Envelope, u64)> {
    let malformed = |what: &str| Error::Bundle(Refusal::Envelope(what.to_owned()));
    let exactly = |buffer: &mut [u8], at| {
        file.read_exact_at(buffer, at).map_err(|error| match error.kind() {
            std::io::ErrorKind::UnexpectedEof => Error::Bundle(Refusal::Truncated),
            _ => Error::io("read", "the bundle")(error),
        })
    };
    let mut magic = [0; 4];
    exactly(&mut magic, 0)?;
    let (envelope, start) = if magic == MAGIC {
        let mut length = [0; 4];
        exactly(&mut length, 4)?;
        let length = u32::from_le_bytes(length);
        if length > MAX_BYTES {
            return Err(malformed("it is too long"));
        }
        let mut json = vec![0; length as usize];
        exactly(&mut json, 8)?;
        let envelope: Envelope =
            serde_json::from_slice(&json).map_err(|error| malformed(&error.to_string()))?;
        let keys: std::collections::BTreeSet<_> = envelope.signatures.iter().map(|one| one.key).collect();
        if keys.len() != envelope.signatures.len() {
            return Err(malformed("a key signed twice"));
        }
        if keys.is_empty() || keys.len() > MAX_SIGNATURES {
            return Err(malformed("it has no signature, or more than eight"));
        }
        (envelope, 8 + u64::from(length))
    } else {
        (Envelope::default(), 0)
    };
    exactly(&mut magic, start)?;
    if magic != CONTENTS {
        return Err(Error::Bundle(Refusal::Compression(
            "no zstd frame is where the payload begins".to_owned(),
        )));
    }
    Ok((envelope, start))
}

/// Adds a signature, in the place of an older one by the same key, and writes the bundle anew to `out`.
///
/// # Errors
/// When the bundle has eight signatures by others, or cannot be read or written.
pub fn sign(bundle: &Sealed, key: &PrivateKey, out: &mut File) -> Result<Envelope> {
    let failed = || Error::io("write", "the signed bundle");
    let mut envelope = bundle.envelope.clone();
    let public = key.public();
    envelope.signatures.retain(|signature| signature.key != public);
    if envelope.signatures.len() == MAX_SIGNATURES {
        return Err(Error::Bundle(Refusal::Envelope("it has eight signatures by others already".to_owned())));
    }
    let signature = key.sign(&message(&bundle.digest, bundle.length));
    envelope.signatures.push(Signature { key: public, signature });
    let json =
        serde_json::to_vec(&envelope).map_err(|error| Error::Bundle(Refusal::Envelope(error.to_string())))?;
    let length = u32::try_from(json.len())
        .ok()
        .filter(|length| *length <= MAX_BYTES)
        .ok_or_else(|| Error::Bundle(Refusal::Envelope("it is too long".to_owned())))?;
    out.write_all(&[&MAGIC[..], &length.to_le_bytes(), &json].concat()).map_err(failed())?;
    // Hashed again as it is copied: what is written out is what was signed, whoever changes the file meanwhile.
    let (file, start, length) = bundle.parts();
    let (mut hasher, mut buffer, mut done) = (Sha256::new(), vec![0; 256 << 10], 0);
    while done < length {
        let most = usize::try_from(length - done).unwrap_or(usize::MAX).min(buffer.len());
        let read =
            file.read_at(&mut buffer[..most], start + done).map_err(Error::io("read", "the bundle"))?;
        if read == 0 {
            return Err(Error::Bundle(Refusal::Moved));
        }
        hasher.update(&buffer[..read]);
        out.write_all(&buffer[..read]).map_err(failed())?;
        done += read as u64;
    }
    if Digest::finish(hasher) != bundle.digest {
        return Err(Error::Bundle(Refusal::Moved));
    }
    out.sync_all().map_err(failed())?;
    Ok(envelope)
}
