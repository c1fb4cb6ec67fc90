//! Names of units, and where their groups lie.
//!
//! | cgroupsPath | unit | slice |
//! |---|---|---|
//! | absent | `naru-<id>.scope` | the default |
//! | `slice:prefix:name` | `prefix-name.scope` | `slice` |
//! | `:prefix:name` | `prefix-name.scope` | the default: `system.slice`, for a user's manager `user.slice` |
//! | `slice::name` | `name.scope` | `slice` |

use crate::cgroup::CgroupError;

/// Bytes of a unit's name (UNIT_NAME_MAX of systemd).
const NAME_BYTES_MAX: usize = 255;
/// Of the scope of a container that asked for no place.
const PREFIX: &str = "naru";

/// The scope's path below its manager's group.
pub(in crate::cgroup) fn place(cgroups_path: &str, id: &str, user: bool) -> Result<String, CgroupError> {
    let whole = format!(":{PREFIX}:{id}");
    let asked = if cgroups_path.is_empty() { &whole } else { cgroups_path };
    let parts: Vec<&str> = asked.split(':').collect();
    let &[slice, prefix, name] = parts.as_slice() else {
        return Err(CgroupError::Invalid(format!(
            "cgroupsPath {asked:?}: with systemd it has the form \"slice:prefix:name\""
        )));
    };
    if name.ends_with(".slice") {
        return Err(CgroupError::Invalid(format!(
            "cgroupsPath {asked:?}: a container is a scope, not a slice"
        )));
    }
    let default = if user { "user.slice" } else { "system.slice" };
    let slice = expand(if slice.is_empty() { default } else { slice })?;
    let scope = if prefix.is_empty() { format!("{name}.scope") } else { format!("{prefix}-{name}.scope") };
    check(&scope)?;
    Ok(format!("{slice}/{scope}"))
}

/// `a-b.slice` lies in `a.slice` (systemd.slice(5)); `-.slice` is the root.
fn expand(slice: &str) -> Result<String, CgroupError> {
    let invalid = || CgroupError::Invalid(format!("slice {slice:?}: no such name of a slice is possible"));
    check(slice)?;
    let name = slice.strip_suffix(".slice").filter(|name| !name.is_empty()).ok_or_else(invalid)?;
    if name == "-" {
        return Ok(String::new());
    }
    let mut path = String::new();
    for (at, _) in name.match_indices('-').chain([(name.len(), "")]) {
        let outer = name.get(..at).unwrap_or_default();
        if outer.is_empty() || outer.ends_with('-') {
            return Err(invalid());
        }
        path.push_str(&format!("/{outer}.slice"));
    }
    Ok(path)
}

/// The unit and the slice it is in.
pub(in crate::cgroup) fn unit_and_slice(path: &str) -> (&str, &str) {
    let (slice, unit) = path.trim_matches('/').rsplit_once('/').unwrap_or(("-.slice", path));
    (unit.trim_matches('/'), slice.rsplit('/').next().unwrap_or(slice))
}

/// systemd refuses other names too, but this one becomes a path as well.
fn check(name: &str) -> Result<(), CgroupError> {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b":-_.\\".contains(&byte);
    if name.len() > NAME_BYTES_MAX || !name.bytes().all(fine) || name.starts_with('.') {
        return Err(CgroupError::Invalid(format!("unit {name:?}: no such name is possible")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        let table = [
            ("", false, "/system.slice/naru-id.scope"),
            ("", true, "/user.slice/naru-id.scope"),
            ("machine.slice:p:n", false, "/machine.slice/p-n.scope"),
            ("a-b-c.slice:p:n", false, "/a.slice/a-b.slice/a-b-c.slice/p-n.scope"),
            (":p:n", true, "/user.slice/p-n.scope"),
            ("-.slice:p:n", false, "/p-n.scope"),
            ("x.slice::n", false, "/x.slice/n.scope"),
        ];
        for (asked, user, expected) in table {
            assert_eq!(place(asked, "id", user).unwrap(), expected, "{asked}");
        }
        for bad in ["/a/b", "a:b", "a:b:c", ".slice:p:n", "a--b.slice:p:n", "-a.slice:p:n", "a-.slice:p:n"] {
            assert!(place(bad, "id", false).is_err(), "{bad}");
        }
        for bad in ["a/b.slice:p:n", "a.slice:p:../n", "a.slice:p:n.slice", "a.slice:..:n", "a.slice:p:n\n"] {
            assert!(place(bad, "id", false).is_err(), "{bad}");
        }
        assert!(place(&format!("::{}", "n".repeat(255)), "id", false).is_err());
    }

    #[test]
    fn paths_taken_apart() {
        assert_eq!(unit_and_slice("a.slice/a-b.slice/u.scope"), ("u.scope", "a-b.slice"));
        assert_eq!(unit_and_slice("/u.scope"), ("u.scope", "-.slice"));
    }
}
