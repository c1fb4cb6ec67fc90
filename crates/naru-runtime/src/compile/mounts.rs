//! The mount part of a plan: root, mounts in the spec's order, device nodes and links in /dev.

use super::Steps;
use super::devices;
use super::idmap::Owners;
use super::options::{self, MountOptions, Recursive};
use crate::cgroup::Cgroup;
use crate::errors::StartError;
use crate::oci::{self, NamespaceKind};
use crate::plan::{Inherit, Keep, NewFs, Op, Target};
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

/// The only files of the container's own procfs that may be covered: lxcfs emulates them (runc has the same list).
/// Elsewhere a mount could hide what keeps the program in, such as /proc/self/attr (CVE-2019-19921).
const PROC_FILES: [&str; 10] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/slabinfo",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/crypto/fips_enabled",
];

/// File systems of the kernel's own, whose superblock is shared or written to after it is mounted: read-only is only
/// their mount.
const PSEUDO: [&str; 8] = ["proc", "sysfs", "tmpfs", "devpts", "devtmpfs", "mqueue", "cgroup", "cgroup2"];

pub(crate) fn compile(steps: &mut Steps, input: &Input<'_>, error: StartError) -> Result<(), SpawnError> {
    // Binds are cloned first, by the parent: a shared one keeps its peers although the child's tree becomes a slave.
    let mut mounts = Vec::with_capacity(input.spec.mounts.len());
    for entry in &input.spec.mounts {
        let options = MountOptions::parse(&entry.options);
        check(entry, &options, error)?;
        let clone = is_bind(entry, &options) && !options.remount;
        let source = if clone { Some(clone_source(entry, &options, input.owners, error)?) } else { None };
        mounts.push((entry, options, source));
    }
    let own_tree = input.spec.namespace(NamespaceKind::Mount).is_some();
    if own_tree {
        // Slave: host unmounts still arrive (nothing stays busy because of us), ours never travel back.
        steps.push(Op::TreePropagation(Propagation::Slave));
    }
    let propagation = match options::propagation(&input.spec.linux.rootfs_propagation) {
        Some((Propagation::Slave, _)) => Propagation::Slave,
        _ => Propagation::Private,
    };
    steps.push(Op::AttachRoot { at: input.attach_at.to_owned(), propagation });
    if !own_tree {
        // A shared mount makes shared what is attached to it (mount_namespaces(7)): what comes next stays here.
        let propagation = Some(Propagation::Private);
        steps.push(Op::ChangeRoot(Change { propagation, recursive: true, ..Change::default() }));
    }
    // Modes below are meant as they are said; the container's own umask comes last.
    steps.push(Op::Umask(0));
    for (entry, options, source) in mounts {
        match source {
            Some(mount) => push_bind(steps, entry, mount, error)?,
            None if options.remount => remount(steps, entry, &options, error)?,
            None if entry.kind == "cgroup" || entry.kind == "cgroup2" => {
                cgroup(steps, input, entry, &options, error)?;
            }
            None => push_fs(steps, input, entry, &options, error)?,
        }
    }
    devices::compile(steps, input.spec, error)?;
    if !input.spec.linux.masked_paths.is_empty() {
        steps.push(Op::OpenNull);
    }
    Ok(())
}

pub(crate) fn file_target(path: &str, error: StartError) -> Result<Target, SpawnError> {
    target(path, Missing::File, error)
}

fn target(path: &str, missing: Missing, error: StartError) -> Result<Target, SpawnError> {
    Target::new(&clean(path), missing)
        .ok_or_else(|| error.plain(&format!("invalid mount destination {path:?}")))
}

/// From the root on, also when it is relative (config.md), without `.` and `..`: by its words, before any link is
/// followed, as runc does.
pub(super) fn clean(path: &str) -> String {
    let mut names: Vec<&str> = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    format!("/{}", names.join("/"))
}

fn is_bind(entry: &oci::Mount, options: &MountOptions) -> bool {
    options.bind || entry.kind == "bind"
}

/// What the words of one mount contradict; the rules are runc's.
fn check(entry: &oci::Mount, options: &MountOptions, error: StartError) -> Result<(), SpawnError> {
    let at = clean(&entry.destination);
    let fail = |why: &str| Err(error.plain(&format!("invalid mount at {at}: {why}")));
    let bind = is_bind(entry, options);
    if at == "/" {
        return fail("it would cover the root file system");
    }
    if bind && !options.data.is_empty() {
        // The kernel would ignore them all: a typo must not look like a protection.
        return fail(&format!(
            "bind mounts cannot have any filesystem-specific options applied: {}",
            options.data.join(",")
        ));
    }
    let mapped = options.idmap.is_some() || !entry.uid_mappings.is_empty() || !entry.gid_mappings.is_empty();
    if mapped && !bind {
        return fail("id-mapped mounts are only supported for bind-mounts");
    }
    if options.copy_up && (bind || entry.kind != "tmpfs") {
        return fail("tmpcopyup is an option of tmpfs");
    }
    if at == "/proc" && !bind && !options.remount && entry.kind != "proc" {
        return fail("it cannot be mounted because it is not of type proc");
    }
    if at.starts_with("/proc/") && !PROC_FILES.contains(&at.as_str()) {
        return fail("it cannot be mounted because it is inside /proc");
    }
    Ok(())
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
    let maps = (&entry.uid_mappings[..], &entry.gid_mappings[..]);
    if options.idmap.is_some() || !maps.0.is_empty() || !maps.1.is_empty() {
        let recursive = options.idmap == Some(Recursive::Yes);
        owners.apply(mount.as_fd(), maps, recursive, &step("idmap"), error)?;
    }
    let set = |change: Change| {
        mount::set_attributes(mount.as_fd(), c"", change)
            .map_err(|errno| error.errno(&step("set attributes of"), errno))
    };
    for change in propagation(&options.propagation) {
        set(change)?;
    }
    for change in attributes(options) {
        set(change).map_err(|failure| locked(failure, &change))?;
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
    if clean(&entry.destination) == "/proc" && path::fs_magic(&mount) != Ok(path::PROC_MAGIC) {
        let why = "invalid mount at /proc: it cannot be mounted because it is not of type proc";
        return Err(error.plain(why));
    }
    steps.push(Op::Bind { mount, target: target(&entry.destination, missing, error)? });
    Ok(())
}

/// The steps of mount_setattr(2), in order: one's own attributes, then those of the whole tree.
fn attributes(options: &MountOptions) -> impl Iterator<Item = Change> + use<> {
    let own = Change { set: options.set, clear: options.clear, ..Change::default() };
    let (set, clear) = (options.set_recursive, options.clear_recursive);
    let all = Change { set, clear, recursive: true, ..Change::default() };
    [own, all].into_iter().filter(|change| change.set | change.clear != 0)
}

/// Private without a word. A change of the top alone finds the mounts below as slaves, and not as the peers of the
/// host's that a clone's are: nothing travels back by omission.
fn propagation(words: &[(Propagation, bool)]) -> Vec<Change> {
    let change = |(propagation, recursive): (Propagation, bool)| Change {
        propagation: Some(propagation),
        recursive,
        ..Change::default()
    };
    match words {
        [] => vec![change((Propagation::Private, true))],
        [(Propagation::Shared, _) | (_, true), ..] => words.iter().copied().map(change).collect(),
        [(_, false), ..] => {
            std::iter::once((Propagation::Slave, true)).chain(words.iter().copied()).map(change).collect()
        }
    }
}

/// What a less privileged mount namespace inherits is locked (mount_namespaces(7)); the kernel only says EPERM.
fn locked(mut failure: SpawnError, change: &Change) -> SpawnError {
    if failure.errno == naru_kernel::Errno::PERM.raw_os_error() && change.clear != 0 {
        failure.message.push_str(" (flags that the source's owner set are locked and cannot be cleared)");
    }
    failure
}

fn push_fs(
    steps: &mut Steps,
    input: &Input<'_>,
    entry: &oci::Mount,
    options: &MountOptions,
    error: StartError,
) -> Result<(), SpawnError> {
    let keep = match entry.kind.as_str() {
        // The one that the program will find; another elsewhere is just a mount.
        "proc" if clean(&entry.destination) == "/proc" => Keep::Proc,
        "devpts" => Keep::Devpts,
        _ => Keep::Nothing,
    };
    let read_only = options.set & RDONLY != 0;
    // A file system at /dev gets its nodes after it is attached; it becomes read-only, if asked, only then. procfs and
    // sysfs are read-only at once.
    let late = read_only && (entry.kind == "tmpfs" || clean(&entry.destination) == "/dev");
    let mut data = data_options(&options.data, error)?;
    for word in &options.superblock {
        data.push((error.c_string(word)?, None));
    }
    if read_only && !late && !PSEUDO.contains(&entry.kind.as_str()) {
        // A device that cannot be written has to be told so before it is mounted.
        data.push((c"ro".to_owned(), None));
    }
    let label = label(input.spec, &entry.kind, error)?;
    if let Some(label) = label.as_ref().filter(|_| entry.kind != "mqueue") {
        data.push((c"context".to_owned(), Some(label.clone())));
    }
    steps.push(Op::NewFs(NewFs {
        kind: error.c_string(&entry.kind)?,
        source: error.c_string(if entry.source.is_empty() { &entry.kind } else { &entry.source })?,
        options: data,
        attrs: if late { options.set & !RDONLY } else { options.set },
        changes: options
            .propagation
            .iter()
            .map(|(word, recursive)| Change {
                propagation: Some(*word),
                recursive: *recursive,
                ..Change::default()
            })
            .chain(attributes(options).filter(|change| change.recursive))
            .collect(),
        target: target(&entry.destination, Missing::Directory, error)?,
        // What hides and protects parts of these two must lie on them, and not where a link led a moment ago.
        plain_target: matches!(entry.kind.as_str(), "proc" | "sysfs"),
        keep,
        inherit: inherit(entry, options),
        label: label.filter(|_| entry.kind == "mqueue"),
    }));
    if late {
        let change = Change { set: RDONLY, ..Change::default() };
        steps
            .push(Op::ChangeMount { target: target(&entry.destination, Missing::Directory, error)?, change });
    }
    Ok(())
}

/// A tmpfs looks like the directory that it covers, where its options do not say otherwise.
fn inherit(entry: &oci::Mount, options: &MountOptions) -> Inherit {
    let says = |key: &str| options.data.iter().any(|option| option.starts_with(key));
    Inherit {
        mode: entry.kind == "tmpfs" && !says("mode="),
        owner: options.copy_up && !says("uid=") && !says("gid="),
        files: options.copy_up,
    }
}

/// The SELinux context of a new file system; procfs and sysfs have labels of their own, cgroups too.
fn label(spec: &oci::Spec, kind: &str, error: StartError) -> Result<Option<CString>, SpawnError> {
    let label = &spec.linux.mount_label;
    if label.is_empty() || matches!(kind, "proc" | "sysfs" | "cgroup" | "cgroup2") {
        return Ok(None);
    }
    if !std::path::Path::new("/sys/fs/selinux/enforce").exists() {
        return Err(error.plain(
            "a mount label is specified in config, but selinux is disabled or not supported on this machine",
        ));
    }
    error.c_string(label).map(Some)
}

/// The mount that is at the destination already gets other attributes and, when it is no bind, other options.
fn remount(
    steps: &mut Steps,
    entry: &oci::Mount,
    options: &MountOptions,
    error: StartError,
) -> Result<(), SpawnError> {
    let at = || target(&entry.destination, Missing::Directory, error);
    let mut data = data_options(&options.data, error)?;
    for word in &options.superblock {
        data.push((error.c_string(word)?, None));
    }
    if !is_bind(entry, options) && !data.is_empty() {
        steps.push(Op::Reconfigure { target: at()?, options: data });
    }
    let propagation = options.propagation.iter().map(|(propagation, recursive)| Change {
        propagation: Some(*propagation),
        recursive: *recursive,
        ..Change::default()
    });
    for change in attributes(options).chain(propagation) {
        steps.push(Op::ChangeMount { target: at()?, change });
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
        ..NewFs::default()
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
            ..NewFs::default()
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
