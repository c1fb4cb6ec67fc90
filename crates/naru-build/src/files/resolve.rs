//! Where a path leads within a root, its symbolic links followed as if the root were `/`.
//!
//! The answer is a path without links, so that a layer can be written at the place the image would have
//! led to (`/lib → usr/lib`), and so that parts that don't exist yet can be named. The trees walked here
//! don't change meanwhile (read-only layers, a context at rest); who opens the answer forbids links
//! anyway, so that a change would be an error and not a way out.

use crate::files::at;
use rustix::fd::BorrowedFd;
use rustix::fs::{FileType, Stat};
use rustix::io::Errno;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

/// As many links as the kernel follows (path_resolution(7)).
const LINKS_MAX: usize = 40;

#[derive(Clone, Debug)]
pub(crate) struct Resolved {
    /// Relative to the root, without links; empty for the root itself.
    pub(crate) path: PathBuf,
    /// `None`: nothing is there yet.
    pub(crate) stat: Option<Stat>,
}

/// `follow_last`: a link as the last component is followed too.
pub(crate) fn resolve(root: BorrowedFd<'_>, path: &Path, follow_last: bool) -> Result<Resolved, Errno> {
    let mut queue: Vec<OsString> = parts(path);
    let mut done: Vec<OsString> = Vec::new();
    let mut links = 0;
    // How many components of `done` exist, once one doesn't.
    let mut existing: Option<usize> = None;
    while let Some(part) = queue.pop() {
        if part == ".." {
            done.pop();
            existing = existing.filter(|count| done.len() > *count);
            continue;
        }
        done.push(part);
        if existing.is_some() {
            continue;
        }
        let here: PathBuf = done.iter().collect();
        let Some(stat) = at::stat_if_any(root, here.as_os_str())? else {
            existing = Some(done.len() - 1);
            continue;
        };
        match at::kind(&stat) {
            FileType::Symlink if follow_last || !queue.is_empty() => {
                links += 1;
                if links > LINKS_MAX {
                    return Err(Errno::LOOP);
                }
                let target = rustix::fs::readlinkat(root, &here, Vec::new())?;
                let target = Path::new(OsStr::from_bytes(target.as_bytes()));
                done.pop();
                if target.is_absolute() {
                    done.clear();
                }
                queue.extend(parts(target));
            }
            FileType::Directory => {}
            _ if queue.is_empty() => {}
            _ => return Err(Errno::NOTDIR),
        }
    }
    let path: PathBuf = done.iter().collect();
    let stat = match existing {
        Some(_) => None,
        None if path.as_os_str().is_empty() => Some(rustix::fs::fstat(root)?),
        None => Some(at::stat(root, path.as_os_str())?),
    };
    Ok(Resolved { path, stat })
}

/// The components, last first.
fn parts(path: &Path) -> Vec<OsString> {
    let mut parts: Vec<OsString> = path
        .components()
        .filter_map(|component| match component {
            Component::Normal(part) => Some(part.to_owned()),
            Component::ParentDir => Some("..".into()),
            _ => None,
        })
        .collect();
    parts.reverse();
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fd::AsFd;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_stay_in_the_root() {
        let dir = tempfile::tempdir().unwrap();
        let make = |path: &str| std::fs::create_dir_all(dir.path().join(path)).unwrap();
        make("usr/lib");
        make("srv/app");
        std::fs::write(dir.path().join("file"), "").unwrap();
        for (target, link) in [
            ("usr/lib", "lib"),
            ("/srv/app", "app"),
            ("../../../../etc", "out"),
            ("/new/place", "dangling"),
            ("loop", "loop"),
            ("../usr", "srv/up"),
        ] {
            symlink(target, dir.path().join(link)).unwrap();
        }
        let root = at::open_root(dir.path()).unwrap();
        for (path, expect, exists) in [
            ("/lib/x", "usr/lib/x", false),
            ("lib", "usr/lib", true),
            ("/app/./a/../b", "srv/app/b", false),
            ("/out/passwd", "etc/passwd", false),
            ("/dangling/x", "new/place/x", false),
            ("/srv/up/lib", "usr/lib", true),
            ("/../../x", "x", false),
            ("/", "", true),
            ("/nope/../lib", "usr/lib", true),
            ("file", "file", true),
        ] {
            let found = resolve(root.as_fd(), Path::new(path), true).unwrap();
            assert_eq!((found.path.to_str(), found.stat.is_some()), (Some(expect), exists), "{path}");
        }
        assert_eq!(resolve(root.as_fd(), Path::new("loop"), true).unwrap_err(), Errno::LOOP);
        assert_eq!(resolve(root.as_fd(), Path::new("file/x"), true).unwrap_err(), Errno::NOTDIR);
        assert_eq!(resolve(root.as_fd(), Path::new("lib"), false).unwrap().path, Path::new("lib"));
    }
}
