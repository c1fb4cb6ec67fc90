//! The daemon of an ordinary user: it moves into namespaces of its own, where that user is root, and is then like any
//! other daemon. Containers, keeper and proxy are born inside.
//!
//! Own are the user, mount and network namespaces (user_namespaces(7)); the process namespace stays the host's, so that
//! containers outlive the daemon. The next daemon must move into the *same* namespaces: their numbers are written down
//! in the run directory, and any process that still lives in them leads the way.
//!
//! Numbers inside: 0 is the user; 1 and up are the range that /etc/subuid and /etc/subgid give the user. Only the
//! set-user-ID programs newuidmap and newgidmap may map that range, so they are called, which is the one exception to
//! naru's rule of no external programs; where they or the range are missing, only 0 is mapped.

use naru_kernel::ns::{self, NsFlags};
use naru_types::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

/// The role that maps numbers from outside: `naru rootless-map PID`.
pub const MAP_ROLE: &str = "rootless-map";
const FILE_NAME: &str = "rootless.json";

/// In the order in which they are joined: the user namespace gives the rights for the others.
const KINDS: [(&str, NsFlags); 3] = [("user", ns::NEWUSER), ("mnt", ns::NEWNS), ("net", ns::NEWNET)];

/// Inode numbers of the namespaces that this instance made.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Made {
    user: u64,
    mnt: u64,
    net: u64,
}

/// Moves an ordinary user's process into the instance's namespaces; returns at once for root. Must be called while the
/// process has one thread.
pub fn enter(run: &Path) -> Result<()> {
    let uid = rustix::process::geteuid();
    if uid.is_root() {
        return Ok(());
    }
    check_owner(run, uid.as_raw())?;
    let file = run.join(FILE_NAME);
    let recorded = fs::read(&file).ok().and_then(|bytes| serde_json::from_slice::<Made>(&bytes).ok());
    match recorded.and_then(|made| find(&made)) {
        Some(namespaces) => join(&namespaces)?,
        None => make(&file)?,
    }
    Ok(())
}

/// The role `naru rootless-map PID`: waits for a byte on standard input, maps the numbers of that process's user
/// namespace, and says by its exit code whether it could. It is another process because the one that has entered a new
/// user namespace has no rights in the old one any more.
pub fn map_role(pid: &str) -> ExitCode {
    let mut byte = [0];
    if std::io::Read::read_exact(&mut std::io::stdin(), &mut byte).is_err() {
        return ExitCode::FAILURE;
    }
    let mapped = map_range(pid, "newuidmap", "/etc/subuid", rustix::process::geteuid().as_raw())
        .and_then(|()| map_range(pid, "newgidmap", "/etc/subgid", rustix::process::getegid().as_raw()));
    match mapped {
        Ok(()) => ExitCode::SUCCESS,
        // The caller falls back to one number, and `naru info` says so.
        Err(_) => ExitCode::FAILURE,
    }
}

/// The caller's number becomes 0, its range follows from 1 on.
fn map_range(pid: &str, program: &str, ranges: &str, id: u32) -> std::io::Result<()> {
    let (first, count) = range_of_user(&fs::read_to_string(ranges)?)
        .ok_or_else(|| std::io::Error::other("no range for this user"))?;
    let numbers = ["0", &id.to_string(), "1", "1", &first.to_string(), &count.to_string()].map(str::to_owned);
    let output = Command::new(program).arg(pid).args(numbers).stdin(Stdio::null()).output()?;
    if output.status.success() { Ok(()) } else { Err(std::io::Error::other("refused")) }
}

/// The first range of the calling user, by name or number (subuid(5)).
fn range_of_user(text: &str) -> Option<(u32, u32)> {
    let uid = rustix::process::getuid().as_raw().to_string();
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid).then(|| name.to_owned())
    });
    range(text, name.as_deref().unwrap_or_default(), &uid)
}

fn range(text: &str, name: &str, uid: &str) -> Option<(u32, u32)> {
    text.lines().find_map(|line| {
        let mut fields = line.trim().split(':');
        let owner = fields.next().filter(|owner| !owner.is_empty())?;
        let range = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        (owner == name || owner == uid).then_some(range)
    })
}

/// New namespaces, mapped, and written down for the next daemon.
fn make(file: &Path) -> Result<()> {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let pid = rustix::process::getpid().as_raw_nonzero().get();
    let exe = std::env::current_exe().map_err(|error| failed("find naru's own binary", error))?;
    let mut mapper = Command::new(exe)
        .args([MAP_ROLE, &pid.to_string()])
        .stdin(Stdio::piped())
        .spawn()
        .map_err(|error| failed("start the process that maps user numbers", error))?;
    ns::unshare(ns::NEWUSER | ns::NEWNS | ns::NEWNET).map_err(|errno| {
        failed("make user, mount and network namespaces", errno).with_hint(
            "the kernel must allow user namespaces to ordinary users: sysctl user.max_user_namespaces and, on Debian \
             and Ubuntu, kernel.unprivileged_userns_clone=1 and kernel.apparmor_restrict_unprivileged_userns=0",
        )
    })?;
    let go = mapper.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(b"g"));
    let ranges = go.and_then(|()| mapper.wait()).is_ok_and(|status| status.success());
    if !ranges {
        map_one(uid, gid).map_err(|error| failed("map the user's own number", error))?;
    }
    settle()?;
    naru_kernel::loopback::up().map_err(|errno| failed("bring the loopback device up", errno))?;
    let bytes =
        serde_json::to_vec(&current()?).map_err(|error| failed("write down the namespaces", error))?;
    let temporary = file.with_extension("new");
    fs::write(&temporary, bytes)
        .and_then(|()| fs::rename(&temporary, file))
        .map_err(|error| failed("write down the namespaces", error))
}

/// Groups cannot be given up by somebody who maps himself: a group may be what takes a right away (CVE-2014-8989).
fn map_one(uid: u32, gid: u32) -> std::io::Result<()> {
    fs::write("/proc/self/setgroups", "deny")?;
    // newuidmap may have mapped the users before newgidmap refused the groups; a map is written once.
    match fs::write("/proc/self/uid_map", format!("0 {uid} 1")) {
        Err(error) if error.kind() != std::io::ErrorKind::PermissionDenied => return Err(error),
        _ => {}
    }
    fs::write("/proc/self/gid_map", format!("0 {gid} 1"))
}

/// Mounts made inside stay inside, and the host's arrive.
fn settle() -> Result<()> {
    naru_kernel::mount::set_root_propagation(naru_kernel::mount::Propagation::Slave)
        .map_err(|errno| failed("change the propagation of the mount tree", errno))
}

fn current() -> Result<Made> {
    inodes("self").ok_or_else(|| Error::internal("rootless: cannot read the own namespaces"))
}

fn inodes(process: &str) -> Option<Made> {
    let inode = |kind| fs::metadata(format!("/proc/{process}/ns/{kind}")).ok().map(|data| data.ino());
    Some(Made { user: inode("user")?, mnt: inode("mnt")?, net: inode("net")? })
}

/// Descriptors of the namespaces, from any process that lives in them. All three numbers must agree: the kernel uses the
/// number of a namespace that has gone again.
fn find(made: &Made) -> Option<Vec<(OwnedFd, NsFlags)>> {
    let entries = fs::read_dir("/proc").ok()?;
    let pids = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    pids.filter(|pid| pid.bytes().all(|byte| byte.is_ascii_digit())).find_map(|pid| {
        if inodes(&pid)? != *made {
            return None;
        }
        let open = |(kind, flag): &(&str, NsFlags)| {
            ns::open(&format!("/proc/{pid}/ns/{kind}")).ok().map(|fd| (fd, *flag))
        };
        let namespaces: Vec<_> = KINDS.iter().map(open).collect::<Option<_>>()?;
        // The process may have ended, and its number may be another's by now.
        let same = |(fd, wanted): (&(OwnedFd, NsFlags), u64)| {
            rustix::fs::fstat(&fd.0).is_ok_and(|stat| stat.st_ino == wanted)
        };
        namespaces.iter().zip([made.user, made.mnt, made.net]).all(same).then_some(namespaces)
    })
}

fn join(namespaces: &[(OwnedFd, NsFlags)]) -> Result<()> {
    for (fd, flag) in namespaces {
        ns::setns(fd, *flag).map_err(|errno| failed("join the namespaces of this instance", errno))?;
    }
    Ok(())
}

/// A run directory below /tmp could be somebody else's, who would then own every socket and file in it.
fn check_owner(run: &Path, uid: u32) -> Result<()> {
    let make = |path: &Path| {
        use std::os::unix::fs::DirBuilderExt;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
    };
    make(run).map_err(|error| failed(&format!("make {}", run.display()), error))?;
    let checked: [Option<PathBuf>; 2] = [Some(run.to_owned()), run.parent().map(Path::to_owned)];
    for path in checked.into_iter().flatten() {
        let data = fs::symlink_metadata(&path)
            .map_err(|error| failed(&format!("look at {}", path.display()), error))?;
        // Root's own are fine (`/run/user`), and so is a directory that is open to all but sticky (`/tmp`).
        if !data.is_dir() || (data.uid() != uid && data.uid() != 0) {
            return Err(Error::internal(format!("rootless: {} belongs to somebody else", path.display()))
                .with_hint("choose a directory of your own with --run, or set XDG_RUNTIME_DIR"));
        }
    }
    Ok(())
}

fn failed(step: &str, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::internal(format!("rootless: cannot {step}")).with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_found_by_name_and_number() {
        let text = "root:1:2\nstudent:100000:65536\n1001:200000:10\nbad:x:y\n";
        assert_eq!(range(text, "student", "1000"), Some((100_000, 65_536)));
        assert_eq!(range(text, "nobody-there", "1001"), Some((200_000, 10)));
        assert_eq!(range(text, "bad", "7"), None);
        assert_eq!(range(text, "", "7"), None);
    }

    #[test]
    fn another_users_directory_is_refused() {
        let own = std::env::temp_dir().join(format!("naru-rootless-{}", std::process::id()));
        let uid = rustix::process::geteuid().as_raw();
        check_owner(&own, uid).unwrap();
        if uid == 0 {
            std::os::unix::fs::chown(&own, Some(12_345), None).unwrap();
            assert!(check_owner(&own, 1000).is_err());
        }
        fs::remove_dir_all(&own).unwrap();
    }
}
