//! The language against BuildKit: each case of `cases/*.txt` is built, and what comes out (files, modes,
//! owners, configuration, history; or the error's line and text) is compared with what BuildKit made of
//! the same case, recorded in `expected/*.json`. Cases in which naru differs on purpose are in
//! `differences.txt`, each with its reason; one that no longer differs fails the test.
//!
//! To record anew, with a dockerd that has BuildKit and with buildx:
//! `DOCKER_HOST=… cargo test -p naru-build --test corpus -- --ignored record`.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "../common/mod.rs"]
mod common;

mod case;
mod context;
mod observe;
mod record;

use case::{Case, Outcome};
use common::{World, request, world};
use naru_build::{BuildRequest, Lent, LintWarning, NamedContext, Secret};
use rustix::fs::{Mode, OFlags};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;

#[test]
fn as_buildkit_does() {
    compare(build);
}

/// The same, each case's context brought in over the one of the case before, as if a project had changed so much.
#[test]
fn from_a_kept_context() {
    compare(|world, case, base, base_history| {
        let dir = tempfile::tempdir().unwrap();
        context::write(dir.path(), case);
        let files = tempfile::tempdir().unwrap();
        let rules = ["Dockerfile.dockerignore", ".dockerignore"].map(|name| dir.path().join(name));
        if let Some(rules) = rules.iter().find(|rules| rules.exists()) {
            std::fs::copy(rules, files.path().join("Dockerfile.dockerignore")).unwrap();
        }
        let mut wanted = wanted(dir.path(), case);
        let check = check(world, &wanted);
        let source = rustix::fs::open(dir.path(), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        match world.builder.use_kept(&mut wanted, files.path(), source, "corpus") {
            Ok(is_free) => assert!(is_free, "{}: the build before still has the context", case.name),
            Err(error) => return Outcome { check, ..Outcome::of_error(&error) },
        }
        outcome(world, &wanted, check, base, base_history)
    });
}

type Build = fn(&World, &Case, &BTreeMap<String, String>, usize) -> Outcome;

fn compare(build: Build) {
    let Some(world) = world() else { return };
    world.base();
    let base = observe::rootfs(&world, &world.store.get("base").unwrap().id);
    let base_history = world.store.get("base").unwrap().config.history.len();
    let differences = case::differences();
    let mut report = String::new();
    for (topic, cases) in case::all() {
        let expected = case::expected(&topic);
        for case in cases {
            let Some(expect) = expected.get(&case.name) else {
                writeln!(report, "{}: not recorded", case.name).unwrap();
                continue;
            };
            let found = build(&world, &case, &base, base_history);
            let same = found.matches(expect);
            match (same.as_ref(), differences.get(&case.name)) {
                (Ok(()), Some(_)) => writeln!(report, "{}: listed as different, but isn't", case.name),
                (Err(what), None) => writeln!(report, "{}: {what}", case.name),
                _ => Ok(()),
            }
            .unwrap();
        }
    }
    assert!(report.is_empty(), "\n{report}");
    world.assert_clean();
}

fn build(world: &World, case: &Case, base: &BTreeMap<String, String>, base_history: usize) -> Outcome {
    let dir = tempfile::tempdir().unwrap();
    context::write(dir.path(), case);
    let wanted = wanted(dir.path(), case);
    outcome(world, &wanted, check(world, &wanted), base, base_history)
}

fn check(world: &World, wanted: &BuildRequest) -> Vec<String> {
    world.builder.check(wanted).map_or(Vec::new(), |report| {
        let text =
            |warning: &LintWarning| format!("{} {} {}", warning.rule, warning.first_line, warning.detail);
        let mut found: Vec<String> = report.warnings.iter().map(text).collect();
        found.sort();
        found
    })
}

fn outcome(
    world: &World,
    wanted: &BuildRequest,
    check: Vec<String>,
    base: &BTreeMap<String, String>,
    base_history: usize,
) -> Outcome {
    match world.build(wanted) {
        Err(error) => Outcome { check, ..Outcome::of_error(&error) },
        Ok(built) => {
            let config = world.store.get_by_id(&built.id).unwrap().config;
            let from_scratch = !config
                .history
                .iter()
                .any(|entry| entry.created_by.as_deref().is_some_and(|text| text.starts_with("COPY bin")));
            let skip = if from_scratch { 0 } else { base_history };
            let nothing = BTreeMap::new();
            let base = if from_scratch { &nothing } else { base };
            Outcome {
                files: observe::changes(base, &observe::rootfs(world, &built.id)),
                config: observe::config(
                    &serde_json::to_value(&config.config).unwrap(),
                    config.author.as_deref(),
                ),
                history: config.history[skip..].iter().filter_map(|entry| entry.created_by.clone()).collect(),
                check,
                ..Outcome::default()
            }
        }
    }
}

fn wanted(dir: &Path, case: &Case) -> BuildRequest {
    let mut wanted = request(dir, &String::from_utf8(case.dockerfile.clone()).unwrap());
    wanted.args = case.options("build-arg");
    wanted.labels = case.options("label");
    wanted.target = case.option("target");
    let secrets = case.options("secret").into_iter().map(|(id, text)| (id, Secret::new(text.into_bytes())));
    wanted.session = Arc::new(Lent { secrets: secrets.collect(), agents: BTreeMap::new() });
    wanted.contexts = case
        .options("context")
        .into_iter()
        .map(|(name, value)| {
            let context = match value.strip_prefix("docker-image://") {
                Some(image) => NamedContext::Image(image.to_owned()),
                None => NamedContext::Directory(dir.join(value)),
            };
            (name, context)
        })
        .collect();
    wanted
}

#[test]
#[ignore = "writes the recorded results; needs a dockerd with BuildKit"]
fn record() {
    record::all();
}
