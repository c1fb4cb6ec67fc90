//! The engine's methods, until each has its own file.
#![allow(clippy::unused_async, unused_variables)]
use crate::*;
use naru_types::*;
use naru_types::signal::Signal;
use naru_types::spec::{ContainerSpec, EndpointSpec};
use std::io::Read;
use tokio::net::UnixStream;
use tokio::sync::mpsc::Receiver;
use bytes::Bytes;

fn not_yet<T>() -> Result<T> { Err(Error::not_implemented("not yet")) }

pub struct Engine { pub(crate) config: EngineConfig }
pub struct WaitHandle {}
impl WaitHandle { pub async fn done(self) -> WaitResult { std::future::pending().await } }

impl Engine {
    pub async fn open(config: EngineConfig) -> Result<Arc<Engine>> { not_yet() }
    pub async fn shutdown(&self) -> Result<()> { not_yet() }
    pub fn images(&self) -> &Arc<naru_image::Store> { unreachable!() }
    pub fn config(&self) -> &EngineConfig { &self.config }
    pub async fn create(&self, name: Option<&str>, spec: ContainerSpec) -> Result<Created> { not_yet() }
    pub async fn start(&self, r: &str) -> Result<()> { not_yet() }
    pub async fn stop(&self, r: &str, signal: Option<Signal>, timeout_secs: Option<i64>) -> Result<()> { not_yet() }
    pub async fn restart(&self, r: &str, signal: Option<Signal>, timeout_secs: Option<i64>) -> Result<()> { not_yet() }
    pub async fn kill(&self, r: &str, signal: Signal) -> Result<()> { not_yet() }
    pub async fn pause(&self, r: &str) -> Result<()> { not_yet() }
    pub async fn unpause(&self, r: &str) -> Result<()> { not_yet() }
    pub async fn rename(&self, r: &str, new_name: &str) -> Result<()> { not_yet() }
    pub async fn update(&self, r: &str, change: UpdateOptions) -> Result<Vec<String>> { not_yet() }
    pub async fn remove(&self, r: &str, options: RemoveOptions) -> Result<()> { not_yet() }
    pub async fn wait(&self, r: &str, condition: WaitCondition) -> Result<WaitHandle> { not_yet() }
    pub fn inspect(&self, r: &str) -> Result<ContainerView> { not_yet() }
    pub fn list(&self) -> Vec<ContainerView> { Vec::new() }
    pub async fn container_size(&self, r: &str) -> Result<ContainerSize> { not_yet() }
    pub async fn attach(&self, r: &str, options: AttachOptions) -> Result<UnixStream> { not_yet() }
    pub async fn resize(&self, r: &str, rows: u16, cols: u16) -> Result<()> { not_yet() }
    pub async fn logs(&self, r: &str, options: LogOptions) -> Result<Receiver<LogRecord>> { not_yet() }
    pub async fn exec_create(&self, r: &str, spec: ExecSpec) -> Result<ExecId> { not_yet() }
    pub async fn exec_start(&self, id: &str, options: ExecStart) -> Result<Option<UnixStream>> { not_yet() }
    pub async fn exec_resize(&self, id: &str, rows: u16, cols: u16) -> Result<()> { not_yet() }
    pub fn exec_inspect(&self, id: &str) -> Result<ExecView> { not_yet() }
    pub async fn stats(&self, r: &str) -> Result<StatsSample> { not_yet() }
    pub async fn top(&self, r: &str) -> Result<Vec<ProcessRow>> { not_yet() }
    pub async fn archive_stat(&self, r: &str, path: &str) -> Result<PathStat> { not_yet() }
    pub async fn archive_get(&self, r: &str, path: &str) -> Result<(PathStat, Receiver<std::io::Result<Bytes>>)> { not_yet() }
    pub async fn archive_put(&self, r: &str, path: &str, options: ArchivePut, tar: Box<dyn Read + Send>) -> Result<()> { not_yet() }
    pub async fn changes(&self, r: &str) -> Result<Vec<Change>> { not_yet() }
    pub async fn export(&self, r: &str) -> Result<Receiver<std::io::Result<Bytes>>> { not_yet() }
    pub async fn commit(&self, r: &str, options: CommitOptions) -> Result<Digest> { not_yet() }
    pub fn image_users(&self, id: &Digest) -> Vec<ContainerId> { Vec::new() }
    pub async fn network_create(&self, options: NetworkCreate) -> Result<NetworkId> { not_yet() }
    pub fn networks(&self) -> Vec<NetworkView> { Vec::new() }
    pub fn network(&self, name_or_id: &str) -> Result<NetworkView> { not_yet() }
    pub async fn network_remove(&self, r: &str) -> Result<()> { not_yet() }
    pub async fn network_connect(&self, net: &str, container: &str, endpoint: EndpointSpec) -> Result<()> { not_yet() }
    pub async fn network_disconnect(&self, net: &str, container: &str, force: bool) -> Result<()> { not_yet() }
    pub async fn volume_create(&self, options: VolumeCreate) -> Result<VolumeView> { not_yet() }
    pub fn volumes(&self) -> Vec<VolumeView> { Vec::new() }
    pub fn volume(&self, name: &str) -> Result<VolumeView> { not_yet() }
    pub async fn volume_remove(&self, name: &str, force: bool) -> Result<()> { not_yet() }
    pub fn subscribe(&self) -> tokio::sync::broadcast::Receiver<event::Event> { tokio::sync::broadcast::channel(1).1 }
    pub fn events_since(&self, since: Timestamp) -> Vec<event::Event> { Vec::new() }
    pub fn emit(&self, event: event::Event) {}
}
