//! The way of stdin: from the attached clients, through a small buffer, to the process.
//!
//! The buffer holds one read at most: a process that does not read its stdin stops its clients, nobody else.

use super::attached::Attached;
use super::process::{Process, Shared};
use naru_kernel::Errno;

impl Process {
    /// Moves what clients have written to the process until one side has to wait.
    pub fn move_stdin(&mut self, shared: &mut Shared) {
        loop {
            if !self.flush_stdin(shared) {
                return;
            }
            if !self.read_stdin(&mut shared.batch) {
                break;
            }
        }
        if self.stdin_ending
            && self.stdin_waiting.is_empty()
            && let Some(stdin) = self.stdin.take()
        {
            drop(shared.poller.release(stdin));
            self.attached.values_mut().for_each(Attached::stop_stdin);
        }
    }

    /// Writes what waits. `false`: the pipe is full or gone.
    fn flush_stdin(&mut self, shared: &mut Shared) -> bool {
        while let Some(stdin) = &self.stdin
            && !self.stdin_waiting.is_empty()
        {
            match rustix::io::write(stdin, &self.stdin_waiting) {
                Ok(written) => drop(self.stdin_waiting.drain(..written)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return false,
                // EPIPE: the process closed its stdin. EIO: the pty's other side has gone.
                Err(_) => {
                    self.stdin_waiting = Vec::new();
                    self.stdin.take().into_iter().for_each(|fd| drop(shared.poller.release(fd)));
                    self.attached.values_mut().for_each(Attached::stop_stdin);
                }
            }
        }
        self.stdin.is_some()
    }

    /// Takes input from the first client that has some.
    fn read_stdin(&mut self, buffer: &mut [u8]) -> bool {
        for attached in self.attached.values_mut().filter(|attached| attached.wants_stdin()) {
            match attached.read(buffer) {
                Err(Errno::AGAIN) => {}
                Ok(0) | Err(_) => {
                    attached.stop_stdin();
                    self.stdin_ending |= self.stdio.stdin_once && !self.stdio.tty;
                }
                Ok(read) => {
                    self.stdin_waiting.extend_from_slice(&buffer[..read]);
                    return true;
                }
            }
        }
        false
    }
}
