//! OCI runtime-spec 1.3 `config.json` for Linux, as lean serde types.
//!
//! Own types instead of a crate's: they hold what the plan compiler reads, in the spec's JSON shape, and nothing else.
//! Unknown fields of a foreign config.json are ignored on reading, as config.md "Extensibility" wants it. Two extensions exist because names inside a
//! container can only be resolved at start: `process.user.username` (the spec has it for Windows only) and
//! `process.user.naruGroups`; see [`crate::user`].

mod hooks;
mod linux;
mod mounts;
mod process;
mod resources;
mod seccomp;

pub use hooks::{Hook, Hooks, State, Status};
pub use linux::{IdMapping, IntelRdt, MemoryPolicy, NetDevice, Personality, TimeOffset};
pub use mounts::{Device, Mount};
pub use process::{Capabilities, ConsoleSize, CpuAffinity, IoPriority, Process, Rlimit, Scheduler, User};
pub use resources::{
    BlockIo, Cpu, DeviceRule, HugepageLimit, InterfacePriority, Memory, Network, Pids, Rdma, Resources,
    ThrottleDevice, WeightDevice,
};
pub use seccomp::{Seccomp, SyscallArg, SyscallRule};

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The runtime-spec version that is written.
pub const VERSION: &str = "1.3.0";

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Spec {
    #[serde(rename = "ociVersion")]
    pub version: String,
    pub process: Process,
    pub root: Root,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub hostname: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub domainname: String,
    pub mounts: Vec<Mount>,
    #[serde(skip_serializing_if = "is_default")]
    pub hooks: Hooks,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    pub linux: Linux,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Root {
    pub path: String,
    pub readonly: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Linux {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub uid_mappings: Vec<IdMapping>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub gid_mappings: Vec<IdMapping>,
    /// `monotonic` and `boottime`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub time_offsets: BTreeMap<String, TimeOffset>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub sysctl: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "is_default")]
    pub resources: Resources,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cgroups_path: String,
    pub namespaces: Vec<Namespace>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<Device>,
    /// By their name on the host.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub net_devices: BTreeMap<String, NetDevice>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seccomp: Option<Seccomp>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub rootfs_propagation: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub masked_paths: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub readonly_paths: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mount_label: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub intel_rdt: Option<IntelRdt>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_policy: Option<MemoryPolicy>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub personality: Option<Personality>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Namespace {
    #[serde(rename = "type")]
    pub kind: NamespaceKind,
    /// Absent: a new one; otherwise a namespace file to join.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NamespaceKind {
    Pid,
    Network,
    Mount,
    Ipc,
    Uts,
    User,
    Cgroup,
    Time,
}

/// A config.json could not be used at all.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    #[error("cannot parse config.json: {0}")]
    Json(#[from] serde_json::Error),
    #[error("config.json has the runtime-spec version {0:?}; this runtime knows 1.0 to 1.3")]
    Version(String),
}

impl Spec {
    /// Reads a config.json and checks its version. A `null`, which Go programs write for an empty list, is no value.
    pub fn parse(json: &[u8]) -> Result<Self, SpecError> {
        let spec: Self = parse(json)?;
        spec.check_version()?;
        Ok(spec)
    }

    /// Any 1.x is taken: a minor version only adds (config.md, "Specification version", by semver).
    pub fn check_version(&self) -> Result<(), SpecError> {
        let unknown = || SpecError::Version(self.version.clone());
        let number = self.version.split(['-', '+']).next().unwrap_or_default();
        let parts: Vec<&str> = number.split('.').collect();
        let numeric = parts.iter().all(|part| part.parse::<u32>().is_ok());
        if parts.len() == 3 && numeric && parts[0] == "1" { Ok(()) } else { Err(unknown()) }
    }

    /// The namespace of that kind, if the spec has one.
    pub fn namespace(&self, kind: NamespaceKind) -> Option<&Namespace> {
        self.linux.namespaces.iter().find(|namespace| namespace.kind == kind)
    }
}

impl Process {
    /// Reads a process.json, as `exec --process` has it.
    pub fn parse(json: &[u8]) -> Result<Self, SpecError> {
        parse(json)
    }
}

fn parse<T: serde::de::DeserializeOwned>(json: &[u8]) -> Result<T, SpecError> {
    if let Ok(value) = serde_json::from_slice(json) {
        return Ok(value);
    }
    let mut tree = serde_json::from_slice(json)?;
    remove_nulls(&mut tree);
    Ok(serde_json::from_value(tree)?)
}

/// Recursion is bounded by serde_json's own limit on nesting.
fn remove_nulls(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(remove_nulls);
        }
        serde_json::Value::Array(list) => list.iter_mut().for_each(remove_nulls),
        _ => {}
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_foreign_config_reads() {
        let text = r#"{"ociVersion":"1.0.2","process":{"user":{"uid":1,"gid":2},"args":["sh"],"cwd":"/",
            "consoleSize":{"height":1,"width":2}},"root":{"path":"rootfs"},"hooks":{},
            "linux":{"namespaces":[{"type":"pid"},{"type":"network","path":"/x"}],
            "resources":{"memory":{"limit":5,"disableOOMKiller":true}}}}"#;
        let spec: Spec = serde_json::from_str(text).unwrap();
        assert_eq!(spec.namespace(NamespaceKind::Network).unwrap().path.as_deref(), Some("/x"));
        assert_eq!(spec.linux.resources.memory.limit, Some(5));
        assert!(spec.linux.resources.memory.disable_oom_killer);
        let round: Spec = serde_json::from_str(&serde_json::to_string(&spec).unwrap()).unwrap();
        assert_eq!(round, spec);
    }

    #[test]
    fn versions_and_nulls() {
        let version =
            |version: &str| Spec { version: version.into(), ..Spec::default() }.check_version().is_ok();
        assert!(version("1.0.0") && version("1.0.2-dev") && version("1.3.0") && version("1.4.0-rc.1+x"));
        assert!(!version("") && !version("2.0.0") && !version("0.9.0") && !version("1") && !version("1.0.x"));
        let spec = Spec::parse(br#"{"ociVersion":"1.0.0","mounts":null,"process":{"args":null}}"#).unwrap();
        assert!(spec.mounts.is_empty());
        assert!(matches!(Spec::parse(b"{\"ociVersion\":\"3.0.0\"}"), Err(SpecError::Version(_))));
    }
}
