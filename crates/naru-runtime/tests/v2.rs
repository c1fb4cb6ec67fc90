//! The same containers where the host has only cgroup v2: a private mount namespace puts it over /sys/fs/cgroup.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{Group, Root, exec, skip, spec, start};
use naru_kernel::mount::{self, Propagation};
use naru_kernel::ns;
use naru_kernel::pidfd::ExitStatus;
use naru_runtime::oci;

/// Runs `work` on a thread that sees cgroup v2 alone. False: this kernel does not let us.
fn with_v2_view(work: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            ns::unshare(ns::NEWNS).unwrap();
            mount::set_root_propagation(Propagation::Private).unwrap();
            match mount::new_fs(c"cgroup2", Some(c"none"), std::iter::empty(), 0) {
                Ok(view) => {
                    mount::attach_host(view, c"/sys/fs/cgroup").unwrap();
                    work();
                }
                Err(errno) => println!("SKIP: cannot mount cgroup2: {errno}"),
            }
        });
        worker.join().unwrap();
    });
}

#[test]
fn a_container_lives_and_dies_in_v2() {
    if skip() {
        return;
    }
    with_v2_view(|| {
        let (root, group) = (Root::new(), Group::new());
        assert!(group.0.layout().is_v2_only());
        let script = "cat /proc/self/cgroup | tail -1; stat -f -c %T /sys/fs/cgroup; mkdir /sys/fs/cgroup/x 2>/dev/null || echo ro; echo up; sleep 60";
        let config = spec(&["sh", "-c", script]);
        let mut running = start(&root, &config, Some(&group)).unwrap();
        let output = running.wait_for("up");
        assert!(output.starts_with("0::/\n") && output.contains("ro\n"), "{output}");
        assert!(group.0.pids().unwrap().contains(&running.spawned.pid));
        let process = oci::Process { args: vec!["true".into()], cwd: "/".into(), ..Default::default() };
        assert_eq!(
            exec(&config, &process, &running, Some(&group), false).unwrap().finish().0,
            ExitStatus::Code(0)
        );
        group.0.freeze().unwrap();
        group.0.thaw().unwrap();
        assert!(group.0.stats().unwrap().cpu.total_ns > 0);
        group.0.kill_all().unwrap();
        assert_eq!(running.finish().0, ExitStatus::Signal(9));
    });
}

/// An exec joins the container's group, and what its first process is in only when that takes nobody.
#[test]
fn an_exec_beside_an_init_in_a_sub_group() {
    if skip() {
        return;
    }
    with_v2_view(|| {
        let (root, group) = (Root::new(), Group::new());
        let config = spec(&["sleep", "60"]);
        let running = start(&root, &config, Some(&group)).unwrap();
        let own = group.0.v2_directory().unwrap();
        std::fs::create_dir(own.join("sub")).unwrap();
        std::fs::write(own.join("sub/cgroup.procs"), running.spawned.pid.to_string()).unwrap();
        let place = || {
            let args = vec!["cat".into(), "/proc/self/cgroup".into()];
            let process = oci::Process { args, ..config.process.clone() };
            let (_, text) = exec(&config, &process, &running, Some(&group), false).unwrap().finish();
            text.lines().last().unwrap_or_default().to_owned()
        };
        assert_eq!(place(), "0::/");
        let controllers = std::fs::read_to_string(own.join("cgroup.controllers")).unwrap();
        // A threaded controller would not keep processes out.
        let domain = |name: &&str| matches!(*name, "memory" | "io" | "hugetlb");
        if let Some(name) = controllers.split_whitespace().find(domain) {
            std::fs::write(own.join("cgroup.subtree_control"), format!("+{name}")).unwrap();
            assert_eq!(place(), "0::/sub");
        }
        group.0.kill_all().unwrap();
        running.finish();
    });
}

#[test]
fn devices_are_limited_by_a_program() {
    if skip() {
        return;
    }
    with_v2_view(devices_are_limited);
}

#[test]
fn devices_are_limited_on_this_host() {
    if skip() {
        return;
    }
    devices_are_limited();
}

/// The right to make a node of the host's disk is not the right to open it.
fn devices_are_limited() {
    let (root, group) = (Root::new(), Group::new());
    let script = "mknod /tmp/disk b 254 0 && echo made; head -c 1 /tmp/disk >/dev/null 2>&1 || echo denied; head -c 1 /dev/zero | wc -c; echo x > /dev/null && echo null";
    let config = spec(&["sh", "-c", script]);
    let warnings = group.0.apply(&config.linux.resources).unwrap();
    if !warnings.is_empty() {
        println!("SKIP: {warnings:?}");
        return;
    }
    let (_, output) = start(&root, &config, Some(&group)).unwrap().finish();
    assert_eq!(output, "made\ndenied\n1\nnull\n");
}
