//! Runs the conformance suites against every runtime in one view of control groups and prints a table of
//! pass/fail/skip by group, then every case that naru fails and a peer passes.

use crate::Result;
use crate::bundle::Lab;
use crate::options::Options;
use crate::runtimes::{Runtime, available};
use crate::suites::{Case, Outcome, Suite, directory, is_left_over};
use crate::view::{remove_cgroups, top_level_cgroups, unmount_below};
use rustix::mount::{MountFlags, mount};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;

/// Group and case → outcome for each runtime's name.
type Results = BTreeMap<(String, String), BTreeMap<String, Outcome>>;

pub fn run(options: &Options) -> Result<()> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    options.view.enter()?;
    // The validation suite can't be told a state directory: every runtime gets an empty /run of its own.
    mount("tmpfs", "/run", "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, None)?;
    let lab = Lab::new()?;
    let runtimes = available(options);
    for suite in Suite::ALL
        .into_iter()
        .filter(|suite| options.suite.as_deref().is_none_or(|only| only == suite.name()))
    {
        let mut results = Results::new();
        for runtime in &runtimes {
            run_suite(suite, runtime, options, &lab, &mut results)?;
        }
        print(suite, options, &runtimes, &results);
    }
    Ok(())
}

fn run_suite(
    suite: Suite,
    runtime: &Runtime,
    options: &Options,
    lab: &Lab,
    results: &mut Results,
) -> Result<()> {
    let dir = directory(&options.peers, suite);
    if !dir.is_dir() {
        eprintln!("bench: without {}: {} is not there", suite.name(), dir.display());
        return Ok(());
    }
    let path = runtime.path(&lab.dir)?;
    let before: BTreeSet<String> = top_level_cgroups().into_iter().collect();
    for group in suite.groups(&dir)? {
        if options.only.as_ref().is_some_and(|only| !group.contains(only.as_str())) {
            continue;
        }
        let scratch = lab.dir.join("scratch");
        fs::create_dir_all(&scratch)?;
        let ran = suite.run(&dir, &group, (&runtime.name, &path), &scratch)?;
        record(&ran.cases, runtime, results);
        if ran.cases.iter().any(|case| case.outcome == Outcome::Fail) {
            tell_details(options, suite, runtime, &group, &ran.output)?;
        }
        unmount_below(&scratch);
        let _ = fs::remove_dir_all(&scratch);
        for name in top_level_cgroups() {
            if is_left_over(&name) && !before.contains(&name) {
                remove_cgroups(&name);
            }
        }
    }
    Ok(())
}

/// Two cases of one name in a group are told apart by their number.
fn record(cases: &[Case], runtime: &Runtime, results: &mut Results) {
    let mut seen = BTreeMap::new();
    for case in cases {
        let count = seen.entry(&case.name).and_modify(|count| *count += 1).or_insert(1);
        let name = if *count == 1 { case.name.clone() } else { format!("{} ({count})", case.name) };
        results.entry((case.group.clone(), name)).or_default().insert(runtime.name.clone(), case.outcome);
    }
}

fn tell_details(options: &Options, suite: Suite, runtime: &Runtime, group: &str, output: &str) -> Result<()> {
    let Some(path) = &options.details else { return Ok(()) };
    let mut file = fs::File::options().create(true).append(true).open(path)?;
    let head = format!("==== {} {} {group} ({} view)", runtime.name, suite.name(), options.view.name());
    Ok(writeln!(file, "{head}\n{}\n", output.trim_end())?)
}

fn print(suite: Suite, options: &Options, runtimes: &[Runtime], results: &Results) {
    let names: Vec<&str> = runtimes.iter().map(|runtime| runtime.name.as_str()).collect();
    println!("## {}, {} view: passed/failed/skipped\n", suite.name(), options.view.name());
    println!("| group | {} |", names.join(" | "));
    println!("|---|{}", "---|".repeat(names.len()));
    let groups: BTreeSet<&String> = results.keys().map(|(group, _)| group).collect();
    for group in groups {
        let cells: Vec<String> = names.iter().map(|name| cell(results, Some(group), name)).collect();
        println!("| {group} | {} |", cells.join(" | "));
    }
    let sums: Vec<String> = names.iter().map(|name| cell(results, None, name)).collect();
    println!("| **all** | {} |\n", sums.join(" | "));
    let worse: Vec<_> = results.iter().filter(|(_, by)| is_worse(by)).collect();
    println!("naru fails and a peer passes: {}\n", worse.len());
    for ((group, name), by) in worse {
        let peers =
            by.iter().filter(|(_, outcome)| **outcome == Outcome::Pass).map(|(name, _)| name.as_str());
        println!("- {group}: {name} (passes: {})", peers.collect::<Vec<_>>().join(", "));
    }
    println!();
    print_worse_groups(&names, results);
}

/// A test that breaks off has other cases than one that goes on, so whole groups are compared too.
fn print_worse_groups(names: &[&str], results: &Results) {
    let fails = |group: &str, runtime: &str| {
        let mut cases = results.iter().filter(|((name, _), _)| name == group);
        cases.any(|(_, by)| by.get(runtime) == Some(&Outcome::Fail))
    };
    let groups: BTreeSet<&String> = results.keys().map(|(group, _)| group).collect();
    for group in groups.into_iter().filter(|group| fails(group, "naru")) {
        let clean: Vec<&str> = names.iter().copied().filter(|name| !fails(group, name)).collect();
        if !clean.is_empty() {
            println!("- {group}: a failure in naru, none in {}", clean.join(", "));
        }
    }
    println!();
}

fn is_worse(by: &BTreeMap<String, Outcome>) -> bool {
    by.get("naru") == Some(&Outcome::Fail) && by.values().any(|outcome| *outcome == Outcome::Pass)
}

fn cell(results: &Results, group: Option<&String>, runtime: &str) -> String {
    let of = |wanted: Outcome| {
        let cases = results.iter().filter(|((name, _), _)| group.is_none_or(|group| group == name));
        cases.filter(|(_, by)| by.get(runtime) == Some(&wanted)).count()
    };
    format!("{}/{}/{}", of(Outcome::Pass), of(Outcome::Fail), of(Outcome::Skip))
}
