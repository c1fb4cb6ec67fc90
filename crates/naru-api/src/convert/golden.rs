//! Conversions against answers that were recorded from a real dockerd 28.5.2.
//!
//! The recorded container is asked of naru again (its `HostConfig` and `Config` go through the converter), given the
//! recorded run-time facts, and shown; then the two JSON documents are compared field by field. What differs by design
//! is listed with its reason.

use crate::convert::{create, inspect, network, stats, summary};
use naru_engine::{
    ContainerSize, ContainerView, EndpointView, HealthResult, HealthStatus, HealthView, IpamView, MountPoint,
    NetworkEndpointView, NetworkView, PublishedPort, StateView, StatsSample, Status,
};
use naru_types::image::Healthcheck;
use naru_types::spec::PortProto;
use naru_types::{ContainerId, Digest, NetworkId, Timestamp};
use naru_wire::create::CreateRequest;
use serde_json::{Value, json};
use std::collections::BTreeMap;

macro_rules! golden {
    ($name:literal) => {
        serde_json::from_str::<Value>(include_str!(concat!("../../tests/golden/", $name))).unwrap()
    };
}

/// Differences as `path: ours != theirs`, but for the paths in `by_design`.
fn differences(ours: &Value, theirs: &Value, by_design: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    compare("", ours, theirs, &mut |path, ours, theirs| {
        if !by_design.iter().any(|known| path.starts_with(known)) {
            found.push(format!("{path}: {ours} != {theirs}"));
        }
    });
    found
}

fn compare(path: &str, ours: &Value, theirs: &Value, differ: &mut dyn FnMut(&str, &Value, &Value)) {
    match (ours, theirs) {
        (Value::Object(a), Value::Object(b)) => {
            let missing = json!("(absent)");
            let keys = a.keys().chain(b.keys().filter(|key| !a.contains_key(*key)));
            for key in keys {
                let (left, right) = (a.get(key).unwrap_or(&missing), b.get(key).unwrap_or(&missing));
                compare(&format!("{path}.{key}"), left, right, differ);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (left, right)) in a.iter().zip(b).enumerate() {
                compare(&format!("{path}[{index}]"), left, right, differ);
            }
        }
        _ if ours == theirs => {}
        _ => differ(path, ours, theirs),
    }
}

fn time(value: &Value) -> Timestamp {
    Timestamp::parse_rfc3339(value.as_str().unwrap()).unwrap()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// The recorded container as naru would hold it.
fn recorded() -> (ContainerView, Value) {
    let golden = golden!("containers_gold_json_size_1.json");
    let mut body = golden["Config"].clone();
    body["HostConfig"] = golden["HostConfig"].clone();
    // naru has no cgroup namespace of the host by default; this one was recorded on cgroup v1.
    body["NetworkingConfig"] = json!({ "EndpointsConfig": { "gnet": { "Aliases": ["al"] } } });
    let request = CreateRequest::from_slice(&serde_json::to_vec(&body).unwrap()).unwrap();
    let spec = create::spec(request).unwrap();
    let view = ContainerView {
        id: ContainerId::parse(golden["Id"].as_str().unwrap()).unwrap(),
        name: "gold".into(),
        image_id: Digest::parse(golden["Image"].as_str().unwrap()).unwrap(),
        created: time(&golden["Created"]),
        state: state(&golden["State"]),
        endpoints: BTreeMap::from([(
            "gnet".to_owned(),
            endpoint(&golden["NetworkSettings"]["Networks"]["gnet"]),
        )]),
        ports: published(&golden["NetworkSettings"]["Ports"]),
        mounts: mounts(&golden["Mounts"]),
        apparmor_profile: text(&golden["AppArmorProfile"]).to_owned(),
        log_path: text(&golden["LogPath"]).into(),
        hostname_path: text(&golden["HostnamePath"]).into(),
        hosts_path: text(&golden["HostsPath"]).into(),
        resolv_conf_path: text(&golden["ResolvConfPath"]).into(),
        upper_dir: text(&golden["GraphDriver"]["Data"]["UpperDir"]).into(),
        work_dir: text(&golden["GraphDriver"]["Data"]["WorkDir"]).into(),
        lower_dirs: text(&golden["GraphDriver"]["Data"]["LowerDir"]).split(':').map(Into::into).collect(),
        restart_count: 0,
        exec_ids: Vec::new(),
        spec,
    };
    (view, golden)
}

fn state(golden: &Value) -> StateView {
    let result = |value: &Value| HealthResult {
        start: time(&value["Start"]),
        end: time(&value["End"]),
        exit_code: value["ExitCode"].as_i64().unwrap(),
        output: text(&value["Output"]),
    };
    let log = golden["Health"]["Log"].as_array().unwrap().iter().map(result).collect();
    StateView {
        status: Status::Running,
        pid: golden["Pid"].as_i64().unwrap() as i32,
        exit_code: 0,
        exit_unknown: false,
        error: String::new(),
        oom_killed: false,
        started_at: time(&golden["StartedAt"]),
        finished_at: Timestamp::ZERO,
        health: Some(HealthView { status: HealthStatus::Healthy, failing_streak: 0, log }),
    }
}

fn endpoint(golden: &Value) -> EndpointView {
    EndpointView {
        network_id: NetworkId::parse(golden["NetworkID"].as_str().unwrap()).unwrap(),
        endpoint_id: text(&golden["EndpointID"]),
        mac: text(&golden["MacAddress"]),
        ipv4: Some(text(&golden["IPAddress"]).parse().unwrap()),
        prefix_len: 24,
        gateway: Some(text(&golden["Gateway"]).parse().unwrap()),
        ipv6: None,
        ipv6_prefix_len: 0,
        ipv6_gateway: None,
        aliases: vec!["al".into()],
        dns_names: golden["DNSNames"].as_array().unwrap().iter().map(text).collect(),
    }
}

fn published(golden: &Value) -> Vec<PublishedPort> {
    let ports = golden.as_object().unwrap().iter().flat_map(|(port, list)| {
        let container = PortProto::parse(port).unwrap();
        list.as_array().unwrap().iter().map(move |binding| PublishedPort {
            container,
            host_ip: text(&binding["HostIp"]).parse().unwrap(),
            host_port: text(&binding["HostPort"]).parse().unwrap(),
        })
    });
    ports.collect()
}

fn mounts(golden: &Value) -> Vec<MountPoint> {
    let mount = |value: &Value| MountPoint {
        kind: if value["Type"] == "bind" { "bind" } else { "volume" },
        name: value["Name"].as_str().unwrap_or("").into(),
        source: text(&value["Source"]).into(),
        destination: text(&value["Destination"]),
        driver: value["Driver"].as_str().unwrap_or("").into(),
        mode: text(&value["Mode"]),
        rw: value["RW"].as_bool().unwrap(),
        propagation: text(&value["Propagation"]),
    };
    golden.as_array().unwrap().iter().map(mount).collect()
}

#[test]
fn inspect_is_dockerds() {
    let (view, golden) = recorded();
    let ours =
        serde_json::to_value(inspect::container(&view, Some(ContainerSize { rw: 0, root_fs: 2_067_012 })))
            .unwrap();
    let by_design = [
        // "0" and "" both ask for any free port; the spec knows only that.
        ".HostConfig.PortBindings.80/tcp[0].HostPort",
        // naru's runtime is its own.
        ".HostConfig.Runtime",
        // The merged tree is mounted in the container's mount namespace only.
        ".GraphDriver.Data.MergedDir",
        // naru's network namespace has no file of its own; the running process names it.
        ".NetworkSettings.SandboxID",
        ".NetworkSettings.SandboxKey",
    ];
    let different = differences(&ours, &golden, &by_design);
    assert!(different.is_empty(), "{different:#?}");
}

#[test]
fn summary_is_dockerds() {
    let (view, _) = recorded();
    let now = Timestamp(view.state.started_at.0 + 9_000_000_000);
    let size = ContainerSize { rw: 0, root_fs: 2_067_012 };
    let ours = serde_json::to_value(summary::container(&view, Some(size), now)).unwrap();
    let golden = golden!("containers_json_all_1_size_1.json")[0].clone();
    let different = differences(&ours, &golden, &[]);
    assert!(different.is_empty(), "{different:#?}");
}

#[test]
fn a_request_becomes_the_spec() {
    let (view, _) = recorded();
    let spec = view.spec;
    assert_eq!(spec.resources.memory, 64 << 20);
    assert_eq!(spec.resources.nano_cpus, 500_000_000);
    assert_eq!(spec.security.cap_add, ["NET_ADMIN"]);
    assert!(spec.security.no_new_privileges && spec.init);
    let expect = Healthcheck {
        test: vec!["CMD-SHELL".into(), "true".into()],
        interval: 2_000_000_000,
        ..Healthcheck::default()
    };
    assert_eq!(spec.healthcheck, Some(expect));
    assert_eq!(spec.network.published.len(), 3);
    assert_eq!(spec.mounts.len(), 3);
}

#[test]
fn networks_are_dockerds() {
    let golden = golden!("networks_gnet.json");
    let container = golden["Containers"].as_object().unwrap().iter().next().unwrap();
    let (id, seen) = (container.0, container.1);
    let mut attached = endpoint(&recorded().1["NetworkSettings"]["Networks"]["gnet"]);
    attached.mac = text(&seen["MacAddress"]);
    let view = NetworkView {
        id: NetworkId::parse(golden["Id"].as_str().unwrap()).unwrap(),
        name: "gnet".into(),
        driver: "bridge".into(),
        scope: "local",
        internal: false,
        attachable: false,
        labels: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
        options: BTreeMap::new(),
        ipam: vec![IpamView { subnet: "10.78.0.0/24".into(), ..IpamView::default() }],
        ipam_options: Some(BTreeMap::new()),
        enable_ipv6: false,
        created: time(&golden["Created"]),
        containers: BTreeMap::from([(
            ContainerId::parse(id).unwrap(),
            NetworkEndpointView { name: "gold".into(), endpoint: attached },
        )]),
    };
    let ours = serde_json::to_value(network::network(&view, false)).unwrap();
    assert_eq!(differences(&ours, &golden, &[]), Vec::<String>::new());
    let listed = serde_json::to_value(network::network(&view, true)).unwrap();
    let golden_list = golden!("networks.json");
    assert_eq!(differences(&listed, &golden_list[3], &[]), Vec::<String>::new());
}

#[test]
fn stats_have_dockerds_keys() {
    let (view, _) = recorded();
    let golden = golden!("containers_gold_stats_stream_false.json");
    let sample = StatsSample {
        networks: BTreeMap::from([("eth0".to_owned(), naru_engine::NetworkSample::default())]),
        ..StatsSample::default()
    };
    let ours = serde_json::to_value(stats::stats(&view, &sample, Some(&sample))).unwrap();
    for key in golden.as_object().unwrap().keys() {
        assert!(ours.get(key).is_some(), "{key}");
    }
    assert_eq!(ours["name"], golden["name"]);
}

#[test]
fn refusals_name_the_field() {
    for (body, expect) in [
        (json!({"HostConfig": {"StorageOpt": {"size": "1G"}}}), "StorageOpt"),
        (json!({"HostConfig": {"DeviceRequests": [{"Count": -1}]}}), "DeviceRequests"),
        (json!({"HostConfig": {"RestartPolicy": {"Name": "sometimes"}}}), "unknown policy 'sometimes'"),
        (
            json!({"HostConfig": {"RestartPolicy": {"Name": "always", "MaximumRetryCount": 3}}}),
            "maximum retry count",
        ),
        (json!({"HostConfig": {"NetworkMode": "container:"}}), "invalid container format"),
        (json!({"HostConfig": {"PidMode": "bogus"}}), "invalid PID mode"),
        (json!({"HostConfig": {"Dns": ["nope"]}}), "invalid DNS server"),
        (json!({"Env": ["=x"]}), "invalid environment variable"),
        (json!({"StopSignal": "SIGNOPE"}), "invalid signal: SIGNOPE"),
        (json!({"Image": ""}), "no image"),
    ] {
        let mut whole = json!({"Image": "busybox"});
        whole.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
        let request = CreateRequest::from_slice(&serde_json::to_vec(&whole).unwrap()).unwrap();
        let error = create::spec(request).unwrap_err();
        assert!(error.message().contains(expect), "{body}: {error}");
    }
}
