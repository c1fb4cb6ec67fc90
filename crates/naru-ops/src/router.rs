//! The task that keeps the proxy's table in step with the containers, and the proxy's process alive while
//! there is something to route.
//!
//! The table is computed from the whole list each time, so that a missed event costs a delay and nothing else.

use crate::config::OpsConfig;
use crate::message;
use crate::port::EnginePort;
use crate::routes;
use crate::sender::{Desk, now};
use crate::views::{ProxyState, RoutesView};
use crate::watch::{ended, keep};
use naru_proxy::client::ProxyClient;
use naru_proxy::control::Status;
use naru_proxy::{ProxyConfig, RouteTable};
use naru_types::event::{Event, EventType};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;

/// Events come in bursts; the table is computed once after so many milliseconds.
const GATHER_MS: u64 = 20;
/// How often the proxy is looked after when nothing happens, in seconds.
const LOOK_SECS: u64 = 5;

pub(crate) struct Router {
    engine: Arc<dyn EnginePort>,
    desk: Arc<Desk>,
    config: OpsConfig,
    view: Mutex<RoutesView>,
}

impl Router {
    pub fn new(engine: Arc<dyn EnginePort>, desk: Arc<Desk>, config: OpsConfig) -> Self {
        let view = RoutesView { table: RouteTable::default(), proxy: ProxyState::Idle, problems: Vec::new() };
        Self { engine, desk, config, view: Mutex::new(view) }
    }

    pub fn view(&self) -> RoutesView {
        // Replaced whole; a panic cannot leave half of one.
        self.view.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends with the engine's event stream, or when `ending` turns true.
    pub async fn run(self: Arc<Self>, mut events: Receiver<Event>, mut ending: watch::Receiver<bool>) {
        self.clone().push().await;
        let mut look = tokio::time::interval(Duration::from_secs(LOOK_SECS));
        loop {
            tokio::select! {
                event = events.recv() => match event {
                    Ok(event) if !matters(&event) => continue,
                    Ok(_) | Err(RecvError::Lagged(_)) => {
                        tokio::time::sleep(Duration::from_millis(GATHER_MS)).await;
                        // What came meanwhile is in the list that is read now.
                        events = events.resubscribe();
                    }
                    Err(RecvError::Closed) => return,
                },
                _ = look.tick() => {}
                () = ended(&mut ending) => return,
            }
            self.clone().push().await;
        }
    }

    /// Computes the table and brings it to the proxy.
    pub async fn push(self: Arc<Self>) {
        let work = self.clone();
        // Starting a process and talking to it block.
        let pushed = tokio::task::spawn_blocking(move || work.push_blocking()).await;
        if let Ok(Some(failure)) = pushed {
            let hint = failure.hint().unwrap_or_default().to_owned();
            keep(&self.desk, message::of_proxy_failure(&failure.chain(), &hint, now())).await;
        }
    }

    /// A failure that was not there before.
    fn push_blocking(&self) -> Option<naru_types::Error> {
        let (table, problems) = routes::compute(&self.engine.list());
        let before = self.view();
        let (proxy, failure) = match self.bring(&table, &before) {
            Ok(state) => (state, None),
            Err(error) => {
                let state =
                    ProxyState::Failed { error: error.chain(), hint: error.hint().map(str::to_owned) };
                let is_new = !matches!(before.proxy, ProxyState::Failed { .. });
                (state, is_new.then_some(error))
            }
        };
        *self.view.lock().unwrap_or_else(PoisonError::into_inner) = RoutesView { table, proxy, problems };
        failure
    }

    fn bring(&self, table: &RouteTable, before: &RoutesView) -> naru_types::Result<ProxyState> {
        let client = ProxyClient::new(&self.config.run);
        let status = client.status().ok();
        if let (Some(status), ProxyState::Serving { generation }) = (&status, &before.proxy)
            && status.generation == *generation
            && before.table == *table
        {
            return Ok(before.proxy.clone());
        }
        if table.routes.is_empty() && status.is_none() {
            return Ok(ProxyState::Idle);
        }
        if status.is_some_and(|status| !self.listens_as_told(&status)) {
            client.shutdown()?;
            let error = "it ends, to start again on its new addresses".to_owned();
            return Ok(ProxyState::Failed { error, hint: None });
        }
        let client = naru_proxy::launch::launch(&self.config.exe, &self.proxy_config())?;
        Ok(ProxyState::Serving { generation: client.set_routes(table)? })
    }

    /// Asks the proxy to end when nothing is routed any more; with routes it goes on without us.
    pub fn release_proxy(&self) {
        if routes::compute(&self.engine.list()).0.routes.is_empty() {
            // No answer means that there is none.
            let _ = ProxyClient::new(&self.config.run).shutdown();
        }
    }

    /// A proxy that outlived a daemon may have been started with other addresses. Port 0 is satisfied by any.
    fn listens_as_told(&self, status: &Status) -> bool {
        let same = |told: SocketAddr, at: &str| told.port() == 0 || told.to_string() == at;
        same(self.config.proxy_http, &status.http) && same(self.config.proxy_https, &status.https)
    }

    fn proxy_config(&self) -> ProxyConfig {
        let (root, run) = (self.config.root.clone(), self.config.run.clone());
        ProxyConfig { root, run, http: self.config.proxy_http, https: self.config.proxy_https }
    }
}

fn matters(event: &Event) -> bool {
    match event.kind {
        EventType::Container => {
            let action = event.action.as_str();
            !(action.starts_with("exec_") || matches!(action, "attach" | "top" | "resize" | "create"))
        }
        EventType::Network => matches!(event.action.as_str(), "connect" | "disconnect"),
        EventType::Builder | EventType::Daemon | EventType::Image | EventType::Volume | EventType::Deploy => {
            false
        }
    }
}
