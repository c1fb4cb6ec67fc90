//! Where an instance of naru keeps its things when nobody says otherwise: the system's directories for root, the user's
//! own for everybody else (XDG Base Directory Specification).

use std::path::{Path, PathBuf};

/// State that survives a reboot: `/var/lib/naru`, or `$XDG_DATA_HOME/naru`, or `~/.local/share/naru`.
pub fn root_dir() -> PathBuf {
    if is_root() {
        return PathBuf::from("/var/lib/naru");
    }
    let home = || absolute("HOME").map(|home| home.join(".local/share"));
    absolute("XDG_DATA_HOME").or_else(home).unwrap_or_else(private_tmp).join("naru")
}

/// State that does not: `/run/naru`, or `$XDG_RUNTIME_DIR/naru`, or a directory of the user's own below `/tmp`.
pub fn run_dir() -> PathBuf {
    if is_root() {
        return PathBuf::from("/run/naru");
    }
    absolute("XDG_RUNTIME_DIR").unwrap_or_else(private_tmp).join("naru")
}

/// The configuration file: `/etc/naru/daemon.json`, or `$XDG_CONFIG_HOME/naru/daemon.json`, or below `~/.config`.
pub fn config_file() -> PathBuf {
    let home = || absolute("HOME").map(|home| home.join(".config"));
    let user = if is_root() { None } else { absolute("XDG_CONFIG_HOME").or_else(home) };
    user.map_or_else(|| PathBuf::from("/etc/naru/daemon.json"), |dir| dir.join("naru/daemon.json"))
}

/// The API's socket.
pub fn socket() -> PathBuf {
    run_dir().join("naru.sock")
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Relative values must be ignored (the specification's words on invalid paths).
fn absolute(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute())
}

/// Whoever makes it must check that it is theirs: anybody may make a directory in /tmp.
fn private_tmp() -> PathBuf {
    Path::new("/tmp").join(format!("naru-{}", rustix::process::geteuid().as_raw()))
}
