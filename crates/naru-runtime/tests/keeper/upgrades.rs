//! Another program takes the keeper's place, and a stop that outlives its daemon.

use crate::fixture::*;
use naru_runtime::keeper::client::ClientError;
use naru_runtime::keeper::protocol::{ExitStatus, LogFile, Refusal, StdioSpec, Target};
use naru_types::ExecId;
use naru_types::logrec::Stream;
use naru_types::signal::Signal;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Duration;

/// This binary under another name.
fn copy(fixture: &Fixture, name: &str) -> PathBuf {
    let path = fixture.dir.path().join(name);
    std::fs::copy(std::env::current_exe().unwrap(), &path).unwrap();
    path
}

fn upgrade(fixture: &Fixture, program: &std::path::Path) -> Result<(), ClientError> {
    fixture.client.upgrade(File::open(program).unwrap().as_fd())
}

/// Two loud containers, a terminal, an exec, an attached client that is behind, an ended container and a held stdin
/// go through twenty upgrades.
pub fn an_upgrade_loses_nothing() {
    const LINES: u32 = 300_000;
    const UPGRADES: u32 = 20;
    let mut fixture = Fixture::new();
    let keeper = fixture.client.keeper_pid();
    let programs = ["one", "two"].map(|name| copy(&fixture, name));
    let how = How { file_bytes_max: 1 << 20, files_max: 50, ..How::default() };
    let (loud, _held) = fixture.start_sh(
        &format!("read go; busybox seq 1 {LINES}; exit 42"),
        How { stdio: with_stdin(true).stdio, ..how },
    );
    let mut behind = fixture.attach(Target::container(loud.clone()), true);
    let (quiet, _held) = fixture.start_sh("cat; echo done; exit 7", with_stdin(true));
    let mut input = fixture.attach(Target::container(quiet.clone()), true);
    let tty = How {
        stdio: StdioSpec { tty: true, open_stdin: true, rows: 10, cols: 20, ..StdioSpec::default() },
        ..How::default()
    };
    let (terminal, _held) = fixture.start_sh("stty size; read a; echo got $a; read b", tty);
    let mut screen = fixture.attach(Target::container(terminal.clone()), true);
    wait_for_log(&fixture.log(&terminal), "10 20\r\n");
    let exec_id = ExecId::from_bytes([9; 32]);
    let exec = Target::exec(quiet.clone(), exec_id);
    let mut session = fixture.attach(exec.clone(), true);
    crate::lives::exec(&fixture, &exec, "read a; echo exec $a; exit 5", with_stdin(true).stdio).unwrap();
    let (ended, _held) = fixture.start_sh("exit 3", How::default());
    assert_eq!(fixture.exit_of(&ended).status, ExitStatus::Code(3));
    let early = fixture.attach(Target::container(fresh_id()), false);

    behind.write_all(b"go\n").unwrap();
    let children = || std::fs::read_to_string(format!("/proc/{keeper}/task/{keeper}/children")).unwrap();
    let before = (children(), open_files(keeper));
    for n in 0..UPGRADES {
        let build = fixture.client.keeper_build();
        upgrade(&fixture, &programs[n as usize % 2]).unwrap();
        assert_ne!(fixture.client.keeper_build(), build);
        input.write_all(format!("line {n}\n").as_bytes()).unwrap();
        // Something is read in between, so that the loud one goes on; the rest waits.
        behind.read_exact(&mut [0; 4096]).unwrap();
    }
    assert_eq!(fixture.client.keeper_pid(), keeper);
    assert_eq!((children(), open_files(keeper)), before);
    let comm = std::fs::read_to_string(format!("/proc/{keeper}/comm")).unwrap();
    assert_eq!(comm.trim(), "naru-keeper");

    // The client that was behind has got every byte, and so has the log.
    let rest = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        behind.read_to_end(&mut bytes).unwrap();
        bytes.len()
    });
    assert_eq!(fixture.exit_of(&loud).status, ExitStatus::Code(42));
    let text = log_text(&fixture.log(&loud).path, Stream::Stdout);
    assert!(
        text.lines().eq((1..=LINES).map(|n| n.to_string())),
        "lines are missing, doubled or out of order"
    );
    let read = rest.join().unwrap() + 4096 * UPGRADES as usize;
    assert!(read > text.len(), "{read} of {} bytes and their frames", text.len());

    input.shutdown(std::net::Shutdown::Write).unwrap();
    let lines: String = (0..UPGRADES).map(|n| format!("line {n}\n")).collect();
    assert_eq!(frames(input), (format!("{lines}done\n"), String::new()));
    // The exec went with its container's end or answers before: it is asked first.
    let _ = session.write_all(b"answer\n");
    assert_eq!(fixture.exit_of(&quiet).status, ExitStatus::Code(7));
    drop(session);
    fixture.client.resize(&Target::container(terminal.clone()), 30, 40).unwrap();
    screen.write_all(b"me\n").unwrap();
    read_until(&mut screen, "got me");
    screen.write_all(b"\n").unwrap();
    assert_eq!(fixture.exit_of(&terminal).status, ExitStatus::Code(0));
    drop(early);
    assert_eq!(fixture.client.list().unwrap().iter().filter(|entry| entry.exit.is_none()).count(), 0);
}

pub fn an_upgrade_that_cannot_be_is_refused() {
    let mut fixture = Fixture::new();
    let (id, _held) = fixture.start_sh("read a; echo $a", with_stdin(true));
    let mut client = fixture.attach(Target::container(id.clone()), true);
    let keeper = fixture.client.keeper_pid();
    let before = open_files(keeper);
    let script = fixture.dir.path().join("script");
    std::fs::write(&script, "no program").unwrap();
    for (program, words) in [
        (copy(&fixture, OLDER), "the state has version 1, this program takes 0 to 0"),
        (PathBuf::from("/bin/false"), "exit status: 1"),
        (script, "cannot run the new program's check"),
    ] {
        match upgrade(&fixture, &program) {
            Err(ClientError::Refused { reason: Refusal::Version, message }) => {
                assert!(message.contains(words), "{message}");
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(open_files(keeper), before);
    // Nothing leaks into what is started afterwards either.
    let (_, _) = (fixture.start_sh("true", How::default()), ());
    client.write_all(b"still here\n").unwrap();
    read_until(&mut client, "still here");
    assert_eq!(fixture.exit_of(&id).status, ExitStatus::Code(0));
}

/// Containers end while one program follows another without a pause.
pub fn an_exit_during_the_upgrade_is_told() {
    const CONTAINERS: usize = 40;
    let mut fixture = Fixture::new();
    let programs = ["one", "two"].map(|name| copy(&fixture, name));
    let ids: Vec<_> = (0..CONTAINERS)
        .map(|n| {
            let id = naru_types::ContainerId::from_bytes([100 + n as u8; 32]);
            let script = format!("read go; exit {n}");
            let spec = container_spec(&id, &["sh", "-c", &script]);
            let started = fixture.start(&id, spec, with_stdin(true)).unwrap();
            (id, started)
        })
        .collect();
    // Each one's stdin is held here too; what ends them is written past the keeper.
    for (n, (_, started)) in ids.iter().enumerate() {
        let signal = naru_kernel::pidfd::send_signal(started.fds.pidfd.as_ref().unwrap(), Signal::KILL);
        signal.unwrap();
        if n % 4 == 0 {
            upgrade(&fixture, &programs[n / 4 % 2]).unwrap();
        }
    }
    for (id, _) in &ids {
        assert_eq!(fixture.exit_of(id).status, ExitStatus::Signal(9));
    }
}

pub fn a_stop_becomes_a_kill_without_its_daemon() {
    let mut fixture = Fixture::new();
    let program = copy(&fixture, "one");
    let (stubborn, _held) =
        fixture.start_sh("trap '' TERM; echo up; while :; do sleep 1; done", How::default());
    let (meek, _held) =
        fixture.start_sh("trap 'exit 4' TERM; echo up; while :; do sleep 0.01; done", How::default());
    for id in [&stubborn, &meek] {
        wait_for_log(&fixture.log(id), "up\n");
        let target = Target::container(id.clone());
        fixture.client.stop(&target, Signal::TERM, Some(Duration::from_millis(300))).unwrap();
    }
    // The daemon goes (its connection does), the program changes, the timer stays.
    upgrade(&fixture, &program).unwrap();
    fixture.reconnect();
    assert_eq!(fixture.exit_of(&stubborn).status, ExitStatus::Signal(9));
    let ended = |entry: &naru_runtime::keeper::protocol::ProcessEntry| entry.exit.map(|exit| exit.status);
    let entries = fixture.client.list().unwrap();
    let meek = entries.iter().find(|entry| entry.target.id == meek).unwrap();
    assert_eq!(ended(meek), Some(ExitStatus::Code(4)));
}

fn wait_for_log(log: &LogFile, text: &str) {
    let inotify = naru_kernel::inotify::Inotify::new().unwrap();
    inotify.add(&log.path, naru_kernel::inotify::Watch::MODIFY).unwrap();
    while log_text(&log.path, Stream::Stdout) != text {
        let mut polled = [rustix::event::PollFd::new(&inotify, rustix::event::PollFlags::IN)];
        rustix::event::poll(&mut polled, None).unwrap();
        let _ = inotify.drain();
    }
}
