//! Whole files, good and bad.
#![allow(clippy::unwrap_used, clippy::panic)]

use crate::model::{Condition, Project, PullPolicy, Route, Service};
use crate::{LoadInput, load};
use naru_types::spec::{MountSource, NetworkMode, Proto, RestartPolicy, Seccomp};
use naru_types::{Error, Kind, Result};
use std::collections::BTreeMap;
use std::io;
use std::path::Path;

fn read_file(path: &Path) -> io::Result<String> {
    match path.to_str() {
        Some("/srv/My App/.env") => Ok("FROM_DOTENV=dot\nTAG=1\n".into()),
        Some("/srv/My App/web.env") => Ok("A=file\nB=file\n".into()),
        Some("/srv/My App/seccomp.json") => Ok("{}".into()),
        _ => Err(io::ErrorKind::NotFound.into()),
    }
}

fn try_load(text: &str, profiles: &[&str]) -> Result<Project> {
    let environment =
        BTreeMap::from([("HOST_VAR".to_owned(), "host".to_owned()), ("HOME".into(), "/root".into())]);
    let profiles: Vec<String> = profiles.iter().map(|profile| (*profile).to_owned()).collect();
    load(&LoadInput {
        file: Path::new("/srv/My App/compose.yaml"),
        text,
        working_dir: None,
        environment: &environment,
        project_name: None,
        profiles: &profiles,
        read_file: &read_file,
    })
}

fn project(text: &str) -> Project {
    try_load(text, &[]).unwrap_or_else(|error: Error| panic!("{error}\n{text}"))
}

/// The service `s` of a file with these lines in it.
fn service(lines: &str) -> Service {
    let body = lines.lines().map(|line| format!("    {line}\n")).collect::<Vec<_>>().concat();
    let text = format!("services:\n  s:\n    image: i\n{body}volumes:\n  data:\nnetworks:\n  back:\n");
    project(&text).services.remove(0)
}

#[test]
fn a_whole_project() {
    let found = project(
        "services:\n  web:\n    build: {context: ./app, args: {V: \"${TAG}\"}, target: prod}\n    ports: [\"127.0.0.1:8080:3000\"]\n    \
         depends_on:\n      db: {condition: service_healthy}\n    x-naru: {route: {host: App.Example.com}}\n    networks: {front: {aliases: [www]}, back: }\n  \
         db:\n    image: redis:${FROM_DOTENV}\n    networks: [back]\n    volumes: [data:/data]\n\
         networks:\n  front:\n  back: {internal: true, ipam: {config: [{subnet: 10.9.0.0/24, gateway: 10.9.0.1}]}}\n  unused:\n\
         volumes:\n  data:\n  other: {external: true, name: shared}\n",
    );
    assert_eq!(found.name, "myapp");
    assert_eq!(found.services.iter().map(|service| service.name.as_str()).collect::<Vec<_>>(), ["db", "web"]);
    let [db, web] = found.services.as_slice() else { panic!() };
    assert_eq!((web.spec.image.as_str(), db.spec.image.as_str()), ("myapp-web", "redis:dot"));
    let build = web.build.as_ref().unwrap();
    assert_eq!(build.context, Path::new("/srv/My App/app"));
    assert_eq!((build.args["V"].as_str(), build.target.as_deref()), ("1", Some("prod")));
    assert_eq!(web.route, Some(Route { host: "app.example.com".into(), path: "/".into(), port: 3000 }));
    assert_eq!(web.depends_on[0].condition, Condition::Healthy);
    assert_eq!(web.container_name, "myapp-web-1");
    assert_eq!(web.spec.network.mode, NetworkMode::Network("myapp_front".into()));
    assert_eq!(web.spec.network.endpoints["myapp_front"].aliases, ["web", "www"]);
    assert_eq!(web.spec.network.endpoints["myapp_back"].aliases, ["web"]);
    let binding = &web.spec.network.published[0];
    assert_eq!((binding.container.port, binding.host_port), (3000, (8080, 8080)));
    for (key, value) in [
        ("com.docker.compose.project", "myapp"),
        ("com.docker.compose.service", "web"),
        ("com.docker.compose.container-number", "1"),
        ("com.docker.compose.oneoff", "False"),
        ("com.docker.compose.config-hash", web.config_hash.as_str()),
        ("com.docker.compose.project.working_dir", "/srv/My App"),
        ("com.docker.compose.project.config_files", "/srv/My App/compose.yaml"),
        ("naru.route.host", "app.example.com"),
        ("naru.route.port", "3000"),
    ] {
        assert_eq!(web.spec.labels.get(key).map(String::as_str), Some(value), "{key}");
    }
    let networks: Vec<_> =
        found.networks.iter().map(|network| (network.name.as_str(), network.internal)).collect();
    assert_eq!(networks, [("myapp_back", true), ("myapp_front", false)]);
    let volumes: Vec<_> =
        found.volumes.iter().map(|volume| (volume.name.as_str(), volume.external)).collect();
    assert_eq!(volumes, [("myapp_data", false), ("shared", true)]);
    assert!(matches!(&db.spec.mounts[0].source, MountSource::Volume { name, .. } if name == "myapp_data"));
}

#[test]
fn processes() {
    let found = service(
        "command: sh -c 'echo \"a b\"'\nentrypoint: []\nuser: \"1:2\"\nworking_dir: /w\nhostname: h\ntty: true\nstdin_open: true\ninit: true\n\
         env_file: [web.env, {path: nope.env, required: false}]\nenvironment: [B=env, HOST_VAR, NOT_SET, \"E=$$x\"]\n\
         stop_signal: SIGINT\nstop_grace_period: 1500ms\nrestart: on-failure:3\npull_policy: always\nx-other: {any: thing}",
    );
    let process = &found.spec.process;
    assert_eq!(process.cmd.as_deref(), Some(&["sh".to_owned(), "-c".into(), "echo \"a b\"".into()][..]));
    assert_eq!(process.entrypoint, Some(vec![]));
    assert_eq!(process.env, ["A=file", "B=env", "E=$x", "HOST_VAR=host"]);
    assert_eq!((found.spec.stop_signal.map(|s| s.0), found.spec.stop_timeout_secs), (Some(2), Some(2)));
    assert_eq!(found.spec.restart, RestartPolicy::OnFailure { max_retries: 3 });
    assert_eq!(found.pull_policy, PullPolicy::Always);
    assert!(found.spec.init && found.spec.stdio.tty && found.spec.stdio.open_stdin);
    assert_eq!(service("restart: no").spec.restart, RestartPolicy::No);
    assert_eq!(service("restart: \"no\"").spec.restart, RestartPolicy::No);
}

#[test]
fn limits_and_security() {
    let found = service(
        "mem_limit: 64m\ncpus: 0.5\npids_limit: 100\nshm_size: 1g\ncap_add: [NET_ADMIN]\ncap_drop: [all]\nprivileged: false\nread_only: true\n\
         security_opt: [\"no-new-privileges:true\", seccomp=seccomp.json]\nulimits: {nofile: {soft: 10, hard: 20}, nproc: 5}\nsysctls: [net.core.somaxconn=1]\n\
         devices: [\"/dev/null:/dev/x:r\"]\nlogging: {driver: local, options: {max-size: 1m, max-file: \"2\"}}",
    );
    let resources = &found.spec.resources;
    assert_eq!((resources.memory, resources.nano_cpus, resources.pids), (64 << 20, 500_000_000, Some(100)));
    assert_eq!(found.spec.security.cap_drop, ["ALL"]);
    assert_eq!(found.spec.security.seccomp, Seccomp::Profile("{}".into()));
    assert!(found.spec.security.no_new_privileges && found.spec.security.read_only_rootfs);
    assert_eq!((found.spec.ulimits[0].soft, found.spec.ulimits[1].hard), (10, 5));
    assert_eq!((found.spec.log.file_bytes_max, found.spec.log.files_max), (1 << 20, 2));
    let found = service(
        "deploy: {replicas: 1, resources: {limits: {cpus: \"2\", memory: 1G, pids: 9}, reservations: {memory: 5m}}}",
    );
    let resources = &found.spec.resources;
    assert_eq!((resources.memory, resources.nano_cpus, resources.pids), (1 << 30, 2_000_000_000, Some(9)));
    assert_eq!(resources.memory_reservation, 5 << 20);
    assert!(!service("logging: {driver: none}").spec.log.enabled);
}

#[test]
fn ports() {
    for (text, expect) in [
        ("80", vec![("80/tcp", None, (0, 0))]),
        ("8080:80", vec![("80/tcp", None, (8080, 8080))]),
        ("\"127.0.0.1:8080:80/udp\"", vec![("80/udp", Some("127.0.0.1"), (8080, 8080))]),
        ("\"127.0.0.1::80\"", vec![("80/tcp", Some("127.0.0.1"), (0, 0))]),
        ("\"[::1]:8080:80\"", vec![("80/tcp", Some("::1"), (8080, 8080))]),
        ("\"3000-3001:80-81\"", vec![("80/tcp", None, (3000, 3000)), ("81/tcp", None, (3001, 3001))]),
        ("\"3000-3005:80\"", vec![("80/tcp", None, (3000, 3005))]),
        (
            "{target: 80, published: \"8080\", protocol: udp, host_ip: 0.0.0.0}",
            vec![("80/udp", Some("0.0.0.0"), (8080, 8080))],
        ),
    ] {
        let found = service(&format!("ports: [{text}]"));
        let got: Vec<_> = found
            .spec
            .network
            .published
            .iter()
            .map(|binding| {
                (binding.container.to_string(), binding.host_ip.map(|ip| ip.to_string()), binding.host_port)
            })
            .collect();
        let expect: Vec<_> = expect
            .into_iter()
            .map(|(port, ip, host)| (port.to_owned(), ip.map(str::to_owned), host))
            .collect();
        assert_eq!(got, expect, "{text}");
    }
    let exposed = service("expose: [80, \"90-91/udp\"]").spec.network.exposed;
    assert_eq!(exposed.len(), 3);
    assert_eq!(exposed[2].proto, Proto::Udp);
}

#[test]
fn volumes() {
    let mount = |text: &str| service(&format!("volumes: [{text}]")).spec.mounts.remove(0);
    let bind = |text: &str| match mount(text).source {
        MountSource::Bind { path, create, .. } => (path.to_str().unwrap().to_owned(), create),
        other => panic!("{other:?}"),
    };
    assert_eq!(bind("\"./a/../b:/x\""), ("/srv/My App/b".into(), true));
    assert_eq!(bind("\"~/b:/x\""), ("/root/b".into(), true));
    assert_eq!(
        bind("{type: bind, source: /a, target: /x, bind: {create_host_path: false}}"),
        ("/a".into(), false)
    );
    assert!(mount("\"/a:/x:ro\"").read_only);
    assert!(matches!(mount("/data").source, MountSource::Volume { anonymous: true, .. }));
    assert!(matches!(
        mount("\"data:/x:nocopy\"").source,
        MountSource::Volume { copy: false, anonymous: false, .. }
    ));
    assert!(matches!(
        mount("{type: tmpfs, target: /x, tmpfs: {size: 1m}}").source,
        MountSource::Tmpfs { size: 0x10_0000, .. }
    ));
    let tmpfs = service("tmpfs: \"/run:size=2m,mode=700,noexec\"").spec.mounts.remove(0);
    assert_eq!(
        tmpfs.source,
        MountSource::Tmpfs { size: 2 << 20, mode: 0o700, options: vec!["noexec".into()] }
    );
}

#[test]
fn networks_and_health() {
    assert_eq!(service("tty: false").spec.network.mode, NetworkMode::Network("myapp_default".into()));
    assert_eq!(service("network_mode: host").spec.network.mode, NetworkMode::Host);
    assert_eq!(
        service("networks: {back: {ipv4_address: 10.0.0.5}}").spec.network.endpoints["myapp_back"].ipv4,
        Some([10, 0, 0, 5].into())
    );
    assert_eq!(
        service("extra_hosts: [\"a=1.2.3.4\", \"b:host-gateway\"]\ndns: 1.1.1.1").spec.network.extra_hosts,
        ["a:1.2.3.4", "b:host-gateway"]
    );
    let check = service("healthcheck: {test: curl x, interval: 5s, retries: 2}").spec.healthcheck.unwrap();
    assert_eq!(
        (check.test, check.interval, check.retries),
        (vec!["CMD-SHELL".to_owned(), "curl x".into()], 5_000_000_000, 2)
    );
    assert_eq!(service("healthcheck: {disable: true}").spec.healthcheck.unwrap().test, ["NONE"]);
    let found = project(
        "services:\n  a: {image: i, network_mode: \"service:b\"}\n  b: {image: i, container_name: bee}\n",
    );
    assert_eq!(found.services[1].spec.network.mode, NetworkMode::Container("bee".into()));
    assert_eq!(found.services[0].name, "b");
}

#[test]
fn profiles_names_and_hashes() {
    let text = "services:\n  a: {image: i}\n  b: {image: i, profiles: [debug], depends_on: [a]}\n";
    assert_eq!(try_load(text, &[]).unwrap().services.len(), 1);
    assert_eq!(try_load(text, &["debug"]).unwrap().services.len(), 2);
    assert_eq!(try_load(text, &["*"]).unwrap().services.len(), 2);
    assert_eq!(project("name: other\nservices:\n  a: {image: i}\n").name, "other");
    assert_eq!(
        project("name: x\nservices:\n  a: {image: \"${COMPOSE_PROJECT_NAME}\"}\n").services[0].spec.image,
        "x"
    );
    let hash = |text: &str| service(text).config_hash;
    assert_eq!(hash("tty: true"), hash("tty: true"));
    assert_ne!(hash("tty: true"), hash("tty: false"));
    let found = project(
        "version: '3'\nx-base: &base {image: i, tty: true}\nservices:\n  a: {<<: *base, image: j, command: $NOPE}\n",
    );
    assert_eq!((found.services[0].spec.image.as_str(), found.services[0].spec.stdio.tty), ("j", true));
    assert_eq!(found.services[0].spec.process.cmd, None);
    assert_eq!(found.warnings.len(), 2);
}

#[test]
fn a_byte_order_mark_is_no_part_of_a_key() {
    assert_eq!(project("\u{feff}services:\n  a: {image: i}\n").services.len(), 1);
}

#[test]
fn bad_services() {
    for (lines, message, hint) in [
        (
            "imagee: x",
            "compose.yaml:4: services.s.imagee: unknown key; did you mean \"image\"?",
            "known here",
        ),
        ("zzz: x", "compose.yaml:4: services.s.zzz: unknown key", "known here"),
        ("secrets: [a]", "compose.yaml:4: services.s.secrets: not supported", "env_file"),
        (
            "cap_add: [NET_ADMN]",
            "compose.yaml:4: services.s.cap_add[0]: unknown capability",
            "did you mean NET_ADMIN?",
        ),
        ("tty: maybe", "compose.yaml:4: services.s.tty: must be true or false, not \"maybe\"", ""),
        ("tty: [a]", "compose.yaml:4: services.s.tty: must be a text", ""),
        ("ports: 80", "compose.yaml:4: services.s.ports: must be a list", ""),
        ("ports:\n  - 80:x", "compose.yaml:5: services.s.ports[0]: invalid port \"x\"", "8080:80"),
        (
            "ports: [\"1-3:4-5\"]",
            "compose.yaml:4: services.s.ports[0]: the two port ranges have different lengths",
            "",
        ),
        (
            "ports: [{target: 80, publishd: 1}]",
            "compose.yaml:4: services.s.ports[0].publishd: unknown key; did you mean \"published\"?",
            "",
        ),
        ("volumes: [nope:/x]", "compose.yaml:4: services.s.volumes[0]: undefined volume \"nope\"", "./nope"),
        (
            "volumes: [./a:x]",
            "compose.yaml:4: services.s.volumes[0]: the target \"x\" must be an absolute path",
            "",
        ),
        (
            "volumes: [/a, /a]",
            "compose.yaml:4: services.s.volumes[1]: something is mounted on /a already",
            "",
        ),
        (
            "networks: [nope]",
            "compose.yaml:4: services.s.networks[0]: undefined network \"nope\"",
            "networks at the top level",
        ),
        (
            "network_mode: host\nnetworks: [back]",
            "compose.yaml:4: services.s.network_mode: network_mode and networks exclude each other",
            "",
        ),
        (
            "network_mode: foo",
            "compose.yaml:4: services.s.network_mode: unknown network mode \"foo\"",
            "host, none",
        ),
        (
            "depends_on: [x]",
            "compose.yaml:4: services.s.depends_on[0]: depends on undefined service \"x\"",
            "",
        ),
        (
            "depends_on: [s]",
            "compose.yaml:4: services.s.depends_on[0]: dependency cycle detected: s -> s",
            "",
        ),
        (
            "depends_on: {s: {condition: healthy}}",
            "compose.yaml:4: services.s.depends_on.s.condition: unknown condition \"healthy\"",
            "service_healthy",
        ),
        (
            "deploy: {replicas: 2}",
            "compose.yaml:4: services.s.deploy.replicas: more or less than one container",
            "twice",
        ),
        ("deploy: {mode: global}", "compose.yaml:4: services.s.deploy.mode: not supported", ""),
        ("mem_limit: lots", "compose.yaml:4: services.s.mem_limit: invalid size \"lots\"", "64m"),
        (
            "mem_limit: 1m\ndeploy: {resources: {limits: {memory: 1m}}}",
            "compose.yaml:5: services.s.deploy.resources.limits.memory: mem_limit of the service says the same",
            "",
        ),
        ("cpus: many", "compose.yaml:4: services.s.cpus: invalid number of CPUs \"many\"", "0.5"),
        (
            "restart: sometimes",
            "compose.yaml:4: services.s.restart: unknown restart policy \"sometimes\"",
            "unless-stopped",
        ),
        (
            "logging: {driver: syslog}",
            "compose.yaml:4: services.s.logging.driver: log driver \"syslog\" is not supported",
            "json-file",
        ),
        (
            "healthcheck: {test: [curl]}",
            "compose.yaml:4: services.s.healthcheck.test: a list must begin with NONE, CMD or CMD-SHELL",
            "",
        ),
        ("command: \"'open\"", "compose.yaml:4: services.s.command: a ' is never closed", ""),
        ("env_file: nope.env", "compose.yaml:4: services.s.env_file: cannot read /srv/My App/nope.env", ""),
        (
            "command: \"${X:?set X}\"",
            "compose.yaml:4: services.s.command: required variable X is missing a value: set X",
            "$$",
        ),
        ("stop_signal: NOPE", "compose.yaml:4: services.s.stop_signal: invalid signal", ""),
        (
            "x-naru: {route: {path: /}}",
            "compose.yaml:4: services.s.x-naru.route: host is missing",
            "app.example.com",
        ),
        ("x-naru: {route: {host: a.b}}", "compose.yaml:4: services.s.x-naru.route: port is missing", "3000"),
        (
            "x-naru: {rout: {host: a.b}}",
            "compose.yaml:4: services.s.x-naru.rout: unknown key; did you mean \"route\"?",
            "",
        ),
        (
            "build: https://x/y.git",
            "compose.yaml:4: services.s.build: building from a URL is not supported",
            "clone",
        ),
        ("build: {secrets: [a]}", "compose.yaml:4: services.s.build.secrets: not supported", ""),
        (
            "security_opt: [foo]",
            "compose.yaml:4: services.s.security_opt[0]: unknown security option \"foo\"",
            "",
        ),
        ("ulimits: {nofile: {soft: 3}}", "compose.yaml:4: services.s.ulimits.nofile: hard is missing", ""),
        ("extra_hosts: [\"a:b\"]", "compose.yaml:4: services.s.extra_hosts[0]: invalid IP address \"b\"", ""),
        ("container_name: \"-x\"", "compose.yaml:4: services.s.container_name: invalid container name", ""),
        ("environment: [\"=x\"]", "compose.yaml:4: services.s.environment[0]: the key is empty", ""),
    ] {
        let body = lines.lines().map(|line| format!("    {line}\n")).collect::<Vec<_>>().concat();
        let text = format!("services:\n  s:\n    image: i\n{body}networks:\n  back:\n");
        let error = try_load(&text, &[]).err().unwrap_or_else(|| panic!("{lines}"));
        assert!(error.message().starts_with(message), "{lines}: {error}");
        assert!(error.hint().unwrap_or_default().contains(hint), "{lines}: {:?}", error.hint());
    }
}

#[test]
fn bad_files() {
    for (text, message) in [
        ("", "compose.yaml:1: no service is defined"),
        ("services:\n  a: {}\n", "compose.yaml:2: services.a: neither image nor build is given"),
        ("service:\n  a: {}\n", "compose.yaml:1: service: unknown key; did you mean \"services\"?"),
        ("services: [a]\n", "compose.yaml:1: services: must be a mapping"),
        ("services:\n  a: {image: \"A b\"}\n", "compose.yaml:2: services.a.image: invalid reference format"),
        ("services:\n  a b: {image: i}\n", "compose.yaml:2: services.a b: invalid service name"),
        (
            "name: Bad Name\nservices:\n  a: {image: i}\n",
            "compose.yaml:1: name: invalid project name \"Bad Name\"",
        ),
        (
            "services:\n  a: {image: i, depends_on: [b]}\n  b: {image: i, depends_on: [c]}\n  c: {image: i, depends_on: [a]}\n",
            "compose.yaml:4: services.c.depends_on[0]: dependency cycle detected: a -> b -> c -> a",
        ),
        (
            "services:\n  a: {image: i, depends_on: [b]}\n  b: {image: i, profiles: [x]}\n",
            "compose.yaml:2: services.a.depends_on[0]: depends on \"b\", whose profile is not active",
        ),
        (
            "services:\n  a: {image: i, container_name: same}\n  b: {image: i, container_name: same}\n",
            "compose.yaml:3: services.b: another service has the container name",
        ),
        (
            "services:\n  a: {image: i}\nnetworks:\n  n: {driver: overlay}\n",
            "compose.yaml:4: networks.n.driver: network driver \"overlay\" is not supported",
        ),
        (
            "services:\n  a: {image: i}\nvolumes:\n  v: {driver: nfs}\n",
            "compose.yaml:4: volumes.v.driver: volume driver \"nfs\" is not supported",
        ),
        ("services:\n  a: {image: i}\nsecrets: {}\n", "compose.yaml:3: secrets: not supported"),
        ("services:\n  a: {image: i\n", "compose.yaml:"),
    ] {
        let error = try_load(text, &[]).err().unwrap_or_else(|| panic!("{text}"));
        assert!(error.message().starts_with(message), "{text}: {error}");
    }
    let error = try_load("services:\n  a: {image: i, gpus: all}\n", &[]).unwrap_err();
    assert_eq!(error.kind(), Kind::NotImplemented);
}

#[test]
fn the_example_loads() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/hello/compose.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    let loaded = load(&LoadInput {
        file: &file,
        text: &text,
        working_dir: None,
        environment: &BTreeMap::new(),
        project_name: None,
        profiles: &[],
        read_file: &|path| std::fs::read_to_string(path),
    })
    .unwrap();
    assert!(loaded.services.iter().any(|service| service.route.is_some() && service.build.is_some()));
}

#[test]
fn mutated_files_never_panic() {
    let seed = "name: x\nx-a: &a {image: 'i', tty: true}\nservices:\n  s:\n    <<: *a\n    command: \"echo ${A:-${B}} $$\"\n    ports: [\"1-2:3-4/udp\", {target: 80}]\n    volumes: [./a:/b:ro, d:/e]\n    tmpfs: /run:size=1m\n    env_file: web.env\n    stop_grace_period: 1m30s\n    cpus: 0.5\nvolumes: {d: }\n";
    let pieces: Vec<char> = "\n\t :-[]{}'\"$#&*!|>,0aé~".chars().collect();
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    // xorshift64: the same texts on every run.
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as usize
    };
    for _ in 0..5_000 {
        let mut text: Vec<char> = seed.chars().collect();
        for _ in 0..=random() % 5 {
            let (at, piece) = (random() % text.len(), pieces[random() % pieces.len()]);
            match random() % 4 {
                0 => text[at] = piece,
                1 => text.insert(at, piece),
                2 if text.len() > 2 => drop(text.remove(at)),
                _ => text.truncate(at.max(2)),
            }
        }
        let _ = try_load(&text.into_iter().collect::<String>(), &[]);
    }
}
