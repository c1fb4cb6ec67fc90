//! Where a container's control group lies, by runc's rules, and who makes it.
//!
//! | cgroupsPath | place |
//! |---|---|
//! | absent | `/<id>` |
//! | absolute | below the root of each hierarchy |
//! | relative | below the caller's own group (v2: beside it, since a group with processes hands out no controllers) |
//! | `slice:prefix:name` | with systemd: the scope `prefix-name.scope` in that slice |

use crate::error::OciError;
use crate::globals::{Globals, Manager, is_real_root};
use crate::log::Log;
use crate::state::{CgroupRecord, Driver};
use naru_kernel::Errno;
use naru_runtime::cgroup::{Cgroup, CgroupError};
use naru_runtime::oci::{DeviceRule, Spec};

/// Whether limits of the rdma controller are set.
pub(crate) const RDMA: bool = false;

/// Devices that every container may use, as runc and config-linux.md ("Default Devices") have them: any node may be
/// made, these may be opened.
const DEVICES: [(&str, Option<i64>, Option<i64>, &str); 10] = [
    ("c", None, None, "m"),
    ("b", None, None, "m"),
    ("c", Some(1), Some(3), "rwm"),
    ("c", Some(1), Some(8), "rwm"),
    ("c", Some(1), Some(7), "rwm"),
    ("c", Some(5), Some(0), "rwm"),
    ("c", Some(1), Some(5), "rwm"),
    ("c", Some(1), Some(9), "rwm"),
    ("c", Some(136), None, "rwm"),
    ("c", Some(5), Some(2), "rwm"),
];

/// Makes the group and sets its limits. `None`: done without, as the caller allowed.
pub(crate) fn create(
    globals: &Globals,
    spec: &Spec,
    record: Option<&CgroupRecord>,
    log: &mut Log,
) -> Result<Option<Cgroup>, OciError> {
    let Some(record) = record else { return Ok(None) };
    let cgroup = open(record)?;
    cgroup.check_free()?;
    let resources = &spec.linux.resources;
    let created = match record.driver {
        Driver::Cgroupfs => cgroup.make().map(|()| cgroup),
        Driver::Systemd => Cgroup::start_scope(&record.path, !is_real_root(), resources, &spec.annotations),
    };
    let made = created.and_then(|cgroup| {
        let warnings = cgroup.apply(resources)?;
        Ok((cgroup, warnings))
    });
    match made {
        Ok((cgroup, warnings)) => {
            log.warn_all(&warnings);
            Ok(Some(cgroup))
        }
        Err(error) if globals.rootless && is_refusal(&error) => {
            log.warn(&format!("the container has no control group of its own: {error}"));
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Where it will be; `None` when there shall be none.
pub(crate) fn place(globals: &Globals, id: &str, asked: &str) -> Result<Option<CgroupRecord>, OciError> {
    let path = match globals.manager {
        Manager::Disabled => return Ok(None),
        Manager::Systemd => {
            let path = Cgroup::place_scope(asked, id, !is_real_root())?;
            return Ok(Some(CgroupRecord { path, driver: Driver::Systemd }));
        }
        Manager::Cgroupfs if asked.is_empty() => format!("/{id}"),
        Manager::Cgroupfs if asked.starts_with('/') => clean(asked),
        Manager::Cgroupfs => clean(&format!("{}/{}", own_place()?, clean(asked))),
    };
    Ok(Some(CgroupRecord { path, driver: Driver::Cgroupfs }))
}

pub(crate) fn open(record: &CgroupRecord) -> Result<Cgroup, OciError> {
    match record.driver {
        Driver::Cgroupfs => Ok(Cgroup::open(&record.path)?),
        Driver::Systemd => Ok(Cgroup::open_scope(&record.path, !is_real_root())?),
    }
}

pub(crate) fn is_frozen(record: &CgroupRecord) -> bool {
    open(record).is_ok_and(|cgroup| cgroup.is_frozen())
}

/// A device list that denies everything gets the devices that every container has: callers leave them to the runtime.
pub(crate) fn add_default_devices(spec: &mut Spec) {
    let rules = &mut spec.linux.resources.devices;
    if rules.iter().any(|rule| !rule.allow) {
        rules.extend(DEVICES.map(|(kind, major, minor, access)| DeviceRule {
            allow: true,
            kind: kind.into(),
            major,
            minor,
            access: access.into(),
        }));
    }
}

/// `a/./b/../c` without its detours: a path must not lead out of the hierarchy.
fn clean(path: &str) -> String {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            name => parts.push(name),
        }
    }
    format!("/{}", parts.join("/"))
}

fn own_place() -> Result<String, OciError> {
    const FILE: &str = "/proc/self/cgroup";
    let text = std::fs::read_to_string(FILE).map_err(|cause| OciError::file("read", FILE.as_ref(), cause))?;
    Ok(own_place_in(&text))
}

/// Of a v1 hierarchy with a controller, since those have the limits; without one of the unified hierarchy.
fn own_place_in(text: &str) -> String {
    let mut unified = "";
    for line in text.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        if controllers.split(',').any(|name| name == "memory" || name == "cpu") {
            return path.trim_end_matches('/').to_owned();
        }
        if controllers.is_empty() {
            unified = path;
        }
    }
    unified.rsplit_once('/').map_or("", |(parent, _)| parent).to_owned()
}

fn is_refusal(error: &CgroupError) -> bool {
    matches!(
        error,
        CgroupError::Kernel { source: Errno::ACCESS | Errno::PERM | Errno::ROFS, .. }
            | CgroupError::NoController(_)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_inside() {
        assert_eq!(clean("/a//b/./c"), "/a/b/c");
        assert_eq!(clean("../../x"), "/x");
        assert_eq!(clean("a/../.."), "/");
    }

    #[test]
    fn relative_paths_start_at_the_callers_group() {
        assert_eq!(own_place_in("12:memory:/user/x\n0::/init.scope\n"), "/user/x");
        assert_eq!(own_place_in("4:memory:/\n"), "");
        assert_eq!(own_place_in("0::/user.slice/session-1.scope\n"), "/user.slice");
        assert_eq!(own_place_in("0::/\n"), "");
    }
}
