//! The server's side of `POST /grpc`, and the table of methods.

use crate::builds::Builds;
use crate::error::{Error, Result};
use crate::grpc::{self, Messages, Response};
use crate::session::{SessionHead, Sessions};
use crate::{bridge, control, tunnel, usage};
use hyper::Request;
use hyper::body::Incoming;
use hyper::header::HeaderMap;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioExecutor;
use naru_build::Builder;
use naru_image::Image;
use naru_types::{Digest, ImageRef};
use rustix::fd::OwnedFd;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Calls at once on one connection.
const CALLS_MAX: u32 = 128;

/// What the interface needs of the daemon that it is part of.
pub trait Host: Send + Sync {
    /// A build has given an image a name.
    fn tagged(&self, image: &Digest, name: &ImageRef);

    /// The image's files, one layer upon the other. `scratch` is an empty directory that stays while they are read.
    /// Blocks.
    fn open_image(&self, image: &Image, scratch: &Path) -> naru_types::Result<OwnedFd>;
}

/// The interface to one builder. Cheap to clone.
#[derive(Clone)]
pub struct BuildKit(Arc<Shared>);

pub(crate) struct Shared {
    pub builder: Builder,
    /// Where contexts are put, one directory each.
    pub scratch: PathBuf,
    pub host: Arc<dyn Host>,
    pub sessions: Sessions,
    pub builds: Arc<Builds>,
}

impl BuildKit {
    pub fn new(builder: Builder, scratch: PathBuf, host: Arc<dyn Host>) -> Self {
        let (sessions, builds) = (Sessions::default(), Arc::new(Builds::default()));
        Self(Arc::new(Shared { builder, scratch, host, sessions, builds }))
    }

    /// Serves a client's calls until it closes the connection, which is its own affair however it does that.
    pub async fn serve_grpc(&self, upgraded: Upgraded) {
        let service = service_fn(|request| {
            let shared = Arc::clone(&self.0);
            async move { Ok::<_, Infallible>(answer(shared, request).await) }
        });
        let mut server = http2::Builder::new(TokioExecutor::new());
        server.max_concurrent_streams(CALLS_MAX);
        let _ = server.serve_connection(upgraded, service).await;
    }

    /// Keeps the client's services at hand until it closes the connection.
    pub async fn serve_session(&self, upgraded: Upgraded, head: SessionHead) {
        let _ = self.0.sessions.serve(upgraded, head).await;
    }
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Response {
    let method = request.uri().path().to_owned();
    let (head, body) = request.into_parts();
    let messages = Messages::new(body);
    let streaming = method.strip_prefix("/moby.buildkit.v1.Control/");
    if streaming == Some("Session") {
        let (writer, response) = grpc::streaming();
        tokio::spawn(tunnel::serve(shared, head.headers, messages, writer));
        return response;
    }
    if let Some(call @ ("Status" | "Prune" | "ListenBuildHistory")) = streaming {
        let (writer, response) = grpc::streaming();
        match (messages.only().await, call) {
            (Err(error), _) => writer.finish(Err(error)).await,
            (Ok(message), "Status") => drop(tokio::spawn(control::status(shared, message, writer))),
            (Ok(message), "Prune") => drop(tokio::spawn(usage::prune(shared, message, writer))),
            // No build is kept: the list of them is empty.
            (Ok(_), _) => writer.finish(Ok(())).await,
        }
        return response;
    }
    grpc::unary(call(shared, &method, &head.headers, messages).await).await
}

async fn call(
    shared: Arc<Shared>,
    method: &str,
    headers: &HeaderMap,
    messages: Messages,
) -> Result<crate::wire::Out> {
    let Some(short) = method.strip_prefix("/moby.buildkit.v1.") else {
        return match method {
            // HealthCheckResponse.SERVING
            "/grpc.health.v1.Health/Check" => Ok(crate::wire::Out::default().number(1, 1)),
            _ => Err(Error::NoMethod { method: method.to_owned() }),
        };
    };
    let id = headers.get("buildkit-controlapi-buildid").and_then(|id| id.to_str().ok()).unwrap_or("");
    match short {
        "Control/Info" => Ok(control::info()),
        "Control/ListWorkers" => Ok(control::list_workers()),
        "Control/DiskUsage" => usage::disk_usage(shared, &messages.only().await?).await,
        "Control/Solve" => control::solve(&shared, &messages.only().await?).await,
        "frontend.LLBBridge/Ping" => {
            shared.builds.find(id).await?;
            Ok(bridge::ping(&control::worker()))
        }
        "frontend.LLBBridge/Solve" => {
            let build = shared.builds.find(id).await?;
            bridge::solve(shared, build, &messages.only().await?).await
        }
        "frontend.LLBBridge/Return" => {
            let build = shared.builds.find(id).await?;
            bridge::take_return(&build, &messages.only().await?)
        }
        _ => Err(Error::NoMethod { method: method.to_owned() }),
    }
}
