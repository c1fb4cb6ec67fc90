//! `POST /containers/{id}/wait`. The head goes out as soon as the wait is registered, because clients start the
//! container only then; the answer follows when it is over.

use crate::context::ApiContext;
use crate::web::request::Request;
use crate::web::respond::{self, JSON, Response};
use naru_engine::WaitCondition;
use naru_types::{Error, Result};
use naru_wire::inspect::{WaitError, WaitResponse};
use std::sync::Arc;

pub async fn wait(context: Arc<ApiContext>, request: Request) -> Result<Response> {
    let condition = match request.query.text("condition") {
        "" | "not-running" => WaitCondition::NotRunning,
        "next-exit" => WaitCondition::NextExit,
        "removed" => WaitCondition::Removed,
        other => return Err(Error::invalid(format!("invalid condition: {other:?}"))),
    };
    let handle = context.engine.wait(&request.name, condition).await?;
    // A removal that went well is no error, whatever the container died of (moby `State.SetRemoved`); clients print one.
    let tells_error = condition != WaitCondition::Removed;
    let (sender, response) = respond::stream(JSON);
    tokio::spawn(async move {
        tokio::select! {
            result = handle.done() => {
                let error = result.error.filter(|text| !text.is_empty() && tells_error).map(|message| WaitError { message });
                // A client that left does not want to know.
                let _ = respond::send_line(&sender, &WaitResponse { error, status_code: result.exit_code }).await;
            }
            () = sender.closed() => {}
        }
    });
    Ok(response)
}
