//! What the host has of the things that an engine could leave behind.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

pub struct Snapshot(BTreeSet<String>);

impl Snapshot {
    pub fn take() -> Self {
        let mut set = BTreeSet::new();
        for line in std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default().lines() {
            set.insert(format!("mount {}", line.split(' ').skip(4).collect::<Vec<_>>().join(" ")));
        }
        cgroups(Path::new("/sys/fs/cgroup"), 0, &mut set);
        for line in text("ip", &["-o", "link"]).lines() {
            set.extend(line.split(": ").nth(1).map(|name| format!("network device {name}")));
        }
        for line in text("nft", &["list", "tables"]).lines() {
            set.insert(format!("nft {line}"));
        }
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            if line.contains("/naru ") && line.contains("demo") {
                set.insert(format!("process {line}"));
            }
        }
        Self(set)
    }

    pub fn added_since(&self, before: &Snapshot) -> Vec<String> {
        self.0.difference(&before.0).cloned().collect()
    }
}

fn cgroups(dir: &Path, depth: usize, set: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if depth < 4 && entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            if entry.path().display().to_string().contains("naru") {
                set.insert(format!("cgroup {}", entry.path().display()));
            }
            cgroups(&entry.path(), depth + 1, set);
        }
    }
}

fn text(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}
