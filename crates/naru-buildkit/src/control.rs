//! moby.buildkit.v1.Control: what buildx asks of a builder, and the call that spans a whole build.
//!
//! The order in a build: the client opens a session, then calls Solve (which answers at the build's end) and Status
//! at once, and meanwhile Ping, Solve and Return of the bridge.

use crate::builds::{Build, Made};
use crate::error::{Error, Result};
use crate::grpc::Writer;
use crate::outputs::{self, Output};
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

/// The one entitlement that can be had.
const HOST_NETWORK: &str = "network.host";

/// What of a SolveRequest is used.
#[derive(Default)]
pub struct SolveRequest {
    id: String,
    session: String,
    frontend: String,
    /// (type, attributes); buildx 0.12 and later fill in the list, earlier ones the single fields.
    exporters: Vec<(String, BTreeMap<String, String>)>,
    single: (String, BTreeMap<String, String>),
    entitlements: Vec<String>,
    /// Types of `--cache-to` and of `--cache-from`.
    cache_exports: Vec<String>,
    cache_imports: Vec<String>,
}

impl SolveRequest {
    pub fn decode(message: &[u8]) -> Result<Self> {
        let mut request = Self::default();
        fields(message, |field, value| {
            match field {
                1 => request.id = value.text()?,
                3 => request.single.0 = value.text()?,
                4 => value.entry(&mut request.single.1)?,
                5 => request.session = value.text()?,
                6 => request.frontend = value.text()?,
                8 => (request.cache_exports, request.cache_imports) = cache_options(value)?,
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

    /// Refuses what can't be had.
    pub fn outputs(&self) -> Result<Vec<Output>> {
        if let Some(entitlement) = self.entitlements.iter().find(|name| *name != HOST_NETWORK) {
            let what = format!("the entitlement {entitlement}");
            return Err(Error::Unsupported { what, hint: "leave --allow out" });
        }
        self.exporters.iter().map(|(kind, attributes)| Output::parse(kind, attributes)).collect()
    }
}

/// The types of CacheOptions' Exports and Imports.
fn cache_options(value: Value<'_>) -> Result<(Vec<String>, Vec<String>)> {
    let (mut exports, mut imports) = (Vec::new(), Vec::new());
    fields(value.bytes()?, |field, value| {
        match field {
            4 => exports.push(exporter(value)?.0),
            5 => imports.push(exporter(value)?.0),
            _ => {}
        }
        Ok(())
    })?;
    Ok((exports, imports))
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
pub async fn solve(shared: &Arc<Shared>, message: &[u8]) -> Result<Out> {
    let request = SolveRequest::decode(message)?;
    let outputs = request.outputs()?;
    if !request.frontend.is_empty() {
        let hint = "use docker buildx build, which drives the build itself";
        return Err(Error::Unsupported { what: format!("a solve of {:?}", request.frontend), hint });
    }
    let host_network_allowed = request.entitlements.iter().any(|name| name == HOST_NETWORK);
    let build = Build::new(request.session, outputs, host_network_allowed);
    let guard = shared.builds.open(&request.id, build)?;
    let build = &guard.build;
    for kind in &request.cache_exports {
        Teller::new(build).warn(&format!("naru writes no {kind} cache: --cache-to is left out"));
    }
    for kind in &request.cache_imports {
        Teller::new(build).warn(&format!("naru reads no {kind} cache: --cache-from is left out"));
    }
    build.returned().await?;
    let made = build.made.lock().unwrap_or_else(PoisonError::into_inner).clone();
    // Nothing was built: the client only asked something.
    let Some(made) = made else { return Ok(Out::default()) };
    export(shared, build, &made).await?;
    let image = made.image.to_string();
    let out = Out::default().entry(1, "containerimage.digest", &image);
    let out = out.entry(1, "containerimage.config.digest", &image);
    let names: Vec<String> = build.names().map(ToString::to_string).collect();
    Ok(if names.is_empty() { out } else { out.entry(1, "image.name", &names.join(",")) })
}

async fn export(shared: &Arc<Shared>, build: &Build, made: &Arc<Made>) -> Result<()> {
    for (number, output) in build.outputs.iter().enumerate() {
        let Some(what) = output.progress() else { continue };
        let mut teller = Teller::new(build);
        teller.begin(what);
        let session = shared.sessions.find(&build.session).await?;
        let sent = outputs::send(shared, session, number as u64, output, made).await;
        teller.end(sent.as_ref().err().map(Error::text).as_deref());
        sent?;
    }
    Ok(())
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
        let build = shared.builds.find_told(&id).await?;
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
