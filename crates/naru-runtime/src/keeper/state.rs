//! The keeper's whole state as one file: what an old keeper hands to the program that takes its place.
//!
//! `magic · JSON length · JSON · bytes`. The JSON names descriptors by their number, which execve(2) does not change, and
//! bytes that wait somewhere by their place in the tail. A field is only ever added, with `#[serde(default)]`;
//! anything else raises [`VERSION`]. A program refuses versions it does not know: it may be the older one.
//! What is not in it: events (they are in the sockets already), the spool (empty between two batches), epoll keys (made anew).

use super::protocol::{AttachRequest, ExitRecord, LogFile, StdioSpec, Target};
use naru_types::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// Raised when an older program could misread the state.
pub const VERSION: u32 = 1;
/// What this program can take over.
pub const VERSIONS: RangeInclusive<u32> = 1..=VERSION;

const MAGIC: [u8; 8] = *b"narukeep";
const HEADER_LEN: usize = MAGIC.len() + size_of::<u64>();
/// Longest state in bytes: 10,000 containers with 2 kB each, and what waits for their clients.
const STATE_LEN_MAX: u64 = 256 << 20;
/// The first descriptor number that can be handed over.
const FD_FIRST: RawFd = 3;

#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("cannot write the state")]
    Write(#[source] io::Error),
    #[error("cannot read the state")]
    Read(#[source] io::Error),
    #[error("the state has {len} bytes, {STATE_LEN_MAX} are allowed")]
    TooLong { len: u64 },
    #[error("this is no keeper's state")]
    NoState,
    #[error("the state is not understood")]
    Malformed(#[source] serde_json::Error),
    #[error(
        "the state has version {found}, this program takes {} to {}",
        supported.start(),
        supported.end()
    )]
    Version { found: u32, supported: RangeInclusive<u32> },
    #[error("the state names descriptor {0} twice, or a standard one")]
    Descriptor(RawFd),
    #[error("the state names {len} bytes at {at}, which it does not have")]
    Bytes { at: u64, len: u64 },
}

/// A piece of the tail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bytes {
    at: u64,
    len: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct State {
    pub version: u32,
    /// Who wrote it, for messages only.
    pub build: String,
    pub lock: RawFd,
    pub listener: RawFd,
    pub inherited: InheritedState,
    pub processes: Vec<ProcessState>,
    pub early: Vec<EarlyState>,
    pub peers: Vec<PeerState>,
}

/// What the first keeper found and changed for itself.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct InheritedState {
    pub nofile_soft: Option<u64>,
    pub nofile_hard: Option<u64>,
    pub oom_score_adj: Option<i32>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct PeerState {
    pub socket: RawFd,
    pub greeted: bool,
    /// The number of its request for the upgrade, which the new program answers.
    pub upgrade_seq: Option<u64>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct EarlyState {
    pub request: AttachRequest,
    pub socket: RawFd,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct ProcessState {
    pub target: Target,
    pub pid: i32,
    pub pidfd: RawFd,
    pub started_at: Timestamp,
    pub bundle: PathBuf,
    pub stdio: StdioSpec,
    pub cgroup: Option<String>,
    pub oom_kills: u64,
    pub exit: Option<ExitRecord>,
    pub paused: bool,
    pub forgotten: bool,
    /// Not the keeper's child.
    pub adopted: bool,
    pub stdin: Option<RawFd>,
    pub stdin_waiting: Bytes,
    pub stdin_ending: bool,
    pub outputs: [Option<RawFd>; 2],
    pub log: Option<LogState>,
    pub attached: Vec<AttachedState>,
    /// Milliseconds until a stop becomes a SIGKILL.
    pub kill_in_ms: Option<u64>,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct LogState {
    pub limits: LogFile,
    pub file: RawFd,
    pub len: u64,
    pub inode: u64,
    pub dropped: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct AttachedState {
    pub socket: RawFd,
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub waiting: Bytes,
    pub ending: bool,
    pub deaf: bool,
}

/// Collects what a state refers to while it is made.
#[derive(Debug, Default)]
pub struct Kept<'a> {
    pub fds: Vec<BorrowedFd<'a>>,
    tail: Vec<u8>,
}

impl<'a> Kept<'a> {
    pub fn fd(&mut self, fd: BorrowedFd<'a>) -> RawFd {
        self.fds.push(fd);
        fd.as_raw_fd()
    }

    pub fn bytes<'b>(&mut self, pieces: impl IntoIterator<Item = &'b [u8]>) -> Bytes {
        let at = self.tail.len();
        pieces.into_iter().for_each(|piece| self.tail.extend_from_slice(piece));
        Bytes { at: at as u64, len: (self.tail.len() - at) as u64 }
    }
}

/// Writes the state into a new memfd, which is close-on-exec as anything else.
pub fn write(state: &State, kept: &Kept<'_>) -> Result<File, StateError> {
    let broken = |errno: naru_kernel::Errno| StateError::Write(errno.into());
    let memfd = rustix::fs::memfd_create("naru-keeper-state", rustix::fs::MemfdFlags::CLOEXEC);
    let file = File::from(memfd.map_err(broken)?);
    file.write_all_at(&encode(state, kept)?, 0).map_err(StateError::Write)?;
    Ok(file)
}

fn encode(state: &State, kept: &Kept<'_>) -> Result<Vec<u8>, StateError> {
    let json = serde_json::to_vec(state).map_err(StateError::Malformed)?;
    let mut bytes = Vec::with_capacity(HEADER_LEN + json.len() + kept.tail.len());
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&(json.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&json);
    bytes.extend_from_slice(&kept.tail);
    match bytes.len() as u64 {
        len if len > STATE_LEN_MAX => Err(StateError::TooLong { len }),
        _ => Ok(bytes),
    }
}

/// Reads a whole state file from its beginning, wherever its offset is.
pub fn read(file: impl AsFd) -> Result<Vec<u8>, StateError> {
    let file = File::from(file.as_fd().try_clone_to_owned().map_err(StateError::Read)?);
    let len = file.metadata().map_err(StateError::Read)?.len();
    if len > STATE_LEN_MAX {
        return Err(StateError::TooLong { len });
    }
    let mut bytes = vec![0; len as usize];
    file.read_exact_at(&mut bytes, 0).map_err(StateError::Read)?;
    Ok(bytes)
}

/// A state that was looked through: versions fit, no descriptor is named twice, all bytes are there.
#[derive(Debug)]
pub struct Checked<'a> {
    pub state: State,
    tail: &'a [u8],
}

impl Checked<'_> {
    pub fn bytes(&self, bytes: Bytes) -> Result<&[u8], StateError> {
        piece(self.tail, bytes)
    }
}

fn piece(tail: &[u8], Bytes { at, len }: Bytes) -> Result<&[u8], StateError> {
    let end = at.checked_add(len).ok_or(StateError::Bytes { at, len })?;
    tail.get(at as usize..end as usize).ok_or(StateError::Bytes { at, len })
}

/// The version is read before anything else, so that a state from the future is called that.
#[derive(Deserialize)]
struct OnlyVersion {
    version: u32,
}

pub fn decode(bytes: &[u8], supported: RangeInclusive<u32>) -> Result<Checked<'_>, StateError> {
    let (magic, rest) = bytes.split_first_chunk::<8>().ok_or(StateError::NoState)?;
    let (len, rest) = rest.split_first_chunk::<8>().ok_or(StateError::NoState)?;
    let len = usize::try_from(u64::from_le_bytes(*len)).map_err(|_| StateError::NoState)?;
    if *magic != MAGIC || len > rest.len() {
        return Err(StateError::NoState);
    }
    let (json, tail) = rest.split_at(len);
    let OnlyVersion { version } = serde_json::from_slice(json).map_err(StateError::Malformed)?;
    if !supported.contains(&version) {
        return Err(StateError::Version { found: version, supported });
    }
    let state: State = serde_json::from_slice(json).map_err(StateError::Malformed)?;
    let mut seen = HashSet::new();
    if let Some(fd) = state.descriptors().find(|fd| *fd < FD_FIRST || !seen.insert(*fd)) {
        return Err(StateError::Descriptor(fd));
    }
    for process in &state.processes {
        piece(tail, process.stdin_waiting)?;
        for attached in &process.attached {
            piece(tail, attached.waiting)?;
        }
    }
    Ok(Checked { state, tail })
}

impl State {
    fn descriptors(&self) -> impl Iterator<Item = RawFd> {
        let of_process = |process: &ProcessState| {
            let mut fds = vec![process.pidfd];
            fds.extend(process.stdin);
            fds.extend(process.outputs.iter().flatten());
            fds.extend(process.log.as_ref().map(|log| log.file));
            fds.extend(process.attached.iter().map(|attached| attached.socket));
            fds
        };
        [self.lock, self.listener]
            .into_iter()
            .chain(self.processes.iter().flat_map(of_process))
            .chain(self.early.iter().map(|early| early.socket))
            .chain(self.peers.iter().map(|peer| peer.socket))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use naru_types::{ContainerId, ExecId};

    /// One of everything. The descriptors are nobody's: nothing here takes them.
    pub fn sample() -> Vec<u8> {
        let mut kept = Kept::default();
        let id = ContainerId::from_bytes([7; 32]);
        let target = Target::container(id.clone());
        let exit =
            ExitRecord { status: super::super::protocol::ExitStatus::Code(3), oom: false, at: Timestamp(5) };
        let attached = AttachedState {
            socket: 20,
            stdin: true,
            stdout: true,
            stderr: false,
            waiting: kept.bytes([&b"abc"[..], &b"def"[..]]),
            ending: false,
            deaf: false,
        };
        let process = |n: RawFd, attached| ProcessState {
            target: if n == 100 {
                target.clone()
            } else {
                Target::exec(id.clone(), ExecId::from_bytes([1; 32]))
            },
            pid: 9,
            pidfd: n,
            started_at: Timestamp(1),
            bundle: "/run/x/bundles/y".into(),
            stdio: StdioSpec { tty: true, ..StdioSpec::default() },
            cgroup: Some("naru/y".into()),
            oom_kills: 1,
            exit: (n == 100).then_some(exit),
            paused: false,
            forgotten: false,
            adopted: n != 100,
            stdin: Some(n + 1),
            stdin_waiting: Bytes { at: 1, len: 2 },
            stdin_ending: true,
            outputs: [Some(n + 2), Some(n + 3)],
            log: Some(LogState {
                limits: LogFile { path: "/x/log".into(), file_bytes_max: 1, files_max: 1 },
                file: n + 4,
                len: 5,
                inode: 6,
                dropped: 0,
            }),
            attached,
            kill_in_ms: Some(1000),
        };
        let request = AttachRequest { target: target.clone(), stdin: true, stdout: true, stderr: true };
        let state = State {
            version: VERSION,
            build: "test".into(),
            lock: 3,
            listener: 4,
            inherited: InheritedState { nofile_soft: Some(1024), nofile_hard: None, oom_score_adj: Some(0) },
            processes: vec![process(100, vec![attached]), process(200, Vec::new())],
            early: vec![EarlyState { request, socket: 30 }],
            peers: vec![PeerState { socket: 31, greeted: true, upgrade_seq: Some(2) }],
        };
        encode(&state, &kept).unwrap()
    }

    fn patched(from: &str, to: &str) -> Vec<u8> {
        let whole = sample();
        let len = u64::from_le_bytes(whole[8..16].try_into().unwrap()) as usize;
        let json = std::str::from_utf8(&whole[16..16 + len]).unwrap();
        assert!(json.contains(from), "{from} in {json}");
        let json = json.replacen(from, to, 1);
        let mut bytes = MAGIC.to_vec();
        bytes.extend((json.len() as u64).to_le_bytes());
        bytes.extend(json.as_bytes());
        bytes.extend(&whole[16 + len..]);
        bytes
    }

    #[test]
    fn a_state_comes_back_whole_and_a_wrong_one_not_at_all() {
        let whole = sample();
        let checked = decode(&whole, VERSIONS).unwrap();
        assert_eq!(checked.state.processes.len(), 2);
        assert_eq!(checked.bytes(checked.state.processes[0].attached[0].waiting).unwrap(), b"abcdef");
        let refused = |bytes: &[u8]| decode(bytes, VERSIONS).unwrap_err().to_string();
        assert_eq!(refused(b""), "this is no keeper's state");
        assert_eq!(refused(&whole[..40]), "this is no keeper's state");
        let newer = patched(r#"{"version":1"#, r#"{"version":2"#);
        assert_eq!(refused(&newer), "the state has version 2, this program takes 1 to 1");
        // A version that is not known is said before anything else is looked at.
        let future = patched(r#"{"version":1,"build":"test""#, r#"{"version":7,"build":{}"#);
        assert_eq!(refused(&future), "the state has version 7, this program takes 1 to 1");
        for wrong in [r#""lock":4"#, r#""lock":0"#, r#""lock":-1"#] {
            let error = refused(&patched(r#""lock":3"#, wrong));
            assert!(error.contains("twice, or a standard one"), "{error}");
        }
        for wrong in [r#"{"at":0,"len":7}"#, r#"{"at":18446744073709551615,"len":2}"#] {
            let error = refused(&patched(r#"{"at":0,"len":6}"#, wrong));
            assert!(error.contains("which it does not have"), "{error}");
        }
    }
}
