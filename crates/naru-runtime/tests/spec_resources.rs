//! config-linux.md, "Control groups": each limit is written and read back from the kernel, where it has the file.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{Group, skip};
use naru_runtime::oci;
use std::path::PathBuf;

fn place(group: &Group, controller: &str) -> Option<PathBuf> {
    let found = group.0.layout().v1_with(controller).map(|hierarchy| group.0.directory_in(hierarchy));
    if found.is_none() {
        println!("SKIP: needs the v1 {controller} controller");
    }
    found
}

fn resources(json: &str) -> oci::Resources {
    serde_json::from_str(json).unwrap()
}

/// Applies the JSON and compares files that the kernel has.
fn check(controller: &str, json: &str, expected: &[(&str, &str)]) {
    let group = Group::new();
    let Some(directory) = place(&group, controller) else { return };
    let result = group.0.apply(&resources(json));
    let (present, absent): (Vec<_>, Vec<_>) =
        expected.iter().partition(|(file, _)| directory.join(file).exists());
    match absent.first() {
        // Asked for and not there: told, by an error that names the file or by a warning.
        Some((file, _)) => {
            println!("SKIP: this kernel has no {file}");
            match result {
                Err(error) => assert!(error.to_string().contains(file), "{error}"),
                Ok(warnings) => assert!(!warnings.is_empty(), "{file} ignored without a word"),
            }
            return;
        }
        None => assert_eq!(result.unwrap(), Vec::<String>::new()),
    }
    for (file, value) in present {
        assert_eq!(std::fs::read_to_string(directory.join(file)).unwrap().trim(), value, "{file}");
    }
}

#[test]
fn memory() {
    if skip() {
        return;
    }
    check(
        "memory",
        r#"{"memory": {"limit": 67108864, "reservation": 33554432, "swappiness": 7, "useHierarchy": true}}"#,
        &[
            ("memory.limit_in_bytes", "67108864"),
            ("memory.soft_limit_in_bytes", "33554432"),
            ("memory.swappiness", "7"),
        ],
    );
    check(
        "memory",
        r#"{"memory": {"kernelTCP": 33554432}}"#,
        &[("memory.kmem.tcp.limit_in_bytes", "33554432")],
    );
    check(
        "memory",
        r#"{"memory": {"limit": 67108864, "swap": 134217728}}"#,
        &[("memory.limit_in_bytes", "67108864"), ("memory.memsw.limit_in_bytes", "134217728")],
    );
}

#[test]
fn cpu() {
    if skip() {
        return;
    }
    check(
        "cpu",
        r#"{"cpu": {"shares": 512, "quota": 50000, "period": 200000, "burst": 10000}}"#,
        &[
            ("cpu.shares", "512"),
            ("cpu.cfs_quota_us", "50000"),
            ("cpu.cfs_period_us", "200000"),
            ("cpu.cfs_burst_us", "10000"),
        ],
    );
    check("cpu", r#"{"cpu": {"idle": 1}}"#, &[("cpu.idle", "1")]);
    check("cpuset", r#"{"cpu": {"cpus": "0", "mems": "0"}}"#, &[("cpuset.cpus", "0"), ("cpuset.mems", "0")]);
}

#[test]
fn pids() {
    if skip() {
        return;
    }
    check("pids", r#"{"pids": {"limit": 7}}"#, &[("pids.max", "7")]);
    check("pids", r#"{"pids": {"limit": -1}}"#, &[("pids.max", "max")]);
}

#[test]
fn devices_are_changed_without_a_gap() {
    if skip() {
        return;
    }
    let group = Group::new();
    let Some(directory) = place(&group, "devices") else { return };
    let list = |extra: &str| {
        let json = format!(
            r#"{{"devices": [{{"allow": false, "access": "rwm"}}, {{"allow": true, "type": "c", "major": 1, "minor": 3, "access": "rw"}}{extra}]}}"#
        );
        group.0.apply(&resources(&json)).unwrap();
        std::fs::read_to_string(directory.join("devices.list")).unwrap()
    };
    assert_eq!(list(r#", {"allow": true, "type": "b", "access": "m"}"#), "c 1:3 rw\nb *:* m\n");
    assert_eq!(list(""), "c 1:3 rw\n");
    // With a sub-group the kernel takes no `a` any more.
    let below = directory.join("below");
    std::fs::create_dir(&below).unwrap();
    assert_eq!(list(r#", {"allow": true, "type": "c", "major": 5, "access": "r"}"#), "c 1:3 rw\nc 5:* r\n");
}

#[test]
fn what_cannot_be_is_named() {
    if skip() {
        return;
    }
    let group = Group::new();
    for (json, word) in [
        (r#"{"hugepageLimits": [{"pageSize": "3MB", "limit": 4096}]}"#, "hug"),
        (r#"{"hugepageLimits": [{"pageSize": "../x", "limit": 4096}]}"#, "huge page size"),
        (r#"{"unified": {"../x": "1"}}"#, "no slashes"),
        (r#"{"unified": {"memory": "1"}}"#, "CONTROLLER.PARAMETER"),
        (r#"{"devices": [{"allow": true, "type": "x", "access": "r"}]}"#, "device rule"),
        (r#"{"memory": {"swappiness": 101}}"#, "swappiness"),
    ] {
        let error = group.0.apply(&resources(json)).unwrap_err().to_string();
        assert!(error.contains(word), "{json}: {error}");
    }
}

#[test]
fn huge_pages() {
    if skip() {
        return;
    }
    let group = Group::new();
    let v1 = group.0.layout().v1_with("hugetlb").map(|hierarchy| group.0.directory_in(hierarchy));
    let (directory, end) = match v1 {
        Some(directory) => (directory, "limit_in_bytes"),
        None => (group.0.v2_directory().unwrap_or_default(), "max"),
    };
    let result = group.0.apply(&resources(r#"{"hugepageLimits": [{"pageSize": "2MB", "limit": 4194304}]}"#));
    if !directory.join(format!("hugetlb.2MB.{end}")).exists() {
        let error = result.unwrap_err().to_string();
        assert!(error.contains("huge"), "{error}");
        println!("SKIP: no hugetlb controller for 2MB pages: {error}");
        return;
    }
    assert!(result.unwrap().is_empty());
    for file in [format!("hugetlb.2MB.{end}"), format!("hugetlb.2MB.rsvd.{end}")] {
        if directory.join(&file).exists() {
            assert_eq!(std::fs::read_to_string(directory.join(&file)).unwrap().trim(), "4194304", "{file}");
        }
    }
}

/// The program is replaced, not joined by a second one: a wider list would otherwise never take effect.
#[test]
fn a_new_device_list_replaces_the_program() {
    if skip() {
        return;
    }
    let worker = std::thread::spawn(|| {
        use naru_kernel::{devbpf, mount, ns};
        ns::unshare(ns::NEWNS).unwrap();
        mount::set_root_propagation(mount::Propagation::Private).unwrap();
        let view = match mount::new_fs(c"cgroup2", Some(c"none"), std::iter::empty(), 0) {
            Ok(view) => view,
            Err(errno) => {
                println!("SKIP: cannot mount cgroup2: {errno}");
                return;
            }
        };
        mount::attach_host(view, c"/sys/fs/cgroup").unwrap();
        let group = Group::new();
        for access in ["r", "rw", "rwm"] {
            let json = format!(
                r#"{{"devices": [{{"allow": false, "access": "rwm"}}, {{"allow": true, "type": "c", "access": "{access}"}}]}}"#
            );
            let warnings = group.0.apply(&resources(&json)).unwrap();
            if !warnings.is_empty() {
                println!("SKIP: {warnings:?}");
                return;
            }
            let directory = std::fs::File::open(group.0.v2_directory().unwrap()).unwrap();
            assert_eq!(devbpf::count(&directory).unwrap(), 1, "{access}");
        }
        let error = group.0.apply(&resources(r#"{"memory": {"limit": 1048576}}"#)).map(|_| ());
        assert!(
            group.0.layout().is_v2_only()
                && (error.is_ok() || error.unwrap_err().to_string().contains("memory"))
        );
    });
    worker.join().unwrap();
}

/// Throttles need a disk that the kernel knows; one is taken from /sys/block.
#[test]
fn block_io() {
    if skip() {
        return;
    }
    let group = Group::new();
    let Some(directory) = place(&group, "blkio") else { return };
    let disks = std::fs::read_dir("/sys/block").unwrap().flatten();
    let numbers = disks.filter_map(|disk| std::fs::read_to_string(disk.path().join("dev")).ok());
    let Some(disk) = numbers.map(|text| text.trim().to_owned()).next() else {
        println!("SKIP: no block device");
        return;
    };
    let (major, minor) = disk.split_once(':').unwrap();
    for (key, file, rate) in [
        ("throttleReadBpsDevice", "blkio.throttle.read_bps_device", 1_048_576),
        ("throttleWriteBpsDevice", "blkio.throttle.write_bps_device", 2_097_152),
        ("throttleReadIOPSDevice", "blkio.throttle.read_iops_device", 100),
        ("throttleWriteIOPSDevice", "blkio.throttle.write_iops_device", 200),
    ] {
        let read = || std::fs::read_to_string(directory.join(file)).unwrap().trim().to_owned();
        for (rate, expected) in [(rate, format!("{disk} {rate}")), (0, String::new())] {
            let json = format!(
                r#"{{"blockIO": {{"{key}": [{{"major": {major}, "minor": {minor}, "rate": {rate}}}]}}}}"#
            );
            group.0.apply(&resources(&json)).unwrap();
            assert_eq!(read(), expected, "{file}");
        }
    }
}

/// Real-time shares are given from above: the root has some, a new group has none to give on.
#[test]
fn realtime() {
    if skip() {
        return;
    }
    let group = Group::new();
    let Some(directory) = place(&group, "cpu") else { return };
    let json = r#"{"cpu": {"realtimePeriod": 500000, "realtimeRuntime": 1000}}"#;
    let result = group.0.apply(&resources(json));
    if directory.join("cpu.rt_runtime_us").exists() {
        result.unwrap();
        for (file, value) in [("cpu.rt_period_us", "500000"), ("cpu.rt_runtime_us", "1000")] {
            assert_eq!(std::fs::read_to_string(directory.join(file)).unwrap().trim(), value, "{file}");
        }
    } else {
        let error = result.unwrap_err().to_string();
        assert!(error.contains("cpu.rt_"), "{error}");
        println!("SKIP: no CONFIG_RT_GROUP_SCHED: {error}");
    }
}

/// The OOM killer is off; v2 has no such switch.
#[test]
fn without_the_oom_killer() {
    if skip() {
        return;
    }
    let group = Group::new();
    let Some(directory) = place(&group, "memory") else { return };
    group.0.apply(&resources(r#"{"memory": {"limit": 67108864, "disableOOMKiller": true}}"#)).unwrap();
    let control = std::fs::read_to_string(directory.join("memory.oom_control")).unwrap();
    assert!(control.contains("oom_kill_disable 1\n"), "{control}");
}
