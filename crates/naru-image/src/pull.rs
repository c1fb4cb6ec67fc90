//! Pull: from a name to an image in the store, each layer in one pass.
//!
//! A layer's bytes go through download → sha256 → decompress → sha256 → unpack without touching the disk
//! in between; both digests are checked before anything becomes visible. All layers are synced with one
//! syncfs, then layers, image and name enter the index together: a pull that fails leaves nothing.

mod layers;

use crate::build::NewImage;
use crate::error::{ImageError, Result};
use crate::flight::{Pilot, Watch};
use crate::index::ManifestRecord;
use crate::layer::Staged;
use crate::progress::{Progress, ProgressFn, delayed};
use crate::query::{Image, parse_config};
use crate::registry::auth::Credentials;
use crate::registry::client::{Caller, Session};
use crate::registry::endpoint::{self, Endpoint};
use crate::registry::manifest::{self, Descriptor, Document, Manifest};
use crate::registry::patience::Delay;
use crate::remote::{Asking, Served, fetch_blob, fetch_manifest};
use crate::store::Store;
use naru_types::image::ImageConfig;
use naru_types::platform::Platform;
use naru_types::{Digest, ImageRef};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

pub struct PullOptions<'a> {
    pub credentials: Credentials,
    /// `None`: the store's.
    pub platform: Option<Platform>,
    pub progress: &'a ProgressFn<'a>,
    /// Set by the caller to stop; looked at between reads, so a silent registry delays it up to its time-out.
    pub cancel: &'a AtomicBool,
}

#[derive(Clone, Debug)]
pub struct PulledImage {
    pub image: Image,
    /// Of the manifest or the manifest list that the name points to.
    pub digest: Digest,
    /// `false`: the name pointed to this image before.
    pub is_new: bool,
}

/// An image's configuration, and the place at its download where there was one.
type Config<'a> = (Arc<Vec<u8>>, Option<Watch<'a, Vec<u8>>>);

/// All that has to be known before layers are fetched.
struct Resolved<'a> {
    digest: Digest,
    manifest: Manifest,
    manifest_bytes: Vec<u8>,
    manifest_digest: Digest,
    config: ImageConfig,
    config_bytes: Arc<Vec<u8>>,
    /// Other pulls find the configuration here until this one has committed it.
    _watch: Option<Watch<'a, Vec<u8>>>,
    id: Digest,
}

impl Store {
    /// Pulls by tag (`latest` when none is written) or by digest.
    pub fn pull(&self, reference: &ImageRef, options: &PullOptions<'_>) -> naru_types::Result<PulledImage> {
        let reference = reference.with_default_tag();
        let mut endpoints = endpoint::endpoints(&reference, &self.inner.config)?;
        let on_delay = |delay: Delay| (options.progress)(delayed(reference.domain(), delay));
        let caller = Caller { cancel: options.cancel, on_delay: &on_delay };
        let asking = Asking { reference: &reference, credentials: &options.credentials, caller };
        // Where a tag is not looked up, its digest is asked for: from those that may say it.
        let by_digest = endpoints.iter().any(|endpoint| !endpoint.capabilities.resolve);
        let digest = match reference.digest() {
            None if by_digest => Some(self.resolve_tag(&endpoints, &asking)?),
            digest => digest.copied(),
        };
        endpoints.retain(|endpoint| endpoint.capabilities.pull);
        let pulled = self.ask(&endpoints, &asking, |session| {
            let wanted = digest.filter(|_| !session.peer.endpoint.capabilities.resolve);
            self.pull_from(session, &reference, wanted, options)
        });
        Ok(pulled?)
    }

    /// What a tag means, by the first endpoint that may say and can.
    fn resolve_tag(&self, endpoints: &[Endpoint], asking: &Asking<'_>) -> Result<Digest> {
        let may = endpoints.iter().filter(|endpoint| endpoint.capabilities.resolve);
        let may: Vec<Endpoint> = may.cloned().collect();
        let tag = asking.reference.tag().unwrap_or_default();
        self.ask(&may, asking, |session| Ok(fetch_manifest(session, asking.reference, tag)?.digest))
    }

    /// `by_digest`: what the tag means, where this registry is not to say.
    fn pull_from(
        &self,
        session: &Session<'_>,
        reference: &ImageRef,
        by_digest: Option<Digest>,
        options: &PullOptions<'_>,
    ) -> Result<PulledImage> {
        let tell = options.progress;
        let shown = reference
            .digest()
            .map_or_else(|| reference.tag().unwrap_or_default().to_owned(), Digest::to_string);
        let wanted = by_digest.as_ref().map_or_else(|| shown.clone(), Digest::to_string);
        let served = fetch_manifest(session, reference, &wanted)?;
        tell(Progress::PullingFrom { tag: shown, repository: reference.path().to_owned() });
        let resolved = self.resolve_manifest(session, reference, served, options)?;
        let before = self.find(reference);
        let lease = self.lease();
        let fetched = self.fetch_layers(session, reference, &resolved, options, &lease)?;
        let staged: Vec<Arc<Staged>> = fetched.iter().map(|layer| Arc::clone(&layer.staged)).collect();
        if !staged.is_empty() {
            self.sync_content()?;
        }
        session.check_cancelled()?;
        self.record(reference, &resolved, &staged)?;
        let is_new = before != Some(resolved.id);
        tell(Progress::Digest(resolved.digest));
        let name = reference.familiar();
        tell(Progress::Status(if is_new {
            format!("Status: Downloaded newer image for {name}")
        } else {
            format!("Status: Image is up to date for {name}")
        }));
        let image = self.image(&self.index(), &resolved.id)?;
        Ok(PulledImage { image, digest: resolved.digest, is_new })
    }

    fn resolve_manifest(
        &self,
        session: &Session<'_>,
        reference: &ImageRef,
        served: Served,
        options: &PullOptions<'_>,
    ) -> Result<Resolved<'_>> {
        let platform = options.platform.as_ref();
        let wanted = platform.unwrap_or(&self.inner.config.platform);
        let digest = served.digest;
        let (manifest, manifest_bytes, manifest_digest) = match served.document {
            Document::Image(manifest) => (manifest, served.bytes, digest),
            Document::List(list) => {
                let chosen = manifest::choose(&list, wanted)?.digest;
                let served = fetch_manifest(session, reference, &chosen.to_string())?;
                let Document::Image(manifest) = served.document else {
                    return Err(ImageError::BadArchive {
                        what: format!("the manifest list of {} holds another list", reference.familiar()),
                    });
                };
                (manifest, served.bytes, chosen)
            }
        };
        let id = manifest.config.digest;
        let (config_bytes, watch) = self.fetch_config(session, &manifest.config, options.progress)?;
        let config = parse_config(&config_bytes, &id)?;
        let (layers, diff_ids) = (manifest.layers.len(), config.rootfs.diff_ids.len());
        if layers != diff_ids {
            return Err(ImageError::BadArchive {
                what: format!(
                    "{} has {layers} layers, but its configuration names {diff_ids}",
                    reference.familiar()
                ),
            });
        }
        let actual = Platform {
            architecture: config.architecture.clone(),
            os: config.os.clone(),
            os_version: None,
            variant: config.variant.clone(),
        };
        if platform.is_some_and(|platform| !actual.runs_on(platform)) {
            return Err(ImageError::WrongPlatform {
                name: reference.familiar(),
                wanted: wanted.to_string(),
                actual: actual.to_string(),
            });
        }
        Ok(Resolved {
            digest,
            manifest,
            manifest_bytes,
            manifest_digest,
            config,
            config_bytes,
            _watch: watch,
            id,
        })
    }

    /// An image's configuration: from the store, or fetched once for all the pulls that want it.
    fn fetch_config(
        &self,
        session: &Session<'_>,
        descriptor: &Descriptor,
        progress: &ProgressFn<'_>,
    ) -> Result<Config<'_>> {
        let is_listed = || self.index().images.contains_key(&descriptor.digest);
        let mut is_damaged = false;
        loop {
            if is_listed() && !is_damaged {
                match self.read_blob(&descriptor.digest) {
                    Ok(bytes) => return Ok((Arc::new(bytes), None)),
                    Err(_) => is_damaged = true,
                }
            }
            let (peer, wanted) = (Arc::clone(&session.peer), descriptor.clone());
            let work = move |pilot: &Pilot<Vec<u8>>| {
                let caller = Caller { cancel: pilot.stop(), on_delay: &|delay| pilot.tell(delay.into()) };
                fetch_blob(&Session::with(&peer, caller), &wanted)
            };
            let is_stored = || is_listed() && !is_damaged;
            let watch =
                self.inner.config_flights.board(descriptor.digest, &session.peer, &is_stored, work)?;
            let Some(watch) = watch else { continue };
            let tell = |step| progress(Progress::layer(&descriptor.digest.short(), step));
            let is_cancelled = || session.check_cancelled().is_err();
            if let Some(bytes) = watch.follow(&session.peer, &tell, &is_cancelled)? {
                return Ok((bytes, Some(watch)));
            }
        }
    }

    fn record(&self, reference: &ImageRef, resolved: &Resolved<'_>, staged: &[Arc<Staged>]) -> Result<()> {
        let tags: Vec<ImageRef> =
            if reference.digest().is_none() { vec![reference.clone()] } else { Vec::new() };
        let name = format!("{}@{}", reference.repository(), resolved.digest);
        let new = NewImage {
            config: &resolved.config_bytes,
            layers: &resolved.config.rootfs.diff_ids,
            staged,
            tags: &tags,
            parent: None,
            repo_digests: &[name],
            manifest: Some(ManifestRecord {
                digest: resolved.manifest_digest,
                media_type: resolved.manifest.media_type.clone(),
            }),
            blobs: &[&resolved.manifest_bytes],
        };
        self.insert_image(&new).map(drop)
    }
}
