//! `spec`: a config.json to start from.

use super::{Call, Command, NONE, pretty};
use crate::error::OciError;
use crate::flags::{Order, flag, value};
use naru_runtime::cgroup::Layout;
use naru_runtime::oci;
use serde_json::{Value, json};
use std::fs::File;
use std::io::Write;
use std::path::Path;

const FILE: &str = "config.json";

pub(super) const SPEC: Command = Command {
    name: "spec",
    about: "create a new specification file",
    arguments: "",
    flags: &[
        value("bundle", "b", "path to the root of the bundle directory"),
        flag("rootless", "", "generate a configuration for a rootless container"),
    ],
    order: Order::Anywhere,
    positional: NONE,
    run,
};

fn run(call: &mut Call<'_>) -> Result<u8, OciError> {
    let path = Path::new(call.args.value("bundle").unwrap_or(".")).join(FILE);
    let mut file = match File::options().write(true).create_new(true).open(&path) {
        Err(cause) if cause.kind() == std::io::ErrorKind::AlreadyExists => {
            let why = format!("File {FILE} exists. Remove it first");
            return Err(OciError::Refused(why));
        }
        other => other.map_err(|cause| OciError::file("create", &path, cause))?,
    };
    // Where the layout cannot be read there is no unified hierarchy either.
    let unified = Layout::detect().is_ok_and(|layout| layout.is_v2_only());
    let text = pretty(&example(call.args.has("rootless"), unified), b"\t")?;
    file.write_all(text.as_bytes()).map_err(|cause| OciError::file("write", &path, cause))?;
    Ok(0)
}

/// The same as runc's, so that what is written about that file holds here.
fn example(rootless: bool, unified: bool) -> Value {
    let mut linux = json!({});
    if rootless {
        let mapping = |id: u32| json!([{ "containerID": 0, "hostID": id, "size": 1 }]);
        linux["uidMappings"] = mapping(rustix::process::geteuid().as_raw());
        linux["gidMappings"] = mapping(rustix::process::getegid().as_raw());
    } else {
        linux["resources"] = json!({ "devices": [{ "allow": false, "access": "rwm" }] });
    }
    let mut namespaces = vec!["pid", "network", "ipc", "uts", "mount"];
    if unified {
        namespaces.push("cgroup");
    }
    if rootless {
        namespaces.retain(|kind| *kind != "network");
        namespaces.push("user");
    }
    linux["namespaces"] = namespaces.into_iter().map(|kind| json!({ "type": kind })).collect();
    linux["maskedPaths"] = json!([
        "/proc/acpi",
        "/proc/asound",
        "/proc/kcore",
        "/proc/keys",
        "/proc/latency_stats",
        "/proc/timer_list",
        "/proc/timer_stats",
        "/proc/sched_debug",
        "/sys/firmware",
        "/proc/scsi"
    ]);
    linux["readonlyPaths"] =
        json!(["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]);
    let capabilities = json!(["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]);
    json!({
        "ociVersion": oci::VERSION,
        "process": {
            "terminal": true,
            "user": { "uid": 0, "gid": 0 },
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": { "bounding": capabilities, "effective": capabilities, "permitted": capabilities },
            "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024 }],
            "noNewPrivileges": true
        },
        "root": { "path": "rootfs", "readonly": true },
        "hostname": "naru",
        "mounts": mounts(rootless),
        "linux": linux
    })
}

fn mounts(rootless: bool) -> Value {
    let mount = |destination: &str, kind: &str, source: &str, options: &[&str]| {
        let mut mount = json!({ "destination": destination, "type": kind, "source": source });
        if !options.is_empty() {
            mount["options"] = json!(options);
        }
        mount
    };
    let mut pts = vec!["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"];
    if !rootless {
        // Group 5 is not mapped for a user who maps only one id.
        pts.push("gid=5");
    }
    let sys = if rootless {
        mount("/sys", "none", "/sys", &["rbind", "nosuid", "noexec", "nodev", "ro"])
    } else {
        mount("/sys", "sysfs", "sysfs", &["nosuid", "noexec", "nodev", "ro"])
    };
    json!([
        mount("/proc", "proc", "proc", &[]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount("/dev/pts", "devpts", "devpts", &pts),
        mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
        mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
        sys,
        mount("/sys/fs/cgroup", "cgroup", "cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_a_spec() {
        for (rootless, unified) in [(false, false), (true, true)] {
            let text = example(rootless, unified).to_string();
            let spec = oci::Spec::parse(text.as_bytes()).unwrap();
            assert_eq!(spec.mounts.len(), 7);
            assert_eq!(spec.namespace(oci::NamespaceKind::User).is_some(), rootless);
            assert_eq!(spec.namespace(oci::NamespaceKind::Network).is_some(), !rootless);
        }
    }
}
