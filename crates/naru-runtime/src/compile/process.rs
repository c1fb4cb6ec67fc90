//! The process part of a plan: limits, rights, program.

use super::Steps;
use crate::capability;
use crate::errors::StartError;
use crate::oci;
use crate::plan::{Op, Program, Target};
use crate::request::SpawnError;
use crate::seccomp;
use crate::user::Identity;
use naru_kernel::exec::StringArray;
use naru_kernel::path::Missing;
use naru_kernel::{Errno, caps, pidfd};
use rustix::fs::{Mode, OFlags};
use std::ffi::CString;
use std::os::fd::{BorrowedFd, OwnedFd};

/// Where execvp(3) looks when the container has no PATH; Docker's default.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The file mode creation mask of a container, unless its spec has one.
const UMASK: u32 = 0o022;

/// What the program may do.
#[derive(Debug)]
pub(crate) struct Rights<'a> {
    /// All capabilities are there to be given, whatever the caller has.
    pub in_user_namespace: bool,
    /// setgroups(2) is forbidden in the user namespace: the groups stay those of the caller.
    pub keep_groups: bool,
    /// Descriptors from 3 on that the program gets.
    pub preserved: u32,
    /// Where the child waits before it gives up its last rights.
    pub pause: Option<Op>,
    identity: &'a Identity,
    capabilities: oci::Capabilities,
    no_new_privileges: bool,
    seccomp: Option<&'a oci::Seccomp>,
    umask: u32,
}

impl<'a> Rights<'a> {
    pub fn of_container(spec: &'a oci::Spec, identity: &'a Identity) -> Self {
        Self {
            in_user_namespace: false,
            keep_groups: false,
            preserved: 0,
            pause: None,
            identity,
            capabilities: spec.process.capabilities.clone().unwrap_or_default(),
            no_new_privileges: spec.process.no_new_privileges,
            seccomp: spec.linux.seccomp.as_ref(),
            umask: spec.process.user.umask.unwrap_or(UMASK),
        }
    }

    /// A further process has the rights of the first one: same filter, same no_new_privs, same capabilities.
    pub fn of_exec(
        spec: &'a oci::Spec,
        process: &oci::Process,
        privileged: bool,
        identity: &'a Identity,
    ) -> Self {
        let capabilities = if privileged {
            let all: Vec<String> = capability::NAMES.iter().map(|name| format!("CAP_{name}")).collect();
            oci::Capabilities {
                bounding: all.clone(),
                effective: all.clone(),
                permitted: all,
                ..Default::default()
            }
        } else {
            let own = process.capabilities.clone();
            own.or_else(|| spec.process.capabilities.clone()).unwrap_or_default()
        };
        Self {
            in_user_namespace: false,
            keep_groups: false,
            preserved: 0,
            pause: None,
            identity,
            capabilities,
            no_new_privileges: process.no_new_privileges || spec.process.no_new_privileges,
            // As in Docker, `exec --privileged` gives capabilities; the container's filter stays.
            seccomp: spec.linux.seccomp.as_ref(),
            umask: process.user.umask.unwrap_or(UMASK),
        }
    }
}

/// Everything after the root is in place, up to execve.
pub(crate) fn finish(
    steps: &mut Steps,
    mut rights: Rights<'_>,
    cwd: &str,
    error: StartError,
) -> Result<(), SpawnError> {
    let Some(cwd) = Target::new(cwd, Missing::Directory).filter(|_| cwd.starts_with('/')) else {
        return Err(error
            .plain(&format!("the working directory {cwd:?} is invalid, it needs to be an absolute path")));
    };
    let dir = cwd.prefixes.last().cloned().unwrap_or_else(|| c".".to_owned());
    steps.push(Op::WorkingDir(dir));
    steps.push(Op::Stdio);
    steps.push(Op::Umask(rights.umask));
    check_inheritable(&rights.capabilities, error)?;
    // Only what the caller has can be given.
    let last = caps::last();
    let ceiling = if rights.in_user_namespace { all_capabilities(last) } else { caps::permitted() };
    let bounding = capability::bits(&rights.capabilities.bounding);
    for capability in (0..=last).filter(|number| bounding & (1 << number) == 0) {
        steps.push(Op::DropBounding(capability));
    }
    steps.push(Op::ClearAmbient);
    // So that CAP_SYS_ADMIN survives the change of user until the filter is loaded; the last capset takes it away.
    steps.push(Op::KeepCaps);
    if !rights.keep_groups {
        steps.push(Op::Groups(rights.identity.groups.clone()));
    }
    steps.push(Op::Gid(rights.identity.gid));
    steps.push(Op::Uid(rights.identity.uid));
    // The kernel sets it anew from fs.suid_dumpable when the user changes.
    steps.push(Op::Undumpable);
    steps.push(Op::Caps { effective: ceiling, permitted: ceiling, inheritable: 0 });
    if rights.preserved > 0 {
        steps.push(Op::PreserveFds);
    }
    steps.push(Op::CloseRest(3 + rights.preserved));
    pause_and_bonds(steps, &mut rights, error)?;
    final_capabilities(steps, &rights, ceiling, last);
    Ok(())
}

/// Where the child waits for its start, no_new_privs and the filter: as late as CAP_SYS_ADMIN allows.
fn pause_and_bonds(steps: &mut Steps, rights: &mut Rights<'_>, error: StartError) -> Result<(), SpawnError> {
    let filter = filter(rights, error)?;
    // An agent gets its listener before `create` returns, as from runc; it would else have to wait for `start` to be
    // asked for. The few calls of the gate then go through the filter, too.
    let early = filter.as_ref().is_some_and(|(_, listening)| *listening);
    let pause = rights.pause.take().into_iter().flat_map(|pause| {
        let check = matches!(pause, Op::Gate).then_some(Op::CheckProgram);
        check.into_iter().chain([pause])
    });
    // The profile has to permit only capset, prctl and execve of naru's own calls.
    let bonds =
        rights.no_new_privileges.then_some(Op::NoNewPrivs).into_iter().chain(filter.map(|(load, _)| load));
    if early {
        bonds.chain(pause).for_each(|op| steps.push(op));
    } else {
        pause.chain(bonds).for_each(|op| steps.push(op));
    }
    Ok(())
}

/// The kernel would refuse it only at the very end, behind the gate, when `create` has long succeeded (capset(2), EPERM).
fn check_inheritable(capabilities: &oci::Capabilities, error: StartError) -> Result<(), SpawnError> {
    let outside: Vec<&str> = capabilities
        .inheritable
        .iter()
        .filter(|name| {
            capability::bits(std::slice::from_ref(name)) & !capability::bits(&capabilities.bounding) != 0
        })
        .map(String::as_str)
        .collect();
    if outside.is_empty() {
        return Ok(());
    }
    // A name that nobody knows may be why.
    let unknown = super::unknown_capabilities(Some(capabilities));
    let why = unknown.first().map(|warning| format!(" ({warning})")).unwrap_or_default();
    let step = format!("make {} inheritable, which the bounding set does not have{why}", outside.join(", "));
    Err(error.errno(&step, Errno::PERM))
}

/// The step that loads the filter, and whether it has a listener.
fn filter(rights: &Rights<'_>, error: StartError) -> Result<Option<(Op, bool)>, SpawnError> {
    let Some(profile) = rights.seccomp else { return Ok(None) };
    let filter = seccomp::cached(profile).map_err(|cause| error.plain(&cause.to_string()))?;
    let listening = filter.listener.is_some();
    if listening && notifies(profile, "sendmsg") {
        // The child sends the listener away by this very call, which nobody would answer.
        return Err(error.plain("seccomp: SCMP_ACT_NOTIFY cannot be used for the sendmsg syscall"));
    }
    let load = |program| (Op::Seccomp { program, flags: filter.flags, listening }, listening);
    Ok(filter.program.clone().map(load))
}

fn notifies(profile: &oci::Seccomp, call: &str) -> bool {
    let names_it = |rule: &&oci::SyscallRule| rule.names.iter().any(|name| name == call);
    profile.syscalls.iter().filter(names_it).any(|rule| rule.action == "SCMP_ACT_NOTIFY")
}

/// What the first process of a user namespace has in it.
fn all_capabilities(last: u32) -> u64 {
    (1 << (last + 1)) - 1
}

fn final_capabilities(steps: &mut Steps, rights: &Rights<'_>, ceiling: u64, last: u32) {
    let sets = &rights.capabilities;
    let ambient = capability::bits(&sets.ambient) & ceiling;
    // execve by an ordinary user drops these sets but for the ambient ones (capabilities(7)); dropped before, they do
    // not help execve itself past permission checks either.
    let keeps = rights.identity.uid == 0 || ambient != 0;
    let bits = |names: &[String]| if keeps { capability::bits(names) & ceiling } else { 0 };
    let inheritable = capability::bits(&sets.inheritable) & ceiling;
    let permitted = bits(&sets.permitted);
    steps.push(Op::Caps { effective: bits(&sets.effective), permitted, inheritable });
    for number in (0..=last).filter(|number| ambient & (1 << number) != 0) {
        steps.warn(Op::RaiseAmbient(number));
    }
}

/// Arguments, environment and the paths to try.
pub(crate) fn program(
    process: &oci::Process,
    identity: &Identity,
    error: StartError,
) -> Result<Program, SpawnError> {
    let Some(name) = process.args.first().filter(|name| !name.is_empty()) else {
        return Err(error.plain("no command specified"));
    };
    let to_c =
        |list: &[String]| list.iter().map(|text| error.c_string(text)).collect::<Result<Vec<CString>, _>>();
    let mut env = process.env.clone();
    if !env.iter().any(|entry| entry.starts_with("HOME=")) {
        env.push(format!("HOME={}", identity.home));
    }
    let candidates = if name.contains('/') {
        vec![name.clone()]
    } else {
        let path = env.iter().rev().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH);
        path.split(':').filter(|dir| dir.starts_with('/')).map(|dir| format!("{dir}/{name}")).collect()
    };
    Ok(Program {
        candidates: to_c(&candidates)?,
        args: StringArray::new(to_c(&process.args)?),
        env: StringArray::new(to_c(&env)?),
    })
}

/// The root directory of a running container, by its first process. The pidfd, checked after the open, proves that
/// the number still meant that process.
pub(crate) fn container_root(
    pid: i32,
    pidfd: BorrowedFd<'_>,
    error: StartError,
) -> Result<OwnedFd, SpawnError> {
    let path = error.c_string(&format!("/proc/{pid}/root"))?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(&path, flags, Mode::empty())
        .map_err(|errno| error.errno("open the container's root", errno))?;
    match pidfd::has_exited(pidfd) {
        Ok(false) => Ok(root),
        Ok(true) => Err(error.plain("the container is not running")),
        Err(errno) => Err(error.errno("poll the container's first process", errno)),
    }
}
