//! Images from registries.
//!
//! ```text
//! network thread (tokio, one):   manifest -> platform -> config,  blobs, three at a time
//!                                                                    |   a whole, verified blob
//! this thread:                                                       v
//!                                                     layer::unpack, in the order they arrive
//! ```
//! A blob is written to `store/partial/<hex>` and hashed as it comes. A connection that breaks is taken up again
//! where it broke, with what is there hashed anew; so is a pull that was killed. Speaking to registries is
//! oci-client's part: tokens, redirects, ranges. It verifies no partial answer, so every digest is compared here.

mod blob;
mod credentials;

use std::collections::HashMap;
use std::fs::File;
use std::sync::mpsc::sync_channel;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::errors::OciDistributionError;
use oci_client::{Client, Reference};
use oci_spec::image::{Descriptor, ImageIndex, ImageManifest};
use protocol::image::ImageInfo;

pub use credentials::Credentials;

use crate::archive::oci::{
    check_layer_type, choose, digest_of, host_platform, is_index, no_such_platform, only, parse, verify,
};
use crate::archive::{Found, Import, LayerSource, Source};
use crate::config::Config;
use crate::store::{Store, Work};
use crate::{Cancel, Digest, Error, Progress, Refusal, Result};

/// Blobs fetched at the same time.
const PARALLEL: usize = 3;

/// What to pull, and how.
#[derive(Clone, Debug)]
pub struct Pull<'a> {
    /// `[registry/]repository[:tag][@digest]`.
    pub reference: &'a str,
    /// The image's name. Default: the reference.
    pub name: Option<&'a str>,
    /// `os/architecture[/variant]`. Default: this machine's.
    pub platform: Option<&'a str>,
    /// Who asks.
    pub credentials: Credentials,
    /// Speak plain HTTP to the registry.
    pub insecure: bool,
}

/// A manifest and the config it points to, both verified.
struct Documents {
    manifest: Vec<u8>,
    config: Vec<u8>,
    layers: Vec<Descriptor>,
}

pub(crate) fn pull(
    store: &Store,
    what: &Pull<'_>,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<ImageInfo> {
    let registry = Registry::new(what)?;
    let source =
        Source { path: what.reference, wanted: Some(what.name.unwrap_or(what.reference)), default: "" };
    let import = Import { store, work: Work::begin(store)?, progress, cancel };
    let (tell_documents, documents) = sync_channel(1);
    let (tell_blob, blobs) = sync_channel(16);
    std::thread::scope(|scope| {
        let network = scope.spawn(|| {
            let (tell_documents, tell_blob) = (tell_documents, tell_blob);
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|error| registry.failed("start", &error.to_string()))?;
            runtime.block_on(async {
                let documents = registry.documents(store, what.platform, cancel).await?;
                let config = Config::parse(&documents.config, "config")?;
                let mut wanted: Vec<Descriptor> = Vec::new();
                for (layer, diff_id) in documents.layers.iter().zip(&config.diff_ids) {
                    check_layer_type(layer.media_type())
                        .map_err(|reason| Error::Layer { layer: layer.digest().to_string(), reason })?;
                    let known = store.layer_record(diff_id)?.is_some();
                    if !known && !wanted.iter().any(|other| other.digest() == layer.digest()) {
                        wanted.push(layer.clone());
                    }
                }
                // Where nobody listens any more, the other side has an error to tell.
                if tell_documents.send(documents).is_err() {
                    return Ok(());
                }
                let fetched = stream::iter(wanted)
                    .map(|layer| registry.blob(store, layer, progress, cancel))
                    .buffer_unordered(PARALLEL);
                fetched
                    .try_for_each(|fetched| {
                        let told = tell_blob.send(fetched);
                        async move { told.ok().ok_or(Error::Cancelled) }
                    })
                    .await
            })
        });
        let unpacked = documents.recv().ok().map(|documents| import.pulled(documents, &blobs, &source));
        drop(blobs);
        let network =
            network.join().unwrap_or_else(|_panic| Err(registry.failed("pull", "a thread panicked")));
        match (unpacked, network) {
            // The network's error, where it has one, is why the unpacking found nothing more.
            (Some(Err(Error::Cancelled)) | None, Err(error)) => Err(error),
            (Some(result), _) => result,
            (None, Ok(())) => Err(Error::Cancelled),
        }
    })
}

/// Fetches the one layer of this type that an artifact has. The file has no name any more: it is the caller's alone.
pub(crate) fn artifact(
    store: &Store,
    what: &Pull<'_>,
    media_type: &str,
    most: u64,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<File> {
    let registry = Registry::new(what)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| registry.failed("start", &error.to_string()))?;
    runtime.block_on(async {
        let (manifest, document) =
            registry.checked_manifest(store, &registry.reference, None, cancel).await?;
        let read: ImageManifest = parse(&manifest, &document)?;
        let mut layers = read.layers().iter().filter(|layer| layer.media_type().as_ref() == media_type);
        let (Some(layer), None) = (layers.next(), layers.next()) else {
            let reason = format!("it has no layer of type {media_type}, or several");
            return Err(Error::Document { document, reason });
        };
        if layer.size() > most {
            let reason = Refusal::CompressedTooLarge(most);
            return Err(Error::Layer { layer: layer.digest().to_string(), reason });
        }
        let (digest, file) = registry.blob(store, layer.clone(), progress, cancel).await?;
        blob::remove(store, &digest)?;
        Ok(file)
    })
}

impl Import<'_> {
    /// Unpacks layers as they arrive, then commits.
    fn pulled(
        self,
        documents: Documents,
        blobs: &std::sync::mpsc::Receiver<(Digest, File)>,
        source: &Source<'_>,
    ) -> Result<ImageInfo> {
        let config = Config::parse(&documents.config, "config")?;
        let mut wanted: HashMap<Digest, Digest> = HashMap::new();
        for (layer, diff_id) in documents.layers.iter().zip(&config.diff_ids) {
            wanted.entry(digest_of(layer, "manifest")?).or_insert(*diff_id);
        }
        for (digest, file) in blobs {
            let Some(diff_id) = wanted.get(&digest) else { continue };
            self.unpack_blob(digest, file, *diff_id)?;
            blob::remove(self.store, &digest)?;
        }
        let gone = || Err(Error::Cancelled);
        let layers = documents.layers.iter().map(|layer| LayerSource {
            label: layer.digest().to_string(),
            digest: None,
            size: None,
            // All of them were unpacked above, or the network failed.
            open: Box::new(gone),
        });
        let found = Found {
            names: Vec::new(),
            manifest: Some(documents.manifest),
            config: documents.config,
            layers: Some(layers.collect()),
        };
        self.finish(found, source)
    }
}

struct Registry {
    client: Client,
    reference: Reference,
    auth: oci_client::secrets::RegistryAuth,
    host: String,
}

impl Registry {
    fn new(what: &Pull<'_>) -> Result<Self> {
        let refused = |reason: String| Error::Reference { reference: what.reference.to_owned(), reason };
        let reference: Reference =
            what.reference.parse().map_err(|error: oci_client::ParseError| refused(error.to_string()))?;
        let host = reference.resolve_registry().to_owned();
        // One provider for the process; where another part of it was first, that one is as good.
        _ = rustls::crypto::ring::default_provider().install_default();
        let config = ClientConfig {
            protocol: if what.insecure { ClientProtocol::Http } else { ClientProtocol::Https },
            connect_timeout: Some(std::time::Duration::from_secs(20)),
            read_timeout: Some(std::time::Duration::from_secs(60)),
            user_agent: concat!("start-container/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        };
        let client = Client::try_from(config).map_err(|error| refused(error.to_string()))?;
        let auth = what.credentials.for_registry(&host, reference.repository())?;
        Ok(Self { client, reference, auth, host })
    }

    fn failed(&self, step: &str, reason: &str) -> Error {
        Error::Registry { registry: self.host.clone(), step: step.to_owned(), reason: redact(reason) }
    }

    fn error(&self, step: &str, error: &OciDistributionError) -> Error {
        match error {
            OciDistributionError::UnauthorizedError { .. }
            | OciDistributionError::AuthenticationFailure(_) => self.unauthorized(),
            OciDistributionError::ServerError { code: 401 | 403, .. } => self.unauthorized(),
            OciDistributionError::RegistryError { envelope, .. } => {
                use oci_client::errors::OciErrorCode;
                if envelope
                    .errors
                    .iter()
                    .any(|error| matches!(error.code, OciErrorCode::Unauthorized | OciErrorCode::Denied))
                {
                    return self.unauthorized();
                }
                self.failed(
                    step,
                    &envelope.errors.iter().map(|error| error.message.clone()).collect::<Vec<_>>().join(", "),
                )
            }
            OciDistributionError::ServerError { code, message, .. } => {
                self.failed(step, &format!("status {code} {}", message.trim()))
            }
            other => self.failed(step, &causes(other)),
        }
    }

    fn unauthorized(&self) -> Error {
        Error::Unauthorized {
            registry: self.host.clone(),
            repository: self.reference.repository().to_owned(),
        }
    }

    async fn documents(&self, store: &Store, platform: Option<&str>, cancel: &Cancel) -> Result<Documents> {
        let wanted = platform.map_or_else(host_platform, str::to_owned);
        let mut reference = self.reference.clone();
        let mut size = None;
        for _ in 0..3 {
            cancel.check()?;
            let (manifest, document) = self.checked_manifest(store, &reference, size, cancel).await?;
            let kind: Kind = parse(&manifest, &document)?;
            if kind.is_index() {
                let index: ImageIndex = parse(&manifest, &document)?;
                let manifests = index.manifests();
                let chosen = choose(manifests, &wanted).or_else(|| only(manifests));
                let chosen = chosen.ok_or_else(|| {
                    no_such_platform(&self.reference.to_string(), wanted.clone(), manifests)
                })?;
                size = Some(chosen.size());
                reference = reference.clone_with_digest(digest_of(chosen, &document)?.to_string());
                continue;
            }
            let read: ImageManifest = parse(&manifest, &document)?;
            let config = self.config(store, read.config(), cancel).await?;
            let parsed = Config::parse(&config, &format!("config {}", Digest::of(&config)))?;
            let its = format!("{}/{}", parsed.os, parsed.architecture);
            if !wanted.starts_with(&its) && platform.is_some() {
                return Err(Error::NoSuchPlatform {
                    subject: self.reference.to_string(),
                    platform: wanted,
                    available: vec![its],
                });
            }
            return Ok(Documents { layers: read.layers().clone(), manifest, config });
        }
        Err(Error::Document {
            document: self.reference.to_string(),
            reason: "its indexes are nested too deeply".to_owned(),
        })
    }

    /// A manifest that is what the reference says, as far as that says it, and what to call it.
    async fn checked_manifest(
        &self,
        store: &Store,
        reference: &Reference,
        size: Option<u64>,
        cancel: &Cancel,
    ) -> Result<(Vec<u8>, String)> {
        let limit = store.limits().document;
        let manifest = self.manifest(reference, cancel).await?;
        let document = format!("manifest {}", Digest::of(&manifest));
        if manifest.len() as u64 > limit {
            return Err(Error::Document {
                document,
                reason: format!("it has {} bytes, over the limit of {limit}", manifest.len()),
            });
        }
        // The client compares too; whether it does is not ours to assume.
        if let Some(said) = reference.digest() {
            let expected = said.parse().map_err(|bad: protocol::digest::NotADigest| Error::Reference {
                reference: self.reference.to_string(),
                reason: bad.to_string(),
            })?;
            verify(&manifest, size.unwrap_or(manifest.len() as u64), expected, &document)?;
        }
        Ok((manifest, document))
    }

    async fn manifest(&self, reference: &Reference, cancel: &Cancel) -> Result<Vec<u8>> {
        use oci_client::manifest::{
            IMAGE_MANIFEST_LIST_MEDIA_TYPE, IMAGE_MANIFEST_MEDIA_TYPE, OCI_IMAGE_INDEX_MEDIA_TYPE,
            OCI_IMAGE_MEDIA_TYPE,
        };
        let accept = [
            OCI_IMAGE_MEDIA_TYPE,
            OCI_IMAGE_INDEX_MEDIA_TYPE,
            IMAGE_MANIFEST_MEDIA_TYPE,
            IMAGE_MANIFEST_LIST_MEDIA_TYPE,
        ];
        let mut patience = blob::Patience::default();
        loop {
            match self.client.pull_manifest_raw(reference, &self.auth, &accept).await {
                Ok((bytes, _)) => return Ok(bytes.to_vec()),
                Err(error) if blob::is_passing(&error) && patience.again(cancel).await? => {}
                Err(error) => return Err(self.error(&format!("fetch manifest of {reference}"), &error)),
            }
        }
    }

    /// The config is a blob like any other, but small, and needed before the others.
    async fn config(&self, store: &Store, descriptor: &Descriptor, cancel: &Cancel) -> Result<Vec<u8>> {
        let limit = store.limits().document;
        let digest = digest_of(descriptor, "manifest")?;
        if descriptor.size() > limit {
            let reason = format!("it has {} bytes, over the limit of {limit}", descriptor.size());
            return Err(Error::Document { document: format!("config {digest}"), reason });
        }
        let (_, mut file) = self.blob(store, descriptor.clone(), &crate::Silent, cancel).await?;
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut file, &mut bytes)
            .map_err(|source| Error::Read { subject: format!("config {digest}"), source })?;
        blob::remove(store, &digest)?;
        Ok(bytes)
    }
}

/// Just enough of a document to see which kind it is. Docker's always say; OCI's may not.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kind {
    media_type: Option<String>,
    manifests: Option<serde_json::Value>,
}

impl Kind {
    fn is_index(&self) -> bool {
        self.media_type.as_deref().map_or(self.manifests.is_some(), is_index)
    }
}

/// All causes of an error in one line, for errors that say nothing without them.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let more = next.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = next.source();
    }
    text
}

/// Takes out what follows `?` in addresses (signatures of storage services, tokens) and user:password before `@`.
fn redact(text: &str) -> String {
    text.split(' ')
        .map(|word| {
            let Some((scheme, rest)) = word.split_once("://") else { return word.to_owned() };
            let (address, query) = rest.split_once('?').map_or((rest, ""), |(address, _)| (address, "?…"));
            let (host, path) = address
                .split_once('/')
                .map_or((address, String::new()), |(host, path)| (host, format!("/{path}")));
            let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
            let closing: String = word.chars().rev().take_while(|last| ")]\",:.".contains(*last)).collect();
            let closing: String =
                if query.is_empty() { String::new() } else { closing.chars().rev().collect() };
            format!("{scheme}://{host}{path}{query}{closing}")
        })
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::redact;

    #[test]
    fn i2_errors_hold_no_secrets() {
        let text = "error sending request for url (https://me:pw@host/v2/x?sig=abc&token=def): broken";
        assert_eq!(redact(text), "error sending request for url (https://host/v2/x?…): broken");
        assert_eq!(redact("no address"), "no address");
    }
}
