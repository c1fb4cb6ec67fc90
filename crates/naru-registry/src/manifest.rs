//! What a manifest says, read once when it is pushed. Its bytes are kept as they came.

use crate::name::Digest;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// Largest manifest, in bytes: what the specification wants a registry to take at least, and others at most.
pub const MANIFEST_BYTES_MAX: usize = 4 << 20;
/// Descriptors in one manifest; image formats stay below 200 layers, indexes below a few hundred platforms.
const DESCRIPTORS_MAX: usize = 10_000;

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// A part that must be in the repository before the manifest.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub digest: Digest,
    pub size: u64,
    pub is_manifest: bool,
}

#[derive(Debug)]
pub(crate) struct Manifest {
    pub media_type: String,
    pub parts: Vec<Part>,
    pub subject: Option<Digest>,
    pub artifact_type: Option<String>,
    pub annotations: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    schema_version: u64,
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    subject: Option<Descriptor>,
    annotations: Option<BTreeMap<String, String>>,
    /// Docker's schema 1, which has these instead.
    #[serde(rename = "fsLayers")]
    fs_layers: Option<Value>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: Option<String>,
    digest: String,
    size: u64,
}

/// Err: a sentence for the client.
pub(crate) fn parse(bytes: &[u8], content_type: Option<&str>) -> Result<Manifest, String> {
    let document: Document =
        serde_json::from_slice(bytes).map_err(|error| format!("not a manifest: {error}"))?;
    if document.schema_version != 2 || document.fs_layers.is_some() {
        return Err("schemaVersion must be 2 (Docker's schema 1 is not supported)".into());
    }
    let media_type = media_type(&document, content_type)?;
    let is_index = matches!(media_type.as_str(), OCI_INDEX | DOCKER_LIST);
    // CVE-2021-41190: one that is both would be read differently by different clients.
    if is_index && (document.config.is_some() || document.layers.is_some()) {
        return Err("an index has no config and no layers".into());
    }
    if !is_index && document.manifests.is_some() {
        return Err("an image manifest has no manifests".into());
    }
    let mut parts = Vec::new();
    let children = document.manifests.iter().flatten().map(|child| (child, true));
    let layers = document.layers.iter().flatten().filter(|layer| !layer.is_foreign());
    let config = document.config.as_ref();
    if !is_index && config.is_none() {
        return Err("an image manifest needs a config".into());
    }
    for (descriptor, is_manifest) in children.chain(config.into_iter().chain(layers).map(|d| (d, false))) {
        if parts.len() == DESCRIPTORS_MAX {
            return Err(format!("more than {DESCRIPTORS_MAX} descriptors"));
        }
        parts.push(Part { digest: descriptor.digest()?, size: descriptor.size, is_manifest });
    }
    let subject = document.subject.as_ref().map(Descriptor::digest).transpose()?;
    // "Listing Referrers": without an artifactType, the config's media type stands for it.
    let config_type = config.and_then(|config| config.media_type.clone());
    let artifact_type = document.artifact_type.filter(|text| !text.is_empty()).or(config_type);
    Ok(Manifest { media_type, parts, subject, artifact_type, annotations: document.annotations })
}

impl Descriptor {
    fn digest(&self) -> Result<Digest, String> {
        Digest::parse(&self.digest).ok_or_else(|| format!("invalid digest {:?}", self.digest))
    }

    /// Layers that may not be distributed are not pushed (image-spec, "Non-Distributable Layers").
    fn is_foreign(&self) -> bool {
        self.media_type.as_deref().is_some_and(|media_type| {
            media_type.starts_with("application/vnd.oci.image.layer.nondistributable.")
                || media_type.starts_with("application/vnd.docker.image.rootfs.foreign.")
        })
    }
}

fn media_type(document: &Document, content_type: Option<&str>) -> Result<String, String> {
    let sent = content_type.map(|text| text.split(';').next().unwrap_or(text).trim());
    let sent = sent.filter(|text| !text.is_empty());
    let own = document.media_type.as_deref();
    let media_type = match (sent, own) {
        (Some(sent), Some(own)) if sent != own => {
            return Err(format!("sent as {sent:?}, but its mediaType is {own:?}"));
        }
        (Some(found), _) | (None, Some(found)) => found,
        (None, None) => return Err("neither a Content-Type nor a mediaType".into()),
    };
    if matches!(media_type, OCI_MANIFEST | OCI_INDEX | DOCKER_MANIFEST | DOCKER_LIST) {
        return Ok(media_type.to_owned());
    }
    Err(format!("manifests of the type {media_type:?} are not supported"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn refusal(text: &str, content_type: Option<&str>) -> String {
        parse(text.replace("EMPTY", EMPTY).as_bytes(), content_type).unwrap_err()
    }

    #[test]
    fn refuses_what_clients_could_read_in_two_ways() {
        let cases = [
            ("[]", None, "not a manifest"),
            (r#"{"schemaVersion":1,"fsLayers":[]}"#, None, "schemaVersion"),
            (r#"{"schemaVersion":2}"#, None, "neither"),
            (r#"{"schemaVersion":2}"#, Some("text/html"), "not supported"),
            (r#"{"schemaVersion":2}"#, Some(OCI_MANIFEST), "needs a config"),
            (r#"{"schemaVersion":2,"layers":[]}"#, Some(OCI_INDEX), "no layers"),
            (r#"{"schemaVersion":2,"manifests":[]}"#, Some(OCI_MANIFEST), "no manifests"),
            (r#"{"schemaVersion":2,"mediaType":"a"}"#, Some(OCI_INDEX), "its mediaType"),
            (
                r#"{"schemaVersion":2,"config":{"digest":"sha256:../x","size":1}}"#,
                Some(OCI_MANIFEST),
                "invalid digest",
            ),
            (
                r#"{"schemaVersion":2,"config":{"digest":"EMPTY","size":-1}}"#,
                Some(OCI_MANIFEST),
                "not a manifest",
            ),
        ];
        for (text, content_type, expected) in cases {
            let said = refusal(text, content_type);
            assert!(said.contains(expected), "{text}: {said}");
        }
    }

    #[test]
    fn parts_subject_and_artifact_type() {
        let text = r#"{"schemaVersion":2,"config":{"mediaType":"a/b","digest":"EMPTY","size":0},
            "layers":[{"mediaType":"application/vnd.oci.image.layer.nondistributable.v1.tar","digest":"EMPTY","size":7}],
            "subject":{"mediaType":"x","digest":"EMPTY","size":3}}"#;
        let manifest = parse(text.replace("EMPTY", EMPTY).as_bytes(), Some(OCI_MANIFEST)).unwrap();
        let digest = Digest::parse(EMPTY).unwrap();
        assert_eq!(manifest.parts, [Part { digest: digest.clone(), size: 0, is_manifest: false }]);
        assert_eq!(manifest.subject, Some(digest));
        assert_eq!(manifest.artifact_type.as_deref(), Some("a/b"));
    }
}
