//! The process part of a plan: limits, rights, program.

use super::Steps;
use crate::capability;
use crate::errors::StartError;
use crate::oci;
use crate::plan::{Op, Program, Target};
use crate::request::{ExecRequest, SpawnError};
use crate::seccomp;
use crate::user::Identity;
use naru_kernel::exec::StringArray;
use naru_kernel::path::Missing;
use naru_kernel::{caps, pidfd, rlimit};
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
    identity: &'a Identity,
    capabilities: oci::Capabilities,
    no_new_privileges: bool,
    seccomp: Option<&'a oci::Seccomp>,
    umask: u32,
}

impl<'a> Rights<'a> {
    pub fn of_container(spec: &'a oci::Spec, identity: &'a Identity) -> Self {
        Self {
            identity,
            capabilities: spec.process.capabilities.clone().unwrap_or_default(),
            no_new_privileges: spec.process.no_new_privileges,
            seccomp: spec.linux.seccomp.as_ref(),
            umask: spec.process.user.umask.unwrap_or(UMASK),
        }
    }

    /// A further process has the rights of the first one: same filter, same no_new_privs, same capabilities.
    pub fn of_exec(request: &ExecRequest<'a>, identity: &'a Identity) -> Self {
        let own = request.process.capabilities.clone();
        let capabilities = if request.privileged {
            let all: Vec<String> = capability::NAMES.iter().map(|name| format!("CAP_{name}")).collect();
            oci::Capabilities {
                bounding: all.clone(),
                effective: all.clone(),
                permitted: all,
                ..Default::default()
            }
        } else {
            own.or_else(|| request.spec.process.capabilities.clone()).unwrap_or_default()
        };
        Self {
            identity,
            capabilities,
            no_new_privileges: request.process.no_new_privileges || request.spec.process.no_new_privileges,
            // As in Docker, `exec --privileged` gives capabilities; the container's filter stays.
            seccomp: request.spec.linux.seccomp.as_ref(),
            umask: request.process.user.umask.unwrap_or(UMASK),
        }
    }
}

/// oom_score_adj and rlimits: without CAP_SYS_RESOURCE what is possible is done and the caller warned.
pub(crate) fn limits(steps: &mut Steps, process: &oci::Process, error: StartError) -> Result<(), SpawnError> {
    if let Some(score) = process.oom_score_adj {
        steps.warn(Op::OomScoreAdj(error.c_string(&score.to_string())?));
    }
    for limit in &process.rlimits {
        let Some(resource) = rlimit::number(&limit.kind) else {
            return Err(error.plain(&format!("unknown resource limit {:?}", limit.kind)));
        };
        steps.warn(Op::Rlimit { resource, soft: limit.soft, hard: limit.hard });
    }
    Ok(())
}

/// Everything after the root is in place, up to execve.
pub(crate) fn finish(
    steps: &mut Steps,
    rights: &Rights<'_>,
    cwd: &str,
    error: StartError,
) -> Result<(), SpawnError> {
    let Some(cwd) = Target::new(cwd, Missing::Directory) else {
        return Err(error
            .plain(&format!("the working directory {cwd:?} is invalid, it needs to be an absolute path")));
    };
    let dir = cwd.prefixes.last().cloned().unwrap_or_else(|| c".".to_owned());
    steps.push(Op::WorkingDir(dir));
    steps.push(Op::Stdio);
    steps.push(Op::Umask(rights.umask));
    // Only what the caller has can be given.
    let ceiling = caps::permitted();
    let bounding = capability::bits(&rights.capabilities.bounding);
    for capability in (0..=caps::last()).filter(|number| bounding & (1 << number) == 0) {
        steps.push(Op::DropBounding(capability));
    }
    steps.push(Op::ClearAmbient);
    // So that CAP_SYS_ADMIN survives the change of user until the filter is loaded; the last capset takes it away.
    steps.push(Op::KeepCaps);
    steps.push(Op::Groups(rights.identity.groups.clone()));
    steps.push(Op::Gid(rights.identity.gid));
    steps.push(Op::Uid(rights.identity.uid));
    // The kernel sets it anew from fs.suid_dumpable when the user changes.
    steps.push(Op::Undumpable);
    steps.push(Op::Caps { effective: ceiling, permitted: ceiling, inheritable: 0 });
    steps.push(Op::CloseRest);
    if rights.no_new_privileges {
        steps.push(Op::NoNewPrivs);
    }
    // As late as CAP_SYS_ADMIN allows: the profile has to permit only capset, prctl and execve of naru's own calls.
    if let Some(profile) = rights.seccomp {
        let filter = seccomp::compile(profile).map_err(|cause| error.plain(&cause.to_string()))?;
        if let Some(program) = filter.program {
            steps.push(Op::Seccomp { program, flags: filter.flags });
        }
    }
    final_capabilities(steps, rights, ceiling);
    Ok(())
}

fn final_capabilities(steps: &mut Steps, rights: &Rights<'_>, ceiling: u64) {
    let sets = &rights.capabilities;
    let ambient = capability::bits(&sets.ambient) & ceiling;
    // execve by an ordinary user drops these sets but for the ambient ones (capabilities(7)); dropped before, they do
    // not help execve itself past permission checks either.
    let keeps = rights.identity.uid == 0 || ambient != 0;
    let bits = |names: &[String]| if keeps { capability::bits(names) & ceiling } else { 0 };
    let inheritable = capability::bits(&sets.inheritable) & ceiling;
    let permitted = bits(&sets.permitted);
    steps.push(Op::Caps { effective: bits(&sets.effective), permitted, inheritable });
    for number in (0..=caps::last()).filter(|number| ambient & (1 << number) != 0) {
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
