//! One container with Docker's defaults: what it sees, what it may do, how it ends.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{DOCKER_CAPS, Group, Root, run, shell, skip, spec, start, start_with};
use naru_kernel::pidfd::ExitStatus;
use naru_runtime::request::{NetNs, SpawnOptions, SpawnRequest, Stdio};
use std::io::Read;

fn check(script: &str, expect: &str) {
    let (status, output) = shell(script);
    assert_eq!((status, output.trim()), (ExitStatus::Code(0), expect), "{script}");
}

#[test]
fn rights_are_dockers() {
    if skip() {
        return;
    }
    let (_, output) = run(&spec(&["cat", "/proc/self/status"]));
    for line in ["CapPrm", "CapEff", "CapBnd"] {
        assert!(output.contains(&format!("{line}:\t{DOCKER_CAPS}")), "{output}");
    }
    for line in ["CapInh:\t0000000000000000", "CapAmb:\t0000000000000000", "Seccomp:\t2", "NoNewPrivs:\t0"] {
        assert!(output.contains(line), "{line} in {output}");
    }
    assert!(output.contains("SigIgn:\t0000000000000000"), "{output}");
    check("mount -t tmpfs x /tmp 2>/dev/null || echo denied", "denied");
    check("umount /proc 2>/dev/null || echo denied", "denied");
}

#[test]
fn namespaces_differ_and_the_hosts_mounts_do_not_change() {
    if skip() {
        return;
    }
    let own = |kind: &str| std::fs::read_link(format!("/proc/self/ns/{kind}")).unwrap();
    let (_, output) = shell(
        "for n in mnt net ipc uts pid cgroup; do readlink /proc/self/ns/$n; done; cat /proc/self/cgroup; echo pid $$",
    );
    for kind in ["mnt", "net", "ipc", "uts", "pid", "cgroup"] {
        assert!(!output.contains(own(kind).to_str().unwrap()), "{kind} is shared");
    }
    // The root of its own group: v1's memory hierarchy, or the one of v2.
    let rooted = |line: &str| line.ends_with(":memory:/") || line == "0::/";
    assert!(output.contains("pid 1\n") && output.lines().any(rooted), "{output}");
    let root = Root::new();
    let group = Group::new();
    let mut running = start(&root, &spec(&["sh", "-c", "echo up; sleep 60"]), Some(&group)).unwrap();
    running.wait_for("up");
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(root.dir.path().to_str().unwrap()), "the host sees the container's mounts");
    group.0.kill_all().unwrap();
    assert_eq!(running.finish().0, ExitStatus::Signal(9));
}

#[test]
fn the_overlay_is_written_and_the_layer_is_not() {
    if skip() {
        return;
    }
    let (root, group) = (Root::new(), Group::new());
    let running =
        start(&root, &spec(&["sh", "-c", "echo x > /etc/new; echo y >> /etc/passwd"]), Some(&group)).unwrap();
    assert_eq!(running.finish().0, ExitStatus::Code(0));
    assert!(root.upper().join("etc/new").exists());
    assert!(!root.lower().join("etc/new").exists());
}

#[test]
fn proc_and_sys_are_guarded() {
    if skip() {
        return;
    }
    check("wc -c < /proc/keys", "0");
    check("ls /proc/acpi /sys/firmware 2>/dev/null | grep -v : | wc -w", "0");
    check("echo x 2>/dev/null > /proc/sys/kernel/hostname || echo ro", "ro");
    check("touch /sys/x 2>/dev/null || echo ro", "ro");
    check("mkdir /sys/fs/cgroup/x 2>/dev/null || echo ro", "ro");
    // A chmod through a mask must not reach a device of the host.
    check("busybox chmod 600 /proc/keys 2>/dev/null || echo ro", "ro");
    check("cat /proc/sys/net/ipv4/ip_unprivileged_port_start", "0");
    check("ip -o addr show lo 2>/dev/null | grep -c 127.0.0.1", "1");
}

#[test]
fn devices() {
    if skip() {
        return;
    }
    check("stat -c '%t:%T %a' /dev/null /dev/tty | head -2", "1:3 666\n5:0 666");
    check("echo gone > /dev/null; head -c 3 /dev/zero | wc -c", "3");
    check(
        "mknod /tmp/k c 1 1 && cat /tmp/k 2>/dev/null | head -c1 || true; cat /tmp/k >/dev/null 2>&1 || echo denied",
        "denied",
    );
    check("readlink /dev/fd; readlink /dev/ptmx", "/proc/self/fd\npts/ptmx");
    // Only the standard descriptors, and the one of ls itself.
    check("ls /proc/self/fd | wc -l", "4");
    // By the shell's own glob: beside a pipe it would hold one end of it for a moment.
    check("for fd in /proc/1/fd/*; do [ -e $fd ] && echo ${fd##*/}; done; true", "0\n1\n2");
}

#[test]
fn exit_codes() {
    if skip() {
        return;
    }
    assert_eq!(shell("exit 42").0, ExitStatus::Code(42));
    let (root, group) = (Root::new(), Group::new());
    let code = |program: &str| {
        let error = start(&root, &spec(&[program]), Some(&group)).map(|_| ()).unwrap_err();
        (error.exit_code, error.message)
    };
    let (number, text) = code("nope");
    assert_eq!(number, 127);
    assert!(text.ends_with("exec: \"nope\": executable file not found in $PATH"), "{text}");
    assert_eq!(code("/nope").0, 127);
    assert_eq!(code("/etc/passwd").0, 126);
    assert_eq!(code("/etc").0, 126);
}

#[test]
fn users() {
    if skip() {
        return;
    }
    let as_user = |user: &str| {
        let mut spec = spec(&[
            "sh",
            "-c",
            "id -u; id -g; id -G; echo $HOME; grep CapEff /proc/self/status; echo x > /dev/stdout",
        ]);
        spec.process.user.username = user.into();
        run(&spec).1.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(as_user("www"), "33 33 33 29 /var/www CapEff: 0000000000000000 x");
    assert_eq!(as_user("1234:5"), "1234 5 5 / CapEff: 0000000000000000 x");
    let root = Root::new();
    let mut bad = spec(&["true"]);
    bad.process.user.username = "nobody-here".into();
    let error = start(&root, &bad, None).map(|_| ()).unwrap_err();
    assert!(error.message.ends_with("unable to find user nobody-here: no matching entries in passwd file"));
}

#[test]
fn read_only_root_and_hostname() {
    if skip() {
        return;
    }
    let mut spec = spec(&["sh", "-c", "touch /x 2>/dev/null || echo ro; touch /dev/shm/x && hostname; pwd"]);
    spec.root.readonly = true;
    spec.process.cwd = "/made/here".into();
    assert_eq!(run(&spec).1, "ro\ntest01234567\n/made/here\n");
}

#[test]
fn init_reaps_forwards_and_keeps_the_code() {
    if skip() {
        return;
    }
    let (root, group) = (Root::new(), Group::new());
    let script =
        "cat /proc/1/comm; trap 'exit 9' TERM; (sleep 0.1 &) ; echo ready; while :; do sleep 0.05; done";
    let mut running = start_with(&root, &spec(&["sh", "-c", script]), Some(&group), true).unwrap();
    assert!(running.wait_for("ready").starts_with("naru-init"));
    naru_kernel::pidfd::send_signal(&running.spawned.pidfd, naru_types::signal::Signal::TERM).unwrap();
    assert_eq!(running.finish().0, ExitStatus::Code(9));
    let killed = start_with(&root, &spec(&["sh", "-c", "kill -9 $$"]), Some(&group), true).unwrap();
    assert_eq!(killed.finish().0, ExitStatus::Code(137));
    let hidden =
        start_with(&root, &spec(&["sh", "-c", "readlink /proc/1/exe || echo hidden"]), Some(&group), true);
    assert!(hidden.unwrap().finish().1.ends_with("hidden\n"));
}

#[test]
fn a_terminal() {
    if skip() {
        return;
    }
    let (root, group) = (Root::new(), Group::new());
    let mut spec = spec(&[
        "sh",
        "-c",
        "stty size; stat -c %t:%T /dev/console; echo x > /dev/tty; test -t 0 && echo tty",
    ]);
    spec.process.terminal = true;
    let rootfs = root.rootfs();
    let stdio = Stdio::Pty { rows: 33, cols: 101 };
    let request = SpawnRequest {
        spec: &spec,
        rootfs: &rootfs,
        cgroup: Some(&group.0),
        netns: NetNs::New,
        stdio,
        options: SpawnOptions::default(),
    };
    let spawned = naru_runtime::spawn::spawn(request).unwrap();
    let mut master = std::fs::File::from(spawned.pty_master.unwrap());
    let mut text = Vec::new();
    // The master answers EIO when the last slave is closed.
    let _ = master.read_to_end(&mut text);
    assert_eq!(String::from_utf8_lossy(&text), "33 101\r\n88:0\r\nx\r\ntty\r\n");
    naru_kernel::pidfd::wait(&spawned.pidfd).unwrap();
}
