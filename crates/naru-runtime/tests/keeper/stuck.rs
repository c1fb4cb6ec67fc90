//! A container that does not let an exec go on: nobody else may notice.

use crate::fixture::*;
use naru_runtime::keeper::client::{ClientError, Exec, StartError, StartNamespaces};
use naru_runtime::keeper::protocol::*;
use naru_types::{ContainerId, ExecId};
use rustix::mount::{MountFlags, UnmountFlags};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;

/// A frozen container is the surest way; one with no CPU time or memory left is as stuck.
pub fn an_exec_that_cannot_go_on_holds_up_nobody() {
    let mut fixture = Fixture::new();
    let (stuck, _started) = fixture.start_sh("sleep 1000", How::default());
    let (reader, _started) = fixture.start_sh("cat", with_stdin(false));
    fixture.client.pause(&stuck).unwrap();
    let target = Target::exec(stuck.clone(), ExecId::from_bytes([1; 32]));
    let (other, _notices) = connect(fixture.dir.path());
    let (root, id) = (crate::common::Root::new(), fresh_id());
    let process = container_spec(&stuck, &["sh", "-c", "exit 7"]).process;
    let exec_id = target.exec_id.clone().unwrap();
    let exec = Exec {
        id: &stuck,
        exec_id: &exec_id,
        process: &process,
        privileged: false,
        stdio: StdioSpec::default(),
    };
    let client = &fixture.client;
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| client.exec(&exec).map(drop));
        // Two containers, the worker, and the process that is frozen before it is a program.
        while !waiting.is_finished() && children(other.keeper_pid()) < 4 {}
        assert!(!waiting.is_finished());
        let spec = container_spec(&id, &["true"]);
        let request = prepare(fixture.dir.path(), &id, &root, &spec, How::default());
        other.start(request, StartNamespaces::default()).unwrap();
        // Others of all kinds end meanwhile, some before their worker has said that they run.
        for number in 1..=QUICK {
            let process = container_spec(&reader, &["sh", "-c", &format!("exit {number}")]).process;
            let exec_id = quick(&reader, number).exec_id.unwrap();
            let exec = Exec { id: &reader, exec_id: &exec_id, process: &process, ..exec };
            match other.exec(&exec) {
                Ok(_) | Err(StartError::Client(ClientError::Refused { reason: Refusal::NotRunning, .. })) => {
                }
                Err(error) => panic!("{error}"),
            }
        }
        while other.list().unwrap().iter().any(|entry| is_quick(entry, &reader) && entry.exit.is_none()) {}
        // The worker was forked while the keeper had this container's pipes open.
        other.close_stdin(&Target::container(reader.clone())).unwrap();
        while other.list().unwrap().iter().any(|entry| entry.target.id == reader && entry.exit.is_none()) {}
        assert!(!waiting.is_finished());
        other.resume(&stuck).unwrap();
        waiting.join().unwrap().unwrap();
    });
    assert_eq!(fixture.exit(&target).status, ExitStatus::Code(7));
    for number in 1..=QUICK {
        assert_eq!(fixture.exit(&quick(&reader, number)).status, ExitStatus::Code(i32::from(number)));
    }
    fixture.exit_of(&id);
    fixture.exit_of(&reader);
}

/// A FUSE file system that says it is there (FUSE_INIT) and leaves every other question without an answer; see
/// include/uapi/linux/fuse.h.
struct Hung {
    server: std::fs::File,
    dir: tempfile::TempDir,
}

impl Hung {
    fn new() -> Self {
        let server = std::fs::File::options().read(true).write(true).open("/dev/fuse").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let options = format!("fd={},rootmode=40755,user_id=0,group_id=0", server.as_raw_fd());
        let options = std::ffi::CString::new(options).unwrap();
        rustix::mount::mount("naru-test", dir.path(), "fuse", MountFlags::empty(), &*options).unwrap();
        let hung = Self { server, dir };
        hung.say_hello();
        hung
    }

    /// The head of the request gives the number (`unique`) of the answer: its length, no error, the number, and then
    /// `fuse_init_out`, all zeros but the version.
    fn say_hello(&self) {
        let mut request = [0; QUESTION_BYTES];
        (&self.server).read(&mut request).unwrap();
        let mut answer = [0; 16 + 64];
        answer[0] = 16 + 64;
        answer[8..16].copy_from_slice(&request[8..16]);
        (answer[16], answer[20]) = (7, 31);
        (&self.server).write_all(&answer).unwrap();
    }

    fn wait_for_a_question(&self) {
        let read = (&self.server).read(&mut [0; QUESTION_BYTES]).unwrap();
        assert!(read > 0);
    }

    /// With a bind from there.
    fn spec(&self, id: &ContainerId) -> naru_runtime::oci::Spec {
        let mut spec = container_spec(id, &["true"]);
        spec.mounts.push(naru_runtime::oci::Mount {
            destination: "/mnt".into(),
            kind: "bind".into(),
            source: self.dir.path().join("inside").display().to_string(),
            options: vec!["rbind".into()],
            ..Default::default()
        });
        spec
    }
}

impl Drop for Hung {
    fn drop(&mut self) {
        // Whoever waits for an answer is told with the server's end; a container's copy of the mount ends with it.
        let _ = rustix::mount::unmount(self.dir.path(), UnmountFlags::DETACH);
    }
}

/// The kernel wants that much room for a request (FUSE_MIN_READ_BUFFER).
const QUESTION_BYTES: usize = 8192;

/// Execs that end at once.
const QUICK: u8 = 20;

fn quick(container: &ContainerId, number: u8) -> Target {
    Target::exec(container.clone(), ExecId::from_bytes([100 + number; 32]))
}

fn is_quick(entry: &ProcessEntry, container: &ContainerId) -> bool {
    entry.target.id == *container && entry.target.exec_id.is_some()
}

fn children(pid: i32) -> usize {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    text.split_whitespace().count()
}

/// A bind whose source lies on a file system that does not answer is a start that does not get on.
pub fn a_start_that_cannot_go_on_holds_up_nobody() {
    let mut fixture = Fixture::new();
    let hung = Hung::new();
    let (id, root) = (fresh_id(), crate::common::Root::new());
    let request = prepare(fixture.dir.path(), &id, &root, &hung.spec(&id), How::default());
    let (other, _notices) = connect(fixture.dir.path());
    let client = &fixture.client;
    let error = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| client.start(request.clone(), StartNamespaces::default()).map(drop));
        hung.wait_for_a_question();
        // The same once more is no other start.
        let busy = other.start(request.clone(), StartNamespaces::default()).map(drop).unwrap_err();
        assert_eq!(busy.to_string(), format!("container {} runs already", id.short()));
        // Others start and end meanwhile.
        for number in 0..i32::from(QUICK) {
            let (id, root) = (fresh_id(), crate::common::Root::new());
            let spec = container_spec(&id, &["sh", "-c", &format!("exit {number}")]);
            let request = prepare(fixture.dir.path(), &id, &root, &spec, How::default());
            other.start(request, StartNamespaces::default()).unwrap();
            while ended(&other, &id).is_none() {}
            assert_eq!(ended(&other, &id).unwrap().status, ExitStatus::Code(number));
        }
        assert!(!waiting.is_finished());
        drop(hung);
        waiting.join().unwrap().unwrap_err()
    });
    // ECONNABORTED: the server has gone.
    assert!(error.to_string().contains("onnection abort"), "{error}");
    assert!(!crate::lives::cgroup_exists(&id));
    fixture.start(&id, container_spec(&id, &["true"]), How::default()).unwrap();
    fixture.exit_of(&id);
}

/// Without an end the client is told after [`START_TIMEOUT`], and all of the start is gone.
pub fn a_start_that_takes_too_long_is_given_up() {
    let mut fixture = Fixture::new();
    let hung = Hung::new();
    let id = fresh_id();
    let error = fixture.start(&id, hung.spec(&id), How::default()).unwrap_err().to_string();
    assert!(
        error.starts_with("cannot start it within 50 s: does the source of one of its mounts"),
        "{error}"
    );
    while children(fixture.client.keeper_pid()) > 0 {}
    fixture.start(&id, container_spec(&id, &["sh", "-c", "exit 3"]), How::default()).unwrap();
    assert_eq!(fixture.exit_of(&id).status, ExitStatus::Code(3));
}

/// What a daemon had asked for that was killed does not come to life under the next one's hands, who waits for its end: a
/// question that the server has taken cannot be given up by who asked.
pub fn a_start_whose_daemon_has_gone_is_given_up() {
    let mut fixture = Fixture::new();
    let hung = Hung::new();
    let (id, root) = (fresh_id(), crate::common::Root::new());
    let request = prepare(fixture.dir.path(), &id, &root, &hung.spec(&id), How::default());
    let mut daemon = crate::crashes::spawn_daemon(fixture.dir.path(), &request);
    hung.wait_for_a_question();
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    let spec = container_spec(&id, &["sh", "-c", "exit 3"]);
    let request = prepare(fixture.dir.path(), &id, &root, &spec, How::default());
    let (other, _notices) = connect(fixture.dir.path());
    std::thread::scope(|scope| {
        let client = &fixture.client;
        let waiting = scope.spawn(|| client.start(request, StartNamespaces::default()).map(drop));
        assert_eq!(other.list().unwrap(), []);
        drop(hung);
        waiting.join().unwrap().unwrap();
    });
    assert_eq!(fixture.exit_of(&id).status, ExitStatus::Code(3));
}

fn ended(client: &naru_runtime::keeper::client::KeeperClient, id: &ContainerId) -> Option<ExitRecord> {
    client.list().unwrap().iter().find(|entry| entry.target.id == *id).unwrap().exit
}
