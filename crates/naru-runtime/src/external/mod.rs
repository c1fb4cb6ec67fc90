//! Containers of another OCI runtime (runc, crun, youki): the one that an administrator has named in `daemon.json`.
//!
//! The keeper stays who reads the output, writes the log, reaps and tells. The runtime's command line
//! (opencontainers/runtime-tools `docs/command-line-interface.md`, and runc's man pages for what every runtime took over from
//! it) makes the processes. It is run by a worker, a fork of the keeper, for three reasons: the keeper never waits; the
//! root file system is mounted in the worker's own mount namespace, so that the host's mount table never shows it; and the
//! worker is a subreaper, so that a process that the runtime left behind has a parent that knows its number before it can be
//! reaped. When the worker ends the process becomes the keeper's child, which is a subreaper too.
//!
//! What such a container does not have is refused where it is made, by `naru-engine`: a user namespace of naru's, `--init`,
//! binds whose mounts propagate to the host.

mod steps;
mod words;

use crate::errors::{Context, StartError};
use crate::oci;
use crate::request::{SpawnError, Stdio};
use crate::rootfs::Rootfs;
use crate::worker::{self, Begun};
use naru_kernel::{exec as descriptors, process, unix};
use serde::{Deserialize, Serialize};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// What is executed: an entry of `runtimes` in `daemon.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Runtime {
    /// A path, or a name that is looked for in [`steps::PATH`].
    pub path: PathBuf,
    /// Go before the runtime's verb.
    #[serde(default)]
    pub args: Vec<String>,
}

/// One container of another runtime. All that the runtime keeps is below the bundle and goes with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct External {
    runtime: Runtime,
    /// The container's id, as the runtime is told it.
    id: String,
    dir: PathBuf,
}

/// What a start takes.
#[derive(Debug)]
pub(crate) struct Create<'a> {
    pub spec: oci::Spec,
    pub rootfs: &'a Rootfs,
    /// Joined instead of what the spec says.
    pub netns: Option<OwnedFd>,
    pub stdio: Stdio,
}

/// What an exec takes.
#[derive(Debug)]
pub(crate) struct Exec<'a> {
    /// The container's own.
    pub spec: &'a oci::Spec,
    pub process: oci::Process,
    pub init_pid: i32,
    pub exec_id: String,
    pub privileged: bool,
    pub stdio: Stdio,
}

impl External {
    const DIR: &str = "runtime";
    const FILE: &str = "runtime.json";

    /// Makes the runtime's directory in `bundle` and writes down which one it is, for a keeper that comes later.
    pub fn new(runtime: Runtime, id: &str, bundle: &Path) -> io::Result<Self> {
        let dir = bundle.join(Self::DIR);
        match std::fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        std::fs::DirBuilder::new().mode(0o700).create(&dir)?;
        let external = Self { runtime, id: id.to_owned(), dir };
        std::fs::write(external.dir.join(Self::FILE), serde_json::to_vec(&external)?)?;
        Ok(external)
    }

    /// What an earlier keeper wrote down; `None`: the container is of naru's own runtime.
    pub fn read(bundle: &Path) -> Option<Self> {
        let bytes = std::fs::read(bundle.join(Self::DIR).join(Self::FILE)).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// `create` and `start`, by a worker. The caller must have one thread.
    pub(crate) fn create(&self, create: Create<'_>) -> Result<Begun, SpawnError> {
        worker::begin(StartError::new(Context::Init), |side| {
            let mut own = worker::fds_of(&create.stdio);
            own.extend(create.netns.iter().map(AsFd::as_fd));
            side.keep_only(&own);
            self.steps().create(&create, &|child| side.tell_birth(child))
        })
    }

    /// `exec`, as [`External::create`].
    pub(crate) fn exec(&self, exec: Exec<'_>) -> Result<Begun, SpawnError> {
        worker::begin(StartError::new(Context::Exec), |side| {
            side.keep_only(&worker::fds_of(&exec.stdio));
            self.steps().exec(&exec, &|child| side.tell_birth(child))
        })
    }

    /// `delete` after the container's end: the runtime's own clean-up and its hooks. The socket gets one message, a
    /// complaint or nothing, and then its end.
    pub(crate) fn delete(&self) -> io::Result<OwnedFd> {
        let (ours, theirs) = unix::seqpacket_pair()?;
        process::fork(|| {
            descriptors::close_others(&[theirs.as_fd()]);
            if let Err(complaint) = self.steps().delete() {
                // A keeper that is gone needs no word.
                let _ = unix::send(&theirs, complaint.as_bytes(), &[]);
            }
            0
        })?;
        Ok(ours)
    }

    fn steps(&self) -> steps::Steps<'_> {
        steps::Steps { runtime: &self.runtime, id: &self.id, dir: &self.dir }
    }
}
