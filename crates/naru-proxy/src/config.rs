//! Where an instance of the proxy lives and listens. Its limits stand beside the code that keeps them.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// Two instances on one host differ in every field.
#[derive(Clone, Debug)]
pub struct ProxyConfig {
    /// State that survives a reboot; the proxy uses `<root>/proxy` only.
    pub root: PathBuf,
    /// State that does not: `<run>/proxy.sock` and `<run>/proxy.lock`.
    pub run: PathBuf,
    pub http: SocketAddr,
    pub https: SocketAddr,
}

impl ProxyConfig {
    pub const HTTP_DEFAULT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 80);
    pub const HTTPS_DEFAULT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 443);

    pub fn dir(&self) -> PathBuf {
        self.root.join("proxy")
    }

    pub fn socket(&self) -> PathBuf {
        socket_path(&self.run)
    }
}

/// The control socket of the instance whose run directory is `run`.
pub fn socket_path(run: &Path) -> PathBuf {
    run.join("proxy.sock")
}
