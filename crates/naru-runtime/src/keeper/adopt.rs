//! Taking over what a killed keeper left behind: processes that run on, or have ended meanwhile.
//!
//! They are not this keeper's children: whoever became their parent reaps them, and how they ended is asked of their pidfd.

use super::journal::Journal;
use super::pipes::{recall_pipes, same_pipe};
use super::poller::{Interest, Source};
use super::process::{Adopted, Parts, Process, Streams};
use super::protocol::{AdoptRequest, ExitRecord, FdRole, StartFailed, Target};
use super::server::Keeper;
use super::start::{failed, open_log, plain, read_json};
use super::stdio::pty_streams;
use super::wire::Fds;
use crate::cgroup::Cgroup;
use crate::external::External;
use crate::oci;
use std::os::fd::OwnedFd;

impl Keeper {
    /// Goes on where a killed keeper was.
    pub fn adopt(
        &mut self,
        request: AdoptRequest,
        mut fds: Fds,
        journal: &mut Journal,
    ) -> Result<(), StartFailed> {
        let Some(pidfd) = fds.take(FdRole::Pidfd) else { return Err(plain("adopt", "the pidfd is missing")) };
        match naru_kernel::pidfd::number(&pidfd) {
            // −1: it has ended and was reaped meanwhile.
            Ok(number) if number == request.pid || number == -1 => {}
            Ok(_) | Err(_) => return Err(plain("adopt", "the descriptor is not this process's pidfd")),
        }
        let target = Target { id: request.id.clone(), exec_id: request.exec_id.clone() };
        let streams = adopted_streams(&request, &target, &mut fds)?;
        let log = open_log(request.log)?;
        // Without its spec the container is kept all the same, only its cgroup is out of reach.
        let spec = read_json::<oci::Spec>(&request.bundle.join("config.json")).ok();
        let cgroup = spec
            .map(|spec| spec.linux.cgroups_path)
            .filter(|path| !path.is_empty())
            .and_then(|path| Cgroup::open(&path).ok());
        let watched = pidfd.try_clone().map_err(|error| plain("duplicate the pidfd", &error.to_string()))?;

        let key = self.shared.poller.fresh_key();
        // Only containers leave a record; an exec that has ended is asked for by its pidfd.
        let recorded = ExitRecord::read(&request.bundle).filter(|_| target.exec_id.is_none());
        let is_container = target.exec_id.is_none();
        let AdoptRequest { pid, started_at, bundle, stdio, paused, .. } = request;
        let parts = Parts { target, pid, pidfd, started_at, bundle, stdio, streams, log, cgroup };
        let mut process = Process::new(parts, key, &mut self.shared.poller);
        process.paused = paused;
        process.external = External::read(&process.bundle);
        if recorded.is_none() {
            let mut watched = self.shared.poller.adopt(watched, Source::Pidfd(key));
            let set = self.shared.poller.set(&mut watched, Interest::IN);
            process.adopted = Some(Adopted { pidfd: watched, asked: 0 });
            if let Err(errno) = set {
                process.release(&mut self.shared);
                return Err(failed("watch the pidfd", errno));
            }
        }
        self.table.insert(key, process, false);
        match recorded {
            Some(exit) => self.on_recorded_end(key, exit, journal),
            None if is_container => self.watch_oom(key),
            None => {}
        }
        Ok(())
    }
}

/// What the daemon held; where it held nothing (it was killed too) the pipes are found again in the container.
fn adopted_streams(request: &AdoptRequest, target: &Target, fds: &mut Fds) -> Result<Streams, StartFailed> {
    if let Some(master) = fds.take(FdRole::Pty) {
        return pty_streams(master, request.stdio).map_err(|errno| failed("duplicate the pty", errno));
    }
    let mut streams = Streams {
        stdin: fds.take(FdRole::Stdin),
        stdout: fds.take(FdRole::Stdout),
        stderr: fds.take(FdRole::Stderr),
    };
    let Some(pipes) = recall_pipes(&request.bundle, target) else { return Ok(streams) };
    let find = |held: Option<OwnedFd>, inode: Option<u64>| match (held, inode) {
        (None, Some(inode)) => same_pipe(request.pid, inode),
        (held, _) => held,
    };
    streams.stdout = find(streams.stdout.take(), pipes.stdout);
    streams.stderr = find(streams.stderr.take(), pipes.stderr);
    Ok(streams)
}
