//! `GET /containers/{id}/stats`.

use crate::context::ApiContext;
use crate::convert::stats as convert;
use crate::web::request::Request;
use crate::web::respond::{self, JSON, Response};
use naru_engine::{Engine, StatsSample};
use naru_types::{Kind, Result};
use naru_wire::stats::Stats;
use std::sync::Arc;
use std::time::Duration;

/// Time between two samples, as dockerd's collector has it.
const INTERVAL: Duration = Duration::from_secs(1);

pub async fn stats(context: Arc<ApiContext>, request: Request) -> Result<Response> {
    let engine = &context.engine;
    let id = engine.inspect(&request.name)?.id.to_string();
    let (streaming, one_shot) = (request.query.flag_or("stream", true), request.query.flag("one-shot"));
    if !streaming {
        let first = sample(engine, &id, None).await?;
        if one_shot || first.sample.is_none() {
            return respond::json(&first.shown);
        }
        tokio::time::sleep(INTERVAL).await;
        return respond::json(&sample(engine, &id, first.sample.as_ref()).await?.shown);
    }
    let (sender, response) = respond::stream(JSON);
    let engine = Arc::clone(engine);
    tokio::spawn(async move {
        let mut before = None;
        let mut ticks = tokio::time::interval(INTERVAL);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = sender.closed() => return,
            }
            // The container is gone, or cannot be measured: the stream ends.
            let Ok(taken) = sample(&engine, &id, before.as_ref()).await else { return };
            if !respond::send_line(&sender, &taken.shown).await {
                return;
            }
            before = taken.sample;
        }
    });
    Ok(response)
}

struct Taken {
    shown: Stats,
    /// `None` while the container does not run.
    sample: Option<StatsSample>,
}

async fn sample(engine: &Engine, id: &str, before: Option<&StatsSample>) -> Result<Taken> {
    let view = engine.inspect(id)?;
    if view.state.pid == 0 {
        return Ok(Taken { shown: convert::empty(&view), sample: None });
    }
    match engine.stats(id).await {
        Ok(sample) => Ok(Taken { shown: convert::stats(&view, &sample, before), sample: Some(sample) }),
        // It stopped since it was looked at.
        Err(error) if error.kind() == Kind::Conflict => {
            Ok(Taken { shown: convert::empty(&view), sample: None })
        }
        Err(error) => Err(error),
    }
}
