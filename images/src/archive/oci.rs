//! OCI layouts, in a directory or a tar.

use std::io::Read;
use std::os::fd::OwnedFd;

use oci_spec::image::{Descriptor, ImageIndex, ImageManifest, MediaType};
use rustix::fs::FileType;
use rustix::io::Errno;

use super::index::Members;
use super::{Found, Import, LayerSource, Source, open_beneath};
use crate::config::architecture;
use crate::{Digest, Error, Refusal, Result};

/// Where the blobs are.
pub(super) enum Blobs {
    Directory(OwnedFd),
    Archive(Members),
}

const NAME: &str = "org.opencontainers.image.ref.name";
/// containerd's and Docker's, with the repository.
const FULL_NAME: &str = "io.containerd.image.name";

impl Blobs {
    fn open(&self, source: &Source<'_>, path: &str) -> Result<(Box<dyn Read + Send>, u64)> {
        let missing = || source.not_an_image(format!("{path} is missing"));
        match self {
            Self::Archive(members) => {
                let (bytes, size) = members.open(path).ok_or_else(missing)?;
                Ok((Box::new(bytes), size))
            }
            Self::Directory(dir) => {
                let file = match open_beneath(dir, path) {
                    Ok(file) => file,
                    Err(Errno::NOENT) => return Err(missing()),
                    Err(Errno::LOOP | Errno::XDEV) => {
                        return Err(source.not_an_image(format!("{path} is a symbolic link")));
                    }
                    Err(errno) => {
                        return Err(Error::kernel("open", format!("{}/{path}", source.path))(errno));
                    }
                };
                let stat = rustix::fs::fstat(&file).map_err(Error::kernel("look at", path))?;
                if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
                    return Err(source.not_an_image(format!("{path} is not a regular file")));
                }
                let size = stat.st_size.cast_unsigned();
                Ok((Box::new(file), size))
            }
        }
    }

    fn document(&self, import: &Import<'_>, source: &Source<'_>, path: &str, name: &str) -> Result<Vec<u8>> {
        let (bytes, size) = self.open(source, path)?;
        let most = import.store.limits().document;
        if size > most {
            return Err(Error::Document {
                document: name.to_owned(),
                reason: format!("it has {size} bytes, over the limit of {most}"),
            });
        }
        let mut read = Vec::new();
        // The size was the file's when it was opened; it may grow.
        bytes
            .take(most)
            .read_to_end(&mut read)
            .map_err(|error| Error::Read { subject: format!("{name} in {}", source.path), source: error })?;
        Ok(read)
    }

    /// The document that a descriptor points to, verified.
    fn described(
        &self,
        import: &Import<'_>,
        source: &Source<'_>,
        kind: &str,
        descriptor: &Descriptor,
    ) -> Result<Vec<u8>> {
        let digest = digest_of(descriptor, kind)?;
        let name = format!("{kind} {digest}");
        let bytes = self.document(import, source, &format!("blobs/sha256/{}", digest.hex()), &name)?;
        verify(&bytes, descriptor.size(), digest, &name)?;
        Ok(bytes)
    }
}

/// Checks a document against what points to it.
pub(crate) fn verify(bytes: &[u8], size: u64, digest: Digest, name: &str) -> Result<()> {
    if bytes.len() as u64 != size {
        return Err(Error::Size { subject: name.to_owned(), expected: size, actual: bytes.len() as u64 });
    }
    let actual = Digest::of(bytes);
    if actual != digest {
        return Err(Error::Digest { subject: name.to_owned(), expected: digest, actual });
    }
    Ok(())
}

pub(crate) fn digest_of(descriptor: &Descriptor, kind: &str) -> Result<Digest> {
    descriptor.digest().as_ref().parse().map_err(|bad: protocol::digest::NotADigest| Error::Document {
        document: kind.to_owned(),
        reason: bad.to_string(),
    })
}

/// Is a layer of this media type one that we can unpack? Whether and how it is compressed, its bytes tell.
pub(crate) fn check_layer_type(media_type: &MediaType) -> Result<(), Refusal> {
    match media_type.as_ref() {
        "application/vnd.oci.image.layer.v1.tar"
        | "application/vnd.oci.image.layer.v1.tar+gzip"
        | "application/vnd.oci.image.layer.v1.tar+zstd"
        | "application/vnd.oci.image.layer.nondistributable.v1.tar"
        | "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
        | "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd"
        | "application/vnd.docker.image.rootfs.diff.tar"
        | "application/vnd.docker.image.rootfs.diff.tar.gzip"
        | "application/vnd.docker.image.rootfs.diff.tar.zstd"
        | "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip" => Ok(()),
        other => Err(Refusal::MediaType(other.to_owned())),
    }
}

pub(crate) fn is_index(media_type: &str) -> bool {
    matches!(
        media_type,
        "application/vnd.oci.image.index.v1+json"
            | "application/vnd.docker.distribution.manifest.list.v2+json"
    )
}

pub(crate) fn is_manifest(media_type: &str) -> bool {
    matches!(
        media_type,
        "application/vnd.oci.image.manifest.v1+json" | "application/vnd.docker.distribution.manifest.v2+json"
    )
}

/// `os/architecture[/variant]` of a descriptor, where it says.
pub(crate) fn platform_of(descriptor: &Descriptor) -> Option<String> {
    let platform = descriptor.platform().as_ref()?;
    let (os, architecture) = (platform.os().to_string(), platform.architecture().to_string());
    Some(match platform.variant() {
        Some(variant) => format!("{os}/{architecture}/{variant}"),
        None => format!("{os}/{architecture}"),
    })
}

/// The best of several for a platform: the same variant, else none said, else the highest below (an arm/v7 runs
/// v6 and v5). A variant that was not asked for means this machine's usual one.
pub(crate) fn choose<'d>(candidates: &'d [Descriptor], wanted: &str) -> Option<&'d Descriptor> {
    let parts = |platform: &str| -> (String, String, Option<String>) {
        let mut parts = platform.splitn(3, '/').map(str::to_owned);
        (parts.next().unwrap_or_default(), parts.next().unwrap_or_default(), parts.next())
    };
    let (os, arch, variant) = parts(wanted);
    let default = match arch.as_str() {
        "arm64" => Some("v8".to_owned()),
        "arm" => Some("v7".to_owned()),
        "amd64" => Some("v1".to_owned()),
        _ => None,
    };
    let number = |variant: &Option<String>| {
        variant.as_deref().and_then(|text| text.strip_prefix('v')?.parse::<u32>().ok())
    };
    let wanted_number = number(&variant.clone().or_else(|| default.clone()));
    let score = |descriptor: &&Descriptor| -> Option<u32> {
        let (its_os, its_arch, its_variant) = parts(&platform_of(descriptor)?);
        if its_os != os || its_arch != arch {
            return None;
        }
        match (&its_variant, &variant) {
            (its, wanted) if its == wanted => Some(1000),
            (None, _) => Some(900),
            (Some(_), _) => match (number(&its_variant), wanted_number) {
                (Some(its), Some(wanted)) if its <= wanted => Some(100 + its),
                (None, None) => Some(1),
                _ => None,
            },
        }
    };
    // The first of equals: indexes list what they prefer first.
    let mut best: Option<(u32, &Descriptor)> = None;
    for candidate in candidates {
        if let Some(score) = score(&candidate)
            && best.is_none_or(|(most, _)| score > most)
        {
            best = Some((score, candidate));
        }
    }
    best.map(|(_, descriptor)| descriptor)
}

/// `linux` and this machine's architecture.
pub(crate) fn host_platform() -> String {
    format!("linux/{}", architecture())
}

fn names_of(descriptor: &Descriptor) -> Vec<String> {
    let annotations = descriptor.annotations().as_ref();
    [FULL_NAME, NAME].into_iter().filter_map(|key| annotations?.get(key).cloned()).collect()
}

pub(super) fn find<'a>(import: &Import<'_>, source: &Source<'_>, blobs: &Blobs) -> Result<Found<'a>> {
    let index = blobs.document(import, source, "index.json", "index.json")?;
    let index: ImageIndex = parse(&index, "index.json")?;
    let mut descriptor = pick(source, index.manifests())?.clone();
    let names: Vec<String> = names_of(&descriptor);
    // An index may point to another; nobody nests deeper than two.
    for _ in 0..3 {
        let media_type = descriptor.media_type().to_string();
        if is_manifest(&media_type) {
            let manifest = blobs.described(import, source, "manifest", &descriptor)?;
            return read_manifest(import, source, blobs, manifest, names);
        }
        if !is_index(&media_type) {
            let reason = Refusal::MediaType(media_type).to_string();
            return Err(Error::Document { document: format!("manifest {}", descriptor.digest()), reason });
        }
        let inner = blobs.described(import, source, "index", &descriptor)?;
        let inner: ImageIndex = parse(&inner, &format!("index {}", descriptor.digest()))?;
        let wanted = host_platform();
        descriptor = choose(inner.manifests(), &wanted)
            .or_else(|| only(inner.manifests()))
            .ok_or_else(|| no_such_platform(source.path, wanted, inner.manifests()))?
            .clone();
    }
    Err(Error::Document {
        document: "index.json".to_owned(),
        reason: "its indexes are nested too deeply".to_owned(),
    })
}

pub(crate) fn no_such_platform(subject: &str, platform: String, candidates: &[Descriptor]) -> Error {
    let available = candidates.iter().filter_map(platform_of).collect();
    Error::NoSuchPlatform { subject: subject.to_owned(), platform, available }
}

/// The one image of an index that says no platform.
pub(crate) fn only(candidates: &[Descriptor]) -> Option<&Descriptor> {
    match candidates {
        [one] if one.platform().is_none() => Some(one),
        _ => None,
    }
}

/// The entry of index.json that is meant: the one so named, else the only one, else the only one for this machine.
fn pick<'d>(source: &Source<'_>, manifests: &'d [Descriptor]) -> Result<&'d Descriptor> {
    match manifests {
        [] => return Err(source.not_an_image("it holds no image")),
        [one] => return Ok(one),
        _ => {}
    }
    if let Some(wanted) = source.wanted
        && let Some(named) =
            manifests.iter().find(|descriptor| names_of(descriptor).iter().any(|name| name == wanted))
    {
        return Ok(named);
    }
    let mut names: Vec<String> =
        manifests.iter().filter_map(|descriptor| names_of(descriptor).into_iter().next()).collect();
    names.dedup();
    if names.len() > 1 {
        return Err(Error::SeveralImages { path: source.path.to_owned(), names });
    }
    let wanted = host_platform();
    choose(manifests, &wanted).ok_or_else(|| no_such_platform(source.path, wanted, manifests))
}

pub(crate) fn parse<T: serde::de::DeserializeOwned>(bytes: &[u8], document: &str) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|source| Error::Json { document: document.to_owned(), source })
}

fn read_manifest<'a>(
    import: &Import<'_>,
    source: &Source<'_>,
    blobs: &Blobs,
    manifest: Vec<u8>,
    names: Vec<String>,
) -> Result<Found<'a>> {
    let read: ImageManifest = parse(&manifest, &format!("manifest {}", Digest::of(&manifest)))?;
    let config = blobs.described(import, source, "config", read.config())?;
    let mut layers = Vec::new();
    for descriptor in read.layers() {
        let digest = digest_of(descriptor, "manifest")?;
        let label = digest.to_string();
        check_layer_type(descriptor.media_type())
            .map_err(|reason| Error::Layer { layer: label.clone(), reason })?;
        let (bytes, actual) = blobs.open(source, &format!("blobs/sha256/{}", digest.hex()))?;
        let expected = descriptor.size();
        if actual != expected && expected <= import.store.limits().compressed {
            return Err(Error::Size { subject: format!("layer {label}"), expected, actual });
        }
        layers.push(LayerSource {
            label,
            digest: Some(digest),
            size: Some(descriptor.size()),
            open: Box::new(move || Ok(bytes)),
        });
    }
    Ok(Found { names, manifest: Some(manifest), config, layers: Some(layers) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor(platform: &str) -> Descriptor {
        let mut parts = platform.split('/');
        let mut said = serde_json::json!({"os": parts.next(), "architecture": parts.next()});
        if let Some(variant) = parts.next() {
            said["variant"] = variant.into();
        }
        serde_json::from_value(serde_json::json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": Digest::of(platform.as_bytes()), "size": 1, "platform": said,
        }))
        .unwrap()
    }

    #[test]
    fn i2_the_right_platform_is_chosen() {
        let table: &[(&[&str], &str, Option<&str>)] = &[
            (&["linux/arm64", "linux/amd64"], "linux/amd64", Some("linux/amd64")),
            (&["windows/amd64", "linux/arm64"], "linux/amd64", None),
            (&["linux/arm/v5", "linux/arm/v7", "linux/arm/v6"], "linux/arm/v6", Some("linux/arm/v6")),
            (&["linux/arm/v5", "linux/arm/v6"], "linux/arm/v7", Some("linux/arm/v6")),
            (&["linux/arm/v7"], "linux/arm/v6", None),
            (&["linux/arm64/v8"], "linux/arm64", Some("linux/arm64/v8")),
            (&["linux/amd64/v3", "linux/amd64"], "linux/amd64", Some("linux/amd64")),
            (&["linux/amd64/v3"], "linux/amd64", None),
            (&["linux/amd64", "linux/amd64/v2"], "linux/amd64/v3", Some("linux/amd64")),
        ];
        for (available, wanted, expected) in table {
            let candidates: Vec<_> = available.iter().map(|platform| descriptor(platform)).collect();
            let chosen = choose(&candidates, wanted).and_then(platform_of);
            assert_eq!(chosen.as_deref(), *expected, "{wanted} of {available:?}");
        }
    }
}
