//! Push: only what the registry lacks travels.
//!
//! Per layer, cheapest first: a compressed form that the repository is known or found to hold (HEAD); one
//! that another repository of the registry holds (mount); else the exact archive is written again,
//! compressed into staging and uploaded. The compression writes no time and no name, so the same layer
//! gives the same blob. When all of the manifest's own blobs are there, the manifest that was pulled is
//! pushed as it is and the digest stays.

mod upload;

use crate::blob::sha256;
use crate::build::tag_name;
use crate::error::{ImageError, Result};
use crate::index::{BlobRecord, ImageRecord};
use crate::progress::{LayerStep, Progress, ProgressFn, delayed};
use crate::registry::auth::Credentials;
use crate::registry::client::{Caller, Scope, Session};
use crate::registry::endpoint;
use crate::registry::manifest::{self, Descriptor, Document, Manifest};
use crate::registry::patience::Delay;
use crate::registry::upload::{push_bytes, put_manifest};
use crate::store::Store;
use naru_types::{Digest, ImageRef};
use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

pub struct PushOptions<'a> {
    pub credentials: Credentials,
    pub progress: &'a ProgressFn<'a>,
    /// Set by the caller to stop.
    pub cancel: &'a AtomicBool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PushedImage {
    pub digest: Digest,
    /// Of the manifest, in bytes.
    pub size: u64,
}

impl Store {
    /// Pushes one tag (`latest` when none is written).
    pub fn push(&self, reference: &ImageRef, options: &PushOptions<'_>) -> naru_types::Result<PushedImage> {
        let reference = reference.with_default_tag();
        tag_name(&reference)?;
        let Some(id) = self.find(&reference) else {
            let what =
                format!("An image does not exist locally with the tag: {}", reference.familiar_repository());
            return Err(naru_types::Error::not_found(what));
        };
        // Before a registry can refuse, as in dockerd: the refusal then comes within the stream. As the
        // answer's status, a 401 would make the docker CLI ask for a password.
        (options.progress)(Progress::PushRefersTo { repository: reference.repository() });
        let on_delay = |delay: Delay| (options.progress)(delayed(reference.domain(), delay));
        let mut last = None;
        let endpoints = endpoint::endpoints(&reference, &self.inner.config)?;
        for endpoint in endpoints.into_iter().filter(|endpoint| endpoint.capabilities.push) {
            let session = Session::open(
                &self.inner.agents,
                &endpoint,
                &reference,
                &Scope::PUSH,
                &options.credentials,
                Caller { cancel: options.cancel, on_delay: &on_delay },
            );
            match session {
                Ok(session) => return Ok(self.push_to(&session, &reference, &id, options)?),
                Err(error) if endpoint.has_spoken(&error) => return Err(error.into()),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or(ImageError::BadRegistry { address: reference.domain().to_owned() }).into())
    }

    fn push_to(
        &self,
        session: &Session<'_>,
        reference: &ImageRef,
        id: &Digest,
        options: &PushOptions<'_>,
    ) -> Result<PushedImage> {
        let tell = options.progress;
        let index = self.index();
        let record = index.images.get(id).ok_or_else(|| ImageError::NoSuchImage { name: id.to_string() })?;
        let lease = self.lease();
        for layer in &record.layers {
            lease.hold_inner(layer)?;
            tell(Progress::layer(&layer.short(), LayerStep::Preparing));
        }
        let original = record.manifest.as_ref().and_then(|manifest| {
            let bytes = self.read_blob(&manifest.digest).ok()?;
            match manifest::parse(&bytes, Some(&manifest.media_type), "") {
                Ok(Document::Image(parsed)) => Some((bytes, parsed)),
                _ => None,
            }
        });
        let is_oci =
            record.manifest.as_ref().is_some_and(|manifest| manifest.media_type == manifest::OCI_MANIFEST);
        let (layers, pushed) = self.push_layers(
            session,
            reference,
            record,
            original.as_ref().map(|(_, manifest)| manifest),
            tell,
        )?;
        let layers: Vec<Descriptor> = layers.iter().map(|blob| describe(blob, is_oci)).collect();
        let config = self.read_blob(id)?;
        push_bytes(session, id, &config)?;
        let (bytes, media_type) = match original {
            Some((bytes, manifest)) if same_blobs(&manifest.layers, &layers) => (bytes, manifest.media_type),
            _ => new_manifest(is_oci, *id, config.len() as u64, layers)?,
        };
        put_manifest(session, reference.tag().unwrap_or_default(), &bytes, &media_type)?;
        let manifest_digest = sha256(&bytes);
        self.transact(|index| {
            for (layer, blob) in &pushed {
                index.add_blob(layer, blob);
            }
            if index.images.contains_key(id) {
                index.digests.insert(format!("{}@{manifest_digest}", reference.repository()), *id);
            }
            Ok(())
        })?;
        let size = bytes.len() as u64;
        let tag = reference.tag().unwrap_or_default().to_owned();
        tell(Progress::Pushed { tag, digest: manifest_digest, size });
        Ok(PushedImage { digest: manifest_digest, size })
    }

    /// Each layer's blob in the order of the image, and by layer.
    fn push_layers(
        &self,
        session: &Session<'_>,
        reference: &ImageRef,
        record: &ImageRecord,
        original: Option<&Manifest>,
        tell: &ProgressFn<'_>,
    ) -> Result<(Vec<BlobRecord>, BTreeMap<Digest, BlobRecord>)> {
        let mut layers = Vec::with_capacity(record.layers.len());
        let mut pushed: BTreeMap<Digest, BlobRecord> = BTreeMap::new();
        for (position, layer) in record.layers.iter().enumerate() {
            let blob = if let Some(blob) = pushed.get(layer) {
                blob.clone()
            } else {
                // The form that the original manifest names is tried before any other.
                let preferred = original.and_then(|manifest| manifest.layers.get(position)).map(|d| d.digest);
                self.push_layer(session, reference, layer, preferred, tell)?
            };
            pushed.insert(*layer, blob.clone());
            layers.push(blob);
        }
        Ok((layers, pushed))
    }
}

fn describe(blob: &BlobRecord, is_oci: bool) -> Descriptor {
    // Docker's manifests know gzip only; the two names of gzip are exchanged, anything else stays.
    let is_gzip = matches!(blob.media_type.as_str(), manifest::DOCKER_LAYER | manifest::OCI_LAYER_GZIP);
    let media_type = match (is_gzip, is_oci) {
        (true, true) => manifest::OCI_LAYER_GZIP,
        (true, false) => manifest::DOCKER_LAYER,
        (false, _) => &blob.media_type,
    };
    Descriptor::new(media_type, blob.digest, blob.size)
}

fn same_blobs(one: &[Descriptor], other: &[Descriptor]) -> bool {
    one.len() == other.len() && one.iter().zip(other).all(|(one, other)| one.digest == other.digest)
}

fn new_manifest(is_oci: bool, id: Digest, size: u64, layers: Vec<Descriptor>) -> Result<(Vec<u8>, String)> {
    // zstd or plain layers have no place in Docker's schema 2.
    let is_oci = is_oci || layers.iter().any(|layer| layer.media_type != manifest::DOCKER_LAYER);
    let (media_type, config_type) = if is_oci {
        (manifest::OCI_MANIFEST, manifest::OCI_CONFIG)
    } else {
        (manifest::DOCKER_MANIFEST, manifest::DOCKER_CONFIG)
    };
    let manifest = Manifest {
        schema_version: 2,
        media_type: media_type.to_owned(),
        config: Descriptor::new(config_type, id, size),
        layers,
    };
    let bytes = serde_json::to_vec_pretty(&manifest)
        .map_err(|source| ImageError::Malformed { what: "the manifest".into(), source })?;
    Ok((bytes, media_type.to_owned()))
}
