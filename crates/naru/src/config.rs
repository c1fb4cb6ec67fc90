//! The daemon's settings: flags first, then the configuration file, then defaults.
//!
//! The file is JSON with dockerd's own keys (`registry-mirrors`, `insecure-registries`, `runtimes`) beside naru's, so that an existing
//! `daemon.json` can be taken over. An unknown key is an error that names it: a setting that is silently ignored is worse
//! than a daemon that doesn't start.

use clap::Parser;
use naru_engine::EngineConfig;
use naru_image::GcPolicy;
use naru_kernel::instance;
use naru_ops::{OpsConfig, WebhookUrl};
use naru_proxy::ProxyConfig;
use naru_runtime::external::Runtime;
use naru_types::{Error, Result};
use naru_wire::naru::ImageGcPolicy;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

const CONFIG_LEN_MAX: u64 = 1 << 20;

#[derive(Debug, Parser)]
#[command(name = "naru daemon", about = "The engine: containers, images, networks, the API, alerts, routes")]
pub struct DaemonFlags {
    /// Configuration file (default: /etc/naru/daemon.json, or ~/.config/naru/daemon.json for an ordinary user)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// State that survives a reboot (default: /var/lib/naru, or ~/.local/share/naru for an ordinary user)
    #[arg(long)]
    root: Option<PathBuf>,
    /// State that doesn't: sockets and bundles (default: /run/naru, or $XDG_RUNTIME_DIR/naru for an ordinary user)
    #[arg(long)]
    run: Option<PathBuf>,
    /// The API's socket (default: RUN/naru.sock)
    #[arg(long)]
    socket: Option<PathBuf>,
    /// Name of the cgroup that holds the containers' cgroups
    #[arg(long, default_value = "naru")]
    cgroup_parent: String,
    /// Device of the network named `bridge`
    #[arg(long, default_value = "naru0")]
    bridge: String,
    /// Subnet of the network named `bridge`
    #[arg(long)]
    bip: Option<String>,
    /// Name of the nftables table that holds every rule of this daemon
    #[arg(long, default_value = "naru")]
    nft_table: String,
    /// Where the proxy listens for HTTP
    #[arg(long, default_value_t = ProxyConfig::HTTP_DEFAULT)]
    proxy_http: SocketAddr,
    /// Where the proxy listens for HTTPS
    #[arg(long, default_value_t = ProxyConfig::HTTPS_DEFAULT)]
    proxy_https: SocketAddr,
    /// Started by the CLI: leave the caller's session and close its standard error once the socket answers
    #[arg(long)]
    pub detached: bool,
}

/// dockerd's keys and naru's own.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct ConfigFile {
    registry_mirrors: Vec<String>,
    insecure_registries: Vec<String>,
    /// Where `<host>/hosts.toml` and certificates of registries are looked for, in this order.
    certs_dirs: Option<Vec<PathBuf>>,
    /// Subnet of the network named `bridge`.
    bip: Option<String>,
    /// Where alerts go. Goes before the one that was stored with `naru alerts webhook`.
    discord_webhook: Option<String>,
    /// `auto`: each container gets a user namespace and ids of its own. Empty: none, as Docker's default.
    userns_remap: String,
    /// OCI runtimes beside naru's own.
    runtimes: BTreeMap<String, RuntimeEntry>,
    default_runtime: String,
    /// When images that nobody uses are deleted. Empty: never by themselves.
    image_gc: ImageGcPolicy,
    /// Distribution → address of the mirror that `naru image bootstrap` takes in place of the host's apt sources.
    bootstrap_mirrors: BTreeMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
struct RuntimeEntry {
    path: PathBuf,
    runtime_args: Vec<String>,
}

pub struct DaemonConfig {
    pub image_gc: GcPolicy,
    pub engine: EngineConfig,
    pub ops: OpsConfig,
    pub bootstrap_mirrors: BTreeMap<String, String>,
    pub socket: PathBuf,
    pub detached: bool,
}

impl DaemonConfig {
    pub fn from_flags(flags: DaemonFlags) -> Result<Self> {
        let root = absolute(flags.root.unwrap_or_else(instance::root_dir))?;
        let run = absolute(flags.run.unwrap_or_else(instance::run_dir))?;
        let socket = flags.socket.map(absolute).transpose()?;
        let file = read_file(flags.config.as_deref())?;
        let exe = std::env::current_exe()
            .map_err(|error| Error::internal("cannot find naru's own binary").with_source(error))?;
        let webhook = match file.discord_webhook {
            Some(text) => Some(WebhookUrl::parse(&text)?),
            None => None,
        };
        let subnet = flags.bip.or(file.bip).unwrap_or_else(|| "172.17.0.0/16".into());
        Ok(Self {
            bootstrap_mirrors: file.bootstrap_mirrors,
            socket: socket.unwrap_or_else(|| run.join("naru.sock")),
            detached: flags.detached,
            image_gc: naru_api::image_gc_policy(&file.image_gc)?,
            ops: OpsConfig {
                root: root.clone(),
                run: run.clone(),
                exe: exe.clone(),
                proxy_http: flags.proxy_http,
                proxy_https: flags.proxy_https,
                webhook,
                host_name: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            },
            engine: EngineConfig {
                root,
                run,
                cgroup_parent: flags.cgroup_parent,
                exe,
                userns_remap: userns_remap(&file.userns_remap)?,
                default_runtime: default_runtime(file.default_runtime, &file.runtimes)?,
                runtimes: runtimes(file.runtimes)?,
                registry_mirrors: file.registry_mirrors,
                insecure_registries: file.insecure_registries,
                certs_dirs: certs_dirs(file.certs_dirs)?,
                bridge: flags.bridge,
                default_subnet: subnet,
                nft_table: flags.nft_table,
            },
        })
    }
}

/// naru's own directory beside `daemon.json`, then containerd's and Docker's.
fn certs_dirs(configured: Option<Vec<PathBuf>>) -> Result<Vec<PathBuf>> {
    let Some(dirs) = configured else {
        let own = instance::config_file().with_file_name("certs.d");
        return Ok(vec![own, "/etc/containerd/certs.d".into(), "/etc/docker/certs.d".into()]);
    };
    match dirs.iter().find(|dir| dir.is_relative()) {
        Some(relative) => {
            Err(Error::invalid(format!("certs-dirs: {} is not an absolute path", relative.display())))
        }
        None => Ok(dirs),
    }
}

/// dockerd's key; its `default` makes a user whose range all containers share, naru's gives each its own.
fn userns_remap(value: &str) -> Result<bool> {
    match value {
        "" => Ok(false),
        "auto" | "default" => Ok(true),
        other => Err(Error::invalid(format!("userns-remap: {other:?} is not supported"))
            .with_hint("write \"auto\": each container gets a range of ids of its own, no user is needed")),
    }
}

/// `naru` stays naru's own, so that there is always a name for it.
fn runtimes(entries: BTreeMap<String, RuntimeEntry>) -> Result<BTreeMap<String, Runtime>> {
    let checked = entries.into_iter().map(|(name, entry)| {
        let RuntimeEntry { path, runtime_args: args } = entry;
        if name.is_empty() || name == "naru" {
            return Err(Error::invalid(format!("runtimes: the name {name:?} is reserved"))
                .with_hint("give the runtime another name"));
        }
        if path.as_os_str().is_empty() {
            return Err(Error::invalid(format!("runtimes: {name} has no path"))
                .with_hint(format!("write \"{name}\": {{\"path\": \"/usr/bin/{name}\"}}")));
        }
        if path.is_relative() && path.components().count() > 1 {
            return Err(Error::invalid(format!("runtimes: the path of {name} is relative"))
                .with_hint("write the whole path, or only the program's name"));
        }
        Ok((name, Runtime { path, args }))
    });
    checked.collect()
}

fn default_runtime(name: String, entries: &BTreeMap<String, RuntimeEntry>) -> Result<String> {
    if entries.contains_key(&name) {
        return Ok(name);
    }
    match name.as_str() {
        "" | "naru" | "runc" | "io.containerd.runc.v2" => Ok(String::new()),
        _ => {
            Err(Error::invalid(format!("default-runtime: specified default runtime '{name}' does not exist"))
                .with_hint("name it in \"runtimes\""))
        }
    }
}

/// The keeper works in another directory, and bind sources and mount points are told to clients.
fn absolute(path: PathBuf) -> Result<PathBuf> {
    std::path::absolute(&path)
        .map_err(|error| Error::invalid(format!("cannot use the path {}: {error}", path.display())))
}

fn read_file(named: Option<&Path>) -> Result<ConfigFile> {
    let default = instance::config_file();
    // The default is read when it exists; a file that was named must exist.
    let path = named.unwrap_or(&default);
    let broken = |what: String| Error::invalid(format!("configuration {}: {what}", path.display()));
    let size = match std::fs::metadata(path) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && named.is_none() => {
            return Ok(ConfigFile::default());
        }
        Err(error) => return Err(broken(error.to_string())),
    };
    if size > CONFIG_LEN_MAX {
        return Err(broken(format!("larger than {CONFIG_LEN_MAX} bytes")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| broken(error.to_string()))?;
    serde_json::from_str(&text).map_err(|error| broken(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runtimes_as_in_dockerd() {
        let read = |text: &str| {
            let file: ConfigFile = serde_json::from_str(text).unwrap();
            default_runtime(file.default_runtime, &file.runtimes)
                .and_then(|name| Ok((name, runtimes(file.runtimes)?)))
                .map_err(|error| error.to_string())
        };
        let (default, map) = read(
            r#"{"runtimes": {"x": {"path": "/bin/x", "runtimeArgs": ["--a"]}, "runc": {"path": "runc"}},
                "default-runtime": "x"}"#,
        )
        .unwrap();
        assert_eq!(default, "x");
        assert_eq!(map["x"], Runtime { path: "/bin/x".into(), args: vec!["--a".into()] });
        assert_eq!(read(r#"{"default-runtime": "runc"}"#).unwrap().0, "");
        let complaint = |text: &str| read(text).unwrap_err();
        assert!(complaint(r#"{"default-runtime": "y"}"#).contains("'y' does not exist"));
        assert!(complaint(r#"{"runtimes": {"naru": {"path": "/x"}}}"#).contains("reserved"));
        assert!(complaint(r#"{"runtimes": {"x": {}}}"#).contains("no path"));
        assert!(complaint(r#"{"runtimes": {"x": {"path": "a/b"}}}"#).contains("relative"));
    }

    #[test]
    fn a_wrong_key_is_named() {
        let error = serde_json::from_str::<ConfigFile>(r#"{"registry-mirror": []}"#).unwrap_err().to_string();
        assert!(error.contains("registry-mirror") && error.contains("registry-mirrors"), "{error}");
    }
}
