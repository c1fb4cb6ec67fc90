//! What the keeper changes about itself and containers must not inherit.

use super::state::InheritedState;
use crate::oci;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The keeper must outlive memory pressure (proc_pid_oom_score_adj(5)); −1000 would exempt it altogether.
const OOM_SCORE_ADJ: &str = "-999";
const OOM_SCORE_ADJ_PATH: &str = "/proc/self/oom_score_adj";
/// What the keeper was started with and changed for itself; containers that ask for nothing get the former.
#[derive(Debug)]
pub(super) struct Inherited {
    nofile: Rlimit,
    oom_score_adj: Option<i32>,
}

impl Inherited {
    /// Raises the number of files (each container takes about six) and lowers the chance to be killed for memory.
    pub fn take_over() -> Self {
        let nofile = getrlimit(Resource::Nofile);
        // Neither is worth refusing to run for.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: nofile.maximum, maximum: nofile.maximum });
        let oom_score_adj =
            std::fs::read_to_string(OOM_SCORE_ADJ_PATH).ok().and_then(|text| text.trim().parse().ok());
        let _ = std::fs::write(OOM_SCORE_ADJ_PATH, OOM_SCORE_ADJ);
        Self { nofile, oom_score_adj }
    }

    pub fn save(&self) -> InheritedState {
        InheritedState {
            nofile_soft: self.nofile.current,
            nofile_hard: self.nofile.maximum,
            oom_score_adj: self.oom_score_adj,
        }
    }

    pub fn restore(state: InheritedState) -> Self {
        let nofile = Rlimit { current: state.nofile_soft, maximum: state.nofile_hard };
        Self { nofile, oom_score_adj: state.oom_score_adj }
    }

    /// Fills what `process` leaves open.
    pub fn apply(&self, process: &mut oci::Process) {
        if !process.rlimits.iter().any(|limit| limit.kind == "RLIMIT_NOFILE") {
            let number = |value: Option<u64>| value.unwrap_or(u64::MAX);
            let (soft, hard) = (number(self.nofile.current), number(self.nofile.maximum));
            process.rlimits.push(oci::Rlimit { kind: "RLIMIT_NOFILE".into(), soft, hard });
        }
        process.oom_score_adj = process.oom_score_adj.or(self.oom_score_adj);
    }
}
