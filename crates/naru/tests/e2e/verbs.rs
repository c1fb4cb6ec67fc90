//! Each verb of the stock docker CLI: exit code and the shape of what it prints.

use crate::lab::{Lab, wait_for};

pub const TESTS: &[(&str, fn(&Lab))] = &[
    ("version_and_info", version_and_info),
    ("run_attached", run_attached),
    ("run_with_stdin_and_streams", run_streams),
    ("run_with_a_terminal", run_terminal),
    ("run_detached_and_the_life_of_a_container", life),
    ("logs", logs),
    ("exec", exec),
    ("inspect_and_ps", inspect_and_ps),
    ("images_tag_rmi_save_load", images),
    ("cp_both_ways", cp),
    ("volumes", volumes),
    ("events_and_stats", events_and_stats),
    ("health", health),
    ("restart_policy", restart_policy),
    ("isolation", isolation),
];

fn version_and_info(lab: &Lab) {
    let out = lab.ok(&["version", "--format", "{{.Server.APIVersion}} {{.Server.Platform.Name}}"]);
    assert!(out.starts_with("1.") && out.contains("naru"), "{out}");
    let info = lab.ok(&["info", "--format", "{{.Driver}} {{.NCPU}} {{.Swarm.LocalNodeState}}"]);
    assert!(info.starts_with("overlay2 ") && info.ends_with(" inactive"), "{info}");
}

fn run_attached(lab: &Lab) {
    for (args, code, stdout) in [
        (vec!["run", "--rm", "busybox", "echo", "hello"], 0, "hello\n"),
        (vec!["run", "--rm", "busybox", "sh", "-c", "exit 7"], 7, ""),
        (
            vec!["run", "--rm", "-e", "A=b", "-w", "/tmp", "busybox", "sh", "-c", "echo $A $PWD"],
            0,
            "b /tmp\n",
        ),
        (vec!["run", "--rm", "-u", "1000:1000", "busybox", "id", "-u"], 0, "1000\n"),
        (vec!["run", "--rm", "--hostname", "ship", "busybox", "hostname"], 0, "ship\n"),
        (
            vec!["run", "--rm", "--read-only", "busybox", "sh", "-c", "touch /x 2>/dev/null || echo ro"],
            0,
            "ro\n",
        ),
        (
            vec!["run", "--rm", "--tmpfs", "/scratch", "busybox", "sh", "-c", "touch /scratch/x && echo ok"],
            0,
            "ok\n",
        ),
        (vec!["run", "--rm", "--entrypoint", "echo", "busybox", "a", "b"], 0, "a b\n"),
        (vec!["run", "--rm", "--init", "busybox", "sh", "-c", "echo $$"], 0, ""),
    ] {
        let out = lab.docker(&args).expect(code, &args.join(" "));
        if !stdout.is_empty() {
            assert_eq!(out.stdout, stdout, "{args:?}");
        }
    }
    let out = lab.docker(&["run", "--rm", "busybox", "no-such-program"]).expect(127, "a missing program");
    assert!(out.stderr.contains("executable file not found in $PATH"), "{out:?}");
    lab.docker(&["run", "--rm", "busybox", "/etc/passwd"]).expect(126, "a file that can't be executed");
    // Pid 1 can't kill itself: the kernel protects it from its own namespace.
    lab.docker(&["run", "--rm", "busybox", "sh", "-c", "sh -c 'kill -9 $$'; exit $?"])
        .expect(137, "killed by a signal");
    assert_eq!(lab.ok(&["ps", "-aq"]), "", "--rm left a container");
}

fn run_streams(lab: &Lab) {
    let out = lab.docker_in(
        &["run", "--rm", "-i", "busybox", "sh", "-c", "cat; echo end; echo err >&2"],
        b"one\ntwo\n",
    );
    assert_eq!((out.code, out.stdout.as_str(), out.stderr.as_str()), (0, "one\ntwo\nend\n", "err\n"));
    let big = vec![b'x'; 3 << 20];
    let out = lab.docker_in(&["run", "--rm", "-i", "busybox", "wc", "-c"], &big);
    assert_eq!(out.stdout.trim(), (3 << 20).to_string());
}

fn run_terminal(lab: &Lab) {
    // script(1) gives the client a terminal.
    let docker = lab.docker_command(&[
        "run",
        "--rm",
        "-it",
        "busybox",
        "sh",
        "-c",
        "tty; stty size; read x; echo got $x",
    ]);
    let words: Vec<String> = std::iter::once(docker.get_program())
        .chain(docker.get_args())
        .map(|w| format!("'{}'", w.to_string_lossy()))
        .collect();
    let line = format!("stty rows 33 cols 111; {}", words.join(" "));
    let mut script = std::process::Command::new("script");
    script
        .args(["-qec", &line, "/dev/null"])
        .env("DOCKER_CONFIG", lab.dir.join("docker-config"))
        .env("TERM", "xterm");
    let out = crate::lab::collect(script, b"ahoy\n");
    assert_eq!(out.code, 0, "{out:?}");
    assert!(out.stdout.contains("/dev/pts/0") || out.stdout.contains("/dev/console"), "{out:?}");
    assert!(out.stdout.contains("got ahoy"), "{out:?}");
}

fn life(lab: &Lab) {
    let id = lab.ok(&[
        "run",
        "-d",
        "--name",
        "boat",
        "busybox",
        "sh",
        "-c",
        "trap 'exit 3' TERM; while :; do sleep 0.1; done",
    ]);
    assert_eq!(id.len(), 64);
    let status = || lab.ok(&["inspect", "-f", "{{.State.Status}}", "boat"]);
    assert_eq!(status(), "running");
    assert_eq!(lab.ok(&["pause", "boat"]), "boat");
    assert_eq!(status(), "paused");
    assert_eq!(lab.ok(&["unpause", "boat"]), "boat");
    assert_eq!(lab.ok(&["stop", "boat"]), "boat");
    assert_eq!(lab.ok(&["inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "boat"]), "exited 3");
    assert_eq!(lab.ok(&["start", "boat"]), "boat");
    assert_eq!(lab.ok(&["restart", "boat"]), "boat");
    assert_eq!(status(), "running");
    lab.docker(&["rm", "boat"]).expect(1, "removing a running container");
    assert_eq!(lab.ok(&["kill", "boat"]), "boat");
    assert_eq!(lab.ok(&["wait", "boat"]), "137");
    assert_eq!(lab.ok(&["rename", "boat", "ship"]), "");
    assert_eq!(lab.ok(&["rm", "ship"]), "ship");
    lab.docker(&["inspect", "ship"]).expect(1, "inspecting what is gone");
    lab.ok(&["create", "--name", "later", "busybox", "echo", "later"]);
    assert_eq!(lab.ok(&["start", "-a", "later"]), "later");
    lab.ok(&["rm", "later"]);
}

fn logs(lab: &Lab) {
    let script = "for i in 1 2 3 4 5; do echo line $i; done; echo oops >&2";
    lab.ok(&["run", "--name", "talker", "busybox", "sh", "-c", script]);
    let out = lab.docker(&["logs", "talker"]);
    assert_eq!((out.stdout.lines().count(), out.stderr.as_str()), (5, "oops\n"));
    assert_eq!(lab.docker(&["logs", "--tail", "2", "talker"]).stdout, "line 5\n");
    let stamped = lab.docker(&["logs", "-t", "talker"]).stdout;
    assert!(stamped.lines().all(|line| line.starts_with("20") && line.contains("Z line ")), "{stamped}");
    assert_eq!(lab.ok(&["logs", "-f", "talker"]).lines().count(), 5, "following a dead container ends");
    lab.ok(&["rm", "talker"]);
    // Following a live one ends with it and has every line.
    lab.ok(&[
        "run",
        "-d",
        "--rm",
        "--name",
        "counter",
        "busybox",
        "sh",
        "-c",
        "for i in $(seq 1 500); do echo $i; done; sleep 1; echo last",
    ]);
    let followed = lab.ok(&["logs", "-f", "counter"]);
    assert_eq!((followed.lines().count(), followed.lines().last()), (501, Some("last")));
}

fn exec(lab: &Lab) {
    lab.ok(&["run", "-d", "--name", "host", "-e", "A=1", "busybox", "sleep", "1000"]);
    assert_eq!(lab.ok(&["exec", "host", "sh", "-c", "echo $A"]), "1");
    assert_eq!(
        lab.ok(&[
            "exec",
            "-e",
            "B=2",
            "-w",
            "/tmp",
            "-u",
            "nobody",
            "host",
            "sh",
            "-c",
            "echo $B $PWD $(id -un)"
        ]),
        "2 /tmp nobody"
    );
    let out = lab.docker_in(&["exec", "-i", "host", "cat"], b"through\n");
    assert_eq!(out.stdout, "through\n");
    lab.docker(&["exec", "host", "sh", "-c", "exit 9"]).expect(9, "the exit code of exec");
    lab.docker(&["exec", "host", "nope"]).expect(127, "a missing program");
    lab.ok(&["exec", "-d", "host", "touch", "/made"]);
    wait_for("the detached exec", || lab.docker(&["exec", "host", "test", "-e", "/made"]).code == 0);
    // It gets what init has: the same filter, the same capabilities, no way up.
    let confined =
        |file: &str| lab.ok(&["exec", "host", "grep", "-E", "^(Seccomp|Cap...|NoNewPrivs):", file]);
    assert_eq!(confined("/proc/self/status"), confined("/proc/1/status"));
    lab.ok(&["rm", "-f", "host"]);
    lab.docker(&["exec", "host", "true"]).expect(1, "exec in nothing");
}

fn inspect_and_ps(lab: &Lab) {
    lab.ok(&[
        "run",
        "-d",
        "--name",
        "shown",
        "-l",
        "team=river",
        "-p",
        "127.0.0.1::80",
        "-m",
        "64m",
        "busybox",
        "sleep",
        "1000",
    ]);
    let row = lab.ok(&[
        "ps",
        "--filter",
        "label=team=river",
        "--format",
        "{{.Names}}|{{.Image}}|{{.Command}}|{{.State}}",
    ]);
    assert_eq!(row, "shown|busybox|\"sleep 1000\"|running");
    let table = lab.ok(&["ps"]);
    assert!(table.starts_with("CONTAINER ID   IMAGE "), "{table}");
    let view = lab.ok(&[
        "inspect",
        "-f",
        "{{.Name}} {{.HostConfig.Memory}} {{.Config.Labels.team}} {{.State.Running}}",
        "shown",
    ]);
    assert_eq!(view, "/shown 67108864 river true");
    assert!(lab.ok(&["port", "shown"]).starts_with("80/tcp -> 127.0.0.1:"));
    assert!(lab.ok(&["top", "shown"]).contains("sleep 1000"));
    lab.ok(&["rm", "-f", "shown"]);
}

fn images(lab: &Lab) {
    lab.ok(&["tag", "busybox", "boat/yard:1"]);
    let list = lab.ok(&["images", "--format", "{{.Repository}}:{{.Tag}}"]);
    assert!(
        list.lines().any(|line| line == "boat/yard:1") && list.lines().any(|line| line == "busybox:latest"),
        "{list}"
    );
    let archive = lab.dir.join("saved.tar");
    let archive = archive.to_str().unwrap();
    lab.ok(&["save", "-o", archive, "boat/yard:1"]);
    assert_eq!(lab.ok(&["rmi", "boat/yard:1"]), "Untagged: boat/yard:1");
    assert_eq!(lab.ok(&["load", "-i", archive]), "Loaded image: boat/yard:1");
    assert_eq!(lab.ok(&["image", "inspect", "-f", "{{.Os}}", "boat/yard:1"]), "linux");
    assert!(lab.ok(&["history", "boat/yard:1"]).lines().count() >= 2);
    lab.ok(&["rmi", "boat/yard:1"]);
    std::fs::remove_file(archive).unwrap();
    lab.docker(&["rmi", "boat/yard:1"]).expect(1, "removing what is gone");
    lab.ok(&["run", "--name", "user", "busybox", "true"]);
    lab.docker(&["rmi", "busybox"]).expect(1, "removing an image in use");
    lab.ok(&["rm", "user"]);
}

fn cp(lab: &Lab) {
    lab.ok(&["run", "-d", "--name", "dock", "busybox", "sleep", "1000"]);
    let local = lab.dir.join("cargo.txt");
    std::fs::write(&local, "cargo\n").unwrap();
    let local = local.to_str().unwrap();
    lab.ok(&["cp", local, "dock:/tmp/"]);
    assert_eq!(lab.ok(&["exec", "dock", "cat", "/tmp/cargo.txt"]), "cargo");
    // A link in the container that points at the host's /etc stays in the container.
    lab.ok(&["exec", "dock", "ln", "-s", "/etc", "/tmp/etc"]);
    let back = lab.dir.join("hostname");
    lab.ok(&["cp", "dock:/tmp/etc/hostname", back.to_str().unwrap()]);
    assert_eq!(std::fs::read_to_string(&back).unwrap().trim(), lab.ok(&["exec", "dock", "hostname"]));
    lab.ok(&["stop", "-t", "0", "dock"]);
    lab.ok(&["cp", local, "dock:/stopped.txt"]);
    let again = lab.dir.join("again.txt");
    lab.ok(&["cp", "dock:/stopped.txt", again.to_str().unwrap()]);
    assert_eq!(std::fs::read_to_string(&again).unwrap(), "cargo\n");
    assert!(lab.ok(&["diff", "dock"]).contains("A /stopped.txt"));
    lab.docker(&["cp", "dock:/nowhere", "/tmp/"]).expect(1, "copying what isn't there");
    lab.ok(&["rm", "-f", "dock"]);
}

fn volumes(lab: &Lab) {
    assert_eq!(lab.ok(&["volume", "create", "hold"]), "hold");
    lab.ok(&["run", "--rm", "-v", "hold:/data", "busybox", "sh", "-c", "echo kept > /data/x"]);
    assert_eq!(lab.ok(&["run", "--rm", "-v", "hold:/data:ro", "busybox", "cat", "/data/x"]), "kept");
    assert!(lab.ok(&["volume", "ls", "-q"]).lines().any(|name| name == "hold"));
    assert_eq!(lab.ok(&["volume", "inspect", "-f", "{{.Driver}}", "hold"]), "local");
    lab.ok(&["create", "--name", "keeper", "-v", "hold:/data", "busybox"]);
    lab.docker(&["volume", "rm", "hold"]).expect(1, "removing a volume in use");
    lab.ok(&["rm", "-v", "keeper"]);
    assert_eq!(
        lab.ok(&["run", "--rm", "-v", "hold:/data", "busybox", "cat", "/data/x"]),
        "kept",
        "rm -v took a named volume"
    );
    assert_eq!(lab.ok(&["volume", "rm", "hold"]), "hold");
    let bind = lab.dir.join("bound");
    let mount = format!("{}:/b", bind.display());
    lab.ok(&["run", "--rm", "-v", &mount, "busybox", "touch", "/b/made"]);
    assert!(bind.join("made").exists());
}

fn events_and_stats(lab: &Lab) {
    let since = lab.sh("date +%s").stdout.trim().to_owned();
    lab.ok(&["run", "--rm", "--name", "eventful", "busybox", "true"]);
    let until = lab.sh("sleep 1; date +%s").stdout.trim().to_owned();
    let list = lab.ok(&[
        "events",
        "--since",
        &since,
        "--until",
        &until,
        "--filter",
        "container=eventful",
        "--format",
        "{{.Action}}",
    ]);
    let actions: Vec<&str> = list.lines().collect();
    for wanted in ["create", "start", "die", "destroy"] {
        assert!(actions.contains(&wanted), "{wanted} is missing in {actions:?}");
    }
    lab.ok(&["run", "-d", "--name", "busy", "-m", "64m", "busybox", "sh", "-c", "while :; do :; done"]);
    let line = lab.ok(&["stats", "--no-stream", "--format", "{{.CPUPerc}}|{{.MemUsage}}|{{.NetIO}}", "busy"]);
    let percent: f64 = line.split('%').next().unwrap().parse().unwrap();
    assert!(percent > 20.0 && line.contains("64MiB"), "{line}");
    lab.ok(&["rm", "-f", "busy"]);
}

fn health(lab: &Lab) {
    lab.ok(&[
        "run",
        "-d",
        "--name",
        "patient",
        "--health-cmd",
        "test -e /well",
        "--health-interval",
        "200ms",
        "--health-retries",
        "2",
        "busybox",
        "sleep",
        "1000",
    ]);
    let status = || lab.ok(&["inspect", "-f", "{{.State.Health.Status}}", "patient"]);
    wait_for("unhealthy", || status() == "unhealthy");
    lab.ok(&["exec", "patient", "touch", "/well"]);
    wait_for("healthy", || status() == "healthy");
    assert!(lab.ok(&["ps", "--format", "{{.Status}}"]).contains("(healthy)"));
    lab.ok(&["rm", "-f", "patient"]);
}

fn restart_policy(lab: &Lab) {
    lab.ok(&[
        "run",
        "-d",
        "--name",
        "stubborn",
        "--restart",
        "on-failure:2",
        "busybox",
        "sh",
        "-c",
        "echo try; exit 4",
    ]);
    wait_for("the last try", || {
        lab.ok(&["inspect", "-f", "{{.State.Status}} {{.RestartCount}}", "stubborn"]) == "exited 2"
    });
    assert_eq!(lab.ok(&["logs", "stubborn"]).lines().count(), 3);
    lab.ok(&["rm", "stubborn"]);
    lab.ok(&["run", "-d", "--name", "always", "--restart", "always", "busybox", "sleep", "1000"]);
    let pid = || lab.ok(&["inspect", "-f", "{{.State.Pid}}", "always"]);
    let first = pid();
    lab.sh(&format!("kill -9 {first}"));
    wait_for("the restart", || pid() != first && pid() != "0");
    lab.ok(&["stop", "-t", "0", "always"]);
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!(
        lab.ok(&["inspect", "-f", "{{.State.Status}}", "always"]),
        "exited",
        "a stopped container came back"
    );
    lab.ok(&["rm", "-f", "always"]);
}

fn isolation(lab: &Lab) {
    let out = lab.ok(&[
        "run",
        "--rm",
        "busybox",
        "sh",
        "-c",
        "cat /proc/self/status | grep -E 'CapEff|Seccomp:|CapInh'",
    ]);
    assert!(out.contains("00000000a80425fb") && out.contains("Seccomp:\t2"), "{out}");
    for (what, script) in [
        ("mount", "mount -t tmpfs x /mnt"),
        ("kcore", "head -c 1 /proc/kcore | grep ."),
        ("sysrq", "echo h > /proc/sysrq-trigger"),
        ("sysctl", "echo 1 > /proc/sys/kernel/panic"),
        ("sysfs", "touch /sys/x"),
        ("cgroup", "mkdir /sys/fs/cgroup/memory/x"),
        ("unshare", "unshare -U true"),
    ] {
        let out = lab.docker(&["run", "--rm", "busybox", "sh", "-c", script]);
        assert_ne!(out.code, 0, "{what} worked in a container: {out:?}");
    }
    let ids = lab.ok(&[
        "run",
        "--rm",
        "busybox",
        "sh",
        "-c",
        "echo $$; ls /proc | grep -c '^[0-9]'; ls /dev | tr '\\n' ' '",
    ]);
    assert!(ids.starts_with("1\n") && !ids.contains("sda") && ids.contains("null"), "{ids}");
}
