//! Snapshots of lowered specs, as the properties that Docker's users rely on.

#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use naru_types::spec::{Mount, MountSource, Resources};

fn minimal() -> (ContainerSpec, LowerInput) {
    let mut container = ContainerSpec { image: "x".into(), ..ContainerSpec::default() };
    container.process.cmd = Some(vec!["true".into()]);
    let input = LowerInput {
        id: "abc".into(),
        cgroup_path: "naru/abc".into(),
        host_caps: u64::MAX,
        hostname: "abc".into(),
        ..LowerInput::default()
    };
    (container, input)
}

#[test]
fn dockers_defaults() {
    let (container, input) = minimal();
    let spec = lower(&container, &input).unwrap();
    let places: Vec<&str> = spec.mounts.iter().map(|mount| mount.destination.as_str()).collect();
    assert_eq!(places, ["/proc", "/dev", "/dev/pts", "/sys", "/sys/fs/cgroup", "/dev/mqueue", "/dev/shm"]);
    assert!(spec.mounts.last().unwrap().options.contains(&"size=67108864".to_owned()));
    assert_eq!(spec.process.capabilities.as_ref().unwrap().bounding.len(), 14);
    assert!(spec.process.capabilities.as_ref().unwrap().inheritable.is_empty());
    assert_eq!(spec.linux.namespaces.len(), 6);
    assert_eq!(
        spec.process.env[..2],
        [format!("PATH={}", crate::compile::process::DEFAULT_PATH), "HOSTNAME=abc".into()]
    );
    assert_eq!((spec.process.cwd.as_str(), spec.linux.cgroups_path.as_str()), ("/", "/naru/abc"));
    let seccomp = spec.linux.seccomp.unwrap();
    assert!(seccomp.syscalls.iter().any(|rule| rule.names == ["clone3"] && rule.errno_ret == Some(38)));
    assert!(!seccomp.syscalls.iter().any(|rule| rule.names.iter().any(|name| name == "mount")));
}

#[test]
fn the_spec_survives_json() {
    let (container, input) = minimal();
    let spec = lower(&container, &input).unwrap();
    let round: oci::Spec = serde_json::from_str(&serde_json::to_string(&spec).unwrap()).unwrap();
    assert_eq!(round, spec);
}

#[test]
fn privileged_opens_everything() {
    let (mut container, input) = minimal();
    container.security.privileged = true;
    let spec = lower(&container, &input).unwrap();
    assert!(
        spec.linux.seccomp.is_none()
            && spec.linux.masked_paths.is_empty()
            && spec.linux.readonly_paths.is_empty()
    );
    assert_eq!(spec.process.capabilities.unwrap().bounding.len(), 41);
    assert_eq!(spec.linux.resources.devices.len(), 1);
    assert!(!spec.mounts.iter().any(|mount| mount.options.contains(&"ro".to_owned())));
}

#[test]
fn resources_in_dockers_arithmetic() {
    let (mut container, input) = minimal();
    container.resources = Resources {
        memory: 100,
        nano_cpus: 1_500_000_000,
        pids: Some(-1),
        cpu_shares: 512,
        ..Resources::default()
    };
    let resources = lower(&container, &input).unwrap().linux.resources;
    assert_eq!((resources.memory.limit, resources.memory.swap), (Some(100), Some(200)));
    assert!(resources.memory.swap_defaulted);
    assert_eq!((resources.cpu.quota, resources.cpu.period), (Some(150_000), Some(100_000)));
    assert_eq!((resources.pids.limit, resources.cpu.shares), (Some(-1), Some(512)));
}

#[test]
fn mounts_of_the_user() {
    let (mut container, mut input) = minimal();
    input.binds = vec![
        ResolvedBind {
            source: "/srv/deep".into(),
            target: "/a/b".into(),
            read_only: true,
            propagation: Propagation::Rslave,
        },
        ResolvedBind {
            source: "/srv".into(),
            target: "/a".into(),
            read_only: false,
            propagation: Propagation::Rprivate,
        },
    ];
    input.hosts_path = Some("/run/hosts".into());
    container.mounts = vec![Mount {
        source: MountSource::Tmpfs { size: 4096, mode: 0o700, options: vec!["exec".into()] },
        target: "/dev/shm".into(),
        read_only: false,
    }];
    let spec = lower(&container, &input).unwrap();
    let at = |place: &str| spec.mounts.iter().position(|mount| mount.destination == place).unwrap();
    assert!(at("/a") < at("/a/b"));
    assert_eq!(spec.mounts[at("/a/b")].options, ["rbind", "rro", "rslave"]);
    assert_eq!(
        spec.mounts[at("/dev/shm")].options,
        ["noexec", "nosuid", "nodev", "size=4096", "mode=700", "exec"]
    );
    assert_eq!(spec.mounts.iter().filter(|mount| mount.destination == "/dev/shm").count(), 1);
    assert_eq!(spec.mounts[at("/etc/hosts")].source, "/run/hosts");
    assert_eq!(spec.linux.rootfs_propagation, "rslave");
}

#[test]
fn shared_namespaces() {
    let (mut container, mut input) = minimal();
    container.network.mode = NetworkMode::Host;
    container.namespaces.pid = NamespaceMode::Container("other".into());
    assert!(lower(&container, &input).is_err());
    input.pid_namespace = Some("/proc/7/ns/pid".into());
    let spec = lower(&container, &input).unwrap();
    assert!(spec.namespace(NamespaceKind::Network).is_none());
    assert_eq!(spec.namespace(NamespaceKind::Pid).unwrap().path.as_deref(), Some("/proc/7/ns/pid"));
    assert!(spec.linux.sysctl.is_empty());
}

#[test]
fn environment_is_merged_by_key() {
    let (mut container, input) = minimal();
    container.stdio.tty = true;
    container.process.env = ["PATH=/x", "A=1", "TERM", "A=2"].map(str::to_owned).to_vec();
    assert_eq!(lower(&container, &input).unwrap().process.env, ["PATH=/x", "HOSTNAME=abc", "A=2"]);
}

#[test]
fn mistakes_are_named() {
    let (mut container, input) = minimal();
    container.security.seccomp = Seccomp::Profile("{".into());
    assert!(lower(&container, &input).unwrap_err().message().starts_with("decoding seccomp profile failed"));
    container.security.seccomp = Seccomp::Profile(r#"{"defaultAction":"SCMP_ACT_NOTIFY"}"#.into());
    assert!(lower(&container, &input).is_err());
    container.security.seccomp = Seccomp::Unconfined;
    container.process.cmd = None;
    assert_eq!(lower(&container, &input).unwrap_err().message(), "no command specified");
}
