//! Samples as Docker's stats. A percentage needs two samples, so the one before comes along.

use naru_engine::{BlkioEntry, BlkioSample, ContainerView, CpuSample, NetworkSample, StatsSample};
use naru_types::Timestamp;
use naru_wire::stats::{
    self, BlkioStats, CpuStats, CpuUsage, MemoryStats, NetworkStats, PidsStats, Stats, Throttling,
};

/// What a container that does not run gets: its name and zeros.
pub fn empty(view: &ContainerView) -> Stats {
    Stats {
        name: format!("/{}", view.name),
        id: view.id.to_string(),
        read: Timestamp::ZERO.to_string(),
        preread: Timestamp::ZERO.to_string(),
        ..Stats::default()
    }
}

pub fn stats(view: &ContainerView, sample: &StatsSample, before: Option<&StatsSample>) -> Stats {
    let networks = sample.networks.iter().map(|(name, counters)| (name.clone(), network(*counters)));
    Stats {
        read: sample.at.to_string(),
        preread: before.map_or(Timestamp::ZERO, |before| before.at).to_string(),
        pids_stats: PidsStats { current: sample.pids.current, limit: sample.pids.limit },
        blkio_stats: blkio(&sample.blkio),
        cpu_stats: cpu(&sample.cpu),
        precpu_stats: before.map(|before| cpu(&before.cpu)).unwrap_or_default(),
        memory_stats: MemoryStats {
            usage: sample.memory.usage,
            max_usage: sample.memory.max_usage,
            stats: sample.memory.stats.clone(),
            failcnt: sample.memory.failcnt,
            limit: sample.memory.limit,
        },
        networks: (!sample.networks.is_empty()).then(|| networks.collect()),
        ..empty(view)
    }
}

fn cpu(sample: &CpuSample) -> CpuStats {
    CpuStats {
        cpu_usage: CpuUsage {
            total_usage: sample.total_ns,
            percpu_usage: sample.percpu_ns.clone(),
            usage_in_kernelmode: sample.system_ns,
            usage_in_usermode: sample.user_ns,
        },
        system_cpu_usage: sample.system_total_ns,
        online_cpus: sample.online_cpus,
        throttling_data: Throttling {
            periods: sample.throttling_periods,
            throttled_periods: sample.throttled_periods,
            throttled_time: sample.throttled_ns,
        },
    }
}

/// The lists that the kernel does not fill are empty, as dockerd writes them on cgroup v1.
fn blkio(sample: &BlkioSample) -> BlkioStats {
    let entries = |list: &[BlkioEntry]| {
        let entry = |entry: &BlkioEntry| stats::BlkioEntry {
            major: entry.major,
            minor: entry.minor,
            op: entry.op.clone(),
            value: entry.value,
        };
        Some(list.iter().map(entry).collect())
    };
    let none = || Some(Vec::new());
    BlkioStats {
        io_service_bytes_recursive: entries(&sample.service_bytes),
        io_serviced_recursive: entries(&sample.serviced),
        io_queue_recursive: none(),
        io_service_time_recursive: none(),
        io_wait_time_recursive: none(),
        io_merged_recursive: none(),
        io_time_recursive: none(),
        sectors_recursive: none(),
    }
}

fn network(sample: NetworkSample) -> NetworkStats {
    NetworkStats {
        rx_bytes: sample.rx_bytes,
        rx_packets: sample.rx_packets,
        rx_errors: sample.rx_errors,
        rx_dropped: sample.rx_dropped,
        tx_bytes: sample.tx_bytes,
        tx_packets: sample.tx_packets,
        tx_errors: sample.tx_errors,
        tx_dropped: sample.tx_dropped,
    }
}
