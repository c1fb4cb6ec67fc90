//! The whole of ops against an engine that is none, a receiver that misbehaves, and a real proxy.

mod alerts;
mod engine;
mod receiver;
mod routing;

use crate::{Ops, OpsConfig, WebhookUrl};
use engine::FakeEngine;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Longest wait for anything in these tests, in seconds.
const PATIENCE_SECS: u64 = 30;

async fn open(root: &Path, engine: &Arc<FakeEngine>, webhook: Option<SocketAddr>) -> Arc<Ops> {
    Ops::open_with(engine.clone(), config_of(root, webhook)).await.unwrap()
}

fn config_of(root: &Path, webhook: Option<SocketAddr>) -> OpsConfig {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    OpsConfig {
        root: root.into(),
        run: root.join("run"),
        exe: "/nonexistent/naru".into(),
        proxy_http: any,
        proxy_https: any,
        webhook: webhook
            .map(|at| WebhookUrl::parse(&format!("http://{at}/api/webhooks/1/secret-token")).unwrap()),
        host_name: "test-host".into(),
    }
}

/// Waits until `found` says something.
async fn until<T, F: Future<Output = Option<T>>>(mut found: impl FnMut() -> F) -> T {
    let waiting = async {
        loop {
            if let Some(it) = found().await {
                return it;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(PATIENCE_SECS), waiting).await.expect("it happens in time")
}
