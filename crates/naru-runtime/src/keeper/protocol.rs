//! The messages between daemon and keeper: JSON, one message per SOCK_SEQPACKET packet, descriptors beside it.
//!
//! Each request has a sequence number and gets exactly one reply with the same number; events have none.
//! What is big goes by file in the bundle directory: the spec (`config.json`, written by the engine) and the
//! process of an exec (`exec-<id>.json`, written by [`super::client::KeeperClient::exec`]).
//! A field is only ever added, with `#[serde(default)]`; anything else raises [`VERSION`].

use crate::external::Runtime;
use crate::oci;
use crate::rootfs::Rootfs;
use naru_types::signal::Signal;
use naru_types::{ContainerId, ExecId, Timestamp};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Raised when an old peer could misread a message. 2: a start may name another runtime.
pub const VERSION: u32 = 2;
/// The first one in which [`StartRequest::runtime`] is looked at.
pub const VERSION_WITH_RUNTIMES: u32 = 2;
/// The oldest peer that is still understood.
pub const VERSION_MIN: u32 = 1;
/// Longest message in bytes. An overlay of 128 layers with 200-byte paths is 26 kB.
pub const MESSAGE_LEN_MAX: usize = 128 * 1024;
/// Most descriptors in one message.
pub const FDS_MAX: usize = 8;
/// Most entries in one reply to [`Request::List`].
pub const LIST_PAGE_LEN_MAX: usize = 128;

/// What travels in one packet. `fds[i]` says what the i-th descriptor of the packet is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Envelope<T> {
    /// Zero for events.
    pub seq: u64,
    #[serde(default)]
    pub fds: Vec<FdRole>,
    pub body: T,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FdRole {
    /// Network namespace to join.
    Netns,
    /// User namespace to join.
    Userns,
    /// The keeper's end of an attach socket.
    Attach,
    /// Write end of the process's stdin pipe.
    Stdin,
    /// Read end of its stdout pipe.
    Stdout,
    /// Read end of its stderr pipe.
    Stderr,
    /// Master of its pty.
    Pty,
    Pidfd,
    /// The program of an upgrade.
    Program,
}

/// A container's first process, or an exec session in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Target {
    pub id: ContainerId,
    #[serde(default)]
    pub exec_id: Option<ExecId>,
}

impl Target {
    pub fn container(id: ContainerId) -> Self {
        Self { id, exec_id: None }
    }

    pub fn exec(id: ContainerId, exec_id: ExecId) -> Self {
        Self { id, exec_id: Some(exec_id) }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Request {
    /// First message of a connection: the newest and the oldest version that the client speaks. Answered by
    /// [`Reply::Hello`] with the newest that both do, or refused.
    Hello {
        version: u32,
        #[serde(default)]
        version_min: u32,
    },
    /// Carries one `Program`, which takes the keeper's place in the same process. Answered by it with [`Reply::Hello`], or
    /// refused by the old one, which goes on.
    Upgrade,
    /// May carry a `Userns` and a `Netns`; without one the spec's network namespace entry decides (none: the host's). Answered by [`Reply::Started`] or [`Reply::StartFailed`].
    Start(StartRequest),
    /// Answered like `Start`.
    Exec(ExecRequest),
    /// Carries one `Attach`. For a target that is not started yet it is kept until it starts.
    Attach(AttachRequest),
    /// Asks again for the descriptors that [`Reply::Started`] carried: a new daemon's way to hold them.
    Hold(Target),
    Resize {
        target: Target,
        rows: u16,
        cols: u16,
    },
    Signal {
        target: Target,
        signal: Signal,
    },
    /// A signal, and SIGKILL should the process still run after the timeout, whatever becomes of the daemon.
    Stop {
        target: Target,
        signal: Signal,
        /// `None`: never.
        timeout_ms: Option<u64>,
    },
    /// To every process in the container's cgroup.
    SignalAll {
        id: ContainerId,
        signal: Signal,
    },
    CloseStdin(Target),
    Pause {
        id: ContainerId,
    },
    Resume {
        id: ContainerId,
    },
    /// New limits; answered by [`Reply::Updated`].
    Update {
        id: ContainerId,
        resources: oci::Resources,
    },
    /// Carries what the daemon held of a process whose keeper died: its pidfd at least.
    Adopt(AdoptRequest),
    /// Entries after `after` in the order of targets; answered by [`Reply::List`].
    List {
        after: Option<Target>,
    },
    /// Drops an ended process from the list; a container takes its ended execs along.
    Forget(Target),
    /// Ends the keeper; refused while anything runs.
    Shutdown,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StartRequest {
    pub id: ContainerId,
    /// Directory with `config.json`; `exit.json` is written into it.
    pub bundle: PathBuf,
    pub rootfs: Rootfs,
    pub stdio: StdioSpec,
    /// `None`: output goes to attachers only.
    pub log: Option<LogFile>,
    /// Run naru's own init as pid 1 (`--init`).
    #[serde(default)]
    pub init: bool,
    /// `None`: naru's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<Runtime>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StdioSpec {
    pub tty: bool,
    /// First size of the terminal; zero leaves the kernel's 0×0.
    pub rows: u16,
    pub cols: u16,
    /// `false`: stdin is /dev/null.
    pub open_stdin: bool,
    /// Close the process's stdin when an attached client's stdin ended. Execs with stdin want this always.
    /// Without effect with a tty, as in Docker.
    pub stdin_once: bool,
}

/// The active log file and its limits; older ones are `<path>.1`, `<path>.2`, ….
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogFile {
    pub path: PathBuf,
    /// Bytes at which the active file is rotated; zero: never.
    pub file_bytes_max: u64,
    /// Files kept, the active one included; at least 1.
    pub files_max: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExecRequest {
    pub id: ContainerId,
    pub exec_id: ExecId,
    /// File name in the bundle with the OCI `process` object; the keeper removes it.
    pub process_file: String,
    /// All capabilities and no seccomp filter.
    #[serde(default)]
    pub privileged: bool,
    pub stdio: StdioSpec,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachRequest {
    pub target: Target,
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdoptRequest {
    pub id: ContainerId,
    /// An exec session rather than the container's first process.
    #[serde(default)]
    pub exec_id: Option<ExecId>,
    pub pid: i32,
    pub started_at: Timestamp,
    pub bundle: PathBuf,
    pub stdio: StdioSpec,
    pub log: Option<LogFile>,
    #[serde(default)]
    pub paused: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply {
    Done,
    Hello {
        version: u32,
        pid: i32,
        /// As [`super::build_of`] names the program that runs; empty before that was told.
        #[serde(default)]
        build: String,
    },
    /// Carries duplicates of the keeper's descriptors (stdin, stdout, stderr or pty, and pidfd): whoever holds them
    /// keeps the pipes alive should the keeper be killed.
    Started {
        pid: i32,
        started_at: Timestamp,
        /// What was asked for and could not be had, in sentences.
        #[serde(default)]
        warnings: Vec<String>,
    },
    Updated {
        warnings: Vec<String>,
    },
    StartFailed(StartFailed),
    List {
        entries: Vec<ProcessEntry>,
        more: bool,
    },
    Refused {
        reason: Refusal,
        message: String,
    },
}

/// Why a process could not be started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct StartFailed {
    /// The step of the start that failed, e.g. `mount /proc`.
    pub step: String,
    pub errno: i32,
    /// As Docker words it where it has words.
    pub message: String,
    /// 127 executable not found, 126 not executable, else 128.
    pub docker_exit_code: i32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    /// No such target.
    Unknown,
    /// The target has ended.
    NotRunning,
    /// The id is taken, or something still runs.
    Busy,
    /// The message could not be understood, or a descriptor is missing.
    Malformed,
    /// A limit of the keeper.
    Limit,
    /// No common protocol version, or a program that cannot take the state over.
    Version,
    /// A system call failed.
    System,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProcessEntry {
    pub target: Target,
    pub pid: i32,
    pub started_at: Timestamp,
    pub tty: bool,
    pub paused: bool,
    /// `None` while it runs.
    pub exit: Option<ExitRecord>,
    /// Log records dropped because the log could not be written (disk full).
    pub log_records_dropped: u64,
}

/// How a process ended; also the content of `exit.json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    pub status: ExitStatus,
    /// The kernel killed something in the cgroup for want of memory.
    pub oom: bool,
    pub at: Timestamp,
}

impl ExitRecord {
    /// Name of the file in the bundle directory.
    pub const FILE_NAME: &str = "exit.json";

    /// What an earlier keeper recorded, if it got that far.
    pub fn read(bundle: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(bundle.join(Self::FILE_NAME)).ok()?).ok()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExitStatus {
    Code(i32),
    Signal(i32),
    /// Nobody could learn it: the keeper was killed while the process ran, on a kernel before 6.15.
    Unknown,
}

impl ExitStatus {
    /// Docker's number: 128 + signal for signals, 255 for unknown.
    pub fn docker_code(self) -> i32 {
        match self {
            ExitStatus::Code(code) => code,
            ExitStatus::Signal(signal) => 128 + signal,
            ExitStatus::Unknown => 255,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// What the process had written before it ended is in the log when this is sent.
    Exited { target: Target, exit: ExitRecord },
    /// Sent before the `Exited` it belongs to.
    Oom { id: ContainerId },
    /// The keeper closed the process's stdin: duplicates must go too, or the process never sees the end.
    /// [`super::client::KeeperClient`] acts on it by itself.
    StdinClosed { target: Target },
}

/// What the keeper sends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FromKeeper {
    Reply(Reply),
    Event(Event),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_have_a_fixed_form() {
        let id = ContainerId::from_bytes([1; 32]);
        let request = Envelope {
            seq: 3,
            fds: vec![FdRole::Attach],
            body: Request::Resize { target: Target::container(id.clone()), rows: 2, cols: 3 },
        };
        let text = serde_json::to_string(&request).unwrap();
        assert_eq!(
            text,
            format!(
                r#"{{"seq":3,"fds":["attach"],"body":{{"resize":{{"target":{{"id":"{id}","exec_id":null}},"rows":2,"cols":3}}}}}}"#
            )
        );
        assert_eq!(serde_json::from_str::<Envelope<Request>>(&text).unwrap(), request);
        let exit = ExitRecord { status: ExitStatus::Signal(9), oom: true, at: Timestamp(5) };
        assert_eq!(serde_json::to_string(&exit).unwrap(), r#"{"status":{"signal":9},"oom":true,"at":5}"#);
    }
}
