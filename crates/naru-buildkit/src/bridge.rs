//! moby.buildkit.v1.frontend.LLBBridge: the client drives its build through it, inside of the time of Control.Solve.

use crate::builds::Build;
use crate::error::{Error, Result};
use crate::fetch::{Fetched, fetch_all};
use crate::lend::Lender;
use crate::options;
use crate::progress::Teller;
use crate::server::Shared;
use crate::wire::{Out, fields};
use naru_build::outline::outline;
use naru_build::{BuildRequest, DockerfileSource};
use naru_kernel::random;
use naru_types::id;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
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
    build.give_back(outcome);
    Ok(Out::default())
}

/// LLBBridge.Solve: builds, and answers with a reference to the result.
pub async fn solve(shared: Arc<Shared>, build: Arc<Build>, message: &[u8]) -> Result<Out> {
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
    let image = run(&shared, &build, &attributes).await?;
    *build.image.lock().unwrap_or_else(PoisonError::into_inner) = Some(image.clone());
    let result = Out::default().message(3, &Out::default().text(1, &image));
    Ok(Out::default().message(3, &result))
}

async fn run(
    shared: &Arc<Shared>,
    build: &Arc<Build>,
    attributes: &BTreeMap<String, String>,
) -> Result<String> {
    let dir = Scratch::make(&shared.scratch)?;
    let mut wanted = BuildRequest::new(dir.0.join("context"));
    wanted.cancel = Arc::clone(&build.cancel);
    options::apply(attributes, &mut wanted)?;
    wanted.tags = options::tags(&build.tags)?;
    let mut session = shared.sessions.find(&build.session).await?;
    let Fetched { name, text, contexts } = fetch_all(&mut session, build, attributes, &dir.0).await?;
    wanted.contexts = contexts;
    wanted.session = Arc::new(Lender::new(session));
    wanted.dockerfile = DockerfileSource::Text { name: name.clone(), text: text.clone() };
    let (shared, build) = (Arc::clone(shared), Arc::clone(build));
    let task = tokio::task::spawn_blocking(move || {
        let mut teller = Teller::new(&build);
        // What is wrong with the file is the build's to say.
        teller.outline(outline(&name, &text).unwrap_or_default());
        let outcome = shared.builder.build_located(&wanted, &mut |event| teller.event(&event));
        let outcome = outcome.map_err(|error| Error::build(error, &text));
        teller.end(outcome.as_ref().err().map(Error::text).as_deref());
        let image = outcome?.to_string();
        for tag in &wanted.tags {
            (shared.on_tag)(&image, &tag.with_default_tag().familiar());
        }
        drop(dir);
        Ok(image)
    });
    task.await.map_err(|_| Error::Broken)?
}

/// One build's directory; removed with everything in it.
struct Scratch(PathBuf);

impl Scratch {
    fn make(parent: &Path) -> Result<Self> {
        let draw = random::bytes::<8>()
            .map_err(|error| naru_types::Error::internal("cannot draw a name").with_source(error))?;
        let path = parent.join(id::hex(&draw));
        std::fs::create_dir_all(&path).map_err(Error::io(format!("make {}", path.display())))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed now is swept at the next start.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
