//! The descriptors between a process and the keeper: pipes, or a pty's master.

use super::process::Streams;
use super::protocol::StdioSpec;
use crate::request::Stdio;
use naru_kernel::Errno;
use rustix::fs::{Mode, OFlags, fcntl_getfl, fcntl_setfl, open};
use rustix::pipe::{PipeFlags, pipe_with};
use std::os::fd::{AsRawFd, OwnedFd};

/// Who reads a process's output, besides the keeper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reader {
    /// Nobody: when the last duplicate is closed, writing is `EPIPE`. Right for an exec, whose output is for a client.
    Nobody,
    /// The process itself, which has its output open for reading as well (as with a terminal) and so never gets `EPIPE`:
    /// should keeper and daemon both be killed, its output waits in the pipe until they are back.
    Itself,
}

/// The program's three descriptors and the keeper's ends of them.
pub(super) fn make_stdio(spec: StdioSpec, reader: Reader) -> Result<(Stdio, Streams), Errno> {
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
    let (stdout_reader, stdout) = output_pipe(reader)?;
    let (stderr_reader, stderr) = output_pipe(reader)?;
    let streams = Streams { stdin: stdin_writer, stdout: Some(stdout_reader), stderr: Some(stderr_reader) };
    Ok((Stdio::Pipes { stdin, stdout, stderr }, streams))
}

fn output_pipe(reader: Reader) -> Result<(OwnedFd, OwnedFd), Errno> {
    let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
    set_nonblocking(&ours)?;
    match reader {
        Reader::Nobody => Ok((ours, theirs)),
        Reader::Itself => {
            let path = format!("/proc/self/fd/{}", theirs.as_raw_fd());
            Ok((ours, open(path, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?))
        }
    }
}

/// Input goes through a duplicate of the master, so that both directions can be watched apart.
pub(super) fn pty_streams(master: OwnedFd, spec: StdioSpec) -> Result<Streams, Errno> {
    set_nonblocking(&master)?;
    let stdin = if spec.open_stdin { Some(rustix::io::fcntl_dupfd_cloexec(&master, 0)?) } else { None };
    Ok(Streams { stdin, stdout: Some(master), stderr: None })
}

pub(super) fn set_nonblocking(fd: &OwnedFd) -> Result<(), Errno> {
    fcntl_setfl(fd, fcntl_getfl(fd)? | OFlags::NONBLOCK)
}
