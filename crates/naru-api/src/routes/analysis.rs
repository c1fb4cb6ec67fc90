//! `GET /naru/v1/images/{name}/analysis`: what is in an image; with `sbom=spdx` or `sbom=cyclonedx` its bill of materials.

use crate::context::ApiContext;
use crate::web::request::Request;
use crate::web::respond::{self, Response};
use naru_image::{Image, Store};
use naru_insight::sbom::{self, Format, Subject};
use naru_insight::{LayerInput, analyze};
use naru_kernel::clock;
use naru_types::{Error, Result};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Analyses that run at a time: each may hold the paths of a whole image in memory.
const ANALYSES_AT_ONCE: usize = 1;
static ANALYSES: Semaphore = Semaphore::const_new(ANALYSES_AT_ONCE);

pub async fn analysis(context: Arc<ApiContext>, request: Request) -> Result<Response> {
    let format = match request.query.text("sbom") {
        "" => None,
        "spdx" => Some(Format::Spdx),
        "cyclonedx" => Some(Format::CycloneDx),
        other => return Err(Error::invalid(format!("unknown format {other:?}: it is spdx or cyclonedx"))),
    };
    let name = request.name;
    let turn = ANALYSES.acquire().await;
    let turn = turn.map_err(|error| Error::internal("the analyses were closed").with_source(error))?;
    let work = tokio::task::spawn_blocking(move || {
        // Until the work has ended, whether or not the client waits for it.
        let _turn = turn;
        let store = context.engine.images();
        let image = store.get(&name)?;
        // Held, so that no removal takes layers away while they are read.
        let lease = store.lease();
        lease.hold_image(&image)?;
        let found = analyze(&layers(store, &image)?)?;
        match format {
            None => respond::json(&found),
            Some(format) => {
                let subject = Subject { name: &name, id: &image.id.hex(), now: clock::now() };
                respond::json(&sbom::render(format, &subject, &found))
            }
        }
    });
    work.await.map_err(|error| Error::internal("a bug in naru: blocking work panicked").with_source(error))?
}

/// Lowest first, each with the line of the history that made it.
fn layers(store: &Store, image: &Image) -> Result<Vec<LayerInput>> {
    let mut made = image.config.history.iter().filter(|step| !step.empty_layer);
    let mut inputs = Vec::new();
    for digest in image.layers() {
        let step = made.next();
        let text = step.and_then(|step| step.created_by.clone().or_else(|| step.comment.clone()));
        inputs.push(LayerInput {
            dir: store.layer_dir(digest)?,
            digest: digest.to_string(),
            created_by: text.unwrap_or_default(),
        });
    }
    Ok(inputs)
}
