//! What the operations layer of one instance is given.

use crate::webhook::WebhookUrl;
use std::net::SocketAddr;
use std::path::PathBuf;

#[derive(Clone, Debug)]
pub struct OpsConfig {
    /// State that survives a reboot; ops uses `<root>/ops.db` and the proxy `<root>/proxy`.
    pub root: PathBuf,
    /// State that does not: the proxy's socket.
    pub run: PathBuf,
    /// The binary that runs the proxy: `exe proxy --run <run> --root <root> --http … --https …`.
    pub exe: PathBuf,
    pub proxy_http: SocketAddr,
    pub proxy_https: SocketAddr,
    /// From the environment or the configuration file. It goes before the stored one and is not stored itself.
    pub webhook: Option<WebhookUrl>,
    /// Shown in every alert, so that two servers in one channel can be told apart.
    pub host_name: String,
}
