//! `--chown=user[:group]`, with names looked up in the image's own /etc/passwd and /etc/group.

use crate::files::{at, resolve::resolve};
use rustix::fd::BorrowedFd;
use rustix::fs::OFlags;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// The most that is read of /etc/passwd or /etc/group, in bytes.
const TABLE_BYTES_MAX: u64 = 4 << 20;

/// Numbers need no table. A user alone takes his own group along; a number alone is its own group.
pub(crate) fn owner(root: BorrowedFd<'_>, text: &str) -> Result<(u32, u32), String> {
    let (user, group) = text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
    let (uid, own_gid) = match user.parse::<u32>() {
        Ok(uid) => (uid, uid),
        Err(_) => lookup(root, "etc/passwd", user)
            .and_then(|fields| Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?)))
            .ok_or_else(|| format!("unable to find user {user}: no matching entry in passwd file"))?,
    };
    let gid = match group {
        None | Some("") => own_gid,
        Some(group) => match group.parse::<u32>() {
            Ok(gid) => gid,
            Err(_) => lookup(root, "etc/group", group)
                .and_then(|fields| fields.get(2)?.parse().ok())
                .ok_or_else(|| format!("unable to find group {group}: no matching entry in group file"))?,
        },
    };
    // To chown(2) the largest number is none.
    if uid == u32::MAX || gid == u32::MAX {
        return Err(format!("{uid}:{gid} is no owner: the largest id is {}", u32::MAX - 1));
    }
    Ok((uid, gid))
}

/// The fields of the line of `name`.
fn lookup(root: BorrowedFd<'_>, table: &str, name: &str) -> Option<Vec<String>> {
    let found = resolve(root, Path::new(table), true).ok()?;
    let fd = at::open_beneath(root, &found.path, OFlags::RDONLY | OFlags::NONBLOCK).ok()?;
    let mut text = Vec::new();
    File::from(fd).take(TABLE_BYTES_MAX).read_to_end(&mut text).ok()?;
    let text = String::from_utf8_lossy(&text);
    let line = text.lines().find(|line| line.split(':').next() == Some(name) && !name.is_empty())?;
    Some(line.split(':').map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fd::AsFd;

    #[test]
    fn owners() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("etc")).unwrap();
        std::fs::write(dir.path().join("etc/passwd"), "root:x:0:0::/root:/bin/sh\napp:x:10:20::/:\n")
            .unwrap();
        std::fs::write(dir.path().join("etc/group"), "root:x:0:\nweb:x:33:app\n").unwrap();
        let root = at::open_root(dir.path()).unwrap();
        for (text, expect) in [
            ("app", Ok((10, 20))),
            ("app:web", Ok((10, 33))),
            ("app:7", Ok((10, 7))),
            ("5", Ok((5, 5))),
            ("5:6", Ok((5, 6))),
            ("5:web", Ok((5, 33))),
            ("no", Err("unable to find user no: no matching entry in passwd file".to_owned())),
            ("app:no", Err("unable to find group no: no matching entry in group file".to_owned())),
            ("4294967295", Err("4294967295:4294967295 is no owner: the largest id is 4294967294".to_owned())),
            ("", Err("unable to find user : no matching entry in passwd file".to_owned())),
        ] {
            assert_eq!(owner(root.as_fd(), text), expect, "{text}");
        }
    }
}
