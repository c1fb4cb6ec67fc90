//! What a spec cannot ask for, told before anything is made. The rules are runc's (libcontainer/configs/validate) and
//! the specification's own; parts that belong to one subject are checked where that subject is compiled.

use crate::errors::StartError;
use crate::oci::{self, NamespaceKind};
use crate::request::SpawnError;
use naru_kernel::ns;

const NANOSECONDS_PER_SECOND: u32 = 1_000_000_000;

pub(crate) fn container(spec: &oci::Spec, error: StartError) -> Result<(), SpawnError> {
    let fail = |message: String| Err(error.plain(&message));
    for (index, namespace) in spec.linux.namespaces.iter().enumerate() {
        let kind = namespace.kind;
        if spec.linux.namespaces.iter().skip(index + 1).any(|other| other.kind == kind) {
            return fail(format!("malformed spec file: duplicated namespace {kind:?}"));
        }
        if let Some(path) = &namespace.path
            && !path.starts_with('/')
        {
            return fail(format!("the path of namespace {kind:?} is not absolute: {path:?}"));
        }
    }
    user(spec, error)?;
    time(spec, error)?;
    names(spec, error)?;
    if !spec.linux.net_devices.is_empty() && spec.namespace(NamespaceKind::Network).is_none() {
        return fail("unable to move network devices without a NET namespace".into());
    }
    let propagation = &spec.linux.rootfs_propagation;
    if !propagation.is_empty() && super::options::propagation(propagation).is_none() {
        return fail(format!("rootfsPropagation={propagation} is not supported"));
    }
    process(&spec.process, error)
}

/// Also for an exec.
pub(crate) fn process(process: &oci::Process, error: StartError) -> Result<(), SpawnError> {
    for (index, limit) in process.rlimits.iter().enumerate() {
        if process.rlimits.iter().skip(index + 1).any(|other| other.kind == limit.kind) {
            return Err(error.plain(&format!("rlimits has {} twice", limit.kind)));
        }
    }
    Ok(())
}

fn user(spec: &oci::Spec, error: StartError) -> Result<(), SpawnError> {
    let mapped = !spec.linux.uid_mappings.is_empty() || !spec.linux.gid_mappings.is_empty();
    let message = match (spec.namespace(NamespaceKind::User), mapped) {
        (None, true) => "user namespace mappings specified, but user namespace isn't enabled in the config",
        (Some(namespace), false) if namespace.path.is_none() => {
            "user namespaces enabled, but no namespace path to join nor mappings to apply specified"
        }
        (Some(_), _) if spec.namespace(NamespaceKind::Mount).is_none() => {
            "a user namespace needs a mount namespace beside it: its root may not mount in the caller's"
        }
        _ => return Ok(()),
    };
    Err(error.plain(message))
}

fn time(spec: &oci::Spec, error: StartError) -> Result<(), SpawnError> {
    let offsets = &spec.linux.time_offsets;
    let message = match spec.namespace(NamespaceKind::Time) {
        None if !offsets.is_empty() => {
            "time namespace offsets specified, but time namespace isn't enabled in the config"
        }
        Some(namespace) if namespace.path.is_some() && !offsets.is_empty() => {
            "time namespace enabled, but both namespace path and time offsets specified -- you may only provide one"
        }
        _ => "",
    };
    if !message.is_empty() {
        return Err(error.plain(message));
    }
    for (clock, offset) in offsets {
        if !matches!(clock.as_str(), "monotonic" | "boottime") {
            return Err(error.plain(&format!("unknown clock {clock:?} in timeOffsets")));
        }
        if offset.nanosecs >= NANOSECONDS_PER_SECOND {
            return Err(
                error.plain(&format!("timeOffsets: {} nanosecs are a second or more", offset.nanosecs))
            );
        }
    }
    Ok(())
}

/// A name that the caller's namespace has already is no change, and Docker's `--uts host` says it.
fn names(spec: &oci::Spec, error: StartError) -> Result<(), SpawnError> {
    if spec.namespace(NamespaceKind::Uts).is_some() {
        return Ok(());
    }
    let uname = rustix::system::uname();
    if !spec.hostname.is_empty() && *spec.hostname != *uname.nodename().to_string_lossy() {
        return Err(error.plain("unable to set hostname without a private UTS namespace"));
    }
    if !spec.domainname.is_empty() && *spec.domainname != *uname.domainname().to_string_lossy() {
        return Err(error.plain("unable to set domainname without a private UTS namespace"));
    }
    Ok(())
}

/// Whether writing the sysctl changes only the container: the kernel keeps most of them once for the whole machine.
pub(crate) fn sysctl(
    name: &str,
    spec: &oci::Spec,
    own_net: bool,
    error: StartError,
) -> Result<(), SpawnError> {
    const IPC: [&str; 8] =
        ["msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced"];
    let own = |kind| spec.namespace(kind).is_some();
    let fail = |why: &str| Err(error.plain(&format!("sysctl {name:?} {why}")));
    // The name becomes a path: nothing in it may lead elsewhere than it says.
    if sysctl_path(name).split('/').any(|part| matches!(part, "" | "." | "..")) {
        return fail("is no name of a sysctl");
    }
    let is_ipc = name.starts_with("fs.mqueue.")
        || name.strip_prefix("kernel.").is_some_and(|rest| IPC.contains(&rest));
    if is_ipc {
        return if own(NamespaceKind::Ipc) {
            Ok(())
        } else {
            fail("is not allowed in the hosts ipc namespace")
        };
    }
    if name.starts_with("net.") {
        return if own_net { Ok(()) } else { fail("not allowed in host network namespace") };
    }
    if name.starts_with("user.") {
        return if own(NamespaceKind::User) { Ok(()) } else { fail("needs a user namespace") };
    }
    match name {
        "kernel.domainname" if own(NamespaceKind::Uts) => Ok(()),
        "kernel.hostname" if own(NamespaceKind::Uts) => {
            fail("is not allowed as it conflicts with the OCI \"hostname\" field")
        }
        _ => fail("is not in a separate kernel namespace"),
    }
}

/// `net/ipv4/conf/eno2.100/rp_filter` is `net.ipv4.conf.eno2/100.rp_filter` (sysctl(8)): the first separator decides.
pub(crate) fn dotted(name: &str) -> String {
    let first = name.find(['.', '/']).and_then(|at| name.as_bytes().get(at));
    if first != Some(&b'/') {
        return name.to_owned();
    }
    let swap = |letter| match letter {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    name.chars().map(swap).collect()
}

/// The path below /proc/sys; a `/` in the dotted name is a dot in the file's.
pub(crate) fn sysctl_path(dotted: &str) -> String {
    let swap = |letter| match letter {
        '.' => '/',
        '/' => '.',
        other => other,
    };
    dotted.chars().map(swap).collect()
}

/// A network namespace by path that is the caller's own is no namespace of the container's.
pub(crate) fn is_own_network(fd: &std::os::fd::OwnedFd) -> bool {
    let inode = |fd: &std::os::fd::OwnedFd| rustix::fs::fstat(fd).map(|stat| (stat.st_dev, stat.st_ino)).ok();
    ns::open_own("net").is_ok_and(|own| inode(&own).is_some() && inode(&own) == inode(fd))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::errors::Context;
    use crate::oci::{IdMapping, Namespace, TimeOffset};

    fn check(change: impl FnOnce(&mut oci::Spec), expect: &str) {
        let mut spec = oci::Spec::default();
        change(&mut spec);
        let told = container(&spec, StartError::new(Context::Init)).map_err(|error| error.message);
        match told {
            Ok(()) => assert!(expect.is_empty(), "no {expect:?}"),
            Err(text) => assert!(!expect.is_empty() && text.contains(expect), "{text:?} is not {expect:?}"),
        }
    }

    fn add(spec: &mut oci::Spec, kind: NamespaceKind, path: Option<&str>) {
        spec.linux.namespaces.push(Namespace { kind, path: path.map(str::to_owned) });
    }

    #[test]
    fn what_contradicts_itself() {
        let map = IdMapping { container_id: 0, host_id: 0, size: 1 };
        check(|_| {}, "");
        check(
            |spec| {
                add(spec, NamespaceKind::Pid, None);
                add(spec, NamespaceKind::Pid, Some("/x"));
            },
            "duplicated namespace",
        );
        check(|spec| add(spec, NamespaceKind::Ipc, Some("x")), "not absolute");
        check(|spec| spec.linux.uid_mappings.push(map), "user namespace isn't enabled");
        check(|spec| add(spec, NamespaceKind::User, None), "nor mappings");
        check(
            |spec| spec.linux.time_offsets = [("monotonic".into(), TimeOffset::default())].into(),
            "isn't enabled",
        );
        check(
            |spec| {
                add(spec, NamespaceKind::Time, None);
                spec.linux.time_offsets.insert("realtime".into(), TimeOffset::default());
            },
            "unknown clock",
        );
        check(|spec| spec.hostname = "surely-not-this-machine".into(), "unable to set hostname");
        check(
            |spec| {
                for _ in 0..2 {
                    spec.process.rlimits.push(oci::Rlimit { kind: "RLIMIT_CORE".into(), soft: 0, hard: 0 });
                }
            },
            "RLIMIT_CORE twice",
        );
    }

    #[test]
    fn sysctls_by_either_separator() {
        assert_eq!(dotted("net/ipv4/conf/eno2.100/rp_filter"), "net.ipv4.conf.eno2/100.rp_filter");
        assert_eq!(sysctl_path("net.ipv4.conf.eno2/100.rp_filter"), "net/ipv4/conf/eno2.100/rp_filter");
        let allowed =
            |name: &str, spec: &oci::Spec| sysctl(name, spec, false, StartError::new(Context::Init)).is_ok();
        let mut spec = oci::Spec::default();
        assert!(!allowed("kernel.sem", &spec) && !allowed("net.core.somaxconn", &spec));
        add(&mut spec, NamespaceKind::Ipc, None);
        assert!(allowed("kernel.sem", &spec) && !allowed("kernel.panic", &spec));
    }
}
