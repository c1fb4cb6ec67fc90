//! moby.buildkit.v1.frontend.LLBBridge: the client drives its build through it, inside of the time of Control.Solve.

use crate::builds::{Build, Made};
use crate::error::{Error, Result};
use crate::fetch::{CONTEXT_DIR, Directories, Fetched};
use crate::lend::Lender;
use crate::options;
use crate::progress::Teller;
use crate::server::Shared;
use crate::subrequest::{is_asked, lint};
use crate::wire::{Out, fields};
use naru_build::outline::outline;
use naru_build::{BuildRequest, Built, ContextDir, DockerfileSource};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, PoisonError};

/// What the client may use of the bridge (BuildKit, frontend/gateway/pb/caps.go).
const CAPABILITIES: [&str; 7] = [
    "solve.base",
    "solve.inlinereturn",
    "return",
    "returnmap",
    "proto.refarray",
    "frontend.caps",
    "gateway.solve.evaluate",
];

pub fn ping(worker: &Out) -> Out {
    let capability = |name| Out::default().text(1, name).number(2, 1);
    CAPABILITIES.iter().fold(Out::default(), |out, name| out.message(1, &capability(name))).message(3, worker)
}

/// LLBBridge.Return: how the client's side of the build ended.
pub fn take_return(build: &Build, message: &[u8]) -> Result<Out> {
    build.give_back(outcome(message)?);
    Ok(Out::default())
}

/// What a ReturnRequest says.
pub fn outcome(message: &[u8]) -> Result<Result<()>> {
    let mut outcome = Ok(());
    fields(message, |field, value| {
        if field == 2 {
            let (mut code, mut message) = (2, String::new());
            fields(value.bytes()?, |field, value| {
                match field {
                    1 => code = value.number()? as u32,
                    2 => message = value.text()?,
                    _ => {}
                }
                Ok(())
            })?;
            outcome = Err(Error::Returned { code, message, status: value.bytes()?.to_vec() });
        }
        Ok(())
    })?;
    Ok(outcome)
}

/// What a SolveRequest of the bridge asks of the frontend.
pub fn attributes(message: &[u8]) -> Result<BTreeMap<String, String>> {
    let (mut frontend, mut has_definition) = (String::new(), false);
    let mut attributes = BTreeMap::new();
    fields(message, |field, value| {
        match field {
            1 => has_definition = !value.bytes()?.is_empty(),
            2 => frontend = value.text()?,
            3 => value.entry(&mut attributes)?,
            _ => {}
        }
        Ok(())
    })?;
    if frontend != "dockerfile.v0" || has_definition {
        let hint = "build a Dockerfile; a graph of the client's own is not evaluated";
        return Err(Error::Unsupported { what: format!("the frontend {frontend:?}"), hint });
    }
    Ok(attributes)
}

/// LLBBridge.Solve: builds, and answers with a reference to the result.
pub async fn solve(shared: Arc<Shared>, build: Arc<Build>, message: &[u8]) -> Result<Out> {
    let attributes = attributes(message)?;
    let asked = is_asked(&attributes)?;
    let dir = ContextDir::make(&shared.scratch)?;
    let wanted = prepare(&shared, &build, &attributes, dir.path(), !asked).await?;
    if asked {
        return Ok(Out::default().message(3, &lint(shared, wanted).await?));
    }
    let made = run(&shared, &build, wanted, dir).await?;
    let result = Out::default().message(3, &Out::default().text(1, &made.image.to_string()));
    *build.made.lock().unwrap_or_else(PoisonError::into_inner) = Some(made);
    Ok(Out::default().message(3, &result))
}

/// Fetches what the build needs into `dir`; without its context for a mere look at the Dockerfile.
async fn prepare(
    shared: &Shared,
    build: &Build,
    attributes: &BTreeMap<String, String>,
    dir: &Path,
    with_context: bool,
) -> Result<BuildRequest> {
    let mut wanted = BuildRequest::new(dir.join(CONTEXT_DIR));
    wanted.cancel = Arc::clone(&build.cancel);
    options::apply(attributes, &mut wanted)?;
    wanted.host_network_allowed = build.host_network_allowed;
    wanted.tags = build.names().cloned().collect();
    wanted.listed = build.is_stored();
    let session = shared.sessions.find(&build.session).await?;
    let kept = shared.builder.contexts();
    let directories = Directories { sessions: &shared.sessions, build, attributes, kept };
    let Fetched { name, text, contexts, kept } = directories.fetch_all(dir, with_context).await?;
    if let Some(kept) = kept {
        wanted.context = kept.tree();
        wanted.kept = Some(kept);
    }
    wanted.contexts = contexts;
    // The client has left out what is to be ignored; of an archive, nothing is.
    wanted.filtered = true;
    wanted.session = Arc::new(Lender::new(session, &shared.scratch));
    wanted.dockerfile = DockerfileSource::Text { name, text };
    Ok(wanted)
}

async fn run(
    shared: &Arc<Shared>,
    build: &Arc<Build>,
    wanted: BuildRequest,
    dir: ContextDir,
) -> Result<Arc<Made>> {
    let (shared, build) = (Arc::clone(shared), Arc::clone(build));
    let task = tokio::task::spawn_blocking(move || {
        let mut teller = Teller::new(&build);
        let (name, text) = match &wanted.dockerfile {
            DockerfileSource::Text { name, text } => (name.as_str(), text.as_str()),
            DockerfileSource::InContext(name) => (name.as_str(), ""),
        };
        // What is wrong with the file is the build's to say.
        teller.outline(outline(name, text).unwrap_or_default());
        let outcome = shared.builder.build_located(&wanted, &mut |event| teller.event(&event));
        let outcome = outcome.map_err(|error| Error::build(error, text));
        teller.end(outcome.as_ref().err().map(Error::text).as_deref());
        let Built { image, held } = outcome?;
        for tag in &wanted.tags {
            shared.host.tagged(&image, tag);
        }
        drop(dir);
        Ok(Arc::new(Made { image, _held: held }))
    });
    task.await.map_err(|_| Error::Broken)?
}
