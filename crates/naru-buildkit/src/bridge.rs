//! moby.buildkit.v1.frontend.LLBBridge: the client drives its build through it, inside of the time of Control.Solve.

use crate::builds::Build;
use crate::error::{Error, Result};
use crate::filesync::{Wanted, fetch};
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

/// Largest Dockerfile or .dockerignore, in bytes.
const TEXT_BYTES_MAX: u64 = 4 << 20;
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
    let (name, text) = fetch_all(shared, build, attributes, &dir.0).await?;
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

/// The Dockerfile (whose name and text are given), its ignore rules, then what they leave of the context.
async fn fetch_all(
    shared: &Shared,
    build: &Build,
    attributes: &BTreeMap<String, String>,
    dir: &Path,
) -> Result<(String, String)> {
    let or = |key: &str, default: &str| attributes.get(key).cloned().unwrap_or_else(|| default.to_owned());
    let name = or("filename", "Dockerfile");
    let mut session = shared.sessions.find(&build.session).await?;
    let mut teller = Teller::new(build);
    teller.begin(&format!("[internal] load build definition from {name}"));
    let rules_name = format!("{name}.dockerignore");
    let file_dir = sub(dir, "dockerfile")?;
    let follow = vec![name.clone(), rules_name.clone()];
    let wanted = Wanted { dir: or("dockerfilekey", "dockerfile"), follow, exclude: Vec::new() };
    fetch(&mut session, &wanted, &file_dir).await?;
    let text = read(&file_dir, &name)?.ok_or_else(|| Error::NoDockerfile { name: name.clone() })?;
    teller.begin("[internal] load .dockerignore");
    let context_key = or("contextkey", "context");
    let own_rules = read(&file_dir, &rules_name)?;
    let rules = match &own_rules {
        Some(rules) => Some(rules.clone()),
        None => {
            let ignore_dir = sub(dir, "ignore")?;
            let follow = vec![".dockerignore".to_owned()];
            fetch(
                &mut session,
                &Wanted { dir: context_key.clone(), follow, exclude: Vec::new() },
                &ignore_dir,
            )
            .await?;
            read(&ignore_dir, ".dockerignore")?
        }
    };
    teller.begin("[internal] load build context");
    let context = sub(dir, "context")?;
    let exclude = patterns(rules.as_deref().unwrap_or(""));
    fetch(&mut session, &Wanted { dir: context_key, follow: Vec::new(), exclude }, &context).await?;
    teller.end(None);
    Ok((name, text))
}

fn sub(dir: &Path, name: &str) -> Result<PathBuf> {
    let path = dir.join(name);
    std::fs::create_dir(&path).map_err(Error::io(format!("make {}", path.display())))?;
    Ok(path)
}

/// A text that a transfer brought; links are not followed.
fn read(dir: &Path, name: &str) -> Result<Option<String>> {
    use rustix::fs::{Mode, OFlags, ResolveFlags};
    let step = || format!("read {name} of the build context");
    let open = || {
        let dir = rustix::fs::open(dir, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        rustix::fs::openat2(dir, name, flags, Mode::empty(), ResolveFlags::IN_ROOT)
    };
    let file = match open() {
        Ok(file) => std::fs::File::from(file),
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(Error::sys(step())(errno)),
    };
    let mut text = String::new();
    let mut bounded = std::io::Read::take(file, TEXT_BYTES_MAX);
    std::io::Read::read_to_string(&mut bounded, &mut text).map_err(Error::io(step()))?;
    Ok(Some(text))
}

/// The lines of .dockerignore as patterns: without comments, blanks and leading slashes.
fn patterns(rules: &str) -> Vec<String> {
    let lines =
        rules.trim_start_matches('\u{feff}').lines().filter(|line| !line.starts_with('#')).map(str::trim);
    lines
        .filter(|line| !line.is_empty() && *line != "!")
        .map(|line| match line.strip_prefix('!') {
            Some(rest) => format!("!{}", clean(rest.trim())),
            None => clean(line),
        })
        .collect()
}

fn clean(pattern: &str) -> String {
    let parts = pattern.split('/').filter(|part| !part.is_empty() && *part != ".");
    parts.collect::<Vec<_>>().join("/")
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignore_rules_become_patterns() {
        assert_eq!(patterns("# c\n/a/\n\n ./b//c \n!/d\n*.log"), ["a", "b/c", "!d", "*.log"]);
    }
}
