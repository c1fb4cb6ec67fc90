//! Another program takes this one's place: same process, same children, same descriptors.
//!
//! The state goes into a memfd; the new program first reads it in a child that does nothing else (`--check-state`), and only
//! when it could, this process executes it (`--resume`). The kernel keeps what counts over execve(2): the number, the
//! children, pending signals, the subreaper attribute (prctl(2)), the lock (flock(2) belongs to the open file). A
//! container that ends in between is a zombie until the new program reaps. The check holds up everybody for the time it
//! takes, some milliseconds; so does it when it fails, and at most [`CHECK_TIMEOUT`].

use super::journal::Journal;
use super::poller::Key;
use super::server::{Keeper, KeeperError};
use super::start::chain;
use super::state::{self, StateError};
use naru_kernel::{Errno, inherit, own_exe, pidfd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// How long the new program may look at the state.
const CHECK_TIMEOUT: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };
/// Bytes of its complaint that are passed on.
const COMPLAINT_BYTES_MAX: u64 = 1024;

#[derive(Debug, thiserror::Error)]
pub(super) enum UpgradeError {
    #[error("something is being started; try again")]
    Starting,
    #[error("cannot save the state")]
    Save(#[from] StateError),
    #[error("cannot run the new program's check")]
    Check(#[source] io::Error),
    #[error("the new program did not check the state within {} s", CHECK_TIMEOUT.tv_sec)]
    Silent,
    #[error("the new program does not take the state: {complaint}")]
    Refused { complaint: String },
    #[error("cannot keep a descriptor over execve")]
    Keep(#[source] Errno),
    #[error("cannot execute the new program from a read-only mount")]
    Execute(#[source] Errno),
}

/// Which program this is: version and file. Two files with the same content are two builds; taking one's place by the
/// other costs milliseconds and no byte.
pub fn build_of(program: &Path) -> io::Result<String> {
    let meta = std::fs::metadata(program)?;
    let file = format!("{:x}.{:x}.{:x}", meta.dev(), meta.ino(), meta.size());
    let modified = format!("{}.{:09}", meta.mtime(), meta.mtime_nsec());
    Ok(format!("{} {file} {modified}", env!("CARGO_PKG_VERSION")))
}

/// The `--check-state` role: reads the state on `file` and does nothing else.
pub fn check_state(file: impl AsFd) -> Result<(), KeeperError> {
    let bytes = state::read(file).map_err(KeeperError::State)?;
    state::decode(&bytes, state::VERSIONS).map(drop).map_err(KeeperError::State)
}

impl Keeper {
    /// Returns only when it did not work; then all goes on as before.
    pub fn upgrade(&self, asked: (Key, u64), program: &OwnedFd, journal: &mut Journal) -> UpgradeError {
        let error = match self.hand_over(asked, program, journal) {
            Ok(never) => match never {},
            Err(error) => error,
        };
        journal.write(format_args!("stays: {}", chain(&error)));
        error
    }

    fn hand_over(
        &self,
        asked: (Key, u64),
        program: &OwnedFd,
        journal: &mut Journal,
    ) -> Result<std::convert::Infallible, UpgradeError> {
        if !self.starting.is_empty() {
            return Err(UpgradeError::Starting);
        }
        let (saved, mut kept) = self.save(asked);
        let memfd = state::write(&saved, &kept)?;
        let role = |flag: &str, fd: i32| {
            let words = ["keeper".into(), "--run".into(), self.run_dir.clone().into_os_string()];
            words.into_iter().chain([flag.into(), fd.to_string().into()]).collect::<Vec<OsString>>()
        };
        check(program, &memfd, &role("--check-state", 0))?;
        journal.write(format_args!("gives way to another program"));
        let mut args = vec![OsString::from("naru")];
        args.extend(role("--resume", memfd.as_raw_fd()));
        kept.fds.push(memfd.as_fd());
        let kept = KeptOpen::new(&kept.fds)?;
        let replaced = own_exe::replace(program.as_fd(), args);
        drop(kept);
        Err(UpgradeError::Execute(replaced.err().unwrap_or(Errno::NOEXEC)))
    }
}

/// Descriptors without close-on-exec for as long as this lives.
struct KeptOpen<'a>(&'a [BorrowedFd<'a>]);

impl<'a> KeptOpen<'a> {
    fn new(fds: &'a [BorrowedFd<'a>]) -> Result<Self, UpgradeError> {
        let kept = Self(fds);
        fds.iter().try_for_each(inherit::keep).map_err(UpgradeError::Keep)?;
        Ok(kept)
    }
}

impl Drop for KeptOpen<'_> {
    fn drop(&mut self) {
        for fd in self.0 {
            // Setting a flag of an open descriptor cannot fail.
            let _ = inherit::close_on_exec(fd);
        }
    }
}

/// The new program in a child, with the state as its standard input.
fn check(program: &OwnedFd, state: &File, args: &[OsString]) -> Result<(), UpgradeError> {
    let state = state.try_clone().map_err(UpgradeError::Check)?;
    let mut child = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()))
        .args(args)
        .current_dir("/")
        .stdin(state)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(UpgradeError::Check)?;
    let ended = wait_for(&child);
    if !matches!(ended, Ok(true)) {
        let _ = child.kill();
    }
    let status = child.wait().map_err(UpgradeError::Check)?;
    match ended.map_err(|errno| UpgradeError::Check(errno.into()))? {
        false => Err(UpgradeError::Silent),
        true if status.success() => Ok(()),
        true => Err(UpgradeError::Refused { complaint: complaint(&mut child, status) }),
    }
}

fn wait_for(child: &Child) -> Result<bool, Errno> {
    let pidfd = pidfd::open(child.id() as i32)?;
    let mut polled = [PollFd::new(&pidfd, PollFlags::IN)];
    rustix::io::retry_on_intr(|| poll(&mut polled, Some(&CHECK_TIMEOUT))).map(|ready| ready > 0)
}

/// What it said last. A grandchild that holds its standard error open must not hold us: only what is there is read.
fn complaint(child: &mut Child, status: std::process::ExitStatus) -> String {
    let mut text = Vec::new();
    if let Some(stderr) = child.stderr.take()
        && rustix::io::ioctl_fionbio(&stderr, true).is_ok()
    {
        let _ = stderr.take(COMPLAINT_BYTES_MAX).read_to_end(&mut text);
    }
    let text = String::from_utf8_lossy(&text).trim().replace('\n', " ");
    if text.is_empty() { status.to_string() } else { text }
}
