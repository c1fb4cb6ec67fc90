//! `update`: new limits for a container that runs.

use super::{Call, Command, ID, ONE};
use crate::container::Container;
use crate::error::OciError;
use crate::flags::{Args, Order, value};
use crate::state::{self, CONFIG};
use crate::status::Status;
use naru_runtime::oci::{Resources, Spec};
use naru_types::quantity;
use serde_json::{Map, Value, json};
use std::io::Read;
use std::path::Path;

/// Bytes of a resources file.
const FILE_BYTES_MAX: u64 = 1 << 20;

pub(super) const UPDATE: Command = Command {
    name: "update",
    about: "update container resource constraints",
    arguments: ID,
    flags: &[
        value(
            "resources",
            "r",
            "path to the file with the resources to update, as in config.json, or '-' for standard input; other options are ignored then",
        ),
        value("blkio-weight", "", "per cgroup weight, range is from 10 to 1000"),
        value(
            "cpu-period",
            "",
            "CPU CFS period to be used for hardcapping (in usecs). 0 to use system default",
        ),
        value("cpu-quota", "", "CPU CFS hardcap limit (in usecs). Allowed cpu time in a given period"),
        value("cpu-burst", "", "CPU CFS hardcap burst limit (in usecs)"),
        value("cpu-share", "", "CPU shares (relative weight vs. other containers)"),
        value("cpu-rt-period", "", "CPU realtime period to be used for hardcapping (in usecs)"),
        value("cpu-rt-runtime", "", "CPU realtime hardcap limit (in usecs)"),
        value("cpuset-cpus", "", "CPU(s) to use"),
        value("cpuset-mems", "", "memory node(s) to use"),
        value("cpu-idle", "", "set cgroup SCHED_IDLE or not, 0: default behavior, 1: SCHED_IDLE"),
        value("kernel-memory", "", "(obsolete; ignored with a warning)"),
        value("kernel-memory-tcp", "", "(obsolete; ignored with a warning)"),
        value("memory", "", "memory limit (in bytes)"),
        value("memory-reservation", "", "memory reservation or soft_limit (in bytes)"),
        value("memory-swap", "", "total memory usage (memory + swap); set '-1' to enable unlimited swap"),
        value("pids-limit", "", "maximum number of pids allowed in the container"),
        value("l3-cache-schema", "", "the string of Intel RDT/CAT L3 cache schema"),
        value("mem-bw-schema", "", "the string of Intel RDT/MBA memory bandwidth schema"),
    ],
    order: Order::Anywhere,
    positional: ONE,
    run,
};

/// (flag, group in `linux.resources`, field).
const INTEGERS: [(&str, &str, &str); 8] = [
    ("blkio-weight", "blockIO", "weight"),
    ("cpu-period", "cpu", "period"),
    ("cpu-quota", "cpu", "quota"),
    ("cpu-burst", "cpu", "burst"),
    ("cpu-share", "cpu", "shares"),
    ("cpu-rt-period", "cpu", "realtimePeriod"),
    ("cpu-rt-runtime", "cpu", "realtimeRuntime"),
    ("cpu-idle", "cpu", "idle"),
];
const BYTES: [(&str, &str); 3] =
    [("memory", "limit"), ("memory-reservation", "reservation"), ("memory-swap", "swap")];
const TEXTS: [(&str, &str); 2] = [("cpuset-cpus", "cpus"), ("cpuset-mems", "mems")];

fn run(call: &mut Call<'_>) -> Result<u8, OciError> {
    let (container, _locked) = Container::load_locked(call.globals, call.id())?;
    if matches!(container.status(), Status::Stopped | Status::Creating) {
        return Err(OciError::NotRunning);
    }
    for flag in ["l3-cache-schema", "mem-bw-schema"] {
        if call.args.value(flag).is_some() {
            return Err(OciError::Unsupported {
                what: format!("changing Intel RDT of a running container (--{flag})"),
                hint: "set linux.intelRdt in config.json".into(),
            });
        }
    }
    if ["kernel-memory", "kernel-memory-tcp"].iter().any(|flag| call.args.value(flag).is_some()) {
        call.log.warn("Kernel memory settings are ignored and will be removed");
    }
    let asked = match call.args.value("resources") {
        Some(path) => from_file(path)?,
        None => from_flags(call.args)?,
    };
    let mut spec = container.spec()?;
    let change = change(asked, &spec)?;
    let warnings = container.need_cgroup("update")?.apply(&change)?;
    call.log.warn_all(&warnings);
    remember(&container, &mut spec, &change)?;
    Ok(0)
}

fn from_file(path: &str) -> Result<Value, OciError> {
    let mut text = Vec::new();
    let read = if path == "-" {
        std::io::stdin().take(FILE_BYTES_MAX).read_to_end(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut text))
    };
    read.map_err(|cause| OciError::file("open", Path::new(path), cause))?;
    serde_json::from_slice(&text)
        .map_err(|why| OciError::Json { what: format!("read the resources in {path}"), why })
}

fn from_flags(args: &Args<'_>) -> Result<Value, OciError> {
    let mut groups = Map::new();
    let mut set = |group: &str, field: &str, value: Value| {
        let group = groups.entry(group).or_insert_with(|| json!({}));
        group[field] = value;
    };
    for (flag, group, field) in INTEGERS {
        if let Some(number) = args.number::<i64>(flag)? {
            set(group, field, number.into());
        }
    }
    for (flag, field) in BYTES {
        let Some(text) = args.value(flag) else { continue };
        let bytes = if text == "-1" { Some(-1) } else { quantity::parse_bytes(text) };
        let bytes = bytes.ok_or_else(|| {
            let why = "not a size in bytes".to_owned();
            OciError::BadValue { flag, value: text.to_owned(), why }
        })?;
        set("memory", field, bytes.into());
    }
    for (flag, field) in TEXTS {
        if let Some(text) = args.value(flag) {
            set("cpu", field, text.into());
        }
    }
    if let Some(limit) = args.number::<i64>("pids-limit")? {
        set("pids", "limit", limit.into());
    }
    Ok(Value::Object(groups))
}

/// What is written to the control group: the fields that were given, and what they cannot be set without.
fn change(mut asked: Value, spec: &Spec) -> Result<Resources, OciError> {
    remove_nulls(&mut asked);
    let failed = |why| OciError::Json { what: "read the resources".into(), why };
    let mut change: Resources = serde_json::from_value(asked).map_err(failed)?;
    // As in runc, an update does not touch the devices.
    change.devices.clear();
    // One that is zero is as good as not given: Docker sends them all.
    let memory = &mut change.memory;
    for field in [&mut memory.limit, &mut memory.reservation, &mut memory.swap] {
        *field = field.filter(|bytes| *bytes != 0);
    }
    let old = &spec.linux.resources;
    let cpu = &mut change.cpu;
    (cpu.quota, cpu.period) = (cpu.quota.filter(|n| *n != 0), cpu.period.filter(|n| *n != 0));
    cpu.shares = cpu.shares.filter(|n| *n != 0);
    if cpu.quota.is_some() != cpu.period.is_some() {
        cpu.quota = cpu.quota.or(old.cpu.quota);
        cpu.period = cpu.period.or(old.cpu.period);
    }
    if memory.limit == Some(-1) && memory.swap.is_none() {
        // Otherwise a swap limit would be left without the memory limit it adds to.
        memory.swap = Some(-1);
    }
    Ok(change)
}

/// The next update starts from what holds now.
fn remember(container: &Container, spec: &mut Spec, change: &Resources) -> Result<(), OciError> {
    let to_value = |value: &Resources| {
        serde_json::to_value(value).map_err(|why| OciError::Json { what: "write the resources".into(), why })
    };
    let mut all = to_value(&spec.linux.resources)?;
    merge(&mut all, to_value(change)?);
    let failed = |why| OciError::Json { what: "write the configuration".into(), why };
    spec.linux.resources = serde_json::from_value(all).map_err(failed)?;
    state::replace(&container.directory, CONFIG, &serde_json::to_vec(spec).map_err(failed)?)
}

fn merge(old: &mut Value, new: Value) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            for (key, value) in new {
                merge(old.entry(key).or_insert(Value::Null), value);
            }
        }
        (old, new) => *old = new,
    }
}

fn remove_nulls(value: &mut Value) {
    if let Value::Object(map) = value {
        map.retain(|_, value| !value.is_null());
        map.values_mut().for_each(remove_nulls);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_has_only_what_was_given() {
        let mut spec = Spec::default();
        spec.linux.resources.cpu.period = Some(50_000);
        let asked = json!({ "memory": { "limit": 5, "swap": 0 }, "cpu": { "quota": 7, "shares": null }, "devices": [{ "allow": false }] });
        let change = change(asked, &spec).unwrap();
        assert_eq!((change.memory.limit, change.memory.swap), (Some(5), None));
        assert_eq!((change.cpu.quota, change.cpu.period), (Some(7), Some(50_000)));
        assert!(change.devices.is_empty());
        let mut old = json!({ "memory": { "limit": 1, "swap": 2 } });
        merge(&mut old, json!({ "memory": { "limit": 5 } }));
        assert_eq!(old, json!({ "memory": { "limit": 5, "swap": 2 } }));
    }
}
