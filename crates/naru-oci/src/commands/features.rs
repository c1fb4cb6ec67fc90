//! `features`: what this runtime knows, for callers that ask before they use it (features.md of the runtime-spec).

use super::{Call, Command, NONE, pretty, print};
use crate::cgroups::RDMA;
use crate::error::OciError;
use crate::flags::Order;
use naru_runtime::{capability, oci, seccomp};
use serde_json::{Value, json};

pub(super) const FEATURES: Command = Command {
    name: "features",
    about: "show the enabled features",
    arguments: "",
    flags: &[],
    order: Order::Anywhere,
    positional: NONE,
    run,
};

/// The oldest runtime-spec version whose config.json is taken.
const VERSION_MIN: &str = "1.0.0";

/// Mounts with idmap options, and moving network devices in.
const IDMAP: bool = true;
const NET_DEVICES: bool = true;

fn run(_call: &mut Call<'_>) -> Result<u8, OciError> {
    let text = pretty(&features(), b"    ")?;
    print(&format!("{text}\n"))
}

fn features() -> Value {
    let mut capabilities: Vec<String> = capability::NAMES.iter().map(|name| format!("CAP_{name}")).collect();
    capabilities.sort_unstable();
    json!({
        "ociVersionMin": VERSION_MIN,
        "ociVersionMax": oci::VERSION,
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "mountOptions": naru_runtime::mount_options(),
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"],
            "capabilities": capabilities,
            "cgroup": { "v1": true, "v2": true, "systemd": true, "systemdUser": false, "rdma": RDMA },
            "seccomp": {
                "enabled": true,
                "actions": seccomp::ACTIONS,
                "operators": seccomp::OPERATORS,
                "archs": seccomp::Arch::names().collect::<Vec<_>>(),
                "knownFlags": seccomp::FLAGS,
                "supportedFlags": seccomp::FLAGS,
            },
            "apparmor": { "enabled": true },
            "selinux": { "enabled": true },
            "intelRdt": { "enabled": true, "schemata": true, "monitoring": true },
            "memoryPolicy": {
                "modes": ["MPOL_DEFAULT", "MPOL_PREFERRED", "MPOL_BIND", "MPOL_INTERLEAVE", "MPOL_LOCAL",
                    "MPOL_PREFERRED_MANY", "MPOL_WEIGHTED_INTERLEAVE"],
                "flags": ["MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES"],
            },
            "mountExtensions": { "idmap": { "enabled": IDMAP } },
            "netDevices": { "enabled": NET_DEVICES },
        },
        "annotations": { "org.opencontainers.runc.checkpoint.enabled": "false" },
    })
}
