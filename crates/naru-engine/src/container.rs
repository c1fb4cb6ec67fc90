//! A container as everybody but its own task sees it: what never changes, a mailbox, and a cell with the
//! latest published facts.
//!
//! Only the container's task changes `state`; launch and teardown, which run on its behalf, change `facts`.

use crate::actor::Message;
use crate::health::HealthTask;
use crate::machine::State;
use crate::record::RunFacts;
use naru_runtime::keeper::held::HeldFds;
use naru_types::spec::ContainerSpec;
use naru_types::{ContainerId, Digest, ExecId, Timestamp};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::{mpsc, watch};

pub struct Container {
    pub id: ContainerId,
    pub created: Timestamp,
    pub image_id: Digest,
    pub paths: ContainerPaths,
    /// Not bounded: a caller sends one message and waits for its answer, and the keeper one per process.
    pub mailbox: mpsc::UnboundedSender<Message>,
    pub cell: Mutex<Cell>,
    /// Held by whoever changes the description and asks the kernel in between: it starts from the last one's result.
    pub editing: Mutex<()>,
    /// `true` from the launch until the run has settled; what follows a log ends with it.
    pub active: watch::Sender<bool>,
}

/// The facts that change.
pub struct Cell {
    /// Without a slash.
    pub name: String,
    pub spec: ContainerSpec,
    pub state: State,
    pub facts: RunFacts,
    pub execs: BTreeSet<ExecId>,
    /// Duplicates of the keeper's descriptors: they keep the pipes whole should it be killed.
    pub held: Option<Arc<HeldFds>>,
    pub health: Option<HealthTask>,
}

impl Container {
    pub fn cell(&self) -> MutexGuard<'_, Cell> {
        crate::lock(&self.cell)
    }

    pub fn name(&self) -> String {
        self.cell().name.clone()
    }

    /// The first process, while there is one.
    pub fn pid(&self) -> Option<i32> {
        self.cell().state.run().map(|run| run.pid)
    }
}

/// Where a container's files are.
#[derive(Clone, Debug)]
pub struct ContainerPaths {
    pub dir: PathBuf,
    pub bundle: PathBuf,
    /// Overlay lower directories, top-most first.
    pub lower: Vec<PathBuf>,
}

impl ContainerPaths {
    pub fn new(root: &Path, run: &Path, id: &ContainerId, lower: Vec<PathBuf>) -> Self {
        Self {
            dir: root.join("containers").join(id.as_str()),
            bundle: run.join("bundles").join(id.as_str()),
            lower,
        }
    }

    pub fn upper(&self) -> PathBuf {
        self.dir.join("upper")
    }

    pub fn work(&self) -> PathBuf {
        self.dir.join("work")
    }

    pub fn log(&self) -> PathBuf {
        self.dir.join("log")
    }

    pub fn hostname(&self) -> PathBuf {
        self.dir.join("hostname")
    }

    pub fn hosts(&self) -> PathBuf {
        self.dir.join("hosts")
    }

    pub fn resolv_conf(&self) -> PathBuf {
        self.dir.join("resolv.conf")
    }
}
