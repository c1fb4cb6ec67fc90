//! Docker's default mounts, then the engine's files, then the user's, in the order that deeper targets come later.

use super::LowerInput;
use crate::oci::Mount;
use naru_types::spec::{ContainerSpec, MountSource, NamespaceMode};
use naru_types::{Error, Result};
use std::path::Path;

/// Docker's default size of /dev/shm in bytes.
const SHM_BYTES: i64 = 64 << 20;

/// The group of terminals in every distribution's base-passwd.
const TTY_GROUP: u32 = 5;

/// Where a tmpfs may take Docker's options from.
const TMPFS_DEFAULT_OPTIONS: [&str; 3] = ["noexec", "nosuid", "nodev"];

pub(super) fn of(container: &ContainerSpec, input: &LowerInput) -> Result<Vec<Mount>> {
    let privileged = container.security.privileged;
    let mut mounts = defaults(container, privileged, input);
    let mut user = user_mounts(container, input)?;
    // The user's choice for a default place replaces it (moby: withMounts).
    mounts.retain(|mount| !user.iter().any(|own| same_place(&own.destination, &mount.destination)));
    mounts.extend(shared_memory(container, input, &user));
    user.extend(engine_files(input, &user));
    if input.userns_first.is_some() {
        // Files keep their owners: root inside is root on the disk, and nobody anywhere else.
        for bind in user.iter_mut().filter(|mount| mount.kind == "bind") {
            bind.options.push(
                if bind.options.iter().any(|word| word == "rbind") { "ridmap" } else { "idmap" }.into(),
            );
        }
    }
    user.sort_by_key(|mount| depth(&mount.destination));
    mounts.extend(user);
    Ok(mounts)
}

fn defaults(container: &ContainerSpec, privileged: bool, input: &LowerInput) -> Vec<Mount> {
    // A privileged container may change its kernel: sysfs and cgroups are writable.
    let sys: &[&str] =
        if privileged { &["nosuid", "noexec", "nodev"] } else { &["nosuid", "noexec", "nodev", "ro"] };
    let cgroup: &[&str] =
        if privileged { &["nosuid", "noexec", "nodev", "rw"] } else { &["ro", "nosuid", "noexec", "nodev"] };
    let pts = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"];
    // `tty`, unless the user namespace that we are in has no such number.
    let named = input.userns_first.is_some() || input.group_max.is_none_or(|last| last >= TTY_GROUP);
    let pts = if named { &pts[..] } else { &pts[..pts.len() - 1] };
    let mut mounts = vec![
        mount("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
        mount("/dev", "tmpfs", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount("/dev/pts", "devpts", "devpts", pts),
        mount("/sys", "sysfs", "sysfs", sys),
        mount("/sys/fs/cgroup", "cgroup", "cgroup", cgroup),
    ];
    if container.namespaces.ipc == NamespaceMode::Host {
        mounts.push(mount("/dev/mqueue", "bind", "/dev/mqueue", &["rbind", "nosuid", "noexec", "nodev"]));
    } else {
        mounts.push(mount("/dev/mqueue", "mqueue", "mqueue", &["nosuid", "noexec", "nodev"]));
    }
    mounts
}

fn shared_memory(container: &ContainerSpec, input: &LowerInput, user: &[Mount]) -> Option<Mount> {
    if user.iter().any(|own| same_place(&own.destination, "/dev/shm")) {
        return None;
    }
    if let Some(path) = &input.shm_path {
        let options = ["rbind", "rprivate", "nosuid", "noexec", "nodev"];
        return Some(mount("/dev/shm", "bind", &path.to_string_lossy(), &options));
    }
    let mut shm = mount("/dev/shm", "tmpfs", "shm", &["nosuid", "noexec", "nodev", "mode=1777"]);
    shm.options.push(format!("size={}", container.shm_size.filter(|size| *size > 0).unwrap_or(SHM_BYTES)));
    Some(shm)
}

fn user_mounts(container: &ContainerSpec, input: &LowerInput) -> Result<Vec<Mount>> {
    let mut mounts: Vec<Mount> = Vec::new();
    for bind in &input.binds {
        // Recursively read-only, as Docker since 25: a sub-mount must not stay writable.
        let access = if bind.read_only { "rro" } else { "rw" };
        let options = ["rbind", access, bind.propagation.as_str()];
        mounts.push(mount(&bind.target, "bind", &bind.source.to_string_lossy(), &options));
    }
    for own in &container.mounts {
        let MountSource::Tmpfs { size, mode, options } = &own.source else { continue };
        let mut made = mount(&own.target, "tmpfs", "tmpfs", &TMPFS_DEFAULT_OPTIONS);
        if *size > 0 {
            made.options.push(format!("size={size}"));
        }
        if *mode != 0 {
            made.options.push(format!("mode={mode:o}"));
        } else if !options.iter().any(|option| option.starts_with("mode=")) {
            made.options.push("mode=1777".into());
        }
        made.options.extend(options.iter().cloned());
        if own.read_only {
            made.options.push("ro".into());
        }
        mounts.push(made);
    }
    if let Some(bad) =
        mounts.iter().find(|mount| !mount.destination.starts_with('/') || depth(&mount.destination) == 0)
    {
        return Err(Error::invalid(format!(
            "invalid mount path: {:?} mount path must be absolute and not /",
            bad.destination
        )));
    }
    Ok(mounts)
}

/// hostname, hosts and resolv.conf, unless the user mounts their own.
fn engine_files(input: &LowerInput, user: &[Mount]) -> Vec<Mount> {
    let files: [(&Option<std::path::PathBuf>, &str); 3] = [
        (&input.resolv_conf_path, "/etc/resolv.conf"),
        (&input.hostname_path, "/etc/hostname"),
        (&input.hosts_path, "/etc/hosts"),
    ];
    let bind = |(path, target): (&Option<std::path::PathBuf>, &str)| {
        let source = path.as_deref().map(Path::to_string_lossy)?;
        let taken = user.iter().any(|own| same_place(&own.destination, target));
        (!taken).then(|| mount(target, "bind", &source, &["rbind", "rprivate"]))
    };
    files.into_iter().filter_map(bind).collect()
}

fn mount(destination: &str, kind: &str, source: &str, options: &[&str]) -> Mount {
    Mount {
        destination: destination.into(),
        kind: kind.into(),
        source: source.into(),
        options: options.iter().map(|option| (*option).to_owned()).collect(),
        ..Mount::default()
    }
}

fn same_place(a: &str, b: &str) -> bool {
    a.split('/').filter(|part| !part.is_empty()).eq(b.split('/').filter(|part| !part.is_empty()))
}

fn depth(path: &str) -> usize {
    path.split('/').filter(|part| !part.is_empty()).count()
}
