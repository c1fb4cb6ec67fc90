//! Starts, ends, execs, limits, and what a hostile client may send.

use crate::fixture::*;
use naru_runtime::keeper::client::{ClientError, Exec, StartError, StartNamespaces};
use naru_runtime::keeper::protocol::*;
use naru_runtime::keeper::socket_path;
use naru_runtime::oci::{self, NamespaceKind};
use naru_types::ExecId;
use naru_types::logrec::Stream;
use naru_types::signal::Signal;
use std::io::Write;
use std::net::Shutdown;
use std::path::Path;

pub fn exits_are_told_and_recorded() {
    let mut fixture = Fixture::new();
    let (id, started) = fixture.start_sh("exit 42", How::default());
    let exit = fixture.exit_of(&id);
    assert_eq!((exit.status, exit.oom), (ExitStatus::Code(42), false));
    assert!(exit.at >= started.started_at);
    assert_eq!(ExitRecord::read(&fixture.bundle(&id)), Some(exit));
    let entry = fixture.client.list().unwrap().into_iter().find(|entry| entry.target.id == id).unwrap();
    assert_eq!(entry.exit, Some(exit));
    let target = Target::container(id.clone());
    let refused = fixture.client.signal(&target, Signal::TERM).unwrap_err();
    assert!(matches!(refused, ClientError::Refused { reason: Refusal::NotRunning, .. }));
    fixture.client.forget(&target).unwrap();
    assert!(fixture.client.list().unwrap().is_empty());

    let (id, _) = fixture.start_sh("sleep 1000", How::default());
    let target = Target::container(id.clone());
    assert!(matches!(
        fixture.client.forget(&target),
        Err(ClientError::Refused { reason: Refusal::Busy, .. })
    ));
    assert!(matches!(fixture.client.shutdown(), Err(ClientError::Refused { reason: Refusal::Busy, .. })));
    fixture.client.signal(&target, Signal::KILL).unwrap();
    assert_eq!(fixture.exit_of(&id).status, ExitStatus::Signal(9));
    assert!(!cgroup_exists(&id));

    let id = fresh_id();
    let socket = fixture.attach(Target::container(id.clone()), false);
    let failed = fixture.start(&id, container_spec(&id, &["nope"]), How::default()).unwrap_err();
    assert!(matches!(failed, StartError::Failed(StartFailed { docker_exit_code: 127, .. })), "{failed:?}");
    assert_eq!(frames(socket), (String::new(), String::new()));
    assert!(!cgroup_exists(&id));
    assert!(fixture.client.list().unwrap().iter().all(|entry| entry.target.id != id));
}

pub fn execs_have_streams_and_exits_of_their_own() {
    let mut fixture = Fixture::new();
    let (id, _started) = fixture.start_sh("sleep 1000", How::default());
    let stdio = StdioSpec { open_stdin: true, stdin_once: true, ..StdioSpec::default() };
    let target = Target::exec(id.clone(), ExecId::from_bytes([1; 32]));
    let mut socket = fixture.attach(target.clone(), true);
    exec(&fixture, &target, "echo pid $$ >&2; cat; exit 3", stdio).unwrap();
    socket.write_all(b"to the exec").unwrap();
    socket.shutdown(Shutdown::Write).unwrap();
    let (out, err) = frames(socket);
    assert_eq!(out, "to the exec");
    assert!(err.starts_with("pid "));
    assert_eq!(fixture.exit(&target).status, ExitStatus::Code(3));

    // What an exec leaves behind in its pipe's other end delays neither its end nor its clients'.
    let leaving = Target::exec(id.clone(), ExecId::from_bytes([2; 32]));
    let socket = fixture.attach(leaving.clone(), false);
    exec(&fixture, &leaving, "sleep 1000 & echo left", StdioSpec::default()).unwrap();
    assert_eq!(fixture.exit(&leaving).status, ExitStatus::Code(0));
    assert_eq!(frames(socket).0, "left\n");

    let terminal = Target::exec(id.clone(), ExecId::from_bytes([3; 32]));
    let stdio = StdioSpec { tty: true, rows: 10, cols: 20, open_stdin: true, stdin_once: true };
    let mut socket = fixture.attach(terminal.clone(), true);
    exec(&fixture, &terminal, "stty size; read x; stty size", stdio).unwrap();
    read_until(&mut socket, "10 20");
    fixture.client.resize(&terminal, 30, 40).unwrap();
    socket.write_all(b"\n").unwrap();
    read_until(&mut socket, "30 40");
    assert_eq!(fixture.exit(&terminal).status, ExitStatus::Code(0));

    let last = Target::exec(id.clone(), ExecId::from_bytes([4; 32]));
    exec(&fixture, &last, "sleep 1000", StdioSpec::default()).unwrap();
    fixture.client.signal(&Target::container(id.clone()), Signal::KILL).unwrap();
    assert_eq!(fixture.exit(&last).status, ExitStatus::Signal(9));
    assert_eq!(fixture.exit_of(&id).status, ExitStatus::Signal(9));
    let refused = exec(&fixture, &last, "true", StdioSpec::default()).unwrap_err();
    assert!(
        matches!(refused, StartError::Client(ClientError::Refused { reason: Refusal::NotRunning, .. })),
        "{refused:?}"
    );
    fixture.client.forget(&Target::container(id)).unwrap();
    assert!(fixture.client.list().unwrap().is_empty());
}

pub fn a_container_inherits_nothing_of_the_keeper() {
    let mut fixture = Fixture::new();
    let (id, _) = fixture.start_sh("cat /proc/self/oom_score_adj; ulimit -n; grep -E 'SigBlk|SigIgn' /proc/self/status; ls /proc/self/fd", How::default());
    fixture.exit_of(&id);
    let text = log_text(&fixture.bundle(&id).join("log"), Stream::Stdout);
    let own = std::fs::read_to_string("/proc/self/oom_score_adj").unwrap();
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap();
    // `ls` has the directory open as 3.
    let expect = format!("{own}{files}\nSigBlk:\t{:016x}\nSigIgn:\t{:016x}\n0\n1\n2\n3\n", 0, 0);
    assert_eq!(text, expect);
}

pub fn pause_update_and_out_of_memory() {
    let mut fixture = Fixture::new();
    let (id, _) = fixture.start_sh("while true; do echo x; sleep 0.01; done", How::default());
    fixture.client.pause(&id).unwrap();
    assert!(fixture.client.list().unwrap()[0].paused);
    fixture.client.resume(&id).unwrap();
    let mut resources = oci::Resources::default();
    resources.pids.limit = Some(77);
    fixture.client.update(&id, &resources).unwrap();
    fixture.client.signal_all(&id, Signal::KILL).unwrap();
    assert_eq!(fixture.exit_of(&id).status, ExitStatus::Signal(9));

    let id = fresh_id();
    let mut spec = container_spec(&id, &["sh", "-c", "tail /dev/zero; echo killed $?; exit 1"]);
    spec.linux.resources.memory.limit = Some(32 << 20);
    spec.linux.resources.memory.swap = Some(32 << 20);
    spec.linux.resources.memory.swap_defaulted = true;
    fixture.start(&id, spec, How::default()).unwrap();
    fixture.event(|event| matches!(event, Event::Oom { id: ended } if *ended == id).then_some(()));
    let exit = fixture.exit_of(&id);
    assert_eq!((exit.status, exit.oom), (ExitStatus::Code(1), true));
    assert!(log_text(&fixture.bundle(&id).join("log"), Stream::Stdout).contains("killed 137"));
}

pub fn leftovers_in_the_host_pid_namespace_are_killed() {
    let mut fixture = Fixture::new();
    let id = fresh_id();
    let mut spec = container_spec(&id, &["sh", "-c", "sleep 1000 & exit 3"]);
    spec.linux.namespaces.retain(|namespace| namespace.kind != NamespaceKind::Pid);
    fixture.start(&id, spec, How::default()).unwrap();
    assert_eq!(fixture.exit_of(&id).status, ExitStatus::Code(3));
    assert!(!cgroup_exists(&id));
}

pub fn nothing_is_left_of_forgotten_containers() {
    const RUNS: usize = 30;
    let mut fixture = Fixture::new();
    let keeper = fixture.client.keeper_pid();
    let open_files = || std::fs::read_dir(format!("/proc/{keeper}/fd")).unwrap().count();
    let before = open_files();
    for _ in 0..RUNS {
        let id = fresh_id();
        let _never_started = fixture.attach(Target::exec(id.clone(), ExecId::from_bytes([7; 32])), true);
        let socket = fixture.attach(Target::container(id.clone()), true);
        let started = fixture.start(&id, container_spec(&id, &["true"]), with_stdin(true)).unwrap();
        fixture.exit_of(&id);
        drop((started, frames(socket)));
        let late = fixture.attach(Target::container(id.clone()), true);
        fixture.client.forget(&Target::container(id.clone())).unwrap();
        assert_eq!(frames(late), (String::new(), String::new()));
        fixture.client.forget(&Target::exec(id.clone(), ExecId::from_bytes([7; 32]))).unwrap();
        assert!(!cgroup_exists(&id));
    }
    assert_eq!(open_files(), before);
    // Orphans of the host's pid namespace fall to the keeper, which reaps them.
    let id = fresh_id();
    let mut spec = container_spec(
        &id,
        &["sh", "-c", "for i in 1 2 3; do (sleep 0.01 &); done; sleep 0.2; echo x >&2; sleep 1000"],
    );
    spec.linux.namespaces.retain(|namespace| namespace.kind != NamespaceKind::Pid);
    let mut socket = fixture.attach(Target::container(id.clone()), false);
    fixture.start(&id, spec, How::default()).unwrap();
    read_until(&mut socket, "x");
    let children = std::fs::read_to_string(format!("/proc/{keeper}/task/{keeper}/children")).unwrap();
    assert_eq!(children.split_whitespace().count(), 1, "{children}");
}

/// CVE-2019-5736: a container holds the keeper's binary open until the keeper has ended, then writes to it. Guard:
/// `own_exe::make_read_only`. With a copy of this binary, as this one is busy for as long as the test runs.
pub fn the_keepers_binary_cannot_be_written() {
    let dir = tempfile::tempdir().unwrap();
    let binary = dir.path().join("naru");
    std::fs::copy(std::env::current_exe().unwrap(), &binary).unwrap();
    naru_runtime::keeper::launch(&binary, dir.path()).unwrap();
    let (client, _notices) = connect(dir.path());
    let held = std::fs::File::open(format!("/proc/{}/exe", client.keeper_pid())).unwrap();
    let keeper = naru_kernel::pidfd::open(client.keeper_pid()).unwrap();
    client.shutdown().unwrap();
    let mut ended = [rustix::event::PollFd::new(&keeper, rustix::event::PollFlags::IN)];
    rustix::event::poll(&mut ended, None).unwrap();
    let write = |path: &Path| std::fs::OpenOptions::new().write(true).open(path);
    let again = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&held));
    let error = write(Path::new(&again)).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem, "{error}");
    // The host itself can still replace or write it.
    write(&binary).unwrap();
}

pub fn a_second_keeper_gives_way() {
    let fixture = Fixture::new();
    let exe = std::env::current_exe().unwrap();
    let status =
        std::process::Command::new(exe).args(["keeper", "--run"]).arg(fixture.dir.path()).status().unwrap();
    assert!(status.success());
    let id = fresh_id();
    let root = crate::common::Root::new();
    let target = Target::container(id.clone());
    // A log that cannot be opened is the start's failure, told with its path.
    let mut request =
        prepare(fixture.dir.path(), &id, &root, &container_spec(&id, &["true"]), How::default());
    request.log = Some(LogFile { path: "/proc/nowhere/log".into(), file_bytes_max: 0, files_max: 1 });
    let error = fixture.client.start(request, StartNamespaces::default()).unwrap_err();
    assert!(error.to_string().contains("/proc/nowhere/log"), "{error}");
    assert!(matches!(fixture.client.hold(&target), Err(ClientError::Refused { .. })));
}

pub fn garbage_is_refused_and_survived() {
    let mut fixture = Fixture::new();
    let (id, _) = fixture.start_sh("sleep 1000", How::default());
    let hostile = naru_kernel::unix::seqpacket_connect(&socket_path(fixture.dir.path())).unwrap();
    // Nothing but a greeting comes first.
    naru_kernel::unix::send(&hostile, br#"{"seq":1,"body":"shutdown"}"#, &[]).unwrap();
    assert!(answer(&hostile).contains("hello"));
    for (versions, wanted) in [
        (r#""version":0"#, "this keeper speaks protocol"),
        (r#""version":9,"version_min":9"#, "this keeper speaks protocol"),
        (r#""version":9,"version_min":1"#, r#""hello":{"version":2"#),
    ] {
        let hello = format!(r#"{{"seq":1,"body":{{"hello":{{{versions}}}}}}}"#);
        naru_kernel::unix::send(&hostile, hello.as_bytes(), &[]).unwrap();
        let text = answer(&hostile);
        assert!(text.contains(wanted), "{text}");
    }
    let null = std::fs::File::open("/dev/null").unwrap();
    let fd = std::os::fd::AsFd::as_fd(&null);
    let too_long = vec![b'['; MESSAGE_LEN_MAX + 1];
    let nested = "[".repeat(MESSAGE_LEN_MAX);
    let attach = format!(
        r#"{{"seq":1,"fds":[],"body":{{"attach":{{"target":{{"id":"{id}"}},"stdin":true,"stdout":true,"stderr":true}}}}}}"#
    );
    let exec = format!(
        r#"{{"seq":2,"fds":[],"body":{{"exec":{{"id":"{id}","exec_id":"{id}","process_file":"../../../etc/passwd","stdio":{{}}}}}}}}"#
    );
    let messages: [(&[u8], usize); 7] = [
        (b"\0", 0),
        (b"{}", 3),
        (br#"{"seq":1,"fds":["netns"],"body":"shutdown"}"#, 0),
        (br#"{"seq":1,"body":{"signal":{"target":{"id":"zz"},"signal":9}}}"#, 1),
        (nested.as_bytes(), 0),
        (attach.as_bytes(), 0),
        (exec.as_bytes(), 0),
    ];
    for (message, fds) in messages {
        naru_kernel::unix::send(&hostile, message, &vec![fd; fds]).unwrap();
        let text = answer(&hostile);
        assert!(text.contains("malformed") || text.contains("start-failed"), "{text}");
    }
    naru_kernel::unix::send(&hostile, &too_long, &[]).unwrap();
    drop(hostile);
    let entries = fixture.client.list().unwrap();
    assert!(entries.len() == 1 && entries[0].exit.is_none());
    // A daemon that asks without end and never reads is let go, nobody else is.
    let deaf = naru_kernel::unix::seqpacket_connect(&socket_path(fixture.dir.path())).unwrap();
    naru_kernel::unix::send(&deaf, br#"{"seq":1,"body":{"hello":{"version":1}}}"#, &[]).unwrap();
    while naru_kernel::unix::send(&deaf, br#"{"seq":1,"body":{"list":{"after":null}}}"#, &[]).is_ok() {}
    assert_eq!(fixture.client.list().unwrap().len(), 1);
}

fn answer(socket: &std::os::fd::OwnedFd) -> String {
    let mut buffer = vec![0; MESSAGE_LEN_MAX];
    let received = naru_kernel::unix::recv(socket, &mut buffer).unwrap();
    String::from_utf8_lossy(&buffer[..received.len]).into_owned()
}

pub fn exec(fixture: &Fixture, target: &Target, script: &str, stdio: StdioSpec) -> Result<(), StartError> {
    let mut process = container_spec(&target.id, &["sh", "-c", script]).process;
    process.terminal = stdio.tty;
    let exec_id = target.exec_id.as_ref().unwrap();
    fixture
        .client
        .exec(&Exec { id: &target.id, exec_id, process: &process, privileged: false, stdio })
        .map(drop)
}

pub fn cgroup_exists(id: &naru_types::ContainerId) -> bool {
    let path = cgroup_path(id);
    ["", "memory", "pids", "freezer", "unified"]
        .iter()
        .any(|hierarchy| Path::new("/sys/fs/cgroup").join(hierarchy).join(&path).exists())
}
