//! What a control group has used, in one shape for v1 and v2.

use std::collections::BTreeMap;

/// Times in nanoseconds, sizes in bytes. A controller that the host lacks leaves its part at the default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stats {
    pub cpu: CpuStats,
    pub memory: MemoryStats,
    pub pids: PidsStats,
    pub blkio: BlkioStats,
    /// By page size, as the kernel names its files: `2MB`.
    pub hugetlb: BTreeMap<String, HugetlbStats>,
    pub rdma: RdmaStats,
    /// Of the v2 group; on a hybrid host the container is in one, too.
    pub pressure: Pressures,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CpuStats {
    pub total_ns: u64,
    pub user_ns: u64,
    pub system_ns: u64,
    /// Per CPU; v1 only.
    pub percpu_ns: Vec<u64>,
    pub percpu_user_ns: Vec<u64>,
    pub percpu_system_ns: Vec<u64>,
    pub periods: u64,
    pub throttled_periods: u64,
    pub throttled_ns: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryStats {
    pub usage: u64,
    pub max_usage: u64,
    /// `u64::MAX`: none.
    pub limit: u64,
    pub failcnt: u64,
    /// Memory and swap together, as v1 counts it.
    pub swap: MemoryEntry,
    /// v1 before Linux 6.11 has limits of these; v2 has usage only.
    pub kernel: MemoryEntry,
    pub kernel_tcp: MemoryEntry,
    /// `memory.stat` as the kernel writes it.
    pub stat: BTreeMap<String, u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryEntry {
    pub usage: u64,
    pub max_usage: u64,
    /// `u64::MAX`: none. 0: the kernel does not tell.
    pub limit: u64,
    pub failcnt: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HugetlbStats {
    pub usage: u64,
    /// v1 only.
    pub max_usage: u64,
    pub failcnt: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RdmaStats {
    pub current: Vec<RdmaEntry>,
    pub limit: Vec<RdmaEntry>,
}

/// `u32::MAX`: no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RdmaEntry {
    pub device: String,
    pub hca_handles: u32,
    pub hca_objects: u32,
}

/// `None` where the kernel has no PSI (CONFIG_PSI, `psi=1`).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pressures {
    pub cpu: Option<Pressure>,
    pub memory: Option<Pressure>,
    pub io: Option<Pressure>,
}

/// How long tasks waited for a resource: some of them, or all at once (accounting/psi.rst).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pressure {
    pub some: Stall,
    pub full: Stall,
}

/// Percent of the last 10, 60 and 300 seconds, and the total in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stall {
    pub avg10: f64,
    pub avg60: f64,
    pub avg300: f64,
    pub total_us: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PidsStats {
    pub current: u64,
    /// 0: none, as Docker shows it.
    pub limit: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlkioStats {
    pub service_bytes: Vec<BlkioEntry>,
    pub serviced: Vec<BlkioEntry>,
    /// These are v1's, where the kernel still has them.
    pub queued: Vec<BlkioEntry>,
    pub service_time: Vec<BlkioEntry>,
    pub wait_time: Vec<BlkioEntry>,
    pub merged: Vec<BlkioEntry>,
    pub time: Vec<BlkioEntry>,
    pub sectors: Vec<BlkioEntry>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlkioEntry {
    pub major: u64,
    pub minor: u64,
    /// `Read`, `Write` and so on.
    pub op: String,
    pub value: u64,
}
