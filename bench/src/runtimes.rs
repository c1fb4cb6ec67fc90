//! Who is measured: naru and the peers that `peers.sh` installed.

use crate::Result;
use crate::options::Options;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

#[derive(Clone, Debug)]
pub struct Runtime {
    pub name: String,
    program: PathBuf,
    /// What comes before the options that all of them share: `oci` for naru.
    before: Vec<String>,
}

impl Runtime {
    /// The runtime with its state kept in `state`.
    pub fn command(&self, state: &Path) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.before).arg("--root").arg(state.join(&self.name));
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }

    /// A program that takes the options directly, for those who want a path: naru needs a link named `naru-oci`.
    pub fn path(&self, dir: &Path) -> Result<PathBuf> {
        if self.before.is_empty() {
            return Ok(self.program.clone());
        }
        let link = dir.join("naru-oci");
        if !link.exists() {
            std::os::unix::fs::symlink(&self.program, &link)?;
        }
        Ok(link)
    }

    fn answers(&self) -> bool {
        let version = Command::new(&self.program).args(&self.before).arg("--version").output();
        version.is_ok_and(|output| output.status.success())
    }
}

/// Those that are there and answer; the others are named on standard error.
pub fn available(options: &Options) -> Vec<Runtime> {
    let peer = |name: &str| Runtime {
        name: name.to_owned(),
        program: options.peers.join("bin").join(name),
        before: Vec::new(),
    };
    let naru =
        Runtime { name: "naru".to_owned(), program: options.naru.clone(), before: vec!["oci".to_owned()] };
    let all = [naru, peer("crun"), peer("runc"), peer("runc-debian"), peer("youki")];
    let wanted = |runtime: &Runtime| match &options.runtimes {
        Some(names) => names.contains(&runtime.name),
        None => runtime.name != "runc-debian",
    };
    all.into_iter()
        .filter(wanted)
        .filter(|runtime| {
            let there = runtime.answers();
            if !there {
                eprintln!("bench: without {}: {} does not answer", runtime.name, runtime.program.display());
            }
            there
        })
        .collect()
}
