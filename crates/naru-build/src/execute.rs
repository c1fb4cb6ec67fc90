//! The run of a build: stages in order, steps in order, each looked up in the cache or done.

use crate::args::BuildArgs;
use crate::builder::EventSink;
use crate::cache::{Cache, Entry, Key};
use crate::dockerfile::instruction::{Dockerfile, Instruction, Step};
use crate::dockerfile::parse::parse_trigger;
use crate::error::{BuildError, Position, Result};
use crate::event::BuildEvent;
use crate::files::source::SourceTree;
use crate::files::view;
use crate::plan;
use crate::request::BuildRequest;
use crate::runner::StepRunner;
use crate::scratch::Scratch;
use crate::state::State;
use crate::steps;
use naru_image::{Lease, Store};
use naru_types::platform::Platform;
use naru_types::{Digest, Timestamp};
use rustix::fd::OwnedFd;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

pub(crate) struct Execution<'a> {
    pub(crate) store: &'a Store,
    pub(crate) cache: &'a Cache,
    pub(crate) runner: &'a dyn StepRunner,
    pub(crate) request: &'a BuildRequest,
    pub(crate) file: &'a Dockerfile,
    pub(crate) context: &'a SourceTree,
    pub(crate) events: &'a mut EventSink<'a>,
    pub(crate) host: Platform,
    pub(crate) lease: Lease,
    /// Holds all that is half-made.
    pub(crate) scratch: Scratch,
    pub(crate) empty: PathBuf,
    /// Where the files of secrets lie while a step uses them.
    pub(crate) secrets: &'a Path,
    pub(crate) args: BuildArgs,
    /// Finished stages.
    pub(crate) done: BTreeMap<usize, State>,
    pub(crate) number: usize,
    pub(crate) total: usize,
    /// Makes names in the scratch directory.
    pub(crate) serial: usize,
}

impl Execution<'_> {
    /// Runs every needed stage and gives the last one's state.
    pub(crate) fn run(&mut self) -> Result<State> {
        self.args.declare_global(self.file)?;
        let file = self.file;
        let plan = plan::needed(file, self.request.target.as_deref(), &|stage| {
            steps::from::expand_base(&self.args, file, stage)
        })?;
        self.total = file.global_args.len()
            + plan.iter().map(|index| 1 + file.stages[*index].steps.len()).sum::<usize>();
        for (at, _) in &file.global_args {
            self.start("", &at.text);
        }
        for index in &plan {
            self.stage(*index)?;
        }
        let last = plan.last().and_then(|index| self.done.remove(index));
        last.ok_or_else(|| BuildError::NoTarget { target: String::new(), known: Vec::new() })
    }

    /// The state of a stage, which is run first if it hasn't been (an ONBUILD trigger may ask for one that
    /// the plan couldn't know of).
    pub(crate) fn stage(&mut self, index: usize) -> Result<State> {
        if let Some(state) = self.done.get(&index) {
            return Ok(state.clone());
        }
        let stage = &self.file.stages[index];
        let name = stage.name.clone().unwrap_or_else(|| index.to_string());
        self.start(&name, &stage.text);
        let mut state = steps::from::base(self, index)?;
        let triggers = state.config.config.on_build.take().unwrap_or_default();
        if !triggers.is_empty() {
            self.tell(BuildEvent::Triggers { count: triggers.len() });
        }
        for trigger in &triggers {
            for step in parse_trigger(&stage.base, trigger)? {
                self.step(index, &mut state, &step)?;
            }
        }
        for step in &stage.steps {
            self.start(&name, &step.text);
            self.step(index, &mut state, step)?;
        }
        self.done.insert(index, state.clone());
        Ok(state)
    }

    fn step(&mut self, stage: usize, state: &mut State, step: &Step) -> Result<()> {
        self.check_cancel()?;
        match &step.instruction {
            Instruction::Run(run) => steps::run::run(self, stage, state, &step.at, run)?,
            Instruction::Copy(copy) => steps::copy::run(self, stage, state, &step.at, copy)?,
            Instruction::Workdir(path) => steps::workdir::run(self, state, &step.at, path)?,
            other => steps::config::run(self, state, &step.at, other)?,
        }
        self.tell(BuildEvent::StepDone { image: state.image_id() });
        Ok(())
    }

    /// Does a step, or takes its result from the cache. `make` gives the directory of a new layer, or `None`
    /// when no file changed.
    pub(crate) fn cached(
        &mut self,
        state: &mut State,
        key: &Key,
        created_by: &str,
        make: impl FnOnce(&mut Self, &State) -> Result<Option<PathBuf>>,
    ) -> Result<()> {
        if !self.request.no_cache
            && let Some(entry) = self.cache.find(key, &self.lease)
        {
            self.tell(BuildEvent::CacheHit);
            state.append(key, entry.layer, &entry.created, created_by);
            return Ok(());
        }
        let layer = match make(self, state)? {
            Some(upper) if !is_empty(&upper)? => {
                Some(self.store.commit_layer(&upper, true, &self.lease)?.diff_id)
            }
            _ => None,
        };
        let created = naru_kernel::clock::now().to_string();
        self.cache.put(key, &Entry { created: created.clone(), layer })?;
        state.append(key, layer, &created, created_by);
        Ok(())
    }

    /// The root filesystem of a state, for reading.
    pub(crate) fn view(&self, state: &State) -> Result<OwnedFd> {
        view::open(&self.lowers(state.layers())?, &self.empty)
    }

    /// Layer directories, topmost first.
    pub(crate) fn lowers(&self, layers: &[Digest]) -> Result<Vec<PathBuf>> {
        let dir = |layer: &Digest| {
            self.store.layer_dir(layer).map_err(|source| BuildError::Layer { layer: *layer, source })
        };
        layers.iter().rev().map(dir).collect()
    }

    /// A new directory for a layer or for something else that is half-made.
    pub(crate) fn scratch_dir(&mut self, what: &str) -> Result<PathBuf> {
        self.serial += 1;
        let name = format!("{}-{what}", self.serial);
        self.scratch.dir(&name)
    }

    pub(crate) fn tell(&mut self, event: BuildEvent) {
        (self.events)(event);
    }

    pub(crate) fn check_cancel(&self) -> Result<()> {
        if self.request.cancel.load(Ordering::Relaxed) { Err(BuildError::Cancelled) } else { Ok(()) }
    }

    fn start(&mut self, stage: &str, text: &str) {
        self.number += 1;
        // Steps of stages that the plan didn't know of come on top.
        self.total = self.total.max(self.number);
        let (number, total) = (self.number, self.total);
        self.tell(BuildEvent::StepStarted { number, total, stage: stage.to_owned(), text: text.to_owned() });
    }
}

/// Expands a word of an instruction with the stage's variables.
pub(crate) fn expand(file: &Dockerfile, state: &State, at: &Position, word: &str) -> Result<String> {
    crate::dockerfile::expand::expand(word, file.escape, &|name| state.variable(name))
        .map_err(|message| at.error(message))
}

fn is_empty(dir: &Path) -> Result<bool> {
    let mut entries = std::fs::read_dir(dir).map_err(BuildError::io("read", dir))?;
    Ok(entries.next().is_none())
}

/// The `created` of an image that has no step of its own.
pub(crate) fn created_of(state: &State) -> String {
    state.config.created.clone().unwrap_or_else(|| Timestamp(0).to_string())
}
