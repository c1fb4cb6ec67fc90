//! `docker images` and `docker image prune`.

use crate::context::ApiContext;
use crate::convert::image as convert;
use crate::routes::image::{blocking, emit};
use crate::web::filters::{Filters, glob_fits};
use crate::web::request::Request;
use crate::web::respond::{self, Response};
use naru_image::{Image, Removed, Store};
use naru_kernel::clock;
use naru_types::{Digest, ImageRef, Result, Timestamp};
use naru_wire::image::ImagesPruned;
use std::collections::BTreeSet;
use std::sync::Arc;

pub async fn list(context: Arc<ApiContext>, request: Request) -> Result<Response> {
    let filters =
        Filters::parse(&request.query, &["before", "dangling", "label", "reference", "since", "until"])?;
    let all = request.query.flag("all");
    blocking(move || {
        let store = context.engine.images();
        let before = bound(store, &filters, "before")?;
        let since = bound(store, &filters, "since")?;
        let until = filters.until(clock::now())?;
        let dangling = if filters.has("dangling") { Some(filters.flag("dangling", true)?) } else { None };
        let fits = |image: &Image| {
            dangling.is_none_or(|wanted| wanted == image.is_dangling())
                && filters.labels_fit("label", &image.config.config.labels)
                && before.is_none_or(|before| image.created < before)
                && since.is_none_or(|since| image.created > since)
                && until.is_none_or(|until| image.created < until)
        };
        let images = store.list()?;
        // As in dockerd, a nameless image that another was committed on is a step on the way to that one.
        let parents: BTreeSet<Digest> = images.iter().filter_map(|image| image.parent).collect();
        let is_step = |image: &Image| {
            parents.contains(&image.id) && image.repo_tags.is_empty() && image.repo_digests.is_empty()
        };
        let mut rows = Vec::new();
        for mut image in images.into_iter().filter(fits) {
            if is_step(&image) && (!all || dangling == Some(true)) {
                continue;
            }
            if filters.has("reference") {
                let patterns = filters.values("reference");
                image.repo_tags.retain(|name| patterns.iter().any(|pattern| reference_fits(pattern, name)));
                image
                    .repo_digests
                    .retain(|name| patterns.iter().any(|pattern| reference_fits(pattern, name)));
                if image.repo_tags.is_empty() && image.repo_digests.is_empty() {
                    continue;
                }
            }
            let containers = context.engine.image_users(&image.id).len() as i64;
            rows.push(convert::listed(&image, containers, request.version));
        }
        respond::json(&rows)
    })
    .await
}

fn bound(store: &Store, filters: &Filters, name: &str) -> Result<Option<Timestamp>> {
    match filters.values(name).first() {
        Some(image) => Ok(Some(store.get(image)?.created)),
        None => Ok(None),
    }
}

/// distribution/reference's `FamiliarMatch`: the pattern against `name:tag` and against the name alone.
fn reference_fits(pattern: &str, name: &str) -> bool {
    let repository = ImageRef::parse(name).map(|parsed| parsed.familiar_repository());
    glob_fits(pattern, name) || repository.is_ok_and(|repository| glob_fits(pattern, &repository))
}

pub async fn prune(context: Arc<ApiContext>, request: Request) -> Result<Response> {
    let filters = Filters::parse(&request.query, &["dangling", "label", "label!", "until"])?;
    blocking(move || {
        let only_dangling = filters.flag("dangling", true)?;
        let until = filters.until(clock::now())?;
        let select = |image: &Image| {
            (!only_dangling || image.is_dangling())
                && filters.prune_labels_fit(&image.config.config.labels)
                && until.is_none_or(|until| image.created < until)
        };
        let in_use = |id: &naru_types::Digest| !context.engine.image_users(id).is_empty();
        let pruned = context.engine.images().prune(&select, &in_use)?;
        for item in &pruned.removed {
            if let Removed::Deleted(id) = item {
                emit(&context.engine, "delete", &id.to_string(), &id.to_string());
            }
        }
        let items: Vec<_> = pruned.removed.iter().map(convert::removed).collect();
        respond::json(&ImagesPruned {
            images_deleted: (!items.is_empty()).then_some(items),
            space_reclaimed: pruned.bytes,
        })
    })
    .await
}
