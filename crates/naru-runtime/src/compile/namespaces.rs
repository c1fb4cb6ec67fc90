//! Which namespaces a container gets, who makes or joins each, and in what order.
//!
//! | the spec has | how |
//! |---|---|
//! | new ones only | one clone3 with all flags; the new user namespace owns the others |
//! | paths, no user namespace | the child joins them itself; the parent enters a pid namespace around the clone |
//! | a user namespace and any path | a process in between joins, then clones ([`crate::child::Relay`]) |
//! | a new time namespace | the child unshares it, the parent writes the offsets, execve enters it (Linux 6.1) |
//! | no mount namespace | the caller's: the root is attached over its own directory and entered by chroot(2) |

use super::{Steps, validate};
use crate::child::{Join, Relay};
use crate::errors::StartError;
use crate::oci::{self, NamespaceKind};
use crate::outside::Outside;
use crate::plan::Op;
use crate::request::{NetNs, SpawnError};
use crate::userns::Maps;
use naru_kernel::ns::{self, NsFlags};
use std::os::fd::OwnedFd;

/// The first Linux whose execve enters the time namespace that was unshared (commit 2b5f9dad32ed).
const TIME_BY_EXECVE: (u32, u32) = (6, 1);

/// Who asks for the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    /// CAP_SYS_ADMIN is there.
    pub privileged: bool,
    /// The caller is a process that just made or joined the user namespace for an unprivileged one.
    pub worker: bool,
}

impl Caller {
    pub fn own() -> Self {
        Self { privileged: naru_kernel::caps::permitted() & 1 << CAP_SYS_ADMIN != 0, worker: false }
    }
}

const CAP_SYS_ADMIN: u32 = 21;

#[derive(Debug, Default)]
pub(crate) struct Namespaces {
    /// For clone3.
    pub clone: NsFlags,
    pub join_pid: Option<OwnedFd>,
    pub relay: Option<Relay>,
    pub maps: Option<Maps>,
    /// A user namespace is new or joined: the child starts with every capability in it.
    pub user: bool,
    /// For the child itself.
    pub joins: Vec<Join>,
    pub new_time: bool,
    pub own_net: bool,
    /// The child's own view of control groups is to be made.
    pub new_cgroup: bool,
    pub new_net: bool,
    pub outside: Vec<Outside>,
}

/// `spec` has been validated.
pub(crate) fn choose(
    spec: &oci::Spec,
    netns: NetNs,
    caller: Caller,
    error: StartError,
) -> Result<Namespaces, SpawnError> {
    let mut chosen = Namespaces::default();
    chosen.own_net = match &netns {
        NetNs::New => true,
        NetNs::Host => false,
        // Only a sysctl cares, and the look costs two system calls.
        NetNs::Fd(fd) => spec.linux.sysctl.is_empty() || !validate::is_own_network(fd),
    };
    let mut joins = Vec::new();
    match netns {
        NetNs::New => {
            chosen.clone |= ns::NEWNET;
            chosen.new_net = true;
        }
        NetNs::Host => {}
        NetNs::Fd(fd) => joins.push(Join { fd, flags: ns::NEWNET }),
    }
    for namespace in &spec.linux.namespaces {
        let flag = flag(namespace.kind);
        let Some(path) = &namespace.path else {
            match namespace.kind {
                // The network comes with the request.
                NamespaceKind::Network => {}
                // After the child is in its group, which becomes the root that the namespace shows.
                NamespaceKind::Cgroup => chosen.new_cgroup = true,
                NamespaceKind::Time => chosen.new_time = true,
                NamespaceKind::User => {
                    let made =
                        Maps::new(&spec.linux.uid_mappings, &spec.linux.gid_mappings, caller.privileged);
                    chosen.maps = Some(made.map_err(|cause| error.plain(&cause.to_string()))?);
                    chosen.clone |= flag;
                }
                NamespaceKind::Mount | NamespaceKind::Pid | NamespaceKind::Ipc | NamespaceKind::Uts => {
                    chosen.clone |= flag;
                }
            }
            continue;
        };
        if namespace.kind == NamespaceKind::Network {
            continue;
        }
        let fd = ns::open(path).map_err(|cause| error.io(&format!("open namespace {path}"), &cause))?;
        if flag == ns::NEWUSER && is_own_user_namespace(&fd) {
            // setns(2) refuses the one that the caller is in, and there is nothing to do.
            continue;
        }
        joins.push(Join { fd, flags: flag });
    }
    let joins_user = joins.iter().any(|join| join.flags == ns::NEWUSER);
    chosen.user = joins_user || chosen.maps.is_some();
    // Who is root only of a user namespace cannot come back from another pid namespace.
    let no_return = || joins.iter().any(|join| join.flags == ns::NEWPID) && ns::in_user_namespace();
    if joins_user || (chosen.maps.is_some() && !joins.is_empty()) || no_return() {
        chosen.relay = Some(Relay { joins });
    } else {
        let (pid, rest) = joins.into_iter().partition::<Vec<_>, _>(|join| join.flags == ns::NEWPID);
        chosen.join_pid = pid.into_iter().next().map(|join| join.fd);
        chosen.joins = rest;
    }
    if chosen.new_time {
        check_time(error)?;
        let lines = time_offsets(spec);
        if !lines.is_empty() {
            chosen.outside.push(Outside::TimeOffsets(lines));
        }
    }
    Ok(chosen)
}

pub(crate) fn flag(kind: NamespaceKind) -> NsFlags {
    match kind {
        NamespaceKind::Pid => ns::NEWPID,
        NamespaceKind::Network => ns::NEWNET,
        NamespaceKind::Mount => ns::NEWNS,
        NamespaceKind::Ipc => ns::NEWIPC,
        NamespaceKind::Uts => ns::NEWUTS,
        NamespaceKind::User => ns::NEWUSER,
        NamespaceKind::Cgroup => ns::NEWCGROUP,
        NamespaceKind::Time => ns::NEWTIME,
    }
}

impl Namespaces {
    /// The child's own steps, once maps and offsets are written and it is who it shall be.
    pub fn push_joins(&mut self, steps: &mut Steps) {
        for Join { fd, flags } in self.joins.drain(..) {
            steps.push(Op::SetNs { fd, flags });
        }
        if self.new_net {
            steps.push(Op::LoopbackUp);
        }
        if self.new_cgroup {
            steps.push(Op::Unshare(ns::NEWCGROUP));
        }
    }
}

fn is_own_user_namespace(fd: &OwnedFd) -> bool {
    let inode = |fd: &OwnedFd| rustix::fs::fstat(fd).map(|stat| (stat.st_dev, stat.st_ino)).ok();
    ns::open_own("user").is_ok_and(|own| inode(&own).is_some() && inode(&own) == inode(fd))
}

fn time_offsets(spec: &oci::Spec) -> String {
    let line = |(clock, offset): (&String, &oci::TimeOffset)| {
        format!("{clock} {} {}\n", offset.secs, offset.nanosecs)
    };
    spec.linux.time_offsets.iter().map(line).collect()
}

fn check_time(error: StartError) -> Result<(), SpawnError> {
    if !std::path::Path::new("/proc/self/ns/time").exists() {
        return Err(error.plain("this kernel has no time namespaces (CONFIG_TIME_NS)"));
    }
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy();
    let mut numbers =
        release.split(|letter: char| !letter.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version < TIME_BY_EXECVE {
        return Err(error.plain(&format!("a new time namespace needs Linux 6.1 or later, this is {release}")));
    }
    Ok(())
}
