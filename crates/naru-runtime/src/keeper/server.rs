//! The keeper process: set-up and the loop.
//!
//! One thread, one epoll set. Every handler does what can be done at once. Three things do take their time here and now: a
//! start (a few milliseconds: mounts, clone, until the program runs), waiting until a control group is frozen or empty
//! (milliseconds, bounded in [`crate::cgroup`]), and a write to a log on a disk that hangs.

use super::inherited::Inherited;
use super::journal::Journal;
use super::peers::{Incoming, Peers};
use super::poller::{Interest, Key, Poller, Source, Turn, Watched};
use super::process::{BATCH_BYTES, Process, Shared, StdinChange};
use super::protocol::{Event, FromKeeper, Refusal, Reply};
use super::spool::{Spool, SpoolError};
use super::table::Table;
use super::{lock_path, log_path, socket_path, spool_path};
use naru_kernel::{Errno, own_exe, prctl, signals, unix};
use rustix::fs::{FlockOperation, Mode, flock};
use std::fs::OpenOptions;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 64;
/// Requests taken from one connection in one turn.
const REQUESTS_PER_TURN: usize = 32;

#[derive(Clone, Debug)]
pub struct KeeperConfig {
    /// Holds the socket, the lock, the keeper's log and `bundles/`.
    pub run_dir: PathBuf,
}

/// Why [`run`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// A client asked for it.
    Shutdown,
    /// There is a keeper in this run directory already.
    AnotherRuns,
}

#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    #[error("cannot make the run directory {}", path.display())]
    RunDir { path: PathBuf, source: io::Error },
    #[error("cannot lock {}", path.display())]
    Lock { path: PathBuf, source: io::Error },
    #[error("cannot listen on {}", path.display())]
    Listen { path: PathBuf, source: io::Error },
    #[error("cannot {step}")]
    SetUp { step: &'static str, source: Errno },
    #[error("the keeper's spool is unusable")]
    Spool(#[source] SpoolError),
    #[error("cannot wait for events")]
    Wait(#[source] Errno),
}

/// Runs the keeper in the calling process, which must have one thread and nothing on its standard descriptors that
/// matters. Leaves the caller's session. The process executes itself again first (see [`own_exe`]), so whatever the
/// caller did before happens twice.
pub fn run(config: KeeperConfig) -> Result<Ended, KeeperError> {
    let run_dir = config.run_dir;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o711).create(&run_dir);
    made.map_err(|source| KeeperError::RunDir { path: run_dir.clone(), source })?;
    if let Err(source) = own_exe::make_read_only() {
        let error = KeeperError::SetUp { step: "execute itself again from a read-only mount", source };
        Journal::open(log_path(&run_dir)).write(format_args!("ends: {error}: {source}"));
        return Err(error);
    }
    // Only for ps: the second execve had a descriptor's number for a name.
    let _ = prctl::set_name(c"naru-keeper");
    let Some(_lock) = lock(&lock_path(&run_dir))? else { return Ok(Ended::AnotherRuns) };
    let mut journal = Journal::open(log_path(&run_dir));
    let result = Keeper::set_up(run_dir, &mut journal).and_then(|mut keeper| keeper.serve(&mut journal));
    match &result {
        Ok(()) => journal.write(format_args!("ends: nothing runs and a client asked for it")),
        Err(error) => journal.write(format_args!("ends: {error}: {:?}", std::error::Error::source(error))),
    }
    result.map(|()| Ended::Shutdown)
}

pub(super) struct Keeper {
    pub run_dir: PathBuf,
    pub shared: Shared,
    pub table: Table,
    pub peers: Peers,
    pub inherited: Inherited,
    /// A client asked for the end.
    pub ending: bool,
    listener: Watched,
    children: Watched,
}

impl Keeper {
    fn set_up(run_dir: PathBuf, journal: &mut Journal) -> Result<Self, KeeperError> {
        let at = |step| move |source| KeeperError::SetUp { step, source };
        // Fails only for a group leader, which has left its caller's group already.
        let _ = rustix::process::setsid();
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
            .map_err(at("become a subreaper"))?;
        let inherited = Inherited::take_over();

        let mut spool = Spool::open(&spool_path(&run_dir)).map_err(KeeperError::Spool)?;
        match spool.replay() {
            Ok(0) => {}
            Ok(bytes) => {
                journal.write(format_args!("wrote {bytes} bytes of output that a killed keeper had taken"));
            }
            Err(error) => journal.write(format_args!(
                "lost a batch of output: {error}: {:?}",
                std::error::Error::source(&error)
            )),
        }

        let mut poller = Poller::new().map_err(at("make an epoll set"))?;
        let child_signal = signals::bits(&[rustix::process::Signal::CHILD.as_raw()]);
        signals::set_mask(child_signal).map_err(at("block SIGCHLD"))?;
        let children = signals::signalfd(child_signal).map_err(at("make a signalfd"))?;
        let mut children = poller.adopt(children, Source::Children);
        poller.set(&mut children, Interest::IN).map_err(at("watch for ended children"))?;
        let mut listener = poller.adopt(listen(&socket_path(&run_dir))?, Source::Listener);
        poller.set(&mut listener, Interest::IN).map_err(at("watch the socket"))?;

        journal.write(format_args!("keeper {} listens", std::process::id()));
        let shared = Shared { poller, spool, batch: vec![0; BATCH_BYTES], records: Vec::new() };
        Ok(Self {
            run_dir,
            shared,
            table: Table::default(),
            peers: Peers::default(),
            inherited,
            ending: false,
            listener,
            children,
        })
    }

    fn serve(&mut self, journal: &mut Journal) -> Result<(), KeeperError> {
        let mut turn = Turn::default();
        while !self.ending {
            self.shared.poller.wait(&mut turn).map_err(KeeperError::Wait)?;
            for (source, flags) in turn.events.drain(..) {
                self.on_event(source, flags, journal);
            }
            for key in turn.timers.drain(..) {
                self.on_timer(key, journal);
            }
        }
        let _ = std::fs::remove_file(socket_path(&self.run_dir));
        Ok(())
    }

    fn on_event(&mut self, source: Source, flags: Interest, journal: &mut Journal) {
        match source {
            Source::Listener => self.peers.accept(self.listener.as_fd(), &mut self.shared.poller, journal),
            Source::Children => {
                // Which signals came does not matter: all that ended are reaped.
                let _ = rustix::io::read(&self.children, &mut [0u8; 128]);
                self.reap(journal);
            }
            Source::Connection(peer) => self.on_connection(peer, journal),
            Source::Output(key, number) => {
                self.with(key, |process, shared| {
                    process.on_output(number, shared);
                    StdinChange::None
                });
            }
            Source::Stdin(key) => self.with(key, Process::on_stdin),
            Source::Attached(key, attached) => {
                self.with(key, |process, shared| process.on_attached(attached, flags, shared));
            }
            Source::Pidfd(key) => self.on_adopted_end(key, journal),
            Source::Oom(key) => self.on_oom(key),
        }
    }

    fn on_connection(&mut self, peer: Key, journal: &mut Journal) {
        for _ in 0..REQUESTS_PER_TURN {
            match self.peers.receive(peer, &mut self.shared.poller) {
                Incoming::Request(envelope, fds) => self.on_request(peer, *envelope, fds, journal),
                Incoming::Garbage(error) => {
                    journal.write(format_args!("a client sent garbage: {error}"));
                    let reply = Reply::Refused { reason: Refusal::Malformed, message: error.to_string() };
                    self.peers.send(peer, 0, &FromKeeper::Reply(reply), &[], &mut self.shared.poller);
                }
                Incoming::Nothing => break,
            }
        }
        self.peers.trim();
    }

    /// Runs a handler of one process, tells of a closed stdin and drops the process when nothing is left of it.
    pub fn with(&mut self, key: Key, handle: impl FnOnce(&mut Process, &mut Shared) -> StdinChange) {
        let Some(process) = self.table.by_key(key) else { return };
        if handle(process, &mut self.shared) == StdinChange::Closed {
            let event = Event::StdinClosed { target: process.target.clone() };
            self.peers.broadcast(&event, &mut self.shared.poller);
        }
        self.sweep(key);
    }

    /// Drops a forgotten process once its output has ended.
    pub fn sweep(&mut self, key: Key) {
        if self.table.by_key(key).is_some_and(|process| process.forgotten && process.is_over())
            && let Some(mut process) = self.table.remove(key)
        {
            process.release(&mut self.shared);
        }
    }
}

/// Takes the lock for the life of the process; `None` when another keeper has it.
fn lock(path: &Path) -> Result<Option<std::fs::File>, KeeperError> {
    let failed = |source| KeeperError::Lock { path: path.to_owned(), source };
    let file =
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path).map_err(failed)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(Errno::AGAIN) => Ok(None),
        Err(errno) => Err(failed(errno.into())),
    }
}

/// The socket of a killed keeper is in the way; the lock says that nobody listens on it.
fn listen(path: &Path) -> Result<std::os::fd::OwnedFd, KeeperError> {
    let failed = |source| KeeperError::Listen { path: path.to_owned(), source };
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    // The socket gets mode 0600 from its first moment.
    let before = rustix::process::umask(Mode::from_raw_mode(0o177));
    let listener = unix::seqpacket_listen(path, BACKLOG);
    rustix::process::umask(before);
    listener.map_err(failed)
}
