//! Images and specs that try to get out: each test names what it answers.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{Group, Root, skip, spec, start};
use naru_kernel::pidfd::ExitStatus;
use naru_runtime::oci::Mount;
use std::os::unix::fs::symlink;

/// CVE-2026-41579, CVE-2026-47766, CVE-2019-16884: /dev or /proc of the image is a symlink that leads out of it, with
/// file systems mounted there and, for the device nodes, without. Guard: `path::IN_ROOT`.
#[test]
fn symlinked_proc_and_dev_stay_inside() {
    if skip() {
        return;
    }
    for (name, mounted) in [("dev", true), ("dev", false), ("proc", true), ("sys", true)] {
        let root = Root::new();
        let outside = tempfile::tempdir().unwrap();
        let up = format!("../../../../../../../../..{}", outside.path().display());
        symlink(up, root.lower().join(name)).unwrap();
        let group = Group::new();
        let mut spec = spec(&["true"]);
        spec.mounts.retain(|mount| mounted || !mount.destination.starts_with("/dev"));
        if let Ok(running) = start(&root, &spec, Some(&group)) {
            running.finish();
        }
        let left = std::fs::read_dir(outside.path()).unwrap().count();
        assert_eq!(left, 0, "/{name} led out");
    }
}

/// CVE-2024-21626: a working directory that is a descriptor of the host.
#[test]
fn cwd_through_a_descriptor_is_refused() {
    if skip() {
        return;
    }
    let (root, group) = (Root::new(), Group::new());
    for fd in 0..20 {
        let mut spec = spec(&["pwd"]);
        spec.process.cwd = format!("/proc/self/fd/{fd}");
        assert!(start(&root, &spec, Some(&group)).is_err(), "fd {fd}");
    }
    let mut climbing = spec(&["pwd"]);
    climbing.process.cwd = "/../../etc".into();
    assert!(start(&root, &climbing, Some(&group)).is_err());
}

/// CVE-2025-31133: the image's own /dev/null is a symlink.
#[test]
fn a_swapped_null_device_masks_nothing_else() {
    if skip() {
        return;
    }
    let root = Root::new();
    std::fs::create_dir(root.lower().join("dev")).unwrap();
    symlink("/etc/passwd", root.lower().join("dev/null")).unwrap();
    let group = Group::new();
    let running = start(&root, &spec(&["sh", "-c", "wc -c < /proc/keys"]), Some(&group)).unwrap();
    assert_eq!(running.finish(), (ExitStatus::Code(0), "0\n".into()));
}

/// CVE-2021-30465 and its like: a mount destination behind a symlink to the host's root.
#[test]
fn mount_destinations_resolve_inside() {
    if skip() {
        return;
    }
    let (root, group) = (Root::new(), Group::new());
    let source = tempfile::tempdir().unwrap();
    std::fs::write(source.path().join("mark"), "m").unwrap();
    let outside = tempfile::tempdir().unwrap();
    symlink(format!("../../../../../..{}", outside.path().display()), root.lower().join("out")).unwrap();
    let mut spec = spec(&["true"]);
    spec.mounts.push(Mount {
        destination: "/out/deep".into(),
        kind: "bind".into(),
        source: source.path().display().to_string(),
        options: vec!["rbind".into()],
        ..Mount::default()
    });
    if let Ok(running) = start(&root, &spec, Some(&group)) {
        running.finish();
    }
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
}

/// CVE-2024-45310: a target of the image is a link to nothing, which making the target would make on the host. Guard:
/// `path::create` takes no link.
#[test]
fn a_dangling_target_makes_nothing_outside() {
    if skip() {
        return;
    }
    let source = tempfile::tempdir().unwrap();
    let file = source.path().join("file");
    std::fs::write(&file, "").unwrap();
    let outside = tempfile::tempdir().unwrap();
    let made = outside.path().join("made");
    for (from, link) in [(source.path(), "dir"), (&*file, "file")] {
        let (root, group) = (Root::new(), Group::new());
        symlink(&made, root.lower().join(link)).unwrap();
        let mut spec = spec(&["true"]);
        spec.mounts.push(Mount {
            destination: format!("/{link}"),
            kind: "bind".into(),
            source: from.display().to_string(),
            options: vec!["rbind".into()],
            ..Mount::default()
        });
        assert!(start(&root, &spec, Some(&group)).is_err(), "{link}");
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0, "{link}");
    }
}

/// CVE-2025-24965 (a file that the runtime writes into the image goes where a link of the image leads): every name that a
/// start makes or mounts on is a link to a file of the host's, or to a directory that has none. Guard: `path::IN_ROOT`,
/// and `path::create` takes no link.
#[test]
fn nothing_is_written_through_the_images_links() {
    if skip() {
        return;
    }
    let outside = tempfile::tempdir().unwrap();
    let file = outside.path().join("file");
    std::fs::write(&file, "untouched").unwrap();
    let up = |to: &str| format!("../../../../../../../../../..{}/{to}", outside.path().display());
    let source = tempfile::tempdir().unwrap();
    std::fs::write(source.path().join("hosts"), "written").unwrap();
    for to in ["", "file", "missing", "missing/below"] {
        for (link, mounted, cwd) in [
            ("etc/hosts", "/etc/hosts", "/"),
            ("etc/resolv.conf", "/etc/resolv.conf", "/"),
            ("conf", "/conf/deep/hosts", "/"),
            ("work", "/x/hosts", "/work"),
            ("work", "/x/hosts", "/work/deep"),
            ("dev", "/x/hosts", "/"),
        ] {
            let (root, group) = (Root::new(), Group::new());
            symlink(up(to), root.lower().join(link)).unwrap();
            let mut spec = spec(&["sh", "-c", "echo more >> /etc/hosts; echo more >> /conf"]);
            spec.mounts.push(Mount {
                destination: mounted.into(),
                kind: "bind".into(),
                source: source.path().join("hosts").display().to_string(),
                options: vec!["rbind".into(), "ro".into()],
                ..Mount::default()
            });
            spec.process.cwd = cwd.into();
            if let Ok(running) = start(&root, &spec, Some(&group)) {
                running.finish();
            }
            assert_eq!(std::fs::read_to_string(&file).unwrap(), "untouched", "{link} to {to}");
            assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1, "{link} to {to}");
        }
    }
    assert_eq!(std::fs::read_to_string(source.path().join("hosts")).unwrap(), "written");
}

/// A read-only bind stays read-only, below as well, and a file can be a target.
#[test]
fn read_only_binds() {
    if skip() {
        return;
    }
    let (root, group) = (Root::new(), Group::new());
    let source = tempfile::tempdir().unwrap();
    std::fs::write(source.path().join("file"), "content").unwrap();
    let bind = |target: &str, from: std::path::PathBuf, access: &str| Mount {
        destination: target.into(),
        kind: "bind".into(),
        source: from.display().to_string(),
        options: vec!["rbind".into(), access.into(), "rprivate".into()],
        ..Mount::default()
    };
    let mut spec = spec(&["sh", "-c", "cat /made/file; touch /ro/x 2>/dev/null || echo ro; touch /rw/x"]);
    spec.mounts.push(bind("/made/file", source.path().join("file"), "rro"));
    spec.mounts.push(bind("/ro", source.path().into(), "rro"));
    spec.mounts.push(bind("/rw", source.path().into(), "rw"));
    assert_eq!(start(&root, &spec, Some(&group)).unwrap().finish().1, "contentro\n");
    assert!(source.path().join("x").exists());
}

/// Sysctls of the whole machine, and the host's own names, are out of reach.
#[test]
fn only_namespaced_sysctls_and_own_names() {
    if skip() {
        return;
    }
    let (root, group) = (Root::new(), Group::new());
    for name in [
        "kernel.core_pattern",
        "vm.swappiness",
        "net/../kernel.core_pattern",
        "net/../kernel/core_pattern",
        "net.//.kernel.core_pattern",
        "kernel.hostname",
    ] {
        let mut spec = spec(&["true"]);
        spec.linux.sysctl.insert(name.into(), "x".into());
        let error = start(&root, &spec, Some(&group)).map(|_| ()).unwrap_err();
        assert!(error.exit_code == 128, "{name}: {}", error.message);
    }
    let own = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    let mut shared = spec(&["hostname"]);
    shared.linux.namespaces.retain(|namespace| namespace.kind != naru_runtime::oci::NamespaceKind::Uts);
    let error = start(&root, &shared, Some(&group)).map(|_| ()).unwrap_err();
    assert!(error.message.ends_with("unable to set hostname without a private UTS namespace"));
    shared.hostname.clear();
    assert_eq!(start(&root, &shared, Some(&group)).unwrap().finish().1, own);
    assert_eq!(std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap(), own);
}

/// A shared volume makes the root a shared mount, which pivot_root(2) refuses when it is one too early.
#[test]
fn a_shared_volume_starts() {
    if skip() {
        return;
    }
    let (root, group) = (Root::new(), Group::new());
    for propagation in ["shared", "rshared", "slave", "rslave"] {
        let mut spec = spec(&["true"]);
        spec.linux.rootfs_propagation = propagation.into();
        let running =
            start(&root, &spec, Some(&group)).unwrap_or_else(|error| panic!("{propagation}: {error}"));
        assert_eq!(running.finish().0, ExitStatus::Code(0));
    }
}

/// Only a privileged container may make control groups of its own.
#[test]
fn cgroups_are_writable_for_the_privileged_alone() {
    if skip() {
        return;
    }
    let (root, group) = (Root::new(), Group::new());
    let mut container = naru_types::spec::ContainerSpec { image: "busybox".into(), ..Default::default() };
    let script = "mkdir /sys/fs/cgroup/made 2>/dev/null && echo made";
    container.process.cmd = Some(["sh", "-c", script].map(str::to_owned).into());
    for (privileged, expect) in [(false, ""), (true, "made\n")] {
        container.security.privileged = privileged;
        let config = common::lowered(&container);
        assert_eq!(start(&root, &config, Some(&group)).unwrap().finish().1, expect, "{privileged}");
    }
}
