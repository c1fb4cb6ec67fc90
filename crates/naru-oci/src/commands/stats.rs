//! Statistics in the shape of runc's `events`, which containerd and kubelet read (runc's types/events.go).

use naru_runtime::cgroup::{
    BlkioEntry, Cgroup, HugetlbStats, MemoryEntry, MemoryStats, Pressure, RdmaEntry, Stall, Stats as Measured,
};
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

#[derive(Debug, Serialize)]
pub(super) struct Stats {
    cpu: Value,
    cpuset: Value,
    memory: Value,
    pids: Value,
    blkio: Value,
    hugetlb: Map<String, Value>,
    /// Only runc's library has it; shown where there is such a device.
    #[serde(skip_serializing_if = "Value::is_null")]
    rdma: Value,
    intel_rdt: Value,
    network_interfaces: Value,
}

impl Stats {
    pub fn new(measured: &Measured, cgroup: &Cgroup) -> Self {
        let cpu = &measured.cpu;
        let io = &measured.blkio;
        let hugetlb = |(size, stats): (&String, &HugetlbStats)| {
            let shown = json!({ "usage": stats.usage, "max": stats.max_usage });
            (size.clone(), without_zeros(shown, json!({ "failcnt": stats.failcnt })))
        };
        Self {
            cpu: without_zeros(
                json!({ "psi": pressure(measured.pressure.cpu) }),
                json!({
                    "usage": without_zeros(json!({
                        "total": cpu.total_ns,
                        "percpu": cpu.percpu_ns,
                        "percpu_kernel": cpu.percpu_system_ns,
                        "percpu_user": cpu.percpu_user_ns,
                    }), json!({ "kernel": cpu.system_ns, "user": cpu.user_ns })),
                    "throttling": without_zeros(json!({
                        "periods": cpu.periods,
                        "throttledPeriods": cpu.throttled_periods,
                        "throttledTime": cpu.throttled_ns,
                    }), json!({})),
                }),
            ),
            cpuset: cpuset(cgroup),
            memory: memory(&measured.memory, measured.pressure.memory),
            pids: without_zeros(
                json!({ "current": measured.pids.current, "limit": measured.pids.limit }),
                json!({}),
            ),
            blkio: without_zeros(
                json!({
                    "ioServiceBytesRecursive": entries(&io.service_bytes),
                    "ioServicedRecursive": entries(&io.serviced),
                    "ioQueueRecursive": entries(&io.queued),
                    "ioServiceTimeRecursive": entries(&io.service_time),
                    "ioWaitTimeRecursive": entries(&io.wait_time),
                    "ioMergedRecursive": entries(&io.merged),
                    "ioTimeRecursive": entries(&io.time),
                    "sectorsRecursive": entries(&io.sectors),
                    "psi": pressure(measured.pressure.io),
                }),
                json!({}),
            ),
            hugetlb: measured.hugetlb.iter().map(hugetlb).collect(),
            rdma: match measured.rdma.current.is_empty() {
                true => Value::Null,
                false => json!({
                    "current": rdma(&measured.rdma.current),
                    "limit": rdma(&measured.rdma.limit),
                }),
            },
            intel_rdt: json!({}),
            network_interfaces: Value::Null,
        }
    }
}

fn memory(memory: &MemoryStats, stalls: Option<Pressure>) -> Value {
    let entry = |entry: MemoryEntry| {
        let shown = json!({ "usage": entry.usage, "max": entry.max_usage });
        without_zeros(shown, json!({ "limit": entry.limit, "failcnt": entry.failcnt }))
    };
    let own = MemoryEntry {
        usage: memory.usage,
        max_usage: memory.max_usage,
        limit: memory.limit,
        failcnt: memory.failcnt,
    };
    let cache = ["cache", "file"].iter().find_map(|name| memory.stat.get(*name)).copied().unwrap_or(0);
    let raw: BTreeMap<&String, &u64> = memory.stat.iter().collect();
    without_zeros(
        json!({ "cache": cache, "raw": raw, "psi": pressure(stalls) }),
        json!({
            "usage": entry(own),
            "swap": entry(memory.swap),
            "kernel": entry(memory.kernel),
            "kernelTCP": entry(memory.kernel_tcp),
        }),
    )
}

/// An empty object, which is left out, where the kernel has no PSI.
fn pressure(pressure: Option<Pressure>) -> Value {
    let stall = |stall: Stall| {
        json!({
            "avg10": stall.avg10, "avg60": stall.avg60, "avg300": stall.avg300, "total": stall.total_us,
        })
    };
    pressure.map_or_else(
        || json!({}),
        |pressure| json!({ "some": stall(pressure.some), "full": stall(pressure.full) }),
    )
}

fn rdma(list: &[RdmaEntry]) -> Value {
    let entry = |entry: &RdmaEntry| {
        json!({
            "device": entry.device, "hcaHandles": entry.hca_handles, "hcaObjects": entry.hca_objects,
        })
    };
    list.iter().map(entry).collect()
}

/// Which CPUs and nodes the container may use; the flags of v1's cpuset.
fn cpuset(cgroup: &Cgroup) -> Value {
    const FLAGS: [(&str, &str); 9] = [
        ("cpu_exclusive", "cpu_exclusive"),
        ("mem_hardwall", "mem_hardwall"),
        ("mem_exclusive", "mem_exclusive"),
        ("memory_migrate", "memory_migrate"),
        ("memory_spread_page", "memory_spread_page"),
        ("memory_spread_slab", "memory_spread_slab"),
        ("memory_pressure", "memory_pressure"),
        ("sched_load_balance", "sched_load_balance"),
        ("sched_relax_domain_level", "sched_relax_domain_level"),
    ];
    let v1 = cgroup.layout().v1_with("cpuset").map(|hierarchy| cgroup.directory_in(hierarchy));
    let directory = v1.or_else(|| cgroup.v2_directory()).unwrap_or_default();
    let read = |file: String| std::fs::read_to_string(directory.join(file)).unwrap_or_default();
    let mut shown = Map::new();
    for (field, file) in [("cpus", "cpuset.cpus"), ("mems", "cpuset.mems")] {
        let list = list(read(file.to_owned()).trim());
        if !list.is_empty() {
            shown.insert(field.into(), list.into());
        }
    }
    for (field, file) in FLAGS {
        let number = read(format!("cpuset.{file}")).trim().parse::<i64>().unwrap_or(0);
        shown.insert(field.into(), number.into());
    }
    Value::Object(shown)
}

/// `0-2,5` is 0, 1, 2, 5.
fn list(text: &str) -> Vec<u16> {
    let ranges = text.split(',').filter_map(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse::<u16>().ok()?..=last.parse::<u16>().ok()?)
    });
    ranges.flatten().collect()
}

fn entries(list: &[BlkioEntry]) -> Value {
    let entry = |entry: &BlkioEntry| {
        // runc spells v2's as v1's: `Read`.
        let mut op = entry.op.clone();
        if let Some(first) = op.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        without_zeros(
            json!({ "major": entry.major, "minor": entry.minor, "op": op, "value": entry.value }),
            json!({}),
        )
    };
    list.iter().map(entry).collect()
}

/// Go's `omitempty` on the first object; then the second, whole.
fn without_zeros(optional: Value, always: Value) -> Value {
    let mut shown = Map::new();
    for (key, value) in into_map(optional) {
        let empty = match &value {
            Value::Number(number) => number.as_u64() == Some(0),
            Value::String(text) => text.is_empty(),
            Value::Array(list) => list.is_empty(),
            Value::Object(map) => map.is_empty(),
            Value::Null | Value::Bool(_) => false,
        };
        if !empty {
            shown.insert(key, value);
        }
    }
    shown.extend(into_map(always));
    Value::Object(shown)
}

fn into_map(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes() {
        assert_eq!(list("0-2,5"), [0, 1, 2, 5]);
        assert!(list("").is_empty());
        let shown = without_zeros(json!({ "a": 0, "b": 1, "c": [] }), json!({ "d": 0 }));
        assert_eq!(shown, json!({ "b": 1, "d": 0 }));
    }
}
