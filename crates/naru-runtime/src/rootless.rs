//! A start by a caller without privileges: a process of its own makes (or joins) the user namespace and a mount
//! namespace first, and does everything else as root in there, where mounts may be made.
//!
//! The first process of the container is made as that worker's sibling, so that it is the caller's child. Hooks of the
//! runtime's namespaces run in the worker's, which differ from the caller's in these two.

use crate::compile::namespaces::Caller;
use crate::errors::{CANNOT_START, Context, StartError};
use crate::oci::{self, NamespaceKind};
use crate::request::{SpawnError, SpawnRequest, Spawned};
use crate::spawn::spawn_as;
use crate::userns::Maps;
use naru_kernel::process::{self, Child};
use naru_kernel::{ns, pidfd, prctl, unix};
use serde::{Deserialize, Serialize};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Bytes of one message of the worker.
const WORD_BYTES_MAX: usize = 64 << 10;

/// What the worker tells.
#[derive(Debug, Serialize, Deserialize)]
enum Word {
    /// With the pidfd.
    Born {
        pid: i32,
    },
    /// With the terminal's master, if there is one.
    Done {
        warnings: Vec<String>,
    },
    Failed {
        step: String,
        errno: i32,
        message: String,
        exit_code: i32,
    },
}

pub(crate) fn needs_worker(spec: &oci::Spec, caller: Caller) -> bool {
    !caller.privileged && spec.namespace(NamespaceKind::User).is_some()
}

pub(crate) fn spawn(request: SpawnRequest<'_>) -> Result<Spawned, SpawnError> {
    let error = StartError::new(Context::Init);
    let (ours, theirs) = unix::seqpacket_pair().map_err(|cause| error.io("make a socket pair", &cause))?;
    let worker = process::fork(move || work(request, &theirs)).map_err(|errno| error.errno("fork", errno))?;
    let heard = listen(&ours, error);
    let _ = pidfd::wait(&worker.pidfd);
    heard
}

fn listen(socket: &OwnedFd, error: StartError) -> Result<Spawned, SpawnError> {
    let mut born: Option<Child> = None;
    let mut buffer = vec![0u8; WORD_BYTES_MAX];
    let failure = loop {
        let mut received =
            unix::recv(socket, &mut buffer).map_err(|cause| error.io("hear from the worker", &cause))?;
        let bytes = buffer.get(..received.len).unwrap_or_default();
        match (serde_json::from_slice(bytes), born.take()) {
            (Ok(Word::Born { pid }), None) => born = received.fds.pop().map(|pidfd| Child { pid, pidfd }),
            (Ok(Word::Done { warnings }), Some(Child { pid, pidfd })) => {
                return Ok(Spawned { pid, pidfd, pty_master: received.fds.pop(), warnings });
            }
            (word, child) => {
                if let Some(child) = child {
                    let _ = pidfd::send_signal(&child.pidfd, naru_types::signal::Signal::KILL);
                    let _ = pidfd::wait(&child.pidfd);
                }
                break match word {
                    Ok(Word::Failed { step, errno, message, exit_code }) => {
                        SpawnError { step, errno, message, exit_code }
                    }
                    _ => error.plain("the worker in the user namespace ended without a word"),
                };
            }
        }
    };
    Err(failure)
}

/// The worker. It may allocate: see [`process::fork`].
fn work(request: SpawnRequest<'_>, socket: &OwnedFd) -> i32 {
    let done = enter(request.spec).and_then(|inner| {
        let tell = |child: &Child| say(socket, &Word::Born { pid: child.pid }, &[child.pidfd.as_fd()]);
        let caller = Caller { privileged: true, worker: true };
        spawn_as(SpawnRequest { spec: &inner, ..request }, caller, Some(&tell))
    });
    match done {
        Ok(Spawned { pty_master, warnings, .. }) => {
            let fds: Vec<BorrowedFd<'_>> = pty_master.iter().map(AsFd::as_fd).collect();
            say(socket, &Word::Done { warnings }, &fds);
            0
        }
        Err(SpawnError { step, errno, message, exit_code }) => {
            say(socket, &Word::Failed { step, errno, message, exit_code }, &[]);
            CANNOT_START
        }
    }
}

fn say(socket: &OwnedFd, word: &Word, fds: &[BorrowedFd<'_>]) {
    let bytes = serde_json::to_vec(word).unwrap_or_default();
    // A caller that is gone needs no word.
    let _ = unix::send(socket, &bytes, fds);
}

/// Goes into the user namespace; what is left of the spec to do there.
fn enter(spec: &oci::Spec) -> Result<oci::Spec, SpawnError> {
    let error = StartError::new(Context::Init);
    crate::compile::validate(spec, error)?;
    let mut inner = spec.clone();
    inner.linux.namespaces.retain(|namespace| namespace.kind != NamespaceKind::User);
    inner.linux.uid_mappings.clear();
    inner.linux.gid_mappings.clear();
    // Otherwise /proc/self/uid_map belongs to somebody else.
    prctl::set_dumpable(true).map_err(|errno| error.errno("become dumpable", errno))?;
    if let Some(path) = spec.namespace(NamespaceKind::User).and_then(|namespace| namespace.path.as_ref()) {
        let fd = ns::open(path).map_err(|cause| error.io(&format!("open namespace {path}"), &cause))?;
        ns::setns(&fd, ns::NEWUSER).map_err(|errno| error.errno("join the user namespace", errno))?;
        ns::unshare(ns::NEWNS).map_err(|errno| error.errno("make a mount namespace", errno))?;
        return Ok(inner);
    }
    let maps = Maps::new(&spec.linux.uid_mappings, &spec.linux.gid_mappings, false)
        .map_err(|cause| error.plain(&cause.to_string()))?;
    ns::unshare(ns::NEWUSER | ns::NEWNS).map_err(|errno| error.errno("make a user namespace", errno))?;
    maps.write("self").map_err(|cause| error.plain(&cause.to_string()))?;
    Ok(inner)
}
