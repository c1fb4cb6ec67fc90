//! One attach socket: Docker's frames out, stdin bytes in.
//!
//! Output that the peer has not taken yet waits in a buffer. Past [`BUFFER_BYTES_MAX`] the process's pipe is not read
//! until the peer caught up: back-pressure reaches that process only.

use super::poller::{Interest, Poller, Watched};
use super::state::{AttachedState, Kept};
use naru_kernel::Errno;
use naru_types::logrec::Stream;
use rustix::net::{SendFlags, send};
use std::collections::VecDeque;
use std::os::fd::AsFd;

/// Bytes of output that may wait for a slow peer before the process has to wait.
const BUFFER_BYTES_MAX: usize = 64 * 1024;

/// What a client wants of a process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wants {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
}

#[derive(Debug)]
pub(super) struct Attached {
    socket: Watched,
    wants: Wants,
    /// With a tty: bytes as they are, no frames.
    raw: bool,
    waiting: VecDeque<u8>,
    /// Close when nothing waits any more.
    ending: bool,
    /// The peer cannot take output any more; it may have left input behind.
    deaf: bool,
}

impl Attached {
    pub fn new(socket: Watched, wants: Wants, raw: bool) -> Self {
        Self { socket, wants, raw, waiting: VecDeque::new(), ending: false, deaf: false }
    }

    /// What a program that takes over needs of it.
    pub fn save<'a>(&'a self, kept: &mut Kept<'a>) -> AttachedState {
        let (head, tail) = self.waiting.as_slices();
        AttachedState {
            socket: kept.fd(self.socket.as_fd()),
            stdin: self.wants.stdin,
            stdout: self.wants.stdout,
            stderr: self.wants.stderr,
            waiting: kept.bytes([head, tail]),
            ending: self.ending,
            deaf: self.deaf,
        }
    }

    pub fn restore(state: &AttachedState, socket: Watched, waiting: &[u8], raw: bool) -> Self {
        let wants = Wants { stdin: state.stdin, stdout: state.stdout, stderr: state.stderr };
        let waiting = waiting.iter().copied().collect();
        Self { socket, wants, raw, waiting, ending: state.ending, deaf: state.deaf }
    }

    pub fn wants_stdin(&self) -> bool {
        self.wants.stdin
    }

    pub fn stop_stdin(&mut self) {
        self.wants.stdin = false;
    }

    pub fn wants(&self, stream: Stream) -> bool {
        match stream {
            Stream::Stdout => self.wants.stdout,
            Stream::Stderr => self.wants.stderr,
        }
    }

    /// Whether the process has to wait for this peer.
    pub fn is_full(&self) -> bool {
        self.waiting.len() >= BUFFER_BYTES_MAX
    }

    /// Whether nothing is left to do here.
    pub fn is_over(&self) -> bool {
        (self.deaf && !self.wants.stdin) || (self.ending && self.waiting.is_empty())
    }

    /// The output has ended: close as soon as the peer has taken what waits.
    pub fn end(&mut self) {
        self.ending = true;
        self.wants.stdin = false;
    }

    /// The peer closed its socket altogether.
    pub fn hung_up(&mut self, poller: &Poller) {
        self.deaf = true;
        self.waiting.clear();
        let _ = poller.mute(&mut self.socket);
    }

    /// Queues `bytes` of `stream` and sends what goes.
    pub fn push(&mut self, stream: Stream, bytes: &[u8]) {
        if self.deaf || self.ending {
            return;
        }
        if !self.raw {
            self.waiting.extend([stream as u8, 0, 0, 0]);
            self.waiting.extend((bytes.len() as u32).to_be_bytes());
        }
        self.waiting.extend(bytes);
        self.flush();
    }

    /// Sends until the peer's socket is full.
    pub fn flush(&mut self) {
        while !self.waiting.is_empty() && !self.deaf {
            let (head, _) = self.waiting.as_slices();
            match send(&self.socket, head, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
                Ok(sent) => drop(self.waiting.drain(..sent)),
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR) => {}
                Err(_) => {
                    self.deaf = true;
                    self.waiting.clear();
                }
            }
        }
        // A burst must not stay as memory for the hours after it.
        if self.waiting.is_empty() && self.waiting.capacity() > BUFFER_BYTES_MAX {
            self.waiting = VecDeque::new();
        }
    }

    /// Reads stdin bytes; zero: the peer's stdin has ended.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize, Errno> {
        rustix::io::retry_on_intr(|| {
            rustix::net::recv(&self.socket, &mut *buffer, rustix::net::RecvFlags::DONTWAIT)
                .map(|(read, _)| read)
        })
    }

    /// Watches for what can go on now: `input` is whether stdin bytes are welcome.
    pub fn rewatch(&mut self, poller: &Poller, input: bool) {
        if self.deaf {
            return;
        }
        let mut interest = Interest::empty();
        interest.set(Interest::IN, input && self.wants.stdin);
        interest.set(Interest::OUT, !self.waiting.is_empty());
        let _ = poller.set(&mut self.socket, interest);
    }

    pub fn into_watched(self) -> Watched {
        self.socket
    }
}
