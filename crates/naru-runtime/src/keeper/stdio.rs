//! The descriptors between a process and the keeper: pipes, or a pty's master.

use super::process::Streams;
use super::protocol::StdioSpec;
use crate::request::Stdio;
use naru_kernel::Errno;
use rustix::fs::{Mode, OFlags, fcntl_getfl, fcntl_setfl, open};
use rustix::pipe::{PipeFlags, pipe_with};
use std::os::fd::OwnedFd;

/// The program's three descriptors and the keeper's ends of them.
pub(super) fn make_stdio(spec: StdioSpec) -> Result<(Stdio, Streams), Errno> {
    if spec.tty {
        return Ok((Stdio::Pty { rows: spec.rows, cols: spec.cols }, Streams::default()));
    }
    let (stdin, stdin_writer) = if spec.open_stdin {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
        set_nonblocking(&writer)?;
        (reader, Some(writer))
    } else {
        let null = open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        (null, None)
    };
    let (stdout_reader, stdout) = pipe_with(PipeFlags::CLOEXEC)?;
    let (stderr_reader, stderr) = pipe_with(PipeFlags::CLOEXEC)?;
    set_nonblocking(&stdout_reader)?;
    set_nonblocking(&stderr_reader)?;
    let streams = Streams { stdin: stdin_writer, stdout: Some(stdout_reader), stderr: Some(stderr_reader) };
    Ok((Stdio::Pipes { stdin, stdout, stderr }, streams))
}

/// Input goes through a duplicate of the master, so that both directions can be watched apart.
pub(super) fn pty_streams(master: OwnedFd, spec: StdioSpec) -> Result<Streams, Errno> {
    set_nonblocking(&master)?;
    let stdin = if spec.open_stdin { Some(rustix::io::fcntl_dupfd_cloexec(&master, 0)?) } else { None };
    Ok(Streams { stdin, stdout: Some(master), stderr: None })
}

fn set_nonblocking(fd: &OwnedFd) -> Result<(), Errno> {
    fcntl_setfl(fd, fcntl_getfl(fd)? | OFlags::NONBLOCK)
}
