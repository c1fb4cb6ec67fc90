//! The keeper process: set-up and the loop.
//!
//! One thread, one epoll set. Every handler does what can be done at once; a start, which may take as long as somebody's file
//! system likes, is left to a worker ([`super::starting`]). Two things do take their time here and now: waiting until a
//! control group is frozen or empty (milliseconds, bounded in [`crate::cgroup`]), and a write to a log on a disk that hangs.

use super::inherited::Inherited;
use super::journal::Journal;
use super::peers::{Incoming, Peers};
use super::poller::{Interest, Key, Poller, Source, Turn, Watched};
use super::process::{BATCH_BYTES, Process, Shared, StdinChange};
use super::protocol::{Event, FromKeeper, Refusal, Reply, VERSION};
use super::role::Role;
use super::saved::{self, RestoreError};
use super::spool::{Spool, SpoolError};
use super::start::chain;
use super::starting::Starting;
use super::state::{self, StateError};
use super::table::Table;
use super::ttyspool::TtySpool;
use super::upgrade::{build_of, check_state};
use super::{lock_path, log_path, socket_path, spool_path, tty_spool_path};
use naru_kernel::{Errno, inherit, own_exe, prctl, signals, unix};
use rustix::fs::{FlockOperation, Mode, flock};
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 64;
/// Requests taken from one connection in one turn.
const REQUESTS_PER_TURN: usize = 32;

/// Why [`run`] returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// A client asked for it.
    Shutdown,
    /// There is a keeper in this run directory already.
    AnotherRuns,
    /// The state of another keeper can be taken over.
    Checked,
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
    #[error("cannot take a keeper's state over")]
    State(#[source] StateError),
    #[error("cannot go on as another keeper")]
    Resume(#[source] RestoreError),
}

/// Does what the process was started for. It must have one thread and nothing on its standard descriptors that matters.
/// Leaves the caller's session. The process executes itself again first (see [`own_exe`]), so whatever the caller did
/// before happens twice.
pub fn run(role: Role) -> Result<Ended, KeeperError> {
    let (run_dir, resume) = match role {
        Role::CheckState { state } if state == 0 => {
            return check_state(std::io::stdin()).map(|()| Ended::Checked);
        }
        Role::CheckState { state } => {
            let state =
                inherit::take(state).map_err(|errno| KeeperError::State(StateError::Read(errno.into())))?;
            return check_state(state).map(|()| Ended::Checked);
        }
        Role::Run { run_dir } => (run_dir, None),
        Role::Resume { run_dir, state } => (run_dir, Some(state)),
    };
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o711).create(&run_dir);
    made.map_err(|source| KeeperError::RunDir { path: run_dir.clone(), source })?;
    if let Err(source) = own_exe::make_read_only() {
        let error = KeeperError::SetUp { step: "execute itself again from a read-only mount", source };
        Journal::open(log_path(&run_dir)).write(format_args!("ends: {error}: {source}"));
        return Err(error);
    }
    drop(own_exe::take_mount());
    // Only for ps: the second execve had a descriptor's number for a name.
    let _ = prctl::set_name(c"naru-keeper");
    let (keeper, mut journal) = match resume {
        Some(state) => {
            let mut journal = Journal::open(log_path(&run_dir));
            (Keeper::resume(run_dir, state, &mut journal), journal)
        }
        None => {
            let Some(lock) = lock(&lock_path(&run_dir))? else { return Ok(Ended::AnotherRuns) };
            let mut journal = Journal::open(log_path(&run_dir));
            (Keeper::set_up(run_dir, lock, &mut journal), journal)
        }
    };
    let result = keeper.and_then(|mut keeper| keeper.serve(&mut journal));
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
    pub starting: Starting,
    pub inherited: Inherited,
    /// A client asked for the end.
    pub ending: bool,
    /// See [`super::build_of`].
    pub build: String,
    /// Held for the life of the process, however many programs it has.
    pub lock: OwnedFd,
    pub listener: Watched,
    children: Watched,
}

impl Keeper {
    fn set_up(run_dir: PathBuf, lock: OwnedFd, journal: &mut Journal) -> Result<Self, KeeperError> {
        // Fails only for a group leader, which has left its caller's group already.
        let _ = rustix::process::setsid();
        let inherited = Inherited::take_over();
        let listener = listen(&socket_path(&run_dir))?;
        let keeper = Self::assemble(run_dir, lock, listener, inherited, journal)?;
        journal.write(format_args!("keeper {} listens", std::process::id()));
        Ok(keeper)
    }

    /// Goes on where the program before this one was.
    fn resume(run_dir: PathBuf, state: RawFd, journal: &mut Journal) -> Result<Self, KeeperError> {
        let state = saved::take(state).map_err(KeeperError::Resume)?;
        let bytes = state::read(state).map_err(KeeperError::State)?;
        let checked = state::decode(&bytes, state::VERSIONS).map_err(KeeperError::State)?;
        let lock = saved::take(checked.state.lock).map_err(KeeperError::Resume)?;
        let listener = saved::take(checked.state.listener).map_err(KeeperError::Resume)?;
        let inherited = Inherited::restore(checked.state.inherited);
        let mut keeper = Self::assemble(run_dir, lock, listener, inherited, journal)?;
        let asked = keeper.restore(&checked, journal);
        // What ended between the two programs has raised its signal already.
        keeper.reap(journal);
        journal.write(format_args!(
            "keeper {} goes on as {} after {}",
            std::process::id(),
            keeper.build,
            checked.state.build
        ));
        if let Some((peer, seq)) = asked {
            let hello = keeper.hello(VERSION);
            keeper.reply(peer, seq, hello, &[]);
        }
        Ok(keeper)
    }

    fn assemble(
        run_dir: PathBuf,
        lock: OwnedFd,
        listener: OwnedFd,
        inherited: Inherited,
        journal: &mut Journal,
    ) -> Result<Self, KeeperError> {
        let at = |step| move |source| KeeperError::SetUp { step, source };
        rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
            .map_err(at("become a subreaper"))?;
        let spool = open_spool(&run_dir, journal)?;
        let mut poller = Poller::new().map_err(at("make an epoll set"))?;
        let child_signal = signals::bits(&[rustix::process::Signal::CHILD.as_raw()]);
        signals::set_mask(child_signal).map_err(at("block SIGCHLD"))?;
        let children = signals::signalfd(child_signal).map_err(at("make a signalfd"))?;
        let mut children = poller.adopt(children, Source::Children);
        poller.set(&mut children, Interest::IN).map_err(at("watch for ended children"))?;
        let mut listener = poller.adopt(listener, Source::Listener);
        poller.set(&mut listener, Interest::IN).map_err(at("watch the socket"))?;
        let tty_spool = TtySpool::open(&tty_spool_path(&run_dir), journal);
        let shared = Shared { poller, spool, tty_spool, batch: vec![0; BATCH_BYTES], records: Vec::new() };
        Ok(Self {
            run_dir,
            shared,
            table: Table::default(),
            peers: Peers::default(),
            starting: Starting::default(),
            inherited,
            ending: false,
            build: build_of(Path::new("/proc/self/exe")).unwrap_or_default(),
            lock,
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
            // Nothing but a hang-up is watched for.
            Source::Early(key) => self.table.on_early_gone(key, &mut self.shared.poller),
            Source::Worker(key) => self.on_worker(key, journal),
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
                Incoming::Gone => {
                    self.on_peer_gone(peer);
                    break;
                }
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

/// The spool, after what a killed keeper left in it was written.
fn open_spool(run_dir: &Path, journal: &mut Journal) -> Result<Spool, KeeperError> {
    let mut spool = Spool::open(&spool_path(run_dir)).map_err(KeeperError::Spool)?;
    match spool.replay() {
        Ok(0) => {}
        Ok(bytes) => {
            journal.write(format_args!("wrote {bytes} bytes of output that a killed keeper had taken"));
        }
        Err(error) => journal.write(format_args!("lost a batch of output: {}", chain(&error))),
    }
    Ok(spool)
}

/// Takes the lock for the life of the process; `None` when another keeper has it.
fn lock(path: &Path) -> Result<Option<OwnedFd>, KeeperError> {
    let failed = |source| KeeperError::Lock { path: path.to_owned(), source };
    let file =
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path).map_err(failed)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file.into())),
        Err(Errno::AGAIN) => Ok(None),
        Err(errno) => Err(failed(errno.into())),
    }
}

/// The socket of a killed keeper is in the way; the lock says that nobody listens on it.
fn listen(path: &Path) -> Result<OwnedFd, KeeperError> {
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
