//! Device nodes of the host, looked up for `--device` and for privileged containers.

use crate::lower::ResolvedDevice;
use crate::oci;
use naru_types::spec::Device;
use naru_types::{Error, Result};
use rustix::fs::FileType;
use std::path::Path;

/// Directories of /dev that hold no devices of the host: own mounts of each container, or huge.
const SKIPPED: [&str; 6] = ["pts", "shm", "fd", "mqueue", ".udev", ".lxc"];

/// Depth below /dev that is searched for a privileged container.
const DEPTH_MAX: u32 = 8;

/// `--device`: the node itself, or every node below a directory.
pub fn resolve(device: &Device) -> Result<Vec<ResolvedDevice>> {
    let target =
        if device.container.is_empty() { device.host.to_string_lossy() } else { (&device.container).into() };
    let access = if device.permissions.is_empty() { "rwm" } else { &device.permissions };
    if access.chars().any(|letter| !"rwm".contains(letter)) {
        return Err(Error::invalid(format!("invalid device mode: {access}")));
    }
    let meta = std::fs::metadata(&device.host).map_err(|error| {
        let text = format!(
            "error gathering device information while adding custom device {:?}",
            device.host.to_string_lossy()
        );
        Error::invalid(text).with_source(error)
    })?;
    let mut found = Vec::new();
    if meta.is_dir() {
        collect(&device.host, &target, access, DEPTH_MAX, &mut found);
    } else {
        found.extend(node(&device.host, &target, access));
    }
    if found.is_empty() {
        let text = format!(
            "error gathering device information while adding custom device {:?}: not a device node",
            device.host.to_string_lossy()
        );
        return Err(Error::invalid(text));
    }
    Ok(found)
}

/// Every device of the host, for a privileged container.
pub fn all() -> Vec<ResolvedDevice> {
    let mut found = Vec::new();
    collect(Path::new("/dev"), "/dev", "rwm", DEPTH_MAX, &mut found);
    found.retain(|resolved| resolved.device.path != "/dev/console");
    found
}

fn collect(host: &Path, target: &str, access: &str, depth: u32, found: &mut Vec<ResolvedDevice>) {
    let Ok(entries) = std::fs::read_dir(host) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Ok(kind) = entry.file_type() else { continue };
        let below = format!("{}/{name}", target.trim_end_matches('/'));
        if kind.is_dir() {
            if depth > 0 && !SKIPPED.contains(&name.as_str()) {
                collect(&entry.path(), &below, access, depth - 1, found);
            }
        } else if !kind.is_symlink() {
            found.extend(node(&entry.path(), &below, access));
        }
    }
}

fn node(host: &Path, target: &str, access: &str) -> Option<ResolvedDevice> {
    let stat = rustix::fs::stat(host).ok()?;
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::CharacterDevice => "c",
        FileType::BlockDevice => "b",
        _ => return None,
    };
    let device = oci::Device {
        kind: kind.into(),
        path: target.into(),
        major: i64::from(rustix::fs::major(stat.st_rdev)),
        minor: i64::from(rustix::fs::minor(stat.st_rdev)),
        file_mode: Some(stat.st_mode & 0o7777),
        uid: stat.st_uid,
        gid: stat.st_gid,
    };
    Some(ResolvedDevice { device, access: access.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_and_a_mistake() {
        let ask = |path: &str| {
            resolve(&Device { host: path.into(), container: "/dev/x".into(), permissions: "r".into() })
        };
        let found = ask("/dev/null").unwrap();
        assert_eq!((found[0].device.major, found[0].device.minor, found[0].access.as_str()), (1, 3, "r"));
        assert_eq!(found[0].device.path, "/dev/x");
        assert!(ask("/etc/passwd").is_err());
        assert!(ask("/dev/nope").unwrap_err().message().contains("gathering device information"));
    }
}
