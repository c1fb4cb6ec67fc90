//! Reads [`Stats`] from the control files of v1 and v2. A missing file leaves its field at zero: controllers come and go.

use super::stats_more;
use super::{BlkioEntry, BlkioStats, Cgroup, CpuStats, MemoryEntry, MemoryStats, PidsStats, Stats, files};
use std::path::Path;

/// Nanoseconds per tick of cpuacct.stat: USER_HZ is 100 on every Linux platform that naru supports.
const TICK_NS: u64 = 10_000_000;

/// v1 shows "no limit" as the largest page-aligned number.
const V1_UNLIMITED: u64 = 0x7fff_ffff_ffff_f000;

pub(super) fn read(cgroup: &Cgroup) -> Stats {
    let directory = |controller: &str| cgroup.controller_directory(controller);
    let mut stats = Stats::default();
    match directory("cpuacct") {
        Some((dir, false)) => {
            stats.cpu = cpu_v1(&dir);
            if let Some((cpu, false)) = directory("cpu") {
                throttling_v1(&cpu, &mut stats.cpu);
            }
        }
        _ => {
            // cpu.stat's times are there even without the controller.
            if let Some(dir) = cgroup.v2_directory() {
                stats.cpu = cpu_v2(&dir);
            }
        }
    }
    if let Some((dir, v2)) = directory("memory") {
        stats.memory = if v2 { memory_v2(&dir) } else { memory_v1(&dir) };
    }
    if let Some((dir, _)) = directory("pids") {
        stats.pids = pids(&dir);
    }
    if let Some((dir, v2)) = directory("blkio") {
        stats.blkio = if v2 { blkio_v2(&dir) } else { blkio_v1(&dir) };
    }
    if let Some((dir, v2)) = directory("hugetlb") {
        stats.hugetlb = stats_more::hugetlb(&dir, v2);
    }
    if let Some((dir, _)) = directory("rdma") {
        stats.rdma = stats_more::rdma(&dir);
    }
    if let Some(dir) = cgroup.v2_directory() {
        stats.pressure = stats_more::pressures(&dir);
    }
    stats
}

fn cpu_v1(dir: &Path) -> CpuStats {
    let ticks = files::flat_keyed(&text(&dir.join("cpuacct.stat")));
    let tick = |key: &str| ticks.get(key).copied().unwrap_or(0).saturating_mul(TICK_NS);
    let percpu = text(&dir.join("cpuacct.usage_percpu"));
    let all = text(&dir.join("cpuacct.usage_all"));
    // Rows of "cpu user system" below a heading.
    let column = |number: usize| -> Vec<u64> {
        let value = |line: &str| line.split_whitespace().nth(number)?.parse().ok();
        all.lines().filter_map(value).collect()
    };
    CpuStats {
        total_ns: number(dir, "cpuacct.usage"),
        user_ns: tick("user"),
        system_ns: tick("system"),
        percpu_ns: percpu.split_whitespace().filter_map(|word| word.parse().ok()).collect(),
        percpu_user_ns: column(1),
        percpu_system_ns: column(2),
        ..CpuStats::default()
    }
}

fn throttling_v1(dir: &Path, stats: &mut CpuStats) {
    let values = files::flat_keyed(&text(&dir.join("cpu.stat")));
    let value = |key: &str| values.get(key).copied().unwrap_or(0);
    stats.periods = value("nr_periods");
    stats.throttled_periods = value("nr_throttled");
    stats.throttled_ns = value("throttled_time");
}

fn cpu_v2(dir: &Path) -> CpuStats {
    let values = files::flat_keyed(&text(&dir.join("cpu.stat")));
    let value = |key: &str| values.get(key).copied().unwrap_or(0);
    let nanos = |key: &str| value(key).saturating_mul(1000);
    CpuStats {
        total_ns: nanos("usage_usec"),
        user_ns: nanos("user_usec"),
        system_ns: nanos("system_usec"),
        periods: value("nr_periods"),
        throttled_periods: value("nr_throttled"),
        throttled_ns: nanos("throttled_usec"),
        ..CpuStats::default()
    }
}

fn memory_v1(dir: &Path) -> MemoryStats {
    let entry = |kind: &str| {
        let value = |name: &str| number(dir, &format!("memory.{kind}{name}"));
        let limit = value("limit_in_bytes");
        MemoryEntry {
            usage: value("usage_in_bytes"),
            max_usage: value("max_usage_in_bytes"),
            limit: if limit >= V1_UNLIMITED { u64::MAX } else { limit },
            failcnt: value("failcnt"),
        }
    };
    let own = entry("");
    MemoryStats {
        usage: own.usage,
        max_usage: own.max_usage,
        limit: own.limit,
        failcnt: own.failcnt,
        swap: entry("memsw."),
        kernel: entry("kmem."),
        kernel_tcp: entry("kmem.tcp."),
        stat: files::flat_keyed(&text(&dir.join("memory.stat"))),
    }
}

fn memory_v2(dir: &Path) -> MemoryStats {
    let events = files::flat_keyed(&text(&dir.join("memory.events")));
    let swap_events = files::flat_keyed(&text(&dir.join("memory.swap.events")));
    let stat = files::flat_keyed(&text(&dir.join("memory.stat")));
    let of_stat = |key: &str| MemoryEntry {
        usage: stat.get(key).copied().unwrap_or(0),
        limit: u64::MAX,
        ..MemoryEntry::default()
    };
    let (usage, limit) = (number(dir, "memory.current"), number(dir, "memory.max"));
    MemoryStats {
        usage,
        max_usage: number(dir, "memory.peak"),
        limit,
        failcnt: events.get("max").copied().unwrap_or(0),
        // Of v2 these are apart. The two peaks need not have been at one time, so they make no sum.
        swap: MemoryEntry {
            usage: usage.saturating_add(number(dir, "memory.swap.current")),
            max_usage: 0,
            limit: limit.saturating_add(number(dir, "memory.swap.max")),
            failcnt: swap_events.get("max").copied().unwrap_or(0),
        },
        kernel: of_stat("kernel"),
        kernel_tcp: of_stat("sock"),
        stat,
    }
}

fn pids(dir: &Path) -> PidsStats {
    let limit = number(dir, "pids.max");
    PidsStats { current: number(dir, "pids.current"), limit: if limit == u64::MAX { 0 } else { limit } }
}

fn blkio_v1(dir: &Path) -> BlkioStats {
    // BFQ's, then CFQ's of Linux before 5.0; a group without a policy of its own counts only as "throttle".
    let recursive = |name: &str| {
        let lists = ["bfq.", "", "throttle."]
            .map(|policy| parse_blkio_v1(&text(&dir.join(format!("blkio.{policy}{name}_recursive")))));
        lists.into_iter().find(|list| !list.is_empty()).unwrap_or_default()
    };
    BlkioStats {
        service_bytes: recursive("io_service_bytes"),
        serviced: recursive("io_serviced"),
        queued: recursive("io_queued"),
        service_time: recursive("io_service_time"),
        wait_time: recursive("io_wait_time"),
        merged: recursive("io_merged"),
        time: recursive("time"),
        sectors: recursive("sectors"),
    }
}

/// `8:0 Read 4096`, or without the word.
fn parse_blkio_v1(text: &str) -> Vec<BlkioEntry> {
    let entry = |line: &str| {
        let mut words = line.split_whitespace();
        let (major, minor) = words.next()?.split_once(':')?;
        let last = words.next_back()?;
        let op = words.next().unwrap_or_default().to_owned();
        let value = last.parse().ok()?;
        Some(BlkioEntry { major: major.parse().ok()?, minor: minor.parse().ok()?, op, value })
    };
    text.lines().filter_map(entry).collect()
}

/// `8:0 rbytes=4096 wbytes=0 rios=1 wios=0 …`
fn blkio_v2(dir: &Path) -> BlkioStats {
    let mut stats = BlkioStats::default();
    for line in text(&dir.join("io.stat")).lines() {
        let mut words = line.split_whitespace();
        let Some((major, minor)) = words.next().and_then(|word| word.split_once(':')) else { continue };
        let (Ok(major), Ok(minor)) = (major.parse(), minor.parse()) else { continue };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let (list, op) = match key {
                "rbytes" => (&mut stats.service_bytes, "read"),
                "wbytes" => (&mut stats.service_bytes, "write"),
                "rios" => (&mut stats.serviced, "read"),
                "wios" => (&mut stats.serviced, "write"),
                "dbytes" => (&mut stats.service_bytes, "discard"),
                "dios" => (&mut stats.serviced, "discard"),
                _ => continue,
            };
            list.push(BlkioEntry { major, minor, op: op.into(), value: value.parse().unwrap_or(0) });
        }
    }
    stats
}

fn number(dir: &Path, file: &str) -> u64 {
    files::read_number(&dir.join(file)).unwrap_or(0)
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blkio_lines() {
        let list = parse_blkio_v1("8:0 Read 4096\n8:0 Total 4096\nTotal 4096\n");
        assert_eq!(list.len(), 2);
        assert_eq!((list[0].major, list[0].op.as_str(), list[0].value), (8, "Read", 4096));
        let list = parse_blkio_v1("8:16 77\n");
        assert_eq!((list[0].minor, list[0].op.as_str(), list[0].value), (16, "", 77));
    }
}
