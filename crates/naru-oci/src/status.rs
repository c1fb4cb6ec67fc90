//! What a container is doing, told from its processes and control group; nothing of it is stored.

use crate::cgroups;
use crate::state::{self, Init, State};
use std::path::Path;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Creating,
    Created,
    Running,
    Paused,
    Stopped,
}

impl Status {
    pub fn name(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }

    pub fn of(state: &State, directory: &Path) -> Self {
        let Some(init) = state.init else { return Self::Creating };
        if !is_alive(init) {
            return Self::Stopped;
        }
        if state.cgroup.as_ref().is_some_and(cgroups::is_frozen) {
            return Self::Paused;
        }
        if rustix::fs::stat(state::gate(directory)).is_ok() { Self::Created } else { Self::Running }
    }
}

/// A zombie is dead: its program has ended, whoever has yet to reap it.
pub(crate) fn is_alive(init: Init) -> bool {
    read(init.pid).is_some_and(|(state, ticks)| !matches!(state, 'Z' | 'X') && ticks == init.start_ticks)
}

/// When a process started, in clock ticks since boot.
pub(crate) fn start_ticks(pid: i32) -> Option<u64> {
    read(pid).map(|(_, ticks)| ticks)
}

/// The state letter and the start time (proc_pid_stat(5)). The name before them may hold anything, so they are counted
/// from the last parenthesis.
fn read(pid: i32) -> Option<(char, u64)> {
    let text = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    let text = String::from_utf8_lossy(&text);
    let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    // The state is field 3, the start time field 22.
    Some((state, fields.nth(22 - 4)?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reused_pid_is_somebody_else() {
        let pid = std::process::id() as i32;
        let start_ticks = start_ticks(pid).unwrap();
        assert!(is_alive(Init { pid, start_ticks }));
        assert!(!is_alive(Init { pid, start_ticks: start_ticks + 1 }));
    }
}
