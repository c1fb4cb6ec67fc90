//! Finding a container's output pipes again when neither keeper nor daemon has an end of them any more.
//!
//! Which pipes they are is written down at the start, by inode. Opening `/proc/<pid>/fd/<n>` for reading gives the read end
//! of the very same pipe (proc_pid_fd(5)), with what waits in it. It is believed only when the inode is the recorded
//! one: the process may have opened something else meanwhile. Standard input has no such way back: the process holds its
//! read end only, so its writers' end is its end of file. What waits in the pipes of a container that ends before it is
//! found again goes with it (a pipe's size at most, 64 kB by default). Nor has a terminal: its master's end hangs it up.

use super::process::Streams;
use super::protocol::Target;
use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use serde::{Deserialize, Serialize};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// Descriptors of the process that are looked at: it may have moved its output elsewhere.
const FDS_LOOKED_AT_MAX: usize = 1024;

/// Inodes of the pipes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Pipes {
    pub stdout: Option<u64>,
    pub stderr: Option<u64>,
}

fn path_of(bundle: &Path) -> PathBuf {
    bundle.join("pipes.json")
}

/// Execs are not found again once their daemon is gone, as nobody would ask for them.
pub(super) fn remember_pipes(bundle: &Path, target: &Target, streams: &Streams) {
    if target.exec_id.is_some() {
        return;
    }
    let inode = |pipe: &Option<OwnedFd>| Some(fstat(pipe.as_ref()?).ok()?.st_ino);
    let pipes = Pipes { stdout: inode(&streams.stdout), stderr: inode(&streams.stderr) };
    if pipes != Pipes::default()
        && let Ok(text) = serde_json::to_vec(&pipes)
    {
        // Without it only the double crash loses output.
        let _ = std::fs::write(path_of(bundle), text);
    }
}

pub(super) fn recall_pipes(bundle: &Path, target: &Target) -> Option<Pipes> {
    if target.exec_id.is_some() {
        return None;
    }
    serde_json::from_slice(&std::fs::read(path_of(bundle)).ok()?).ok()
}

/// The read end of the pipe `inode`, if the process has it open.
pub(super) fn same_pipe(pid: i32, inode: u64) -> Option<OwnedFd> {
    let dir = format!("/proc/{pid}/fd");
    let wanted = format!("pipe:[{inode}]");
    let entries = std::fs::read_dir(dir).ok()?.flatten().take(FDS_LOOKED_AT_MAX);
    entries
        .map(|entry| entry.path())
        .filter(|path| std::fs::read_link(path).is_ok_and(|link| link.as_os_str() == wanted.as_str()))
        .find_map(|path| {
            let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let pipe = open(&path, flags, Mode::empty()).ok()?;
            is_pipe(&pipe, inode).then_some(pipe)
        })
}

fn is_pipe(fd: impl AsFd, inode: u64) -> bool {
    fstat(fd)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo && stat.st_ino == inode)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn only_the_recorded_pipe_is_found() {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let inode = fstat(&reader).unwrap().st_ino;
        drop(reader);
        let own = std::process::id() as i32;
        assert!(same_pipe(own, inode + 1).is_none_or(|fd| fstat(&fd).unwrap().st_ino == inode + 1));
        let mut found = std::fs::File::from(same_pipe(own, inode).unwrap());
        writer.write_all(b"still there").unwrap();
        drop(writer);
        let mut text = String::new();
        found.read_to_string(&mut text).unwrap();
        assert_eq!(text, "still there");
    }
}
