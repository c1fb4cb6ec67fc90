//! The builder's face: what a request must satisfy before anything runs, and what comes after the last
//! step.

use crate::args::BuildArgs;
use crate::cache::Cache;
use crate::dockerfile::instruction::Dockerfile;
use crate::dockerfile::parse::parse;
use crate::error::{BuildError, Result};
use crate::event::BuildEvent;
use crate::execute::{Execution, created_of};
use crate::files::at;
use crate::files::resolve::resolve;
use crate::files::source::SourceTree;
use crate::kept::Contexts;
use crate::lint::{self, LintReport, Surroundings};
use crate::plan;
use crate::request::{BuildRequest, DockerfileSource};
use crate::runner::StepRunner;
use crate::scratch::{Scratch, sweep};
use crate::state::State;
use naru_image::{Lease, Store};
use naru_types::dockerignore::{IGNORE_BYTES_MAX, Ignore};
use naru_types::platform::Platform;
use naru_types::{Digest, Error};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::OFlags;
use rustix::io::Errno;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The most that is read of a Dockerfile, in bytes; the parser's own limit is at this as well.
const DOCKERFILE_BYTES_MAX: u64 = (4 << 20) + 1;

/// Where events go. `Send`, since a pull reports from its own threads.
pub type EventSink<'a> = dyn FnMut(BuildEvent) + Send + 'a;

/// What the cache holds, or what pruning it has freed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PrunedCache {
    pub entries: u64,
    /// Unpacked bytes of the layers that the entries refer to, and of the cache mounts. Layers that images
    /// use as well are counted too.
    pub bytes: u64,
}

/// What a build has made.
pub struct Built {
    pub image: Digest,
    /// Keeps the image's layers, and an image that is not listed, until it is dropped.
    pub held: Lease,
}

/// Builds images into one store. Cheap to clone; builds may run at once.
#[derive(Clone)]
pub struct Builder {
    store: Store,
    cache: Cache,
    scratch: PathBuf,
    secrets: PathBuf,
    runner: Arc<dyn StepRunner>,
}

impl Builder {
    /// Uses `<root>/build-cache` (kept) and `<root>/build-tmp` (swept now); `root` must be on the
    /// filesystem of the store's layers.
    pub fn open(store: Store, root: &Path, runner: Arc<dyn StepRunner>) -> Result<Self, Error> {
        let scratch = root.join("build-tmp");
        sweep(&scratch)?;
        let cache = Cache::open(root, store.clone())?;
        Ok(Self { store, cache, secrets: scratch.clone(), scratch, runner })
    }

    /// Keeps the files of secrets beneath `run`, which should be in memory, instead of beside the layers. What
    /// a crash left there is swept now.
    pub fn with_secrets_in(mut self, run: &Path) -> Result<Self, Error> {
        self.secrets = run.join("build-secrets");
        sweep(&self.secrets)?;
        Ok(self)
    }

    /// Runs the build to its end on the calling thread and gives the image's id. A failed step's exit code
    /// is told by [`BuildEvent::CommandFailed`] before the error returns.
    pub fn build(&self, request: &BuildRequest, on_event: &mut EventSink<'_>) -> Result<Digest, Error> {
        Ok(self.build_image(request, on_event)?.image)
    }

    /// As [`Self::build`]; the error says where in the Dockerfile.
    pub fn build_located(
        &self,
        request: &BuildRequest,
        on_event: &mut EventSink<'_>,
    ) -> Result<Built, BuildError> {
        self.build_image(request, on_event)
    }

    /// Contexts that are kept from one build to the next.
    pub fn contexts(&self) -> &Contexts {
        self.cache.contexts()
    }

    /// Has `request` build from a kept copy of the directory `source`, which is brought up to date. The Dockerfile, and its
    /// rules beside it as `<name>.dockerignore`, are in `files`. `false`: another build uses the copy.
    pub fn use_kept(
        &self,
        request: &mut BuildRequest,
        files: &Path,
        source: OwnedFd,
        key: &str,
    ) -> Result<bool, Error> {
        let root = at::open_root(files).map_err(BuildError::sys("open the context", files))?;
        let (name, text) = read_dockerfile(&root, &request.dockerfile)?;
        let ignore = read_ignore(&root, &[&format!("{name}.dockerignore")])?;
        let Some(kept) = self.contexts().take(key)? else { return Ok(false) };
        kept.mirror(source, ignore, &request.cancel)?;
        request.dockerfile = DockerfileSource::Text { name, text };
        request.context = kept.tree();
        request.kept = Some(Arc::new(kept));
        request.filtered = true;
        Ok(true)
    }

    /// Where the images are.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Looks for what is allowed and yet hardly meant; runs and pulls nothing. What can't be parsed is an error.
    pub fn check(&self, request: &BuildRequest) -> Result<LintReport, Error> {
        Ok(self.lint(request)?)
    }

    /// Forgets every cache entry and every cache mount that no running build uses (`docker builder prune`).
    /// Layers that nothing else reaches are deleted.
    pub fn prune(&self) -> Result<PrunedCache, Error> {
        let before = self.cache_usage()?;
        self.cache.clear()?;
        // Removed images that containers still use are not this function's to judge.
        self.store.collect(&|_| true)?;
        let after = self.cache_usage()?;
        Ok(PrunedCache {
            entries: before.entries.saturating_sub(after.entries),
            bytes: before.bytes.saturating_sub(after.bytes),
        })
    }

    /// Bytes and entries of the cache, for `docker system df`.
    pub fn cache_usage(&self) -> Result<PrunedCache, Error> {
        let (entries, bytes) = self.cache.usage()?;
        Ok(PrunedCache { entries, bytes })
    }

    fn lint(&self, request: &BuildRequest) -> Result<LintReport> {
        let root =
            at::open_root(&request.context).map_err(BuildError::sys("open the context", &request.context))?;
        let (name, text) = read_dockerfile(&root, &request.dockerfile)?;
        let file = parse(&name, &text)?;
        let ignore = read_ignore(&root, &[&format!("{name}.dockerignore"), ".dockerignore"])?;
        let image = |name: &str| {
            let image = self.store.get(name).ok()?;
            Some((image.id, image.config.clone()))
        };
        let around = Surroundings {
            given: &request.args,
            target: request.target.as_deref(),
            ignore: &ignore,
            host: &Platform::host(),
            image: &image,
        };
        Ok(LintReport { warnings: lint::check(&file, &around)?, file: name, text })
    }

    /// Before anything runs; BuildKit looks at the same, and as early.
    fn refuse_findings(&self, request: &BuildRequest) -> Result<()> {
        let found = self.lint(request)?.warnings;
        let rules: BTreeSet<&'static str> = found.iter().map(|warning| warning.rule).collect();
        if rules.is_empty() { Ok(()) } else { Err(BuildError::Lint { rules: rules.into_iter().collect() }) }
    }

    fn build_image(&self, request: &BuildRequest, on_event: &mut EventSink<'_>) -> Result<Built> {
        let host = Platform::host();
        check_platform(request, &host)?;
        let root =
            at::open_root(&request.context).map_err(BuildError::sys("open the context", &request.context))?;
        let (mut file, ignore) = read_files(&root, request)?;
        file.contexts = request.contexts.keys().cloned().collect();
        plan::check(&file)?;
        if lint::is_wanted(&file, &request.args)? {
            self.refuse_findings(request)?;
        }
        let context =
            SourceTree { root, ignore, owned_by_root: true, only: None, kept: request.kept.clone() };
        let scratch = Scratch::make(&self.scratch)?;
        let empty = scratch.dir("empty")?;
        let mut sink = |event: BuildEvent| on_event(event);
        for text in &file.warnings {
            sink(BuildEvent::Warning { text: text.clone() });
        }
        let last = file.stages.last().and_then(|stage| stage.name.as_deref());
        let target = request.target.as_deref().filter(|target| !target.is_empty()).or(last);
        let mut execution = Execution {
            store: &self.store,
            cache: &self.cache,
            runner: &*self.runner,
            request,
            file: &file,
            context: &context,
            events: &mut sink,
            args: BuildArgs::new(&request.args, &host, target),
            host,
            lease: self.store.lease(),
            scratch,
            empty,
            secrets: &self.secrets,
            done: BTreeMap::new(),
            number: 0,
            total: 0,
            serial: 0,
        };
        let state = execution.run()?;
        execution.check_cancel()?;
        let unused = execution.args.unused();
        if !unused.is_empty() {
            let text = format!("One or more build-args [{}] were not consumed", unused.join(" "));
            execution.tell(BuildEvent::Warning { text });
        }
        let image = self.finish(request, state, &mut execution)?;
        Ok(Built { image, held: execution.lease })
    }

    /// The image and its names, in one act.
    fn finish(
        &self,
        request: &BuildRequest,
        mut state: State,
        execution: &mut Execution<'_>,
    ) -> Result<Digest> {
        state.config.config.labels.extend(request.labels.clone());
        state.config.created = Some(created_of(&state));
        let layers = state.layers().to_vec();
        let image = if request.listed {
            self.store.create_image(state.config, &layers, &request.tags)?
        } else {
            self.store.create_unlisted_image(state.config, &layers, &execution.lease)?
        };
        execution.tell(BuildEvent::Built { image: image.id });
        for tag in &request.tags {
            execution.tell(BuildEvent::Tagged { name: tag.with_default_tag().familiar() });
        }
        Ok(image.id)
    }
}

fn check_platform(request: &BuildRequest, host: &Platform) -> Result<()> {
    match &request.platform {
        Some(platform) if !platform.runs_on(host) => {
            let error = Error::not_implemented(format!(
                "platform {platform} is not supported: this machine is {host}"
            ));
            Err(error.with_hint("build on a machine of that platform; naru does not emulate others").into())
        }
        _ => Ok(()),
    }
}

/// The Dockerfile and the ignore rules that go with it.
fn read_files(root: &OwnedFd, request: &BuildRequest) -> Result<(Dockerfile, Ignore)> {
    let (name, text) = read_dockerfile(root, &request.dockerfile)?;
    let file = parse(&name, &text)?;
    if request.filtered {
        return Ok((file, Ignore::default()));
    }
    let own = format!("{name}.dockerignore");
    Ok((file, read_ignore(root, &[&own, ".dockerignore"])?))
}

/// Name and text.
fn read_dockerfile(root: &OwnedFd, source: &DockerfileSource) -> Result<(String, String)> {
    match source {
        DockerfileSource::Text { name, text } => Ok((name.clone(), text.clone())),
        DockerfileSource::InContext(name) => {
            let text = read_text(root, name, DOCKERFILE_BYTES_MAX)?
                .ok_or_else(|| BuildError::NoDockerfile { name: name.clone() })?;
            Ok((name.clone(), text))
        }
    }
}

/// The rules in the first of these files that is there.
pub(crate) fn read_ignore(root: &OwnedFd, names: &[&str]) -> Result<Ignore> {
    for rules in names {
        if let Some(text) = read_text(root, rules, IGNORE_BYTES_MAX)? {
            return Ignore::parse(&text).map_err(|(line, message)| BuildError::File {
                file: format!("{rules}:{line}"),
                message,
                hint: None,
            });
        }
    }
    Ok(Ignore::default())
}

/// A text file of the context, links resolved within it.
fn read_text(root: &OwnedFd, name: &str, bytes_max: u64) -> Result<Option<String>> {
    let refuse =
        |message: &str| BuildError::File { file: name.to_owned(), message: message.to_owned(), hint: None };
    let found = match resolve(root.as_fd(), Path::new(name), true) {
        Ok(found) => found,
        Err(Errno::NOTDIR | Errno::NAMETOOLONG) => return Ok(None),
        Err(errno) => return Err(BuildError::sys("read", name)(errno)),
    };
    let Some(stat) = found.stat else { return Ok(None) };
    if at::kind(&stat) != rustix::fs::FileType::RegularFile {
        return Err(refuse("not a regular file"));
    }
    let fd = at::open_beneath(root, &found.path, OFlags::RDONLY).map_err(BuildError::sys("open", name))?;
    let mut bytes = Vec::new();
    File::from(fd).take(bytes_max + 1).read_to_end(&mut bytes).map_err(BuildError::io("read", name))?;
    if bytes.len() as u64 > bytes_max {
        return Err(refuse("the file is too large"));
    }
    String::from_utf8(bytes).map(Some).map_err(|_| refuse("the file is not UTF-8 text"))
}
