//! Mounts, devices and network devices of a spec, as the container sees them (config.md "Mounts", config-linux.md).

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{Group, Root, namespace, skip, spec, start};
use naru_kernel::mount::{self, Change, Propagation};
use naru_kernel::netlink::route::{Address, RouteSocket};
use naru_kernel::ns;
use naru_kernel::pidfd::ExitStatus;
use naru_runtime::oci::{self, Device, Mount, NamespaceKind, NetDevice};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

fn entry(destination: &str, kind: &str, source: &str, words: &[&str]) -> Mount {
    Mount {
        destination: destination.into(),
        kind: kind.into(),
        source: source.into(),
        options: words.iter().map(|word| (*word).to_owned()).collect(),
        ..Mount::default()
    }
}

fn bind(source: &Path, words: &[&str]) -> Mount {
    let words = [&["rbind"][..], words].concat();
    entry("/m", "bind", &source.display().to_string(), &words)
}

/// The output of a container with these mounts.
fn output(root: &Root, mounts: &[Mount], script: &str) -> String {
    let mut config = spec(&["sh", "-c", script]);
    config.mounts.extend_from_slice(mounts);
    run(root, &config)
}

fn run(root: &Root, config: &oci::Spec) -> String {
    let group = Group::new();
    let (status, text) = start(root, config, Some(&group)).unwrap().finish();
    assert_eq!(status, ExitStatus::Code(0), "{text}");
    text
}

fn refusal(change: impl FnOnce(&mut oci::Spec)) -> String {
    let (root, group) = (Root::new(), Group::new());
    let mut config = spec(&["true"]);
    change(&mut config);
    start(&root, &config, Some(&group)).map(|_| ()).unwrap_err().message
}

/// The last mount at a place: its attributes, its optional fields, the options of its superblock.
#[derive(Debug)]
struct Seen {
    attributes: Vec<String>,
    optional: String,
    superblock: Vec<String>,
}

impl Seen {
    fn of(mountinfo: &str, at: &str) -> Self {
        let line = mountinfo.lines().rev().find(|line| line.split(' ').nth(4) == Some(at));
        let (left, right) =
            line.unwrap_or_else(|| panic!("no {at} in {mountinfo}")).split_once(" - ").unwrap();
        let words = |text: &str| text.split(',').map(str::to_owned).collect();
        let left: Vec<&str> = left.split(' ').collect();
        Self {
            attributes: words(left[5]),
            optional: left[6..].join(" "),
            superblock: words(right.split(' ').nth(2).unwrap()),
        }
    }
}

/// Runs the test where mounts are nobody else's: `work` gets a directory of its own.
fn in_private_mounts(work: impl FnOnce(&Path) + Send + 'static) {
    let thread = std::thread::spawn(move || {
        ns::unshare(ns::NEWNS).unwrap();
        mount::set_root_propagation(Propagation::Private).unwrap();
        let dir = tempfile::tempdir().unwrap();
        work(dir.path());
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn tmpfs_at(path: &Path, attributes: mount::Attrs, propagation: Propagation) {
    std::fs::create_dir_all(path).unwrap();
    let made = mount::new_fs(c"tmpfs", Some(c"outer"), std::iter::empty(), attributes).unwrap();
    mount::set_attributes(made.as_fd(), c"", Change { propagation: Some(propagation), ..Change::default() })
        .unwrap();
    let path = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
    mount::attach_host(&made, &path).unwrap();
}

#[test]
fn attributes_of_a_bind() {
    if skip() {
        return;
    }
    let host = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let (root, source) = (Root::new(), tempfile::tempdir().unwrap());
    let cases: [(&[&str], &[&str], &[&str]); 9] = [
        (&["ro", "nosuid", "nodev", "noexec"], &["ro", "nosuid", "nodev", "noexec"], &["rw"]),
        (&["ro", "rw"], &["rw"], &["ro"]),
        (&["noatime"], &["noatime"], &["relatime"]),
        (&["noatime", "atime"], &["relatime"], &["noatime"]),
        (&["strictatime", "nodiratime"], &["nodiratime"], &["relatime", "noatime"]),
        (&["nosymfollow"], &["nosymfollow"], &[]),
        (&["rro", "rnoexec", "rnosuid", "rnodev"], &["ro", "noexec", "nosuid", "nodev"], &[]),
        (&["rnoatime", "rnodiratime", "rnosymfollow"], &["noatime", "nodiratime", "nosymfollow"], &[]),
        // Of the superblock, which is not the bind's to change.
        (&["sync", "dirsync", "lazytime", "iversion", "silent", "defaults", "loud"], &["rw"], &["sync"]),
    ];
    for (words, has, has_not) in cases {
        let text = output(&root, &[bind(source.path(), words)], "cat /proc/self/mountinfo");
        let seen = Seen::of(&text, "/m");
        for word in has {
            assert!(seen.attributes.iter().any(|have| have == word), "{words:?}: no {word} in {seen:?}");
        }
        for word in has_not {
            assert!(!seen.attributes.iter().any(|have| have == word), "{words:?}: {word} in {seen:?}");
        }
    }
    // Other tests mount in namespaces of their own: nothing of ours is in the first one.
    assert_eq!(std::fs::read_to_string("/proc/self/mountinfo").unwrap(), host);
}

#[test]
fn options_of_a_new_file_system() {
    if skip() {
        return;
    }
    let root = Root::new();
    let words = ["sync", "dirsync", "lazytime", "mand", "noatime", "nosuid", "size=64k,mode=700", "uid=33"];
    let script = "cat /proc/self/mountinfo; stat -c 'is %a %u' /t";
    let text = output(&root, &[entry("/t", "tmpfs", "", &words)], script);
    let seen = Seen::of(&text, "/t");
    for word in ["sync", "dirsync", "lazytime", "mand", "size=64k", "mode=700"] {
        assert!(seen.superblock.iter().any(|have| have == word), "{word} in {seen:?}");
    }
    assert!(seen.attributes.contains(&"noatime".into()) && seen.attributes.contains(&"nosuid".into()));
    assert!(text.contains("is 700 33\n"), "{text}");
    // The last word wins, and the mode of a directory that was there is kept.
    std::fs::create_dir(root.lower().join("had")).unwrap();
    std::fs::set_permissions(root.lower().join("had"), std::fs::Permissions::from_mode(0o751)).unwrap();
    let mounts = [
        entry("/t", "tmpfs", "", &["sync", "async", "rshared", "ro"]),
        entry("had", "tmpfs", "", &[]),
        entry("/x/../t/../y", "tmpfs", "", &["private", "rnoexec"]),
    ];
    let text = output(&root, &mounts, "cat /proc/self/mountinfo; stat -c 'is %a' /had");
    let seen = Seen::of(&text, "/t");
    assert!(!seen.superblock.contains(&"sync".into()) && seen.attributes.contains(&"ro".into()), "{seen:?}");
    assert!(seen.optional.starts_with("shared:"), "{seen:?}");
    assert!(Seen::of(&text, "/y").attributes.contains(&"noexec".into()));
    assert!(text.contains("is 751\n"), "{text}");
}

#[test]
fn recursive_attributes_reach_mounts_below() {
    if skip() {
        return;
    }
    in_private_mounts(|dir| {
        let root = Root::new();
        tmpfs_at(&dir.join("sub"), mount::NODEV | mount::NOATIME, Propagation::Private);
        let see = |words: &[&str]| {
            let text = output(&root, &[bind(dir, words)], "cat /proc/self/mountinfo");
            (Seen::of(&text, "/m").attributes, Seen::of(&text, "/m/sub").attributes)
        };
        let (top, below) = see(&["ro"]);
        assert!(top.contains(&"ro".into()) && below.contains(&"rw".into()), "{below:?}");
        let (top, below) = see(&["rro"]);
        assert!(top.contains(&"ro".into()) && below.contains(&"ro".into()), "{below:?}");
        let (_, below) = see(&["rdev", "ratime", "rnosuid"]);
        assert!(!below.contains(&"nodev".into()) && below.contains(&"nosuid".into()), "{below:?}");
        assert!(below.contains(&"relatime".into()), "{below:?}");
        let mut plain = bind(dir, &[]);
        plain.options = vec!["bind".into()];
        let text = output(&root, &[plain], "cat /proc/self/mountinfo");
        assert!(!text.contains("/m/sub"), "{text}");
    });
}

#[test]
fn propagation_words_in_their_order() {
    if skip() {
        return;
    }
    in_private_mounts(|dir| {
        let root = Root::new();
        let top = dir.join("top");
        tmpfs_at(&top, 0, Propagation::Shared);
        tmpfs_at(&top.join("sub"), 0, Propagation::Shared);
        let see = |words: &[&str]| {
            let text = output(&root, &[bind(&top, words)], "cat /proc/self/mountinfo");
            (Seen::of(&text, "/m").optional, Seen::of(&text, "/m/sub").optional)
        };
        let (own, below) = see(&[]);
        assert_eq!((own.as_str(), below.as_str()), ("", ""));
        let (own, below) = see(&["rslave"]);
        assert!(own.starts_with("master:") && below.starts_with("master:"), "{own} {below}");
        let (own, below) = see(&["rshared"]);
        assert!(own.starts_with("shared:") && below.starts_with("shared:"), "{own} {below}");
        let (own, _) = see(&["rslave", "rshared"]);
        assert!(own.contains("shared:") && own.contains("master:"), "{own}");
        // Mounts below are no peers of the host's because only the top was spoken of.
        let (own, below) = see(&["private"]);
        assert!(own.is_empty() && below.starts_with("master:"), "{own} {below}");
        let (own, _) = see(&["unbindable"]);
        assert_eq!(own, "unbindable");
    });
}

#[test]
fn the_root_has_the_propagation_that_is_asked_for() {
    if skip() {
        return;
    }
    let root = Root::new();
    for (word, expect) in [("shared", "shared:"), ("rprivate", ""), ("unbindable", "unbindable")] {
        let mut config = spec(&["cat", "/proc/self/mountinfo"]);
        config.linux.rootfs_propagation = word.into();
        let seen = Seen::of(&run(&root, &config), "/");
        assert!(seen.optional.starts_with(expect), "{word}: {seen:?}");
    }
    let told = refusal(|config| config.linux.rootfs_propagation = "sharde".into());
    assert!(told.contains("rootfsPropagation=sharde is not supported"), "{told}");
}

#[test]
fn a_remount_changes_what_is_there() {
    if skip() {
        return;
    }
    let root = Root::new();
    let mounts = [
        entry("/t", "tmpfs", "", &["size=64k"]),
        entry("/t", "tmpfs", "", &["remount", "size=1m", "noexec", "lazytime"]),
        entry("/sys", "none", "", &["remount", "bind", "rw", "noatime"]),
    ];
    let text = output(&root, &mounts, "cat /proc/self/mountinfo");
    assert_eq!(text.lines().filter(|line| line.contains(" /t ")).count(), 1, "{text}");
    let seen = Seen::of(&text, "/t");
    let has = |list: &[String], word: &str| list.iter().any(|have| have == word);
    assert!(has(&seen.superblock, "size=1024k") && has(&seen.superblock, "lazytime"), "{seen:?}");
    assert!(has(&seen.attributes, "noexec"), "{seen:?}");
    let sys = Seen::of(&text, "/sys").attributes;
    assert!(has(&sys, "rw") && has(&sys, "noatime") && has(&sys, "nosuid"), "{sys:?}");
}

#[test]
fn a_tmpfs_begins_with_what_it_covers() {
    if skip() {
        return;
    }
    let root = Root::new();
    let had = root.lower().join("had");
    std::fs::create_dir_all(had.join("a/b")).unwrap();
    std::fs::write(had.join("a/b/file"), "x".repeat(300_000)).unwrap();
    std::fs::write(had.join("tool"), "t").unwrap();
    symlink("/nowhere/at/all", had.join("link")).unwrap();
    std::os::unix::fs::lchown(had.join("link"), Some(7), Some(8)).unwrap();
    std::os::unix::fs::chown(had.join("tool"), Some(33), Some(29)).unwrap();
    std::fs::set_permissions(had.join("tool"), std::fs::Permissions::from_mode(0o4751)).unwrap();
    std::fs::set_permissions(&had, std::fs::Permissions::from_mode(0o2770)).unwrap();
    rustix::fs::setxattr(had.join("a"), "trusted.mark", b"here", rustix::fs::XattrFlags::empty()).unwrap();
    let pipe = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, had.join("pipe"), pipe, rustix::fs::Mode::RUSR, 0).unwrap();
    let script = "cd /had; stat -c '%n %a %u %g' . tool link pipe; readlink link; wc -c < a/b/file; echo new > a/new; \
                  grep ' /had ' /proc/self/mountinfo; echo up; cat";
    let mut config = spec(&["sh", "-c", &script.replace("; cat", "; sleep 60")]);
    config.mounts.push(entry("/had", "tmpfs", "tmpfs", &["tmpcopyup", "nosuid", "ro", "rw"]));
    let group = Group::new();
    let mut running = start(&root, &config, Some(&group)).unwrap();
    let text = running.wait_for("up\n");
    for line in [". 2770 0 0", "tool 4751 33 29", "link 777 7 8", "pipe 400 0 0", "/nowhere/at/all", "300000"]
    {
        assert!(text.contains(&format!("{line}\n")), "{line} in {text}");
    }
    assert!(text.contains(" - tmpfs "), "{text}");
    let inside = format!("/proc/{}/root/had", running.spawned.pid);
    let mut value = [0u8; 16];
    let len = rustix::fs::getxattr(format!("{inside}/a"), "trusted.mark", &mut value[..]).unwrap();
    assert_eq!(&value[..len], b"here");
    assert_eq!(
        std::fs::metadata(format!("{inside}/tool")).unwrap().mtime(),
        std::fs::metadata(had.join("tool")).unwrap().mtime()
    );
    group.0.kill_all().unwrap();
    running.finish();
    assert!(!had.join("a/new").exists() && !root.upper().join("had/a/new").exists());
}

#[test]
fn what_cannot_be_is_named() {
    if skip() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let told = |mount: Mount| refusal(|config| config.mounts.push(mount));
    let text = told(bind(dir.path(), &["nosiud"]));
    assert!(text.contains("filesystem-specific") && text.contains("nosiud"), "{text}");
    let text = told(entry("/t", "tmpfs", "", &["nosiud"]));
    assert!(text.contains("mount tmpfs at /t") && text.contains("nosiud"), "{text}");
    let text = told(entry("/t", "tmpfs", "", &["size=lots"]));
    assert!(text.contains("size"), "{text}");
    assert!(told(entry("/t", "tmpfs", "", &["idmap"])).contains("only supported for bind"));
    assert!(told(entry("/t", "proc", "", &["tmpcopyup"])).contains("tmpcopyup"));
    assert!(told(entry("/", "tmpfs", "", &[])).contains("root"));
    assert!(told(entry("/proc", "tmpfs", "", &[])).contains("not of type proc"));
    assert!(told(entry("/proc/self/attr", "tmpfs", "", &[])).contains("inside /proc"));
    let mut over = bind(dir.path(), &[]);
    over.destination = "/proc".into();
    assert!(told(over).contains("not of type proc"));
    // By a link of the image's, too.
    let (root, group) = (Root::new(), Group::new());
    symlink("/proc/sys", root.lower().join("way")).unwrap();
    let mut config = spec(&["true"]);
    config.mounts.push(entry("/way/kernel", "tmpfs", "", &[]));
    let text = start(&root, &config, Some(&group)).map(|_| ()).unwrap_err().message;
    assert!(text.contains("mount tmpfs at /way/kernel"), "{text}");
    let file = dir.path().join("uptime");
    std::fs::write(&file, "1.00 2.00\n").unwrap();
    let mut lxcfs = bind(&file, &["ro"]);
    lxcfs.destination = "/proc/uptime".into();
    assert_eq!(output(&root, &[lxcfs], "cat /proc/uptime"), "1.00 2.00\n");
}

fn device(path: &str, kind: &str, number: (i64, i64), mode: u32, owner: (u32, u32)) -> Device {
    Device {
        kind: kind.into(),
        path: path.into(),
        major: number.0,
        minor: number.1,
        file_mode: Some(mode),
        uid: owner.0,
        gid: owner.1,
    }
}

#[test]
fn device_nodes() {
    if skip() {
        return;
    }
    let root = Root::new();
    let script = "cd /dev; stat -c '%n %F %a %u %g %t %T' mine/c b p zero full; readlink ptmx; readlink fd";
    let mut config = spec(&["sh", "-c", script]);
    config.linux.devices = vec![
        device("/dev/mine/c", "c", (1, 5), 0o640, (33, 29)),
        device("/dev/b", "b", (7, 200), 0o600, (0, 6)),
        device("/dev/p", "p", (0, 0), 0o622, (1, 2)),
        device("/dev/zero", "u", (1, 5), 0o444, (0, 0)),
    ];
    let text = run(&root, &config);
    for line in [
        "mine/c character special file 640 33 29 1 5",
        "b block special file 600 0 6 7 c8",
        "p fifo 622 1 2 0 0",
        "zero character special file 444 0 0 1 5",
        "full character special file 666 0 0 1 7",
        "pts/ptmx",
        "/proc/self/fd",
    ] {
        assert!(text.contains(&format!("{line}\n")), "{line} in {text}");
    }
    config.linux.devices = vec![device("/dev/q", "q", (1, 5), 0o640, (0, 0))];
    let group = Group::new();
    let told = start(&root, &config, Some(&group)).map(|_| ()).unwrap_err().message;
    assert!(told.contains("unknown type \"q\""), "{told}");
}

#[test]
fn a_node_that_is_there_must_be_that_device() {
    if skip() {
        return;
    }
    let dev = tempfile::tempdir().unwrap();
    std::fs::write(dev.path().join("fake"), "").unwrap();
    let at = |path: &str, source: &Path| {
        let mut mount = bind(source, &[]);
        mount.destination = path.into();
        mount
    };
    let told = refusal(|config| {
        config.mounts.push(at("/dev/dir", dev.path()));
        config.linux.devices = vec![device("/dev/dir/fake", "c", (1, 3), 0o666, (0, 0))];
    });
    assert!(told.contains("make the device node /dev/dir/fake: file exists"), "{told}");
    // What the user mounts over a default node is what they want; a bound /dev is left as it is.
    let root = Root::new();
    let text = output(&root, &[at("/dev/random", Path::new("/dev/urandom"))], "stat -c '%t %T' /dev/random");
    assert_eq!(text, "1 9\n");
    let mut config = spec(&["ls", "/dev"]);
    config.mounts.retain(|mount| !mount.destination.starts_with("/dev"));
    config.mounts.push(at("/dev", dev.path()));
    config.linux.masked_paths.clear();
    assert_eq!(run(&root, &config), "fake\n");
}

#[test]
fn network_devices_move_in_with_their_addresses() {
    if skip() {
        return;
    }
    let thread = std::thread::spawn(|| {
        let outer = ns::new_netns().unwrap();
        ns::setns(&outer, ns::NEWNET).unwrap();
        let mut route = RouteSocket::open().unwrap();
        for (name, peer) in [("moved0", "moved1"), ("left0", "left1")] {
            route.create_cable(name, peer, outer.as_fd()).unwrap();
        }
        let index = route.link("moved1").unwrap().unwrap().index;
        let addr = std::net::Ipv4Addr::new(10, 7, 0, 9);
        route.add_address(Address { index, addr, prefix_len: 24 }).unwrap();
        let root = Root::new();
        let mut config = spec(&["sh", "-c", "ip -o link; ip -o addr"]);
        namespace(&mut config, NamespaceKind::Network, None);
        let inside = |name: &str| NetDevice { name: name.into() };
        config.linux.net_devices =
            [("moved1".to_owned(), inside("data0")), ("left1".to_owned(), inside("any%d"))].into();
        let text = run(&root, &config);
        assert!(text.contains("data0") && text.contains("10.7.0.9/24") && text.contains("any0"), "{text}");
        let up = text.lines().find(|line| line.contains(": data0") && line.contains("UP"));
        assert!(up.is_some(), "{text}");
        // Virtual devices go with the namespace, which the kernel takes down in its own time.
        let told = |name: &str, new: &str| {
            let mut config = spec(&["true"]);
            namespace(&mut config, NamespaceKind::Network, None);
            config.linux.net_devices = [(name.to_owned(), inside(new))].into();
            let group = Group::new();
            start(&root, &config, Some(&group)).map(|_| ()).unwrap_err().message
        };
        route.create_cable("stay0", "stay1", outer.as_fd()).unwrap();
        let text = told("stay1", "lo");
        assert!(text.contains("move the network device stay1") && text.contains("file exists"), "{text}");
        assert!(route.link("stay1").unwrap().is_some(), "what cannot move stays");
        assert!(told("nothing", "x").contains("no such device"));
        assert!(told("stay1", "a/b").contains("invalid network device name"));
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}
