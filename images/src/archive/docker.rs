//! docker-archive: what `docker save` wrote before it wrote OCI layouts, and podman and skopeo still do.

use std::io::Read as _;

use serde::Deserialize;

use super::index::Members;
use super::{Found, Import, LayerSource, Source};
use crate::{Digest, Error, Result};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

pub(super) fn find<'a>(import: &Import<'_>, source: &Source<'_>, members: &Members) -> Result<Found<'a>> {
    let document = |name: &str| -> Result<Vec<u8>> {
        let (mut bytes, size) =
            members.open(name).ok_or_else(|| source.not_an_image(format!("{name} is missing")))?;
        let most = import.store.limits().document;
        if size > most {
            return Err(Error::Document {
                document: name.to_owned(),
                reason: format!("it has {size} bytes, over the limit of {most}"),
            });
        }
        let mut read = Vec::new();
        bytes
            .read_to_end(&mut read)
            .map_err(|error| Error::Read { subject: format!("{name} in {}", source.path), source: error })?;
        Ok(read)
    };
    let manifest = document("manifest.json")?;
    let items: Vec<Item> = serde_json::from_slice(&manifest)
        .map_err(|error| Error::Json { document: "manifest.json".to_owned(), source: error })?;
    let tags = |item: &Item| item.repo_tags.clone().unwrap_or_default();
    let chosen = match (items.len(), source.wanted) {
        (0, _) => return Err(source.not_an_image("it holds no image")),
        (1, _) => 0,
        (_, wanted) => {
            let fits = |item: &Item| wanted.is_some_and(|wanted| tags(item).iter().any(|tag| tag == wanted));
            items.iter().position(fits).ok_or_else(|| Error::SeveralImages {
                path: source.path.to_owned(),
                names: items.iter().flat_map(tags).collect(),
            })?
        }
    };
    let item = &items[chosen];
    let config = document(&item.config)?;
    // Named by its digest: `<hex>.json`, or `blobs/sha256/<hex>`. Where it says one, it must be right.
    let named = item.config.rsplit('/').next().unwrap_or("");
    if let Some(expected) = Digest::from_hex(named.strip_suffix(".json").unwrap_or(named)) {
        let actual = Digest::of(&config);
        if actual != expected {
            return Err(Error::Digest { subject: format!("config {}", item.config), expected, actual });
        }
    }
    let mut layers = Vec::new();
    for name in item.layers.iter().flatten() {
        let (bytes, size) =
            members.open(name).ok_or_else(|| source.not_an_image(format!("layer {name} is missing")))?;
        layers.push(LayerSource {
            label: name.clone(),
            digest: None,
            size: Some(size),
            open: Box::new(move || Ok(Box::new(bytes))),
        });
    }
    Ok(Found { names: tags(item), manifest: None, config, layers: Some(layers) })
}
