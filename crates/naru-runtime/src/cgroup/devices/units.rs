//! The device list in systemd's words (systemd.resource-control(5), `DeviceAllow=`).

use super::policy::{Exception, Kind, MKNOD, Policy, READ, WRITE};
use crate::cgroup::CgroupError;
use crate::oci::DeviceRule;

/// Nodes and accesses of a list that denies the rest. `None`: what systemd cannot say, a list that allows the rest or a
/// minor number of every major one; then only our own program holds.
pub(in crate::cgroup) fn for_systemd(
    rules: &[DeviceRule],
) -> Result<Option<Vec<(String, String)>>, CgroupError> {
    let policy = Policy::of(rules)?;
    if rules.is_empty() || policy.allow_by_default {
        return Ok(None);
    }
    let drivers = std::fs::read_to_string("/proc/devices").unwrap_or_default();
    let mut list = Vec::new();
    for exception in &policy.exceptions {
        let Exception { kind, major, minor, access } = *exception;
        let word = if kind == Kind::Char { "char" } else { "block" };
        let node = match (major, minor) {
            (Some(major), Some(minor)) => format!("/dev/{word}/{major}:{minor}"),
            (None, None) => format!("{word}-*"),
            (None, Some(_)) => return Ok(None),
            // Without a driver there is no device.
            (Some(major), None) => match driver(&drivers, kind, major) {
                Some(name) => format!("{word}-{name}"),
                None => continue,
            },
        };
        let letters = [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')];
        let access = letters.iter().filter(|(bit, _)| access & bit != 0).map(|(_, letter)| letter).collect();
        list.push((node, access));
    }
    Ok(Some(list))
}

fn driver(drivers: &str, kind: Kind, major: u32) -> Option<&str> {
    let (chars, blocks) = drivers.split_once("Block devices:").unwrap_or((drivers, ""));
    let lines = if kind == Kind::Char { chars } else { blocks }.lines();
    let mut pairs = lines.filter_map(|line| line.trim().split_once(' '));
    pairs.find(|(number, _)| number.parse() == Ok(major)).map(|(_, name)| name.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists() {
        let rule = |allow, kind: &str, major, minor, access: &str| DeviceRule {
            allow,
            kind: kind.into(),
            major,
            minor,
            access: access.into(),
        };
        let deny = rule(false, "a", None, None, "rwm");
        let rules = [deny.clone(), rule(true, "c", Some(1), Some(3), "rw"), rule(true, "b", None, None, "m")];
        let list = for_systemd(&rules).unwrap().unwrap();
        assert_eq!(list, [("/dev/char/1:3".into(), "rw".into()), ("block-*".into(), "m".to_owned())]);
        assert_eq!(for_systemd(&[deny, rule(true, "c", None, Some(3), "r")]).unwrap(), None);
        assert_eq!(for_systemd(&[rule(true, "a", None, None, "rwm")]).unwrap(), None);
        let text = "Character devices:\n  1 mem\n136 pts\n\nBlock devices:\n  1 ramdisk\n";
        assert_eq!(driver(text, Kind::Char, 136), Some("pts"));
        assert_eq!(driver(text, Kind::Block, 1), Some("ramdisk"));
        assert_eq!(driver(text, Kind::Block, 136), None);
    }
}
