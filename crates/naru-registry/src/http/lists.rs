//! Lists: tags, repositories, referrers.

use crate::http::answer::{Answered, Code, Refusal, Reply, json_reply, set, set_named};
use crate::http::server::{Call, Shared};
use crate::manifest::OCI_INDEX;
use crate::manifests::Page;
use crate::name::{Digest, RepositoryName};
use crate::token::Right;
use hyper::header::{CONTENT_TYPE, LINK};
use hyper::{Method, StatusCode};
use naru_wire::url::encode;
use serde_json::json;
use std::sync::Arc;

/// Names in one answer, also when the client asks for more; the rest is behind the `Link` header.
const NAMES_MAX: usize = 10_000;

pub(crate) async fn tags(shared: &Arc<Shared>, call: &Call, repository: RepositoryName) -> Answered {
    demand_read(call)?;
    call.access.demand(&repository, Right::Pull)?;
    let (count, last) = window(call)?;
    let (store, name) = (Arc::clone(&shared.store), repository.clone());
    let page = shared.blocking(move || store.tags(&name, &last, count)).await?;
    let unknown = || Refusal::new(StatusCode::NOT_FOUND, Code::NameUnknown, "no such repository");
    let page = page.ok_or_else(unknown)?;
    let mut reply = json_reply(&json!({"name": repository.as_str(), "tags": page.items}));
    link_names(&mut reply, &format!("/v2/{repository}/tags/list"), &page, count);
    Ok(reply)
}

/// Shows only what the client may pull.
pub(crate) async fn catalog(shared: &Arc<Shared>, call: &Call) -> Answered {
    demand_read(call)?;
    if !call.access.can_list() {
        return Err(Refusal::unauthorized());
    }
    let (count, last) = window(call)?;
    let (store, access) = (Arc::clone(&shared.store), call.access.clone());
    let shown = move |name: &str| access.allows(name, Right::Pull);
    let page = shared.blocking(move || store.repositories(&last, count, shown)).await?;
    let mut reply = json_reply(&json!({"repositories": page.items}));
    link_names(&mut reply, "/v2/_catalog", &page, count);
    Ok(reply)
}

pub(crate) async fn referrers(
    shared: &Arc<Shared>,
    call: &Call,
    repository: RepositoryName,
    subject: Digest,
) -> Answered {
    demand_read(call)?;
    call.access.demand(&repository, Right::Pull)?;
    let path = format!("/v2/{repository}/referrers/{subject}");
    let kind = call.query.first("artifactType").filter(|text| !text.is_empty()).map(str::to_owned);
    let (store, wanted, last) = (Arc::clone(&shared.store), kind.clone(), call.query.text("last").to_owned());
    let page =
        shared.blocking(move || store.referrers(&repository, &subject, wanted.as_deref(), &last)).await?;
    let next = page.items.last().filter(|_| page.has_more).map(|(digest, _)| digest.clone());
    let descriptors: Vec<_> = page.items.into_iter().map(|(_, descriptor)| descriptor).collect();
    let mut reply =
        json_reply(&json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": descriptors}));
    set(&mut reply, CONTENT_TYPE, OCI_INDEX);
    if kind.is_some() {
        set_named(&mut reply, "oci-filters-applied", "artifactType");
    }
    if let Some(next) = next {
        let kind = kind.map_or(String::new(), |kind| format!("&artifactType={}", encode(&kind)));
        set(&mut reply, LINK, &format!("<{path}?last={}{kind}>; rel=\"next\"", encode(&next)));
    }
    Ok(reply)
}

fn demand_read(call: &Call) -> Result<(), Refusal> {
    if matches!(call.method, Method::GET | Method::HEAD) {
        return Ok(());
    }
    Err(Refusal::not_allowed("lists can only be read"))
}

fn window(call: &Call) -> Result<(usize, String), Refusal> {
    let count = match call.query.first("n") {
        None => NAMES_MAX,
        Some(text) => {
            let invalid =
                |_| Refusal::new(StatusCode::BAD_REQUEST, Code::Unsupported, "n must be a number of names");
            text.parse::<usize>().map_err(invalid)?.min(NAMES_MAX)
        }
    };
    Ok((count, call.query.text("last").to_owned()))
}

fn link_names(reply: &mut Reply, path: &str, page: &Page<String>, count: usize) {
    if let Some(last) = page.items.last().filter(|_| page.has_more && count > 0) {
        set(reply, LINK, &format!("<{path}?n={count}&last={}>; rel=\"next\"", encode(last)));
    }
}
