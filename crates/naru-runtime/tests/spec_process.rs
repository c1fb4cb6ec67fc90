//! The `process` object of the specification, field by field, seen from inside a container and from an exec.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{Group, Root, exec, run, skip, spec, start, start_options};
use naru_kernel::pidfd::ExitStatus;
use naru_runtime::oci;
use naru_runtime::request::SpawnOptions;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;

/// What `script` writes in a container whose spec was changed by `change`.
fn output(script: &str, change: impl FnOnce(&mut oci::Spec)) -> String {
    let mut spec = spec(&["sh", "-c", script]);
    spec.linux.seccomp = None;
    change(&mut spec);
    let (status, text) = run(&spec);
    assert_eq!(status, ExitStatus::Code(0), "{script}: {text}");
    text.trim().to_owned()
}

/// The message of a start that must fail.
fn refused(change: impl FnOnce(&mut oci::Spec)) -> String {
    let (root, group) = (Root::new(), Group::new());
    let mut spec = spec(&["true"]);
    change(&mut spec);
    start(&root, &spec, Some(&group)).map(|_| ()).unwrap_err().message
}

#[test]
fn priorities() {
    // proc_pid_stat(5): 19 is the nice value, 41 the policy.
    const STAT: &str = "set -- $(cat /proc/1/stat); echo nice ${19} policy ${41}";
    if skip() {
        return;
    }
    let text = output(&format!("busybox ionice -p 1; {STAT}"), |spec| {
        spec.process.io_priority = Some(oci::IoPriority { class: "IOPRIO_CLASS_BE".into(), priority: 3 });
        let scheduler = oci::Scheduler { policy: "SCHED_BATCH".into(), nice: 5, ..Default::default() };
        spec.process.scheduler = Some(scheduler);
    });
    assert!(text.contains("best-effort: prio 3") && text.contains("nice 5 policy 3"), "{text}");
    // In the caller's control group: a new one of v1 has no real-time share.
    let mut spec = spec(&["sh", "-c", STAT]);
    let scheduler = oci::Scheduler { policy: "SCHED_FIFO".into(), priority: 2, ..Default::default() };
    spec.process.scheduler = Some(scheduler);
    let (_, text) = start(&Root::new(), &spec, None).unwrap().finish();
    assert!(text.ends_with("policy 1\n"), "{text}");
    let text = refused(|spec| {
        spec.process.scheduler = Some(oci::Scheduler { policy: "SCHED_NOPE".into(), ..Default::default() });
    });
    assert!(text.ends_with("invalid scheduler.policy: \"SCHED_NOPE\""), "{text}");
    let text = refused(|spec| {
        spec.process.io_priority = Some(oci::IoPriority { class: "IOPRIO_CLASS_BE".into(), priority: 9 });
    });
    assert!(text.ends_with("invalid ioPriority.Priority: 9"), "{text}");
}

#[test]
fn a_deadline_scheduler() {
    if skip() {
        return;
    }
    let (root, group) = (Root::new(), Group::new());
    let mut spec = spec(&["sh", "-c", "set -- $(cat /proc/1/stat); echo policy ${41}"]);
    spec.linux.seccomp = None;
    spec.process.scheduler = Some(oci::Scheduler {
        policy: "SCHED_DEADLINE".into(),
        runtime: 5_000_000,
        deadline: 100_000_000,
        period: 100_000_000,
        flags: vec!["SCHED_FLAG_RESET_ON_FORK".into()],
        ..Default::default()
    });
    match start(&root, &spec, Some(&group)) {
        Ok(running) => {
            let (_, text) = running.finish();
            assert!(text.contains("policy 6"), "{text}");
        }
        // A host that gives this group no real-time share says so.
        Err(error) => assert_eq!(error.step, "set the scheduling policy 6", "{}", error.message),
    }
}

#[test]
fn personality_and_memory_policy() {
    if skip() {
        return;
    }
    let machine = output("busybox uname -m", |spec| {
        spec.linux.personality = Some(oci::Personality { domain: "LINUX32".into(), flags: Vec::new() });
    });
    assert!(machine == "i686" || machine.starts_with("armv"), "{machine}");
    let text = refused(|spec| {
        spec.linux.personality = Some(oci::Personality { domain: "BSD".into(), flags: Vec::new() });
    });
    assert!(text.ends_with("invalid personality domain \"BSD\""), "{text}");
    if !std::path::Path::new("/proc/self/numa_maps").exists() {
        println!("SKIP: this kernel has no NUMA");
        return;
    }
    let maps = output("cat /proc/1/numa_maps | head -1", |spec| {
        let policy = oci::MemoryPolicy {
            mode: "MPOL_BIND".into(),
            nodes: "0".into(),
            flags: vec!["MPOL_F_STATIC_NODES".into()],
        };
        spec.linux.memory_policy = Some(policy);
    });
    assert!(maps.contains("bind=static:0"), "{maps}");
}

#[test]
fn labels_of_modules_that_are_not_there() {
    if skip() {
        return;
    }
    let apparmor = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled")
        .is_ok_and(|text| text.starts_with('Y'));
    if apparmor {
        let label = output("cat /proc/self/attr/current", |spec| {
            spec.process.apparmor_profile = "unconfined".into();
        });
        assert_eq!(label, "unconfined");
        let text = refused(|spec| spec.process.apparmor_profile = "naru-no-such-profile".into());
        assert!(text.contains("set the label of the program to exec naru-no-such-profile"), "{text}");
    } else {
        assert_eq!(output("echo on", |spec| spec.process.apparmor_profile = "unconfined".into()), "on");
        let text = refused(|spec| spec.process.apparmor_profile = "x".into());
        assert!(text.ends_with("AppArmor is not enabled on this machine"), "{text}");
    }
    if !std::path::Path::new("/sys/fs/selinux/enforce").exists() {
        let text = refused(|spec| spec.process.selinux_label = "u:r:t:s0".into());
        assert!(text.contains("selinux is disabled or not supported"), "{text}");
    }
}

#[test]
fn limits_umask_groups_and_no_new_privileges() {
    if skip() {
        return;
    }
    let text = output(
        "cat /proc/self/oom_score_adj; ulimit -Sn; ulimit -Hn; umask; id -G; grep NoNewPrivs /proc/self/status",
        |spec| {
            spec.process.oom_score_adj = Some(321);
            spec.process.rlimits = vec![oci::Rlimit { kind: "RLIMIT_NOFILE".into(), soft: 100, hard: 200 }];
            spec.process.no_new_privileges = true;
            let user = &mut spec.process.user;
            (user.username, user.uid, user.gid) = (String::new(), 7, 8);
            (user.umask, user.additional_gids) = (Some(0o27), vec![9, 10]);
        },
    );
    assert_eq!(text, "321\n100\n200\n0027\n8 9 10\nNoNewPrivs:\t1");
    let text = refused(|spec| {
        let limit = oci::Rlimit { kind: "RLIMIT_CORE".into(), soft: 0, hard: 0 };
        spec.process.rlimits = vec![limit.clone(), limit];
    });
    assert!(text.ends_with("rlimits has RLIMIT_CORE twice"), "{text}");
    let text = refused(|spec| spec.process.cwd = "relative".into());
    assert!(text.contains("needs to be an absolute path"), "{text}");
}

#[test]
fn five_sets_of_capabilities() {
    if skip() {
        return;
    }
    let list = |names: &[&str]| names.iter().map(|name| format!("CAP_{name}")).collect::<Vec<_>>();
    let text = output("grep Cap /proc/self/status", |spec| {
        spec.process.user = oci::User { uid: 5, gid: 5, ..Default::default() };
        spec.process.capabilities = Some(oci::Capabilities {
            bounding: list(&["CHOWN", "KILL", "NET_RAW"]),
            permitted: list(&["CHOWN", "KILL"]),
            effective: list(&["KILL"]),
            inheritable: list(&["KILL"]),
            ambient: list(&["KILL"]),
        });
    });
    let sets: Vec<u64> = text
        .lines()
        .map(|line| u64::from_str_radix(line.split_whitespace().nth(1).unwrap(), 16).unwrap())
        .collect();
    let (chown, kill, net_raw) = (1, 1 << 5, 1 << 13);
    // Inheritable, permitted, effective, bounding, ambient: an ordinary user keeps over execve what is ambient.
    assert_eq!(sets, [kill, kill, kill, chown | kill | net_raw, kill], "{text}");
    let (root, group) = (Root::new(), Group::new());
    let mut strange = spec(&["true"]);
    strange.process.capabilities.as_mut().unwrap().bounding.push("CAP_FLY".into());
    let running = start(&root, &strange, Some(&group)).unwrap();
    assert_eq!(running.spawned.warnings, ["ignoring unknown or unavailable capabilities: [CAP_FLY]"]);
    running.finish();
    // Seen before anything is made: the kernel's own refusal would come when a created container is started.
    let text = refused(|spec| {
        spec.process.capabilities = Some(oci::Capabilities {
            permitted: list(&["KILL"]),
            inheritable: list(&["KILL"]),
            effective: list(&["FLY"]),
            ..Default::default()
        });
    });
    let words =
        "which the bounding set does not have (ignoring unknown or unavailable capabilities: [CAP_FLY])";
    assert!(text.contains(words) && text.ends_with("operation not permitted"), "{text}");
}

#[test]
fn preserved_descriptors() {
    if skip() {
        return;
    }
    let file = |text: &str| {
        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(text.as_bytes()).unwrap();
        OwnedFd::from(reader)
    };
    let (root, group) = (Root::new(), Group::new());
    let script =
        "head -c 3 <&3; head -c 3 <&4; for fd in /proc/$$/fd/*; do [ -e $fd ] && echo ${fd##*/}; done; true";
    let spec = spec(&["sh", "-c", script]);
    let options = SpawnOptions { preserve_fds: vec![file("one"), file("two")], ..Default::default() };
    let (status, text) = start_options(&root, &spec, Some(&group), options).unwrap().finish();
    assert_eq!((status, text.as_str()), (ExitStatus::Code(0), "onetwo0\n1\n2\n3\n4\n"));
}

#[test]
fn a_root_without_pivot() {
    if skip() {
        return;
    }
    let (root, group) = (Root::new(), Group::new());
    let spec = spec(&["sh", "-c", "ls -d /work /usr 2>/dev/null; cat /proc/1/comm; touch /new; ls /; pwd"]);
    let options = SpawnOptions { no_pivot: true, ..Default::default() };
    let (status, text) = start_options(&root, &spec, Some(&group), options).unwrap().finish();
    assert_eq!(status, ExitStatus::Code(0), "{text}");
    assert!(text.starts_with("sh\nbin\n") && text.contains("new\n") && text.ends_with("/\n"), "{text}");
    assert!(root.upper().join("new").exists());
}

#[test]
fn keyrings() {
    if skip() {
        return;
    }
    // Only what the container's own session has is possessed: the caller's keyring shows when it is kept.
    let own = naru_kernel::keyring::session_id().unwrap();
    let serial = format!("{own:08x}");
    let (root, group) = (Root::new(), Group::new());
    let mut spec = spec(&["cat", "/proc/keys"]);
    spec.linux.masked_paths.clear();
    let options = SpawnOptions { no_new_keyring: true, ..Default::default() };
    let (_, kept) = start_options(&root, &spec, Some(&group), options).unwrap().finish();
    let (_, fresh) = start(&root, &spec, Some(&group)).unwrap().finish();
    assert!(kept.contains(&serial), "{serial} in {kept}");
    assert!(fresh.contains("naru-test0123456789"), "{fresh}");
}

#[test]
fn resource_director() {
    if skip() {
        return;
    }
    if std::path::Path::new("/sys/fs/resctrl/schemata").exists() {
        println!("SKIP: this machine has resctrl, whose groups are not this test's to make");
        return;
    }
    let text = refused(|spec| spec.linux.intel_rdt = Some(oci::IntelRdt::default()));
    assert!(text.contains("no resctrl file system is mounted"), "{text}");
}

#[test]
fn an_exec_has_what_the_first_process_has() {
    if skip() {
        return;
    }
    let (root, group) = (Root::new(), Group::new());
    let mut config = spec(&["sh", "-c", "echo up; sleep 60"]);
    config.linux.personality = Some(oci::Personality { domain: "LINUX32".into(), flags: Vec::new() });
    config.process.no_new_privileges = true;
    config.process.io_priority = Some(oci::IoPriority { class: "IOPRIO_CLASS_BE".into(), priority: 6 });
    let mut running = start(&root, &config, Some(&group)).unwrap();
    running.wait_for("up");
    let script =
        "busybox uname -m; grep -E 'Seccomp:|NoNewPrivs|Cpus_allowed_list' /proc/self/status; busybox ionice";
    let mut process = config.process.clone();
    process.args = vec!["sh".into(), "-c".into(), script.into()];
    process.exec_cpu_affinity = Some(oci::CpuAffinity { initial: "0".into(), last: "0".into() });
    let (status, text) = exec(&config, &process, &running, Some(&group), false).unwrap().finish();
    assert_eq!(status, ExitStatus::Code(0), "{text}");
    for part in ["NoNewPrivs:\t1", "Seccomp:\t2", "Cpus_allowed_list:\t0\n", "best-effort: prio 6"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(!text.starts_with("x86_64"), "{text}");
    process.exec_cpu_affinity = Some(oci::CpuAffinity { initial: "x".into(), last: String::new() });
    let error = exec(&config, &process, &running, Some(&group), false).map(|_| ()).unwrap_err();
    assert!(error.message.ends_with("execCPUAffinity.initial is not a list of numbers and ranges: \"x\""));
    group.0.kill_all().unwrap();
    running.finish();
}

/// The agent gets one state with one descriptor per connection, and its answer reaches the program.
#[test]
fn a_seccomp_agent_hears_of_notified_calls() {
    if skip() {
        return;
    }
    let (root, group) = (Root::new(), Group::new());
    let path = root.dir.path().join("agent.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let agent = std::thread::spawn(move || {
        let (socket, _) = listener.accept().unwrap();
        let mut buffer = vec![0u8; 64 << 10];
        let received = naru_kernel::unix::recv(&socket, &mut buffer).unwrap();
        let mut text = buffer[..received.len].to_vec();
        (&socket).read_to_end(&mut text).unwrap();
        // Closing the only listener makes notified calls fail with ENOSYS (seccomp_unotify(2)).
        assert_eq!(received.fds.len(), 1);
        serde_json::from_slice::<serde_json::Value>(&text).unwrap()
    });
    let mut spec = spec(&["sh", "-c", "busybox mkdir /x 2>&1; true"]);
    let rule = |names: &[&str]| oci::SyscallRule {
        names: names.iter().map(|name| (*name).to_owned()).collect(),
        action: "SCMP_ACT_NOTIFY".into(),
        ..Default::default()
    };
    spec.linux.seccomp = Some(oci::Seccomp {
        default_action: "SCMP_ACT_ALLOW".into(),
        syscalls: vec![rule(&["mkdir", "mkdirat"])],
        listener_path: path.to_string_lossy().into_owned(),
        listener_metadata: "meta".into(),
        ..Default::default()
    });
    let (_, text) = start(&root, &spec, Some(&group)).unwrap().finish();
    assert!(text.contains("Function not implemented"), "{text}");
    let state = agent.join().unwrap();
    assert_eq!(state["fds"], serde_json::json!(["seccompFd"]));
    assert_eq!((&state["metadata"], &state["state"]["status"]), (&"meta".into(), &"creating".into()));
    assert!(state["pid"].as_i64().unwrap() > 1);
    // Without an agent there is no container.
    std::fs::remove_file(&path).unwrap();
    let error = start(&root, &spec, Some(&group)).map(|_| ()).unwrap_err();
    assert!(error.message.contains("cannot hand the seccomp listener to the agent"), "{}", error.message);
}
