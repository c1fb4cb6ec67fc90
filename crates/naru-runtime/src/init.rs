//! The tiny init of `--init`: pid 1 forks the program, forwards signals to it and reaps everybody.
//!
//! It is the set-up child itself, which forks instead of executing: no file of the host appears in the container, and
//! nothing is copied per container. It runs with the program's own user, capabilities and seccomp filter. Its memory
//! is a copy-on-write image of the keeper's, which the container cannot read: the process stays undumpable
//! (PR_SET_DUMPABLE 0), so /proc/1/mem and /proc/1/exe are closed to everybody without CAP_SYS_PTRACE over the host.
//! It holds no descriptors at all.

use naru_kernel::pidfd::ExitStatus;
use naru_kernel::{Errno, exec, prctl, process, signals, tty};

/// SIGCHLD and the signals that a faulting instruction raises stay with the init itself.
const SIGCHLD: i32 = 17;
const SIGTTIN: i32 = 21;
const SIGTTOU: i32 = 22;

/// Exit code when the program vanished without a status that could be read.
const LOST_EXIT_CODE: i32 = 255;

/// Returns in the child, which goes on to execve. The parent stays here as the container's init until the program
/// ends, and exits with its code (128 + n after signal n). Child-safe.
pub(crate) fn split() -> Result<(), Errno> {
    let old_mask = signals::set_mask(signals::ALL)?;
    let Some(child) = process::fork_in_child()? else {
        // Its own process group, in the terminal's foreground if there is one: keys reach the program, not the init.
        rustix::process::setpgid(None, None)?;
        let group = rustix::process::getpgrp().as_raw_nonzero().get();
        // Without a terminal there is nothing to take. SIGTTOU is blocked here, so this cannot stop the process.
        let _ = tty::set_stdin_foreground(group);
        return signals::set_mask(old_mask).map(drop);
    };
    // Best effort: the name is only for ps.
    let _ = prctl::set_name(c"naru-init");
    let _ = prctl::set_dumpable(false);
    exec::close_all();
    process::exit_now(serve(child))
}

fn serve(child: i32) -> i32 {
    loop {
        match signals::wait(signals::ALL) {
            Ok(SIGCHLD) => {
                if let Some(code) = reap(child) {
                    return code;
                }
            }
            // Job control of the terminal is not for the program.
            Ok(SIGTTIN | SIGTTOU) | Err(Errno::INTR | Errno::AGAIN) => {}
            // The program may be gone already; then its SIGCHLD is pending.
            Ok(signal) => {
                let _ = signals::kill(child, signal);
            }
            Err(_) => return LOST_EXIT_CODE,
        }
    }
}

/// Reaps every ended child; the program's exit code if it was among them.
fn reap(child: i32) -> Option<i32> {
    let mut code = None;
    loop {
        match signals::reap_any() {
            Ok(Some((pid, status))) if pid == child => {
                code = Some(match status {
                    ExitStatus::Code(code) => code,
                    ExitStatus::Signal(signal) => 128 + signal,
                });
            }
            Ok(Some(_)) => {}
            Ok(None) => return code,
            Err(_) => return code.or(Some(LOST_EXIT_CODE)),
        }
    }
}
