//! A bundle as an object in a store that speaks S3.
//!
//! ```text
//! s3://bucket/path/notes-1.0.0.bundle.tar.zst
//! ```
//! Who asks, and where, is said as for other programs of this kind: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`,
//! `AWS_SESSION_TOKEN`, `AWS_REGION`, `AWS_ENDPOINT_URL`, or a profile (`AWS_PROFILE`) in `~/.aws/credentials`. Where nothing
//! is said the request is not signed, for buckets that are open to everybody. Never writes any of that down.

use std::fs::File;
use std::io::{Seek as _, Write as _};
use std::str::FromStr;
use std::time::Duration;

use futures_util::StreamExt as _;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::{ClientOptions, ObjectStoreExt as _};

use super::Watch;
use crate::bundle::{Limits, Refusal};
use crate::{Error, Result, Store};

/// Until there is a connection.
const CONNECT: Duration = Duration::from_secs(20);
/// Between two pieces of the object.
const SILENCE: Duration = Duration::from_secs(60);
/// How often somebody looks whether it was called off.
const LOOK: Duration = Duration::from_millis(100);

/// An object.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Source {
    bucket: String,
    key: String,
}

impl FromStr for Source {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let invalid =
            |reason: &str| Error::Source { place: super::without_secrets(text), reason: reason.to_owned() };
        let rest = text.strip_prefix("s3://").ok_or_else(|| invalid("it does not begin with s3://"))?;
        let (bucket, key) = rest.split_once('/').ok_or_else(|| invalid("it names no object"))?;
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte);
        if !(3..=63).contains(&bucket.len()) || !bucket.bytes().all(plain) || bucket.contains("..") {
            return Err(invalid("its bucket is not named as one can be: a-z, 0-9, . and -"));
        }
        if key.is_empty() || key.len() > 1024 {
            return Err(invalid("it names no object"));
        }
        Ok(Self { bucket: bucket.to_owned(), key: key.to_owned() })
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "s3://{}/{}", self.bucket, self.key)
    }
}

impl Source {
    /// Fetches the bundle into a file of the store's. `insecure`: over plain HTTP, where the endpoint says so.
    ///
    /// # Errors
    /// When there is no such object or it is not for whoever asks, it is too large, or it does not come.
    pub fn fetch(&self, store: &Store, insecure: bool, watch: &Watch<'_>) -> Result<File> {
        _ = rustls::crypto::ring::default_provider().install_default();
        let remote = self.remote(insecure)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(Error::io("start", "a runtime"))?;
        let called_off = async {
            while !watch.cancelled() {
                tokio::time::sleep(LOOK).await;
            }
        };
        runtime.block_on(async {
            tokio::select! {
                fetched = self.read(store, &remote, watch) => fetched,
                () = called_off => Err(Error::Cancelled),
            }
        })
    }

    fn remote(&self, insecure: bool) -> Result<AmazonS3> {
        let client = ClientOptions::new()
            .with_timeout_disabled()
            .with_connect_timeout(CONNECT)
            .with_read_timeout(SILENCE)
            .with_allow_http(insecure);
        let said = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let mut builder =
            AmazonS3Builder::from_env().with_bucket_name(&self.bucket).with_client_options(client);
        // An endpoint of somebody's own mostly has no name for each bucket.
        if said("AWS_ENDPOINT_URL").is_none() && said("AWS_ENDPOINT").is_none() {
            builder = builder.with_virtual_hosted_style_request(!self.bucket.contains('.'));
        }
        if said("AWS_ACCESS_KEY_ID").is_none() {
            let elsewhere = [
                "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
                "AWS_CONTAINER_CREDENTIALS_FULL_URI",
                "AWS_WEB_IDENTITY_TOKEN_FILE",
            ];
            match Profile::read() {
                Some(Profile { id, secret, token }) => {
                    builder = builder.with_access_key_id(id).with_secret_access_key(secret);
                    if let Some(token) = token {
                        builder = builder.with_token(token);
                    }
                }
                // Never asks whatever answers at the address of a cloud's metadata.
                None if !elsewhere.iter().any(|name| said(name).is_some()) => {
                    builder = builder.with_skip_signature(true);
                }
                None => {}
            }
        }
        builder.build().map_err(|error| self.failed("prepare for", &error))
    }

    async fn read(&self, store: &Store, remote: &AmazonS3, watch: &Watch<'_>) -> Result<File> {
        let failed = |error: object_store::Error| self.failed("fetch", &error);
        let key = object_store::path::Path::parse(&self.key)
            .map_err(|error| Error::Source { place: self.to_string(), reason: error.to_string() })?;
        let answer = remote.get(&key).await.map_err(failed)?;
        let (most, total) = (Limits::default().compressed, answer.meta.size);
        if total > most {
            return Err(Error::Bundle(Refusal::TooLarge(most)));
        }
        let mut file = store.spool()?;
        let mut done = 0_u64;
        let mut pieces = answer.into_stream();
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(failed)?;
            done += piece.len() as u64;
            if done > most {
                return Err(Error::Bundle(Refusal::TooLarge(most)));
            }
            file.write_all(&piece).map_err(Error::io("write", "the bundle"))?;
            (watch.progress)(done, Some(total));
        }
        file.rewind().map_err(Error::io("write", "the bundle"))?;
        Ok(file)
    }

    fn failed(&self, step: &'static str, error: &object_store::Error) -> Error {
        Error::Fetch { step, subject: self.to_string(), reason: super::causes(error) }
    }
}

/// Keys from the file in which other programs of this kind keep them.
struct Profile {
    id: String,
    secret: String,
    token: Option<String>,
}

impl Profile {
    fn read() -> Option<Self> {
        let home = || Some(std::path::PathBuf::from(std::env::var_os("HOME")?).join(".aws/credentials"));
        let file = std::env::var_os("AWS_SHARED_CREDENTIALS_FILE").map(Into::into).or_else(home)?;
        let name = std::env::var("AWS_PROFILE").unwrap_or_else(|_unset| "default".to_owned());
        Self::parse(&std::fs::read_to_string(file).ok()?, &name)
    }

    fn parse(text: &str, name: &str) -> Option<Self> {
        let (mut inside, mut id, mut secret, mut token) = (false, None, None, None);
        for line in text.lines().map(str::trim) {
            if let Some(section) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
                inside = section.trim() == name;
            } else if let Some((key, value)) = line.split_once('=').filter(|_| inside) {
                let value = Some(value.trim().to_owned());
                match key.trim() {
                    "aws_access_key_id" => id = value,
                    "aws_secret_access_key" => secret = value,
                    "aws_session_token" => token = value,
                    _ => {}
                }
            }
        }
        Some(Self { id: id?, secret: secret?, token })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p8_a_profile_is_read_as_other_programs_write_it() {
        let text = "# comment\n[default]\naws_access_key_id = A\naws_secret_access_key=B=\n\n[work]\n\
            aws_access_key_id=C\naws_secret_access_key=D\naws_session_token = E\n[half]\naws_access_key_id=F\n";
        let read = |name| Profile::parse(text, name).map(|found| (found.id, found.secret, found.token));
        assert_eq!(read("default"), Some(("A".to_owned(), "B=".to_owned(), None)));
        assert_eq!(read("work"), Some(("C".to_owned(), "D".to_owned(), Some("E".to_owned()))));
        assert_eq!(read("half"), None);
        assert_eq!(read("none"), None);
    }

    #[test]
    fn p8_an_object_is_named_or_refused() {
        assert_eq!("s3://team/a/b.zst".parse::<Source>().unwrap().to_string(), "s3://team/a/b.zst");
        for bad in ["team/a", "s3://team", "s3://team/", "s3:///a", "s3://T/a", "s3://a_b/c", "s3://a..b/c"] {
            assert!(bad.parse::<Source>().is_err(), "{bad}");
        }
    }
}
