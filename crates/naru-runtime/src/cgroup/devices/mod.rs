//! Which devices a container may open: the device list of v1, or an eBPF program on v2. Both come from one [`Policy`],
//! so that the same rules mean the same on every host.

mod policy;
mod program;
mod units;

use super::{Cgroup, CgroupError, files};
use crate::oci::DeviceRule;
use naru_kernel::Errno;
use naru_kernel::devbpf;
use policy::{Exception, Policy};
use std::path::Path;

pub(super) use units::for_systemd;

/// Rules of one list; runc has no bound, a BPF program has.
const RULES_MAX: usize = 4096;

pub(super) fn apply(
    cgroup: &Cgroup,
    rules: &[DeviceRule],
    warnings: &mut Vec<String>,
) -> Result<(), CgroupError> {
    if rules.is_empty() {
        return Ok(());
    }
    if rules.len() > RULES_MAX {
        return Err(CgroupError::Invalid(format!("device list: more than {RULES_MAX} rules")));
    }
    let policy = Policy::of(rules)?;
    if let Some(hierarchy) = cgroup.layout().v1_with("devices") {
        return apply_v1(&cgroup.directory_in(hierarchy), &policy);
    }
    // A hybrid host keeps the controller in v1, so this is v2 only.
    let Some(directory) = cgroup.v2_directory() else { return Err(CgroupError::NoController("devices")) };
    let fd = files::open_directory(&directory)?;
    if policy == (Policy { allow_by_default: true, exceptions: Vec::new() })
        && devbpf::count(&fd).is_ok_and(|count| count == 0)
    {
        return Ok(());
    }
    match devbpf::attach(fd, &program::compile(&policy)) {
        Ok(()) => Ok(()),
        Err(Errno::PERM) if may_go_without(rules) => {
            warnings.push("device access is not limited: the kernel refuses to load the BPF program".into());
            Ok(())
        }
        Err(errno) => Err(CgroupError::kernel("attach the device program to", &directory, errno)),
    }
}

/// Whether a refused program is only worth a warning, as in runc: inside a user namespace, where bpf(2) is not to be had
/// and no device node can be made either; or when the list forbids nothing.
fn may_go_without(rules: &[DeviceRule]) -> bool {
    let everything =
        |rule: &DeviceRule| rule.allow && "rwm".chars().all(|letter| rule.access.contains(letter));
    naru_kernel::ns::in_user_namespace() || rules.iter().all(everything)
}

/// Writes only what differs from the group's present list, additions first: a running container never loses a device
/// that it keeps. `a` is refused by the kernel once a group has children, and is written only when the default changes.
fn apply_v1(directory: &Path, wanted: &Policy) -> Result<(), CgroupError> {
    let present = Policy::parse(&files::read(&directory.join("devices.list"))?);
    let (against, with) = if wanted.allow_by_default {
        ("devices.deny", "devices.allow")
    } else {
        ("devices.allow", "devices.deny")
    };
    if present.allow_by_default != wanted.allow_by_default {
        files::write(&directory.join(with), "a")?;
        return write_all(&directory.join(against), wanted.exceptions.iter().copied());
    }
    let missing = |of: &Policy, than: &Policy| -> Vec<Exception> {
        let rest = |exception: &Exception| {
            let other = than.exceptions.iter().find(|other| other.same_devices(exception));
            Exception { access: exception.access & !other.map_or(0, |other| other.access), ..*exception }
        };
        of.exceptions.iter().map(rest).filter(|exception| exception.access != 0).collect()
    };
    write_all(&directory.join(against), missing(wanted, &present))?;
    write_all(&directory.join(with), missing(&present, wanted))
}

fn write_all(file: &Path, exceptions: impl IntoIterator<Item = Exception>) -> Result<(), CgroupError> {
    exceptions.into_iter().try_for_each(|exception| files::write(file, &exception.line()))
}
