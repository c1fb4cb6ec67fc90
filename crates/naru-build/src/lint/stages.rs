//! Rules that need to know what variables, shells and directories a stage has at each line.

use crate::args::BuildArgs;
use crate::dockerfile::expose::Ports;
use crate::dockerfile::instruction::{Arg, Command, Copy, Dockerfile, Instruction, Stage, Step};
use crate::dockerfile::words::{keyword, split_plain, split_quoted};
use crate::error::{Position, Result};
use crate::lint::words::{Word, look, suggestion};
use crate::lint::{Linter, rules};
use crate::plan;
use crate::state::State;
use naru_types::dockerignore::Ignore;
use naru_types::image::ImageConfig;
use naru_types::platform::Platform;
use naru_types::{Digest, ImageRef};
use std::collections::BTreeMap;
use std::path::Path;

/// What a check knows beside the Dockerfile.
pub(crate) struct Surroundings<'a> {
    /// `--build-arg`.
    pub(crate) given: &'a BTreeMap<String, String>,
    pub(crate) target: Option<&'a str>,
    pub(crate) ignore: &'a Ignore,
    pub(crate) host: &'a Platform,
    /// An image that is in the store.
    pub(crate) image: &'a dyn Fn(&str) -> Option<(Digest, ImageConfig)>,
}

/// Names that hold what nobody else may know, and names that only sound like it.
const SECRETS: [&str; 10] =
    ["apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd", "secret", "token"];
const HARMLESS: [&str; 3] = ["public", "file", "version"];

pub(super) fn check(file: &Dockerfile, around: &Surroundings<'_>, linter: &mut Linter) -> Result<()> {
    let mut args = BuildArgs::new(around.given, around.host, around.target);
    args.declare_global(file)?;
    default_bases(file, around, linter);
    let mut done: Vec<Walk> = Vec::new();
    for (index, stage) in file.stages.iter().enumerate() {
        let base = from(file, &args, stage, linter);
        let mut walk = Walk::start(file, around, &done, index, &base);
        for step in &stage.steps {
            walk.step(file, around, &mut args, step, linter);
        }
        done.push(walk);
    }
    Ok(())
}

/// FROM without any `--build-arg`.
fn default_bases(file: &Dockerfile, around: &Surroundings<'_>, linter: &mut Linter) {
    let mut args = BuildArgs::new(&BTreeMap::new(), around.host, around.target);
    if args.declare_global(file).is_err() {
        return;
    }
    for stage in &file.stages {
        let Some(base) = look(&stage.base, file.escape, &|name| args.in_from(name)) else { return };
        if ImageRef::parse(&base.text).is_err() {
            let text =
                format!("Default value for ARG {} results in empty or invalid base image name", stage.base);
            linter.warn(&rules::INVALID_DEFAULT_ARG_IN_FROM, &stage.at, text);
        }
    }
}

/// The rules on a FROM line; gives the base's name.
fn from(file: &Dockerfile, args: &BuildArgs, stage: &Stage, linter: &mut Linter) -> String {
    let lookup = |name: &str| args.in_from(name);
    let Some(base) = look(&stage.base, file.escape, &lookup) else { return String::new() };
    undeclared(file, args, stage, &base, linter);
    if let Some(text) = &stage.platform
        && let Some(platform) = look(text, file.escape, &lookup)
    {
        undeclared(file, args, stage, &platform, linter);
        let only = platform.matched.iter().map(String::as_str).collect::<Vec<_>>();
        if only == ["TARGETPLATFORM"]
            && platform.unmatched.is_empty()
            && lookup("TARGETPLATFORM").as_ref() == Some(&platform.text)
        {
            let text = format!(
                "Setting platform to predefined {text} in FROM is redundant as this is the default behavior"
            );
            linter.warn(&rules::REDUNDANT_TARGET_PLATFORM, &stage.at, text);
        }
        const_platform(stage, &platform, linter);
    }
    base.text
}

fn undeclared(file: &Dockerfile, args: &BuildArgs, stage: &Stage, word: &Word, linter: &mut Linter) {
    let declared = file.global_args.iter().flat_map(|(_, args)| args).map(|arg| arg.name.as_str());
    let known: Vec<&str> = declared.chain(args.names_in_from()).collect();
    for name in word.unmatched.iter().filter(|name| !known.contains(&name.as_str())) {
        let near = suggestion(name, known.iter().copied(), "");
        let text = format!("FROM argument '{name}' is not declared{near}");
        linter.warn(&rules::UNDEFINED_ARG_IN_FROM, &stage.at, text);
    }
}

/// A platform without variables, unless the stage's name speaks of it.
fn const_platform(stage: &Stage, word: &Word, linter: &mut Linter) {
    let Some(platform) = Platform::parse(&word.text) else { return };
    let name = stage.name.as_deref().unwrap_or_default();
    let told = name.contains(&platform.os) || name.contains(&platform.architecture);
    if word.matched.is_empty() && word.unmatched.is_empty() && !told {
        let text = format!("FROM --platform flag should not use constant value {:?}", word.text);
        linter.warn(&rules::FROM_PLATFORM_FLAG_CONST_DISALLOWED, &stage.at, text);
    }
}

/// One stage on its way down.
#[derive(Clone)]
struct Walk {
    state: State,
    workdir_set: bool,
    /// The last CMD, ENTRYPOINT and HEALTHCHECK, by their keywords.
    once: BTreeMap<String, Position>,
}

impl Walk {
    fn start(file: &Dockerfile, around: &Surroundings<'_>, done: &[Self], index: usize, base: &str) -> Self {
        if let Some(earlier) = plan::stage_named(file, index, base).and_then(|earlier| done.get(earlier)) {
            return Self { once: BTreeMap::new(), ..earlier.clone() };
        }
        let state = match (around.image)(base) {
            Some((id, config)) => State::from_image(&id, &config),
            None => State::scratch(around.host),
        };
        Self { state, workdir_set: false, once: BTreeMap::new() }
    }

    fn step(
        &mut self,
        file: &Dockerfile,
        around: &Surroundings<'_>,
        args: &mut BuildArgs,
        step: &Step,
        linter: &mut Linter,
    ) {
        let at = &step.at;
        let words: Vec<&String> = match &step.instruction {
            Instruction::Env(pairs) => return self.env(file, step, pairs, linter),
            Instruction::Arg(list) => return self.arg(file, around, args, at, list, linter),
            Instruction::Workdir(path) => return self.workdir(file, at, path, linter),
            Instruction::Copy(copy) => return self.copy(file, around, at, copy, linter),
            Instruction::Cmd(command) | Instruction::Entrypoint(command) => {
                return self.command(step, command, linter);
            }
            Instruction::Healthcheck(_) => return self.only_once(step, linter),
            Instruction::Expose(text) => return self.expose(file, at, text, linter),
            Instruction::Shell(words) => {
                self.state.config.config.shell = Some(words.clone());
                return;
            }
            Instruction::Label(pairs) => {
                legacy(step, linter);
                pairs.iter().flat_map(|(key, value)| [key, value]).collect()
            }
            Instruction::Run(run) => run.mounts.iter().map(|mount| &mount.text).collect(),
            Instruction::User(text) | Instruction::StopSignal(text) => vec![text],
            Instruction::Volume(paths) => paths.iter().collect(),
            Instruction::OnBuild(_) | Instruction::Maintainer(_) => Vec::new(),
        };
        words.into_iter().for_each(|word| drop(self.expand(file, at, word, linter)));
    }

    fn env(&mut self, file: &Dockerfile, step: &Step, pairs: &[(String, String)], linter: &mut Linter) {
        legacy(step, linter);
        let before = self.clone();
        for (key, value) in pairs {
            no_secret("ENV", key, &step.at, linter);
            let key = before.expand(file, &step.at, key, linter);
            let value = before.expand(file, &step.at, value, linter);
            self.state.set_env(&key, &value);
        }
    }

    fn arg(
        &mut self,
        file: &Dockerfile,
        around: &Surroundings<'_>,
        args: &mut BuildArgs,
        at: &Position,
        list: &[Arg],
        linter: &mut Linter,
    ) {
        for arg in list {
            no_secret("ARG", &arg.name, at, linter);
            // A given value stands in the default's place, whose variables then matter to nobody.
            if !around.given.contains_key(&arg.name)
                && let Some(default) = &arg.default
            {
                self.expand(file, at, default, linter);
            }
            let state = &self.state;
            let value = args.declare(at, arg, file.escape, &|name| state.variable(name));
            self.state.declare(&arg.name, value.ok().flatten().as_deref());
        }
    }

    fn workdir(&mut self, file: &Dockerfile, at: &Position, path: &str, linter: &mut Linter) {
        let path = self.expand(file, at, path, linter);
        if !self.workdir_set && !path.starts_with('/') {
            let text =
                format!("Relative workdir {path:?} can have unexpected results if the base image changes");
            linter.warn(&rules::WORKDIR_RELATIVE_PATH, at, text);
        }
        self.workdir_set = true;
    }

    fn command(&mut self, step: &Step, command: &Command, linter: &mut Linter) {
        self.only_once(step, linter);
        let name = keyword(&step.text).0;
        if matches!(command, Command::Shell(_)) && self.state.config.config.shell.is_none() {
            let text = format!(
                "JSON arguments recommended for {name} to prevent unintended behavior related to OS signals"
            );
            linter.warn(&rules::JSON_ARGS_RECOMMENDED, &step.at, text);
        }
    }

    /// The word with its variables replaced; a name that means nothing is told.
    fn expand(&self, file: &Dockerfile, at: &Position, text: &str, linter: &mut Linter) -> String {
        let Some(word) = look(text, file.escape, &|name| self.state.variable(name)) else {
            return text.to_owned();
        };
        let variables = self.state.environment();
        for name in word.unmatched.iter().filter(|name| !self.state.is_declared(name)) {
            let near = suggestion(name, variables.iter().map(|(name, _)| name.as_str()), "$");
            linter.warn(&rules::UNDEFINED_VAR, at, format!("Usage of undefined variable '${name}'{near}"));
        }
        word.text
    }

    fn copy(
        &self,
        file: &Dockerfile,
        around: &Surroundings<'_>,
        at: &Position,
        copy: &Copy,
        linter: &mut Linter,
    ) {
        let flags = copy.chown.iter().chain(&copy.chmod).chain(&copy.checksum);
        flags.for_each(|text| drop(self.expand(file, at, text, linter)));
        for source in &copy.sources {
            let source = self.expand(file, at, source, linter);
            if copy.from.is_some() || source.contains("://") || around.ignore.has_exceptions() {
                continue;
            }
            let clean = crate::state::absolute("/", &source);
            let clean = clean.trim_start_matches('/');
            if around.ignore.excludes(Path::new(clean)) {
                let verb = if copy.add { "Add" } else { "Copy" };
                let text = format!("Attempting to {verb} file {clean:?} that is excluded by .dockerignore");
                linter.warn(&rules::COPY_IGNORED_FILE, at, text);
            }
        }
        self.expand(file, at, &copy.destination, linter);
    }

    /// EXPOSE's words are expanded without a report, as BuildKit does it.
    fn expose(&self, file: &Dockerfile, at: &Position, text: &str, linter: &mut Linter) {
        let lookup = |name: &str| self.state.variable(name);
        let words = crate::dockerfile::expand::expand_words(text, file.escape, &lookup).unwrap_or_default();
        for word in words {
            let proto = word.split_once('/').map_or("", |(_, proto)| proto);
            if proto != proto.to_lowercase() {
                let text = format!("Defined protocol '{word}' in EXPOSE instruction should be lowercase");
                linter.warn(&rules::EXPOSE_PROTO_CASING, at, text);
            }
            if Ports::names_host(&word) {
                let text = format!(
                    "EXPOSE instruction should not define an IP address or host-port mapping, found '{word}'"
                );
                linter.warn(&rules::EXPOSE_INVALID_FORMAT, at, text);
            }
        }
    }

    fn only_once(&mut self, step: &Step, linter: &mut Linter) {
        let name = keyword(&step.text).0;
        if let Some(earlier) = self.once.insert(name.to_ascii_uppercase(), step.at.clone()) {
            let text = format!(
                "Multiple {name} instructions should not be used in the same stage because only the last one will be used"
            );
            linter.warn(&rules::MULTIPLE_INSTRUCTIONS_DISALLOWED, &earlier, text);
        }
    }
}

/// `ENV key value`.
fn legacy(step: &Step, linter: &mut Linter) {
    let (name, rest) = keyword(&step.text);
    let old = split_quoted(rest, '\\').first().is_some_and(|word| !word.contains('='));
    if old && split_plain(rest).len() > 1 {
        let text =
            format!("\"{name} key=value\" should be used instead of legacy \"{name} key value\" format");
        linter.warn(&rules::LEGACY_KEY_VALUE_FORMAT, &step.at, text);
    }
}

fn no_secret(instruction: &str, key: &str, at: &Position, linter: &mut Linter) {
    let lower = key.to_ascii_lowercase();
    let has = |words: &[&str]| lower.split('_').any(|part| words.contains(&part));
    if has(&SECRETS) && !has(&HARMLESS) {
        let text = format!("Do not use ARG or ENV instructions for sensitive data ({instruction} {key:?})");
        linter.warn(&rules::SECRETS_USED_IN_ARG_OR_ENV, at, text);
    }
}
