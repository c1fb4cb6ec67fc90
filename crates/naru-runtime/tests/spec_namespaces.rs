//! Namespaces in the combinations that the specification allows, hooks, and starts in two halves.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{Group, Root, Running, exec, give, namespace, pipes, skip, spec, start, start_options};
use naru_kernel::pidfd::{self, ExitStatus};
use naru_kernel::{ns, process, unix};
use naru_runtime::gate::{self, GateInput};
use naru_runtime::hooks::{self, HookInput};
use naru_runtime::oci::{self, Hook, IdMapping, Namespace, NamespaceKind, TimeOffset};
use naru_runtime::request::{NetNs, SpawnError, SpawnOptions, SpawnRequest};
use naru_runtime::userns;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

/// The first host id of the user namespaces here.
const BASE: u32 = 100_000;

fn mapping() -> Vec<IdMapping> {
    vec![IdMapping { container_id: 0, host_id: BASE, size: 65_536 }]
}

fn shell(script: &str) -> oci::Spec {
    spec(&["sh", "-c", script])
}

/// A root whose files belong to the user namespace's root.
/// For a namespace whose maps the spec does not tell: its files are not shown by them.
fn given_root() -> Root {
    let root = Root::new();
    give(root.dir.path(), BASE);
    root
}

fn with_user(mut spec: oci::Spec) -> oci::Spec {
    namespace(&mut spec, NamespaceKind::User, None);
    (spec.linux.uid_mappings, spec.linux.gid_mappings) = (mapping(), mapping());
    without_group_range(&mut spec);
    spec
}

/// Docker's sysctl names groups that a small namespace does not map.
fn without_group_range(spec: &mut oci::Spec) {
    spec.linux.sysctl.retain(|name, _| !name.ends_with("ping_group_range"));
}

fn ok(running: Result<Running, SpawnError>) -> String {
    let (status, text) = running.unwrap().finish();
    assert_eq!(status, ExitStatus::Code(0), "{text}");
    text
}

fn error(running: Result<Running, SpawnError>) -> String {
    running.map(|_| ()).unwrap_err().message
}

/// What `/proc/<pid>/ns/<kind>` of a process says.
fn link(pid: &str, kind: &str) -> String {
    std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).unwrap().to_string_lossy().into_owned()
}

fn skip_users() -> bool {
    let none = !Path::new("/proc/self/ns/user").exists();
    if none {
        println!("SKIP: this kernel has no user namespaces");
    }
    none || skip()
}

#[test]
fn a_new_user_namespace_owns_the_others() {
    if skip_users() {
        return;
    }
    let (root, group) = (Root::new(), Group::new());
    let script = "cat /proc/self/uid_map; id -u; id -G; cat /proc/self/oom_score_adj; ulimit -Hn; \
                  grep CapEff /proc/self/status; hostname; touch /made; echo x > /dev/stderr; ls -ln /dev/null; \
                  busybox ip -o link show lo | grep -c UP; cat /proc/1/setgroups";
    let mut spec = with_user(shell(script));
    spec.process.oom_score_adj = Some(300);
    spec.process.rlimits = vec![oci::Rlimit { kind: "RLIMIT_NOFILE".into(), soft: 400, hard: 500 }];
    let running = start(&root, &spec, Some(&group)).unwrap();
    assert_eq!(running.spawned.warnings, Vec::<String>::new());
    let text = ok(Ok(running));
    let mut lines = text.lines();
    assert_eq!(lines.next().unwrap().split_whitespace().collect::<Vec<_>>(), ["0", "100000", "65536"]);
    let rest: Vec<&str> = lines.collect();
    assert_eq!(&rest[..4], ["0", "0", "300", "500"], "{text}");
    assert!(text.contains(common::DOCKER_CAPS) && text.contains("test01234567"), "{text}");
    assert!(text.ends_with("1\nallow\n"), "{text}");
    let made = std::os::unix::fs::MetadataExt::uid(&root.upper().join("made").metadata().unwrap());
    assert_eq!(made, 0, "on the disk it is root's, as in the image");
}

#[test]
fn a_user_of_the_image_and_an_exec_in_a_user_namespace() {
    if skip_users() {
        return;
    }
    let (root, group) = (Root::new(), Group::new());
    let mut spec = with_user(shell("echo up; sleep 60"));
    let mut running = start(&root, &spec, Some(&group)).unwrap();
    running.wait_for("up");
    let pid = running.spawned.pid.to_string();
    let script = "readlink /proc/self/ns/user; readlink /proc/self/ns/net; id -u; id -G; echo x > /dev/stdout; \
                  cat /proc/self/uid_map | busybox tr -s ' '; grep CapEff /proc/self/status; echo pid $$";
    spec.process.args[2] = script.into();
    let (status, text) = exec(&spec, &spec.process, &running, Some(&group), false).unwrap().finish();
    assert_eq!(status, ExitStatus::Code(0), "{text}");
    assert!(text.starts_with(&format!("{}\n{}\n0\n0\nx\n", link(&pid, "user"), link(&pid, "net"))), "{text}");
    assert!(text.contains(" 0 100000 65536") && text.contains(common::DOCKER_CAPS), "{text}");
    spec.process.user.username = "www".into();
    let (_, text) = exec(&spec, &spec.process, &running, Some(&group), false).unwrap().finish();
    assert!(text.contains("\n33\n33 29\nx\n") && text.contains("CapEff:\t0000000000000000"), "{text}");
    group.0.kill_all().unwrap();
    running.finish();
}

#[test]
fn a_joined_user_namespace() {
    if skip_users() {
        return;
    }
    let (root, group) = (given_root(), Group::new());
    let user = userns::descriptor(&mapping(), &mapping()).unwrap();
    let path = format!("/proc/{}/fd/{}", std::process::id(), user.as_raw_fd());
    let mut config = shell("id -u; cat /proc/self/uid_map | busybox tr -s ' '; touch /made; hostname");
    namespace(&mut config, NamespaceKind::User, Some(path.clone()));
    without_group_range(&mut config);
    let text = ok(start(&root, &config, Some(&group)));
    assert_eq!(text, "0\n 0 100000 65536\ntest01234567\n");
    // And, of the same pod, one more container in the namespaces of a first one.
    let root = given_root();
    let mut first = shell("echo up; sleep 60");
    namespace(&mut first, NamespaceKind::User, Some(path.clone()));
    without_group_range(&mut first);
    let mut running = start(&root, &first, Some(&group)).unwrap();
    running.wait_for("up");
    let pid = running.spawned.pid.to_string();
    let second_root = given_root();
    let mut second = shell("for n in user net ipc uts pid; do readlink /proc/self/ns/$n; done");
    namespace(&mut second, NamespaceKind::User, Some(path));
    without_group_range(&mut second);
    let kinds = [
        (NamespaceKind::Network, "net"),
        (NamespaceKind::Ipc, "ipc"),
        (NamespaceKind::Uts, "uts"),
        (NamespaceKind::Pid, "pid"),
    ];
    for (kind, name) in kinds {
        namespace(&mut second, kind, Some(format!("/proc/{pid}/ns/{name}")));
    }
    let text = ok(start_options(&second_root, &second, Some(&group), SpawnOptions::default()));
    let expect: Vec<String> = ["user", "net", "ipc", "uts", "pid"].map(|name| link(&pid, name)).to_vec();
    assert_eq!(text.lines().collect::<Vec<_>>(), expect);
    group.0.kill_all().unwrap();
    running.finish();
}

/// Namespaces of the host are joined before the rights to do so are given up.
#[test]
fn a_new_user_namespace_with_joined_others() {
    if skip_users() {
        return;
    }
    let (root, group) = (Root::new(), Group::new());
    let net = ns::new_netns().unwrap();
    let inode = rustix::fs::fstat(&net).unwrap().st_ino;
    let path = format!("/proc/{}/fd/{}", std::process::id(), net.as_raw_fd());
    let mut spec = with_user(shell("readlink /proc/self/ns/net; id -u; cat /proc/self/oom_score_adj"));
    // sysfs of a network namespace that somebody else owns cannot be mounted.
    spec.mounts.retain(|entry| entry.kind != "sysfs" && !entry.destination.starts_with("/sys"));
    spec.linux.masked_paths.retain(|path| !path.starts_with("/sys"));
    spec.linux.sysctl.clear();
    namespace(&mut spec, NamespaceKind::Network, Some(path));
    let text = ok(start_options(&root, &spec, Some(&group), SpawnOptions::default()));
    assert_eq!(text, format!("net:[{inode}]\n0\n0\n"));
}

#[test]
fn joined_by_path_in_the_hosts_user_namespace() {
    if skip() {
        return;
    }
    let (root, group) = (Root::new(), Group::new());
    let mut running = start(&root, &shell("echo up; sleep 60"), Some(&group)).unwrap();
    running.wait_for("up");
    let pid = running.spawned.pid.to_string();
    let second = Root::new();
    let mut spec = shell("for n in net ipc uts pid cgroup; do readlink /proc/self/ns/$n; done; hostname");
    let kinds = [
        (NamespaceKind::Network, "net"),
        (NamespaceKind::Ipc, "ipc"),
        (NamespaceKind::Uts, "uts"),
        (NamespaceKind::Pid, "pid"),
        (NamespaceKind::Cgroup, "cgroup"),
    ];
    for (kind, name) in kinds {
        namespace(&mut spec, kind, Some(format!("/proc/{pid}/ns/{name}")));
    }
    let text = ok(start_options(&second, &spec, Some(&group), SpawnOptions::default()));
    let mut expect: Vec<String> =
        ["net", "ipc", "uts", "pid", "cgroup"].map(|name| link(&pid, name)).to_vec();
    expect.push("test01234567".into());
    assert_eq!(text.lines().collect::<Vec<_>>(), expect);
    // A namespace file of another kind is refused by name.
    namespace(&mut spec, NamespaceKind::Ipc, Some(format!("/proc/{pid}/ns/uts")));
    let text = error(start_options(&second, &spec, Some(&group), SpawnOptions::default()));
    assert!(text.ends_with("join the ipc namespace: invalid argument"), "{text}");
    group.0.kill_all().unwrap();
    running.finish();
}

/// A mount namespace of somebody else: the mounts are made in it, and it is not the host's.
#[test]
fn a_joined_mount_namespace() {
    if skip() {
        return;
    }
    let args = process::CloneArgs { namespaces: ns::NEWNS, ..Default::default() };
    let (ready, theirs) = unix::seqpacket_pair().unwrap();
    let holder = process::spawn(&args, || {
        let private = naru_kernel::mount::Propagation::Private;
        let done = naru_kernel::mount::set_root_propagation(private).is_ok();
        let _ = unix::send(&theirs, &[u8::from(done)], &[]);
        let _ = naru_kernel::signals::wait(naru_kernel::signals::ALL);
        0
    })
    .unwrap();
    let mut byte = [0];
    unix::recv(&ready, &mut byte).unwrap();
    assert_eq!(byte, [1]);
    let (root, group) = (Root::new(), Group::new());
    let pid = holder.pid.to_string();
    let mut spec = shell("readlink /proc/self/ns/mnt; ls /bin/busybox");
    namespace(&mut spec, NamespaceKind::Mount, Some(format!("/proc/{pid}/ns/mnt")));
    let text = ok(start(&root, &spec, Some(&group)));
    assert_eq!(text, format!("{}\n/bin/busybox\n", link(&pid, "mnt")));
    assert!(
        !std::fs::read_to_string("/proc/self/mountinfo").unwrap().contains(root.dir.path().to_str().unwrap())
    );
    pidfd::send_signal(&holder.pidfd, naru_types::signal::Signal::KILL).unwrap();
    pidfd::wait(&holder.pidfd).unwrap();
}

#[test]
fn clocks_of_its_own() {
    if skip() {
        return;
    }
    let (root, group) = (Root::new(), Group::new());
    let mut spec = shell(
        "busybox cut -d. -f1 /proc/uptime; cat /proc/self/timens_offsets | busybox tr -s ' '; echo up; sleep 60",
    );
    namespace(&mut spec, NamespaceKind::Time, None);
    spec.linux.time_offsets.insert("boottime".into(), TimeOffset { secs: 1_000_000, nanosecs: 5 });
    spec.linux.time_offsets.insert("monotonic".into(), TimeOffset { secs: 77, nanosecs: 0 });
    if !Path::new("/proc/self/ns/time").exists() {
        let text = error(start(&root, &spec, Some(&group)));
        assert!(text.ends_with("this kernel has no time namespaces (CONFIG_TIME_NS)"), "{text}");
        println!("SKIP: this kernel has no time namespaces");
        return;
    }
    let mut running = start(&root, &spec, Some(&group)).unwrap();
    let text = running.wait_for("up");
    assert!(text.lines().next().unwrap().parse::<u64>().unwrap() >= 1_000_000, "{text}");
    assert!(text.contains("boottime 1000000 5") && text.contains("monotonic 77 0"), "{text}");
    let pid = running.spawned.pid.to_string();
    spec.process.args[2] = "readlink /proc/self/ns/time; readlink /proc/1/ns/time".into();
    let (_, text) = exec(&spec, &spec.process, &running, Some(&group), false).unwrap().finish();
    let expect = format!("{0}\n{0}\n", link(&pid, "time"));
    assert_eq!(text, expect);
    // Joined by path.
    let mut second = shell("readlink /proc/self/ns/time");
    namespace(&mut second, NamespaceKind::Time, Some(format!("/proc/{pid}/ns/time")));
    assert_eq!(ok(start(&Root::new(), &second, Some(&group))), format!("{}\n", link(&pid, "time")));
    group.0.kill_all().unwrap();
    running.finish();
    // Owned by a user namespace.
    let group = Group::new();
    let mut both = with_user(shell("cat /proc/self/timens_offsets | busybox tr -s ' '"));
    namespace(&mut both, NamespaceKind::Time, None);
    both.linux.time_offsets.insert("boottime".into(), TimeOffset { secs: 10, nanosecs: 0 });
    assert!(ok(start(&Root::new(), &both, Some(&group))).contains("boottime 10 0"));
}

#[test]
fn what_contradicts_itself_is_refused() {
    if skip() {
        return;
    }
    let (root, group) = (Root::new(), Group::new());
    let check = |change: &dyn Fn(&mut oci::Spec), end: &str| {
        let mut spec = shell("true");
        change(&mut spec);
        let text = error(start(&root, &spec, Some(&group)));
        assert!(text.contains(end), "{text} is not {end}");
    };
    let add = |spec: &mut oci::Spec, kind| spec.linux.namespaces.push(Namespace { kind, path: None });
    check(&|spec| add(spec, NamespaceKind::Pid), "duplicated namespace Pid");
    check(&|spec| add(spec, NamespaceKind::User), "nor mappings");
    check(&|spec| spec.linux.uid_mappings = mapping(), "user namespace isn't enabled");
    check(
        &|spec| spec.linux.time_offsets = [("boottime".into(), TimeOffset::default())].into(),
        "isn't enabled",
    );
    check(
        &|spec| namespace(spec, NamespaceKind::Ipc, Some("/nowhere".into())),
        "open namespace /nowhere: no such file",
    );
}

/// A hook that writes its name, state and place into a file of the host.
fn note(dir: &Path, name: &str) -> Hook {
    let script = format!(
        "exec >> {}/log; printf '{name} '; cat; echo; echo {name} $(cat /proc/sys/kernel/domainname) $KEY",
        dir.display()
    );
    Hook {
        path: "/bin/busybox".into(),
        args: vec!["sh".into(), "-c".into(), script],
        env: Some(vec!["PATH=/bin:/usr/bin".into(), "KEY=value".into()]),
        timeout: None,
    }
}

fn inside(script: &str) -> Hook {
    Hook { args: vec!["sh".into(), "-c".into(), script.into()], ..note(Path::new("/"), "") }
}

fn state() -> oci::State {
    oci::State { id: "one".into(), bundle: "/".into(), ..Default::default() }
}

#[test]
fn hooks_in_order_and_place() {
    if skip() {
        return;
    }
    let (root, group) = (Root::new(), Group::new());
    let dir = tempfile::tempdir().unwrap();
    // /proc/sys shows the names of the reader's namespace: what createContainer hooks set is the container's.
    let set = |name: &str| inside(&format!("echo {name} > /proc/sys/kernel/domainname"));
    let list = oci::Hooks {
        prestart: vec![note(dir.path(), "prestart")],
        create_runtime: vec![note(dir.path(), "createRuntime-1"), note(dir.path(), "createRuntime-2")],
        create_container: vec![set("hooked"), note(dir.path(), "createContainer")],
        start_container: vec![
            inside("cat > /state; grep CapEff /proc/self/status >> /state; pwd >> /state"),
            Hook { env: None, ..inside("echo inherited TERM=$TERM >> /state") },
            Hook { env: Some(Vec::new()), ..inside("[ -z \"$TERM\" ]") },
        ],
        poststart: vec![note(dir.path(), "poststart")],
        poststop: vec![note(dir.path(), "poststop")],
    };
    let input = HookInput { hooks: &list, state: state() };
    let mut spec = shell("cat /state; cat /proc/sys/kernel/domainname");
    spec.domainname.clear();
    spec.process.env.push("TERM=xterm".into());
    let options = SpawnOptions { hooks: Some(&input), ..Default::default() };
    let running = start_options(&root, &spec, Some(&group), options).unwrap();
    let pid = running.spawned.pid;
    let (_, text) = running.finish();
    assert!(hooks::poststop(&input).is_empty());
    let log = std::fs::read_to_string(dir.path().join("log")).unwrap();
    let own = std::fs::read_to_string("/proc/sys/kernel/domainname").unwrap();
    let (own, lines) = (own.trim(), log.lines().collect::<Vec<_>>());
    let expect = [
        ("prestart", "creating", own),
        ("createRuntime-1", "creating", own),
        ("createRuntime-2", "creating", own),
        ("createContainer", "creating", "hooked"),
        ("poststart", "running", own),
        ("poststop", "stopped", own),
    ];
    assert_ne!(own, "hooked");
    for (index, (name, status, domain)) in expect.into_iter().enumerate() {
        let (first, second) = (lines[index * 2], lines[index * 2 + 1]);
        assert!(first.starts_with(&format!("{name} {{")), "{log}");
        let state: oci::State = serde_json::from_str(first.split_once(' ').unwrap().1).unwrap();
        assert_eq!(serde_json::to_value(state.status).unwrap(), status, "{log}");
        assert_eq!(state.pid, (status != "stopped").then_some(pid));
        assert_eq!((state.id.as_str(), state.version.as_str()), ("one", oci::VERSION));
        assert_eq!(second, format!("{name} {domain} value"));
    }
    // Without an environment of its own, a hook inside has the program's (runc, too).
    assert!(text.contains("inherited TERM=xterm"), "{text}");
    // With the container's own rights, before its program.
    for part in ["\"status\":\"created\"", common::DOCKER_CAPS, "\n/\n", "hooked\n"] {
        assert!(text.contains(part), "{part} in {text}");
    }
}

#[test]
fn a_failing_hook_fails_the_start() {
    if skip() {
        return;
    }
    let (root, group) = (Root::new(), Group::new());
    let bad = |script: &str| vec![inside("true"), inside(script)];
    let fails = |list: oci::Hooks| {
        let input = HookInput { hooks: &list, state: state() };
        let options = SpawnOptions { hooks: Some(&input), ..Default::default() };
        let text = error(start_options(&root, &shell("sleep 60"), Some(&group), options));
        assert!(group.0.pids().unwrap().is_empty(), "the container is stopped: {text}");
        text
    };
    let text = fails(oci::Hooks { prestart: bad("exit 3"), ..Default::default() });
    assert!(text.contains("error running prestart hook #1: /bin/busybox: exit status 3"), "{text}");
    let text = fails(oci::Hooks { create_runtime: bad("echo why >&2; kill -9 $$"), ..Default::default() });
    assert!(text.ends_with("createRuntime hook #1: /bin/busybox: killed by signal 9, output: why"), "{text}");
    let text = fails(oci::Hooks { create_container: bad("exit 4"), ..Default::default() });
    assert!(text.contains("createContainer hook #1: /bin/busybox: exit status 4"), "{text}");
    let text = fails(oci::Hooks { start_container: bad("exit 5"), ..Default::default() });
    assert!(text.contains("startContainer hook #1: /bin/busybox: exit status 5"), "{text}");
    let text = fails(oci::Hooks { poststart: bad("exit 6"), ..Default::default() });
    assert!(text.contains("poststart hook #1: /bin/busybox: exit status 6"), "{text}");
    let slow = Hook { timeout: Some(1), ..inside("sleep 100") };
    let text = fails(oci::Hooks { create_runtime: vec![slow], ..Default::default() });
    assert!(text.contains("timed out after 1 s"), "{text}");
    let never = Hook { timeout: Some(0), ..inside("true") };
    let text = fails(oci::Hooks { create_runtime: vec![never], ..Default::default() });
    assert!(text.contains("the timeout of /bin/busybox is not greater than zero"), "{text}");
    let relative = Hook { path: "sh".into(), ..Default::default() };
    let text = fails(oci::Hooks { prestart: vec![relative], ..Default::default() });
    assert!(text.ends_with("prestart hook #0: sh is not an absolute path"), "{text}");
    let missing = Hook { path: "/nowhere/hook".into(), ..Default::default() };
    let text = fails(oci::Hooks { prestart: vec![missing.clone()], ..Default::default() });
    assert!(text.contains("cannot execute it: no such file or directory"), "{text}");
    let list = oci::Hooks { poststop: vec![missing, inside("true")], ..Default::default() };
    assert_eq!(hooks::poststop(&HookInput { hooks: &list, state: state() }).len(), 1);
}

/// createContainer hooks find the root at its own path in the container's mount namespace, and can mount into it.
#[test]
fn a_hook_mounts_into_the_root() {
    if skip() {
        return;
    }
    let (root, group) = (Root::new(), Group::new());
    let place = tempfile::tempdir().unwrap();
    let at = place.path().display().to_string();
    let mut spec = shell("cat /mnt/file");
    spec.root.path.clone_from(&at);
    let script = format!("mkdir {at}/mnt && mount -t tmpfs x {at}/mnt && echo hooked > {at}/mnt/file");
    let list = oci::Hooks { create_container: vec![inside(&script)], ..Default::default() };
    let input = HookInput { hooks: &list, state: state() };
    let options = SpawnOptions { hooks: Some(&input), ..Default::default() };
    assert_eq!(ok(start_options(&root, &spec, Some(&group), options)), "hooked\n");
    assert!(!std::fs::read_to_string("/proc/self/mountinfo").unwrap().contains(&at));
}

struct Gated {
    running: Running,
    path: std::path::PathBuf,
}

fn create(
    root: &Root,
    spec: &oci::Spec,
    group: &Group,
    input: Option<&HookInput<'_>>,
) -> Result<Gated, SpawnError> {
    let path = root.dir.path().join("gate");
    let _ = std::fs::remove_file(&path);
    let listener = unix::seqpacket_listen(&path, 1).unwrap();
    let options = SpawnOptions { gate: Some(listener), hooks: input, ..Default::default() };
    let running = start_options(root, spec, Some(group), options)?;
    Ok(Gated { running, path })
}

impl Gated {
    fn open(
        &self,
        spec: &oci::Spec,
        group: &Group,
        hooks: Option<&HookInput<'_>>,
    ) -> Result<Vec<String>, SpawnError> {
        let connection = unix::seqpacket_connect(&self.path).unwrap();
        let (pid, pidfd) = (self.running.spawned.pid, self.running.spawned.pidfd.as_fd());
        gate::open(connection, &GateInput { spec, pid, pidfd, cgroup: Some(&group.0), hooks })
    }
}

#[test]
fn a_start_in_two_halves() {
    if skip() {
        return;
    }
    let (root, group) = (Root::new(), Group::new());
    let mut spec = shell("echo up; cat /state 2>/dev/null; sleep 60");
    let mut created = create(&root, &spec, &group, None).unwrap();
    // It waits as what it will be, and others can enter its namespaces already.
    let comm = format!("/proc/{}/cmdline", created.running.spawned.pid);
    assert!(!std::fs::read_to_string(&comm).unwrap().contains("echo up"));
    let mut early = spec.process.clone();
    early.args = vec!["sh".into(), "-c".into(), "hostname; ls /bin/busybox".into()];
    let (_, text) = exec(&spec, &early, &created.running, Some(&group), false).unwrap().finish();
    assert_eq!(text, "test01234567\n/bin/busybox\n");
    assert_eq!(created.open(&spec, &group, None).unwrap(), Vec::<String>::new());
    created.running.wait_for("up");
    let (_, text) = exec(&spec, &early, &created.running, Some(&group), false).unwrap().finish();
    assert_eq!(text, "test01234567\n/bin/busybox\n");
    group.0.kill_all().unwrap();
    assert_eq!(created.running.finish().0, ExitStatus::Signal(9));

    // With hooks of the second half. A group that was killed once is not used again.
    let group = Group::new();
    let dir = tempfile::tempdir().unwrap();
    let list = oci::Hooks {
        start_container: vec![inside("cat > /state")],
        poststart: vec![note(dir.path(), "poststart")],
        ..Default::default()
    };
    let input = HookInput { hooks: &list, state: state() };
    let mut created = create(&root, &spec, &group, Some(&input)).unwrap();
    created.open(&spec, &group, Some(&input)).unwrap();
    assert!(created.running.wait_for("created").contains("up\n"));
    assert!(std::fs::read_to_string(dir.path().join("log")).unwrap().starts_with("poststart {"));
    group.0.kill_all().unwrap();
    created.running.finish();

    let group = Group::new();
    // What fails before the gate fails create; what fails behind it fails start, with the same words.
    spec.process.args = vec!["nope".into()];
    let text = create(&root, &spec, &group, None).map(|_| ()).unwrap_err();
    assert!(text.message.ends_with("exec: \"nope\": executable file not found in $PATH"), "{}", text.message);
    assert_eq!(text.exit_code, 127);
    let script = root.lower().join("bin/script");
    std::fs::write(&script, "#!/nowhere/sh\n").unwrap();
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    spec.process.args = vec!["/bin/script".into()];
    let created = create(&root, &spec, &group, None).unwrap();
    let failed = created.open(&spec, &group, None).unwrap_err();
    assert!(failed.message.contains("stat /bin/script: no such file or directory"), "{}", failed.message);
    created.running.finish();
}

#[test]
fn a_gate_in_a_user_namespace_with_preserved_descriptors() {
    if skip_users() {
        return;
    }
    let (root, group) = (Root::new(), Group::new());
    let (reader, mut writer) = std::io::pipe().unwrap();
    std::io::Write::write_all(&mut writer, b"kept").unwrap();
    let spec = with_user(shell("head -c 4 <&3; id -u"));
    let path = root.dir.path().join("gate");
    let listener = unix::seqpacket_listen(&path, 1).unwrap();
    let options = SpawnOptions {
        gate: Some(listener),
        preserve_fds: vec![OwnedFd::from(reader)],
        ..Default::default()
    };
    let running = start_options(&root, &spec, Some(&group), options).unwrap();
    let gated = Gated { running, path };
    gated.open(&spec, &group, None).unwrap();
    assert_eq!(gated.running.finish(), (ExitStatus::Code(0), "kept0\n".into()));
}

/// An ordinary user's own start: one id, no groups, no cgroup.
#[test]
fn without_privileges() {
    const USER: u32 = 12_345;
    if skip_users() {
        return;
    }
    let root = Root::new();
    give(root.dir.path(), USER);
    let mut spec = shell(
        "id -u; cat /proc/self/uid_map | busybox tr -s ' '; cat /proc/self/setgroups; touch /made; hostname; echo up; cat",
    );
    namespace(&mut spec, NamespaceKind::User, None);
    without_group_range(&mut spec);
    let own = |host_id| vec![IdMapping { container_id: 0, host_id, size: 1 }];
    (spec.linux.uid_mappings, spec.linux.gid_mappings) = (own(USER), own(USER));
    spec.mounts.retain(|entry| !entry.kind.starts_with("cgroup"));
    for entry in &mut spec.mounts {
        // A group that is not mapped.
        entry.options.retain(|option| !option.starts_with("gid="));
    }
    let (ours, theirs) = unix::seqpacket_pair().unwrap();
    let child = process::fork(|| {
        let report = |text: String| {
            let _ = unix::send(&theirs, text.as_bytes(), &[]);
        };
        if rustix::thread::set_thread_groups(&[]).is_err()
            || naru_kernel::exec::set_gid(USER).is_err()
            || naru_kernel::exec::set_uid(USER).is_err()
            || naru_kernel::prctl::set_dumpable(true).is_err()
        {
            report("cannot become the user".into());
            return 1;
        }
        report(as_user(&root, &spec));
        0
    })
    .unwrap();
    let mut buffer = vec![0u8; 64 << 10];
    let received = unix::recv(&ours, &mut buffer).unwrap();
    let text = String::from_utf8_lossy(&buffer[..received.len]).into_owned();
    pidfd::wait(&child.pidfd).unwrap();
    if text.contains("make a user namespace: operation not permitted") {
        println!("SKIP: user namespaces are closed to ordinary users here");
        return;
    }
    assert!(text.starts_with("0\n 0 12345 1\ndeny\ntest01234567\nup"), "{text}");
    assert!(text.contains("exec: 0\n"), "{text}");
    assert!(text.contains("many: ") && text.contains("only the caller's own id can be mapped"), "{text}");
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&root.upper().join("made").metadata().unwrap()), USER);
}

fn as_user(root: &Root, spec: &oci::Spec) -> String {
    let rootfs = root.rootfs();
    let run = |spec: &oci::Spec| {
        let (stdio, output) = pipes();
        let (stdin, hold) = std::io::pipe().unwrap();
        let naru_runtime::request::Stdio::Pipes { stdout, stderr, .. } = stdio else { unreachable!() };
        let stdio = naru_runtime::request::Stdio::Pipes { stdin: stdin.into(), stdout, stderr };
        let options = SpawnOptions::default();
        let request = SpawnRequest { spec, rootfs: &rootfs, cgroup: None, netns: NetNs::New, stdio, options };
        let spawned = naru_runtime::spawn::spawn(request).map_err(|error| error.message)?;
        Ok::<_, String>((Running::new(spawned, output), hold))
    };
    let mut many = spec.clone();
    many.linux.uid_mappings = mapping();
    let many = run(&many).map(|_| ()).unwrap_err();
    let (mut running, hold) = match run(spec) {
        Ok(made) => made,
        Err(text) => return text,
    };
    let text = running.wait_for("up");
    let mut process = spec.process.clone();
    process.args = vec!["id".into(), "-u".into()];
    let inside = match exec(spec, &process, &running, None, false) {
        Ok(running) => running.finish().1,
        Err(error) => error.message,
    };
    drop(hold);
    running.finish();
    format!("{text}\nexec: {inside}many: {many}")
}
