//! Attributes of the process in a plan: limits, priorities, CPUs, memory placement, personality, labels.

use super::Steps;
use crate::errors::StartError;
use crate::oci;
use crate::outside::Outside;
use crate::plan::Op;
use crate::request::SpawnError;
use naru_kernel::rlimit;
use naru_kernel::task::{MASK_BITS, Mask, SchedAttr};
use std::ffi::CString;
use std::path::Path;

/// oom_score_adj, rlimits and priorities: what may need the host's rights. In a user namespace of its own the child has
/// none of these, so the parent does it (`outside`).
pub(crate) fn limits(
    steps: &mut Steps,
    outside: Option<&mut Vec<Outside>>,
    process: &oci::Process,
    error: StartError,
) -> Result<(), SpawnError> {
    let mut list = Vec::new();
    if let Some(score) = process.oom_score_adj {
        list.push(Outside::OomScoreAdj(score));
    }
    for limit in &process.rlimits {
        let Some(resource) = rlimit::number(&limit.kind) else {
            return Err(error.plain(&format!("unknown resource limit {:?}", limit.kind)));
        };
        list.push(Outside::Rlimit { resource, soft: limit.soft, hard: limit.hard });
    }
    if let Some(priority) = &process.io_priority {
        let (class, level) = io_priority(priority, error)?;
        list.push(Outside::IoPriority { class, level });
    }
    if let Some(wanted) = &process.scheduler {
        list.push(Outside::Scheduler(scheduler(wanted, error)?));
    }
    if let Some(outside) = outside {
        outside.append(&mut list);
        return Ok(());
    }
    for item in list {
        match item {
            // Without CAP_SYS_RESOURCE what is possible is done and the caller warned.
            Outside::OomScoreAdj(score) => steps.warn(Op::OomScoreAdj(error.c_string(&score.to_string())?)),
            Outside::Rlimit { resource, soft, hard } => steps.warn(Op::Rlimit { resource, soft, hard }),
            Outside::IoPriority { class, level } => steps.push(Op::IoPriority { class, level }),
            Outside::Scheduler(attr) => steps.push(Op::Scheduler(attr)),
            Outside::TimeOffsets(_) | Outside::Resctrl(_) | Outside::NetDevice(_) => {}
        }
    }
    Ok(())
}

/// What the process may do to itself in any namespace.
pub(crate) fn own(
    steps: &mut Steps,
    process: &oci::Process,
    linux: &oci::Linux,
    error: StartError,
) -> Result<(), SpawnError> {
    if let Some(policy) = &linux.memory_policy {
        let (mode, nodes) = memory_policy(policy, error)?;
        steps.push(Op::MemoryPolicy { mode, nodes });
    }
    if let Some(wanted) = &linux.personality {
        steps.push(Op::Personality(personality(wanted, error)?));
    }
    labels(steps, process, error)
}

fn labels(steps: &mut Steps, process: &oci::Process, error: StartError) -> Result<(), SpawnError> {
    const ATTR_EXEC: &str = "thread-self/attr/exec";
    let profile = &process.apparmor_profile;
    if !profile.is_empty() {
        if apparmor_enabled() {
            steps.push(Op::Label {
                // Linux 5.8; the older file belongs to whichever module came first.
                file: error.c_string("thread-self/attr/apparmor/exec")?,
                older: error.c_string(ATTR_EXEC)?,
                value: error.c_string(&format!("exec {profile}"))?,
            });
        } else if profile != "unconfined" {
            return Err(error.plain(&format!(
                "cannot apply the AppArmor profile {profile:?}: AppArmor is not enabled on this machine"
            )));
        }
    }
    let label = &process.selinux_label;
    if !label.is_empty() {
        if !Path::new("/sys/fs/selinux/enforce").exists() {
            return Err(error.plain(
                "selinux label is specified in config, but selinux is disabled or not supported on this machine",
            ));
        }
        let file = error.c_string(ATTR_EXEC)?;
        steps.push(Op::Label { file: file.clone(), older: file, value: error.c_string(label)? });
    }
    Ok(())
}

fn apparmor_enabled() -> bool {
    std::fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with('Y'))
}

fn io_priority(wanted: &oci::IoPriority, error: StartError) -> Result<(u16, u16), SpawnError> {
    let class = match wanted.class.as_str() {
        "IOPRIO_CLASS_RT" => 1,
        "IOPRIO_CLASS_BE" => 2,
        "IOPRIO_CLASS_IDLE" => 3,
        other => return Err(error.plain(&format!("invalid ioPriority.Class: {other:?}"))),
    };
    match u16::try_from(wanted.priority) {
        Ok(level @ 0..=7) => Ok((class, level)),
        _ => Err(error.plain(&format!("invalid ioPriority.Priority: {}", wanted.priority))),
    }
}

fn scheduler(wanted: &oci::Scheduler, error: StartError) -> Result<SchedAttr, SpawnError> {
    let fail = |message: String| Err(error.plain(&message));
    let policy = match wanted.policy.as_str() {
        "" => return fail("scheduler policy is required".into()),
        "SCHED_OTHER" => 0,
        "SCHED_FIFO" => 1,
        "SCHED_RR" => 2,
        "SCHED_BATCH" => 3,
        "SCHED_ISO" => return fail("this kernel has no scheduling policy SCHED_ISO (no Linux has)".into()),
        "SCHED_IDLE" => 5,
        "SCHED_DEADLINE" => 6,
        other => return fail(format!("invalid scheduler.policy: {other:?}")),
    };
    let (real_time, deadline) = (matches!(policy, 1 | 2), policy == 6);
    if matches!(policy, 0 | 3) && !(-20..=19).contains(&wanted.nice) {
        return fail(format!(
            "invalid scheduler.nice: {} when scheduler.policy is {}",
            wanted.nice, wanted.policy
        ));
    }
    if wanted.priority != 0 && !real_time {
        return fail("scheduler.priority can only be specified for SchedFIFO or SchedRR policy".into());
    }
    if (wanted.runtime | wanted.deadline | wanted.period) != 0 && !deadline {
        return fail(
            "scheduler runtime/deadline/period can only be specified for SchedDeadline policy".into(),
        );
    }
    let mut flags = 0;
    for flag in &wanted.flags {
        flags |= match flag.as_str() {
            "SCHED_FLAG_RESET_ON_FORK" => 0x01,
            "SCHED_FLAG_RECLAIM" => 0x02,
            "SCHED_FLAG_DL_OVERRUN" => 0x04,
            "SCHED_FLAG_KEEP_POLICY" => 0x08,
            "SCHED_FLAG_KEEP_PARAMS" => 0x10,
            "SCHED_FLAG_UTIL_CLAMP_MIN" => 0x20,
            "SCHED_FLAG_UTIL_CLAMP_MAX" => 0x40,
            other => return fail(format!("unknown scheduler flag {other:?}")),
        };
    }
    let priority = u32::try_from(wanted.priority)
        .map_err(|_| error.plain(&format!("invalid scheduler.priority: {}", wanted.priority)))?;
    Ok(SchedAttr {
        size: 0,
        policy,
        flags,
        nice: wanted.nice,
        priority,
        runtime: wanted.runtime,
        deadline: wanted.deadline,
        period: wanted.period,
    })
}

fn memory_policy(wanted: &oci::MemoryPolicy, error: StartError) -> Result<(i32, Box<Mask>), SpawnError> {
    const MPOL_F_NUMA_BALANCING: i32 = 1 << 13;
    const MPOL_F_RELATIVE_NODES: i32 = 1 << 14;
    const MPOL_F_STATIC_NODES: i32 = 1 << 15;
    let fail = |message: String| Err(error.plain(&message));
    // Whether the mode takes no node (0), needs one (2), or either (1).
    let (mode, nodes_needed) = match wanted.mode.as_str() {
        "MPOL_DEFAULT" => (0, 0),
        "MPOL_PREFERRED" => (1, 1),
        "MPOL_BIND" => (2, 2),
        "MPOL_INTERLEAVE" => (3, 2),
        "MPOL_LOCAL" => (4, 0),
        "MPOL_PREFERRED_MANY" => (5, 2),
        "MPOL_WEIGHTED_INTERLEAVE" => (6, 2),
        other => return fail(format!("invalid memory policy mode: {other:?}")),
    };
    let nodes = mask(&wanted.nodes, "memoryPolicy.nodes", error)?;
    let empty = nodes.iter().all(|word| *word == 0);
    if nodes_needed == 0 && !empty {
        return fail(format!(
            "memory policy mode {} takes no nodes, but there are {:?}",
            wanted.mode, wanted.nodes
        ));
    }
    if nodes_needed == 2 && empty {
        return fail(format!("memory policy mode {} requires at least one node but got 0", wanted.mode));
    }
    let mut flags = 0;
    for flag in &wanted.flags {
        flags |= match flag.as_str() {
            "MPOL_F_NUMA_BALANCING" => MPOL_F_NUMA_BALANCING,
            "MPOL_F_RELATIVE_NODES" => MPOL_F_RELATIVE_NODES,
            "MPOL_F_STATIC_NODES" => MPOL_F_STATIC_NODES,
            other => return fail(format!("invalid memory policy flag: {other:?}")),
        };
    }
    Ok((mode | flags, nodes))
}

fn personality(wanted: &oci::Personality, error: StartError) -> Result<u32, SpawnError> {
    if let Some(flag) = wanted.flags.first() {
        return Err(
            error.plain(&format!("unsupported personality flag {flag:?}: the specification has none"))
        );
    }
    match wanted.domain.as_str() {
        "LINUX" => Ok(0),
        "LINUX32" => Ok(8),
        other => Err(error.plain(&format!("invalid personality domain {other:?}"))),
    }
}

/// A list of numbers and ranges (`0-3,7`) as a mask.
pub(crate) fn mask(list: &str, subject: &str, error: StartError) -> Result<Box<Mask>, SpawnError> {
    let wrong = || error.plain(&format!("{subject} is not a list of numbers and ranges: {list:?}"));
    let mut mask = Box::new([0u64; MASK_BITS / 64]);
    for part in list.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.parse::<usize>().ok().filter(|number| *number < MASK_BITS);
        let (Some(first), Some(last)) = (number(first), number(last)) else { return Err(wrong()) };
        if first > last {
            return Err(wrong());
        }
        for number in first..=last {
            mask[number / 64] |= 1 << (number % 64);
        }
    }
    Ok(mask)
}

/// The directories where procfs and sysfs lie in the host's tree, deepest first: for a root that is not pivoted into.
pub(crate) fn host_pseudo_mounts(error: StartError) -> Result<Vec<CString>, SpawnError> {
    let text = std::fs::read_to_string("/proc/self/mountinfo")
        .map_err(|cause| error.io("read /proc/self/mountinfo", &cause))?;
    let mut paths = Vec::new();
    for line in text.lines() {
        // mountinfo: … mount-point options [fields …] - type source options (proc_pid_mountinfo(5)).
        let (Some(path), Some(kind)) =
            (line.split(' ').nth(4), line.split(" - ").nth(1).and_then(|rest| rest.split(' ').next()))
        else {
            continue;
        };
        if matches!(kind, "proc" | "sysfs") && path != "/" {
            paths.push(error.c_string(&path.replace("\\040", " ").replace("\\134", "\\"))?);
        }
    }
    paths.reverse();
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::errors::Context;

    const ERROR: fn() -> StartError = || StartError::new(Context::Init);

    #[test]
    fn masks() {
        let bits = |list: &str| mask(list, "x", ERROR()).map(|mask| mask[0]).map_err(|error| error.message);
        assert_eq!(bits("0-3,7"), Ok(0b1000_1111));
        assert_eq!(bits(""), Ok(0));
        assert!(bits("3-1").is_err() && bits("a").is_err() && bits("99999").is_err() && bits("-1").is_err());
        assert_eq!(mask("64", "x", ERROR()).unwrap()[1], 1);
    }

    #[test]
    fn schedulers() {
        let ask = |policy: &str, priority, runtime, flags: &[&str]| {
            let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
            let wanted =
                oci::Scheduler { policy: policy.into(), priority, runtime, flags, ..Default::default() };
            scheduler(&wanted, ERROR()).map_err(|error| error.message)
        };
        assert_eq!(ask("SCHED_FIFO", 5, 0, &["SCHED_FLAG_RESET_ON_FORK"]).unwrap().flags, 1);
        assert!(ask("SCHED_OTHER", 5, 0, &[]).unwrap_err().contains("priority can only"));
        assert!(ask("SCHED_BATCH", 0, 5, &[]).unwrap_err().contains("deadline/period"));
        assert!(ask("SCHED_ISO", 0, 0, &[]).unwrap_err().contains("SCHED_ISO"));
        assert!(ask("", 0, 0, &[]).is_err() && ask("X", 0, 0, &[]).is_err());
        assert!(ask("SCHED_RR", 1, 0, &["X"]).is_err());
    }

    #[test]
    fn memory_policies_and_io_priorities() {
        let ask = |mode: &str, nodes: &str| {
            let wanted = oci::MemoryPolicy { mode: mode.into(), nodes: nodes.into(), flags: Vec::new() };
            memory_policy(&wanted, ERROR()).map(|(mode, _)| mode).map_err(|error| error.message)
        };
        assert_eq!(ask("MPOL_BIND", "0"), Ok(2));
        assert!(ask("MPOL_BIND", "").is_err() && ask("MPOL_LOCAL", "0").is_err() && ask("X", "").is_err());
        let level = |class: &str, priority| {
            io_priority(&oci::IoPriority { class: class.into(), priority }, ERROR())
                .map_err(|error| error.message)
        };
        assert_eq!(level("IOPRIO_CLASS_BE", 7), Ok((2, 7)));
        assert!(level("IOPRIO_CLASS_BE", 8).is_err() && level("x", 0).is_err());
    }
}
