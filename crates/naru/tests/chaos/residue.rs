//! What containers hold in the kernel and on disk, counted before and after.

use crate::lab::{Lab, wait_for};
use std::collections::BTreeMap;
use std::path::Path;

/// A few descriptors come and go by themselves (threads of the pool, a database's journal).
const DAEMON_FDS_MORE: usize = 8;

/// Network namespaces that wait for the next start; nobody has used them (naru-net's pool).
const NETNS_POOL: usize = 4;

#[derive(Debug)]
pub struct Residue {
    counts: BTreeMap<&'static str, usize>,
    daemon_fds: usize,
}

impl Residue {
    pub fn settled(lab: &Lab) -> Self {
        wait_for("the last veth to go", || !lab.sh("ip -o link").stdout.contains("veth"));
        Self::take(lab)
    }

    pub fn take(lab: &Lab) -> Self {
        let dir = lab.dir.display();
        let keeper = lab.keeper_pid().unwrap_or_default();
        let daemon = daemon_pid(lab);
        let lines = |script: String| lab.sh(&script).stdout.lines().count();
        let parent = lab.dir.file_name().unwrap().to_string_lossy().into_owned();
        let counts = BTreeMap::from([
            ("veths", lines("ip -o link | grep veth".into())),
            ("nft lines", lines("nft list ruleset".into())),
            // The one above builds stays until the daemon ends.
            ("cgroups", lines(format!("find /sys/fs/cgroup -type d -path '*/{parent}/*' -not -name build"))),
            ("processes", lines(format!("grep -ls '/{parent}/' /proc/[0-9]*/cgroup"))),
            ("files", lines(format!("find {dir}/run/bundles {dir}/root/containers {dir}/root/volumes"))),
            (
                "builds",
                lines(format!("find {dir}/root/build-tmp {dir}/root/build-contexts {dir}/root/staging")),
            ),
            // Other mounts come and go with whatever else runs on the machine.
            ("keeper mounts", lines(format!("grep {dir} /proc/{keeper}/mountinfo"))),
            ("keeper descriptors", lines(format!("ls /proc/{keeper}/fd"))),
            ("daemon mounts", lines(format!("grep {dir} /proc/{daemon}/mountinfo"))),
            ("daemon's network namespaces", lines(format!("ls -l /proc/{daemon}/fd | grep net:"))),
        ]);
        Self { counts, daemon_fds: lines(format!("ls /proc/{daemon}/fd")) }
    }

    /// What there is more of than in `calm`.
    pub fn over(&self, calm: &Self) -> Vec<String> {
        let mut more: Vec<String> = self
            .counts
            .iter()
            .filter(|(what, count)| **count > calm.counts[*what] + allowed(what))
            .map(|(what, count)| format!("{what}: {count}, were {}", calm.counts[what]))
            .collect();
        if self.daemon_fds > calm.daemon_fds + DAEMON_FDS_MORE {
            more.push(format!("descriptors of the daemon: {}, were {}", self.daemon_fds, calm.daemon_fds));
        }
        if !more.is_empty() {
            eprintln!("  still there: {more:?}");
        }
        more
    }
}

fn allowed(what: &str) -> usize {
    if what == "daemon's network namespaces" { NETNS_POOL } else { 0 }
}

fn daemon_pid(lab: &Lab) -> String {
    let run = lab.dir.join("run").display().to_string();
    lab.sh(&format!("pgrep -o -f -x '.*naru daemon .*--run {run} .*'")).stdout.trim().to_owned()
}

/// What is said to run runs, what is said to have ended has no process.
pub fn listed_right(lab: &Lab) {
    let ids = lab.ok(&["ps", "-aq", "--no-trunc"]);
    for id in ids.split_whitespace() {
        wait_for("the list and the kernel to agree", || {
            let out = lab.docker(&["inspect", "-f", "{{.State.Status}} {{.State.Pid}}", id]);
            let Some((status, pid)) = out.stdout.trim().split_once(' ') else {
                // One with `--rm` may have gone since the list was made.
                return !lab.ok(&["ps", "-aq", "--no-trunc"]).contains(id);
            };
            let its = |pid: &str| {
                std::fs::read_to_string(Path::new("/proc").join(pid).join("cgroup"))
                    .is_ok_and(|text| text.contains(id))
            };
            let alive = !lab.sh(&format!("grep -ls {id} /proc/[0-9]*/cgroup")).stdout.is_empty();
            let right = match status {
                "running" => pid != "0" && its(pid),
                "exited" | "created" | "restarting" => !alive,
                _ => false,
            };
            if !right {
                eprintln!(
                    "  {id} is {status}, pid {pid}; a process of it {}",
                    if alive { "lives" } else { "is not there" }
                );
            }
            right
        });
    }
}

pub fn no_panics(lab: &Lab) {
    for file in ["daemon.log", "run/keeper.log"] {
        let log = std::fs::read_to_string(lab.dir.join(file)).unwrap_or_default();
        assert!(!log.contains("panicked"), "{file}: {log}");
    }
}
