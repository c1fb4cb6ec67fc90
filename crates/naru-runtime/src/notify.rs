//! Hands the listener of a filter with SCMP_ACT_NOTIFY to its agent (config-linux.md, "The Container Process State").

use crate::oci::{self, State, Status};
use naru_kernel::unix;
use serde::Serialize;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

/// Bytes that go with the descriptor; "the file descriptors MUST be sent only in the first call".
const FIRST_BYTES_MAX: usize = 32 << 10;

/// The agent could not be told, and without it every notified call would hang.
#[derive(Debug, thiserror::Error)]
pub enum NotifyError {
    #[error("the seccomp profile has SCMP_ACT_NOTIFY, but no listenerPath")]
    NoPath,
    #[error("cannot hand the seccomp listener to the agent at {path}: {source}")]
    Agent { path: String, source: io::Error },
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ProcessState<'a> {
    oci_version: &'a str,
    fds: [&'a str; 1],
    pid: i32,
    #[serde(skip_serializing_if = "str::is_empty")]
    metadata: &'a str,
    state: State,
}

/// One connection, one state, one descriptor.
pub(crate) fn deliver(
    spec: &oci::Spec,
    state: Option<&State>,
    status: Status,
    pid: i32,
    listener: &OwnedFd,
) -> Result<(), NotifyError> {
    let profile = spec.linux.seccomp.as_ref();
    let path = profile.map(|profile| profile.listener_path.as_str()).unwrap_or_default();
    if path.is_empty() {
        return Err(NotifyError::NoPath);
    }
    let failed = |source| NotifyError::Agent { path: path.to_owned(), source };
    let mut state = state.cloned().unwrap_or_default();
    state.version = oci::VERSION.into();
    state.status = status;
    state.pid = Some(pid);
    let message = ProcessState {
        oci_version: oci::VERSION,
        fds: ["seccompFd"],
        pid,
        metadata: profile.map(|profile| profile.listener_metadata.as_str()).unwrap_or_default(),
        state,
    };
    let bytes = serde_json::to_vec(&message).map_err(|error| failed(error.into()))?;
    let mut socket = UnixStream::connect(path).map_err(failed)?;
    let (first, rest) = bytes.split_at(bytes.len().min(FIRST_BYTES_MAX));
    unix::send(&socket, first, &[listener.as_fd()]).map_err(|errno| failed(errno.into()))?;
    socket.write_all(rest).map_err(failed)
}
