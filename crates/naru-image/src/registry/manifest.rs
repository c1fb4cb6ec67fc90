//! Manifests and manifest lists: OCI image-spec and Docker's schema 2.

use crate::error::{ImageError, Result};
use naru_types::Digest;
use naru_types::platform::Platform;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub const OCI_LAYER_TAR: &str = "application/vnd.oci.image.layer.v1.tar";
pub const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const SCHEMA_1_PREFIX: &str = "application/vnd.docker.distribution.manifest.v1";

/// What is asked for, all in one header.
pub const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json";
/// Most layers of one image; overlayfs takes 500 lower directories.
const LAYERS_MAX: usize = 500;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    #[serde(default)]
    pub media_type: String,
    pub size: u64,
    pub digest: Digest,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// What an artifact is, in lists of referrers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
}

impl Descriptor {
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        let (platform, annotations, artifact_type) = (None, BTreeMap::new(), None);
        Self { media_type: media_type.to_owned(), size, digest, platform, annotations, artifact_type }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    pub schema_version: u32,
    pub media_type: String,
    pub config: Descriptor,
    pub layers: Vec<Descriptor>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct List {
    pub schema_version: u32,
    pub media_type: String,
    pub manifests: Vec<Descriptor>,
}

pub enum Document {
    Image(Manifest),
    List(List),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Anything {
    #[serde(default)]
    schema_version: u32,
    #[serde(default)]
    media_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    #[serde(rename = "fsLayers")]
    fs_layers: Option<serde_json::Value>,
}

/// Reads a manifest of any kind. A document that can be read as two kinds is refused (CVE-2021-41190).
pub fn parse(bytes: &[u8], content_type: Option<&str>, name: &str) -> Result<Document> {
    let what = || format!("the manifest of {name}");
    let document: Anything =
        serde_json::from_slice(bytes).map_err(|source| ImageError::Malformed { what: what(), source })?;
    let media_type = document.media_type.as_deref().or(content_type).unwrap_or_default().to_owned();
    if document.schema_version == 1 || document.fs_layers.is_some() || media_type.starts_with(SCHEMA_1_PREFIX)
    {
        return Err(ImageError::Unsupported {
            what: format!("{name} has an image manifest of schema 1, which was retired in 2019"),
            hint: "pull it with a Docker before 28.2 and push it again",
        });
    }
    let schema_version = document.schema_version;
    match (document.manifests, document.config, document.layers) {
        (Some(manifests), None, None) => {
            let media_type = if media_type == DOCKER_LIST { DOCKER_LIST } else { OCI_INDEX }.to_owned();
            Ok(Document::List(List { schema_version, media_type, manifests }))
        }
        (None, Some(config), Some(layers)) if layers.len() <= LAYERS_MAX => {
            let media_type =
                if media_type == DOCKER_MANIFEST { DOCKER_MANIFEST } else { OCI_MANIFEST }.to_owned();
            Ok(Document::Image(Manifest { schema_version, media_type, config, layers }))
        }
        _ => Err(ImageError::BadArchive { what: format!("{} is neither an image nor a list", what()) }),
    }
}

/// The entry of a list that fits `wanted`: the same variant before any other.
pub fn choose<'a>(list: &'a List, wanted: &Platform) -> Result<&'a Descriptor> {
    let fits = |descriptor: &&Descriptor| {
        descriptor.platform.as_ref().is_some_and(|platform| platform.runs_on(wanted))
    };
    let is_exact = |descriptor: &&Descriptor| {
        descriptor.platform.as_ref().is_some_and(|platform| platform.variant == wanted.variant)
    };
    let mut fitting = list.manifests.iter().filter(fits);
    let exact = fitting.clone().find(is_exact);
    // An index made from a single image (skopeo, umoci) often names no platform: the configuration will.
    let unnamed = || list.manifests.iter().find(|descriptor| descriptor.platform.is_none());
    exact
        .or_else(|| fitting.next())
        .or_else(unnamed)
        .ok_or_else(|| ImageError::NoPlatform { platform: wanted.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds() {
        let digest = format!("sha256:{}", "0".repeat(64));
        let descriptor = format!(r#"{{"mediaType":"x","size":1,"digest":"{digest}"}}"#);
        let image = format!(r#"{{"schemaVersion":2,"config":{descriptor},"layers":[]}}"#);
        assert!(matches!(parse(image.as_bytes(), None, "a"), Ok(Document::Image(_))));
        let both = format!(r#"{{"schemaVersion":2,"config":{descriptor},"layers":[],"manifests":[]}}"#);
        assert!(matches!(parse(both.as_bytes(), None, "a"), Err(ImageError::BadArchive { .. })));
        let old = r#"{"schemaVersion":1,"fsLayers":[]}"#;
        assert!(matches!(parse(old.as_bytes(), None, "a"), Err(ImageError::Unsupported { .. })));
    }
}
