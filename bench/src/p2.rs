//! P2: `RUNTIME exec ID true` in a container that runs already.

use crate::Result;
use crate::bundle::Lab;
use crate::measure::{run as measure, shuffled, tell};
use crate::options::Options;
use crate::runtimes::{Runtime, available};
use crate::table::{Series, print};

pub fn run(options: &Options) -> Result<()> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    options.view.enter()?;
    let lab = Lab::new()?;
    let mut running = Vec::new();
    for runtime in available(options) {
        match Running::start(&runtime, options, &lab)
            .and_then(|container| container.exec().map(|_| container))
        {
            Ok(container) => running.push(container),
            Err(error) => eprintln!("bench: without {}: {error}", runtime.name),
        }
    }
    let mut all: Vec<Series> = running.iter().map(|container| Series::new(&container.runtime)).collect();
    for _ in 0..options.rounds {
        for at in shuffled(running.len())? {
            all[at].samples.push(tell(running[at].exec()));
        }
    }
    print(&format!("P2: exec of true, {} view", options.view.name()), &all);
    Ok(())
}

/// A container that sleeps until it is dropped.
struct Running<'a> {
    runtime: Runtime,
    id: String,
    lab: &'a Lab,
}

impl<'a> Running<'a> {
    fn start(runtime: &Runtime, options: &Options, lab: &'a Lab) -> Result<Self> {
        let id = format!("p2-{}", runtime.name);
        let bundle = lab.bundle(&id, options.view, &["/bin/sleep", "1000000"])?;
        let container = Self { runtime: runtime.clone(), id, lab };
        let mut command = runtime.command(&lab.state());
        command.args(["run", "--detach", "--bundle"]).arg(bundle).arg(&container.id);
        measure(command, &lab.dir.join("talk"))?;
        Ok(container)
    }

    fn exec(&self) -> Result<crate::measure::Sample> {
        let mut command = self.runtime.command(&self.lab.state());
        command.args(["exec", &self.id, "/bin/true"]);
        measure(command, &self.lab.dir.join("talk"))
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let mut command = self.runtime.command(&self.lab.state());
        command.args(["delete", "--force", &self.id]);
        if let Err(error) = measure(command, &self.lab.dir.join("talk")) {
            eprintln!("bench: {}: {error}", self.id);
        }
    }
}
