//! Limits that hold, statistics, freezing, and a further process with the same rights.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{DOCKER_CAPS, Group, Root, exec, skip, spec, start};
use naru_kernel::pidfd::ExitStatus;
use naru_runtime::oci;
use std::time::{Duration, Instant};

fn lacks(group: &Group, controller: &str) -> bool {
    let layout = group.0.layout();
    let v2 = || {
        let dir = group.0.v2_directory().unwrap_or_default();
        std::fs::read_to_string(dir.join("cgroup.controllers")).unwrap_or_default()
    };
    let lacks =
        layout.v1_with(controller).is_none() && !v2().split_whitespace().any(|name| name == controller);
    if lacks {
        println!("SKIP: needs the {controller} controller");
    }
    lacks
}

#[test]
fn out_of_memory_is_recognised() {
    if skip() {
        return;
    }
    let (root, group) = (Root::new(), Group::new());
    if lacks(&group, "memory") {
        return;
    }
    let memory = oci::Memory {
        limit: Some(16 << 20),
        swap: Some(32 << 20),
        swap_defaulted: true,
        ..Default::default()
    };
    group.0.apply(&oci::Resources { memory, ..Default::default() }).unwrap();
    let watch = group.0.oom_watch().unwrap();
    assert_eq!(group.0.oom_kills().unwrap(), 0);
    let running = start(&root, &spec(&["sh", "-c", "tail /dev/zero"]), Some(&group)).unwrap();
    let (status, _) = running.finish();
    assert_ne!(status, ExitStatus::Code(0));
    assert!(group.0.oom_kills().unwrap() > 0);
    let mut polled = [rustix::event::PollFd::new(&watch, rustix::event::PollFlags::IN)];
    let zero = rustix::event::Timespec { tv_sec: 5, tv_nsec: 0 };
    assert_eq!(rustix::event::poll(&mut polled, Some(&zero)).unwrap(), 1);
    watch.drain();
}

#[test]
fn the_pids_limit_holds() {
    if skip() {
        return;
    }
    let (root, group) = (Root::new(), Group::new());
    if lacks(&group, "pids") {
        return;
    }
    group.0.apply(&oci::Resources { pids: oci::Pids { limit: Some(5) }, ..Default::default() }).unwrap();
    assert_eq!(group.0.stats().unwrap().pids.limit, 5);
    let script = "for i in 1 2 3 4 5 6 7 8; do sleep 1 & done; echo all";
    let (_, output) = start(&root, &spec(&["sh", "-c", script]), Some(&group)).unwrap().finish();
    assert!(output.contains("fork") && !output.contains("all"), "{output}");
}

#[test]
fn the_cpu_quota_is_kept() {
    if skip() {
        return;
    }
    let (root, group) = (Root::new(), Group::new());
    if lacks(&group, "cpu") {
        return;
    }
    let cpu = oci::Cpu { quota: Some(20_000), period: Some(100_000), ..Default::default() };
    group.0.apply(&oci::Resources { cpu, ..Default::default() }).unwrap();
    let mut running =
        start(&root, &spec(&["sh", "-c", "echo go; while :; do :; done"]), Some(&group)).unwrap();
    running.wait_for("go");
    let (before, begin) = (group.0.stats().unwrap().cpu.total_ns, Instant::now());
    std::thread::sleep(Duration::from_secs(1));
    let used = group.0.stats().unwrap().cpu.total_ns - before;
    let share = used as f64 / begin.elapsed().as_nanos() as f64;
    group.0.kill_all().unwrap();
    running.finish();
    assert!(share < 0.35, "{share} CPUs instead of 0.2");
    assert!(group.0.stats().unwrap().cpu.throttled_periods > 0);
}

#[test]
fn freeze_thaw_and_list() {
    if skip() {
        return;
    }
    let (root, group) = (Root::new(), Group::new());
    let mut running = start(&root, &spec(&["sh", "-c", "echo up; sleep 60"]), Some(&group)).unwrap();
    running.wait_for("up");
    assert!(group.0.pids().unwrap().contains(&running.spawned.pid));
    group.0.freeze().unwrap();
    group.0.thaw().unwrap();
    group.0.freeze().unwrap();
    // A frozen container can be killed.
    group.0.kill_all().unwrap();
    assert_eq!(running.finish().0, ExitStatus::Signal(9));
}

#[test]
fn a_live_update_changes_the_limit_both_ways() {
    if skip() {
        return;
    }
    let group = Group::new();
    if lacks(&group, "memory") {
        return;
    }
    for limit in [64i64 << 20, 128 << 20, 32 << 20] {
        let memory = oci::Memory {
            limit: Some(limit),
            swap: Some(2 * limit),
            swap_defaulted: true,
            ..Default::default()
        };
        group.0.apply(&oci::Resources { memory, ..Default::default() }).unwrap();
        assert_eq!(group.0.stats().unwrap().memory.limit, limit as u64);
    }
}

#[test]
fn exec_has_the_same_rights() {
    if skip() {
        return;
    }
    let (root, group) = (Root::new(), Group::new());
    let mut config = spec(&["sh", "-c", "echo up; sleep 60"]);
    config.process.no_new_privileges = true;
    let mut running = start(&root, &config, Some(&group)).unwrap();
    running.wait_for("up");
    let script = "grep -E 'CapEff|CapBnd|Seccomp:|NoNew' /proc/self/status; readlink /proc/self/ns/pid; id -u; echo $HOME; cat /proc/self/cgroup";
    let mut process = oci::Process {
        args: ["sh", "-c", script].map(str::to_owned).to_vec(),
        cwd: "/tmp".into(),
        ..Default::default()
    };
    let (status, output) = exec(&config, &process, &running, Some(&group), false).unwrap().finish();
    assert_eq!(status, ExitStatus::Code(0), "{output}");
    for line in [
        &format!("CapEff:\t{DOCKER_CAPS}"),
        &format!("CapBnd:\t{DOCKER_CAPS}"),
        "Seccomp:\t2",
        "NoNewPrivs:\t1",
    ] {
        assert!(output.contains(line), "{line} in {output}");
    }
    let init_ns = std::fs::read_link(format!("/proc/{}/ns/pid", running.spawned.pid)).unwrap();
    assert!(output.contains(init_ns.to_str().unwrap()) && output.contains("/root"), "{output}");
    let (_, privileged) = exec(&config, &process, &running, Some(&group), true).unwrap().finish();
    assert!(privileged.contains("Seccomp:\t2") && !privileged.contains(DOCKER_CAPS), "{privileged}");
    process.user.username = "www".into();
    let (_, as_www) = exec(&config, &process, &running, Some(&group), false).unwrap().finish();
    assert!(as_www.contains("\n33\n/var/www\n"), "{as_www}");
    process.args = vec!["nope".into()];
    let error = exec(&config, &process, &running, Some(&group), false).map(|_| ()).unwrap_err();
    assert_eq!(error.exit_code, 127);
    assert!(error.message.starts_with("exec failed: unable to start container process: exec: \"nope\""));
    group.0.kill_all().unwrap();
    running.finish();
    process.args = vec!["true".into()];
    let gone =
        exec(&config, &process, &start(&root, &spec(&["true"]), Some(&group)).unwrap(), Some(&group), false);
    // Whether it still ran is a race; that nothing hangs or panics is not.
    if let Ok(late) = gone {
        late.finish();
    }
}

#[test]
fn exec_with_a_terminal() {
    use naru_runtime::request::{ExecRequest, Stdio};
    use std::io::Read;
    use std::os::fd::AsFd;
    if skip() {
        return;
    }
    let (root, group) = (Root::new(), Group::new());
    let config = spec(&["sh", "-c", "echo up; sleep 60"]);
    let mut running = start(&root, &config, Some(&group)).unwrap();
    running.wait_for("up");
    let script = "stty size; readlink /proc/self/fd/0; echo x > /dev/tty";
    let process = oci::Process {
        args: ["sh", "-c", script].map(str::to_owned).to_vec(),
        cwd: "/".into(),
        ..Default::default()
    };
    let spawned = naru_runtime::exec::exec(ExecRequest {
        spec: &config,
        process: &process,
        init_pidfd: running.spawned.pidfd.as_fd(),
        init_pid: running.spawned.pid,
        cgroup: Some(&group.0),
        stdio: Stdio::Pty { rows: 10, cols: 20 },
        privileged: false,
        preserve_fds: Vec::new(),
        state: None,
    })
    .unwrap();
    let mut text = Vec::new();
    let _ = std::fs::File::from(spawned.pty_master.unwrap()).read_to_end(&mut text);
    assert_eq!(String::from_utf8_lossy(&text), "10 20\r\n/dev/pts/0\r\nx\r\n");
    naru_kernel::pidfd::wait(&spawned.pidfd).unwrap();
    group.0.kill_all().unwrap();
    running.finish();
}

#[test]
fn limits_that_cannot_be_had_warn_or_fail_by_name() {
    if skip() {
        return;
    }
    let (root, group) = (Root::new(), Group::new());
    let mut config = spec(&["true"]);
    config.process.rlimits = vec![oci::Rlimit { kind: "RLIMIT_NOFILE".into(), soft: 100, hard: 200 }];
    config.process.args = ["sh", "-c", "ulimit -n; ulimit -Hn"].map(str::to_owned).to_vec();
    let running = start(&root, &config, Some(&group)).unwrap();
    assert!(running.spawned.warnings.is_empty());
    assert_eq!(running.finish().1, "100\n200\n");
    config.process.rlimits[0].hard = u64::MAX;
    let running = start(&root, &config, Some(&group));
    // Above /proc/sys/fs/nr_open nobody gets it: named, and the container runs.
    let running = running.unwrap();
    assert_eq!(running.spawned.warnings.len(), 1, "{:?}", running.spawned.warnings);
    running.finish();
}

#[test]
fn the_parent_goes_with_its_last_group() {
    if skip() {
        return;
    }
    let parent = format!("naru-test-parent-{}", std::process::id());
    let group = naru_runtime::cgroup::Cgroup::create(&format!("{parent}/child")).unwrap();
    let places: Vec<_> = (group.layout().v1.iter().map(|hierarchy| hierarchy.mount.join(&parent)))
        .chain(group.layout().v2.iter().map(|root| root.join(&parent)))
        .collect();
    naru_runtime::cgroup::remove_parent(&parent).unwrap();
    assert!(places.iter().all(|place| place.is_dir()));
    group.delete().unwrap();
    naru_runtime::cgroup::remove_parent(&parent).unwrap();
    naru_runtime::cgroup::remove_parent(&parent).unwrap();
    assert!(!places.iter().any(|place| place.exists()));
}

/// Up to Linux 6.18 a process that is cloned into a group after `cgroup.kill` is killed at birth.
#[test]
fn a_group_that_was_killed_takes_new_processes() {
    if skip() {
        return;
    }
    let (root, group) = (Root::new(), Group::new());
    let running = start(&root, &spec(&["sleep", "1000"]), Some(&group)).unwrap();
    group.0.kill_all().unwrap();
    running.finish();
    let (status, text) = start(&root, &spec(&["echo", "alive"]), Some(&group)).unwrap().finish();
    assert_eq!((status, text.as_str()), (ExitStatus::Code(0), "alive\n"));
}

#[test]
fn a_group_that_hands_controllers_on_refuses_by_name() {
    if skip() {
        return;
    }
    let (root, group) = (Root::new(), Group::new());
    let Some(directory) = group.0.v2_directory() else {
        println!("SKIP: needs cgroup v2");
        return;
    };
    let below = directory.join("below");
    std::fs::create_dir(&below).unwrap();
    // With a threaded sub-group and no controller, nothing but the type says no.
    std::fs::create_dir(below.join("invalid")).unwrap();
    std::fs::write(below.join("cgroup.type"), "threaded").unwrap();
    let inside = naru_runtime::cgroup::Cgroup::open(&format!("{}/below/invalid", group.0.path())).unwrap();
    for hierarchy in &inside.layout().v1 {
        std::fs::create_dir_all(inside.directory_in(hierarchy)).unwrap();
        if hierarchy.controllers.iter().any(|name| name == "cpuset") {
            for place in [format!("{}/below", group.0.path()), inside.path().to_owned()] {
                for (file, value) in [("cpuset.cpus", "0"), ("cpuset.mems", "0")] {
                    std::fs::write(hierarchy.mount.join(&place).join(file), value).unwrap();
                }
            }
        }
    }
    let inside = Group(inside);
    let error = start(&root, &spec(&["true"]), Some(&inside)).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("domain invalid"), "{error}");
}

#[test]
fn a_group_with_processes_is_not_free() {
    if skip() {
        return;
    }
    let (root, group) = (Root::new(), Group::new());
    group.0.check_free().unwrap();
    let running = start(&root, &spec(&["sleep", "1000"]), Some(&group)).unwrap();
    assert!(group.0.check_free().unwrap_err().to_string().contains("not empty: 1 process(es)"));
    group.0.kill_all().unwrap();
    running.finish();
    group.0.freeze().unwrap();
    assert!(group.0.check_free().unwrap_err().to_string().contains("frozen"));
    group.0.thaw().unwrap();
    group.0.check_free().unwrap();
}

/// A small group's memory is filled over and over: reclaim is at work, and the watch wakes. On v2 above memory.high,
/// where whoever fills it has to wait: what is above memory.max in a tmpfs is killed at once instead.
#[test]
fn memory_pressure_wakes() {
    use naru_runtime::cgroup::PressureLevel;
    use rustix::event::{PollFd, Timespec, poll};
    use std::os::fd::AsFd;
    if skip() {
        return;
    }
    let (root, group) = (Root::new(), Group::new());
    if lacks(&group, "memory") {
        return;
    }
    let memory = oci::Memory { limit: Some(24 << 20), ..Default::default() };
    let mut resources = oci::Resources { memory, ..Default::default() };
    let v2 = group.0.layout().is_v2_only();
    if v2 {
        resources.unified.insert("memory.high".into(), (4 << 20).to_string());
    }
    group.0.apply(&resources).unwrap();
    let watch = group.0.pressure_watch(PressureLevel::Low).unwrap();
    let mib = if v2 { 12 } else { 64 };
    let script = format!(
        "while :; do dd if=/dev/zero of=/tmp/x bs=1M count={mib} 2>/dev/null; cat /tmp/x >/dev/null; done"
    );
    let running = start(&root, &spec(&["sh", "-c", &script]), Some(&group)).unwrap();
    let timeout = Timespec { tv_sec: 30, tv_nsec: 0 };
    let mut polled = [PollFd::from_borrowed_fd(watch.as_fd(), watch.flags())];
    let woken = poll(&mut polled, Some(&timeout)).unwrap();
    watch.drain();
    group.0.kill_all().unwrap();
    running.finish();
    assert_eq!(woken, 1, "no memory pressure was told");
}

#[test]
fn statistics_tell_of_what_was_done() {
    if skip() {
        return;
    }
    let (root, group) = (Root::new(), Group::new());
    let mut running =
        start(&root, &spec(&["sh", "-c", "head -c 50000000 /dev/zero | wc -c; sleep 1000"]), Some(&group))
            .unwrap();
    running.wait_for("50000000");
    let stats = group.0.stats().unwrap();
    assert!(stats.cpu.total_ns > 0, "{stats:?}");
    if group.0.layout().v1_with("cpuacct").is_some() {
        let all: u64 = stats.cpu.percpu_user_ns.iter().chain(&stats.cpu.percpu_system_ns).sum();
        assert!(all > 0 && stats.cpu.percpu_ns.iter().sum::<u64>() > 0, "{stats:?}");
    }
    if !lacks(&group, "memory") {
        assert!(stats.memory.usage > 0 && stats.memory.limit > 0, "{stats:?}");
    }
    if group.0.v2_directory().is_some_and(|dir| std::fs::read_to_string(dir.join("cpu.pressure")).is_ok()) {
        assert!(stats.pressure.cpu.is_some() && stats.pressure.io.is_some(), "{stats:?}");
    } else {
        println!("SKIP: no PSI");
    }
    group.0.kill_all().unwrap();
    running.finish();
}
