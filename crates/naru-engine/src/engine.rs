//! The engine itself: what it owns, how things are found, how it opens and ends.

use crate::actor::{Actor, Message};
use crate::container::{Cell, Container, ContainerPaths};
use crate::db::Db;
use crate::events::Events;
use crate::exec::Exec;
use crate::keeper_link::KeeperLink;
use crate::machine::Event as Step;
use crate::options::EngineConfig;
use crate::record::{ContainerRow, NetworkRow, VolumeRow};
use naru_net::Networks;
use naru_types::event::Event;
use naru_types::{ContainerId, Digest, Error, ExecId, NetworkId, Result, Timestamp};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use tokio::sync::{broadcast, mpsc, watch};

/// Containers, networks, volumes and all that happens to them. Made by [`Engine::open`], shared as an `Arc`.
pub struct Engine {
    me: Weak<Engine>,
    pub(crate) config: EngineConfig,
    pub(crate) db: Db,
    pub(crate) store: Arc<naru_image::Store>,
    pub(crate) nets: Networks,
    pub(crate) keeper: KeeperLink,
    pub(crate) events: Events,
    pub(crate) table: Mutex<Table>,
    closing: watch::Sender<bool>,
    pub(crate) steps: crate::step::Steps,
    /// Held while a range of ids is chosen and the container that gets it is stored.
    pub(crate) userns_choice: Mutex<()>,
    /// Held while the engine lives: two engines over one root would ruin each other.
    _lock: std::fs::File,
}

/// Everything that is known by name or id.
#[derive(Default)]
pub(crate) struct Table {
    pub containers: HashMap<ContainerId, Arc<Container>>,
    /// Names in use, those of containers in the making included.
    pub names: HashMap<String, ContainerId>,
    pub execs: HashMap<ExecId, Arc<Exec>>,
    pub networks: HashMap<NetworkId, NetworkRow>,
    pub volumes: BTreeMap<String, VolumeRow>,
}

/// What [`Engine::open`] has put together before there is an engine.
pub(crate) struct Parts {
    pub config: EngineConfig,
    pub db: Db,
    pub store: naru_image::Store,
    pub nets: Networks,
    pub keeper: KeeperLink,
    pub table: Table,
    pub lock: std::fs::File,
}

impl Engine {
    /// Whether containers are confined by AppArmor.
    pub fn has_apparmor(&self) -> bool {
        naru_runtime::apparmor::enabled()
    }

    pub(crate) fn assemble(parts: Parts) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            config: parts.config,
            db: parts.db,
            store: Arc::new(parts.store),
            nets: parts.nets,
            keeper: parts.keeper,
            events: Events::new(),
            table: Mutex::new(parts.table),
            closing: watch::channel(false).0,
            steps: crate::step::Steps::default(),
            userns_choice: Mutex::default(),
            _lock: parts.lock,
        })
    }

    pub fn images(&self) -> &Arc<naru_image::Store> {
        &self.store
    }

    pub fn config(&self) -> &EngineConfig {
        &self.config
    }

    pub fn subscribe(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// What the bounded ring still has.
    pub fn events_since(&self, since: Timestamp) -> Vec<Event> {
        self.events.since(since)
    }

    pub fn emit(&self, event: Event) {
        self.events.emit(event);
    }

    /// Who keeps an image from being removed.
    pub fn image_users(&self, id: &Digest) -> Vec<ContainerId> {
        let table = self.table();
        table
            .containers
            .values()
            .filter(|container| container.image_id == *id)
            .map(|c| c.id.clone())
            .collect()
    }

    /// One lock at a time: whoever holds the table takes no container's cell, and whoever holds a cell takes neither
    /// the table nor another cell, so no two threads can wait for each other. Work on several containers starts from
    /// [`Engine::containers`].
    pub(crate) fn table(&self) -> MutexGuard<'_, Table> {
        crate::lock(&self.table)
    }

    /// All of them, with the table's lock given back.
    pub(crate) fn containers(&self) -> Vec<Arc<Container>> {
        self.table().containers.values().map(Arc::clone).collect()
    }

    pub(crate) fn arc(&self) -> Arc<Self> {
        self.me
            .upgrade()
            .expect("an engine lives in the Arc that `assemble` made, and &self keeps that alive")
    }

    /// Runs `work`, which may block, on a blocking thread.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Arc<Engine>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let engine = self.arc();
        match tokio::task::spawn_blocking(move || work(&engine)).await {
            Ok(result) => result,
            Err(failed) => {
                Err(Error::internal("a blocking step of the engine broke off: this is a bug")
                    .with_source(failed))
            }
        }
    }

    /// Ends when [`Engine::close`] was called.
    pub(crate) async fn closed(&self) {
        let mut closing = self.closing.subscribe();
        // The sender lives in self, so an error here cannot be.
        let _ = closing.wait_for(|closing| *closing).await;
    }

    pub(crate) fn close(&self) {
        self.closing.send_replace(true);
    }

    pub(crate) fn is_closing(&self) -> bool {
        *self.closing.borrow()
    }

    /// By full id, name (with or without a slash) or unique id prefix, in this order, as dockerd.
    pub(crate) fn find(&self, r: &str) -> Result<Arc<Container>> {
        let table = self.table();
        if let Some(container) = ContainerId::parse(r).and_then(|id| table.containers.get(&id)) {
            return Ok(Arc::clone(container));
        }
        if let Some(container) =
            table.names.get(r.trim_start_matches('/')).and_then(|id| table.containers.get(id))
        {
            return Ok(Arc::clone(container));
        }
        let none = || {
            Error::not_found(format!("No such container: {r}")).with_hint("`naru ps -a` lists all containers")
        };
        if r.is_empty() {
            return Err(none());
        }
        let mut matches = table.containers.values().filter(|container| container.id.as_str().starts_with(r));
        let first = matches.next().ok_or_else(none)?;
        if matches.next().is_some() {
            return Err(Error::invalid(format!("multiple IDs found with provided prefix: {r}")));
        }
        Ok(Arc::clone(first))
    }

    /// The container of a full id that we stored ourselves.
    pub(crate) fn by_id(&self, id: &ContainerId) -> Option<Arc<Container>> {
        self.table().containers.get(id).map(Arc::clone)
    }

    /// Adds a stored container and starts its task.
    pub(crate) fn adopt_row(&self, row: ContainerRow, lower: Vec<std::path::PathBuf>) -> Arc<Container> {
        let (mailbox, inbox) = mpsc::unbounded_channel();
        let paths = ContainerPaths::new(&self.config.root, &self.config.run, &row.id, lower);
        let container = Arc::new(Container {
            id: row.id.clone(),
            created: row.created,
            image_id: row.image_id,
            paths,
            mailbox,
            editing: Mutex::default(),
            active: watch::channel(row.state.run().is_some()).0,
            cell: Mutex::new(Cell {
                name: row.name.clone(),
                spec: row.spec,
                state: row.state,
                facts: row.facts,
                execs: BTreeSet::new(),
                held: None,
                health: None,
            }),
        });
        let mut table = self.table();
        table.names.insert(row.name, row.id.clone());
        table.containers.insert(row.id, Arc::clone(&container));
        drop(table);
        Actor::spawn(self.arc(), Arc::clone(&container), inbox);
        container
    }

    /// Takes a removed container out of every list.
    pub(crate) fn forget(&self, container: &Container) {
        let mut table = self.table();
        table.containers.remove(&container.id);
        table.names.retain(|_, id| *id != container.id);
        table.execs.retain(|_, exec| exec.container_id != container.id);
    }

    /// Tells a container's task that something happened.
    pub(crate) fn report(&self, id: &ContainerId, step: Step) {
        if let Some(container) = self.by_id(id) {
            // A task that has ended has removed the container: nobody is left to be told.
            let _ = container.mailbox.send(Message::Report(step));
        }
    }
}
