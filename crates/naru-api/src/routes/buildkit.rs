//! `POST /grpc` and `POST /session`: connections that become HTTP/2, for `docker buildx`.

use crate::context::ApiContext;
use crate::web::body::ResponseBody;
use crate::web::request::Request;
use crate::web::respond::{self, Response};
use hyper::StatusCode;
use hyper::header::{CONNECTION, HeaderValue, UPGRADE};
use hyper::upgrade::OnUpgrade;
use naru_buildkit::SessionHead;
use naru_types::{Error, Result};
use std::sync::Arc;

pub async fn grpc(context: Arc<ApiContext>, mut request: Request) -> Result<Response> {
    let upgrade = upgrade_of(&mut request)?;
    request.drain().await?;
    tokio::spawn(async move {
        // The client hung up before the switch: nothing to serve.
        if let Ok(upgraded) = upgrade.await {
            context.buildkit.serve_grpc(upgraded).await;
        }
    });
    Ok(switching())
}

pub async fn session(context: Arc<ApiContext>, mut request: Request) -> Result<Response> {
    let upgrade = upgrade_of(&mut request)?;
    let head = SessionHead::from_headers(&request.headers).ok_or_else(|| {
        Error::invalid("a session needs an id").with_hint("X-Docker-Expose-Session-Uuid is missing")
    })?;
    request.drain().await?;
    tokio::spawn(async move {
        if let Ok(upgraded) = upgrade.await {
            context.buildkit.serve_session(upgraded, head).await;
        }
    });
    Ok(switching())
}

fn upgrade_of(request: &mut Request) -> Result<OnUpgrade> {
    request.take_upgrade("h2c").ok_or_else(|| {
        Error::invalid("no upgrade to h2c was asked for")
            .with_hint("send Connection: Upgrade and Upgrade: h2c")
    })
}

fn switching() -> Response {
    let mut response =
        respond::with_type(StatusCode::SWITCHING_PROTOCOLS, "application/grpc", ResponseBody::empty());
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("h2c"));
    response
}
