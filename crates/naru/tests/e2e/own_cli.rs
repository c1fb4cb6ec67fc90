//! naru's own command line: the same verbs, and what it does that docker doesn't.

use crate::lab::{Lab, collect, wait_for};
use std::process::Command;

pub const TESTS: &[(&str, fn(&Lab))] = &[
    ("own_run_exec_logs", run_exec_logs),
    ("own_cp_keeps_files", cp),
    ("own_errors_have_hints", errors),
    ("own_images_are_verified_and_collected", image_care),
    ("own_signals_reach_the_container", signals),
    ("the_first_command_starts_a_daemon", first_command),
    ("the_binary_is_static", is_static),
];

fn ok(lab: &Lab, args: &[&str]) -> String {
    lab.naru(args, &lab.dir).expect(0, &format!("naru {}", args.join(" "))).stdout.trim_end().to_owned()
}

fn run_exec_logs(lab: &Lab) {
    assert_eq!(ok(lab, &["run", "--rm", "busybox", "echo", "hi"]), "hi");
    lab.naru(&["run", "--rm", "busybox", "sh", "-c", "exit 7"], &lab.dir).expect(7, "the exit code");
    let missing = lab.naru(&["run", "--rm", "busybox", "nope"], &lab.dir).expect(127, "a missing program");
    assert!(missing.stderr.contains("executable file not found"), "{missing:?}");
    ok(
        lab,
        &[
            "run",
            "-d",
            "--name",
            "own",
            "-p",
            "127.0.0.1::80",
            "--cpus",
            "1.5",
            "busybox",
            "sh",
            "-c",
            "echo one; echo two; sleep 1000",
        ],
    );
    assert_eq!(
        ok(lab, &["inspect", "-f", "{{.State.Status}} {{.HostConfig.NanoCpus}}", "own"]),
        "running 1500000000"
    );
    wait_for("the log", || ok(lab, &["logs", "own"]) == "one\ntwo");
    assert_eq!(ok(lab, &["logs", "--tail", "1", "own"]), "two");
    lab.naru(&["exec", "own", "sh", "-c", "exit 3"], &lab.dir).expect(3, "the exit code of exec");
    assert!(ok(lab, &["port", "own"]).starts_with("80/tcp -> 127.0.0.1:"));
    assert_eq!(ok(lab, &["ps", "--format", "{{.Names}} {{.Image}}"]), "own busybox");
    assert!(ok(lab, &["stats", "--no-stream", "own"]).contains("own"));
    assert_eq!(ok(lab, &["kill", "own"]), "own");
    assert_eq!(ok(lab, &["wait", "own"]), "137");
    assert_eq!(ok(lab, &["rm", "own"]), "own");
}

fn cp(lab: &Lab) {
    let local = lab.dir.join("tree");
    std::fs::create_dir_all(local.join("sub")).unwrap();
    std::fs::write(local.join("sub/file"), "x".repeat(100_000)).unwrap();
    std::os::unix::fs::symlink("file", local.join("sub/link")).unwrap();
    ok(lab, &["run", "-d", "--name", "own", "busybox", "sleep", "1000"]);
    ok(lab, &["cp", local.to_str().unwrap(), "own:/tmp/"]);
    assert_eq!(ok(lab, &["exec", "own", "sh", "-c", "wc -c < /tmp/tree/sub/link"]), "100000");
    let back = lab.dir.join("back");
    ok(lab, &["cp", "own:/tmp/tree", back.to_str().unwrap()]);
    assert_eq!(std::fs::read_link(back.join("sub/link")).unwrap().to_str(), Some("file"));
    assert_eq!(std::fs::read(back.join("sub/file")).unwrap().len(), 100_000);
    ok(lab, &["rm", "-f", "own"]);
    std::fs::remove_dir_all(&local).unwrap();
    std::fs::remove_dir_all(&back).unwrap();
}

fn image_care(lab: &Lab) {
    let archive = lab.dir.join("care.tar");
    let tree = lab.dir.join("care");
    std::fs::create_dir(&tree).unwrap();
    std::fs::write(tree.join("whole"), "of one piece").unwrap();
    lab.sh(&format!("tar -C {} -cf {} whole", tree.display(), archive.display()));
    let id = ok(lab, &["import", &archive.display().to_string(), "care:1"]);
    assert_eq!(ok(lab, &["image", "verify", "care:1"]), "care:1: ok");
    let all = ok(lab, &["image", "verify"]);
    assert!(all.lines().count() >= 2 && all.lines().all(|line| line.ends_with(": ok")), "{all}");
    let layer = lab.ok(&["image", "inspect", "-f", "{{.GraphDriver.Data.UpperDir}}", &id]);
    std::fs::write(std::path::Path::new(&layer).join("whole"), "")
        .unwrap_or_else(|error| panic!("{layer}: {error}"));
    let found = lab.naru(&["image", "verify", "care:1"], &lab.dir).expect(1, "a damaged image");
    assert!(found.stdout.starts_with("care:1: damaged\n"), "{found:?}");
    assert!(found.stdout.contains(": whole 12 of its 12 bytes are missing"), "{found:?}");
    let repair =
        lab.naru(&["image", "verify", "--repair", "care:1"], &lab.dir).expect(1, "no registry has it");
    assert!(repair.stdout.contains("did not come from a registry"), "{repair:?}");
    let dry = ok(lab, &["image", "gc", "--dry-run", "--keep-bytes", "0"]);
    assert!(dry.contains("care:1 (bytes, 12B)"), "{dry}");
    // Nothing is configured, so nothing goes; nor does what is within the limits.
    ok(lab, &["image", "gc"]);
    ok(lab, &["image", "gc", "--per-repository", "1000", "--max-age", "10000h"]);
    lab.naru(&["image", "gc", "--disk", "85"], &lab.dir).expect(1, "a percentage without its sign");
    assert_eq!(ok(lab, &["images", "-q", "care"]).lines().count(), 1);
    ok(lab, &["rmi", "care:1"]);
}

fn errors(lab: &Lab) {
    let dir = lab.dir.join("typo");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("Dockerfile"), "FROM busybox\nRUM echo\n").unwrap();
    for (args, words) in [
        (&["build", "."][..], &["Dockerfile:2", "hint: did you mean RUN?"][..]),
        (&["logs", "nothing"], &["nothing", "hint:"]),
        (&["up"], &["no compose file", "hint:"]),
        (&["inspect", "-f", "{{nope .}}", "nothing"], &["nope", "hint:"]),
        (&["ps", "--filter", "nope"], &["nope", "hint:"]),
    ] {
        let out = lab.naru(args, &dir).expect(1, &args.join(" "));
        for word in words {
            assert!(out.stderr.contains(word), "{args:?} doesn't say {word:?}: {}", out.stderr);
        }
    }
    std::fs::remove_dir_all(&dir).unwrap();
    let mut nobody = Command::new(env!("CARGO_BIN_EXE_naru"));
    nobody.args(["-H", "unix:///does/not/exist.sock", "ps"]);
    let out = collect(nobody, b"").expect(1, "no daemon");
    assert!(out.stderr.contains("/does/not/exist.sock") && out.stderr.contains("hint:"), "{out:?}");
}

fn signals(lab: &Lab) {
    let mut client = Command::new(env!("CARGO_BIN_EXE_naru"));
    client.arg("-H").arg(format!("unix://{}", lab.socket().display()));
    client.args([
        "run",
        "--rm",
        "--name",
        "own",
        "busybox",
        "sh",
        "-c",
        "trap 'exit 5' TERM; while :; do sleep 0.1; done",
    ]);
    let mut client = client.spawn().unwrap();
    wait_for("the container", || {
        lab.docker(&["inspect", "-f", "{{.State.Running}}", "own"]).stdout == "true\n"
    });
    let pid = client.id().to_string();
    // The forwarding thread starts right after the container does: a signal before it would end the client.
    wait_for("the client to block the signal", || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap_or("0");
        u64::from_str_radix(blocked.trim(), 16).unwrap_or(0) & (1 << 14) != 0
    });
    crate::host::text("kill", &["-TERM", &pid]);
    assert_eq!(client.wait().unwrap().code(), Some(5));
}

/// In namespaces of its own, with the default directories: nothing runs, and `naru ps` is typed.
fn first_command(_lab: &Lab) {
    let script = format!(
        "set -e; mount -t tmpfs t /run; mkdir -p /var/lib/naru; mount -t tmpfs t /var/lib/naru; ip link set lo up; \
         {0} ps; {0} version | grep Server; {0} system stop; for i in $(seq 50); do pgrep -f '^{0} (daemon|keeper)' || exit 0; sleep 0.1; done; exit 1",
        env!("CARGO_BIN_EXE_naru")
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "--net", "--pid", "--fork", "--mount-proc", "sh", "-c", &script]);
    command.env_remove("DOCKER_HOST").env_remove("NARU_HOST");
    let out = collect(command, b"").expect(0, "the first command");
    assert!(out.stdout.contains("CONTAINER ID") && out.stdout.contains("Server: naru"), "{out:?}");
    // The directory was made for the mount; it is removed where it is empty.
    let _ = std::fs::remove_dir("/var/lib/naru");
}

fn is_static(_lab: &Lab) {
    let binary = std::fs::read(env!("CARGO_BIN_EXE_naru")).unwrap();
    let interpreter = binary.windows(10).take(1 << 20).any(|window| window == b"/ld-linux-");
    assert!(!interpreter, "the binary asks for a dynamic loader");
}
