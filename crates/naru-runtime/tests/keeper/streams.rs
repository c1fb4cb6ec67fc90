//! Output, input, logs.

use crate::fixture::*;
use naru_runtime::keeper::protocol::{ExitStatus, StdioSpec, Target};
use naru_types::logrec::Stream;
use naru_types::signal::Signal;
use std::io::Write;
use std::net::Shutdown;

pub fn a_million_lines_are_whole_across_rotations() {
    const LINES: u32 = 1_000_000;
    const FILE_BYTES_MAX: u64 = 4 << 20;
    let mut fixture = Fixture::new();
    let id = fresh_id();
    let spec = container_spec(&id, &["busybox", "seq", "1", &LINES.to_string()]);
    let how = How { file_bytes_max: FILE_BYTES_MAX, files_max: 20, ..How::default() };
    fixture.start(&id, spec, how).unwrap();
    assert_eq!(fixture.exit_of(&id).status, ExitStatus::Code(0));
    let log = fixture.bundle(&id).join("log");
    let text = log_text(&log, Stream::Stdout);
    assert!(
        text.lines().eq((1..=LINES).map(|n| n.to_string())),
        "lines are missing, doubled or out of order"
    );
    for n in 1..=5 {
        let len = std::fs::metadata(format!("{}.{n}", log.display())).unwrap().len();
        assert!(len <= FILE_BYTES_MAX, "log.{n} has {len} bytes");
    }
}

pub fn an_early_client_gets_the_first_byte_and_stdin_closes_once() {
    let mut fixture = Fixture::new();
    let id = fresh_id();
    let mut socket = fixture.attach(Target::container(id.clone()), true);
    socket.write_all(b"typed before the start\n").unwrap();
    let started = fixture
        .start(
            &id,
            container_spec(&id, &["sh", "-c", "echo first; echo second >&2; cat; exit 5"]),
            with_stdin(true),
        )
        .unwrap();
    socket.write_all(b"typed after it").unwrap();
    socket.shutdown(Shutdown::Write).unwrap();
    let (out, err) = frames(socket);
    assert_eq!(out, "first\ntyped before the start\ntyped after it");
    assert_eq!(err, "second\n");
    assert_eq!(fixture.exit_of(&id).status, ExitStatus::Code(5));
    assert!(!started.fds.stdin.is_open());
    let log = fixture.bundle(&id).join("log");
    assert_eq!(log_text(&log, Stream::Stdout), out);
    assert_eq!(log_text(&log, Stream::Stderr), err);
}

pub fn an_early_client_that_hangs_up_is_let_go() {
    let mut fixture = Fixture::new();
    let (running, _held) = fixture.start_sh("read a", with_stdin(true));
    let keeper = fixture.client.keeper_pid();
    let before = open_files(keeper);
    let target = Target::container(fresh_id());
    let mut staying = fixture.attach(target.clone(), true);
    let half = fixture.attach(target.clone(), true);
    half.shutdown(Shutdown::Write).unwrap();
    let leaving = fixture.attach(target, true);
    assert_eq!(open_files(keeper), before + 3);
    drop(leaving);
    // One that has said all it had to say still listens.
    wait_for_open_files(keeper, before + 2);
    staying.write_all(b"here").unwrap();
    drop((staying, half));
    // Without any request in between.
    wait_for_open_files(keeper, before);
    fixture.client.signal(&Target::container(running), Signal::KILL).unwrap();
}

pub fn stdin_stays_open_for_the_next_client() {
    let mut fixture = Fixture::new();
    let (id, _started) = fixture.start_sh("cat", with_stdin(false));
    let target = Target::container(id.clone());
    for text in ["one\n", "two\n"] {
        let mut socket = fixture.attach(target.clone(), true);
        socket.write_all(text.as_bytes()).unwrap();
        socket.shutdown(Shutdown::Write).unwrap();
        read_until(&mut socket, text);
    }
    fixture.client.close_stdin(&target).unwrap();
    assert_eq!(fixture.exit_of(&id).status, ExitStatus::Code(0));
    assert_eq!(log_text(&fixture.bundle(&id).join("log"), Stream::Stdout), "one\ntwo\n");
}

pub fn a_client_that_does_not_read_stops_only_its_container() {
    let mut fixture = Fixture::new();
    let loud = fresh_id();
    let socket = fixture.attach(Target::container(loud.clone()), false);
    let how = How { file_bytes_max: 1 << 20, files_max: 2, ..How::default() };
    fixture
        .start(
            &loud,
            container_spec(&loud, &["sh", "-c", "busybox yes | head -n 1000000; echo over"]),
            how.clone(),
        )
        .unwrap();
    // The other one comes and goes while the loud one waits for its client.
    let (quiet, _) = fixture.start_sh("echo quiet", How::default());
    assert_eq!(fixture.exit_of(&quiet).status, ExitStatus::Code(0));
    assert!(
        fixture.client.list().unwrap().iter().any(|entry| entry.target.id == loud && entry.exit.is_none())
    );
    // Without its client it goes on.
    drop(socket);
    assert_eq!(fixture.exit_of(&loud).status, ExitStatus::Code(0));
    assert!(log_text(&fixture.bundle(&loud).join("log"), Stream::Stdout).ends_with("y\nover\n"));

    // And a client that reads late gets everything.
    let late = fresh_id();
    let socket = fixture.attach(Target::container(late.clone()), false);
    fixture.start(&late, container_spec(&late, &["sh", "-c", "busybox yes | head -n 1000000"]), how).unwrap();
    let (out, _) = frames(socket);
    assert_eq!(out.len(), 2_000_000);
    fixture.exit_of(&late);
}

pub fn input_waits_for_the_process() {
    const BYTES: usize = 20 << 20;
    let mut fixture = Fixture::new();
    let id = fresh_id();
    let mut socket = fixture.attach(Target::container(id.clone()), true);
    let _started = fixture
        .start(&id, container_spec(&id, &["sh", "-c", "sleep 0.2; busybox wc -c"]), with_stdin(true))
        .unwrap();
    socket.write_all(&vec![b'x'; BYTES]).unwrap();
    socket.shutdown(Shutdown::Write).unwrap();
    assert_eq!(frames(socket).0.trim(), BYTES.to_string());
    assert_eq!(fixture.exit_of(&id).status, ExitStatus::Code(0));
}

pub fn a_terminal_echoes_and_resizes() {
    let mut fixture = Fixture::new();
    let id = fresh_id();
    let target = Target::container(id.clone());
    let mut socket = fixture.attach(target.clone(), true);
    let stdio = StdioSpec { tty: true, rows: 24, cols: 80, open_stdin: true, stdin_once: true };
    let mut spec = container_spec(&id, &["sh"]);
    spec.process.terminal = true;
    let started = fixture.start(&id, spec, How { stdio, ..How::default() }).unwrap();
    assert!(started.fds.pty.is_some() && started.fds.stdout.is_none());
    socket.write_all(b"stty size\n").unwrap();
    read_until(&mut socket, "24 80");
    fixture.client.resize(&target, 50, 132).unwrap();
    socket.write_all(b"stty size\n").unwrap();
    read_until(&mut socket, "50 132");
    socket.write_all(b"exit 7\n").unwrap();
    assert_eq!(fixture.exit_of(&id).status, ExitStatus::Code(7));
    assert!(log_text(&fixture.bundle(&id).join("log"), Stream::Stdout).contains("50 132\r\n"));
}
