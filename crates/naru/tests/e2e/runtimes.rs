//! Containers of other OCI runtimes by `--runtime`: Debian's runc, and what is said of one that does not work.

use crate::host::{Snapshot, text};
use crate::lab::{Lab, wait_for};
use std::path::Path;

pub const TESTS: &[(&str, fn(&Lab))] = &[
    ("runtimes_are_named", named),
    ("runtimes_runc_runs", runs),
    ("runtimes_runc_execs_and_terminals", execs),
    ("runtimes_runc_is_controlled", controlled),
    ("runtimes_failures_are_told", failures),
    ("runtimes_survive_a_killed_keeper", survives),
];

const CONFIG: &str = r#"{
    "runtimes": {
        "debian-runc": {"path": "/usr/sbin/runc"},
        "strict-runc": {"path": "runc", "runtimeArgs": ["--debug"]},
        "crun": {"path": "crun"},
        "gone": {"path": "/nonexistent/runtime"}
    }
}"#;

/// The daemon has read the configuration while `test` runs, and none afterwards.
fn with_runtimes(lab: &Lab, test: impl FnOnce()) {
    for program in ["runc", "crun"] {
        if text("sh", &["-c", &format!("command -v {program}")]).is_empty() {
            println!("SKIP: needs {program}; cargo xtask setup installs it");
            return;
        }
    }
    restart_with(lab, CONFIG);
    test();
    lab.stop_daemon();
    std::fs::remove_file(lab.config()).unwrap();
    lab.start_daemon();
}

fn restart_with(lab: &Lab, config: &str) {
    std::fs::write(lab.config(), config).unwrap();
    lab.stop_daemon();
    lab.start_daemon();
}

/// By the program of the container's parent's children: runc leaves a state file, naru's own runtime none.
fn bundle(lab: &Lab, name: &str) -> std::path::PathBuf {
    lab.dir.join("run/bundles").join(lab.ok(&["inspect", "-f", "{{.Id}}", name]))
}

fn is_of_runc(bundle: &Path) -> bool {
    std::fs::read_dir(bundle.join("runtime/state")).is_ok_and(|entries| entries.count() == 1)
}

fn named(lab: &Lab) {
    with_runtimes(lab, || {
        let names =
            lab.ok(&["info", "-f", "{{range $name, $_ := .Runtimes}}{{$name}} {{end}}{{.DefaultRuntime}}"]);
        assert_eq!(names, "crun debian-runc gone naru runc strict-runc naru");
        let out = lab.docker(&["run", "--rm", "--runtime", "kata", "busybox", "true"]);
        let out = out.expect(125, "an unknown runtime");
        assert!(out.stderr.contains("unknown or invalid runtime name: kata"), "{out:?}");
        // What dockerd reports of itself means naru's own.
        for name in ["runc", "io.containerd.runc.v2", "naru"] {
            lab.ok(&["create", "--name", "own", "--runtime", name, "busybox", "true"]);
            assert_eq!(lab.ok(&["inspect", "-f", "{{.HostConfig.Runtime}}", "own"]), "naru");
            lab.ok(&["rm", "own"]);
        }
        let refused = |args: &[&str], word: &str| {
            let out = lab.naru(&[&["create", "--runtime", "debian-runc"], args].concat(), &lab.dir);
            assert!(out.code != 0 && out.stderr.contains(word), "{out:?}");
        };
        refused(&["--userns", "auto", "busybox", "true"], "--userns auto");
        refused(&["--init", "busybox", "true"], "--init");
        refused(&["-v", "/tmp:/x:rshared", "busybox", "true"], "propagate to the host");

        // An entry called runc wins, and the default is taken by who asks for nothing.
        restart_with(lab, r#"{"runtimes": {"runc": {"path": "/usr/sbin/runc"}}, "default-runtime": "runc"}"#);
        lab.ok(&["run", "-d", "--name", "default", "busybox", "sleep", "1000"]);
        assert_eq!(lab.ok(&["inspect", "-f", "{{.HostConfig.Runtime}}", "default"]), "runc");
        assert!(is_of_runc(&bundle(lab, "default")));
        lab.ok(&["rm", "-f", "default"]);
        lab.ok(&["run", "--rm", "--runtime", "naru", "busybox", "true"]);
    });
}

fn runs(lab: &Lab) {
    with_runtimes(lab, || {
        let before = Snapshot::take();
        let run = |args: &[&str]| lab.docker(&[&["run", "--rm", "--runtime", "debian-runc"], args].concat());
        let out = run(&["busybox", "sh", "-c", "echo out; echo err >&2; exit 7"]).expect(7, "its own code");
        assert_eq!((out.stdout.as_str(), out.stderr.as_str()), ("out\n", "err\n"));
        let input = ["run", "--rm", "-i", "--runtime", "strict-runc", "busybox", "cat"];
        assert_eq!(lab.docker_in(&input, b"in and out").expect(0, "stdin").stdout, "in and out");
        // Names of users, the hosts file, a volume, a limit: all that the lowering gives.
        let script = "id -un; id -G; cat /sys/fs/cgroup/memory/memory.limit_in_bytes /data/x; hostname; \
                      grep -c Seccomp:.2 /proc/self/status; touch /new && echo writable";
        lab.ok(&["run", "--rm", "-v", "rt-data:/data", "busybox", "sh", "-c", "echo kept > /data/x"]);
        let out = run(&["-v", "rt-data:/data", "-m", "64m", "-h", "here", "busybox", "sh", "-c", script]);
        let lines = out.expect(0, "a limited one").stdout;
        let groups = lab.ok(&["run", "--rm", "busybox", "id", "-G"]);
        assert_eq!(lines, format!("root\n{groups}\n67108864\nkept\nhere\n1\nwritable\n"));
        let out = run(&["--user", "nobody", "busybox", "id", "-un"]).expect(0, "a user by name");
        assert_eq!(out.stdout, "nobody\n");
        assert!(run(&["busybox", "wget", "-q", "-O-", "http://127.0.0.1:1/"]).code != 0);
        assert!(
            run(&["busybox", "ip", "-o", "addr", "show", "eth0"]).expect(0, "eth0").stdout.contains("inet ")
        );

        // The host sees nothing of its root file system while it runs, and nothing of the rest afterwards.
        lab.ok(&["run", "-d", "--name", "seen", "--runtime", "debian-runc", "busybox", "sleep", "1000"]);
        let dir = bundle(lab, "seen");
        assert!(is_of_runc(&dir));
        assert!(!text("cat", &["/proc/self/mountinfo"]).contains("runtime/rootfs"));
        lab.ok(&["rm", "-f", "seen"]);
        assert!(!dir.exists());
        lab.ok(&["volume", "rm", "rt-data"]);
        // The parent of all containers' groups is the daemon's; mounts of others' tests come and go.
        let (below, here) = (format!("-{}/", std::process::id()), lab.dir.display().to_string());
        let own = |line: &String| {
            line.starts_with("cgroup") && line.contains(&below)
                || line.starts_with("mount") && line.contains(&here)
        };
        let left: Vec<_> = Snapshot::take().added_since(&before).into_iter().filter(own).collect();
        assert!(left.is_empty(), "{left:?}");
    });
}

fn execs(lab: &Lab) {
    with_runtimes(lab, || {
        lab.ok(&["run", "-d", "--name", "rc", "--runtime", "debian-runc", "busybox", "sleep", "1000"]);
        let exec = |args: &[&str]| lab.docker(&[&["exec"], args].concat());
        let out = exec(&["rc", "sh", "-c", "echo out; echo err >&2; exit 5"]).expect(5, "an exec's code");
        assert_eq!((out.stdout.as_str(), out.stderr.as_str()), ("out\n", "err\n"));
        assert_eq!(lab.docker_in(&["exec", "-i", "rc", "cat"], b"abc").expect(0, "stdin").stdout, "abc");
        assert_eq!(exec(&["-u", "nobody", "rc", "id", "-un"]).expect(0, "a user").stdout, "nobody\n");
        assert_eq!(exec(&["rc", "cat", "/proc/1/comm"]).expect(0, "the same container").stdout, "sleep\n");
        let caps = |args: &[&str]| {
            let grep = ["rc", "grep", "CapEff", "/proc/self/status"];
            exec(&[args, &grep].concat()).expect(0, "capabilities").stdout
        };
        assert_eq!(caps(&[]).trim(), "CapEff:\t00000000a80425fb");
        assert_ne!(caps(&["--privileged"]), caps(&[]));
        exec(&["rc", "nope"]).expect(127, "no such program");
        for _ in 0..10 {
            exec(&["rc", "true"]).expect(0, "a short one");
        }
        let left = std::fs::read_dir(bundle(lab, "rc").join("runtime")).unwrap().flatten();
        let left: Vec<_> =
            left.filter(|entry| entry.file_name().to_string_lossy().starts_with("exec-")).collect();
        assert!(left.is_empty(), "{left:?}");
        lab.ok(&["rm", "-f", "rc"]);

        // Terminals, of the container and of an exec.
        lab.ok(&[
            "run",
            "-dt",
            "--name",
            "tty",
            "--runtime",
            "debian-runc",
            "busybox",
            "sh",
            "-c",
            "tty; sleep 1000",
        ]);
        wait_for("the terminal's name", || lab.docker(&["logs", "tty"]).stdout.contains("/dev/pts/0"));
        let (code, body) = lab.api("POST", "/containers/tty/resize?h=33&w=77", "");
        assert_eq!(code, 200, "{body}");
        assert_eq!(
            exec(&["tty", "sh", "-c", "stty size < /proc/1/fd/0"]).expect(0, "its size").stdout,
            "33 77\n"
        );
        let script =
            format!("script -qec 'docker -H unix://{} exec -t tty tty' /dev/null", lab.socket().display());
        let out = lab.sh(&script).expect(0, "a terminal of an exec").stdout;
        assert!(out.starts_with("/dev/pts/"), "{out:?}");
        lab.ok(&["rm", "-f", "tty"]);
    });
}

fn controlled(lab: &Lab) {
    with_runtimes(lab, || {
        let state = |format: &str| lab.ok(&["inspect", "-f", format, "ctl"]);
        let trap = "trap 'exit 9' TERM; while :; do sleep 0.1; done";
        lab.ok(&["run", "-d", "--name", "ctl", "--runtime", "debian-runc", "busybox", "sh", "-c", trap]);
        lab.ok(&["pause", "ctl"]);
        assert_eq!(state("{{.State.Status}}"), "paused");
        lab.ok(&["unpause", "ctl"]);
        assert!(
            lab.ok(&["stats", "--no-stream", "--format", "{{.PIDs}}", "ctl"]).parse::<u32>().unwrap() >= 1
        );
        assert!(lab.ok(&["top", "ctl"]).contains("sleep 0.1"));
        lab.ok(&["update", "-m", "32m", "--memory-swap", "32m", "ctl"]);
        let limit = lab.ok(&["exec", "ctl", "cat", "/sys/fs/cgroup/memory/memory.limit_in_bytes"]);
        assert_eq!(limit, "33554432");
        lab.ok(&["stop", "ctl"]);
        assert_eq!(state("{{.State.ExitCode}}"), "9");
        // The same container again and again: nothing of the last run is in the way.
        for _ in 0..3 {
            lab.ok(&["start", "ctl"]);
            lab.ok(&["restart", "-t", "0", "ctl"]);
            lab.ok(&["kill", "ctl"]);
            wait_for("the end", || state("{{.State.Running}}") == "false");
            assert_eq!(state("{{.State.ExitCode}}"), "137");
        }
        lab.ok(&["rm", "ctl"]);

        let restart = ["--restart", "on-failure:2", "busybox", "sh", "-c", "exit 3"];
        lab.ok(&[&["run", "-d", "--name", "ctl", "--runtime", "debian-runc"], &restart[..]].concat());
        wait_for("two restarts", || {
            lab.ok(&["inspect", "-f", "{{.RestartCount}} {{.State.Status}} {{.State.ExitCode}}", "ctl"])
                == "2 exited 3"
        });
        lab.ok(&["rm", "ctl"]);
        let hog = ["-m", "16m", "--memory-swap", "16m", "busybox", "sh", "-c", "tail /dev/zero"];
        lab.docker(&[&["run", "--name", "ctl", "--runtime", "debian-runc"], &hog[..]].concat())
            .expect(137, "a hog");
        assert_eq!(state("{{.State.OOMKilled}}"), "true");
        lab.ok(&["rm", "ctl"]);
    });
}

fn failures(lab: &Lab) {
    with_runtimes(lab, || {
        let run = |runtime: &str, args: &[&str]| {
            lab.docker(&[&["run", "--name", "bad", "--runtime", runtime, "busybox"], args].concat())
        };
        let told = |runtime: &str, args: &[&str], code: i32, words: &str| {
            let out = run(runtime, args).expect(code, runtime);
            assert!(out.stderr.contains(words), "{words}: {out:?}");
            assert!(!out.stderr.contains("\"level\""), "{out:?}");
            lab.ok(&["rm", "bad"]);
        };
        told("debian-runc", &["nope"], 127, "exec: \"nope\": executable file not found in $PATH");
        told("debian-runc", &["/etc/passwd"], 126, "permission denied");
        told("gone", &["true"], 125, "/nonexistent/runtime cannot be executed: No such file or directory");
        // crun takes no cgroup v1 beside v2, and says so; where the host has only v2 it just runs.
        if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
            run("crun", &["true"]).expect(0, "crun");
            lab.ok(&["rm", "bad"]);
        } else {
            let out = run("crun", &["true"]);
            assert!(out.code == 125 || out.code == 0, "{out:?}");
            assert!(out.code == 0 || out.stderr.contains("OCI runtime create failed: "), "{out:?}");
            lab.ok(&["rm", "bad"]);
        }
        let groups = text("sh", &["-c", "find /sys/fs/cgroup -maxdepth 4 -type d -path '*naru-e2e-*/*'"]);
        let own = format!("-{}/", std::process::id());
        assert!(!groups.lines().any(|line| line.contains(&own)), "{groups}");
    });
}

/// The new keeper goes on with it, and its end is known.
fn survives(lab: &Lab) {
    with_runtimes(lab, || {
        let script = "echo up; while [ ! -e /end ]; do sleep 0.1; done; echo end; exit 4";
        lab.ok(&["run", "-d", "--name", "alive", "--runtime", "debian-runc", "busybox", "sh", "-c", script]);
        let keeper = lab.keeper_pid().expect("a keeper");
        text("kill", &["-9", &keeper]);
        wait_for("another keeper", || lab.keeper_pid().is_some_and(|pid| pid != keeper));
        wait_for("an exec in it", || lab.docker(&["exec", "alive", "touch", "/end"]).code == 0);
        let code = lab.ok(&["wait", "alive"]);
        // Before Linux 6.15 nobody can know.
        assert!(code == "4" || code == "255", "{code}");
        assert_eq!(lab.docker(&["logs", "alive"]).stdout, "up\nend\n");
        lab.ok(&["start", "alive"]);
        lab.ok(&["rm", "-f", "alive"]);
    });
}
