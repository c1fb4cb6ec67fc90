//! Base images from packages: a repository of the test's own, served within the daemon's network namespace.

#[path = "../../../naru-bootstrap/tests/repo/mod.rs"]
mod repo;

use crate::lab::{Lab, wait_for};
use repo::{KeyKind, Repo, SUITE, flip};
use std::process::{Child, Stdio};

pub const TESTS: &[(&str, fn(&Lab))] = &[("a_base_image_is_made_of_signed_packages", base_image)];

const MIRROR: &str = "http://127.0.0.1:8971";

/// busybox's web server; ends with the test.
struct Server(Child);

impl Server {
    fn start(lab: &Lab, repo: &Repo) -> Self {
        let mut command = lab.inside("busybox");
        command.args(["httpd", "-f", "-p", "127.0.0.1:8971", "-h"]).arg(&repo.dir).stdin(Stdio::null());
        let server = Self(command.spawn().unwrap());
        wait_for("the mirror", || lab.sh(&format!("curl -sf {MIRROR}/dists/{SUITE}/InRelease")).code == 0);
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn base_image(lab: &Lab) {
    let dir = tempfile_dir();
    let mut repo = Repo::make(&dir.0, KeyKind::Ed25519);
    let busybox = std::fs::read("/usr/bin/busybox").or_else(|_| std::fs::read("/bin/busybox")).unwrap();
    repo.package("busybox-static", "", &[("usr/bin/busybox", "755", &busybox)]);
    repo.sign("");
    let keyring = dir.0.join("keyring.gpg");
    std::fs::write(&keyring, repo.keyring()).unwrap();
    let _server = Server::start(lab, &repo);
    let base = format!("busybox:{SUITE}");
    let make = |tag: &str| {
        let keyring = keyring.to_str().unwrap();
        lab.naru(
            &["image", "bootstrap", "--mirror", MIRROR, "--keyring", keyring, "-t", tag, &base],
            &lab.dir,
        )
    };
    let first = make("tiny:1").expect(0, "bootstrap").stdout;
    assert!(first.starts_with("sha256:"), "{first}");
    assert_eq!(
        make("tiny:2").expect(0, "bootstrap again").stdout,
        first,
        "the same Release gives the same image"
    );
    assert_eq!(
        lab.ok(&["run", "--rm", "tiny:1", "sh", "-c", "id -u; ls -d /tmp /etc/passwd"]),
        "0\n/etc/passwd\n/tmp"
    );
    assert_eq!(lab.ok(&["image", "inspect", "-f", "{{.Config.Cmd}}", "tiny:1"]), "[sh]");

    flip(&repo.deb("busybox-static"), None);
    let refused = make("tiny:3").expect(1, "a tampered package");
    assert!(refused.stderr.contains("busybox-static.deb was changed: expected sha256:"), "{refused:?}");
    flip(&repo.deb("busybox-static"), None);
    flip(&repo.dists().join("InRelease"), Some("Origin"));
    let refused = make("tiny:3").expect(1, "a tampered Release");
    assert!(refused.stderr.contains("its signature was refused"), "{refused:?}");
    assert!(refused.stderr.contains("hint: don't use this mirror"), "{refused:?}");
    assert_eq!(lab.ok(&["images", "-q", "tiny:3"]), "");
    let left = std::fs::read_dir(lab.dir.join("root/bootstrap-tmp")).unwrap().count();
    assert_eq!(left, 0, "nothing half-made is left");
    lab.ok(&["rmi", "tiny:1", "tiny:2"]);
}

/// A short path: gpg-agent's socket lies beneath.
struct Dir(std::path::PathBuf);

fn tempfile_dir() -> Dir {
    let path = std::path::PathBuf::from(format!("/tmp/nb-e2e-{}", std::process::id()));
    std::fs::create_dir(&path).unwrap();
    Dir(path)
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
