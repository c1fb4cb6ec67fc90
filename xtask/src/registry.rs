//! A real registry (Debian's docker-registry) on a loopback port, with its data in a directory of ours.

use crate::process::{Guarded, Result};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const START_SECS_MAX: u64 = 20;

pub struct Registry {
    pub address: String,
    _process: Guarded,
}

impl Registry {
    /// Starts a registry that keeps its blobs in `data`.
    pub fn start(data: &Path) -> Result<Self> {
        std::fs::create_dir_all(data)?;
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let address = format!("127.0.0.1:{port}");
        let config = data.join("config.yml");
        let text = format!(
            "version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: true\nstorage:\n  filesystem:\n    \
             rootdirectory: {}\n  delete:\n    enabled: true\nhttp:\n  addr: {address}\n",
            data.join("data").display()
        );
        std::fs::write(&config, text)?;
        let child = Command::new("docker-registry")
            .args(["serve".as_ref(), config.as_os_str()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| format!("cannot start docker-registry: {error}"))?;
        let registry = Self { address, _process: Guarded(child) };
        let deadline = Instant::now() + Duration::from_secs(START_SECS_MAX);
        while TcpStream::connect(&registry.address).is_err() {
            if Instant::now() > deadline {
                return Err(format!("docker-registry doesn't answer on {}", registry.address).into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(registry)
    }
}
