//! Paths of the specification ("Endpoints"), read from the end: a repository's name has slashes too.

use crate::http::answer::{Code, Refusal};
use crate::name::{Digest, Reference, RepositoryName};
use hyper::StatusCode;

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Route {
    Base,
    Catalog,
    Tags(RepositoryName),
    Manifest(RepositoryName, Reference),
    Blob(RepositoryName, Digest),
    Uploads(RepositoryName),
    Upload(RepositoryName, String),
    Referrers(RepositoryName, Digest),
}

pub(crate) fn parse(path: &str) -> Result<Route, Refusal> {
    let unknown = || Refusal::new(StatusCode::NOT_FOUND, Code::Unsupported, "no such endpoint");
    let rest = path.strip_prefix("/v2").ok_or_else(unknown)?;
    if matches!(rest, "" | "/") {
        return Ok(Route::Base);
    }
    let rest = rest.strip_prefix('/').ok_or_else(unknown)?;
    if rest == "_catalog" {
        return Ok(Route::Catalog);
    }
    if let Some(repository) = rest.strip_suffix("/tags/list") {
        return Ok(Route::Tags(name(repository)?));
    }
    if let Some(repository) = rest.trim_end_matches('/').strip_suffix("/blobs/uploads") {
        return Ok(Route::Uploads(name(repository)?));
    }
    let (before, last) = rest.rsplit_once('/').ok_or_else(unknown)?;
    if let Some(repository) = before.strip_suffix("/blobs/uploads") {
        return Ok(Route::Upload(name(repository)?, last.to_owned()));
    }
    if let Some(repository) = before.strip_suffix("/manifests") {
        let invalid =
            || Refusal::new(StatusCode::BAD_REQUEST, Code::ManifestInvalid, "invalid tag or digest");
        return Ok(Route::Manifest(name(repository)?, Reference::parse(last).ok_or_else(invalid)?));
    }
    let invalid = || Refusal::new(StatusCode::BAD_REQUEST, Code::DigestInvalid, "invalid digest");
    if let Some(repository) = before.strip_suffix("/blobs") {
        return Ok(Route::Blob(name(repository)?, Digest::parse(last).ok_or_else(invalid)?));
    }
    if let Some(repository) = before.strip_suffix("/referrers") {
        return Ok(Route::Referrers(name(repository)?, Digest::parse(last).ok_or_else(invalid)?));
    }
    Err(unknown())
}

fn name(text: &str) -> Result<RepositoryName, Refusal> {
    let invalid = || Refusal::new(StatusCode::BAD_REQUEST, Code::NameInvalid, "invalid repository name");
    RepositoryName::parse(text).ok_or_else(invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let digest = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let repository = RepositoryName::parse("a/b").unwrap();
        assert_eq!(parse("/v2/").ok(), Some(Route::Base));
        assert_eq!(parse("/v2/a/b/tags/list").ok(), Some(Route::Tags(repository.clone())));
        assert_eq!(parse("/v2/a/b/blobs/uploads/").ok(), Some(Route::Uploads(repository.clone())));
        assert_eq!(
            parse("/v2/a/b/blobs/uploads/x").ok(),
            Some(Route::Upload(repository.clone(), "x".into()))
        );
        let digest_path = format!("/v2/a/b/blobs/{digest}");
        assert_eq!(parse(&digest_path).ok(), Some(Route::Blob(repository, Digest::parse(digest).unwrap())));
        for bad in [
            "",
            "/",
            "/v1/",
            "/v2x",
            "/v2/../x/tags/list",
            "/v2/A/tags/list",
            "/v2//tags/list",
            "/v2/a/blobs/../../x",
            "/v2/a/blobs/sha256:../x",
            "/v2/a/manifests/..",
            "/v2/a/manifests/",
            "/v2/a/b",
            "/v2/tags/list/",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
