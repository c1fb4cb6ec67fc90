//! What the parent does to a child that stands at [`crate::plan::Point::Born`]: things that need rights which the child,
//! in a user namespace of its own, no longer has.

use crate::netdev::Device;
use naru_kernel::ns::NsFlags;
use naru_kernel::task::{self, SchedAttr};
use naru_kernel::{Errno, rlimit};
use std::path::PathBuf;

#[derive(Debug)]
pub(crate) enum Outside {
    OomScoreAdj(i32),
    Rlimit {
        resource: u32,
        soft: u64,
        hard: u64,
    },
    IoPriority {
        class: u16,
        level: u16,
    },
    Scheduler(SchedAttr),
    /// Lines for /proc/<pid>/timens_offsets.
    TimeOffsets(String),
    /// The `tasks` file of a resctrl group.
    Resctrl(PathBuf),
    NetDevice(Device),
}

impl Outside {
    pub fn perform(&self, pid: i32) -> Result<(), Errno> {
        let write = |path: PathBuf, text: &str| {
            std::fs::write(path, text).map_err(|cause| Errno::from_io_error(&cause).unwrap_or(Errno::IO))
        };
        let proc = |name: &str| PathBuf::from(format!("/proc/{pid}/{name}"));
        match self {
            Self::OomScoreAdj(score) => write(proc("oom_score_adj"), &score.to_string()),
            Self::Rlimit { resource, soft, hard } => rlimit::set_of(pid, *resource, *soft, *hard),
            Self::IoPriority { class, level } => task::set_io_priority(pid, *class, *level),
            Self::Scheduler(attr) => task::set_scheduler(pid, *attr),
            Self::TimeOffsets(lines) => write(proc("timens_offsets"), lines),
            Self::Resctrl(tasks) => write(tasks.clone(), &pid.to_string()),
            Self::NetDevice(device) => {
                device.perform(pid).map_err(|cause| Errno::from_io_error(&cause).unwrap_or(Errno::IO))
            }
        }
    }

    /// As the same steps in a child's plan: limits that cannot be had are a warning.
    pub fn only_warns(&self) -> bool {
        matches!(self, Self::OomScoreAdj(_) | Self::Rlimit { .. })
    }

    pub fn describe(&self) -> String {
        match self {
            Self::OomScoreAdj(score) => format!("set oom_score_adj to {score}"),
            Self::Rlimit { resource, soft, hard } => {
                format!("set resource limit {resource} to {soft}:{hard}")
            }
            Self::IoPriority { class, level } => {
                format!("set the io priority to class {class}, level {level}")
            }
            Self::Scheduler(attr) => format!("set the scheduling policy {}", attr.policy),
            Self::TimeOffsets(_) => "set the offsets of the time namespace".into(),
            Self::Resctrl(tasks) => format!("write the process into {}", tasks.display()),
            Self::NetDevice(device) => {
                format!("move the network device {} into the container as {}", device.name, device.inside)
            }
        }
    }
}

/// Kinds that /proc/<pid>/ns has a file for, with their flags.
pub(crate) const NAMESPACE_FILES: [(&str, NsFlags); 8] = [
    ("user", naru_kernel::ns::NEWUSER),
    ("mnt", naru_kernel::ns::NEWNS),
    ("net", naru_kernel::ns::NEWNET),
    ("ipc", naru_kernel::ns::NEWIPC),
    ("uts", naru_kernel::ns::NEWUTS),
    ("cgroup", naru_kernel::ns::NEWCGROUP),
    ("pid", naru_kernel::ns::NEWPID),
    ("time", naru_kernel::ns::NEWTIME),
];

/// The namespaces of `pid` that are not the caller's own.
pub(crate) fn foreign_namespaces(pid: i32) -> NsFlags {
    let read = |process: &str, name: &str| std::fs::read_link(format!("/proc/{process}/ns/{name}")).ok();
    let theirs = pid.to_string();
    NAMESPACE_FILES
        .iter()
        .filter(|(name, _)| {
            let their = read(&theirs, name);
            their.is_some() && their != read("thread-self", name)
        })
        .fold(0, |flags, (_, flag)| flags | flag)
}
