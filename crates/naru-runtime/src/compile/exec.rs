//! The plan of a further process: into the namespaces of the first one, with the bonds that it has.

use super::namespaces::Caller;
use super::{Compiled, Steps, attributes, process};
use super::{
    above, begin, cgroup_v2, give_stdio, join_cgroup_v1, join_keyring, plan, unknown_capabilities, validate,
};
use crate::child::{Join, Relay};
use crate::errors::{Context, StartError};
use crate::oci::{self, NamespaceKind};
use crate::outside::foreign_namespaces;
use crate::plan::Op;
use crate::request::{ExecRequest, SpawnError, Stdio};
use crate::{user, userns};
use naru_kernel::ns;
use naru_kernel::task::Mask;
use std::os::fd::{AsFd, OwnedFd};

/// The plan of a further process in a running container. `path`: what is executed instead of the first argument.
pub(crate) fn exec(
    request: ExecRequest<'_>,
    path: Option<&str>,
    caller: Caller,
) -> Result<Compiled, SpawnError> {
    let error = StartError::new(Context::Exec);
    validate::process(request.process, error)?;
    let root = process::container_root(request.init_pid, request.init_pidfd, error)?;
    let identity = user::resolve(root.as_fd(), &request.process.user)
        .map_err(|cause| error.plain(&cause.to_string()))?;
    let mut steps = Steps::default();
    begin(&mut steps, true);
    join_cgroup_v1(request.cgroup, &mut steps, error)?;
    let affinity = exec_affinity(&mut steps, request.process, error)?;
    let process = with_labels_of(request.process, &request.spec.process);
    attributes::limits(&mut steps, None, &process, error)?;
    attributes::own(&mut steps, &process, &request.spec.linux, error)?;
    let joins = exec_joins(&request, &mut steps, caller, error)?;
    if request.spec.namespace(NamespaceKind::Mount).is_none() {
        // The root of that mount namespace is the machine's, not the container's.
        steps.push(Op::MoveRoot { hide: Vec::new() });
    }
    join_keyring(request.spec, &mut steps, error)?;
    if let Stdio::Pty { rows, cols } = request.stdio {
        steps.push(Op::Pty { rows, cols });
    }
    let preserve_fds = above(request.preserve_fds, error)?;
    let mut rights = process::Rights::of_exec(request.spec, request.process, request.privileged, &identity);
    rights.in_user_namespace = joins.user;
    let init = request.init_pid.to_string();
    rights.keep_groups = if joins.user { userns::denied_for(&init) } else { userns::setgroups_denied() };
    rights.preserved = preserve_fds.len() as u32;
    process::finish(&mut steps, rights, &request.process.cwd, error)?;
    let mut program = process::program(request.process, &identity, error)?;
    if let Some(path) = path {
        program.candidates = vec![error.c_string(path)?];
    }
    if joins.user {
        give_stdio(&request.stdio, userns::host_uid_in(&init, identity.uid));
    }
    let mut plan = plan(steps, program, root, request.stdio, identity.uid, error)?;
    plan.preserve_fds = preserve_fds;
    Ok(Compiled {
        plan,
        namespaces: 0,
        join_pid: joins.pid,
        cgroup_v2: cgroup_v2(request.cgroup, Some(request.init_pid), error)?,
        relay: joins.relay,
        maps: None,
        outside: Vec::new(),
        affinity,
        warnings: unknown_capabilities(request.process.capabilities.as_ref()),
    })
}

struct ExecJoins {
    pid: Option<OwnedFd>,
    relay: Option<Relay>,
    user: bool,
}

/// How an exec gets into the container: by one setns(2) with the first process's pidfd; its pid namespace is entered
/// around the clone, or, by a caller who has no right to that outside the container's user namespace, in between.
fn exec_joins(
    request: &ExecRequest<'_>,
    steps: &mut Steps,
    caller: Caller,
    error: StartError,
) -> Result<ExecJoins, SpawnError> {
    let init = request.init_pidfd.try_clone_to_owned().map_err(|cause| error.io("copy the pidfd", &cause))?;
    let mut joins = ExecJoins { pid: None, relay: None, user: false };
    let mut flags = ns::NEWNS | ns::NEWNET | ns::NEWIPC | ns::NEWUTS | ns::NEWCGROUP;
    if request.spec.namespace(NamespaceKind::Time).is_some() {
        flags |= ns::NEWTIME;
    }
    if request.spec.namespace(NamespaceKind::User).is_some() {
        // Only what differs: the container's root has no right to join the host's again.
        flags = foreign_namespaces(request.init_pid);
        joins.user = flags & ns::NEWUSER != 0;
    }
    if joins.user && !caller.privileged {
        joins.relay = Some(Relay { joins: vec![Join { fd: init, flags }] });
    } else {
        let pid = ns::open(&format!("/proc/{}/ns/pid", request.init_pid));
        let pid = pid.map_err(|cause| error.io("open the pid namespace", &cause))?;
        if ns::in_user_namespace() {
            // Root of a user namespace below the machine's can enter a pid namespace, but never go back to its own.
            joins.relay = Some(Relay { joins: vec![Join { fd: pid, flags: ns::NEWPID }] });
        } else {
            joins.pid = Some(pid);
        }
        // One call for all; namespaces that are shared with the host are joined, too, which changes nothing.
        steps.push(Op::SetNs { fd: init, flags: flags & !ns::NEWPID });
    }
    if joins.user {
        let process = request.init_pid.to_string();
        let (uid, gid) = userns::root_of(&process);
        steps.push(Op::BecomeRoot { uid, gid, groups: !userns::denied_for(&process) });
        steps.push(Op::Undumpable);
    }
    Ok(joins)
}

/// What a process of its own object does not say is as in the container's: labels and priorities.
fn with_labels_of(process: &oci::Process, first: &oci::Process) -> oci::Process {
    let mut merged = process.clone();
    if merged.apparmor_profile.is_empty() {
        merged.apparmor_profile.clone_from(&first.apparmor_profile);
    }
    if merged.selinux_label.is_empty() {
        merged.selinux_label.clone_from(&first.selinux_label);
    }
    merged.io_priority = merged.io_priority.or_else(|| first.io_priority.clone());
    merged.scheduler = merged.scheduler.or_else(|| first.scheduler.clone());
    if merged.exec_cpu_affinity.is_none() {
        merged.exec_cpu_affinity.clone_from(&first.exec_cpu_affinity);
    }
    merged
}

/// `final` becomes a step after the control group is joined, `initial` is for the clone.
fn exec_affinity(
    steps: &mut Steps,
    process: &oci::Process,
    error: StartError,
) -> Result<Option<Box<Mask>>, SpawnError> {
    let Some(wanted) = &process.exec_cpu_affinity else { return Ok(None) };
    if !wanted.last.is_empty() {
        steps.push(Op::Affinity(attributes::mask(&wanted.last, "execCPUAffinity.final", error)?));
    }
    if wanted.initial.is_empty() {
        return Ok(None);
    }
    attributes::mask(&wanted.initial, "execCPUAffinity.initial", error).map(Some)
}
