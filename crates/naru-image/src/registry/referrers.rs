//! What points to a manifest: signatures, SBOMs, attestations (distribution-spec, "Listing Referrers").
//!
//! A registry that keeps such lists itself answers at `/referrers/<digest>`. In others the list is an index under the
//! tag `sha256-<hex>`, and who pushes a referrer adds to it.

use super::answer::{read_limited, status_error};
use super::client::{Request, Session};
use super::manifest::{self, Descriptor, Document, List};
use super::upload::put_manifest;
use crate::blob::BLOB_BYTES_MAX;
use crate::error::{ImageError, Result};
use crate::remote::fetch_manifest;
use naru_types::{Digest, ImageRef};
use ureq::Body;
use ureq::http::{Method, Response, StatusCode};

/// Pages of one list, at most.
const PAGES_MAX: usize = 100;

/// All referrers of `subject`; none is an empty list.
pub fn list(session: &Session<'_>, reference: &ImageRef, subject: &Digest) -> Result<Vec<Descriptor>> {
    let mut found = Vec::new();
    let mut next = Some(session.url(&format!("referrers/{subject}")));
    for _ in 0..PAGES_MAX {
        let Some(url) = next.take() else { return Ok(found) };
        let mut response = session.send(&Request::new(Method::GET, &url))?;
        match response.status() {
            StatusCode::OK => {}
            // No such list is kept here.
            StatusCode::NOT_FOUND if found.is_empty() => return fallback(session, reference, subject),
            _ => return Err(status_error("Get", &url, &mut response)),
        }
        next = next_page(session, &response);
        let what = format!("the referrers of {subject}");
        let bytes = read_limited(&mut response, BLOB_BYTES_MAX, &what)?;
        match manifest::parse(&bytes, Some(manifest::OCI_INDEX), &what)? {
            Document::List(list) => found.extend(list.manifests),
            Document::Image(_) => return Err(ImageError::BadArchive { what: format!("{what} are no list") }),
        }
    }
    Err(ImageError::BadArchive {
        what: format!("the referrers of {subject} take more than {PAGES_MAX} pages"),
    })
}

/// Adds to the list that a registry does not keep itself.
pub fn add_to_fallback(
    session: &Session<'_>,
    reference: &ImageRef,
    subject: &Digest,
    referrer: &Descriptor,
) -> Result<()> {
    let mut manifests = fallback(session, reference, subject)?;
    if manifests.iter().any(|known| known.digest == referrer.digest) {
        return Ok(());
    }
    manifests.push(referrer.clone());
    let media_type = manifest::OCI_INDEX;
    let list = List { schema_version: 2, media_type: media_type.to_owned(), manifests };
    let bytes = serde_json::to_vec(&list)
        .map_err(|source| ImageError::Malformed { what: "the list of referrers".into(), source })?;
    put_manifest(session, &fallback_tag(subject), &bytes, media_type).map(drop)
}

fn fallback(session: &Session<'_>, reference: &ImageRef, subject: &Digest) -> Result<Vec<Descriptor>> {
    match fetch_manifest(session, reference, &fallback_tag(subject)) {
        Ok(served) => match served.document {
            Document::List(list) => Ok(list.manifests),
            // Somebody's image has this tag by accident.
            Document::Image(_) => Ok(Vec::new()),
        },
        Err(ImageError::ManifestUnknown { .. }) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// distribution-spec, "Referrers Tag Schema".
fn fallback_tag(subject: &Digest) -> String {
    format!("sha256-{}", subject.hex())
}

/// The address in `Link: <…>; rel="next"` (RFC 8288), at this registry only.
fn next_page(session: &Session<'_>, response: &Response<Body>) -> Option<String> {
    let link = response.headers().get("link")?.to_str().ok()?;
    let (address, relation) = link.trim().strip_prefix('<')?.split_once('>')?;
    let is_next = relation.contains("rel=\"next\"") || relation.contains("rel=next");
    let base = &session.peer.endpoint.base;
    if !is_next {
        None
    } else if address.starts_with('/') {
        Some(format!("{base}{address}"))
    } else {
        Some(address.to_owned()).filter(|address| address.starts_with(&format!("{base}/")))
    }
}
