//! AppArmor: the default profile is on a container's program and on execs, and it denies what it is for.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{Group, Root, exec, lowered, run, skip, spec, start};
use naru_kernel::pidfd::ExitStatus;
use naru_runtime::apparmor::{DEFAULT_PROFILE, default_profile, enabled};
use naru_runtime::oci;

const CONFINED: &str = "naru-default (enforce)\n";

fn skip_without_apparmor() -> bool {
    if skip() {
        return true;
    }
    if !enabled() {
        println!("SKIP: needs AppArmor");
        return true;
    }
    assert_eq!(default_profile().unwrap(), Some(DEFAULT_PROFILE));
    false
}

fn with_profile(profile: &str, script: &str) -> oci::Spec {
    let mut config = spec(&["sh", "-c", script]);
    config.process.apparmor_profile = profile.into();
    config
}

#[test]
fn init_and_execs_are_confined() {
    if skip_without_apparmor() {
        return;
    }
    let (root, group) = (Root::new(), Group::new());
    let config = with_profile(DEFAULT_PROFILE, "cat /proc/self/attr/current; echo up; sleep 60");
    let mut running = start(&root, &config, Some(&group)).unwrap();
    assert_eq!(running.wait_for("up"), format!("{CONFINED}up"));
    let process = oci::Process {
        args: ["sh", "-c", "cat /proc/self/attr/current /proc/1/attr/current; kill -0 1 && echo signalled"]
            .map(str::to_owned)
            .to_vec(),
        cwd: "/".into(),
        ..Default::default()
    };
    let (status, output) = exec(&config, &process, &running, Some(&group), false).unwrap().finish();
    assert_eq!((status, output), (ExitStatus::Code(0), format!("{CONFINED}{CONFINED}signalled\n")));
    // From the host, unconfined, it can be signalled.
    rustix::process::kill_process(
        rustix::process::Pid::from_raw(running.spawned.pid).unwrap(),
        rustix::process::Signal::KILL,
    )
    .unwrap();
    assert_eq!(running.finish().0, ExitStatus::Signal(9));
}

#[test]
fn no_new_privileges_does_not_lose_the_profile() {
    if skip_without_apparmor() {
        return;
    }
    let mut config = with_profile(DEFAULT_PROFILE, "cat /proc/self/attr/current");
    config.process.no_new_privileges = true;
    assert_eq!(run(&config).1, CONFINED);
}

/// What masks, read-only paths and capabilities hide is given back here: the profile alone denies it.
#[test]
fn the_profile_stands_alone() {
    if skip_without_apparmor() {
        return;
    }
    let script = "try() { \"$@\" 2>/dev/null && echo \"$*: done\"; }
        w() { (echo \"$2\" > \"$1\") 2>/dev/null && echo \"$1: written\"; }
        w /proc/sysrq-trigger h; w /proc/sys/kernel/hostname x; w /proc/sys/vm/swappiness 60
        w /sys/kernel/uevent_helper ''; w /sys/kernel/profiling 0
        try head -c 1 /proc/kcore
        try mount -t tmpfs none /tmp
        try touch /tmp/ordinary; w /proc/self/oom_score_adj 5; w /proc/sys/kernel/shmmax 4096; echo end";
    let mut container = naru_types::spec::ContainerSpec { image: "busybox".into(), ..Default::default() };
    container.process.cmd = Some(["sh", "-c", script].map(str::to_owned).to_vec());
    container.security.privileged = true;
    let mut config = lowered(&container);
    let ordinary = "/proc/self/oom_score_adj: written\n/proc/sys/kernel/shmmax: written\nend\n";
    config.process.apparmor_profile = "unconfined".into();
    let (_, free) = run(&config);
    for allowed in [
        "/proc/sysrq-trigger: written",
        "hostname: written",
        "swappiness: written",
        "mount -t tmpfs none /tmp: done",
    ] {
        assert!(free.contains(allowed), "without a profile: {allowed} in {free}");
    }
    config.process.apparmor_profile = DEFAULT_PROFILE.into();
    assert_eq!(run(&config).1, format!("touch /tmp/ordinary: done\n{ordinary}"));
}

#[test]
fn an_unknown_profile_is_an_error() {
    if skip_without_apparmor() {
        return;
    }
    let (root, group) = (Root::new(), Group::new());
    let error = start(&root, &with_profile("naru-no-such", "true"), Some(&group)).map(drop).unwrap_err();
    assert!(error.message.contains("naru-no-such"), "{}", error.message);
}

#[test]
fn what_is_lowered() {
    let of = |profile: Option<&str>, given: Option<&str>, privileged: bool| {
        let mut container = naru_types::spec::ContainerSpec { image: "busybox".into(), ..Default::default() };
        container.process.cmd = Some(vec!["true".into()]);
        container.security.privileged = privileged;
        container.security.apparmor = given.map(str::to_owned);
        let input = naru_runtime::lower::LowerInput {
            id: "test".into(),
            apparmor_profile: profile.map(str::to_owned),
            ..Default::default()
        };
        naru_runtime::lower::lower(&container, &input).unwrap().process.apparmor_profile
    };
    assert_eq!(of(None, None, false), "");
    assert_eq!(of(Some("naru-default"), None, false), "naru-default");
    assert_eq!(of(Some("naru-default"), None, true), "unconfined");
    assert_eq!(of(Some("naru-default"), Some("own"), true), "own");
    assert_eq!(of(Some("naru-default"), Some("unconfined"), false), "unconfined");
}
