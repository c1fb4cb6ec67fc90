//! moby.buildkit.v1.Control: what buildx asks of a builder, and the call that spans a whole build.
//!
//! The order in a build: the client opens a session, then calls Solve (which answers at the build's end) and Status
//! at once, and meanwhile Ping, Solve and Return of the bridge.

use crate::builds::Build;
use crate::error::{Error, Result};
use crate::grpc::Writer;
use crate::progress::Teller;
use crate::server::Shared;
use crate::wire::{Out, Value, fields};
use naru_types::platform::Platform;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

/// moby.buildkit.v1.types.BuildkitVersion.
fn version() -> Out {
    Out::default().text(1, "github.com/naru-dev/naru").text(2, concat!("v", env!("CARGO_PKG_VERSION")))
}

/// moby.buildkit.v1.types.WorkerRecord: naru itself.
pub fn worker() -> Out {
    let host = Platform::host();
    let platform = Out::default().text(1, &host.architecture).text(2, "linux");
    let platform = platform.text(3, host.variant.as_deref().unwrap_or(""));
    let labels = Out::default().text(1, "naru").entry(2, "org.mobyproject.buildkit.worker.executor", "naru");
    labels.message(3, &platform).message(5, &version())
}

pub fn list_workers() -> Out {
    Out::default().message(1, &worker())
}

pub fn info() -> Out {
    Out::default().message(1, &version())
}

/// What of a SolveRequest is used.
#[derive(Default)]
struct SolveRequest {
    id: String,
    session: String,
    frontend: String,
    /// (type, attributes); buildx 0.12 and later fill in the list, earlier ones the single fields.
    exporters: Vec<(String, BTreeMap<String, String>)>,
    single: (String, BTreeMap<String, String>),
    entitlements: Vec<String>,
    /// Types of `--cache-to`.
    cache_exports: Vec<String>,
}

impl SolveRequest {
    fn decode(message: &[u8]) -> Result<Self> {
        let mut request = Self::default();
        fields(message, |field, value| {
            match field {
                1 => request.id = value.text()?,
                3 => request.single.0 = value.text()?,
                4 => value.entry(&mut request.single.1)?,
                5 => request.session = value.text()?,
                6 => request.frontend = value.text()?,
                8 => request.cache_exports = cache_exports(value)?,
                9 => request.entitlements.push(value.text()?),
                13 => request.exporters.push(exporter(value)?),
                _ => {}
            }
            Ok(())
        })?;
        if request.exporters.is_empty() && !request.single.0.is_empty() {
            request.exporters.push(std::mem::take(&mut request.single));
        }
        Ok(request)
    }

    /// The names for the image; refuses what can't be exported.
    fn tags(&self) -> Result<Vec<String>> {
        let unsupported = |what: String, hint| Err(Error::Unsupported { what, hint });
        // naru's steps may use the host's network whenever they ask for it.
        if let Some(entitlement) = self.entitlements.iter().find(|name| *name != "network.host") {
            return unsupported(format!("the entitlement {entitlement}"), "leave --allow out");
        }
        let mut tags = Vec::new();
        for (kind, attributes) in &self.exporters {
            if !matches!(kind.as_str(), "moby" | "image") {
                return unsupported(
                    format!("the output {kind}"),
                    "build the image, then use docker save or cp",
                );
            }
            // `push` is no concern of the exporter `moby`: the client pushes through Docker's API afterwards.
            if kind == "image" && attributes.get("push").is_some_and(|push| push == "true") {
                return unsupported("a push by the builder".into(), "use docker push after the build");
            }
            let names = attributes.get("name").map_or("", String::as_str).split(',');
            tags.extend(names.filter(|name| !name.is_empty()).map(str::to_owned));
        }
        Ok(tags)
    }
}

/// CacheOptions' Exports.
fn cache_exports(value: Value<'_>) -> Result<Vec<String>> {
    let mut kinds = Vec::new();
    fields(value.bytes()?, |field, value| {
        if field == 4 {
            kinds.push(exporter(value)?.0);
        }
        Ok(())
    })?;
    Ok(kinds)
}

fn exporter(value: Value<'_>) -> Result<(String, BTreeMap<String, String>)> {
    let (mut kind, mut attributes) = (String::new(), BTreeMap::new());
    fields(value.bytes()?, |field, value| {
        match field {
            1 => kind = value.text()?,
            2 => value.entry(&mut attributes)?,
            _ => {}
        }
        Ok(())
    })?;
    Ok((kind, attributes))
}

/// Lasts as long as the build; dropped (the client has gone), it cancels the build.
pub async fn solve(shared: &Shared, message: &[u8]) -> Result<Out> {
    let request = SolveRequest::decode(message)?;
    let tags = request.tags()?;
    if !request.frontend.is_empty() {
        let hint = "use docker buildx build, which drives the build itself";
        return Err(Error::Unsupported { what: format!("a solve of {:?}", request.frontend), hint });
    }
    let build = Build::new(request.session, tags);
    let guard = shared.builds.open(&request.id, build)?;
    for kind in &request.cache_exports {
        Teller::new(&guard.build).warn(&format!("naru writes no {kind} cache: --cache-to is left out"));
    }
    guard.build.returned().await?;
    let image = guard.build.image.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let Some(image) = image else { return Ok(Out::default()) };
    let out = Out::default().entry(1, "containerimage.digest", &image);
    let out = out.entry(1, "containerimage.config.digest", &image);
    let names = guard.build.tags.join(",");
    Ok(if names.is_empty() { out } else { out.entry(1, "image.name", &names) })
}

/// Control.Status: everything told of a build so far, and then the rest as it comes.
pub async fn status(shared: Arc<Shared>, message: bytes::Bytes, writer: Writer) {
    let outcome = async {
        let mut id = String::new();
        fields(&message, |field, value| {
            if field == 1 {
                id = value.text()?;
            }
            Ok(())
        })?;
        let build = shared.builds.find(&id).await?;
        for number in 0.. {
            let next = tokio::select! {
                next = build.progress(number) => next,
                () = writer.closed() => return Err(Error::Cancelled),
            };
            let Some(message) = next else { break };
            writer.send(&message).await?;
        }
        Ok(())
    };
    let outcome = outcome.await;
    writer.finish(outcome).await;
}
