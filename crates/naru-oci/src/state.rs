//! `state.json`: what one command leaves for the next. Written by one write and one rename.
//!
//! What is known before there is a process stands in the lock file: to replace a file makes a file system such as ext4
//! write it to the disk at once (ext4(5), `auto_da_alloc`), and a further file costs as much as a mount does.

use crate::error::OciError;
use crate::root_mount::RootMount;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

const FILE: &str = "state.json";
/// Its lock is the container's. It holds the state without a first process, of no more interest once there is [`FILE`];
/// nothing, or a part, when its maker had not come so far, and had made nothing else either.
pub(crate) const LOCK: &str = "lock";
/// The configuration as it was at create: what the bundle says later does not count.
pub(crate) const CONFIG: &str = "config.json";
/// The socket on which a created container waits for `start`; gone once that was done.
pub(crate) const GATE: &str = "gate";

/// Changes with every field that is removed or means something else.
const SCHEMA: u32 = 1;
/// Bytes that are read of a state without a first process; its annotations are the caller's. A longer one is none.
const BEGINNING_BYTES_MAX: usize = 1 << 20;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct State {
    pub schema: u32,
    pub oci_version: String,
    pub id: String,
    /// Without it the container is half made, or its maker was killed.
    pub init: Option<Init>,
    pub bundle: String,
    pub rootfs: String,
    /// RFC 3339.
    pub created: String,
    pub owner: u32,
    pub cgroup: Option<CgroupRecord>,
    /// Only without a mount namespace of its own.
    #[serde(default)]
    pub root_mount: Option<RootMount>,
    /// All its processes end with the first one.
    pub own_pid_namespace: bool,
    /// There is work left for after the end: poststop hooks, groups of resctrl.
    pub has_epilogue: bool,
    pub annotations: BTreeMap<String, String>,
}

/// The first process. A number is reused, a number with its start time is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Init {
    pub pid: i32,
    /// Clock ticks since boot, proc_pid_stat(5) field 22.
    pub start_ticks: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CgroupRecord {
    /// Below the root of each hierarchy.
    pub path: String,
    pub driver: Driver,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Driver {
    Cgroupfs,
    Systemd,
}

impl State {
    pub fn new(id: &str, oci_version: &str, bundle: &Path, rootfs: &str) -> Self {
        Self {
            schema: SCHEMA,
            oci_version: oci_version.to_owned(),
            id: id.to_owned(),
            init: None,
            bundle: bundle.to_string_lossy().into_owned(),
            rootfs: rootfs.to_owned(),
            created: crate::log::timestamp().rfc3339_fixed(),
            owner: rustix::process::geteuid().as_raw(),
            cgroup: None,
            root_mount: None,
            own_pid_namespace: false,
            has_epilogue: false,
            annotations: BTreeMap::new(),
        }
    }

    /// Of the container directory; `NotExist` without one. Not for who has the lock: a process gives up its locks on a file
    /// with the first descriptor of it that it closes (fcntl(2), "Record locks").
    pub fn read(directory: &Path) -> Result<Self, OciError> {
        if let Some(state) = Self::read_file(directory)? {
            return Ok(state);
        }
        let path = directory.join(LOCK);
        match std::fs::read(&path) {
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => Err(OciError::NotExist),
            other => {
                let bytes = other.map_err(|cause| OciError::file("read", &path, cause))?;
                Self::beginning(&bytes, path)
            }
        }
    }

    /// As [`State::read`], for who has the lock.
    pub fn read_locked(directory: &Path, lock: &OwnedFd) -> Result<Self, OciError> {
        if let Some(state) = Self::read_file(directory)? {
            return Ok(state);
        }
        let path = directory.join(LOCK);
        let mut bytes = vec![0; BEGINNING_BYTES_MAX];
        let len =
            rustix::io::pread(lock, &mut bytes, 0).map_err(|cause| OciError::file("read", &path, cause))?;
        Self::beginning(bytes.get(..len).unwrap_or_default(), path)
    }

    fn read_file(directory: &Path) -> Result<Option<Self>, OciError> {
        let path = directory.join(FILE);
        match std::fs::read(&path) {
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(cause) => Err(OciError::file("read", &path, cause)),
            Ok(bytes) => match serde_json::from_slice(&bytes) {
                Ok(state) => Self::known(state, path).map(Some),
                Err(cause) => Err(OciError::Damaged { path, why: cause.to_string() }),
            },
        }
    }

    fn beginning(bytes: &[u8], path: PathBuf) -> Result<Self, OciError> {
        let state = serde_json::from_slice(bytes).map_err(|_| OciError::NotExist)?;
        Self::known(state, path)
    }

    fn known(state: Self, path: PathBuf) -> Result<Self, OciError> {
        if state.schema == SCHEMA {
            Ok(state)
        } else {
            let why =
                format!("schema {} was written by another version, this one knows {SCHEMA}", state.schema);
            Err(OciError::Damaged { path, why })
        }
    }

    /// Before there is a first process.
    pub fn begin(&self, directory: &Path, lock: &OwnedFd) -> Result<(), OciError> {
        let written = self.json().map(|json| rustix::io::pwrite(lock, &json, 0))?;
        written.map(drop).map_err(|cause| OciError::file("write", &directory.join(LOCK), cause))
    }

    pub fn write(&self, directory: &Path) -> Result<(), OciError> {
        replace(directory, FILE, &self.json()?)
    }

    fn json(&self) -> Result<Vec<u8>, OciError> {
        serde_json::to_vec(self).map_err(|why| OciError::Json { what: "write the state".into(), why })
    }
}

/// Readers see the old file or the new one, whole.
pub(crate) fn replace(directory: &Path, name: &str, bytes: &[u8]) -> Result<(), OciError> {
    let (path, partial) = (directory.join(name), directory.join(format!(".{name}")));
    let written = File::create(&partial).and_then(|mut file| file.write_all(bytes));
    let done = written.and_then(|()| std::fs::rename(&partial, &path));
    done.map_err(|cause| OciError::file("write", &path, cause))
}

/// The path for a name of the state directory.
pub(crate) fn gate(directory: &Path) -> PathBuf {
    directory.join(GATE)
}
