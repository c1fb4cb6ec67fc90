//! Runs the conformance suites against every runtime in one view of control groups; [`crate::verdicts`] prints what came out.

use crate::Result;
use crate::bundle::Lab;
use crate::options::Options;
use crate::runtimes::{Runtime, available};
use crate::suites::{Case, Outcome, Suite, directory, is_left_over};
use crate::verdicts::{Verdict, Verdicts};
use crate::view::{remove_cgroups, top_level_cgroups, unmount_below};
use rustix::mount::{MountFlags, mount};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;

pub fn run(options: &Options) -> Result<()> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    options.view.enter()?;
    // The validation suite can't be told a state directory: every runtime gets an empty /run of its own.
    mount("tmpfs", "/run", "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, None)?;
    let lab = Lab::new()?;
    let runtimes = available(options);
    let mut verdicts = Verdicts::default();
    for suite in Suite::ALL
        .into_iter()
        .filter(|suite| options.suite.as_deref().is_none_or(|only| only == suite.name()))
    {
        for runtime in &runtimes {
            run_suite(suite, runtime, options, &lab, &mut verdicts)?;
        }
    }
    if let Some(path) = &options.results {
        verdicts.append(path)?;
    }
    verdicts.print();
    Ok(())
}

/// The tables of several runs, which left their verdicts in one file.
pub fn table(options: &Options) -> Result<()> {
    let path = options.results.as_ref().ok_or("conformance-table needs --results FILE")?;
    Verdicts::read(path)?.print();
    Ok(())
}

fn run_suite(
    suite: Suite,
    runtime: &Runtime,
    options: &Options,
    lab: &Lab,
    verdicts: &mut Verdicts,
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
        record(suite, &ran.cases, runtime, options, verdicts);
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
fn record(suite: Suite, cases: &[Case], runtime: &Runtime, options: &Options, verdicts: &mut Verdicts) {
    let mut seen = BTreeMap::new();
    for case in cases {
        let count = seen.entry(&case.name).and_modify(|count| *count += 1).or_insert(1);
        let name = if *count == 1 { case.name.clone() } else { format!("{} ({count})", case.name) };
        verdicts.add(Verdict {
            suite: suite.name().to_owned(),
            view: options.view.name().to_owned(),
            runtime: runtime.name.clone(),
            group: case.group.clone(),
            case: name,
            outcome: case.outcome,
        });
    }
}

fn tell_details(options: &Options, suite: Suite, runtime: &Runtime, group: &str, output: &str) -> Result<()> {
    let Some(path) = &options.details else { return Ok(()) };
    let mut file = fs::File::options().create(true).append(true).open(path)?;
    let head = format!("==== {} {} {group} ({} view)", runtime.name, suite.name(), options.view.name());
    Ok(writeln!(file, "{head}\n{}\n", output.trim_end())?)
}
