//! The holes that other runtimes had: one test each, which names the guard that it fails without. More symlinks and
//! descriptors are in `hostile.rs`, the keeper's own binary in `keeper/lives.rs`; `guards/README.md` lists them all.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{Group, Root, exec, skip, spec, start, start_options, start_with};
use naru_kernel::pidfd::{self, ExitStatus};
use naru_kernel::{Errno, keyring};
use naru_runtime::hooks::HookInput;
use naru_runtime::oci::{self, Hook, Mount};
use naru_runtime::request::{NetNs, SpawnOptions, SpawnRequest, Stdio};
use std::os::fd::AsRawFd;
use std::os::unix::fs::symlink;
use std::path::Path;

fn bind(source: &Path, destination: &str) -> Mount {
    Mount {
        destination: destination.into(),
        kind: "bind".into(),
        source: source.display().to_string(),
        options: vec!["rbind".into(), "rprivate".into()],
        ..Mount::default()
    }
}

fn is_empty(dir: &Path) -> bool {
    std::fs::read_dir(dir).unwrap().next().is_none()
}

/// CVE-2019-5736 for the process that stays the keeper's copy inside: the init of `--init`. Guard: `Op::Undumpable`
/// and `init::split`, which keep root without CAP_SYS_PTRACE out of /proc/1.
#[test]
fn the_tiny_init_is_closed() {
    if skip() {
        return;
    }
    let (root, group) = (Root::new(), Group::new());
    let script =
        "readlink /proc/1/exe || echo closed; head -c 1 /proc/1/mem || echo closed; ls /proc/1/fd | wc -l";
    let config = spec(&["sh", "-c", &format!("exec 2>/dev/null; {script}")]);
    let (status, output) = start_with(&root, &config, Some(&group), true).unwrap().finish();
    assert_eq!((status, output.as_str()), (ExitStatus::Code(0), "closed\nclosed\n0\n"));
}

/// CVE-2019-16884, CVE-2019-19921, CVE-2023-27561: /proc or /sys is a symlink, inside the root even, that can be turned
/// away after the masks are in place. Guard: `NewFs::plain_target`.
#[test]
fn symlinked_proc_and_sys_are_refused() {
    if skip() {
        return;
    }
    for name in ["proc", "sys"] {
        let (root, group) = (Root::new(), Group::new());
        symlink("tmp", root.lower().join(name)).unwrap();
        let error = start(&root, &spec(&["true"]), Some(&group)).map(|_| ()).unwrap_err();
        assert_eq!(error.errno, Errno::LOOP.raw_os_error(), "{error}");
        assert!(error.message.contains("must be mounted on ordinary directory"), "{error}");
    }
}

/// CVE-2022-29162: non-empty inheritable capabilities. Guards: `lower::process` and `final_capabilities`.
#[test]
fn no_capability_is_inheritable() {
    if skip() {
        return;
    }
    let (root, group) = (Root::new(), Group::new());
    let read = "grep -E 'CapInh|CapAmb' /proc/self/status";
    let config = spec(&["sh", "-c", &format!("{read}; echo up; sleep 60")]);
    let mut running = start(&root, &config, Some(&group)).unwrap();
    let none = "CapInh:\t0000000000000000\nCapAmb:\t0000000000000000\n";
    assert_eq!(running.wait_for("up\n"), format!("{none}up\n"));
    for privileged in [false, true] {
        let process = process(&["sh", "-c", read]);
        let inside = exec(&config, &process, &running, Some(&group), privileged).unwrap();
        assert_eq!(inside.finish().1, none);
    }
}

fn process(args: &[&str]) -> oci::Process {
    let args = args.iter().map(|arg| (*arg).to_owned()).collect();
    oci::Process { args, cwd: "/".into(), ..Default::default() }
}

/// CVE-2024-21626: a directory of the host, open and not close-on-exec in the runtime, reaches the program. Guard:
/// `Op::CloseRest`, for the first process and for an exec; and RESOLVE_NO_MAGICLINKS for the working directory.
#[test]
fn no_descriptor_of_the_host_is_inside() {
    if skip() {
        return;
    }
    let leak = rustix::fs::open("/", rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty()).unwrap();
    let (root, group) = (Root::new(), Group::new());
    // A shell's own glob shows its descriptors without one more for a child.
    let read = "for fd in /proc/self/fd/*; do [ -e $fd ] && echo ${fd##*/}; done";
    let config = spec(&["sh", "-c", &format!("{read}; echo up; sleep 60")]);
    let mut running = start(&root, &config, Some(&group)).unwrap();
    assert_eq!(running.wait_for("up\n"), "0\n1\n2\nup\n");
    let inside = exec(&config, &process(&["sh", "-c", read]), &running, Some(&group), false).unwrap();
    assert_eq!(inside.finish().1, "0\n1\n2\n");
    for cwd in [format!("/proc/self/fd/{}", leak.as_raw_fd()), "/proc/self/cwd".into(), "/proc/1/root".into()]
    {
        let process = oci::Process { cwd, ..process(&["pwd"]) };
        let error = exec(&config, &process, &running, Some(&group), false).map(|_| ()).unwrap_err();
        assert_eq!(error.errno, Errno::LOOP.raw_os_error(), "{} {error}", process.cwd);
    }
}

/// CVE-2025-31133: /dev is a volume whose null is a link to something that masking would then expose writable. Guard:
/// `open_null` takes no link and checks the device number.
#[test]
fn a_mask_is_the_null_device_or_nothing_starts() {
    if skip() {
        return;
    }
    let (root, group) = (Root::new(), Group::new());
    let volume = tempfile::tempdir().unwrap();
    for target in ["/proc/sysrq-trigger", "/bin/busybox"] {
        let _ = std::fs::remove_file(volume.path().join("null"));
        symlink(target, volume.path().join("null")).unwrap();
        let mut config = spec(&["true"]);
        config.mounts.retain(|mount| !mount.destination.starts_with("/dev"));
        config.mounts.push(bind(volume.path(), "/dev"));
        let error = start(&root, &config, Some(&group)).map(|_| ()).unwrap_err();
        assert_eq!(error.errno, Errno::NODEV.raw_os_error(), "{error}");
    }
    let script = "wc -c < /proc/keys; chmod 0 /proc/keys 2>/dev/null || echo ro";
    assert_eq!(start(&root, &spec(&["sh", "-c", script]), Some(&group)).unwrap().finish().1, "0\nro\n");
}

/// CVE-2025-52565: /dev/console is made where a link of the image points, or from a pts that was swapped. Guards:
/// `mount_console` resolves in the root, and the terminal comes from TIOCGPTPEER.
#[test]
fn the_console_is_the_terminal_and_stays_inside() {
    if skip() {
        return;
    }
    let (root, group) = (Root::new(), Group::new());
    let outside = tempfile::tempdir().unwrap();
    let volume = tempfile::tempdir().unwrap();
    let up = format!("/../../../../../../../../..{}/made", outside.path().display());
    symlink(up, volume.path().join("console")).unwrap();
    let start_pty = |config: &oci::Spec| {
        let stdio = Stdio::Pty { rows: 24, cols: 80 };
        let (netns, rootfs) = (NetNs::New, root.rootfs());
        let spawned = naru_runtime::spawn::spawn(SpawnRequest {
            spec: config,
            rootfs: &rootfs,
            cgroup: Some(&group.0),
            netns,
            stdio,
            options: SpawnOptions::default(),
        });
        spawned.map(|spawned| pidfd::wait(&spawned.pidfd).unwrap())
    };
    let same = "[ $(stat -c %t:%T /dev/console) = $(stat -L -c %t:%T /proc/self/fd/0) ]";
    let mut config = spec(&["sh", "-c", same]);
    config.process.terminal = true;
    assert_eq!(start_pty(&config).unwrap(), ExitStatus::Code(0));
    config.mounts.retain(|mount| mount.destination != "/dev");
    config.mounts.insert(0, bind(volume.path(), "/dev"));
    config.linux.masked_paths.clear();
    let _ = start_pty(&config);
    assert!(is_empty(outside.path()));
}

/// CVE-2025-52881: a sysctl is written where a mount over /proc leads. Guard: RESOLVE_NO_XDEV in `write_sysctl`.
#[test]
fn a_sysctl_is_never_written_to_something_else() {
    if skip() {
        return;
    }
    let (root, group) = (Root::new(), Group::new());
    let volume = tempfile::tempdir().unwrap();
    let bait = volume.path().join("ping_group_range");
    std::fs::write(&bait, "untouched").unwrap();
    let mut config = spec(&["true"]);
    config.linux.sysctl.insert("net.ipv4.ping_group_range".into(), "0 0".into());
    // No mount of the spec's may lie there, but a hook can put one.
    let place = tempfile::tempdir().unwrap();
    let at = place.path().display().to_string();
    config.root.path.clone_from(&at);
    let mount =
        ["mount", "-o", "bind", &volume.path().display().to_string(), &format!("{at}/proc/sys/net/ipv4")];
    let hook = Hook {
        path: "/bin/busybox".into(),
        args: mount.iter().map(|word| (*word).to_owned()).collect(),
        ..Hook::default()
    };
    let list = oci::Hooks { create_container: vec![hook], ..oci::Hooks::default() };
    let state = oci::State { id: "one".into(), bundle: "/".into(), ..oci::State::default() };
    let input = HookInput { hooks: &list, state };
    let options = SpawnOptions { hooks: Some(&input), ..SpawnOptions::default() };
    let error = start_options(&root, &config, Some(&group), options).map(|_| ()).unwrap_err();
    assert_eq!(error.errno, Errno::XDEV.raw_os_error(), "{error}");
    assert_eq!(std::fs::read_to_string(bait).unwrap(), "untouched");
}

/// youki 0.7 runs an exec without a filter: here a further process has all that binds the first one. Guard:
/// `Rights::of_exec`.
#[test]
fn an_exec_has_the_rights_of_the_first_process() {
    if skip() {
        return;
    }
    let (root, group) = (Root::new(), Group::new());
    let read = "grep -E 'Cap|NoNewPrivs|Seccomp' /proc/self/status";
    let mut config = spec(&["sh", "-c", &format!("{read}; echo up; sleep 60")]);
    config.process.no_new_privileges = true;
    let mut running = start(&root, &config, Some(&group)).unwrap();
    let first = running.wait_for("up\n");
    assert!(first.contains("NoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t"), "{first}");
    let again = exec(&config, &process(&["sh", "-c", read]), &running, Some(&group), false).unwrap();
    assert_eq!(again.finish().1 + "up\n", first);
    let privileged = exec(&config, &process(&["sh", "-c", read]), &running, Some(&group), true).unwrap();
    assert!(privileged.finish().1.contains("NoNewPrivs:\t1\nSeccomp:\t2\n"));
}

/// The same guards for a container with a user namespace, where root of the container is nobody outside: its own
/// mappings are no reason to follow a link, keep a capability or start without a mask.
#[test]
fn a_user_namespace_takes_no_guard_away() {
    if skip() {
        return;
    }
    let group = Group::new();
    let users = |args: &[&str]| {
        let mut config = spec(args);
        common::namespace(&mut config, oci::NamespaceKind::User, None);
        let mapping = || vec![oci::IdMapping { container_id: 0, host_id: 300_000, size: 65_536 }];
        (config.linux.uid_mappings, config.linux.gid_mappings) = (mapping(), mapping());
        // Docker's sysctl names groups that a small namespace does not map.
        config.linux.sysctl.retain(|name, _| !name.ends_with("ping_group_range"));
        config
    };
    let script = "id -u; grep -E 'CapInh|CapAmb|NoNewPrivs|Seccomp:' /proc/self/status; wc -c < /proc/keys
        for fd in /proc/self/fd/*; do [ -e $fd ] && echo ${fd##*/}; done
        exec 2>/dev/null; mkdir /tmp/c; mount -t cgroup2 cgroup /tmp/c && echo mounted
        busybox unshare -U true && echo unshared; echo x > /proc/sys/kernel/core_pattern && echo written; echo done";
    let root = Root::new();
    let none = "CapInh:\t0000000000000000\nCapAmb:\t0000000000000000\nNoNewPrivs:\t0\nSeccomp:\t2\n";
    let said = start(&root, &users(&["sh", "-c", script]), Some(&group)).unwrap().finish().1;
    assert_eq!(said, format!("0\n{none}0\n0\n1\n2\ndone\n"));
    for name in ["proc", "sys"] {
        let root = Root::new();
        symlink("tmp", root.lower().join(name)).unwrap();
        assert!(start(&root, &users(&["true"]), Some(&group)).is_err(), "/{name}");
    }
    let volume = tempfile::tempdir().unwrap();
    symlink("/bin/busybox", volume.path().join("null")).unwrap();
    common::give(volume.path(), 300_000);
    let mut config = users(&["true"]);
    config.mounts.retain(|mount| !mount.destination.starts_with("/dev"));
    config.mounts.push(bind(volume.path(), "/dev"));
    let error = start(&root, &config, Some(&group)).map(|_| ()).unwrap_err();
    assert_eq!(error.errno, Errno::NODEV.raw_os_error(), "{error}");
    for fd in 0..20 {
        let mut config = users(&["pwd"]);
        config.process.cwd = format!("/proc/self/fd/{fd}");
        assert!(start(&root, &config, Some(&group)).is_err(), "fd {fd}");
    }
    let outside = tempfile::tempdir().unwrap();
    let root = Root::new();
    let up = format!("../../../../../../../../..{}", outside.path().display());
    symlink(up, root.lower().join("dev")).unwrap();
    if let Ok(running) = start(&root, &users(&["true"]), Some(&group)) {
        running.finish();
    }
    assert!(is_empty(outside.path()));
}

/// CVE-2026-30892: a user string that a lenient parser takes for 0. Guard: `user::id_number`.
#[test]
fn a_strange_user_is_nobody() {
    if skip() {
        return;
    }
    let (root, group) = (Root::new(), Group::new());
    for user in
        ["0x0", "-1", "+0", " 0", "0 ", "\t0", "0\n", "00000000000000000000x", "\u{660}", "4294967296", "::"]
    {
        let mut config = spec(&["id"]);
        config.process.user.username = user.into();
        assert!(start(&root, &config, Some(&group)).is_err(), "{user:?}");
    }
}

/// The image's passwd is a pipe or a device: opening one has effects, or never ends. Guard: `open_regular_in_root`.
#[test]
fn a_passwd_that_is_no_file_is_refused() {
    if skip() {
        return;
    }
    let (root, group) = (Root::new(), Group::new());
    let passwd = root.lower().join("etc/passwd");
    std::fs::remove_file(&passwd).unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0o644);
    rustix::fs::mknodat(rustix::fs::CWD, &passwd, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    assert!(start(&root, &spec(&["true"]), Some(&group)).is_err());
}

/// CVE-2022-0492: a cgroup v1 hierarchy mounted inside, and its release_agent written. Guards: no CAP_SYS_ADMIN, the
/// seccomp filter (also for a user namespace of one's own), read-only cgroup mounts in a cgroup namespace.
#[test]
fn control_groups_cannot_be_taken_over() {
    if skip() {
        return;
    }
    let script = "exec 2>/dev/null; mkdir /tmp/c; mount -t cgroup -o memory cgroup /tmp/c && echo mounted
        mount -t cgroup2 cgroup /tmp/c && echo mounted
        busybox unshare -U -r -m true && echo unshared
        for dir in /sys/fs/cgroup /sys/fs/cgroup/*; do
            echo /x > $dir/release_agent && echo agent
            mkdir $dir/made && echo made
            mount -o remount,rw $dir && echo remounted
        done; echo done";
    let (root, group) = (Root::new(), Group::new());
    assert_eq!(start(&root, &spec(&["sh", "-c", script]), Some(&group)).unwrap().finish().1, "done\n");
}

/// The keys of the keeper's session are not the container's. Guard: `join_keyring`, for the first process and an exec.
/// The program inside is this very test binary, which is static.
#[test]
fn a_session_keyring_of_its_own() {
    if std::env::var_os("NARU_TEST_PROBE").is_some() {
        println!("serial {}.", keyring::session_id().unwrap());
        loop {
            std::thread::park();
        }
    }
    if skip() {
        return;
    }
    if let Err(errno) = keyring::join_session(c"naru-test-outside") {
        println!("SKIP: no keyrings here: {errno}");
        return;
    }
    let outside = format!("serial {}.", keyring::session_id().unwrap());
    let (root, group) = (Root::new(), Group::new());
    std::fs::copy(std::env::current_exe().unwrap(), root.lower().join("bin/probe")).unwrap();
    let args = ["probe", "--exact", "a_session_keyring_of_its_own", "--nocapture"];
    let mut config = spec(&args);
    config.process.env.push("NARU_TEST_PROBE=1".into());
    // The profile forbids keyctl, which is no reason to hand keys to a container without one.
    config.linux.seccomp = None;
    let mut running = start(&root, &config, Some(&group)).unwrap();
    let first = running.wait_for(".");
    assert!(first.contains("serial ") && !first.contains(&outside), "{first}");
    let again = oci::Process { env: config.process.env.clone(), ..process(&args) };
    let second = exec(&config, &again, &running, Some(&group), false).unwrap().wait_for(".");
    assert!(second.contains("serial ") && !second.contains(&outside), "{second}");
}
