//! A start by a process of its own, the worker, and what it tells the caller.
//!
//! The program's process is made as the worker's sibling (CLONE_PARENT), so that it is the caller's child. A caller without
//! privileges needs a worker that enters a user namespace ([`crate::rootless`]); the keeper takes one for each start, since
//! a step in somebody else's container may take as long as that container likes, and so may a mount.

use crate::errors::{CANNOT_START, StartError};
use crate::request::{SpawnError, Spawned, Stdio};
use naru_kernel::process::{self, Child};
use naru_kernel::{Errno, exec as descriptors, pidfd, prctl, unix};
use naru_types::signal::Signal;
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

/// A start that a worker has begun.
#[derive(Debug)]
pub(crate) struct Begun {
    /// [`Listener::hear`] reads from it.
    pub socket: OwnedFd,
    /// Whoever reaps children reaps it.
    pub worker: Child,
    pub listener: Listener,
}

/// Forks a worker that does `work`. The caller must have one thread, as the worker may allocate: see [`process::fork`].
pub(crate) fn begin(
    error: StartError,
    work: impl FnOnce(&Side) -> Result<Spawned, SpawnError>,
) -> Result<Begun, SpawnError> {
    let (socket, theirs) = unix::seqpacket_pair().map_err(|cause| error.io("make a socket pair", &cause))?;
    let side = Side { socket: theirs, caller: std::process::id() };
    let worker =
        process::fork(move || side.tell_end(work(&side))).map_err(|errno| error.errno("fork", errno))?;
    Ok(Begun { socket, worker, listener: Listener::new(error) })
}

/// The worker's side.
#[derive(Debug)]
pub(crate) struct Side {
    socket: OwnedFd,
    caller: u32,
}

impl Side {
    /// A worker that takes its time must not hold other containers' pipes open.
    pub fn keep_only(&self, fds: &[BorrowedFd<'_>]) {
        let mut own = vec![self.socket.as_fd()];
        own.extend(fds);
        descriptors::close_others(&own);
    }

    /// From here on a caller that is killed takes the worker along: nobody would hear of what it starts.
    pub fn die_with_caller(&self) -> Result<(), Errno> {
        prctl::set_parent_death_signal(i32::from(Signal::KILL.0))?;
        // It may have died before that.
        if std::os::unix::process::parent_id() == self.caller { Ok(()) } else { Err(Errno::SRCH) }
    }

    /// The program's process is there.
    pub fn tell_birth(&self, child: &Child) {
        say(&self.socket, &Word::Born { pid: child.pid }, &[child.pidfd.as_fd()]);
    }

    /// The last word; returns the worker's exit code.
    fn tell_end(&self, done: Result<Spawned, SpawnError>) -> i32 {
        match done {
            Ok(Spawned { pty_master, warnings, .. }) => {
                let fds: Vec<BorrowedFd<'_>> = pty_master.iter().map(AsFd::as_fd).collect();
                say(&self.socket, &Word::Done { warnings }, &fds);
                0
            }
            Err(SpawnError { step, errno, message, exit_code }) => {
                say(&self.socket, &Word::Failed { step, errno, message, exit_code }, &[]);
                CANNOT_START
            }
        }
    }
}

/// What a worker keeps of the standard descriptors.
pub(crate) fn fds_of(stdio: &Stdio) -> Vec<BorrowedFd<'_>> {
    match stdio {
        Stdio::Pipes { stdin, stdout, stderr } => vec![stdin.as_fd(), stdout.as_fd(), stderr.as_fd()],
        Stdio::Pty { .. } => Vec::new(),
    }
}

fn say(socket: &OwnedFd, word: &Word, fds: &[BorrowedFd<'_>]) {
    let bytes = serde_json::to_vec(word).unwrap_or_default();
    // A caller that is gone needs no word.
    let _ = unix::send(socket, &bytes, fds);
}

/// The caller's side.
#[derive(Debug)]
pub(crate) struct Listener {
    error: StartError,
    born: Option<Child>,
}

/// Why there is no program, and a process that was killed before it became one and is still to be reaped.
#[derive(Debug)]
pub(crate) struct Stillborn {
    pub error: SpawnError,
    pub child: Option<Child>,
}

impl Listener {
    fn new(error: StartError) -> Self {
        Self { error, born: None }
    }

    /// Takes one word, and waits for it. `None`: more will come.
    pub fn hear(&mut self, socket: BorrowedFd<'_>) -> Option<Result<Spawned, Stillborn>> {
        let mut buffer = vec![0u8; WORD_BYTES_MAX];
        let received = unix::recv(socket, &mut buffer);
        let mut received = match received.map_err(|cause| self.error.io("hear from the worker", &cause)) {
            Ok(received) => received,
            Err(error) => return Some(Err(self.give_up(error))),
        };
        let bytes = buffer.get(..received.len).unwrap_or_default();
        match (serde_json::from_slice(bytes), self.born.take()) {
            (Ok(Word::Born { pid }), None) => {
                self.born = received.fds.pop().map(|pidfd| Child { pid, pidfd });
                None
            }
            (Ok(Word::Done { warnings }), Some(Child { pid, pidfd })) => {
                Some(Ok(Spawned { pid, pidfd, pty_master: received.fds.pop(), warnings }))
            }
            (word, child) => {
                self.born = child;
                let error = match word {
                    Ok(Word::Failed { step, errno, message, exit_code }) => {
                        SpawnError { step, errno, message, exit_code }
                    }
                    _ => self.error.plain("the worker that starts it ended without a word"),
                };
                Some(Err(self.give_up(error)))
            }
        }
    }

    fn give_up(&mut self, error: SpawnError) -> Stillborn {
        self.kill();
        Stillborn { error, child: self.born.take() }
    }

    /// Ends what was born, if it has not become a program yet.
    pub fn kill(&self) {
        if let Some(child) = &self.born {
            let _ = pidfd::send_signal(&child.pidfd, Signal::KILL);
        }
    }
}
