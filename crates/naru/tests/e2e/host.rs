//! What a host has: the things that a container engine could leave behind.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

/// Mounts, cgroups, network devices and named namespaces of the host at one moment.
#[derive(Debug, Default)]
pub struct Snapshot(BTreeSet<String>);

impl Snapshot {
    pub fn take() -> Self {
        let mut set = BTreeSet::new();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        // Fields 5 and on: mount point and what is mounted; ids change by themselves.
        set.extend(
            mounts
                .lines()
                .map(|line| format!("mount {}", line.split(' ').skip(4).collect::<Vec<_>>().join(" "))),
        );
        cgroups(Path::new("/sys/fs/cgroup"), 0, &mut set);
        for line in text("ip", &["-o", "link"]).lines() {
            set.extend(line.split(": ").nth(1).map(|name| format!("link {name}")));
        }
        for line in text("nft", &["list", "tables"]).lines() {
            set.insert(format!("nft {line}"));
        }
        Self(set)
    }

    /// What is there now and wasn't in `before`.
    pub fn added_since(&self, before: &Snapshot) -> Vec<String> {
        self.0.difference(&before.0).cloned().collect()
    }
}

/// Only this program's own cgroups count (the lab's name ends with its pid): others make theirs meanwhile.
fn cgroups(dir: &Path, depth: usize, set: &mut BTreeSet<String>) {
    let own = format!("-{}", std::process::id());
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if depth < 4 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            let is_own = |part: &OsStr| {
                part.to_str().is_some_and(|part| part.starts_with("naru-") && part.ends_with(&own))
            };
            if entry.path().iter().any(is_own) {
                set.insert(format!("cgroup {}", entry.path().display()));
            }
            cgroups(&dir.join(name), depth + 1, set);
        }
    }
}

pub fn text(program: &str, args: &[&str]) -> String {
    Command::new(program)
        .args(args)
        .output()
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
        .unwrap_or_default()
}
