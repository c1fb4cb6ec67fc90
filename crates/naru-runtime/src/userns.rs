//! User namespaces: the maps of ids, written from outside, and a namespace without a process for idmapped mounts.
//!
//! newuidmap and newgidmap are not used (no external programs): without CAP_SETUID and CAP_SETGID the kernel lets a
//! caller map one id, its own (user_namespaces(7)), and any other map is an error that says so.

use crate::oci::IdMapping;
use naru_kernel::{ns, pidfd, process};
use std::fmt::Write as _;
use std::io;
use std::os::fd::OwnedFd;

/// Lines of a map that the kernel takes (UID_GID_MAP_MAX_EXTENTS).
const EXTENTS_MAX: usize = 340;

/// Maps could not be used or written.
#[derive(Debug, thiserror::Error)]
pub enum MapError {
    #[error("a user namespace needs at least one {0} mapping")]
    Empty(&'static str),
    #[error("{0} has {1} mappings, the kernel takes {EXTENTS_MAX}")]
    Many(&'static str, usize),
    #[error(
        "{0}: without privileges only the caller's own id can be mapped, in one mapping of size 1 (the runtime runs no \
         newuidmap or newgidmap)"
    )]
    Unprivileged(&'static str),
    #[error("cannot write {path}: {source}")]
    Write { path: String, source: io::Error },
}

/// The maps of a new user namespace, as text for the kernel.
#[derive(Debug)]
pub(crate) struct Maps {
    uids: String,
    gids: String,
    /// Who becomes the first process: uid and gid 0, or the first that there is.
    pub root: (u32, u32),
    /// setgroups(2) must be given up before an unprivileged caller may map groups.
    pub deny_setgroups: bool,
}

impl Maps {
    /// `privileged`: the caller has CAP_SETUID and CAP_SETGID where it is.
    pub fn new(uids: &[IdMapping], gids: &[IdMapping], privileged: bool) -> Result<Self, MapError> {
        for (name, list) in [("uidMappings", uids), ("gidMappings", gids)] {
            if list.is_empty() {
                return Err(MapError::Empty(name));
            }
            if list.len() > EXTENTS_MAX {
                return Err(MapError::Many(name, list.len()));
            }
        }
        if !privileged {
            let own =
                |list: &[IdMapping], id: u32| matches!(list, [only] if only.size == 1 && only.host_id == id);
            if !own(uids, rustix::process::geteuid().as_raw()) {
                return Err(MapError::Unprivileged("uidMappings"));
            }
            if !own(gids, rustix::process::getegid().as_raw()) {
                return Err(MapError::Unprivileged("gidMappings"));
            }
        }
        let root = (first(uids), first(gids));
        Ok(Self { uids: text(uids), gids: text(gids), root, deny_setgroups: !privileged })
    }

    /// Which host user an id of the namespace is.
    pub fn host_uid(&self, uid: u32) -> Option<u32> {
        translate(&self.uids, uid)
    }

    /// Writes the maps of `process`: a pid, or `self`.
    pub fn write(&self, process: &str) -> Result<(), MapError> {
        let write = |file: &str, value: &str| {
            let path = format!("/proc/{process}/{file}");
            std::fs::write(&path, value).map_err(|source| MapError::Write { path, source })
        };
        if self.deny_setgroups {
            write("setgroups", "deny")?;
        }
        write("uid_map", &self.uids)?;
        write("gid_map", &self.gids)
    }
}

/// A user namespace with these maps, held by nothing but the descriptor: what mount_setattr(MOUNT_ATTR_IDMAP) takes.
pub fn descriptor(uids: &[IdMapping], gids: &[IdMapping]) -> io::Result<OwnedFd> {
    let maps = Maps::new(uids, gids, true).map_err(io::Error::other)?;
    let (wait, go) = std::io::pipe()?;
    let args = process::CloneArgs { namespaces: ns::NEWUSER, ..process::CloneArgs::default() };
    let child = process::spawn(&args, || {
        // The copy of the writing end is this process's own: only the reading one is waited on, until a signal comes.
        let mut byte = [0u8; 1];
        let _ = rustix::io::read(&wait, &mut byte);
        0
    })?;
    let made = maps
        .write(&child.pid.to_string())
        .map_err(io::Error::other)
        .and_then(|()| ns::open(&format!("/proc/{}/ns/user", child.pid)));
    drop(go);
    let _ = pidfd::send_signal(&child.pidfd, naru_types::signal::Signal::KILL);
    pidfd::wait(&child.pidfd)?;
    made
}

/// Whether setgroups(2) is given up in the caller's own user namespace; never in the machine's own, which its inode
/// number tells (PROC_USER_INIT_INO) for less than reading a file.
pub(crate) fn setgroups_denied() -> bool {
    const INITIAL: u64 = 0xEFFF_FFFD;
    let own = rustix::fs::stat(c"/proc/self/ns/user");
    !own.is_ok_and(|stat| stat.st_ino == INITIAL) && denied_for("self")
}

/// As [`setgroups_denied`] for another process's namespace.
pub(crate) fn denied_for(process: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{process}/setgroups")).is_ok_and(|text| text.trim() == "deny")
}

/// Which host user an id is in the user namespace of `process`.
pub(crate) fn host_uid_in(process: &str, uid: u32) -> Option<u32> {
    translate(&std::fs::read_to_string(format!("/proc/{process}/uid_map")).ok()?, uid)
}

/// Who is root in the user namespace of `process`: 0, or the first id that there is.
pub(crate) fn root_of(process: &str) -> (u32, u32) {
    let first = |file: &str| {
        let text = std::fs::read_to_string(format!("/proc/{process}/{file}")).unwrap_or_default();
        if translate(&text, 0).is_some() {
            return 0;
        }
        text.split_whitespace().next().and_then(|id| id.parse().ok()).unwrap_or(0)
    };
    (first("uid_map"), first("gid_map"))
}

fn translate(map: &str, id: u32) -> Option<u32> {
    map.lines().find_map(|line| {
        let mut numbers = line.split_whitespace().map(str::parse::<u32>);
        let (inside, outside, size) = (numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?);
        let offset = id.checked_sub(inside).filter(|offset| *offset < size)?;
        outside.checked_add(offset)
    })
}

fn text(list: &[IdMapping]) -> String {
    list.iter().fold(String::new(), |mut text, map| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{} {} {}", map.container_id, map.host_id, map.size);
        text
    })
}

fn first(list: &[IdMapping]) -> u32 {
    let has_zero = list.iter().any(|map| map.container_id == 0 && map.size > 0);
    if has_zero { 0 } else { list.first().map_or(0, |map| map.container_id) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(container_id: u32, host_id: u32, size: u32) -> IdMapping {
        IdMapping { container_id, host_id, size }
    }

    #[test]
    fn maps_as_text() {
        let list = [map(1, 100_001, 9), map(0, 1000, 1)];
        let maps = Maps::new(&list, &list, true).unwrap();
        assert_eq!(maps.uids, "1 100001 9\n0 1000 1\n");
        assert_eq!(maps.root, (0, 0));
        assert_eq!(
            (maps.host_uid(0), maps.host_uid(9), maps.host_uid(10)),
            (Some(1000), Some(100_009), None)
        );
        assert_eq!(Maps::new(&[map(7, 1, 1)], &[map(8, 1, 1)], true).unwrap().root, (7, 8));
        assert!(matches!(Maps::new(&[], &list, true), Err(MapError::Empty("uidMappings"))));
        assert!(matches!(Maps::new(&list, &list, false), Err(MapError::Unprivileged(_))));
    }

    #[test]
    fn a_namespace_by_descriptor() {
        if !rustix::process::geteuid().is_root() {
            println!("SKIP: needs root");
            return;
        }
        let fd = descriptor(&[map(0, 100_000, 10)], &[map(0, 100_000, 10)]).unwrap();
        let own = ns::open_own("user").unwrap();
        assert_ne!(rustix::fs::fstat(&fd).unwrap().st_ino, rustix::fs::fstat(&own).unwrap().st_ino);
    }
}
