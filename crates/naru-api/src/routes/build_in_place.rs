//! A context that `naru build` doesn't send, because it is on this machine: the daemon copies what changed of it since the
//! last build, and builds from the copy.
//!
//! The daemon may read what its clients may not, so it does that only for a client of its own user, by the kernel's word
//! (SO_PEERCRED). The client may see other mounts than the daemon, or be on another machine behind a forwarded socket: so the
//! directory that the daemon finds by the name must be the client's by device and inode, under the same running kernel.
//! Otherwise it refuses, and the client sends the context.

use crate::web::request::Peer;
use naru_build::{BuildRequest, Builder};
use naru_types::{Error, Result};
use naru_wire::naru::{CONTEXT_ELSEWHERE, InPlace};
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use std::path::Path;

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The directory, if one is asked for.
pub fn open(wanted: Option<&InPlace>, peer: Option<Peer>) -> Result<Option<OwnedFd>> {
    let Some(wanted) = wanted else { return Ok(None) };
    if peer.map(|peer| peer.uid) != Some(rustix::process::geteuid().as_raw()) {
        return Err(elsewhere());
    }
    let boot = std::fs::read_to_string(BOOT_ID).unwrap_or_default();
    if wanted.boot.is_empty() || boot.trim() != wanted.boot || !Path::new(&wanted.path).is_absolute() {
        return Err(elsewhere());
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = rustix::fs::open(&wanted.path, flags, Mode::empty()).map_err(|_| elsewhere())?;
    let found = rustix::fs::fstat(&opened).map_err(|_| elsewhere())?;
    if (found.st_dev, found.st_ino) != (wanted.device, wanted.inode) {
        return Err(elsewhere());
    }
    Ok(Some(opened))
}

/// What the copy is kept under.
pub fn key(wanted: Option<&InPlace>) -> String {
    wanted.map_or_else(String::new, |wanted| {
        format!("in place {} {} {}", wanted.device, wanted.inode, wanted.path)
    })
}

/// Brings the copy up to date and has the build use it; Dockerfile and rules are in `files`.
pub fn take(
    builder: &Builder,
    wanted: &mut BuildRequest,
    files: &Path,
    source: OwnedFd,
    key: &str,
) -> Result<()> {
    if builder.use_kept(wanted, files, source, key)? { Ok(()) } else { Err(elsewhere()) }
}

fn elsewhere() -> Error {
    Error::conflict(CONTEXT_ELSEWHERE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn only_the_same_directory_of_the_same_user() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().canonicalize().unwrap();
        let found = path.metadata().unwrap();
        let boot = std::fs::read_to_string(BOOT_ID).unwrap().trim().to_owned();
        let same =
            InPlace { path: path.display().to_string(), device: found.dev(), inode: found.ino(), boot };
        let own = Some(Peer { uid: rustix::process::geteuid().as_raw() });
        let opens = |wanted: &InPlace, peer| open(Some(wanted), peer).is_ok();
        assert!(opens(&same, own) && open(None, None).unwrap().is_none());
        assert!(!opens(&same, None) && !opens(&same, Some(Peer { uid: 4_000_000 })));
        assert!(!opens(&InPlace { inode: 1, ..same.clone() }, own));
        assert!(!opens(&InPlace { device: 0, ..same.clone() }, own));
        assert!(!opens(&InPlace { boot: String::new(), ..same.clone() }, own));
        assert!(!opens(&InPlace { path: "/nowhere/at/all".into(), ..same.clone() }, own));
        let refused = open(Some(&same), None).unwrap_err();
        assert_eq!(refused.message(), CONTEXT_ELSEWHERE);
    }
}
