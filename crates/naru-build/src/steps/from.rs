//! FROM: where a stage begins.

use crate::args::BuildArgs;
use crate::dockerfile::expand::expand;
use crate::dockerfile::instruction::{Dockerfile, Stage};
use crate::error::{BuildError, Position, Result};
use crate::event::BuildEvent;
use crate::execute::Execution;
use crate::plan::{context_named, replaced, stage_named};
use crate::request::NamedContext;
use crate::state::State;
use naru_image::{Image, Progress, PullOptions};
use naru_types::platform::Platform;
use naru_types::{ImageRef, Kind};
use std::sync::Mutex;

/// FROM's image with its variables expanded.
pub(crate) fn expand_base(args: &BuildArgs, file: &Dockerfile, stage: &Stage) -> Result<String> {
    let base = expand(&stage.base, file.escape, &|name| args.in_from(name))
        .map_err(|message| stage.at.error(message))?;
    if base.is_empty() {
        return Err(stage.at.hinted(
            format!("base name ({}) should not be blank", stage.base),
            "give the variable a default with ARG before FROM, or a value with --build-arg",
        ));
    }
    Ok(base)
}

/// The state that stage `index` starts from.
pub(crate) fn base(run: &mut Execution<'_>, index: usize) -> Result<State> {
    let stage = &run.file.stages[index];
    if let Some(name) = replaced(run.file, stage) {
        return context(run, &stage.at, &name.to_owned());
    }
    check_platform(run, stage)?;
    let base = expand_base(&run.args, run.file, stage)?;
    if let Some(earlier) = stage_named(run.file, index, &base) {
        let mut state = run.stage(earlier)?;
        state.cmd_set = false;
        run.tell(BuildEvent::StepDone { image: state.image_id() });
        return Ok(state);
    }
    if base == "scratch" {
        return Ok(State::scratch(&run.host));
    }
    if let Some(name) = context_named(run.file, &base) {
        return context(run, &stage.at, &name.to_owned());
    }
    start(run, &stage.at, &base)
}

/// FROM a name that the request gave a meaning.
fn context(run: &mut Execution<'_>, at: &Position, name: &str) -> Result<State> {
    match run.request.contexts.get(name) {
        Some(NamedContext::Image(image)) => start(run, at, &image.clone()),
        Some(NamedContext::Directory(_)) => Err(at.unsupported(
            format!("the build context {name:?} is a directory, which cannot be a base image"),
            "begin with `FROM scratch` and `COPY --from=` that context",
        )),
        None => Err(at.error(format!("no build context is called {name:?}"))),
    }
}

fn start(run: &mut Execution<'_>, at: &Position, name: &str) -> Result<State> {
    let image = image(run, at, name)?;
    run.tell(BuildEvent::StepDone { image: image.id });
    Ok(State::from_image(&image.id, &image.config))
}

/// An image from the store, or from its registry. Its layers are held for the build.
pub(crate) fn image(run: &mut Execution<'_>, at: &Position, name: &str) -> Result<Image> {
    let wrap = |source| BuildError::At { at: Box::new(at.clone()), source };
    let image = if run.request.pull && !is_id(name) {
        pull(run, at, name)?
    } else {
        match run.store.get(name) {
            Err(error) if error.kind() == Kind::NotFound => pull(run, at, name)?,
            other => other.map_err(wrap)?,
        }
    };
    for layer in image.layers() {
        run.lease.hold(layer).map_err(wrap)?;
    }
    let platform = Platform {
        architecture: image.config.architecture.clone(),
        os: image.config.os.clone(),
        os_version: None,
        variant: image.config.variant.clone(),
    };
    if !platform.architecture.is_empty() && platform.architecture != run.host.architecture {
        return Err(at.hinted(
            format!("image {name} is for {platform}, this machine is {}", run.host),
            "use an image for this platform; naru does not emulate others",
        ));
    }
    Ok(image)
}

fn pull(run: &mut Execution<'_>, at: &Position, name: &str) -> Result<Image> {
    let wrap = |source| BuildError::At { at: Box::new(at.clone()), source };
    let reference = ImageRef::parse(name).map_err(wrap)?.with_default_tag();
    let events = Mutex::new(&mut *run.events);
    let progress = |message: Progress| {
        if let Ok(mut events) = events.lock() {
            (events)(BuildEvent::Pull(message));
        }
    };
    let options = PullOptions {
        credentials: (run.request.credentials)(&reference),
        platform: Some(run.host.clone()),
        progress: &progress,
        cancel: &run.request.cancel,
    };
    let pulled = run.store.pull(&reference, &options);
    run.check_cancel()?;
    let named =
        |error: naru_types::Error| error.context(format_args!("cannot pull {}", reference.familiar()));
    Ok(pulled.map_err(|error| wrap(named(error)))?.image)
}

/// A digest names one image for ever; asking the registry again would be in vain.
fn is_id(name: &str) -> bool {
    name.starts_with("sha256:")
}

fn check_platform(run: &Execution<'_>, stage: &Stage) -> Result<()> {
    let Some(text) = &stage.platform else { return Ok(()) };
    let at = &stage.at;
    let text =
        expand(text, run.file.escape, &|name| run.args.in_from(name)).map_err(|message| at.error(message))?;
    if text.is_empty() {
        let written = stage.platform.as_deref().unwrap_or_default();
        return Err(at.error(format!("empty platform value from expression {written}")));
    }
    let platform = Platform::parse(&text).ok_or_else(|| {
        at.hinted(format!("failed to parse platform {text}"), "write os/architecture, such as linux/amd64")
    })?;
    if platform.runs_on(&run.host) {
        return Ok(());
    }
    Err(at.unsupported(
        format!("platform {text} is not supported: this machine is {}", run.host),
        "build on a machine of that platform; naru does not emulate others",
    ))
}
