//! Device nodes and links of /dev in a plan (config-linux.md, "Devices" and "Default Devices").
//!
//! As runc: a container whose /dev is bind-mounted gets neither nodes nor links, also not those of `linux.devices`; and
//! what the specification's own list says of a default node replaces it.

use super::Steps;
use super::mounts::{clean, file_target};
use super::options::MountOptions;
use crate::errors::StartError;
use crate::oci::{self, NamespaceKind};
use crate::plan::{DeviceNode, Op};
use crate::request::SpawnError;
use naru_kernel::path;
use rustix::fs::{Mode, OFlags};
use std::path::Path;

/// Links that programs expect in /dev (runtime-linux.md, "Dev symbolic links").
const LINKS: [(&str, &str); 4] = [
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
];

/// The terminal multiplexer is that of the container's own devpts ("Default Devices").
const PTMX: (&str, &str) = ("pts/ptmx", "/dev/ptmx");

/// Where the kernel offers its memory, the traditional name for it; it is masked there.
const CORE: (&str, &str) = ("/proc/kcore", "/dev/core");

/// Nodes that every container has: path, major, minor.
const NODES: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

/// Type bits of st_mode (inode(7)).
const CHARACTER: u32 = 0o020_000;
const BLOCK: u32 = 0o060_000;
const PIPE: u32 = 0o010_000;

/// Access of a node that says nothing about it.
const MODE_DEFAULT: u32 = 0o666;

pub(super) fn compile(steps: &mut Steps, spec: &oci::Spec, error: StartError) -> Result<(), SpawnError> {
    let wanted =
        spec.linux.devices.iter().map(|device| node(spec, device, error)).collect::<Result<Vec<_>, _>>()?;
    if bind_at(spec, "/dev") {
        return Ok(());
    }
    for (path, major, minor) in NODES {
        let replaced = spec.linux.devices.iter().any(|device| clean(&device.path) == path);
        // A mount of the user's at the very place, `-v /dev/urandom:/dev/random`, is what they want there.
        if replaced || mounted_at(spec, path) {
            continue;
        }
        steps.push(Op::Device(DeviceNode {
            target: file_target(path, error)?,
            host: error.c_string(path)?,
            mode: CHARACTER | MODE_DEFAULT,
            major,
            minor,
            uid: 0,
            gid: 0,
        }));
    }
    for device in wanted {
        if device.target.text() != PTMX.1 {
            steps.push(Op::Device(device));
        }
    }
    let core = Path::new(CORE.0).exists().then_some(CORE);
    for (to, at) in LINKS.into_iter().chain(core) {
        steps.push(Op::Symlink { to: error.c_string(to)?, at: file_target(at, error)?, replace: false });
    }
    if !mounted_at(spec, PTMX.1) {
        let (to, at) = PTMX;
        steps.push(Op::Symlink { to: error.c_string(to)?, at: file_target(at, error)?, replace: true });
    }
    Ok(())
}

fn node(spec: &oci::Spec, device: &oci::Device, error: StartError) -> Result<DeviceNode, SpawnError> {
    let kind = match device.kind.as_str() {
        "c" | "u" => CHARACTER,
        "b" => BLOCK,
        "p" => PIPE,
        other => return Err(error.plain(&format!("unknown type {other:?} of device {}", device.path))),
    };
    let number = |value: i64, what: &str| {
        // A pipe has no number, and says nothing or 0.
        let value = if kind == PIPE { 0 } else { value };
        u32::try_from(value)
            .map_err(|_| error.plain(&format!("device {} has the {what} number {value}", device.path)))
    };
    // To chown(2) the largest number is none.
    if device.uid == u32::MAX || device.gid == u32::MAX {
        return Err(
            error.plain(&format!("device {} has the owner {}:{}", device.path, device.uid, device.gid))
        );
    }
    let mut made = DeviceNode {
        target: file_target(&device.path, error)?,
        host: error.c_string(&clean(&device.path))?,
        mode: kind | device.file_mode.unwrap_or(MODE_DEFAULT) & 0o7777,
        major: number(device.major, "major")?,
        minor: number(device.minor, "minor")?,
        uid: device.uid,
        gid: device.gid,
    };
    if kind != PIPE && spec.namespace(NamespaceKind::User).is_some() {
        made.host = error.c_string(&host_path(&made, &clean(&device.path)))?;
    }
    Ok(made)
}

/// In a user namespace nodes cannot be made, so the host's are bound: the one of the same name, or, when that is another
/// device, udev's link by number. What is bound is verified by its number again.
fn host_path(node: &DeviceNode, same: &str) -> String {
    let directory = if node.mode & BLOCK == BLOCK { "block" } else { "char" };
    let by_number = format!("/dev/{directory}/{}:{}", node.major, node.minor);
    let is_it = |path: &str| {
        let opened = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
        opened.is_ok_and(|fd| path::is_device(fd, node.mode, node.major, node.minor) == Ok(true))
    };
    if !is_it(same) && is_it(&by_number) { by_number } else { same.to_owned() }
}

fn bind_at(spec: &oci::Spec, path: &str) -> bool {
    let is_bind = |entry: &oci::Mount| entry.kind == "bind" || MountOptions::parse(&entry.options).bind;
    spec.mounts.iter().any(|entry| clean(&entry.destination) == path && is_bind(entry))
}

fn mounted_at(spec: &oci::Spec, path: &str) -> bool {
    spec.mounts.iter().any(|entry| clean(&entry.destination) == path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::errors::Context;

    fn paths(spec: &oci::Spec) -> Vec<String> {
        let mut steps = Steps::default();
        compile(&mut steps, spec, StartError::new(Context::Init)).unwrap();
        let nodes = steps.list.iter().filter_map(|step| match &step.op {
            Op::Device(node) => Some(node.target.text()),
            _ => None,
        });
        nodes.collect()
    }

    #[test]
    fn a_bound_dev_is_left_alone() {
        let mut spec = oci::Spec::default();
        assert_eq!(paths(&spec).len(), NODES.len());
        let mount =
            oci::Mount { destination: "/dev/".into(), kind: "devtmpfs".into(), ..oci::Mount::default() };
        spec.mounts.push(mount.clone());
        assert_eq!(paths(&spec).len(), NODES.len());
        spec.mounts[0].options.push("rbind".into());
        assert!(paths(&spec).is_empty());
    }

    #[test]
    fn the_specs_own_node_replaces_a_default_one() {
        let mut spec = oci::Spec::default();
        let device = |path: &str, kind: &str, major| oci::Device {
            path: path.into(),
            kind: kind.into(),
            major,
            ..oci::Device::default()
        };
        spec.linux.devices =
            vec![device("/dev/null", "c", 1), device("/dev/ptmx", "c", 5), device("/p", "p", -1)];
        let made = paths(&spec);
        assert_eq!(made.len(), NODES.len() + 1, "{made:?}");
        spec.linux.devices = vec![device("/dev/x", "c", -1)];
        let mut steps = Steps::default();
        assert!(compile(&mut steps, &spec, StartError::new(Context::Init)).is_err());
    }
}
