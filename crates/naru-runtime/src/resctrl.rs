//! Intel Resource Director Technology (config-linux.md, "IntelRdt"): groups in the resctrl file system.

use crate::oci::IntelRdt;
use std::io;
use std::path::{Path, PathBuf};

/// A group could not be had.
#[derive(Debug, thiserror::Error)]
pub enum ResctrlError {
    #[error(
        "intelRdt is asked for, but no resctrl file system is mounted (this CPU or kernel may have none)"
    )]
    NotMounted,
    #[error("invalid intelRdt.closID {0:?}")]
    ClosId(String),
    #[error("intelRdt: {0} must not contain a newline")]
    Newline(&'static str),
    #[error("intelRdt.memBwSchema must start with \"MB:\": {0:?}")]
    MemBw(String),
    #[error("intelRdt: the group {} does not exist, and there is no schema to make it with", .0.display())]
    NoGroup(PathBuf),
    #[error("intelRdt: the schemata of the existing group {} are not the ones asked for: no line {line:?}", path.display())]
    Mismatch { path: PathBuf, line: String },
    #[error("intelRdt: cannot {step} {}: {source}", path.display())]
    Io { step: &'static str, path: PathBuf, source: io::Error },
}

/// Makes the groups that `wanted` asks for; the `tasks` files that the first process is to be written into.
pub(crate) fn prepare(wanted: &IntelRdt, id: &str) -> Result<Vec<PathBuf>, ResctrlError> {
    let lines = lines(wanted)?;
    let mount = mount_point().ok_or(ResctrlError::NotMounted)?;
    let group = group(&mount, wanted, id)?;
    let own = wanted.clos_id.is_empty();
    if !own && group.is_dir() {
        if group != mount {
            check_schemata(&group, &lines)?;
        }
    } else if !own && lines.is_empty() {
        return Err(ResctrlError::NoGroup(group));
    } else {
        make(&group)?;
        write_schemata(&group, &lines)?;
    }
    let mut tasks = vec![group.join("tasks")];
    if wanted.enable_monitoring {
        let monitor = group.join("mon_groups").join(id);
        make(&monitor)?;
        tasks.push(monitor.join("tasks"));
    }
    Ok(tasks)
}

/// Removes what the runtime made for the container: its own group, and the monitoring group.
pub fn remove(wanted: &IntelRdt, id: &str) -> Result<(), ResctrlError> {
    let Some(mount) = mount_point() else { return Ok(()) };
    let group = group(&mount, wanted, id)?;
    if wanted.enable_monitoring {
        remove_dir(&group.join("mon_groups").join(id))?;
    }
    if wanted.clos_id.is_empty() { remove_dir(&group) } else { Ok(()) }
}

fn group(mount: &Path, wanted: &IntelRdt, id: &str) -> Result<PathBuf, ResctrlError> {
    match wanted.clos_id.as_str() {
        "" => Ok(mount.join(id)),
        "/" => Ok(mount.to_owned()),
        name if name == "." || name == ".." || name.contains('/') => {
            Err(ResctrlError::ClosId(name.to_owned()))
        }
        name => Ok(mount.join(name)),
    }
}

/// In the order that the specification has them written.
fn lines(wanted: &IntelRdt) -> Result<Vec<&str>, ResctrlError> {
    let single = [("l3CacheSchema", &wanted.l3_cache_schema), ("memBwSchema", &wanted.mem_bw_schema)];
    let mut lines = Vec::new();
    for (name, value) in single.into_iter().chain(wanted.schemata.iter().map(|line| ("schemata", line))) {
        if value.contains('\n') {
            return Err(ResctrlError::Newline(name));
        }
        if !value.is_empty() {
            lines.push(value.as_str());
        }
    }
    if !wanted.mem_bw_schema.is_empty() && !wanted.mem_bw_schema.starts_with("MB:") {
        return Err(ResctrlError::MemBw(wanted.mem_bw_schema.clone()));
    }
    Ok(lines)
}

fn check_schemata(group: &Path, lines: &[&str]) -> Result<(), ResctrlError> {
    if lines.is_empty() {
        return Ok(());
    }
    let path = group.join("schemata");
    let text = std::fs::read_to_string(&path).map_err(failed("read", &path))?;
    let present: Vec<&str> = text.lines().map(str::trim).collect();
    match lines.iter().find(|line| !present.contains(&line.trim())) {
        None => Ok(()),
        Some(line) => Err(ResctrlError::Mismatch { path: group.to_owned(), line: (*line).to_owned() }),
    }
}

fn write_schemata(group: &Path, lines: &[&str]) -> Result<(), ResctrlError> {
    let path = group.join("schemata");
    lines
        .iter()
        .try_for_each(|line| std::fs::write(&path, format!("{line}\n")).map_err(failed("write", &path)))
}

fn make(path: &Path) -> Result<(), ResctrlError> {
    match std::fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other.map_err(failed("make", path)),
    }
}

fn remove_dir(path: &Path) -> Result<(), ResctrlError> {
    match std::fs::remove_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other.map_err(failed("remove", path)),
    }
}

fn failed<'a>(step: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> ResctrlError + 'a {
    move |source| ResctrlError::Io { step, path: path.to_owned(), source }
}

fn mount_point() -> Option<PathBuf> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    let line = text.lines().find(|line| line.contains(" - resctrl "))?;
    line.split(' ').nth(4).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemas_in_order_and_names_that_stay_inside() {
        let wanted = IntelRdt {
            l3_cache_schema: "L3:0=f".into(),
            mem_bw_schema: "MB:0=20".into(),
            schemata: vec!["L2:0=f".into()],
            ..IntelRdt::default()
        };
        assert_eq!(lines(&wanted).unwrap(), ["L3:0=f", "MB:0=20", "L2:0=f"]);
        let bad = IntelRdt { mem_bw_schema: "x".into(), ..IntelRdt::default() };
        assert!(matches!(lines(&bad), Err(ResctrlError::MemBw(_))));
        let at = |name: &str| {
            group(Path::new("/r"), &IntelRdt { clos_id: name.into(), ..IntelRdt::default() }, "id").ok()
        };
        assert_eq!(at(""), Some("/r/id".into()));
        assert_eq!(at("/"), Some("/r".into()));
        assert_eq!((at(".."), at("a/b")), (None, None));
    }

    #[test]
    fn groups_in_a_directory() {
        let dir = tempfile::tempdir().unwrap();
        let group = dir.path().join("g");
        make(&group).unwrap();
        write_schemata(&group, &["L3:0=f"]).unwrap();
        check_schemata(&group, &["L3:0=f"]).unwrap();
        assert!(matches!(check_schemata(&group, &["L3:0=1"]), Err(ResctrlError::Mismatch { .. })));
    }
}
