//! The keeper killed, the daemon killed, and how much memory an idle keeper takes.

use crate::common::Root;
use crate::fixture::*;
use naru_runtime::keeper::client::{StartNamespaces, Started};
use naru_runtime::keeper::protocol::{AdoptRequest, ExitStatus, StartRequest, StdioSpec, Target};
use naru_types::ExecId;
use naru_types::logrec::Stream;
use naru_types::signal::Signal;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Kilobytes; the whole budget of a keeper without containers is 2 MB.
const IDLE_KB_MAX: u64 = 2048;
/// Kilobytes that one more container may cost.
const CONTAINER_KB_MAX: u64 = 64;

pub fn a_killed_keeper_loses_no_line_and_no_exit_code() {
    const LINES: u32 = 300_000;
    const KILLS: usize = 20;
    let mut fixture = Fixture::new();
    let script = format!("busybox seq 1 {LINES}; exit 42");
    let how = How { file_bytes_max: 1 << 20, files_max: 50, ..How::default() };
    let (id, started) = fixture.start_sh(&script, how);
    let log = fixture.log(&id);
    let log = naru_runtime::keeper::protocol::LogFile { file_bytes_max: 1 << 20, files_max: 50, ..log };
    let mut in_flight = 0;
    for _ in 0..KILLS {
        fixture.kill_keeper();
        in_flight += usize::from(
            std::fs::metadata(fixture.dir.path().join("keeper.spool")).is_ok_and(|meta| meta.len() > 4096),
        );
        fixture.reconnect();
        fixture.adopt(&id, (started.pid, started.started_at), Some(log.clone()), &started.fds);
    }
    assert_exit(fixture.exit_of(&id).status, ExitStatus::Code(42));
    println!("  {KILLS} kills, {in_flight} of them between taking and writing");
    let text = log_text(&log.path, Stream::Stdout);
    assert!(
        text.lines().eq((1..=LINES).map(|n| n.to_string())),
        "lines are missing, doubled or out of order"
    );

    // Ended while no keeper was there.
    let (id, started) = fixture.start_sh("sleep 1000", How::default());
    fixture.kill_keeper();
    naru_kernel::pidfd::send_signal(started.fds.pidfd.as_ref().unwrap(), Signal(10)).unwrap();
    naru_kernel::pidfd::send_signal(started.fds.pidfd.as_ref().unwrap(), Signal::KILL).unwrap();
    fixture.reconnect();
    let log = fixture.log(&id);
    fixture.adopt(&id, (started.pid, started.started_at), Some(log), &started.fds);
    assert_exit(fixture.exit_of(&id).status, ExitStatus::Signal(9));
}

/// A terminal's output and an exec's session go on with the next keeper, which has the daemon's duplicates.
pub fn a_killed_keeper_loses_no_terminal_and_no_exec() {
    const LINES: u32 = 20_000;
    const KILLS: usize = 15;
    let mut fixture = Fixture::new();
    let stdio = StdioSpec { tty: true, open_stdin: true, ..StdioSpec::default() };
    let script = format!("stty -onlcr; busybox seq 1 {LINES}; read a; exit 42");
    let (id, started) = fixture.start_sh(&script, How { stdio, ..How::default() });
    let exec_id = ExecId::from_bytes([8; 32]);
    let exec = Target::exec(id.clone(), exec_id.clone());
    let mut process = container_spec(&id, &["sh", "-c", "read a; exit 5"]).process;
    process.terminal = false;
    let session = StdioSpec { open_stdin: true, ..StdioSpec::default() };
    let request = naru_runtime::keeper::client::Exec {
        id: &id,
        exec_id: &exec_id,
        process: &process,
        privileged: false,
        stdio: session,
    };
    let executed = fixture.client.exec(&request).unwrap();
    let log = fixture.log(&id);
    for _ in 0..KILLS {
        fixture.kill_keeper();
        fixture.reconnect();
        let bundle = fixture.bundle(&id);
        let request = |exec_id, started: &Started, stdio, log| AdoptRequest {
            id: id.clone(),
            exec_id,
            pid: started.pid,
            started_at: started.started_at,
            bundle: bundle.clone(),
            stdio,
            log,
            paused: false,
        };
        fixture.client.adopt(request(None, &started, stdio, Some(log.clone())), &started.fds).unwrap();
        fixture
            .client
            .adopt(request(Some(exec_id.clone()), &executed, session, None), &executed.fds)
            .unwrap();
    }
    let mut client = fixture.attach(exec.clone(), true);
    client.write_all(b"answer\n").unwrap();
    assert_exit(fixture.exit(&exec).status, ExitStatus::Code(5));
    let mut screen = fixture.attach(Target::container(id.clone()), true);
    screen.write_all(b"\n").unwrap();
    assert_exit(fixture.exit_of(&id).status, ExitStatus::Code(42));
    let text = log_text(&log.path, Stream::Stdout).replace('\r', "");
    let lines: Vec<&str> = text.lines().take(LINES as usize).collect();
    assert!(
        lines.iter().map(|line| (*line).to_owned()).eq((1..=LINES).map(|n| n.to_string())),
        "lines are missing, doubled or out of order: {} of them",
        lines.len()
    );
}

/// Both are killed while a container writes: nothing reads for a while, nothing is lost, nothing dies of SIGPIPE.
pub fn keeper_and_daemon_killed_together_lose_no_line() {
    const LINES: u32 = 100_000;
    let mut fixture = Fixture::new();
    // It ends only when somebody reads again: a pipe's content goes with its last process.
    let script = format!(
        "trap 'end=1' USR1; busybox seq 1 {LINES}; busybox seq 1 50 >&2; while [ -z $end ]; do sleep 0.05; done; exit 42"
    );
    let (id, started) = fixture.start_sh(&script, How::default());
    let log = fixture.log(&id);
    let Started { pid, started_at, fds, .. } = started;
    let mut held = fds;
    for _ in 0..10 {
        // Nothing of the daemon's is left but what it can find again: the number, verified by the cgroup.
        drop(held);
        fixture.kill_keeper();
        fixture.reconnect();
        let pidfd = naru_kernel::pidfd::open(pid).unwrap();
        held = naru_runtime::keeper::held::HeldFds { pidfd: Some(pidfd), ..Default::default() };
        fixture.adopt(&id, (pid, started_at), Some(log.clone()), &held);
    }
    fixture.client.signal(&Target::container(id.clone()), Signal(10)).unwrap();
    assert_exit(fixture.exit_of(&id).status, ExitStatus::Code(42));
    let text = log_text(&log.path, Stream::Stdout);
    assert!(text.lines().eq((1..=LINES).map(|n| n.to_string())), "{} lines", text.lines().count());
    let text = log_text(&log.path, Stream::Stderr);
    assert!(text.lines().eq((1..=50).map(|n| n.to_string())), "{text}");
}

/// Before Linux 6.15 nobody but the parent learns how a process ended, and the parent was killed.
fn assert_exit(status: ExitStatus, expect: ExitStatus) {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    let kernel = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    assert!(status == expect || (kernel < (6, 15) && status == ExitStatus::Unknown), "{status:?}");
}

pub fn a_killed_daemon_changes_nothing() {
    let mut fixture = Fixture::new();
    let root = Root::new();
    let id = fresh_id();
    let spec = container_spec(&id, &["sh", "-c", "echo before; cat; echo after; exit 9"]);
    let request = prepare(fixture.dir.path(), &id, &root, &spec, with_stdin(false));
    let mut daemon = spawn_daemon(fixture.dir.path(), &request);
    let mut line = String::new();
    BufReader::new(daemon.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    let entries = fixture.client.list().unwrap();
    assert_eq!(entries.len(), 1);
    assert!(entries[0].exit.is_none());
    let target = entries[0].target.clone();
    let held = fixture.client.hold(&target).unwrap();
    assert_eq!(held.pid.to_string(), line.trim());
    // What it says after the daemon's end is logged, and its stdin still works.
    assert!(held.fds.stdin.is_open());
    fixture.client.close_stdin(&target).unwrap();
    assert_eq!(fixture.exit(&target).status, ExitStatus::Code(9));
    assert_eq!(log_text(&fixture.bundle(&target.id).join("log"), Stream::Stdout), "before\nafter\n");
}

/// Starts a container, says its pid and waits to be killed.
/// A process that connects, starts what it was given, tells the number and waits to be killed.
pub fn spawn_daemon(run_dir: &Path, request: &StartRequest) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .arg("daemon")
        .arg(run_dir)
        .arg(serde_json::to_string(request).unwrap())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

pub fn be_the_daemon(args: &[String]) {
    let (client, _notices) = connect(Path::new(&args[1]));
    let request = serde_json::from_str(&args[2]).unwrap();
    let started = client.start(request, StartNamespaces::default()).unwrap();
    println!("{}", started.pid);
    loop {
        std::thread::park();
    }
}

/// P4: 2 MB, and 64 kB per container, of what is the keeper's alone: the program's clean pages are the daemon's as well. The slope between few and many containers, as the first one also pays for buffers
/// that all share. `NARU_KEEPER_CONTAINERS` measures with more.
pub fn a_keeper_is_small() {
    const FEW: usize = 10;
    let more = std::env::var("NARU_KEEPER_CONTAINERS").ok().and_then(|text| text.parse().ok());
    let more: usize = more.unwrap_or(40).min(150);
    let mut fixture = Fixture::new();
    let keeper = fixture.client.keeper_pid();
    let idle = dirty_kb(keeper);
    let mut held = Vec::new();
    let mut start = |fixture: &mut Fixture, count: usize| {
        held.extend((0..count).map(|_| fixture.start_sh("echo up; sleep 1000", with_stdin(true))));
        dirty_kb(keeper)
    };
    let few = start(&mut fixture, FEW);
    let many = start(&mut fixture, more);
    let each = many.saturating_sub(few) / more as u64;
    println!(
        "  keeper: {idle} kB private dirty idle, {few} kB with {FEW} containers, {many} kB with {}: {each} kB each",
        FEW + more
    );
    assert!(idle <= IDLE_KB_MAX, "{idle} kB");
    assert!(each <= CONTAINER_KB_MAX, "{each} kB");
    for (id, _) in &held {
        fixture.client.signal(&Target::container(id.clone()), Signal::KILL).unwrap();
        fixture.exit_of(id);
    }
}

fn dirty_kb(pid: i32) -> u64 {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = rollup.lines().find(|line| line.starts_with("Private_Dirty:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
