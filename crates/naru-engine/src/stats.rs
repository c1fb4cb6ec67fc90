//! What a container uses right now: its control group, its network interfaces, and its processes.

use crate::container::Container;
use crate::engine::Engine;
use crate::stats_view::{
    BlkioEntry, BlkioSample, CpuSample, MemorySample, NetworkSample, PidsSample, StatsSample,
};
use crate::view::ProcessRow;
use naru_runtime::cgroup::{self, Cgroup};
use naru_types::spec::NetworkMode;
use naru_types::{Error, Result, Timestamp};
use std::collections::{BTreeMap, HashMap};
use std::os::unix::fs::MetadataExt;

const NANOS_PER_SEC: u64 = 1_000_000_000;
/// The unit of /proc's tick counts: 100 on every architecture that naru runs on (time(7)).
const USER_HZ: u64 = 100;

impl Engine {
    /// One sample; of a stopped container an empty one, as dockerd answers.
    pub async fn stats(&self, r: &str) -> Result<StatsSample> {
        let container = self.find(r)?;
        self.blocking(move |engine| {
            let Some(pid) = container.pid() else {
                return Ok(StatsSample { at: crate::ids::now(), ..StatsSample::default() });
            };
            engine.sample(&container, pid)
        })
        .await
    }

    fn sample(&self, container: &Container, pid: i32) -> Result<StatsSample> {
        let failed = |error: cgroup::CgroupError| Error::internal(error.to_string()).with_source(error);
        let group = Cgroup::open(&self.cgroup_path(container)).map_err(failed)?;
        let used = group.stats().map_err(failed)?;
        let shared =
            matches!(container.cell().spec.network.mode, NetworkMode::Host | NetworkMode::Container(_));
        let blkio = |entries: Vec<cgroup::BlkioEntry>| {
            entries
                .into_iter()
                .map(|e| BlkioEntry {
                    major: e.major,
                    minor: e.minor,
                    op: e.op.to_lowercase(),
                    value: e.value,
                })
                .collect()
        };
        Ok(StatsSample {
            at: crate::ids::now(),
            cpu: CpuSample {
                total_ns: used.cpu.total_ns,
                user_ns: used.cpu.user_ns,
                system_ns: used.cpu.system_ns,
                percpu_ns: used.cpu.percpu_ns,
                system_total_ns: host_cpu_ns(),
                online_cpus: std::thread::available_parallelism().map_or(1, |count| count.get() as u32),
                throttling_periods: used.cpu.periods,
                throttled_periods: used.cpu.throttled_periods,
                throttled_ns: used.cpu.throttled_ns,
            },
            memory: MemorySample {
                usage: used.memory.usage,
                max_usage: used.memory.max_usage,
                limit: used.memory.limit.min(host_memory_bytes()),
                failcnt: used.memory.failcnt,
                stats: used.memory.stat,
            },
            pids: PidsSample { current: used.pids.current, limit: used.pids.limit },
            blkio: BlkioSample {
                service_bytes: blkio(used.blkio.service_bytes),
                serviced: blkio(used.blkio.serviced),
            },
            networks: if shared { BTreeMap::new() } else { interfaces(pid) },
        })
    }

    /// The processes of a running container.
    pub async fn top(&self, r: &str) -> Result<Vec<ProcessRow>> {
        let container = self.find(r)?;
        if container.pid().is_none() {
            return Err(Error::conflict(format!("container {} is not running", container.id)));
        }
        self.blocking(move |engine| {
            let failed = |error: cgroup::CgroupError| Error::internal(error.to_string()).with_source(error);
            let group = Cgroup::open(&engine.cgroup_path(&container)).map_err(failed)?;
            let users = host_users();
            let mut pids = group.pids().map_err(failed)?;
            pids.sort_unstable();
            Ok(pids.into_iter().filter_map(|pid| process_row(pid, &users)).collect())
        })
        .await
    }
}

/// Sum of the first line of /proc/stat (proc(5)), in nanoseconds.
fn host_cpu_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let ticks: u64 = text
        .lines()
        .next()
        .unwrap_or_default()
        .split_ascii_whitespace()
        .skip(1)
        .take(8)
        .filter_map(|field| field.parse::<u64>().ok())
        .sum();
    ticks.saturating_mul(NANOS_PER_SEC / USER_HZ)
}

fn host_memory_bytes() -> u64 {
    meminfo("/proc/meminfo", "MemTotal:").unwrap_or(u64::MAX)
}

/// A `Name:  123 kB` line, in bytes.
fn meminfo(path: &str, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_ascii_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
}

/// /proc/<pid>/net/dev, the loopback left out.
fn interfaces(pid: i32) -> BTreeMap<String, NetworkSample> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/net/dev")).unwrap_or_default();
    text.lines().skip(2).filter_map(interface).filter(|(name, _)| name != "lo").collect()
}

fn interface(line: &str) -> Option<(String, NetworkSample)> {
    let (name, numbers) = line.split_once(':')?;
    let numbers: Vec<u64> = numbers.split_ascii_whitespace().filter_map(|field| field.parse().ok()).collect();
    let at = |index: usize| numbers.get(index).copied().unwrap_or(0);
    let sample = NetworkSample {
        rx_bytes: at(0),
        rx_packets: at(1),
        rx_errors: at(2),
        rx_dropped: at(3),
        tx_bytes: at(8),
        tx_packets: at(9),
        tx_errors: at(10),
        tx_dropped: at(11),
    };
    Some((name.trim().to_owned(), sample))
}

/// `None`: it has ended meanwhile.
fn process_row(pid: i32, users: &HashMap<u32, String>) -> Option<ProcessRow> {
    let dir = format!("/proc/{pid}");
    let uid = std::fs::metadata(&dir).ok()?.uid();
    let stat = std::fs::read_to_string(format!("{dir}/stat")).ok()?;
    // The name in parentheses may hold anything, so fields are counted from its end (proc(5)).
    let (head, tail) = stat.rsplit_once(')')?;
    let name = head.split_once('(').map_or("", |(_, name)| name);
    let fields: Vec<&str> = tail.split_ascii_whitespace().collect();
    let number = |index: usize| fields.get(index).and_then(|field| field.parse::<i64>().ok()).unwrap_or(0);
    let cpu_ticks = (number(11) + number(12)).max(0) as u64;
    let (boot_ns, uptime_ns) = clocks();
    let start_ns = (number(19).max(0) as u64).saturating_mul(NANOS_PER_SEC / USER_HZ);
    let lived_ns = uptime_ns.saturating_sub(start_ns).max(1);
    let command = std::fs::read(format!("{dir}/cmdline")).unwrap_or_default();
    let command: Vec<_> =
        command.split(|&b| b == 0).filter(|arg| !arg.is_empty()).map(String::from_utf8_lossy).collect();
    Some(ProcessRow {
        uid,
        user: users.get(&uid).cloned().unwrap_or_else(|| uid.to_string()),
        pid,
        ppid: number(1) as i32,
        cpu_percent: (cpu_ticks.saturating_mul(NANOS_PER_SEC / USER_HZ).saturating_mul(100) / lived_ns)
            as u32,
        started_at: Timestamp(boot_ns.saturating_add(start_ns) as i64),
        tty: tty_name(number(4)),
        cpu_secs: cpu_ticks / USER_HZ,
        rss_bytes: meminfo(&format!("{dir}/status"), "VmRSS:").unwrap_or(0),
        comm: name.to_string(),
        command: if command.is_empty() { format!("[{name}]") } else { command.join(" ") },
    })
}

/// When the host booted (wall clock) and how long ago that is, in nanoseconds.
fn clocks() -> (u64, u64) {
    let uptime = naru_kernel::clock::boottime_nanos();
    ((crate::ids::now().0.max(0) as u64).saturating_sub(uptime), uptime)
}

/// `tty_nr` of proc(5): minor in bits 31–20 and 7–0, major in 15–8. Majors 136–143 are pty slaves.
fn tty_name(number: i64) -> String {
    let (major, minor) = ((number >> 8) & 0xff, (number & 0xff) | ((number >> 12) & 0xfff00));
    match major {
        136..=143 => format!("pts/{}", (major - 136) * 256 + minor),
        4 => format!("tty{minor}"),
        _ => "?".into(),
    }
}

fn host_users() -> HashMap<u32, String> {
    let text = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let user = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?.to_owned();
        Some((fields.nth(1)?.parse().ok()?, name))
    };
    text.lines().filter_map(user).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_process_and_interfaces() {
        let row = process_row(std::process::id() as i32, &host_users()).unwrap();
        assert!(row.rss_bytes > 0 && !row.command.is_empty() && row.started_at < crate::ids::now());
        assert!(host_cpu_ns() > NANOS_PER_SEC && host_memory_bytes() < u64::MAX);
        let (name, sample) = interface("  eth0: 10 2 3 4 0 0 0 0 20 5 6 7 0 0 0 0").unwrap();
        assert_eq!((name.as_str(), sample.rx_bytes, sample.tx_bytes, sample.tx_dropped), ("eth0", 10, 20, 7));
        assert_eq!((tty_name(34818), tty_name(0)), ("pts/2".into(), "?".into()));
    }
}
