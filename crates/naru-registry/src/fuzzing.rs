//! Doors for the fuzz targets: parsers that are no part of the interface, each with what must hold for it.

use crate::http::range::{Asked, of_chunk, of_download};
use crate::http::route::{self, Route};
use crate::name::{Digest, Reference, Tag};
use crate::{manifest, token};

/// A request's path. `Ok(false)`: refused.
pub fn path(text: &str) -> Result<bool, String> {
    let Ok(route) = route::parse(text) else { return Ok(false) };
    let (repository, rest) = match &route {
        Route::Base | Route::Catalog => return Ok(true),
        Route::Tags(name) => (name, "/tags/list".to_owned()),
        Route::Manifest(name, Reference::Tag(tag)) => (name, format!("/manifests/{}", tag.as_str())),
        Route::Manifest(name, Reference::Digest(digest)) => (name, format!("/manifests/{digest}")),
        Route::Blob(name, digest) => (name, format!("/blobs/{digest}")),
        Route::Uploads(name) => (name, "/blobs/uploads/".to_owned()),
        Route::Upload(name, id) => (name, format!("/blobs/uploads/{id}")),
        Route::Referrers(name, digest) => (name, format!("/referrers/{digest}")),
    };
    if repository.as_str().split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(format!("took the repository {:?}", repository.as_str()));
    }
    match route::parse(&format!("/v2/{repository}{rest}")) {
        Ok(again) if again == route => Ok(true),
        _ => Err(format!("{route:?} is read otherwise when it is written again")),
    }
}

/// A `Range` for a blob of `size` bytes, and as `Content-Range`.
pub fn range(header: &str, size: u64) -> Result<(), String> {
    if let Asked::Part(first, count) = of_download(Some(header), size) {
        let end = first.checked_add(count).ok_or("a part past all numbers")?;
        if end > size || count == 0 {
            return Err(format!("{count} bytes from {first} of a blob of {size}"));
        }
    }
    match of_chunk(header) {
        Some((first, last)) if first > last => Err(format!("a chunk from {first} to {last}")),
        _ => Ok(()),
    }
}

/// Names, tags and digests: what is taken is shown as it was written.
pub fn words(text: &str) -> Result<(), String> {
    let shown = Digest::parse(text).map(|digest| digest.to_string());
    let shown = shown.or_else(|| Tag::parse(text).map(|tag| tag.as_str().to_owned()));
    let shown = shown.or_else(|| crate::RepositoryName::parse(text).map(|name| name.to_string()));
    match shown {
        Some(shown) if shown != text || shown.split('/').any(|part| part == "..") => {
            Err(format!("{text:?} is shown as {shown:?}"))
        }
        _ => Ok(()),
    }
}

/// Whether the registry takes a manifest with this `Content-Type`.
pub fn manifest(bytes: &[u8], content_type: Option<&str>) -> bool {
    manifest::parse(bytes, content_type).is_ok()
}

/// The secret in an `Authorization` header.
pub fn secret(header: &str) -> Option<String> {
    token::secret_of(header)
}
