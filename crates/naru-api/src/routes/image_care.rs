//! naru's own: `POST /naru/v1/images/verify` and `POST /naru/v1/images/gc`.

use crate::context::ApiContext;
use crate::convert::image_care as convert;
use crate::routes::image::{blocking, emit, users};
use crate::routes::image_transfer::{Lines, streamed};
use crate::routes::registry_auth::Registries;
use crate::web::request::Request;
use crate::web::respond::{self, Response};
use naru_engine::Engine;
use naru_image::{GcPolicy, RepairOptions, Verdict};
use naru_types::{Digest, Result};
use naru_wire::naru::{ImageGcPolicy, ImageGcReport, VerifyLine};
use std::sync::Arc;

/// One line for each image as it is done, then one for each repair, then the sum.
pub async fn verify(context: Arc<ApiContext>, request: Request) -> Result<Response> {
    let names: Vec<String> = request.query.all("image").map(str::to_owned).collect();
    let wants_repair = request.query.flag("repair");
    let registries = Registries::from_header(request.header("x-registry-config"));
    let cancel = Arc::clone(&request.gone);
    streamed(move |lines| {
        let store = context.engine.images();
        let tell = |verdict: &Verdict| {
            say(lines, &VerifyLine { image: Some(convert::verdict(verdict)), ..VerifyLine::default() });
        };
        let verified = store.verify(&names, &tell)?;
        let damaged = verified.images.iter().filter(|image| !image.damage.is_empty()).count();
        let mut summary = convert::summary(&verified, damaged);
        if wants_repair {
            let options = RepairOptions {
                is_running: &|id| users(&context.engine, id).iter().any(|user| user.is_running),
                credentials: &|source| registries.of(source),
                cancel: &cancel,
            };
            let repaired = store.repair(&verified, &options)?;
            summary.damaged = repaired.iter().filter(|repaired| repaired.failure.is_some()).count();
            for repaired in &repaired {
                let line = VerifyLine { repair: Some(convert::repair(repaired)), ..VerifyLine::default() };
                say(lines, &line);
            }
        }
        say(lines, &VerifyLine { summary: Some(summary), ..VerifyLine::default() });
        Ok(())
    })
    .await
}

fn say(lines: &Lines, line: &VerifyLine) {
    if let Ok(line) = respond::to_line(line) {
        // A client that has gone sees nothing of it; the work is only reading, or a repair that is as well finished.
        let _ = lines.blocking_send(Ok(line.into()));
    }
}

/// With the policy of the body; without one, with that of the daemon's configuration.
pub async fn gc(context: Arc<ApiContext>, mut request: Request) -> Result<Response> {
    let asked: ImageGcPolicy = request.json().await?;
    let dry_run = request.query.flag("dry-run");
    let policy = if asked == ImageGcPolicy::default() {
        context.image_gc.clone()
    } else {
        convert::gc_policy(&asked)?
    };
    blocking(move || respond::json(&collect(&context.engine, &policy, dry_run)?)).await
}

/// Blocks. Tells the world of each image that goes, as a prune does.
pub fn collect(engine: &Engine, policy: &GcPolicy, dry_run: bool) -> Result<ImageGcReport> {
    let in_use = |id: &Digest| !engine.image_users(id).is_empty();
    let outcome = engine.images().gc(policy, &in_use, dry_run)?;
    if !dry_run {
        for image in &outcome.images {
            emit(engine, "delete", &image.id.to_string(), &image.id.to_string());
        }
    }
    Ok(convert::gc_report(&outcome, dry_run))
}
