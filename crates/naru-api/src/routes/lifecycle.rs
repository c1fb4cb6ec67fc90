//! Start, stop and what lies between.

use crate::context::ApiContext;
use crate::convert::create::signal;
use crate::web::request::Request;
use crate::web::respond::{self, Response};
use hyper::StatusCode;
use naru_types::signal::Signal;
use naru_types::{Error, Result};
use naru_wire::url::Query;
use std::sync::Arc;

pub async fn start(context: Arc<ApiContext>, request: Request) -> Result<Response> {
    if !request.query.text("checkpoint").is_empty() {
        return Err(Error::not_implemented("checkpoints are not supported by naru"));
    }
    context.engine.start(&request.name).await?;
    Ok(respond::no_content())
}

pub async fn stop(context: Arc<ApiContext>, request: Request) -> Result<Response> {
    let (signal, timeout) = stop_parameters(&request.query)?;
    context.engine.stop(&request.name, signal, timeout).await?;
    Ok(respond::no_content())
}

pub async fn restart(context: Arc<ApiContext>, request: Request) -> Result<Response> {
    let (signal, timeout) = stop_parameters(&request.query)?;
    context.engine.restart(&request.name, signal, timeout).await?;
    Ok(respond::no_content())
}

fn stop_parameters(query: &Query) -> Result<(Option<Signal>, Option<i64>)> {
    let named = query.first("signal").filter(|text| !text.is_empty()).map(signal).transpose()?;
    let timeout = query.first("t").filter(|text| !text.is_empty()).map(|text| {
        text.parse()
            .map_err(|_| Error::invalid(format!("invalid timeout {text:?}: it must be a number of seconds")))
    });
    Ok((named, timeout.transpose()?))
}

pub async fn kill(context: Arc<ApiContext>, request: Request) -> Result<Response> {
    let named = request.query.first("signal").filter(|text| !text.is_empty()).map(signal).transpose()?;
    context.engine.kill(&request.name, named.unwrap_or(Signal::KILL)).await?;
    Ok(respond::no_content())
}

pub async fn pause(context: Arc<ApiContext>, request: Request) -> Result<Response> {
    context.engine.pause(&request.name).await?;
    Ok(respond::no_content())
}

pub async fn unpause(context: Arc<ApiContext>, request: Request) -> Result<Response> {
    context.engine.unpause(&request.name).await?;
    Ok(respond::no_content())
}

pub async fn resize(context: Arc<ApiContext>, request: Request) -> Result<Response> {
    let (rows, cols) = window(&request.query)?;
    context.engine.resize(&request.name, rows, cols).await?;
    Ok(respond::status(StatusCode::OK))
}

/// `h` and `w`.
pub fn window(query: &Query) -> Result<(u16, u16)> {
    let number = |name: &str| {
        let text = query.text(name);
        text.parse().map_err(|_| {
            Error::invalid(format!(
                "invalid resize {} {text:?}",
                if name == "h" { "height" } else { "width" }
            ))
        })
    };
    Ok((number("h")?, number("w")?))
}
