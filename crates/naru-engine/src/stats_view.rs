//! One sample of what a container uses. Rates are made of two samples by whoever shows them.

use naru_types::Timestamp;
use std::collections::BTreeMap;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatsSample {
    pub at: Timestamp,
    pub cpu: CpuSample,
    pub memory: MemorySample,
    pub pids: PidsSample,
    pub blkio: BlkioSample,
    /// By interface name in the container; empty in the host's network.
    pub networks: BTreeMap<String, NetworkSample>,
}

/// Nanoseconds, but for the counters of periods.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuSample {
    pub total_ns: u64,
    pub user_ns: u64,
    pub system_ns: u64,
    /// Per processor; empty where the kernel does not say (cgroup v2).
    pub percpu_ns: Vec<u64>,
    /// Busy and idle time of the whole host.
    pub system_total_ns: u64,
    pub online_cpus: u32,
    pub throttling_periods: u64,
    pub throttled_periods: u64,
    pub throttled_ns: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemorySample {
    pub usage: u64,
    /// cgroup v1 only; zero otherwise.
    pub max_usage: u64,
    /// The host's memory where there is no limit.
    pub limit: u64,
    pub failcnt: u64,
    /// `memory.stat` as the kernel has it.
    pub stats: BTreeMap<String, u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PidsSample {
    pub current: u64,
    /// Zero: no limit.
    pub limit: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlkioSample {
    pub service_bytes: Vec<BlkioEntry>,
    pub serviced: Vec<BlkioEntry>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlkioEntry {
    pub major: u64,
    pub minor: u64,
    /// `read`, `write`, …
    pub op: String,
    pub value: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetworkSample {
    pub rx_bytes: u64,
    pub rx_packets: u64,
    pub rx_errors: u64,
    pub rx_dropped: u64,
    pub tx_bytes: u64,
    pub tx_packets: u64,
    pub tx_errors: u64,
    pub tx_dropped: u64,
}
