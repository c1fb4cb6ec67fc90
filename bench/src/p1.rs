//! P1: `RUNTIME run` of busybox `true` with the config.json of dockerd, from fork to the end of the runtime.

use crate::Result;
use crate::bundle::Lab;
use crate::measure::{Sample, run as measure, shuffled, tell};
use crate::options::Options;
use crate::runtimes::{Runtime, available};
use crate::table::{Series, print};
use std::path::Path;
use std::process::Command;

pub fn run(options: &Options) -> Result<()> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    options.view.enter()?;
    let lab = Lab::new()?;
    let contenders = ready(options, &lab)?;
    let mut all: Vec<Series> = contenders.iter().map(|(runtime, _)| Series::new(runtime)).collect();
    let mut floor = Series { name: "floor: busybox true, no container".to_owned(), samples: Vec::new() };
    for round in 0..options.rounds {
        for at in shuffled(contenders.len())? {
            let (runtime, bundle) = &contenders[at];
            all[at].samples.push(tell(once(runtime, bundle, &lab, round)));
        }
        floor.samples.push(tell(measure(bare(&lab), &lab.dir.join("talk"))));
    }
    all.push(floor);
    print(&format!("P1: run of true, {} view", options.view.name()), &all);
    Ok(())
}

/// Each runtime with a bundle of its own that it has run once: what comes after is warm for all of them.
fn ready(options: &Options, lab: &Lab) -> Result<Vec<(Runtime, std::path::PathBuf)>> {
    let mut contenders = Vec::new();
    for runtime in available(options) {
        let bundle = lab.bundle(&format!("p1-{}", runtime.name), options.view, &["/bin/true"])?;
        match once(&runtime, &bundle, lab, usize::MAX) {
            Ok(_) => contenders.push((runtime, bundle)),
            Err(error) => eprintln!("bench: without {}: {error}", runtime.name),
        }
    }
    if contenders.is_empty() { Err("nothing to measure".into()) } else { Ok(contenders) }
}

fn once(runtime: &Runtime, bundle: &Path, lab: &Lab, round: usize) -> Result<Sample> {
    let id = format!("p1-{}-{round}", runtime.name);
    let mut command = runtime.command(&lab.state());
    command.args(["run", "--bundle"]).arg(bundle).arg(&id);
    let sample = measure(command, &lab.dir.join("talk"));
    if sample.is_err() {
        let mut delete = runtime.command(&lab.state());
        delete.args(["delete", "--force", &id]);
        let _ = measure(delete, &lab.dir.join("talk"));
    }
    sample
}

fn bare(lab: &Lab) -> Command {
    let mut command = Command::new(lab.rootfs().join("bin/true"));
    command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null());
    command
}
