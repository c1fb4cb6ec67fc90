//! An engine that is a list, a stream and a log.

use crate::port::{EnginePort, Later};
use naru_engine::{ContainerView, EndpointView, HealthStatus, HealthView, StateView, Status};
use naru_types::event::{Event, EventType};
use naru_types::spec::{ContainerSpec, PortProto};
use naru_types::{ContainerId, Digest, NetworkId, Timestamp};
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Mutex;
use tokio::sync::broadcast;

pub struct FakeEngine {
    pub views: Mutex<Vec<ContainerView>>,
    pub log: Mutex<Vec<String>>,
    events: broadcast::Sender<Event>,
}

impl Default for FakeEngine {
    fn default() -> Self {
        Self { views: Mutex::default(), log: Mutex::default(), events: broadcast::channel(64).0 }
    }
}

impl FakeEngine {
    pub fn happens(&self, view: &ContainerView, action: &str, more: &[(&str, &str)]) {
        let mut attributes = view.spec.labels.clone();
        attributes.insert("name".into(), view.name.clone());
        attributes.insert("image".into(), view.spec.image.clone());
        attributes.extend(more.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())));
        let (action, actor_id) = (action.to_owned(), view.id.to_string());
        self.emit(Event {
            kind: EventType::Container,
            action,
            actor_id,
            attributes,
            at: crate::sender::now(),
        });
    }
}

impl EnginePort for FakeEngine {
    fn list(&self) -> Vec<ContainerView> {
        self.views.lock().unwrap().clone()
    }

    fn inspect(&self, id: &str) -> Option<ContainerView> {
        self.list().into_iter().find(|view| view.id.as_str() == id)
    }

    fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    fn emit(&self, event: Event) {
        let _ = self.events.send(event);
    }

    fn tail(&self, _: &str, lines: u64) -> Later<Vec<String>> {
        let log = self.log.lock().unwrap().clone();
        let from = log.len().saturating_sub(lines as usize);
        Box::pin(async move { log[from..].to_vec() })
    }
}

/// A running container `number` at 10.0.0.`number` that exposes 8080 and 9090.
pub fn view(number: u8, name: &str, labels: &[(&str, &str)]) -> ContainerView {
    let mut spec = ContainerSpec { image: "shop/web:1".into(), ..ContainerSpec::default() };
    spec.labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    spec.network.exposed =
        ["9090/tcp", "80/udp", "8080"].iter().filter_map(|port| PortProto::parse(port)).collect();
    ContainerView {
        id: ContainerId::from_bytes([number; 32]),
        name: name.into(),
        spec,
        image_id: Digest::from_sha256([1; 32]),
        created: Timestamp(1),
        state: state(Status::Running),
        endpoints: BTreeMap::from([("shop_default".to_owned(), endpoint(number))]),
        ports: Vec::new(),
        mounts: Vec::new(),
        apparmor_profile: String::new(),
        log_path: "/".into(),
        hostname_path: "/".into(),
        hosts_path: "/".into(),
        resolv_conf_path: "/".into(),
        upper_dir: "/".into(),
        work_dir: "/".into(),
        lower_dirs: Vec::new(),
        restart_count: 0,
        exec_ids: Vec::new(),
    }
}

pub fn with_health(mut view: ContainerView, status: HealthStatus) -> ContainerView {
    view.state.health = Some(HealthView { status, failing_streak: 0, log: Vec::new() });
    view
}

fn state(status: Status) -> StateView {
    StateView {
        status,
        pid: 1,
        exit_code: 0,
        exit_unknown: false,
        error: String::new(),
        oom_killed: false,
        started_at: Timestamp(1),
        finished_at: Timestamp::ZERO,
        health: None,
    }
}

fn endpoint(number: u8) -> EndpointView {
    EndpointView {
        network_id: NetworkId::from_bytes([9; 32]),
        endpoint_id: String::new(),
        mac: String::new(),
        ipv4: Some(Ipv4Addr::new(10, 0, 0, number)),
        prefix_len: 24,
        gateway: None,
        ipv6: None,
        ipv6_prefix_len: 0,
        ipv6_gateway: None,
        aliases: Vec::new(),
        dns_names: Vec::new(),
    }
}
