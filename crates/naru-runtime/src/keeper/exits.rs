//! How processes end: reaping, draining, the record that survives the keeper, and only then the news.

use super::journal::Journal;
use super::poller::Key;
use super::process::{Process, StdinChange};
use super::protocol::{Event, ExitRecord, ExitStatus, Target};
use super::server::Keeper;
use naru_kernel::{Errno, clock, pidfd, signals};
use naru_types::signal::Signal;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long clients stay attached after the end of a process whose pipe somebody else holds open (Docker waits as
/// long for the streams of an exec).
const LINGER: Duration = Duration::from_secs(2);
/// An adopted process is reaped by somebody else; until then its exit status cannot be asked for.
const ASK_INTERVAL: Duration = Duration::from_millis(50);
/// 5 seconds.
const ASK_COUNT_MAX: u32 = 100;

impl Keeper {
    /// Reaps every child that has ended, adopted orphans of containers included.
    pub fn reap(&mut self, journal: &mut Journal) {
        loop {
            match signals::reap_any() {
                Ok(Some((pid, status))) => match self.table.take_child(pid) {
                    Some(key) => self.on_end(key, convert(status), journal),
                    None => self.starting.note_end(pid, status),
                },
                Err(Errno::INTR) => {}
                Ok(None) | Err(_) => return,
            }
        }
    }

    /// An adopted process has ended; asks for its status until whoever reaps it has done so.
    pub fn on_adopted_end(&mut self, key: Key, journal: &mut Journal) {
        let Some(process) = self.table.by_key(key) else { return };
        let Some(adopted) = &mut process.adopted else { return };
        let status = match pidfd::exit_info(&process.pidfd) {
            Some(status) => convert(status),
            None if adopted.asked >= ASK_COUNT_MAX => ExitStatus::Unknown,
            None => {
                adopted.asked += 1;
                let _ = self.shared.poller.mute(&mut adopted.pidfd);
                self.shared.poller.wake_after(key, ASK_INTERVAL);
                return;
            }
        };
        if let Some(adopted) = process.adopted.take() {
            drop(self.shared.poller.release(adopted.pidfd));
        }
        self.on_end(key, status, journal);
    }

    pub fn on_timer(&mut self, key: Key, journal: &mut Journal) {
        if self.on_deadline(key, journal) {
            return;
        }
        let Some(process) = self.table.by_key(key) else { return };
        if process.kill_at.is_some_and(|at| at <= Instant::now()) {
            process.kill_at = None;
            // Gone already: its end is on the way.
            let _ = pidfd::send_signal(&process.pidfd, Signal::KILL);
        }
        if process.adopted.as_ref().is_some_and(|adopted| adopted.asked > 0) {
            return self.on_adopted_end(key, journal);
        }
        self.with(key, |process, shared| {
            if process.exit.is_some() {
                process.end_attached(shared);
            }
            StdinChange::None
        });
    }

    /// The kernel may have killed something in the container for want of memory.
    pub fn on_oom(&mut self, key: Key) {
        let Some(process) = self.table.by_key(key) else { return };
        if let Some((watch, _)) = &process.oom_watch {
            watch.drain();
        }
        if count_oom_kills(process) {
            let event = Event::Oom { id: process.target.id.clone() };
            self.peers.broadcast(&event, &mut self.shared.poller);
        }
    }

    /// `exit` was recorded by a keeper that was killed before it could tell.
    pub fn on_recorded_end(&mut self, key: Key, exit: ExitRecord, journal: &mut Journal) {
        self.conclude(key, exit, journal);
    }

    pub fn on_end(&mut self, key: Key, status: ExitStatus, journal: &mut Journal) {
        let Some(process) = self.table.by_key(key) else { return };
        let at = clock::now();
        // The end of a pid namespace's init has killed everything in it. With the host's pid namespace others may live on.
        if let Some(cgroup) = container_cgroup(process)
            && let Err(error) = cgroup.kill_all()
        {
            journal.write(format_args!("{}: {error}", process.target.id));
        }
        if let Some((watch, _)) = &process.oom_watch {
            watch.drain();
        }
        if count_oom_kills(process) {
            let event = Event::Oom { id: process.target.id.clone() };
            self.peers.broadcast(&event, &mut self.shared.poller);
        }
        let oom = self.table.by_key(key).is_some_and(|process| process.oom_kills > 0);
        self.leave(key, ExitRecord { status, oom, at }, journal);
    }

    /// A container of another runtime is told to have ended when that one is through with it: a start that follows would
    /// find its things in the way, and its clean-up would meet the new run's.
    fn leave(&mut self, key: Key, exit: ExitRecord, journal: &mut Journal) {
        let Some(process) = self.table.by_key(key) else { return };
        let external = process.external.take().filter(|_| process.target.exec_id.is_none());
        let Some(external) = external else { return self.conclude(key, exit, journal) };
        // A keeper that is killed meanwhile leaves the truth behind.
        let recorded = record(&process.bundle, exit);
        match recorded.and_then(|()| external.delete()) {
            Ok(socket) => self.starting.add_leaving(socket, key, exit, &mut self.shared.poller),
            Err(error) => {
                journal.write(format_args!("{}: cannot run its runtime: {error}", process.target.id));
                self.conclude(key, exit, journal);
            }
        }
    }

    /// Output first, then the record, then the news.
    pub fn conclude(&mut self, key: Key, exit: ExitRecord, journal: &mut Journal) {
        let Some(process) = self.table.by_key(key) else { return };
        process.exit = Some(exit);
        process.drain(&mut self.shared);
        if process.target.exec_id.is_none()
            && let Err(error) = record(&process.bundle, exit)
        {
            journal.write(format_args!("{}: cannot record the exit: {error}", process.target.id));
        }
        if let Some((_, fd)) = process.oom_watch.take() {
            drop(self.shared.poller.release(fd));
        }
        if let Some(cgroup) = container_cgroup(process)
            && let Err(error) = cgroup.delete()
        {
            journal.write(format_args!("{}: {error}", process.target.id));
        }
        process.kill_at = None;
        self.shared.poller.forget_timers(key);
        self.linger(key);
        self.tell_exit(key, exit);
        self.sweep(key);
    }

    fn tell_exit(&mut self, key: Key, exit: ExitRecord) {
        let Some(process) = self.table.by_key(key) else { return };
        let event = Event::Exited { target: process.target.clone(), exit };
        self.peers.broadcast(&event, &mut self.shared.poller);
    }

    /// An ended process whose output somebody holds open lets its clients go after a while.
    pub fn linger(&mut self, key: Key) {
        if self.table.by_key(key).is_some_and(|process| process.has_output()) {
            self.shared.poller.wake_after(key, LINGER);
        }
    }

    /// Takes an ended process off the list, a container with its ended execs. `false`: it runs.
    pub fn forget(&mut self, target: &Target) -> bool {
        if self.table.by_target(target).is_some_and(|process| process.exit.is_none()) {
            return false;
        }
        let mut targets = vec![target.clone()];
        if target.exec_id.is_none() {
            targets.extend(self.table.execs(target));
        }
        for target in targets {
            drop(self.table.take_early(&target, &mut self.shared.poller));
            let Some(key) = self.table.key(&target) else { continue };
            self.table.unname(&target);
            if let Some(process) = self.table.by_key(key) {
                process.forgotten = true;
                // Nobody is left in a container. What an exec left behind may go on writing into its pipe.
                if process.target.exec_id.is_none() {
                    process.release(&mut self.shared);
                }
            }
            self.sweep(key);
        }
        true
    }
}

fn container_cgroup(process: &Process) -> Option<&crate::cgroup::Cgroup> {
    process.cgroup.as_ref().filter(|_| process.target.exec_id.is_none())
}

/// Whether there are more than before.
fn count_oom_kills(process: &mut Process) -> bool {
    let Some(kills) = container_cgroup(process).and_then(|cgroup| cgroup.oom_kills().ok()) else {
        return false;
    };
    let more = kills > process.oom_kills;
    process.oom_kills = kills.max(process.oom_kills);
    more
}

/// Writes `exit.json` so that a killed keeper leaves nothing or all of it (rename(2)). Not synced to a disk: after a power
/// cut the container is gone as well, and a sync would hold up every other container.
fn record(bundle: &Path, exit: ExitRecord) -> io::Result<()> {
    let path = bundle.join(ExitRecord::FILE_NAME);
    let fresh = path.with_extension("json.new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    file.write_all(&serde_json::to_vec(&exit)?)?;
    std::fs::rename(&fresh, &path)
}

pub(super) fn convert(status: pidfd::ExitStatus) -> ExitStatus {
    match status {
        pidfd::ExitStatus::Code(code) => ExitStatus::Code(code),
        pidfd::ExitStatus::Signal(signal) => ExitStatus::Signal(signal),
    }
}
