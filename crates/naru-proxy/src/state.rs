//! What all connections share: the present table, the pool, the certificates, the counters.

use crate::access_log::AccessLog;
use crate::ca::Authority;
use crate::config::ProxyConfig;
use crate::control::Status;
use crate::durable;
use crate::error::ProxyError;
use crate::leaf::Leaves;
use crate::pool::Pool;
use crate::table::{Compiled, RouteTable};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use tokio::sync::watch;

pub(crate) struct State {
    table: RwLock<Arc<Compiled>>,
    /// Held while a table is written to disk and put in place, so that two changes keep their order.
    change: Mutex<()>,
    table_path: PathBuf,
    pub http: SocketAddr,
    pub https: SocketAddr,
    pub pool: Arc<Pool>,
    pub leaves: Leaves,
    pub log: AccessLog,
    pub connections: AtomicUsize,
    pub requests: AtomicU64,
    ending: watch::Sender<bool>,
}

impl State {
    /// Reads the last table, so that a restarted proxy serves at once. A table that cannot be read is an
    /// error: serving nothing in its place would look like an outage without a cause.
    pub fn open(config: &ProxyConfig, http: SocketAddr, https: SocketAddr) -> Result<Arc<Self>, ProxyError> {
        let dir = config.dir();
        durable::create_private_dir(&dir)?;
        let table_path = dir.join("routes.json");
        let table = Compiled::new(read_table(&table_path)?, 1)?;
        Ok(Arc::new(Self {
            table: RwLock::new(Arc::new(table)),
            change: Mutex::new(()),
            table_path,
            http,
            https,
            pool: Arc::default(),
            leaves: Leaves::new(Authority::open(&dir)?, &dir)?,
            log: AccessLog::open(&dir.join("access.log"))?,
            connections: AtomicUsize::new(0),
            requests: AtomicU64::new(0),
            ending: watch::Sender::new(false),
        }))
    }

    pub fn table(&self) -> Arc<Compiled> {
        // The lock guards one pointer; a panic cannot leave it half written.
        self.table.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Durable first, then visible. Requests that were begun keep the route they have.
    pub async fn set_routes(self: Arc<Self>, source: RouteTable) -> Result<u64, ProxyError> {
        let work = move || self.replace(source);
        tokio::task::spawn_blocking(work)
            .await
            .map_err(|source| ProxyError::Runtime { source: std::io::Error::other(source) })?
    }

    fn replace(&self, source: RouteTable) -> Result<u64, ProxyError> {
        let _order = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.table();
        let after = Compiled::new(source, before.generation + 1)?;
        if after.source != before.source {
            let text = serde_json::to_vec(&after.source).map_err(std::io::Error::other);
            let text = text.map_err(ProxyError::disk("encode", &self.table_path))?;
            durable::write_private(&self.table_path, &text)?;
        }
        let after = Arc::new(after);
        *self.table.write().unwrap_or_else(PoisonError::into_inner) = after.clone();
        self.pool.keep_only(&after.backends().collect());
        Ok(after.generation)
    }

    pub fn status(&self) -> Status {
        let table = self.table();
        Status {
            pid: std::process::id(),
            generation: table.generation,
            routes: table.source.routes.len(),
            http: self.http.to_string(),
            https: self.https.to_string(),
            connections: self.connections.load(Ordering::Relaxed),
            requests: self.requests.load(Ordering::Relaxed),
            log_lines_dropped: self.log.dropped(),
        }
    }

    pub fn end(&self) {
        self.ending.send_replace(true);
    }

    /// Turns true once, when the proxy begins to end.
    pub fn ending(&self) -> watch::Receiver<bool> {
        self.ending.subscribe()
    }
}

fn read_table(path: &std::path::Path) -> Result<RouteTable, ProxyError> {
    match std::fs::read(path) {
        Ok(text) => {
            serde_json::from_slice(&text).map_err(|error| ProxyError::disk("understand", path)(error.into()))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(RouteTable::default()),
        Err(error) => Err(ProxyError::disk("read", path)(error)),
    }
}
