//! The small controllers: processes, huge pages, network classes, RDMA, and v2 files by name.

use super::or_max;
use crate::cgroup::{Cgroup, CgroupError, files};
use crate::oci::{HugepageLimit, Network, Pids, Rdma};
use naru_kernel::Errno;
use std::collections::BTreeMap;

/// Bytes of a v2 file name and of a device name that are let through to the kernel.
const NAME_BYTES_MAX: usize = 255;

pub(super) fn pids(cgroup: &Cgroup, pids: &Pids) -> Result<(), CgroupError> {
    let Some(limit) = pids.limit.filter(|limit| *limit != 0) else { return Ok(()) };
    let (directory, _) = cgroup.controller_directory("pids").ok_or(CgroupError::NoController("pids"))?;
    files::write(&directory.join("pids.max"), &or_max(limit))
}

/// Reservations are limited as well (mmap(2) with MAP_HUGETLB reserves; a fault against the limit alone is SIGBUS).
pub(super) fn hugepages(cgroup: &Cgroup, limits: &[HugepageLimit]) -> Result<(), CgroupError> {
    for HugepageLimit { page_size, limit } in limits {
        if !is_page_size(page_size) {
            return Err(CgroupError::Invalid(format!(
                "huge page size {page_size:?}: it is a number and KB, MB or GB"
            )));
        }
        let (directory, v2) =
            cgroup.controller_directory("hugetlb").ok_or(CgroupError::NoController("hugetlb"))?;
        let end = if v2 { "max" } else { "limit_in_bytes" };
        let file = directory.join(format!("hugetlb.{page_size}.{end}"));
        match files::write(&file, &limit.to_string()) {
            Err(CgroupError::Kernel { source: Errno::NOENT, .. }) => {
                let what = format!("huge page size {page_size:?}: this machine does not have it");
                return Err(CgroupError::Invalid(what));
            }
            other => other?,
        }
        match files::write(&directory.join(format!("hugetlb.{page_size}.rsvd.{end}")), &limit.to_string()) {
            // Linux before 5.7.
            Err(CgroupError::Kernel { source: Errno::NOENT, .. }) => {}
            other => other?,
        }
    }
    Ok(())
}

/// `2MB`, as config-linux.md asks: `^[1-9][0-9]*[KMG]B$`.
fn is_page_size(text: &str) -> bool {
    let digits = ["KB", "MB", "GB"].iter().find_map(|unit| text.strip_suffix(unit)).unwrap_or_default();
    !digits.is_empty() && !digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit())
}

pub(super) fn network(cgroup: &Cgroup, network: &Network) -> Result<(), CgroupError> {
    let place = |controller: &'static str| match cgroup.layout().v1_with(controller) {
        Some(hierarchy) => Ok(cgroup.directory_in(hierarchy)),
        None if cgroup.layout().is_v2_only() => Err(CgroupError::NotInV2("network class or priority")),
        None => Err(CgroupError::NoController(controller)),
    };
    if let Some(class) = network.class_id.filter(|class| *class != 0) {
        files::write(&place("net_cls")?.join("net_cls.classid"), &class.to_string())?;
    }
    for entry in &network.priorities {
        files::write(
            &place("net_prio")?.join("net_prio.ifpriomap"),
            &format!("{} {}", entry.name, entry.priority),
        )?;
    }
    Ok(())
}

pub(super) fn rdma(cgroup: &Cgroup, limits: &BTreeMap<String, Rdma>) -> Result<(), CgroupError> {
    for (device, limit) in limits {
        if device.is_empty() || device.len() > NAME_BYTES_MAX || device.contains(char::is_whitespace) {
            return Err(CgroupError::Invalid(format!("RDMA device {device:?}")));
        }
        let (directory, _) = cgroup.controller_directory("rdma").ok_or(CgroupError::NoController("rdma"))?;
        let mut line = device.clone();
        for (key, value) in [("hca_handle", limit.hca_handles), ("hca_object", limit.hca_objects)] {
            if let Some(value) = value {
                line.push_str(&format!(" {key}={value}"));
            }
        }
        files::write(&directory.join("rdma.max"), &line)?;
    }
    Ok(())
}

/// Files of the v2 group by name, each value as it is; several lines are several writes, as the kernel takes one
/// setting a write.
pub(super) fn unified(cgroup: &Cgroup, entries: &BTreeMap<String, String>) -> Result<(), CgroupError> {
    for (file, value) in entries {
        let invalid = |why: &str| CgroupError::Invalid(format!("unified resource {file:?}: {why}"));
        let directory = cgroup.v2_directory().ok_or_else(|| invalid("this host has no cgroup v2"))?;
        if file.contains('/') || file.contains('\0') || file.len() > NAME_BYTES_MAX {
            return Err(invalid("must be a file name (no slashes)"));
        }
        let Some((controller, _)) = file.split_once('.').filter(|(controller, _)| !controller.is_empty())
        else {
            return Err(invalid("must be in the form CONTROLLER.PARAMETER"));
        };
        for line in value.lines() {
            match files::write(&directory.join(file), line) {
                Err(CgroupError::Kernel { source: Errno::NOENT | Errno::ACCESS | Errno::PERM, .. })
                    if controller != "cgroup" && !cgroup.has_v2_controller(controller) =>
                {
                    return Err(invalid(&format!("can't be set: controller {controller:?} not available")));
                }
                other => other?,
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_sizes() {
        for good in ["2MB", "1GB", "64KB", "16GB"] {
            assert!(is_page_size(good), "{good}");
        }
        for bad in ["", "MB", "02MB", "2mb", "2M", "2/../MB", "-2MB", "2MiB"] {
            assert!(!is_page_size(bad), "{bad}");
        }
    }
}
