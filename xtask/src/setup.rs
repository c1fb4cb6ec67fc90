//! System packages. Installed with apt-get when root; otherwise the command to run is the error.

use crate::process::{Result, is_root, run};
use std::path::Path;
use std::process::Command;

/// (a file that proves the package is there, the Debian package). What is tested against is the real thing.
const NEEDED: [(&str, &str); 23] = [
    ("/usr/sbin/dockerd", "docker.io"),
    ("/usr/bin/gpg", "gnupg"),
    ("/usr/bin/skopeo", "skopeo"),
    ("/usr/bin/umoci", "umoci"),
    ("/usr/bin/podman", "podman"),
    ("/usr/bin/buildah", "buildah"),
    ("/usr/bin/openssl", "openssl"),
    ("/usr/bin/pgrep", "procps"),
    ("/usr/bin/mmdebstrap", "mmdebstrap"),
    ("/usr/bin/docker-registry", "docker-registry"),
    ("/usr/bin/busybox", "busybox-static"),
    ("/usr/bin/curl", "curl"),
    ("/usr/bin/jq", "jq"),
    ("/usr/bin/cc", "gcc"),
    ("/usr/sbin/nft", "nftables"),
    ("/usr/bin/ip", "iproute2"),
    ("/usr/sbin/runc", "runc"),
    ("/usr/bin/crun", "crun"),
    ("/usr/bin/unshare", "util-linux"),
    ("/usr/sbin/mkfs.ext4", "e2fsprogs"),
    ("/usr/include/seccomp.h", "libseccomp-dev"),
    ("/usr/share/containers/seccomp.json", "golang-github-containers-common"),
    ("/usr/share/keyrings/debian-archive-keyring.gpg", "debian-archive-keyring"),
];
/// Where a stock docker client may already be; Debian's package otherwise.
const DOCKER_CLIENTS: [&str; 2] = ["/usr/local/bin/docker", "/usr/bin/docker"];

/// What only `cargo xtask guest` needs.
const GUEST_NEEDS: [(&str, &str); 5] = [
    ("/usr/bin/qemu-system-x86_64", "qemu-system-x86"),
    ("/usr/bin/mmdebstrap", "mmdebstrap"),
    ("/usr/sbin/mke2fs", "e2fsprogs"),
    ("/usr/bin/setpriv", "util-linux"),
    ("/usr/share/keyrings/debian-archive-keyring.gpg", "debian-archive-keyring"),
];

pub fn ensure() -> Result<()> {
    let mut missing = missing(&NEEDED);
    if !DOCKER_CLIENTS.iter().any(|path| exists(path)) {
        missing.push("docker.io");
    }
    install(&missing)
}

pub fn ensure_guest() -> Result<()> {
    install(&missing(&GUEST_NEEDS))
}

fn missing(needed: &[(&'static str, &'static str)]) -> Vec<&'static str> {
    needed.iter().filter(|(proof, _)| !exists(proof)).map(|(_, package)| *package).collect()
}

fn install(missing: &[&str]) -> Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    let packages = missing.join(" ");
    if !is_root() {
        return Err(format!("missing packages; run as root: apt-get install {packages}").into());
    }
    println!("installing: {packages}");
    run(apt_get().args(["update", "-qq"]))?;
    run(apt_get().args(["install", "-y", "-qq", "--no-install-recommends"]).args(missing))
}

/// busybox-static puts its binary in /bin on releases without a merged /usr.
fn exists(path: &str) -> bool {
    Path::new(path).exists() || path.strip_prefix("/usr").is_some_and(|short| Path::new(short).exists())
}

fn apt_get() -> Command {
    let mut command = Command::new("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").stdout(std::process::Stdio::null());
    command
}
