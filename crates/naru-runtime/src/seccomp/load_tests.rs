//! Filters in this kernel: a child loads one and is seen to be answered, killed, trapped, logged or notified as told.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

use super::tests::{arg, profile, rule};
use super::words::{KILL_PROCESS, LOG, NOTIFY};
use super::{Filter, compile};
use crate::oci;
use naru_kernel::pidfd::{ExitStatus, wait};
use naru_kernel::process::{Child, fork};
use naru_kernel::seccomp::{action_available, flags_known, load, load_listening};
use naru_kernel::seccomp_notify::{Answer, receive, respond};
use naru_kernel::{Errno, prctl};
use rustix::process::{Pid, PidfdGetfdFlags, pidfd_getfd, test_kill_process};
use std::os::fd::{AsRawFd, OwnedFd};

const SIGSYS: i32 = 31;
const ENOENT: i32 = 2;
const EPERM: i32 = 1;
const ENOSYS: i32 = 38;
/// The child's exit code when its call succeeded; otherwise it is the errno.
const SUCCESS: i32 = 200;
const NOT_LOADED: i32 = 255;

/// Forks; the child loads the filter, makes the call and exits.
fn act(spec: &oci::Seccomp, call: impl FnOnce() -> Result<(), Errno>) -> ExitStatus {
    let Filter { program, flags, .. } = compile(spec).unwrap();
    let program = program.unwrap();
    let child = fork(|| {
        if prctl::set_no_new_privs().is_err() || load(&program, flags).is_err() {
            return NOT_LOADED;
        }
        call().map_or_else(Errno::raw_os_error, |()| SUCCESS)
    });
    wait(&child.unwrap().pidfd).unwrap()
}

const MKDIR: &[&str] = &["mkdir", "mkdirat"];

/// Reaches the kernel with ENOENT and changes nothing.
fn mkdir() -> Result<(), Errno> {
    rustix::fs::mkdir(c"/proc/self/none/none", 0o700.into())
}

#[test]
fn each_action_acts() {
    for (action, errno, end) in [
        ("ALLOW", None, ExitStatus::Code(ENOENT)),
        ("LOG", None, ExitStatus::Code(ENOENT)),
        ("ERRNO", None, ExitStatus::Code(EPERM)),
        ("ERRNO", Some(95), ExitStatus::Code(95)),
        // Nobody traces the child.
        ("TRACE", None, ExitStatus::Code(ENOSYS)),
        ("TRAP", None, ExitStatus::Signal(SIGSYS)),
        ("KILL", None, ExitStatus::Signal(SIGSYS)),
        ("KILL_THREAD", None, ExitStatus::Signal(SIGSYS)),
        ("KILL_PROCESS", None, ExitStatus::Signal(SIGSYS)),
    ] {
        let mut ruled = profile(
            if action == "ALLOW" { "ERRNO" } else { "ALLOW" },
            &[],
            vec![rule(MKDIR, action, vec![])],
        );
        ruled.syscalls[0].errno_ret = errno;
        ruled.syscalls.push(rule(&["exit_group", "exit", "statx"], "ALLOW", vec![]));
        assert_eq!(act(&ruled, mkdir), end, "{action} {errno:?} as a rule");
        let mut default =
            profile(action, &["X86", "X32"], vec![rule(&["exit_group", "exit", "statx"], "ALLOW", vec![])]);
        default.default_errno_ret = errno;
        assert_eq!(act(&default, mkdir), end, "{action} {errno:?} as the default");
    }
}

#[test]
fn arguments_are_compared() {
    let refused = rule(&["kill"], "ERRNO", vec![arg(0, "GT", i32::MAX as u64 - 2, 0), arg(1, "LT", 1, 0)]);
    let spec = profile("ALLOW", &[], vec![refused]);
    for (pid, end) in [(1, SUCCESS), (i32::MAX - 2, Errno::SRCH.raw_os_error()), (i32::MAX - 1, EPERM)] {
        let pid = Pid::from_raw(pid).unwrap();
        assert_eq!(act(&spec, || test_kill_process(pid)), ExitStatus::Code(end), "{pid:?}");
    }
}

/// A child whose filter notifies, and the listener, taken from the child's table by the parent alone.
fn notifying(spec: &oci::Seccomp) -> (Child, OwnedFd) {
    let Filter { program, flags, listener } = compile(spec).unwrap();
    assert!(listener.is_some());
    let program = program.unwrap();
    let (read, write) = rustix::pipe::pipe().unwrap();
    let child = fork(|| {
        if prctl::set_no_new_privs().is_err() {
            return NOT_LOADED;
        }
        let Ok(listener) = load_listening(&program, flags) else { return NOT_LOADED };
        if rustix::io::write(&write, &listener.as_raw_fd().to_ne_bytes()) != Ok(4) {
            return NOT_LOADED;
        }
        mkdir().map_or_else(Errno::raw_os_error, |()| SUCCESS)
    })
    .unwrap();
    drop(write);
    let mut number = [0; 4];
    assert_eq!(rustix::io::read(&read, &mut number), Ok(4), "the filter was not loaded");
    let listener = pidfd_getfd(&child.pidfd, i32::from_ne_bytes(number), PidfdGetfdFlags::empty()).unwrap();
    (child, listener)
}

#[test]
fn a_notified_call_waits_for_its_supervisor() {
    if !action_available(NOTIFY) {
        println!("SKIP: this kernel does not notify");
        return;
    }
    let mut spec = profile("ALLOW", &[], vec![rule(MKDIR, "NOTIFY", vec![])]);
    spec.listener_path = "/run/agent.sock".into();
    let waiting = "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV";
    for (flag, answer, end) in [
        (None, Answer::Fail(Errno::XDEV), Errno::XDEV.raw_os_error()),
        (None, Answer::Return(0), SUCCESS),
        (Some(waiting), Answer::Continue, ENOENT),
    ] {
        spec.flags = flag.map(|flag| vec![flag.to_owned()]);
        if !flags_known(compile(&spec).unwrap().flags) {
            println!("SKIP: this kernel does not know {flag:?}");
            continue;
        }
        let (child, listener) = notifying(&spec);
        let notification = receive(&listener).unwrap();
        assert_eq!(notification.pid, child.pid as u32);
        respond(&listener, notification.id, answer).unwrap();
        assert_eq!(wait(&child.pidfd).unwrap(), ExitStatus::Code(end), "{answer:?}");
    }
}

#[test]
fn the_kernel_knows_every_action() {
    for action in [KILL_PROCESS, LOG, NOTIFY] {
        if !action_available(action) {
            println!("SKIP: this kernel does not know {action:#x}");
        }
    }
    assert!(flags_known(super::words::FLAG_LOG | super::words::FLAG_SPEC_ALLOW));
}
