//! Volumes.

use crate::context::ApiContext;
use crate::convert::volume as convert;
use crate::routes::df::tree_bytes;
use crate::web::filters::{Filters, name_fits};
use crate::web::request::Request;
use crate::web::respond::{self, Response};
use naru_engine::VolumeView;
use naru_types::{Error, Kind, Result};
use naru_wire::volume::{VolumeCreate, VolumeList, VolumesPruned};
use std::sync::Arc;

pub async fn list(context: Arc<ApiContext>, request: Request) -> Result<Response> {
    let filters = Filters::parse(&request.query, &["dangling", "driver", "label", "name"])?;
    let dangling = if filters.has("dangling") { Some(filters.flag("dangling", true)?) } else { None };
    let fits = |view: &&VolumeView| {
        filters.any("name", |name| name_fits(name, &view.name))
            && filters.any("driver", |driver| view.driver == driver)
            && filters.labels_fit("label", &view.labels)
            && dangling.is_none_or(|wanted| wanted == (view.ref_count == 0))
    };
    let volumes = context.engine.volumes();
    let shown = volumes.iter().filter(fits).map(convert::volume).collect();
    respond::json(&VolumeList { volumes: shown, warnings: None })
}

pub async fn inspect(context: Arc<ApiContext>, request: Request) -> Result<Response> {
    respond::json(&convert::volume(&context.engine.volume(&request.name)?))
}

pub async fn create(context: Arc<ApiContext>, mut request: Request) -> Result<Response> {
    let body: VolumeCreate = request.json().await?;
    if body.cluster_volume_spec.is_some() {
        return Err(Error::not_implemented("cluster volumes are not supported by naru"));
    }
    let view = context
        .engine
        .volume_create(naru_engine::VolumeCreate {
            name: Some(body.name).filter(|name| !name.is_empty()),
            driver: Some(body.driver).filter(|driver| !driver.is_empty()),
            options: body.driver_opts,
            labels: body.labels,
        })
        .await?;
    respond::created(&convert::volume(&view))
}

pub async fn remove(context: Arc<ApiContext>, request: Request) -> Result<Response> {
    context.engine.volume_remove(&request.name, request.query.flag("force")).await?;
    Ok(respond::no_content())
}

/// Anonymous volumes only, unless `all=true` asks for named ones too (since API 1.42).
pub async fn prune(context: Arc<ApiContext>, request: Request) -> Result<Response> {
    let filters = Filters::parse(&request.query, &["all", "label", "label!"])?;
    let named_too = filters.flag("all", false)?;
    // Of nothing removed dockerd says `[]`, not null.
    let mut pruned = VolumesPruned { volumes_deleted: Some(Vec::new()), ..VolumesPruned::default() };
    for view in context.engine.volumes() {
        let chosen =
            view.ref_count == 0 && (named_too || view.anonymous) && filters.prune_labels_fit(&view.labels);
        if !chosen {
            continue;
        }
        let mountpoint = view.mountpoint.clone();
        // Counting is a courtesy: a failed count is zero.
        let size = tokio::task::spawn_blocking(move || tree_bytes(&mountpoint, 0)).await.unwrap_or(0);
        match context.engine.volume_remove(&view.name, false).await {
            Ok(()) => {
                pruned.volumes_deleted.get_or_insert_default().push(view.name);
                pruned.space_reclaimed += size;
            }
            // Used or removed by somebody else in between: theirs.
            Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Conflict) => {}
            Err(error) => return Err(error),
        }
    }
    respond::json(&pruned)
}
