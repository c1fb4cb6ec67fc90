//! The part of OCI runtime-spec 1.3 `config.json` that naru produces and performs, as lean serde types.
//!
//! Own types instead of a crate's: they hold what the plan compiler reads, in the spec's JSON shape, and nothing else.
//! Unknown fields of a foreign config.json are ignored on reading. Two extensions exist because names inside a
//! container can only be resolved at start: `process.user.username` (the spec has it for Windows only) and
//! `process.user.naruGroups`; see [`crate::user`].

mod mounts;
mod process;
mod resources;
mod seccomp;

pub use mounts::{Device, Mount};
pub use process::{Capabilities, ConsoleSize, Process, Rlimit, User};
pub use resources::{BlockIo, Cpu, DeviceRule, Memory, Pids, Resources};
pub use seccomp::{Seccomp, SyscallArg, SyscallRule};

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The runtime-spec version that is written.
pub const VERSION: &str = "1.2.0";

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
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub sysctl: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "is_default")]
    pub resources: Resources,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cgroups_path: String,
    pub namespaces: Vec<Namespace>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<Device>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seccomp: Option<Seccomp>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub rootfs_propagation: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub masked_paths: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub readonly_paths: Vec<String>,
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

impl Spec {
    /// The namespace of that kind, if the spec has one.
    pub fn namespace(&self, kind: NamespaceKind) -> Option<&Namespace> {
        self.linux.namespaces.iter().find(|namespace| namespace.kind == kind)
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
}
