//! A start by a process of its own, the worker, and what it tells the caller.
//!
//! The program's process is made as the worker's sibling (CLONE_PARENT), so that it is the caller's child. A caller without
//! privileges needs a worker that enters a user namespace ([`crate::rootless`]); the keeper takes one for each exec, since
//! a step in somebody else's container may take as long as that container likes.

use crate::errors::{CANNOT_START, StartError};
use crate::request::{SpawnError, Spawned};
use naru_kernel::process::Child;
use naru_kernel::{pidfd, unix};
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

/// The worker's side: the program's process is there.
pub(crate) fn tell_birth(socket: &OwnedFd, child: &Child) {
    say(socket, &Word::Born { pid: child.pid }, &[child.pidfd.as_fd()]);
}

/// The worker's last word; returns its exit code.
pub(crate) fn tell_end(socket: &OwnedFd, done: Result<Spawned, SpawnError>) -> i32 {
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
    pub fn new(error: StartError) -> Self {
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
        let child = self.born.take();
        if let Some(child) = &child {
            let _ = pidfd::send_signal(&child.pidfd, naru_types::signal::Signal::KILL);
        }
        Stillborn { error, child }
    }
}
