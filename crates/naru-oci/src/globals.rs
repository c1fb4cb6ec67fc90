//! What stands before the command.

use crate::error::OciError;
use crate::flags::{Args, Flag, flag, value};
use std::path::{Component, Path, PathBuf};

/// State of root's containers.
const ROOT: &str = "/run/naru/oci";
/// The same below a user's own runtime directory.
const ROOT_IN_XDG: &str = "naru/oci";

pub(crate) const FLAGS: &[Flag] = &[
    flag("debug", "", "enable debug logging"),
    value("log", "", "set the log file to write logs to (default is '/dev/stderr')"),
    value("log-format", "", "set the log format ('text' (default), or 'json')"),
    value("root", "", "root directory for storage of container state (default: \"/run/naru/oci\")"),
    value("criu", "", "path to the criu binary used for checkpoint and restore (default: \"criu\" in $PATH)"),
    flag("systemd-cgroup", "", "let systemd make the control group; cgroupsPath is \"slice:prefix:name\""),
    value("cgroup-manager", "", "who makes the control group: 'cgroupfs' (default), 'systemd' or 'disabled'"),
    value("rootless", "", "ignore cgroup permission errors ('true', 'false', or 'auto')"),
    flag("help", "h", "show help"),
    flag("version", "v", "print the version"),
];

/// Who makes control groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manager {
    Cgroupfs,
    Systemd,
    Disabled,
}

#[derive(Debug)]
pub(crate) struct Globals {
    pub root: PathBuf,
    /// `--root` was given: then it has to exist for `list`.
    pub root_given: bool,
    pub manager: Manager,
    /// Control groups that may not be made are done without.
    pub rootless: bool,
    pub criu: Option<PathBuf>,
}

impl Globals {
    pub fn from_flags(args: &Args<'_>) -> Result<Self, OciError> {
        let manager = match (args.value("cgroup-manager"), args.has("systemd-cgroup")) {
            (None | Some("systemd"), true) | (Some("systemd"), false) => Manager::Systemd,
            (None | Some("cgroupfs"), false) => Manager::Cgroupfs,
            (Some("disabled"), false) => Manager::Disabled,
            (Some(other), systemd) => {
                let why = if systemd { "not with --systemd-cgroup" } else { "no such manager" };
                return Err(OciError::BadValue {
                    flag: "cgroup-manager",
                    value: other.into(),
                    why: why.into(),
                });
            }
        };
        let rootless = match args.value("rootless") {
            None | Some("auto") => !is_real_root(),
            Some("true") => true,
            Some("false") => false,
            Some(other) => {
                let why = "neither true, false nor auto".into();
                return Err(OciError::BadValue { flag: "rootless", value: other.into(), why });
            }
        };
        let root_given = args.is_set("root");
        let root =
            if root_given { given_root(args.value("root").unwrap_or_default())? } else { default_root() };
        Ok(Self { root, root_given, manager, rootless, criu: args.value("criu").map(PathBuf::from) })
    }
}

fn default_root() -> PathBuf {
    let own = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty());
    match own {
        Some(dir) if !is_real_root() => Path::new(&dir).join(ROOT_IN_XDG),
        _ => PathBuf::from(ROOT),
    }
}

/// Absolute, without `.` and `..`, and not the file system's own root, whose directories would be taken for containers.
fn given_root(text: &str) -> Result<PathBuf, OciError> {
    let mut root = PathBuf::from("/");
    let absolute = std::path::absolute(text).unwrap_or_else(|_| root.clone());
    for part in absolute.components() {
        match part {
            Component::ParentDir => {
                root.pop();
            }
            Component::Normal(name) => root.push(name),
            _ => {}
        }
    }
    if root.parent().is_none() {
        return Err(OciError::Refused("Option --root argument should not be set to /".into()));
    }
    Ok(root)
}

/// Root of the initial user namespace, whose map is the whole range (user_namespaces(7)).
pub(crate) fn is_real_root() -> bool {
    rustix::process::geteuid().is_root() && !naru_kernel::ns::in_user_namespace()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots() {
        assert_eq!(given_root("/a/./b/../c").unwrap(), Path::new("/a/c"));
        assert!(given_root("").is_err() && given_root("/").is_err() && given_root("/a/../..").is_err());
    }
}
