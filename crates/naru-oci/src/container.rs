//! An existing container, as the commands after `create` see it.

use crate::cgroups;
use crate::error::OciError;
use crate::globals::Globals;
use crate::state::{CONFIG, Init, State};
use crate::status::{self, Status};
use crate::store::{self, Locked};
use naru_kernel::pidfd;
use naru_runtime::cgroup::Cgroup;
use naru_runtime::oci::{self, Spec};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

#[derive(Debug)]
pub(crate) struct Container {
    pub directory: PathBuf,
    pub state: State,
}

impl Container {
    pub fn load(globals: &Globals, id: &str) -> Result<Self, OciError> {
        let directory = store::directory(&globals.root, id)?;
        let state = State::read(&directory)?;
        Ok(Self { directory, state })
    }

    /// As [`Container::load`], for a command that changes it.
    pub fn load_locked(globals: &Globals, id: &str) -> Result<(Self, Locked), OciError> {
        let directory = store::directory(&globals.root, id)?;
        // Asked before: a lock file must not appear where there is no container.
        State::read(&directory)?;
        let locked = store::lock(&directory)?;
        let state = locked.state()?;
        Ok((Self { directory, state }, locked))
    }

    pub fn status(&self) -> Status {
        Status::of(&self.state, &self.directory)
    }

    /// The first process by pidfd, which cannot be another process of the same number.
    pub fn init(&self) -> Result<(Init, OwnedFd), OciError> {
        let init = self.state.init.ok_or(OciError::NotRunning)?;
        let pidfd = pidfd::open(init.pid).map_err(|_| OciError::NotRunning)?;
        // Looked at after the descriptor was opened, so it is this process's time.
        if status::is_alive(init) { Ok((init, pidfd)) } else { Err(OciError::NotRunning) }
    }

    pub fn spec(&self) -> Result<Spec, OciError> {
        let path = self.directory.join(CONFIG);
        let bytes = std::fs::read(&path).map_err(|cause| OciError::file("read", &path, cause))?;
        Ok(Spec::parse(&bytes)?)
    }

    pub fn cgroup(&self) -> Result<Option<Cgroup>, OciError> {
        self.state.cgroup.as_ref().map(cgroups::open).transpose()
    }

    /// As [`Container::cgroup`], where there is nothing to do without.
    pub fn need_cgroup(&self, what: &str) -> Result<Cgroup, OciError> {
        self.cgroup()?.ok_or_else(|| OciError::Unsupported {
            what: format!("{what} of a container without a control group"),
            hint: "it was created rootless without delegation, or with --cgroup-manager=disabled".into(),
        })
    }

    /// What hooks and agents are told.
    pub fn told(&self) -> oci::State {
        told(&self.state)
    }
}

pub(crate) fn told(state: &State) -> oci::State {
    oci::State {
        version: state.oci_version.clone(),
        id: state.id.clone(),
        bundle: state.bundle.clone(),
        annotations: state.annotations.clone(),
        ..oci::State::default()
    }
}
