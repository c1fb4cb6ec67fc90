//! Control group files: reading, writing, making and removing directories.

use super::CgroupError;
use naru_kernel::Errno;
use rustix::fs::{Mode, OFlags};
use std::collections::BTreeMap;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

pub(super) fn read(path: &Path) -> Result<String, CgroupError> {
    fs::read_to_string(path).map_err(|error| CgroupError::io("read", path, &error))
}

/// A file with one number; `max` is `u64::MAX`.
pub(super) fn read_number(path: &Path) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    match text.trim() {
        "max" => Some(u64::MAX),
        number => number.parse().ok(),
    }
}

/// Writes in one write(2), as the kernel wants it.
pub(super) fn write(path: &Path, value: &str) -> Result<(), CgroupError> {
    let fd = open_write(path)?;
    rustix::io::write(&fd, value.as_bytes())
        .map(drop)
        .map_err(|errno| CgroupError::kernel("write to", path, errno))
}

pub(super) fn open_write(path: &Path) -> Result<OwnedFd, CgroupError> {
    rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| CgroupError::kernel("open", path, errno))
}

pub(super) fn open_directory(path: &Path) -> Result<OwnedFd, CgroupError> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| CgroupError::kernel("open", path, errno))
}

/// `key value` lines, as in memory.stat.
pub(super) fn flat_keyed(text: &str) -> BTreeMap<String, u64> {
    let pair = |line: &str| {
        let (key, value) = line.split_once(' ')?;
        Some((key.to_owned(), value.trim().parse().ok()?))
    };
    text.lines().filter_map(pair).collect()
}

/// Makes each component of `path` below `root` and calls `prepare` on each, top-most first.
pub(super) fn make_directories(
    root: &Path,
    path: &str,
    prepare: impl Fn(&Path) -> Result<(), CgroupError>,
) -> Result<(), CgroupError> {
    let mut directory = root.to_owned();
    for name in path.split('/') {
        directory.push(name);
        match rustix::fs::mkdir(&directory, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(CgroupError::kernel("make", &directory, errno)),
        }
        prepare(&directory)?;
    }
    Ok(())
}

/// A new v1 cpuset is empty and takes no process: it starts with what its parent has.
pub(super) fn inherit_cpuset(directory: &Path) -> Result<(), CgroupError> {
    let Some(parent) = directory.parent() else { return Ok(()) };
    for file in ["cpuset.cpus", "cpuset.mems"] {
        if read(&directory.join(file))?.trim().is_empty() {
            write(&directory.join(file), read(&parent.join(file))?.trim())?;
        }
    }
    Ok(())
}

/// Hands every controller that `directory` has to its children, each on its own: one that cannot be enabled (a group
/// with processes, a threaded domain) must not keep the others away.
pub(super) fn enable_controllers(directory: &Path) {
    let available = read(&directory.join("cgroup.controllers")).unwrap_or_default();
    let enabled = read(&directory.join("cgroup.subtree_control")).unwrap_or_default();
    for name in available.split_whitespace().filter(|name| !enabled.split_whitespace().any(|on| on == *name))
    {
        // A limit that needs the missing controller fails later, by name.
        let _ = write(&directory.join("cgroup.subtree_control"), &format!("+{name}"));
    }
}

/// Calls `visit` on the group and every sub-group. A group that vanishes meanwhile is passed over.
pub(super) fn walk(
    directory: &Path,
    visit: &mut dyn FnMut(&Path) -> Result<(), CgroupError>,
) -> Result<(), CgroupError> {
    match visit(directory) {
        Err(CgroupError::Kernel { source: Errno::NOENT | Errno::NODEV, .. }) => return Ok(()),
        other => other?,
    }
    for child in children(directory)? {
        walk(&child, visit)?;
    }
    Ok(())
}

/// Removes the group after its sub-groups; retries while a process is still leaving.
pub(super) fn remove_tree(directory: &Path, attempts: u32, pause: Duration) -> Result<(), CgroupError> {
    for _ in 0..attempts {
        match rustix::fs::rmdir(directory) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::BUSY | Errno::NOTEMPTY) => {}
            Err(errno) => return Err(CgroupError::kernel("remove", directory, errno)),
        }
        let below = children(directory)?;
        if below.is_empty() {
            std::thread::sleep(pause);
        }
        for child in below {
            remove_tree(&child, attempts, pause)?;
        }
    }
    Err(CgroupError::Timeout { step: "remove", path: directory.to_owned(), attempts })
}

fn children(directory: &Path) -> Result<Vec<std::path::PathBuf>, CgroupError> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(CgroupError::io("list", directory, &error)),
    };
    let is_dir = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_dir());
    Ok(entries.flatten().filter(is_dir).map(|entry| entry.path()).collect())
}
