//! Copy: from a repository into another one, of the same registry or not, with nothing unpacked and nothing on the disk.
//!
//! Manifests go byte for byte, so every digest stays, and what they name goes before them. What the target repository
//! has is left alone: of a manifest that is there, all that it names is there too. Blobs are [`blobs`]'s work.

mod blobs;

use crate::build::tag_name;
use crate::error::{ImageError, Result};
use crate::progress::{LayerStep, Progress, ProgressFn, delayed};
use crate::registry::auth::Credentials;
use crate::registry::client::{Caller, Scope, Session};
use crate::registry::endpoint;
use crate::registry::manifest::{self, Document};
use crate::registry::patience::{Delay, DelayFn};
use crate::registry::referrers;
use crate::registry::upload::{has_manifest, put_manifest};
use crate::remote::{Asking, RemoteManifest, Served, fetch_manifest, platform_of, wanted};
use crate::store::Store;
use blobs::Blobs;
use naru_types::platform::Platform;
use naru_types::{Digest, ImageRef};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Lists in lists, at most.
const LIST_DEPTH_MAX: usize = 4;
/// Referrers of referrers (the signature of an SBOM), at most.
const REFERRER_DEPTH_MAX: usize = 4;

pub struct CopyOptions<'a> {
    /// For the registry that is read.
    pub from: Credentials,
    /// For the registry that is written.
    pub to: Credentials,
    /// Only this platform of a list: the new name then points to its manifest. `None`: all of the list.
    pub platform: Option<Platform>,
    /// What refers to the copied manifests (signatures, SBOMs, attestations) goes with them.
    pub referrers: bool,
    pub progress: &'a ProgressFn<'a>,
    /// Set by the caller to stop.
    pub cancel: &'a AtomicBool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopiedImage {
    /// Of the manifest or list that the new name points to.
    pub digest: Digest,
    /// Of the same, in bytes.
    pub size: u64,
    /// Manifests and lists that the target lacked, those of referrers among them.
    pub manifests: u64,
    /// Blobs that went through here, and their bytes.
    pub streamed: u64,
    pub streamed_bytes: u64,
    /// Blobs that the registry took over from its other repository.
    pub mounted: u64,
    /// Blobs that the target had. Those of a manifest that it had are not counted.
    pub present: u64,
}

impl Store {
    /// Copies what `from` points to (`latest` when neither tag nor digest is written), and names it `to`.
    pub fn copy(
        &self,
        from: &ImageRef,
        to: &ImageRef,
        options: &CopyOptions<'_>,
    ) -> naru_types::Result<CopiedImage> {
        Ok(self.copy_inner(&from.with_default_tag(), &to.with_default_tag(), options)?)
    }

    fn copy_inner(&self, from: &ImageRef, to: &ImageRef, options: &CopyOptions<'_>) -> Result<CopiedImage> {
        tag_name(to)?;
        let from_delay = |delay: Delay| (options.progress)(delayed(from.domain(), delay));
        let to_delay = |delay: Delay| (options.progress)(delayed(to.domain(), delay));
        let target = self.open_target(from, to, options, &to_delay)?;
        let mut endpoints = endpoint::endpoints(from, &self.inner.config)?;
        let is_by_tag = from.digest().is_none();
        endpoints.retain(|one| one.capabilities.pull && (one.capabilities.resolve || !is_by_tag));
        let caller = Caller { cancel: options.cancel, on_delay: &from_delay };
        let asking = Asking { reference: from, credentials: &options.from, caller };
        self.ask(&endpoints, &asking, |source| {
            let is_one_registry = from.domain() == to.domain() && from.path() != to.path();
            let mount_from = is_one_registry.then(|| from.path());
            let blobs = Blobs::new(source, &target, mount_from, options.progress);
            Copying { source, target: &target, from, to, options, blobs, manifests: AtomicU64::new(0) }.run()
        })
    }

    fn open_target<'a>(
        &self,
        from: &ImageRef,
        to: &ImageRef,
        options: &CopyOptions<'a>,
        on_delay: &'a DelayFn<'a>,
    ) -> Result<Session<'a>> {
        let is_one_registry = from.domain() == to.domain();
        let scope = if is_one_registry { Scope::push_and_mount(from.path()) } else { Scope::PUSH };
        let endpoints = endpoint::endpoints(to, &self.inner.config)?;
        let mut last = None;
        for endpoint in endpoints.into_iter().filter(|endpoint| endpoint.capabilities.push) {
            let caller = Caller { cancel: options.cancel, on_delay };
            match Session::open(&self.inner.agents, &endpoint, to, &scope, &options.to, caller) {
                Ok(session) => return Ok(session),
                Err(error) if endpoint.has_spoken(&error) => return Err(error),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or(ImageError::BadRegistry { address: to.domain().to_owned() }))
    }
}

struct Copying<'a> {
    source: &'a Session<'a>,
    target: &'a Session<'a>,
    from: &'a ImageRef,
    to: &'a ImageRef,
    options: &'a CopyOptions<'a>,
    blobs: Blobs<'a>,
    manifests: AtomicU64,
}

impl Copying<'_> {
    fn run(&self) -> Result<CopiedImage> {
        let root = self.of_platform(fetch_manifest(self.source, self.from, &wanted(self.from))?)?;
        let mut subjects = vec![root.digest];
        if let Document::List(list) = &root.document {
            subjects.extend(list.manifests.iter().map(|one| one.digest));
        }
        let tag = self.to.tag().unwrap_or_default();
        if has_manifest(self.target, &root.digest)? {
            self.tell(&root.digest, LayerStep::ManifestAlreadyExists);
        } else {
            self.contents(&root.document, 0)?;
            self.manifests.fetch_add(1, Ordering::Relaxed);
        }
        let RemoteManifest { digest, media_type, bytes } = root.into();
        put_manifest(self.target, tag, &bytes, &media_type)?;
        if self.options.referrers {
            subjects.iter().try_for_each(|subject| self.referrers(subject, 0))?;
        }
        let size = bytes.len() as u64;
        (self.options.progress)(Progress::Pushed { tag: tag.to_owned(), digest, size });
        Ok(self.blobs.count(digest, size, self.manifests.load(Ordering::Relaxed)))
    }

    /// The one manifest of the platform that is wanted.
    fn of_platform(&self, served: Served) -> Result<Served> {
        let Some(wanted) = &self.options.platform else { return Ok(served) };
        let served = match &served.document {
            Document::Image(_) => served,
            Document::List(list) => {
                let chosen = manifest::choose(list, wanted)?.digest.to_string();
                fetch_manifest(self.source, self.from, &chosen)?
            }
        };
        let Document::Image(image) = &served.document else {
            return Err(ImageError::BadArchive {
                what: format!("the manifest list of {} holds another list", self.from.familiar()),
            });
        };
        match platform_of(self.source, &image.config) {
            Some(actual) if !actual.runs_on(wanted) => Err(ImageError::WrongPlatform {
                name: self.from.familiar(),
                wanted: wanted.to_string(),
                actual: actual.to_string(),
            }),
            _ => Ok(served),
        }
    }

    /// What a manifest names has to be there before it (distribution-spec, "Pushing Manifests").
    fn contents(&self, document: &Document, depth: usize) -> Result<()> {
        match document {
            Document::Image(image) => self.blobs.bring(image),
            Document::List(_) if depth == LIST_DEPTH_MAX => Err(ImageError::BadArchive {
                what: format!("too many lists in lists in {}", self.from.familiar()),
            }),
            Document::List(list) => list.manifests.iter().try_for_each(|one| {
                if has_manifest(self.target, &one.digest)? {
                    self.tell(&one.digest, LayerStep::ManifestAlreadyExists);
                    return Ok(());
                }
                self.by_digest(&one.digest, depth + 1).map(drop)
            }),
        }
    }

    /// Brings a manifest that gets no name; says whether the registry has noted its subject.
    fn by_digest(&self, digest: &Digest, depth: usize) -> Result<bool> {
        let name = digest.to_string();
        let served = fetch_manifest(self.source, self.from, &name)?;
        self.contents(&served.document, depth)?;
        let RemoteManifest { media_type, bytes, .. } = served.into();
        let is_noted = put_manifest(self.target, &name, &bytes, &media_type)?;
        self.manifests.fetch_add(1, Ordering::Relaxed);
        self.tell(digest, LayerStep::ManifestCopied);
        Ok(is_noted)
    }

    fn referrers(&self, subject: &Digest, depth: usize) -> Result<()> {
        let found = referrers::list(self.source, self.from, subject)?;
        if found.is_empty() {
            return Ok(());
        }
        if depth == REFERRER_DEPTH_MAX {
            return Err(ImageError::BadArchive {
                what: format!("too many referrers of referrers of {}", self.from.familiar()),
            });
        }
        let known = referrers::list(self.target, self.to, subject)?;
        for referrer in &found {
            if !known.iter().any(|known| known.digest == referrer.digest)
                && !self.by_digest(&referrer.digest, 0)?
            {
                referrers::add_to_fallback(self.target, self.to, subject, referrer)?;
            }
            self.referrers(&referrer.digest, depth + 1)?;
        }
        Ok(())
    }

    fn tell(&self, digest: &Digest, step: LayerStep) {
        (self.options.progress)(Progress::layer(&digest.short(), step));
    }
}
