//! What a registry holds, without taking it into the store: manifests, platforms, referrers.

use crate::blob::{BLOB_BYTES_MAX, sha256};
use crate::error::{ImageError, Result};
use crate::layer::flatten;
use crate::progress::{ProgressFn, delayed};
use crate::registry::answer::{error_of, read_limited, status_error};
use crate::registry::auth::Credentials;
use crate::registry::client::{Caller, Request, Scope, Session};
use crate::registry::download::Download;
use crate::registry::endpoint::{self, Endpoint};
use crate::registry::manifest::{self, ACCEPT, Descriptor, Document};
use crate::registry::patience::Delay;
use crate::registry::referrers;
use crate::store::Store;
use naru_types::platform::Platform;
use naru_types::{Digest, ImageRef};
use std::io::Read;
use std::sync::atomic::AtomicBool;
use ureq::http::{Method, StatusCode};

pub struct RemoteOptions<'a> {
    pub credentials: Credentials,
    /// Hears of waiting for a registry.
    pub progress: &'a ProgressFn<'a>,
    /// Set by the caller to stop.
    pub cancel: &'a AtomicBool,
}

/// A manifest or a list of manifests, byte for byte as a registry serves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteManifest {
    pub digest: Digest,
    pub media_type: String,
    pub bytes: Vec<u8>,
}

/// What something in a registry is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distribution {
    pub manifest: RemoteManifest,
    /// Those of a list, or the one of a single image's configuration.
    pub platforms: Vec<Platform>,
}

/// Something that names another manifest as its subject: a signature, an SBOM, an attestation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Referrer {
    pub digest: Digest,
    pub artifact_type: String,
    pub media_type: String,
    /// Of the manifest, in bytes.
    pub size: u64,
    pub annotations: std::collections::BTreeMap<String, String>,
}

/// Who asks for what.
pub(crate) struct Asking<'a> {
    pub reference: &'a ImageRef,
    pub credentials: &'a Credentials,
    pub caller: Caller<'a>,
}

/// A manifest as it was served.
pub(crate) struct Served {
    pub bytes: Vec<u8>,
    pub digest: Digest,
    pub document: Document,
}

impl Store {
    /// The manifest that a name points to.
    pub fn remote_manifest(
        &self,
        reference: &ImageRef,
        options: &RemoteOptions<'_>,
    ) -> naru_types::Result<RemoteManifest> {
        Ok(self.remotely(reference, options, |session, reference| {
            fetch_manifest(session, reference, &wanted(reference)).map(RemoteManifest::from)
        })?)
    }

    /// The manifest that a name points to, and the platforms it is for (`GET /distribution/{name}/json`).
    pub fn distribution(
        &self,
        reference: &ImageRef,
        options: &RemoteOptions<'_>,
    ) -> naru_types::Result<Distribution> {
        let found = self.remotely(reference, options, |session, reference| {
            let served = fetch_manifest(session, reference, &wanted(reference))?;
            let platforms = match &served.document {
                Document::List(list) => {
                    list.manifests.iter().filter_map(|one| one.platform.clone()).collect()
                }
                Document::Image(image) => platform_of(session, &image.config).into_iter().collect(),
            };
            Ok(Distribution { manifest: served.into(), platforms })
        });
        found.map_err(|error| match error {
            // Here dockerd passes on what the registry says; a pull puts the name before it.
            ImageError::ManifestUnknown { detail, .. } | ImageError::RepositoryUnknown { detail, .. } => {
                naru_types::Error::not_found(detail)
            }
            other => other.into(),
        })
    }

    /// What has the manifest that a name points to as its subject, and that manifest's digest.
    pub fn referrers(
        &self,
        reference: &ImageRef,
        options: &RemoteOptions<'_>,
    ) -> naru_types::Result<(Digest, Vec<Referrer>)> {
        Ok(self.remotely(reference, options, |session, reference| {
            let subject = match reference.digest() {
                Some(digest) => *digest,
                None => fetch_manifest(session, reference, &wanted(reference))?.digest,
            };
            let found = referrers::list(session, reference, &subject)?;
            Ok((subject, found.into_iter().map(Referrer::from).collect()))
        })?)
    }

    fn remotely<T>(
        &self,
        reference: &ImageRef,
        options: &RemoteOptions<'_>,
        work: impl Fn(&Session<'_>, &ImageRef) -> Result<T>,
    ) -> Result<T> {
        let reference = reference.with_default_tag();
        let mut endpoints = endpoint::endpoints(&reference, &self.inner.config)?;
        endpoints.retain(|endpoint| endpoint.capabilities.resolve);
        let on_delay = |delay: Delay| (options.progress)(delayed(reference.domain(), delay));
        let caller = Caller { cancel: options.cancel, on_delay: &on_delay };
        let asking = Asking { reference: &reference, credentials: &options.credentials, caller };
        self.ask(&endpoints, &asking, |session| work(session, &reference))
    }

    /// Asks one endpoint after the other until one can do `work`.
    pub(crate) fn ask<T>(
        &self,
        endpoints: &[Endpoint],
        asking: &Asking<'_>,
        work: impl Fn(&Session<'_>) -> Result<T>,
    ) -> Result<T> {
        let Asking { reference, credentials, caller } = *asking;
        let mut last = None;
        for endpoint in endpoints {
            let agents = &self.inner.agents;
            let session = match Session::open(agents, endpoint, reference, &Scope::PULL, credentials, caller)
            {
                Ok(session) => session,
                Err(error) if matches!(error, ImageError::Cancelled) || endpoint.has_spoken(&error) => {
                    return Err(error);
                }
                Err(error) => {
                    last = Some(error);
                    continue;
                }
            };
            match work(&session) {
                // What a mirror lacks or spoils, the registry itself may have.
                Err(error) if endpoint.is_mirror && !matches!(error, ImageError::Cancelled) => {
                    last = Some(error);
                }
                result => return result,
            }
        }
        Err(last.unwrap_or(ImageError::BadRegistry { address: reference.domain().to_owned() }))
    }
}

/// What a reference asks a registry for: its digest, else its tag.
pub(crate) fn wanted(reference: &ImageRef) -> String {
    reference
        .digest()
        .map_or_else(|| reference.tag_or_latest().unwrap_or_default().to_owned(), Digest::to_string)
}

/// The platform that a configuration names. An artifact's configuration says nothing, as dockerd takes it.
pub(crate) fn platform_of(session: &Session<'_>, config: &Descriptor) -> Option<Platform> {
    let bytes = fetch_blob(session, config).ok()?;
    let platform: Platform = serde_json::from_slice(&bytes).ok()?;
    (!platform.os.is_empty() || !platform.architecture.is_empty()).then_some(platform)
}

impl From<Served> for RemoteManifest {
    fn from(served: Served) -> Self {
        let media_type = match served.document {
            Document::Image(manifest) => manifest.media_type,
            Document::List(list) => list.media_type,
        };
        Self { digest: served.digest, media_type, bytes: served.bytes }
    }
}

impl From<Descriptor> for Referrer {
    fn from(found: Descriptor) -> Self {
        Self {
            digest: found.digest,
            artifact_type: found.artifact_type.unwrap_or_default(),
            media_type: found.media_type,
            size: found.size,
            annotations: found.annotations,
        }
    }
}

/// Fetches a manifest by tag or digest; by digest, its content must have that digest.
pub(crate) fn fetch_manifest(session: &Session<'_>, reference: &ImageRef, wanted: &str) -> Result<Served> {
    let url = session.url(&format!("manifests/{wanted}"));
    let mut request = Request::new(Method::GET, &url);
    request.headers = &[("Accept", ACCEPT)];
    let mut response = session.send(&request)?;
    if response.status() != StatusCode::OK {
        return Err(manifest_error(reference, &url, &mut response));
    }
    let name = reference.familiar();
    let content_type = response.headers().get("content-type").and_then(|value| value.to_str().ok());
    let content_type = content_type.map(|text| text.split(';').next().unwrap_or_default().trim().to_owned());
    let bytes = read_limited(&mut response, BLOB_BYTES_MAX, &format!("the manifest of {name}"))?;
    let digest = sha256(&bytes);
    if let Some(expected) = Digest::parse(wanted).ok().filter(|expected| *expected != digest) {
        let what = format!("manifest verification failed for digest {expected}");
        return Err(ImageError::DigestMismatch { what, expected, found: digest });
    }
    let document = manifest::parse(&bytes, content_type.as_deref(), &name)?;
    Ok(Served { bytes, digest, document })
}

/// moby's `distribution/errors.go`, `notFoundError`.
fn manifest_error(
    reference: &ImageRef,
    url: &str,
    response: &mut ureq::http::Response<ureq::Body>,
) -> ImageError {
    let status = response.status();
    if !matches!(status, StatusCode::NOT_FOUND | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
        return status_error("Get", url, response);
    }
    let said = error_of(response);
    let code = said.as_ref().map_or("", |error| error.code.as_str()).to_owned();
    let denied = || "denied: requested access to the resource is denied".to_owned();
    let repository = reference.familiar_repository();
    match (status, code.as_str()) {
        (StatusCode::NOT_FOUND, "NAME_UNKNOWN") => {
            ImageError::RepositoryUnknown { repository, detail: said.map_or_else(String::new, |e| e.text()) }
        }
        (StatusCode::NOT_FOUND, _) => {
            let detail = said.map_or_else(|| "manifest unknown: manifest unknown".to_owned(), |e| e.text());
            ImageError::ManifestUnknown { name: reference.familiar(), detail }
        }
        _ => ImageError::PullDenied {
            repository,
            detail: said.filter(|e| e.code == "DENIED").map_or_else(denied, |e| e.text()),
        },
    }
}

pub(crate) fn fetch_blob(session: &Session<'_>, descriptor: &Descriptor) -> Result<Vec<u8>> {
    let what = format!("content {}", descriptor.digest);
    if descriptor.size > BLOB_BYTES_MAX {
        return Err(ImageError::TooLarge { what, found: descriptor.size, limit: BLOB_BYTES_MAX });
    }
    let mut bytes = Vec::new();
    Download::new(session, &descriptor.digest, descriptor.size, &|_| {})
        .read_to_end(&mut bytes)
        .map_err(|error| flatten(ImageError::tar_read(error)))?;
    let found = sha256(&bytes);
    if found != descriptor.digest {
        return Err(ImageError::DigestMismatch { what, expected: descriptor.digest, found });
    }
    Ok(bytes)
}
