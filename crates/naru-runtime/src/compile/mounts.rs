//! The mount part of a plan: root, mounts in the spec's order, device nodes and links in /dev.

use super::Steps;
use super::idmap::Owners;
use super::options::MountOptions;
use crate::cgroup::Cgroup;
use crate::errors::StartError;
use crate::oci::{self, NamespaceKind};
use crate::plan::{DeviceNode, Keep, NewFs, Op, Target};
use crate::request::SpawnError;
use naru_kernel::mount::{self, Change, Propagation, RDONLY};
use naru_kernel::path::{self, Missing};
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};

pub(crate) struct Input<'a> {
    pub spec: &'a oci::Spec,
    pub cgroup: Option<&'a Cgroup>,
    /// The directory of the host's tree, as the child has it, that the root is attached to.
    pub attach_at: &'a CStr,
    pub owners: &'a Owners<'a>,
}

/// Links that programs expect in /dev (runtime-linux config, "Dev symbolic links").
const DEV_LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "/dev/fd"),
    ("/proc/self/fd/0", "/dev/stdin"),
    ("/proc/self/fd/1", "/dev/stdout"),
    ("/proc/self/fd/2", "/dev/stderr"),
    ("pts/ptmx", "/dev/ptmx"),
];

/// Nodes that every container has (runtime-linux config, "Default Devices"): path, major, minor.
const DEV_NODES: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

pub(crate) fn compile(steps: &mut Steps, input: &Input<'_>, error: StartError) -> Result<(), SpawnError> {
    // Binds are cloned first, by the parent: a shared one keeps its peers although the child's tree becomes a slave.
    let mut mounts = Vec::with_capacity(input.spec.mounts.len());
    for entry in &input.spec.mounts {
        let options = MountOptions::parse(&entry.options);
        let bind = options.bind || entry.kind == "bind";
        let source = if bind { Some(clone_source(entry, &options, input.owners, error)?) } else { None };
        mounts.push((entry, options, source));
    }
    // Slave: host unmounts still arrive (nothing stays busy because of us), ours never travel back.
    steps.push(Op::TreePropagation(Propagation::Slave));
    steps.push(Op::AttachRoot(input.attach_at.to_owned()));
    // Modes below are meant as they are said; the container's own umask comes last.
    steps.push(Op::Umask(0));
    for (entry, options, source) in mounts {
        match source {
            Some(mount) => push_bind(steps, entry, mount, error)?,
            None if entry.kind == "cgroup" || entry.kind == "cgroup2" => {
                cgroup(steps, input, entry, &options, error)?;
            }
            None => push_fs(steps, entry, &options, error)?,
        }
    }
    if own_dev(input.spec) {
        devices(steps, input, error)?;
    }
    if !input.spec.linux.masked_paths.is_empty() {
        steps.push(Op::OpenNull);
    }
    Ok(())
}

pub(crate) fn file_target(path: &str, error: StartError) -> Result<Target, SpawnError> {
    target(path, Missing::File, error)
}

fn target(path: &str, missing: Missing, error: StartError) -> Result<Target, SpawnError> {
    Target::new(path, missing).ok_or_else(|| error.plain(&format!("invalid mount destination {path:?}")))
}

/// A detached copy of the host tree with its final attributes: nobody sees it half made.
fn clone_source(
    entry: &oci::Mount,
    options: &MountOptions,
    owners: &Owners<'_>,
    error: StartError,
) -> Result<OwnedFd, SpawnError> {
    let step = |what: &str| format!("{what} {} for the mount at {}", entry.source, entry.destination);
    let source = error.c_string(&entry.source)?;
    let mount = mount::clone_host_tree(&source, options.recursive_bind)
        .map_err(|errno| error.errno(&step("clone"), errno))?;
    let words = ["idmap", "ridmap"].map(|word| entry.options.iter().any(|option| option == word));
    if words.contains(&true) {
        owners.apply(mount.as_fd(), (&[], &[]), words[1], &step("idmap"), error)?;
    }
    let set = |change: Change| {
        mount::set_attributes(mount.as_fd(), c"", change)
            .map_err(|errno| error.errno(&step("set attributes of"), errno))
    };
    let (propagation, recursive) = options.propagation.unwrap_or((Propagation::Private, true));
    set(Change { propagation: Some(propagation), recursive, ..Change::default() })?;
    if options.set | options.clear != 0 {
        set(Change { set: options.set, clear: options.clear, ..Change::default() })?;
    }
    if options.set_recursive != 0 {
        set(Change { set: options.set_recursive, recursive: true, ..Change::default() })?;
    }
    Ok(mount)
}

fn push_bind(
    steps: &mut Steps,
    entry: &oci::Mount,
    mount: OwnedFd,
    error: StartError,
) -> Result<(), SpawnError> {
    let is_dir = path::is_dir(&mount).map_err(|errno| error.errno("stat a mount source", errno))?;
    let missing = if is_dir { Missing::Directory } else { Missing::File };
    steps.push(Op::Bind { mount, target: target(&entry.destination, missing, error)? });
    Ok(())
}

fn push_fs(
    steps: &mut Steps,
    entry: &oci::Mount,
    options: &MountOptions,
    error: StartError,
) -> Result<(), SpawnError> {
    let keep = match entry.kind.as_str() {
        "proc" => Keep::Proc,
        "devpts" => Keep::Devpts,
        _ => Keep::Nothing,
    };
    let (read_only, attrs) = (options.set & RDONLY != 0, options.set & !RDONLY);
    // A tmpfs at /dev gets its nodes after it is attached; it becomes read-only, if asked, only then. procfs and sysfs
    // are read-only at once.
    let late = read_only && entry.kind == "tmpfs";
    steps.push(Op::NewFs(NewFs {
        kind: error.c_string(&entry.kind)?,
        source: error.c_string(if entry.source.is_empty() { &entry.kind } else { &entry.source })?,
        options: data_options(&options.data, error)?,
        attrs: if late { attrs } else { options.set },
        target: target(&entry.destination, Missing::Directory, error)?,
        // What hides and protects parts of these two must lie on them, and not where a link led a moment ago.
        plain_target: matches!(entry.kind.as_str(), "proc" | "sysfs"),
        keep,
    }));
    if late {
        let change = Change { set: RDONLY, ..Change::default() };
        steps
            .push(Op::ChangeMount { target: target(&entry.destination, Missing::Directory, error)?, change });
    }
    Ok(())
}

fn data_options(data: &[String], error: StartError) -> Result<Vec<(CString, Option<CString>)>, SpawnError> {
    data.iter()
        .map(|option| match option.split_once('=') {
            Some((key, value)) => Ok((error.c_string(key)?, Some(error.c_string(value)?))),
            None => Ok((error.c_string(option)?, None)),
        })
        .collect()
}

/// The control groups, as the container may see them: its own part only when it has a cgroup namespace.
fn cgroup(
    steps: &mut Steps,
    input: &Input<'_>,
    entry: &oci::Mount,
    options: &MountOptions,
    error: StartError,
) -> Result<(), SpawnError> {
    let Some(cgroup) = input.cgroup else { return Ok(()) };
    let private = input.spec.namespace(NamespaceKind::Cgroup).is_some();
    let flags = mount::NOSUID | mount::NODEV | mount::NOEXEC | mount::RELATIME | (options.set & RDONLY);
    let layout = cgroup.layout();
    let base = entry.destination.trim_end_matches('/').to_owned();
    if layout.v1.is_empty() {
        return cgroup_mount(
            steps,
            &View { cgroup, private, flags, kind: "cgroup2", owners: input.owners },
            None,
            &base,
            error,
        );
    }
    steps.push(Op::NewFs(NewFs {
        kind: c"tmpfs".to_owned(),
        source: c"tmpfs".to_owned(),
        options: vec![(c"mode".to_owned(), Some(c"755".to_owned()))],
        attrs: flags & !RDONLY,
        target: target(&base, Missing::Directory, error)?,
        plain_target: false,
        keep: Keep::Nothing,
    }));
    for hierarchy in &layout.v1 {
        let at = format!("{base}/{}", hierarchy.directory_name());
        cgroup_mount(
            steps,
            &View { cgroup, private, flags, kind: "cgroup", owners: input.owners },
            Some(hierarchy),
            &at,
            error,
        )?;
    }
    if layout.v2.is_some() {
        let at = format!("{base}/unified");
        cgroup_mount(
            steps,
            &View { cgroup, private, flags, kind: "cgroup2", owners: input.owners },
            None,
            &at,
            error,
        )?;
    }
    if flags & RDONLY != 0 {
        let change = Change { set: RDONLY, ..Change::default() };
        steps.push(Op::ChangeMount { target: target(&base, Missing::Directory, error)?, change });
    }
    Ok(())
}

struct View<'a> {
    cgroup: &'a Cgroup,
    private: bool,
    flags: mount::Attrs,
    kind: &'a str,
    owners: &'a Owners<'a>,
}

fn cgroup_mount(
    steps: &mut Steps,
    view: &View<'_>,
    hierarchy: Option<&crate::cgroup::Hierarchy>,
    at: &str,
    error: StartError,
) -> Result<(), SpawnError> {
    let target = target(at, Missing::Directory, error)?;
    if view.private {
        let words = hierarchy.map(crate::cgroup::Hierarchy::mount_options).unwrap_or_default();
        steps.push(Op::NewFs(NewFs {
            kind: error.c_string(view.kind)?,
            source: c"cgroup".to_owned(),
            options: data_options(&words, error)?,
            attrs: view.flags,
            target,
            plain_target: false,
            keep: Keep::Nothing,
        }));
        return Ok(());
    }
    // The host's namespace: v1 shows the container's own directory, v2 the whole tree, as runc does; both read-only.
    let source = match hierarchy {
        Some(hierarchy) => view.cgroup.directory_in(hierarchy),
        None => view.cgroup.layout().v2.clone().unwrap_or_default(),
    };
    let entry = oci::Mount { source: source.to_string_lossy().into_owned(), ..oci::Mount::default() };
    let options = MountOptions { set: view.flags, recursive_bind: false, ..MountOptions::default() };
    steps.push(Op::Bind { mount: clone_source(&entry, &options, view.owners, error)?, target });
    Ok(())
}

/// Whether /dev is a file system of the container's own; a bind-mounted host /dev is left as it is.
fn own_dev(spec: &oci::Spec) -> bool {
    let at_dev = |entry: &&oci::Mount| entry.destination.trim_end_matches('/') == "/dev";
    spec.mounts.iter().rev().find(at_dev).is_none_or(|entry| entry.kind == "tmpfs")
}

fn devices(steps: &mut Steps, input: &Input<'_>, error: StartError) -> Result<(), SpawnError> {
    const CHARACTER: u32 = 0o020_000;
    for (path, major, minor) in DEV_NODES {
        let host = error.c_string(path)?;
        let target = file_target(path, error)?;
        let mode = CHARACTER | 0o666;
        steps.push(Op::Device(DeviceNode { target, host, mode, major, minor, uid: 0, gid: 0 }));
    }
    for device in &input.spec.linux.devices {
        let kind = match device.kind.as_str() {
            "c" | "u" => CHARACTER,
            "b" => 0o060_000,
            "p" => 0o010_000,
            other => return Err(error.plain(&format!("unknown type {other:?} of device {}", device.path))),
        };
        steps.push(Op::Device(DeviceNode {
            target: file_target(&device.path, error)?,
            host: error.c_string(&device.path)?,
            mode: kind | device.file_mode.unwrap_or(0o666) & 0o7777,
            major: device.major as u32,
            minor: device.minor as u32,
            uid: device.uid,
            gid: device.gid,
        }));
    }
    for (to, at) in DEV_LINKS {
        steps.push(Op::Symlink { to: error.c_string(to)?, at: file_target(at, error)? });
    }
    Ok(())
}
