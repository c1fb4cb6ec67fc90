//! Where the group of a container lies, from what its `cgroupsPath` says (runc's rules).
//!
//! | cgroupsPath | place |
//! |---|---|
//! | absent | `/<id>` |
//! | absolute | below the root of each hierarchy |
//! | relative | below the caller's own group; on v2 beside it, since a group with processes hands out no controllers |
//!
//! `..` never leads above the root of the hierarchy. Names of systemd (`slice:prefix:name`) are not understood here.

use super::{Cgroup, CgroupError};

impl Cgroup {
    /// The path to give to [`Cgroup::create`].
    pub fn place(cgroups_path: &str, id: &str) -> Result<String, CgroupError> {
        const FILE: &str = "/proc/self/cgroup";
        if cgroups_path.is_empty() {
            return Ok(clean(id));
        }
        if cgroups_path.starts_with('/') {
            return Ok(clean(cgroups_path));
        }
        let own =
            std::fs::read_to_string(FILE).map_err(|error| CgroupError::io("read", FILE.as_ref(), &error))?;
        Ok(clean(&format!("{}/{}", own_place(&own), clean(cgroups_path))))
    }
}

/// `a/./b/../c` without its detours.
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
    parts.join("/")
}

/// The group in a v1 hierarchy with limits; without one, the parent of the v2 group.
fn own_place(text: &str) -> &str {
    let mut unified = "";
    for line in text.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
        if controllers.split(',').any(|name| name == "memory" || name == "cpu") {
            return path;
        }
        if controllers.is_empty() {
            unified = path;
        }
    }
    unified.rsplit_once('/').map_or("", |(parent, _)| parent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        assert_eq!(Cgroup::place("", "abc").unwrap(), "abc");
        assert_eq!(Cgroup::place("/x/y", "abc").unwrap(), "x/y");
        assert_eq!(Cgroup::place("/x/../../y", "abc").unwrap(), "y");
        assert_eq!(own_place("12:memory:/user/x\n0::/init.scope\n"), "/user/x");
        assert_eq!(own_place("0::/user.slice/session-1.scope\n"), "/user.slice");
        assert_eq!(own_place("0::/\n"), "");
    }
}
