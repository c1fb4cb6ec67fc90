//! `kill -9` of the daemon and of the keeper in the middle of work.

use crate::lab::{Lab, SOON, wait_for};
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

pub const TESTS: &[(&str, fn(&Lab))] = &[
    ("daemon_killed_under_load", daemon_killed),
    ("keeper_killed", keeper_killed),
    ("daemon_and_keeper_killed", both_killed),
    ("exits_while_the_daemon_is_away", away),
];

const LINES: usize = 20_000;

/// Requests and a log stream run; the daemon is killed twice. The service answers all along, no line is lost.
fn daemon_killed(lab: &Lab) {
    lab.ok(&[
        "run",
        "-d",
        "--name",
        "web",
        "-p",
        "18090:80",
        "busybox",
        "sh",
        "-c",
        "mkdir /www; echo afloat > /www/index.html; exec httpd -f -p 80 -h /www",
    ]);
    let script =
        format!("i=0; while [ $i -lt {LINES} ]; do i=$((i+1)); echo line $i; done; echo done; sleep 1000");
    lab.ok(&["run", "-d", "--name", "talker", "busybox", "sh", "-c", &script]);
    wait_for("the web server", || lab.sh("curl -sm 2 http://127.0.0.1:18090/").stdout == "afloat\n");
    let (stop, answered, failed) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Acquire) {
                let good = lab.sh("curl -sm 2 http://127.0.0.1:18090/").stdout == "afloat\n";
                (if good { &answered } else { &failed }).fetch_add(1, Ordering::Relaxed);
            }
        });
        for _ in 0..2 {
            let mut follower = lab
                .docker_command(&["logs", "-f", "talker"])
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
            lines.nth(100);
            lab.kill_daemon();
            let _ = follower.kill();
            let _ = follower.wait();
            lab.start_daemon();
        }
        let enough = answered.load(Ordering::Relaxed) + 20;
        let deadline = Instant::now() + SOON;
        while answered.load(Ordering::Relaxed) < enough && Instant::now() < deadline {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        stop.store(true, Ordering::Release);
    });
    println!(
        "  {} requests answered, {} failed while the daemon was killed twice",
        answered.load(Ordering::Relaxed),
        failed.load(Ordering::Relaxed)
    );
    assert_eq!(failed.load(Ordering::Relaxed), 0);
    wait_for("the last line", || lab.docker(&["logs", "--tail", "1", "talker"]).stdout == "done\n");
    let logs = lab.ok(&["logs", "talker"]);
    let expected: Vec<String> = (1..=LINES).map(|i| format!("line {i}")).chain(["done".into()]).collect();
    assert!(
        logs.lines().eq(expected.iter().map(String::as_str)),
        "lines were lost or doubled: {}",
        logs.lines().count()
    );
    let names = lab.ok(&["ps", "--format", "{{.Names}} {{.State}}"]);
    assert!(names.contains("web running") && names.contains("talker running"), "{names}");
    assert_eq!(lab.ok(&["exec", "web", "echo", "alive"]), "alive");
    lab.ok(&["rm", "-f", "web", "talker"]);
}

/// Containers go on without the keeper; the exit code afterwards is right, or said to be unknown.
fn keeper_killed(lab: &Lab) {
    lab.ok(&[
        "run",
        "-d",
        "--name",
        "lasting",
        "busybox",
        "sh",
        "-c",
        "i=0; while [ ! -e /stop ]; do i=$((i+1)); echo $i; sleep 0.05; done; exit 5",
    ]);
    let pid = lab.ok(&["inspect", "-f", "{{.State.Pid}}", "lasting"]);
    let keeper = lab.keeper_pid().expect("a keeper runs");
    lab.sh(&format!("kill -9 {keeper}"));
    wait_for("a new keeper", || lab.keeper_pid().is_some_and(|pid| pid != keeper));
    assert_eq!(
        lab.ok(&["inspect", "-f", "{{.State.Status}} {{.State.Pid}}", "lasting"]),
        format!("running {pid}")
    );
    let count = || lab.ok(&["logs", "lasting"]).lines().count();
    let before = count();
    wait_for("the log to go on", || count() > before + 5);
    let logs = lab.ok(&["logs", "lasting"]);
    assert!(
        logs.lines().enumerate().all(|(index, line)| line == (index + 1).to_string()),
        "a line is missing: {logs}"
    );
    assert_eq!(lab.ok(&["exec", "lasting", "touch", "/stop"]), "");
    wait_for("the end", || lab.ok(&["inspect", "-f", "{{.State.Status}}", "lasting"]) == "exited");
    let end = lab.ok(&["inspect", "-f", "{{.State.ExitCode}} {{.State.Error}}", "lasting"]);
    println!("  exit after the keeper was killed: {end:?} (the process ended with 5)");
    assert!(end == "5 " || end == "5" || (end.starts_with("255 ") && end.contains("unknown")), "{end}");
    lab.ok(&["rm", "lasting"]);
}

fn both_killed(lab: &Lab) {
    lab.ok(&["run", "-d", "--name", "survivor", "busybox", "sleep", "1000"]);
    let pid = lab.ok(&["inspect", "-f", "{{.State.Pid}}", "survivor"]);
    let keeper = lab.keeper_pid().expect("a keeper runs");
    lab.kill_daemon();
    lab.sh(&format!("kill -9 {keeper}"));
    lab.start_daemon();
    assert_eq!(
        lab.ok(&["inspect", "-f", "{{.State.Status}} {{.State.Pid}}", "survivor"]),
        format!("running {pid}")
    );
    assert_eq!(lab.ok(&["exec", "survivor", "echo", "alive"]), "alive");
    lab.ok(&["rm", "-f", "survivor"]);
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists(), "rm -f left the process");
}

/// A container ends while no daemon runs: the next one knows the code. Another's restart policy is honoured.
fn away(lab: &Lab) {
    lab.ok(&["run", "-d", "--name", "short", "busybox", "sh", "-c", "sleep 1; echo bye; exit 6"]);
    lab.ok(&[
        "run",
        "-d",
        "--name",
        "again",
        "--restart",
        "always",
        "busybox",
        "sh",
        "-c",
        "sleep 1; exit 1",
    ]);
    let pid = lab.ok(&["inspect", "-f", "{{.State.Pid}}", "short"]);
    lab.kill_daemon();
    wait_for("the process to end", || !std::path::Path::new(&format!("/proc/{pid}")).exists());
    lab.start_daemon();
    assert_eq!(lab.ok(&["inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "short"]), "exited 6");
    assert_eq!(lab.ok(&["logs", "short"]), "bye");
    wait_for("the restart", || lab.ok(&["inspect", "-f", "{{.RestartCount}}", "again"]) != "0");
    lab.ok(&["rm", "-f", "short", "again"]);
}
