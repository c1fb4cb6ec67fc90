//! The face of the crate.
#![allow(clippy::unused_async, unused_variables)]

use crate::config::OpsConfig;
use crate::views::{AlertView, DeployId, DeployView, RoutesView};
use crate::webhook::WebhookUrl;
use naru_engine::Engine;
use naru_types::{Error, Result};
use std::sync::Arc;

fn not_yet<T>() -> Result<T> {
    Err(Error::not_implemented("not yet"))
}

pub struct Ops {}

impl Ops {
    pub async fn open(engine: Arc<Engine>, config: OpsConfig) -> Result<Arc<Ops>> {
        not_yet()
    }
    pub fn routes(&self) -> RoutesView {
        RoutesView { table: naru_proxy::RouteTable::default(), proxy: crate::ProxyState::Idle, problems: Vec::new() }
    }
    pub async fn deploy_started(&self, project: &str, services: &[String]) -> Result<DeployId> {
        not_yet()
    }
    pub async fn deploy_finished(&self, id: DeployId, outcome: Result<(), String>) -> Result<()> {
        not_yet()
    }
    pub async fn deploys(&self, limit: usize) -> Result<Vec<DeployView>> {
        not_yet()
    }
    pub async fn recent_alerts(&self, limit: usize) -> Result<Vec<AlertView>> {
        not_yet()
    }
    /// `None` forgets the stored address.
    pub async fn set_webhook(&self, url: Option<WebhookUrl>) -> Result<()> {
        not_yet()
    }
    pub fn has_webhook(&self) -> bool {
        false
    }
    /// Sends one test message and answers with what the receiver said.
    pub async fn test_webhook(&self) -> Result<()> {
        not_yet()
    }
    pub async fn ca_certificate_pem(&self) -> Result<String> {
        not_yet()
    }
    pub async fn shutdown(&self) -> Result<()> {
        Ok(())
    }
}
