//! A run directory with a keeper, a client, and containers that are gone afterwards.

use crate::common::{Root, spec};
use naru_runtime::keeper::Role;
use naru_runtime::keeper::client::{ClientError, KeeperClient, Notice, StartError, StartNamespaces, Started};
use naru_runtime::keeper::held::HeldFds;
use naru_runtime::keeper::protocol::*;
use naru_runtime::keeper::server::{Ended, run};
use naru_runtime::keeper::state;
use naru_runtime::oci;
use naru_types::ContainerId;
use naru_types::logrec::{HEADER_LEN, Header, Stream};
use naru_types::signal::Signal;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// Nothing here takes longer on a machine that does anything at all.
const PATIENCE: Duration = Duration::from_mins(1);

/// More files than any case keeps.
const FILES_MAX: u32 = 100;

/// A copy of this binary under this name takes no state of today's version: it plays a program from before it.
pub const OLDER: &str = "older-naru";

pub fn be_the_keeper(args: &[String]) {
    let args: Vec<_> = args[1..].iter().map(Into::into).collect();
    let role = Role::parse(&args).unwrap();
    let exe = std::env::current_exe().unwrap();
    if exe.ends_with(OLDER) && matches!(role, Role::CheckState { .. }) {
        let bytes = state::read(std::io::stdin()).unwrap();
        let error = state::decode(&bytes, 0..=state::VERSION - 1).unwrap_err();
        eprintln!("error: {error}");
        std::process::exit(1);
    }
    let ended = run(role).unwrap();
    assert!(matches!(ended, Ended::Shutdown | Ended::AnotherRuns | Ended::Checked));
}

pub struct Fixture {
    pub dir: tempfile::TempDir,
    pub client: KeeperClient,
    notices: Receiver<Notice>,
    kept: Vec<Event>,
    roots: Vec<Root>,
}

/// How to start a container.
#[derive(Clone, Default)]
pub struct How {
    pub stdio: StdioSpec,
    pub file_bytes_max: u64,
    pub files_max: u32,
}

impl Fixture {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let run_dir = dir.path().to_owned();
        naru_runtime::keeper::launch(&std::env::current_exe().unwrap(), &run_dir).unwrap();
        let (client, notices) = connect(&run_dir);
        Self { dir, client, notices, kept: Vec::new(), roots: Vec::new() }
    }

    /// A new keeper when there is none, and a new connection.
    pub fn reconnect(&mut self) {
        naru_runtime::keeper::launch(&std::env::current_exe().unwrap(), self.dir.path()).unwrap();
        (self.client, self.notices) = connect(self.dir.path());
    }

    pub fn bundle(&self, id: &ContainerId) -> PathBuf {
        bundle(self.dir.path(), id)
    }

    pub fn log(&self, id: &ContainerId) -> LogFile {
        LogFile { path: self.bundle(id).join("log"), file_bytes_max: 0, files_max: 1 }
    }

    pub fn start_sh(&mut self, script: &str, how: How) -> (ContainerId, Started) {
        let id = fresh_id();
        let started = self.start(&id, container_spec(&id, &["sh", "-c", script]), how).unwrap();
        (id, started)
    }

    pub fn start(&mut self, id: &ContainerId, spec: oci::Spec, how: How) -> Result<Started, StartError> {
        let root = Root::new();
        let request = prepare(self.dir.path(), id, &root, &spec, how);
        self.roots.push(root);
        self.client.start(request, StartNamespaces::default())
    }

    pub fn attach(&self, target: Target, stdin: bool) -> UnixStream {
        let socket =
            self.client.attach(&AttachRequest { target, stdin, stdout: true, stderr: true }).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    }

    /// Waits for an event that `wanted` takes; others are kept for later.
    pub fn event<T>(&mut self, wanted: impl Fn(&Event) -> Option<T>) -> T {
        if let Some(found) = self.kept.iter().position(|event| wanted(event).is_some()) {
            return wanted(&self.kept.swap_remove(found)).unwrap();
        }
        loop {
            match self.notices.recv_timeout(PATIENCE).unwrap() {
                Notice::Event(event) => match wanted(&event) {
                    Some(found) => return found,
                    None => self.kept.push(event),
                },
                Notice::Disconnected => panic!("the keeper has gone"),
            }
        }
    }

    pub fn exit(&mut self, target: &Target) -> ExitRecord {
        self.event(|event| match event {
            Event::Exited { target: ended, exit } if ended == target => Some(*exit),
            _ => None,
        })
    }

    pub fn exit_of(&mut self, id: &ContainerId) -> ExitRecord {
        self.exit(&Target::container(id.clone()))
    }

    pub fn wait_for_disconnect(&mut self) {
        while !matches!(self.notices.recv_timeout(PATIENCE).unwrap(), Notice::Disconnected) {}
    }

    pub fn kill_keeper(&mut self) {
        let pidfd = naru_kernel::pidfd::open(self.client.keeper_pid()).unwrap();
        naru_kernel::pidfd::send_signal(pidfd, Signal::KILL).unwrap();
        self.wait_for_disconnect();
    }

    pub fn adopt(
        &mut self,
        id: &ContainerId,
        started: (i32, naru_types::Timestamp),
        log: Option<LogFile>,
        held: &HeldFds,
    ) {
        let (pid, started_at) = started;
        let bundle = self.bundle(id);
        let request = AdoptRequest {
            id: id.clone(),
            exec_id: None,
            pid,
            started_at,
            bundle,
            stdio: StdioSpec::default(),
            log,
            paused: false,
        };
        self.client.adopt(request, held).unwrap();
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        for entry in self.client.list().unwrap_or_default() {
            if entry.exit.is_none() && entry.target.exec_id.is_none() {
                let _ = self.client.resume(&entry.target.id);
                // It may end by itself between the list and now.
                match self.client.signal_all(&entry.target.id, Signal::KILL) {
                    Ok(()) | Err(ClientError::Refused { reason: Refusal::NotRunning, .. }) => {}
                    Err(error) => panic!("{error}"),
                }
                self.exit(&entry.target);
            }
        }
        if let Err(error) = self.client.shutdown() {
            assert!(std::thread::panicking(), "the keeper stays: {error}");
        }
    }
}

pub fn connect(run_dir: &Path) -> (KeeperClient, Receiver<Notice>) {
    let (sender, receiver) = channel();
    (KeeperClient::connect(run_dir, move |notice| drop(sender.send(notice))).unwrap(), receiver)
}

pub fn bundle(run_dir: &Path, id: &ContainerId) -> PathBuf {
    run_dir.join("bundles").join(id.as_str())
}

/// Writes the bundle.
pub fn prepare(run_dir: &Path, id: &ContainerId, root: &Root, spec: &oci::Spec, how: How) -> StartRequest {
    let bundle = bundle(run_dir, id);
    std::fs::create_dir_all(&bundle).unwrap();
    std::fs::write(bundle.join("config.json"), serde_json::to_vec(spec).unwrap()).unwrap();
    let log = LogFile {
        path: bundle.join("log"),
        file_bytes_max: how.file_bytes_max,
        files_max: how.files_max.max(1),
    };
    StartRequest {
        id: id.clone(),
        bundle,
        rootfs: root.rootfs(),
        stdio: how.stdio,
        log: Some(log),
        init: false,
        runtime: None,
    }
}

pub fn container_spec(id: &ContainerId, args: &[&str]) -> oci::Spec {
    let mut spec = spec(args);
    spec.linux.cgroups_path = cgroup_path(id);
    spec
}

/// Of this process's own.
pub fn cgroup_path(id: &ContainerId) -> String {
    format!("naru-test-keeper-{}-{}", std::process::id(), id.short())
}

pub fn fresh_id() -> ContainerId {
    static NEXT: AtomicU8 = AtomicU8::new(1);
    ContainerId::from_bytes([NEXT.fetch_add(1, Ordering::Relaxed); 32])
}

pub fn with_stdin(stdin_once: bool) -> How {
    How { stdio: StdioSpec { open_stdin: true, stdin_once, ..StdioSpec::default() }, ..How::default() }
}

/// What one stream's records of a log say, rotated files first.
pub fn log_text(log: &Path, stream: Stream) -> String {
    let numbered = |n: u32| PathBuf::from(format!("{}.{n}", log.display()));
    let mut files: Vec<PathBuf> = (1..=FILES_MAX).map(numbered).take_while(|path| path.exists()).collect();
    files.reverse();
    files.push(log.to_owned());
    let mut text = Vec::new();
    for file in files {
        let bytes = std::fs::read(&file).unwrap();
        let mut at = 0;
        while at < bytes.len() {
            let header = Header::decode(*bytes[at..].first_chunk().unwrap()).unwrap();
            at += HEADER_LEN;
            if header.stream == stream {
                text.extend_from_slice(&bytes[at..at + header.len as usize]);
            }
            at += header.len as usize;
        }
    }
    String::from_utf8(text).unwrap()
}

/// Reads Docker's frames until the end: (stdout, stderr).
pub fn frames(mut socket: UnixStream) -> (String, String) {
    let mut bytes = Vec::new();
    socket.read_to_end(&mut bytes).unwrap();
    let mut texts = [String::new(), String::new()];
    let mut at = 0;
    while at < bytes.len() {
        let len = u32::from_be_bytes(bytes[at + 4..at + 8].try_into().unwrap()) as usize;
        assert_eq!(bytes[at + 1..at + 4], [0; 3]);
        texts[usize::from(bytes[at]) - 1]
            .push_str(std::str::from_utf8(&bytes[at + 8..at + 8 + len]).unwrap());
        at += 8 + len;
    }
    texts.into()
}

/// Reads until `mark` came.
pub fn read_until(socket: &mut UnixStream, mark: &str) -> String {
    let mut text = String::new();
    let mut buffer = [0; 1024];
    while !text.contains(mark) {
        let read = socket.read(&mut buffer).unwrap();
        assert!(read > 0, "end before {mark:?} in {text:?}");
        text.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
    text
}

pub fn open_files(pid: i32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// A keeper learns of a hang-up as of any other event: soon.
pub fn wait_for_open_files(pid: i32, count: usize) {
    let deadline = Instant::now() + PATIENCE;
    while open_files(pid) != count {
        assert!(Instant::now() < deadline, "{} open files instead of {count}", open_files(pid));
        std::thread::sleep(Duration::from_millis(5));
    }
}
