//! Staying with a process until it ends: signals are passed on, a terminal is relayed, orphans are reaped.
//!
//! Signals are blocked before the process exists and are read from a descriptor, and the end of the process is read from
//! its pidfd: no end can be missed, however early it comes.

use crate::console::Raw;
use crate::error::OciError;
use naru_kernel::orphans;
use naru_kernel::pidfd::{self, ExitStatus};
use naru_kernel::signals;
use naru_kernel::tty;
use naru_types::signal::Signal;
use rustix::event::{PollFd, PollFlags};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;
use std::os::fd::OwnedFd;

const BUFFER_BYTES: usize = 8 << 10;
/// struct signalfd_siginfo.
const SIGINFO_BYTES: usize = 128;
/// A shell's code for a program that a signal ended.
const SIGNAL_BASE: i32 = 128;

const CHILD: u8 = 17;
/// The Go runtime of callers sends it to itself; runc does not pass it on either.
const URGENT: u8 = 23;

/// The signals of this process from now on.
#[derive(Debug)]
pub(crate) struct Signals {
    fd: OwnedFd,
}

impl Signals {
    pub fn block() -> Result<Self, OciError> {
        let failed = |errno| OciError::kernel("block signals", errno);
        signals::set_mask(signals::ALL).map_err(failed)?;
        signals::signalfd(signals::ALL).map(|fd| Self { fd }).map_err(failed)
    }

    fn next(&self) -> Option<Signal> {
        let mut info = [0u8; SIGINFO_BYTES];
        match rustix::io::read(&self.fd, &mut info) {
            // ssi_signo is the first field.
            Ok(SIGINFO_BYTES) => Some(Signal(info[..4].try_into().map_or(0, u32::from_ne_bytes) as u8)),
            _ => None,
        }
    }
}

/// The process that is waited for.
#[derive(Debug)]
pub(crate) struct Process<'a> {
    pub pid: i32,
    pub pidfd: &'a OwnedFd,
}

/// Waits for the end; the exit code as a shell counts it. `terminal`: its terminal, and ours.
pub(crate) fn wait(
    process: &Process<'_>,
    terminal: Option<(OwnedFd, Raw)>,
    signals: &Signals,
) -> Result<u8, OciError> {
    let mut relay = match terminal {
        Some((master, raw)) => Some(Relay::new(master, raw)?),
        None => None,
    };
    let failed = |errno| OciError::kernel("wait for the container", errno);
    let mut reaped = None;
    while reaped.is_none() {
        let mut polled =
            vec![PollFd::new(process.pidfd, PollFlags::IN), PollFd::new(&signals.fd, PollFlags::IN)];
        if let Some(relay) = &relay {
            relay.add_to(&mut polled);
        }
        match rustix::event::poll(&mut polled, None) {
            Err(Errno::INTR) => continue,
            other => other.map_err(failed)?,
        };
        let ended = !polled[0].revents().is_empty();
        drop(polled);
        while let Some(signal) = signals.next() {
            handle(signal, process, relay.as_ref());
        }
        if let Some(relay) = &mut relay {
            relay.move_bytes();
        }
        if ended {
            reaped = Some(pidfd::wait(process.pidfd).map_err(failed)?);
        }
    }
    reap_orphans();
    Ok(match reaped {
        Some(ExitStatus::Code(code)) => code as u8,
        Some(ExitStatus::Signal(signal)) => (SIGNAL_BASE + signal) as u8,
        None => 0,
    })
}

fn handle(signal: Signal, process: &Process<'_>, relay: Option<&Relay>) {
    match (signal, relay) {
        (Signal(CHILD), _) => orphans::reap_all_but(process.pid),
        (Signal(URGENT), _) => {}
        (Signal::WINCH, Some(relay)) => relay.resize(),
        // Its end is seen by its own descriptor.
        (signal, _) => drop(pidfd::send_signal(process.pidfd, signal)),
    }
}

fn reap_orphans() {
    while matches!(signals::reap_any(), Ok(Some(_))) {}
}

/// Bytes between our terminal and the container's.
struct Relay {
    master: OwnedFd,
    raw: Raw,
    /// Typed and not yet taken.
    pending: Vec<u8>,
    input_open: bool,
    output_open: bool,
}

impl Relay {
    fn new(master: OwnedFd, raw: Raw) -> Result<Self, OciError> {
        let failed = |errno| OciError::kernel("prepare the terminal", errno);
        let flags = fcntl_getfl(&master).map_err(failed)?;
        fcntl_setfl(&master, flags | OFlags::NONBLOCK).map_err(failed)?;
        let relay = Self { master, raw, pending: Vec::new(), input_open: true, output_open: true };
        relay.resize();
        Ok(relay)
    }

    fn resize(&self) {
        let (rows, cols) = self.raw.size();
        // A terminal that has been closed has no size.
        let _ = tty::set_size(&self.master, rows, cols);
    }

    fn add_to<'a>(&'a self, polled: &mut Vec<PollFd<'a>>) {
        if self.output_open {
            let out = if self.pending.is_empty() { PollFlags::empty() } else { PollFlags::OUT };
            polled.push(PollFd::new(&self.master, PollFlags::IN | out));
        }
        if self.input_open && self.pending.is_empty() {
            polled.push(PollFd::from_borrowed_fd(rustix::stdio::stdin(), PollFlags::IN));
        }
    }

    /// Moves what is there, without waiting.
    fn move_bytes(&mut self) {
        let mut buffer = [0u8; BUFFER_BYTES];
        if self.input_open && self.pending.is_empty() && is_readable() {
            match rustix::io::read(rustix::stdio::stdin(), &mut buffer) {
                Ok(0) => self.input_open = false,
                Ok(len) => self.pending.extend_from_slice(buffer.get(..len).unwrap_or_default()),
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(_) => self.input_open = false,
            }
        }
        if !self.pending.is_empty()
            && let Ok(len) = rustix::io::write(&self.master, &self.pending)
        {
            self.pending.drain(..len);
        }
        while self.output_open {
            match rustix::io::read(&self.master, &mut buffer) {
                Ok(len @ 1..) => write_all(buffer.get(..len).unwrap_or_default()),
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                // EIO: nobody has the other side open any more.
                Ok(0) | Err(_) => self.output_open = false,
            }
        }
    }
}

fn is_readable() -> bool {
    let mut polled = [PollFd::from_borrowed_fd(rustix::stdio::stdin(), PollFlags::IN)];
    let zero = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::event::poll(&mut polled, Some(&zero)).is_ok_and(|count| count > 0)
}

/// What nobody reads any more is lost, as with any program.
fn write_all(mut bytes: &[u8]) {
    while !bytes.is_empty() {
        match rustix::io::write(rustix::stdio::stdout(), bytes) {
            Ok(len) => bytes = bytes.get(len..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => {
                let mut polled = [PollFd::from_borrowed_fd(rustix::stdio::stdout(), PollFlags::OUT)];
                let _ = rustix::event::poll(&mut polled, None);
            }
            Err(_) => return,
        }
    }
}
