//! `user[:group]` as Docker reads it, looked up in the container's own /etc/passwd and /etc/group.
//!
//! The files belong to the image, so they are opened beneath the root, must be regular, and are read up to a limit.
//! Numbers are parsed strictly: a name that merely starts with digits is a name (CVE-2026-30892).

use crate::oci;
use naru_kernel::{Errno, path};
use std::ffi::CStr;
use std::io::Read;
use std::os::fd::BorrowedFd;

/// Bytes of passwd or group that are read; more is an error.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// Highest uid or gid that Docker takes.
const ID_MAX: u32 = i32::MAX as u32;

/// The numbers behind an [`oci::User`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub uid: u32,
    pub gid: u32,
    /// Supplementary groups, for a user by name or `0` the primary one first (CVE-2022-36109).
    pub groups: Vec<u32>,
    pub home: String,
}

/// A user or group could not be found. The texts are Docker's.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum UserError {
    #[error("unable to find user {0}: no matching entries in passwd file")]
    NoUser(String),
    #[error("unable to find group {0}: no matching entries in group file")]
    NoGroup(String),
    #[error("uids and gids must be in range 0-2147483647")]
    Range,
    #[error("cannot read {0} in the container: {1}")]
    Read(&'static str, Errno),
}

/// Resolves `user` in the files beneath `root`.
pub fn resolve(root: BorrowedFd<'_>, user: &oci::User) -> Result<Identity, UserError> {
    let passwd = read(root, c"etc/passwd", "/etc/passwd")?;
    let group = read(root, c"etc/group", "/etc/group")?;
    resolve_in(&passwd, &group, user)
}

/// As [`resolve`], with the files' contents.
pub fn resolve_in(passwd: &str, group: &str, user: &oci::User) -> Result<Identity, UserError> {
    let (user_part, group_part) = user.username.split_once(':').unwrap_or((&user.username, ""));
    let found = find_user(passwd, user_part, user)?;
    let gid = match (group_part, user.username.is_empty()) {
        ("", true) => user.gid,
        ("", false) => found.gid,
        (name, _) => find_group(group, name)?,
    };
    // A plain spec lists its groups completely (config.md, "POSIX-platform User"); Docker's user is in its primary one.
    let mut groups = if user.username.is_empty() { Vec::new() } else { vec![gid] };
    if group_part.is_empty() && !user.username.is_empty() {
        groups.extend(groups_of(group, &found.name));
    }
    groups.extend(&user.additional_gids);
    for name in &user.naru_groups {
        groups.push(find_group(group, name)?);
    }
    if !user.username.is_empty() {
        let mut seen = std::collections::BTreeSet::new();
        groups.retain(|gid| seen.insert(*gid));
    }
    Ok(Identity { uid: found.uid, gid, groups, home: found.home })
}

struct Found {
    name: String,
    uid: u32,
    gid: u32,
    home: String,
}

fn find_user(passwd: &str, wanted: &str, user: &oci::User) -> Result<Found, UserError> {
    let number = if wanted.is_empty() {
        Some(if user.username.is_empty() { user.uid } else { 0 })
    } else {
        id_number(wanted)?
    };
    let entry = passwd.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        let (name, uid, gid) = (*fields.first()?, fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?);
        let matches = (!wanted.is_empty() && name == wanted) || number == Some(uid);
        let home = fields.get(5).copied().filter(|home| !home.is_empty()).unwrap_or("/");
        matches.then(|| Found { name: name.to_owned(), uid, gid, home: home.to_owned() })
    });
    match (entry, number) {
        (Some(entry), _) => Ok(entry),
        (None, Some(uid)) => Ok(Found { name: String::new(), uid, gid: 0, home: "/".into() }),
        (None, None) => Err(UserError::NoUser(wanted.to_owned())),
    }
}

fn find_group(group: &str, wanted: &str) -> Result<u32, UserError> {
    let number = id_number(wanted)?;
    let entry = group.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, gid) = (fields.next()?, fields.nth(1)?.parse::<u32>().ok()?);
        (name == wanted || number == Some(gid)).then_some(gid)
    });
    entry.or(number).ok_or_else(|| UserError::NoGroup(wanted.to_owned()))
}

fn groups_of(group: &str, user: &str) -> Vec<u32> {
    if user.is_empty() {
        return Vec::new();
    }
    let member = |line: &str| {
        let fields: Vec<&str> = line.split(':').collect();
        let gid = fields.get(2)?.parse().ok()?;
        fields.get(3)?.split(',').any(|name| name == user).then_some(gid)
    };
    group.lines().filter_map(member).collect()
}

/// `Some` when the text is a decimal number and nothing else.
fn id_number(text: &str) -> Result<Option<u32>, UserError> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(None);
    }
    match text.parse::<u32>() {
        Ok(id) if id <= ID_MAX => Ok(Some(id)),
        _ => Err(UserError::Range),
    }
}

fn read(root: BorrowedFd<'_>, file: &CStr, name: &'static str) -> Result<String, UserError> {
    let fd = match path::open_regular_in_root(root, file) {
        // An image without the file knows only numbers.
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(String::new()),
        other => other.map_err(|errno| UserError::Read(name, errno))?,
    };
    let stat = rustix::fs::fstat(&fd).map_err(|errno| UserError::Read(name, errno))?;
    if stat.st_size as u64 > FILE_BYTES_MAX {
        return Err(UserError::Read(name, Errno::INVAL));
    }
    let mut bytes = Vec::new();
    // Not a byte more than it says to have: what procfs makes as it is read has none, and /proc/kmsg waits for the kernel
    // to say something, while whoever reads it waits along.
    std::fs::File::from(fd)
        .take(stat.st_size as u64)
        .read_to_end(&mut bytes)
        .map_err(|error| UserError::Read(name, Errno::from_io_error(&error).unwrap_or(Errno::IO)))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use naru_kernel::{mount, ns};
    use rustix::fs::{Mode, OFlags};
    use std::os::fd::AsFd;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nbad\nwww:x:33:33::/var/www:\n1000x:x:7:8::/h:\n";
    const GROUP: &str = "root:x:0:\nwww:x:33:\naudio:x:29:www,other\nnum:x:44:\n";

    fn check(user: &str, expect: Result<(u32, u32, &[u32], &str), &str>) {
        let input = oci::User { username: user.into(), ..oci::User::default() };
        match (resolve_in(PASSWD, GROUP, &input), expect) {
            (Ok(got), Ok((uid, gid, groups, home))) => {
                let wanted = Identity { uid, gid, groups: groups.to_vec(), home: home.into() };
                assert_eq!(got, wanted, "{user:?}");
            }
            (Err(got), Err(text)) => assert_eq!(got.to_string(), text, "{user:?}"),
            (got, expect) => panic!("{user:?}: {got:?} is not {expect:?}"),
        }
    }

    #[test]
    fn as_docker() {
        check("0", Ok((0, 0, &[0], "/root")));
        check("www", Ok((33, 33, &[33, 29], "/var/www")));
        check("33", Ok((33, 33, &[33, 29], "/var/www")));
        check("www:audio", Ok((33, 29, &[29], "/var/www")));
        check("1234", Ok((1234, 0, &[0], "/")));
        check("1234:5678", Ok((1234, 5678, &[5678], "/")));
        check("1000x", Ok((7, 8, &[8], "/h")));
        check(":audio", Ok((0, 29, &[29], "/root")));
    }

    #[test]
    fn errors_in_dockers_words() {
        check("nope", Err("unable to find user nope: no matching entries in passwd file"));
        check("www:nope", Err("unable to find group nope: no matching entries in group file"));
        check("0x0", Err("unable to find user 0x0: no matching entries in passwd file"));
        check("-1", Err("unable to find user -1: no matching entries in passwd file"));
        check(" 0", Err("unable to find user  0: no matching entries in passwd file"));
        check("4294967296", Err("uids and gids must be in range 0-2147483647"));
    }

    /// The image's passwd leads to a file of procfs that waits for the kernel to say something, and whoever reads it along:
    /// with a health check that was a freeze of all containers. Guard: `read` takes no more than the file says to have.
    #[test]
    fn a_passwd_that_never_ends_is_not_waited_for() {
        if !rustix::process::geteuid().is_root() {
            println!("SKIP: needs root");
            return;
        }
        let (sender, receiver) = std::sync::mpsc::channel();
        // Not joined: without the guard it never ends.
        std::thread::spawn(move || {
            let dir = tempfile::tempdir().unwrap();
            for name in ["proc", "etc"] {
                std::fs::create_dir(dir.path().join(name)).unwrap();
            }
            std::os::unix::fs::symlink("/proc/kmsg", dir.path().join("etc/passwd")).unwrap();
            let flags = OFlags::PATH | OFlags::DIRECTORY;
            let open = |path: &std::path::Path| rustix::fs::open(path, flags, Mode::empty()).unwrap();
            ns::unshare(ns::NEWNS).unwrap();
            mount::set_root_propagation(mount::Propagation::Private).unwrap();
            let procfs = mount::new_fs(c"proc", Some(c"proc"), std::iter::empty(), 0).unwrap();
            mount::attach(procfs, open(&dir.path().join("proc"))).unwrap();
            let found = resolve(open(dir.path()).as_fd(), &oci::User::default());
            rustix::mount::unmount(dir.path().join("proc"), rustix::mount::UnmountFlags::DETACH).unwrap();
            sender.send(found).unwrap();
        });
        let found = receiver.recv_timeout(std::time::Duration::from_secs(20)).unwrap();
        assert_eq!(found.unwrap().home, "/");
    }

    #[test]
    fn group_add_by_name_and_number() {
        let user = oci::User {
            username: "www".into(),
            naru_groups: vec!["num".into(), "99".into(), "audio".into()],
            ..oci::User::default()
        };
        assert_eq!(resolve_in(PASSWD, GROUP, &user).unwrap().groups, [33, 29, 44, 99]);
    }

    #[test]
    fn plain_numbers_of_a_foreign_spec() {
        let user = oci::User { uid: 5, gid: 6, additional_gids: vec![7, 9, 7], ..oci::User::default() };
        assert_eq!(resolve_in(PASSWD, GROUP, &user).unwrap().groups, [7, 9, 7]);
    }
}
