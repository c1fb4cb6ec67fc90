//! Opening and ending an engine: what the last one left is taken up, what nobody owns is swept.

use crate::attachment::port_view;
use crate::create::make_dir;
use crate::db::Db;
use crate::engine::{Engine, Parts, Table};
use crate::keeper_link::{KeeperLink, Starts};
use crate::machine::{Event, ExitStatus, State};
use crate::networks::{PREDEFINED, open_netns};
use crate::options::{EngineConfig, ROOT_DIR_MODE, RUN_DIR_MODE};
use crate::record::{ContainerRow, NetworkRow};
use crate::view::IpamView;
use naru_net::{Ipv4Net, NetConfig, Networks, Wanted, WantedContainer};
use naru_runtime::cgroup::Cgroup;
use naru_runtime::keeper::protocol::{ProcessEntry, Target};
use naru_types::id::is_full_id;
use naru_types::{ContainerId, Error, NetworkId, Result};
use rustix::fs::FlockOperation;
use std::collections::BTreeMap;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

const REBOOTED: &str = "exit status unknown: the host was restarted while the container ran";
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

impl Engine {
    /// Opens database and store, starts a keeper unless one runs, agrees with it about every container, makes the
    /// networks as they should be, sweeps, and gives the restart policies their turn.
    pub async fn open(config: EngineConfig) -> Result<Arc<Self>> {
        let opened = tokio::task::spawn_blocking(move || prepare(config)).await;
        let broken =
            |failed| Error::internal("opening the engine broke off: this is a bug").with_source(failed);
        let Prepared { parts, rows, known, notices, rebooted } = opened.map_err(broken)??;
        let engine = Engine::assemble(parts);
        let mut containers = Vec::new();
        for row in rows {
            let lower = engine.lower_dirs(&row);
            containers.push(engine.adopt_row(row, lower));
        }
        let taken = Arc::clone(&engine);
        let all = containers.clone();
        tokio::task::spawn_blocking(move || taken.take_up_all(&all, &known, rebooted))
            .await
            .map_err(broken)??;
        tokio::spawn(Arc::clone(&engine).follow_keeper(notices));
        engine.emit_keeper();
        for container in &containers {
            if container.cell().state.run().is_some() {
                crate::health::watch(&engine, container);
            }
            engine.report(&container.id, Event::DaemonStarted);
        }
        Ok(engine)
    }

    /// Containers go on. When none runs, the keeper, the bridges and the table go too.
    pub async fn shutdown(&self) -> Result<()> {
        self.close();
        for container in self.containers() {
            container.cell().health = None;
        }
        self.blocking(|engine| {
            let busy = engine.containers().iter().any(|container| {
                let cell = container.cell();
                cell.state.run().is_some()
                    || matches!(cell.state, State::Starting(_) | State::Settling { .. })
            });
            if busy || engine.steps.any() {
                return Ok(());
            }
            // Refused while something runs that we do not know of: then the networks stay as well.
            if engine.keeper()?.shutdown().is_ok() {
                engine.nets.teardown()?;
                // Somebody else's container may be below it; then it stays.
                for cgroup in [&engine.builds_cgroup(), &engine.config.cgroup_parent] {
                    let _ = naru_runtime::cgroup::remove_parent(cgroup);
                }
            }
            Ok(())
        })
        .await
    }

    /// An image whose layers are gone leaves a container that can be looked at and removed, but not started.
    fn lower_dirs(&self, row: &ContainerRow) -> Vec<std::path::PathBuf> {
        let dirs = self.store.get_by_id(&row.image_id).and_then(|image| self.store.layer_dirs(&image));
        dirs.unwrap_or_default()
    }

    fn take_up_all(
        &self,
        containers: &[Arc<crate::container::Container>],
        known: &[ProcessEntry],
        rebooted: bool,
    ) -> Result<()> {
        let keeper = self.keeper()?;
        for container in containers {
            self.report(&container.id, Event::Resume);
            if rebooted && container.cell().state.run().is_some() {
                let status =
                    ExitStatus { code: None, oom: false, at: crate::ids::now(), why: REBOOTED.into() };
                self.report(&container.id, Event::Ended(status));
            } else {
                self.take_up(&keeper, container, known, Starts::CutShort);
            }
        }
        self.keeper.stored.drop_rest();
        for entry in known {
            if entry.target.exec_id.is_some() || self.by_id(&entry.target.id).is_some() {
                continue;
            }
            // Half-made by a daemon that died: nobody has been told of it.
            let _ = keeper.signal_all(&entry.target.id, naru_types::signal::Signal::KILL);
            let _ = keeper.forget(&Target::container(entry.target.id.clone()));
        }
        self.sweep();
        Ok(())
    }

    /// Removes container directories, bundles and control groups that no row knows. Of volumes only the empty directory
    /// that a create left when the daemon was killed in it: what is in a volume is never swept. A process without a row, as
    /// the step of a build that nobody waits for any more, has been killed before this.
    fn sweep(&self) {
        let is_known = |name: &str| ContainerId::parse(name).is_none_or(|id| self.by_id(&id).is_some());
        for dir in [self.config.root.join("containers"), self.config.run.join("bundles")] {
            for name in ids_in(&dir).filter(|name| !is_known(name)) {
                // Tried again at the next start.
                let _ = std::fs::remove_dir_all(dir.join(name));
            }
        }
        // Their names have the form of a container's id.
        let volumes: Vec<_> = ids_in(&self.config.root.join("volumes"))
            .filter(|name| !self.table().volumes.contains_key(name))
            .collect();
        for name in volumes {
            self.unplace_volume(&name);
        }
        let parents = [self.config.cgroup_parent.trim_matches('/').to_owned(), self.builds_cgroup()];
        let hierarchies =
            std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|entry| entry.path());
        for hierarchy in hierarchies.chain([Path::new("/sys/fs/cgroup").to_owned()]) {
            for parent in &parents {
                for name in ids_in(&hierarchy.join(parent)).filter(|name| !is_known(name)) {
                    // What outlived both its keeper and its row has nobody else to end it.
                    clear_cgroup(&format!("{parent}/{name}"));
                }
            }
        }
    }
}

/// Ends what runs in a control group and removes it. What fails is tried again by the next sweep.
pub(crate) fn clear_cgroup(path: &str) {
    if let Ok(cgroup) = Cgroup::open(path) {
        let _ = cgroup.kill_all();
        let _ = cgroup.delete();
    }
}

/// Names in a directory that are full ids.
fn ids_in(dir: &Path) -> impl Iterator<Item = String> + use<> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| is_full_id(name))
}

struct Prepared {
    parts: Parts,
    rows: Vec<ContainerRow>,
    known: Vec<ProcessEntry>,
    notices: crate::keeper_link::Notices,
    rebooted: bool,
}

fn prepare(config: EngineConfig) -> Result<Prepared> {
    for (dir, mode) in [
        (config.root.clone(), ROOT_DIR_MODE),
        (config.root.join("containers"), 0o710),
        (config.root.join("volumes"), 0o701),
        (config.run.clone(), RUN_DIR_MODE),
        (config.run.join("bundles"), 0o700),
    ] {
        make_dir(&dir, mode)?;
    }
    let lock = lock_root(&config.root)?;
    let db = Db::open(&config.root.join("state.db"))?;
    let store_config = naru_image::StoreConfig {
        registry_mirrors: config.registry_mirrors.clone(),
        insecure_registries: config.insecure_registries.clone(),
        certs_dirs: config.certs_dirs.clone(),
        ..naru_image::StoreConfig::default()
    };
    let store = naru_image::Store::open(&config.root, store_config)?;
    let boot = std::fs::read_to_string(BOOT_ID).unwrap_or_default();
    let rebooted = db.meta("boot_id")?.is_some_and(|before| before != boot);
    let (keeper, notices) = KeeperLink::open(&config.exe, &config.run)?;
    let known = keeper.list()?;
    let mut rows = db.containers()?;
    let mut networks: BTreeMap<_, _> = db.networks()?.into_iter().map(|row| (row.id.clone(), row)).collect();
    let mut net_config = NetConfig::new(&config.bridge, &config.nft_table);
    net_config.default_subnet = Ipv4Net::parse(&config.default_subnet)?;
    let nets = Networks::open(net_config)?;
    nets.reconcile(wanted(&networks, &mut rows, &known))?;
    predefine(&db, &nets, &mut networks)?;
    db.set_meta("boot_id", &boot)?;
    let volumes = db.volumes()?.into_iter().map(|row| (row.name.clone(), row)).collect();
    let table = Table { networks: networks.into_iter().collect(), volumes, ..Table::default() };
    let parts = Parts { config, db, store, nets, keeper, table, lock };
    Ok(Prepared { parts, rows, known, notices, rebooted })
}

fn lock_root(root: &Path) -> Result<std::fs::File> {
    let path = root.join("engine.lock");
    let failed = |error: std::io::Error| {
        Error::internal(format!("cannot lock {}: {error}", path.display())).with_source(error)
    };
    let mut options = std::fs::OpenOptions::new();
    let file = options.create(true).truncate(false).write(true).mode(0o600).open(&path).map_err(failed)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => {
            Err(Error::conflict(format!("another naru daemon uses {}", root.display()))
                .with_hint("stop it, or start this one with another --root"))
        }
        Err(errno) => Err(failed(errno.into())),
    }
}

/// What the network side should find: every network, and the endpoints of what really runs.
fn wanted(
    networks: &BTreeMap<NetworkId, NetworkRow>,
    rows: &mut [ContainerRow],
    known: &[ProcessEntry],
) -> Wanted {
    let mut containers = Vec::new();
    for row in rows {
        let target = Target::container(row.id.clone());
        let kept =
            known.iter().find(|entry| entry.target == target && entry.exit.is_none()).map(|entry| entry.pid);
        let pid = kept.or_else(|| row.state.run().map(|run| run.pid).filter(|pid| is_its(row, *pid)));
        let Some(netns) = pid.and_then(|pid| open_netns(pid).ok()) else {
            (row.facts.net, row.facts.net_ports) = (Vec::new(), Vec::new());
            continue;
        };
        row.facts.ports = row.facts.net_ports.iter().map(port_view).collect();
        if row.facts.net.is_empty() {
            continue;
        }
        containers.push(WantedContainer {
            id: row.id.clone(),
            endpoints: row.facts.net.clone(),
            ports: row.facts.net_ports.clone(),
            dns: row.spec.network.dns.clone(),
            netns,
        });
    }
    Wanted { networks: networks.values().filter_map(|row| row.net.clone()).collect(), containers }
}

/// Whether the number still belongs to the container: its cgroup names it.
fn is_its(row: &ContainerRow, pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|text| text.contains(row.id.as_str()))
}

fn predefine(db: &Db, nets: &Networks, networks: &mut BTreeMap<NetworkId, NetworkRow>) -> Result<()> {
    for (name, driver) in PREDEFINED {
        let known = networks.values().find(|row| row.name == name).map(|row| row.id.clone());
        let id = known.clone().unwrap_or_else(|| NetworkId::from_bytes(crate::ids::random_32()));
        let net = if name == "bridge" { Some(nets.create_default(id.clone())?) } else { None };
        let ipam = net.as_ref().map(|net| IpamView {
            subnet: net.subnet.to_string(),
            gateway: net.gateway.to_string(),
            ..IpamView::default()
        });
        let fresh = NetworkRow {
            id: id.clone(),
            name: name.into(),
            driver: driver.into(),
            attachable: false,
            labels: BTreeMap::new(),
            options: BTreeMap::new(),
            ipam: ipam.into_iter().collect(),
            ipam_options: None,
            net,
            created: known.and_then(|id| Some(networks.get(&id)?.created)).unwrap_or_else(crate::ids::now),
        };
        if networks.get(&id) != Some(&fresh) {
            db.save_network(&fresh)?;
            networks.insert(id, fresh);
        }
    }
    Ok(())
}
