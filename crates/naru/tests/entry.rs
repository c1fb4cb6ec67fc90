//! The binary as it is linked: commands of `naru oci` that make a process in a container run from a read-only mount
//! (CVE-2019-5736), whichever way they come there, and everything else starts as ever.
#![allow(clippy::unwrap_used, reason = "tests")]

use rustix::fs::{CWD, FileType, Mode, StatVfsMountFlags};
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const NARU: &str = env!("CARGO_BIN_EXE_naru");

struct Scratch(PathBuf);

impl Scratch {
    /// A bundle whose configuration is a pipe: who reads it waits there, and can be looked at.
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("naru-entry-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        rustix::fs::mknodat(CWD, dir.join("config.json"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
            .unwrap();
        Self(dir)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn is_read_only_at_work(program: &Path, before: &[&str], verb: &str) -> bool {
    let scratch = Scratch::new(verb);
    let mut command = Command::new(program);
    command.args(before).arg("--root").arg(scratch.0.join("state"));
    command.args([verb, "--bundle"]).arg(&scratch.0).arg("x");
    let mut child = command.stdin(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    // Returns when the other side has it open.
    let pipe = OpenOptions::new().write(true).open(scratch.0.join("config.json")).unwrap();
    let seen = rustix::fs::statvfs(format!("/proc/{}/exe", child.id())).unwrap();
    // An empty configuration is refused.
    drop(pipe);
    assert!(!child.wait().unwrap().success());
    seen.f_flag.contains(StatVfsMountFlags::RDONLY)
}

#[test]
fn containers_are_made_by_a_read_only_binary() {
    if !rustix::process::geteuid().is_root() {
        println!("SKIP: needs root");
        return;
    }
    assert!(is_read_only_at_work(Path::new(NARU), &["oci"], "run"));
    let links = Scratch::new("links");
    let link = links.0.join("naru-oci");
    std::os::unix::fs::symlink(NARU, &link).unwrap();
    assert!(is_read_only_at_work(&link, &[], "create"));
}

#[test]
fn everything_else_starts_as_ever() {
    for words in
        [&["oci", "--version"][..], &["oci", "--version", "run"], &["version", "--help"], &["--help"]]
    {
        let output = Command::new(NARU).args(words).output().unwrap();
        assert!(output.status.success() && !output.stdout.is_empty(), "{words:?}: {output:?}");
    }
    // Another name, no argument, words that only begin like the ones that are looked for.
    let words = ["oci", "runs", "execute", "created", "o"];
    let output = Command::new(NARU).args(words).output().unwrap();
    assert!(!output.status.success() && !output.stderr.is_empty(), "{output:?}");
}
