//! The words of the state machine: states, events, effects. No behaviour here; that is `step`.

use crate::options::WaitCondition;
use crate::view::{Status, WaitResult};
use naru_types::Timestamp;
use naru_types::signal::Signal;
use naru_types::spec::RestartPolicy;
use serde::{Deserialize, Serialize};

/// Names one caller that waits for one answer.
pub type Ask = u64;

/// A variant holds what is true only then. Stored as JSON with the container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum State {
    /// Never ran. `failure`: the latest attempt to start it.
    Created {
        failure: Option<Exit>,
    },
    /// A launch is under way.
    Starting(Starting),
    Running {
        run: Run,
    },
    Paused {
        run: Run,
    },
    /// The process was told to end, and somebody waits for that.
    Stopping {
        run: Run,
        stop: Stop,
    },
    /// The process has ended; network, ports and bundle are being released.
    Settling {
        exit: Exit,
        tries: Tries,
        outcome: Outcome,
        stopped: bool,
    },
    /// Between two runs by the restart policy.
    Restarting {
        last: Exit,
        tries: Tries,
        due: Timestamp,
    },
    /// `by_user`: somebody wanted it stopped, so `unless-stopped` leaves it so after a daemon start.
    Exited {
        last: Exit,
        tries: Tries,
        by_user: bool,
    },
    Removing {
        last: Option<Exit>,
        volumes: bool,
    },
    /// Removal failed half way; it can be tried again, and the next daemon does.
    Dead {
        last: Option<Exit>,
        volumes: bool,
        reason: String,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Starting {
    pub origin: Origin,
    pub tries: Tries,
    pub last: Option<Exit>,
    /// What was asked for while the launch was under way.
    pub then: Option<Stop>,
    /// The exit overtook the news of the start.
    pub early: Option<ExitStatus>,
}

/// Who wants this start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    User,
    /// `restart`: reports itself with an event of its own.
    Restart,
    Policy,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    pub pid: i32,
    pub started_at: Timestamp,
    pub tries: Tries,
    /// The kernel killed something in it for want of memory.
    pub oom: bool,
    /// Somebody sent the signal that ends it: not to be restarted.
    pub halted: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stop {
    pub signal: Signal,
    /// When SIGKILL follows; `None`: never, or it was sent.
    pub kill_at: Option<Timestamp>,
    pub then: Then,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Then {
    Stay,
    Restart,
    Remove { volumes: bool },
}

/// What follows once everything of the run is released.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    Stay { by_user: bool },
    StartNow,
    Backoff { tries: Tries, due: Timestamp },
    Remove { volumes: bool },
}

/// The restart policy's memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tries {
    pub count: u32,
    /// The latest pause before a restart; zero after a long run.
    pub delay_ms: u64,
}

/// How a run, or an attempt at one, ended.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Exit {
    pub code: i64,
    pub unknown: bool,
    pub oom: bool,
    pub error: String,
    pub started_at: Timestamp,
    pub finished_at: Timestamp,
}

/// What the keeper, or the lack of its word, says of an ended process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitStatus {
    /// `None`: nobody saw it.
    pub code: Option<i64>,
    pub oom: bool,
    pub at: Timestamp,
    /// Why nobody saw it.
    pub why: String,
}

/// What of the container's description the machine goes by.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    pub policy: RestartPolicy,
    pub auto_remove: bool,
    pub stop_signal: Signal,
    /// Negative: SIGKILL never follows.
    pub stop_timeout_secs: i64,
}

/// Why a start came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaunchFailure {
    /// The exit code that the attempt counts as.
    pub code: i64,
    pub error: String,
    /// What its user can do about it.
    pub hint: Option<String>,
}

#[derive(Clone, Debug)]
pub enum Event {
    Start(Ask),
    Stop {
        ask: Ask,
        signal: Option<Signal>,
        timeout_secs: Option<i64>,
    },
    Restart {
        ask: Ask,
        signal: Option<Signal>,
        timeout_secs: Option<i64>,
    },
    Kill {
        ask: Ask,
        signal: Signal,
    },
    Pause(Ask),
    Unpause(Ask),
    Remove {
        ask: Ask,
        force: bool,
        volumes: bool,
    },
    Wait {
        ask: Ask,
        condition: WaitCondition,
    },
    Launched {
        pid: i32,
        at: Timestamp,
    },
    LaunchFailed(LaunchFailure),
    Frozen {
        ask: Ask,
        error: Option<String>,
    },
    Thawed {
        ask: Ask,
        error: Option<String>,
    },
    Oom,
    Ended(ExitStatus),
    TornDown,
    Deleted,
    DeleteFailed(String),
    /// The deadline that [`State::deadline`] named may have passed.
    Tick,
    /// After the daemon started: take up work that the last one left, but no new run.
    Resume,
    /// After every container is resumed: the restart policies' turn.
    DaemonStarted,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    Launch,
    Signal(Signal),
    /// A signal, and SIGKILL at `kill_at` by the keeper, should this daemon be gone by then.
    Stop {
        signal: Signal,
        kill_at: Timestamp,
    },
    Freeze(Ask),
    /// `None`: on the way to the end, nobody waits for it.
    Thaw(Option<Ask>),
    Teardown,
    Delete {
        volumes: bool,
    },
    Answer(Ask, Result<(), Refusal>),
    AnswerWait(Ask, WaitResult),
    Emit(Happening),
    /// Nothing is left of it: take it out of every list.
    Unlist,
    /// The container's task ends; always the last effect.
    Vanish,
}

/// What the world is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Happening {
    Start,
    Die(Exit),
    Kill(Signal),
    Stop,
    Restart,
    Pause,
    Unpause,
    Oom,
    Destroy,
}

/// Why a request is not done. Names and texts are added where the container is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    AlreadyRunning,
    AlreadyStopped,
    NotRunning,
    IsPaused,
    AlreadyPaused,
    NotPaused,
    IsRestarting,
    RemovalInProgress,
    MarkedForRemoval,
    /// Remove without force.
    StillActive(Status),
    /// A later request took this one's place.
    Overtaken,
    LaunchFailed(LaunchFailure),
    Failed(String),
}

/// The state and those who wait for it to change. Only the state outlives the daemon.
#[derive(Clone, Debug)]
pub struct Machine {
    pub state: State,
    pub pending: Vec<(Ask, Goal)>,
    pub waiters: Vec<(Ask, WaitCondition)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    Started,
    Stopped,
    Removed,
}

impl Machine {
    pub fn new(state: State) -> Self {
        Self { state, pending: Vec::new(), waiters: Vec::new() }
    }
}

impl State {
    pub fn status(&self) -> Status {
        match self {
            Self::Created { .. } => Status::Created,
            Self::Starting(starting) => match (starting.origin, &starting.last) {
                (Origin::Policy, _) => Status::Restarting,
                (Origin::User | Origin::Restart, None) => Status::Created,
                (Origin::User | Origin::Restart, Some(_)) => Status::Exited,
            },
            Self::Running { .. } | Self::Stopping { .. } | Self::Settling { .. } => Status::Running,
            Self::Paused { .. } => Status::Paused,
            Self::Restarting { .. } => Status::Restarting,
            Self::Exited { .. } => Status::Exited,
            Self::Removing { .. } => Status::Removing,
            Self::Dead { .. } => Status::Dead,
        }
    }

    /// The run that has a process.
    pub fn run(&self) -> Option<&Run> {
        match self {
            Self::Running { run } | Self::Paused { run } | Self::Stopping { run, .. } => Some(run),
            Self::Created { .. }
            | Self::Starting(_)
            | Self::Settling { .. }
            | Self::Restarting { .. }
            | Self::Exited { .. }
            | Self::Removing { .. }
            | Self::Dead { .. } => None,
        }
    }

    /// How the latest run ended, where it has.
    pub fn last(&self) -> Option<&Exit> {
        match self {
            Self::Created { failure: last } | Self::Removing { last, .. } | Self::Dead { last, .. } => {
                last.as_ref()
            }
            Self::Starting(starting) => starting.last.as_ref(),
            Self::Running { .. } | Self::Paused { .. } | Self::Stopping { .. } => None,
            Self::Settling { exit: last, .. } | Self::Restarting { last, .. } | Self::Exited { last, .. } => {
                Some(last)
            }
        }
    }

    pub fn restart_count(&self) -> u32 {
        match self {
            Self::Running { run } | Self::Paused { run } | Self::Stopping { run, .. } => run.tries.count,
            Self::Starting(starting) => starting.tries.count,
            Self::Settling { tries, .. } | Self::Restarting { tries, .. } | Self::Exited { tries, .. } => {
                tries.count
            }
            Self::Created { .. } | Self::Removing { .. } | Self::Dead { .. } => 0,
        }
    }

    /// When [`Event::Tick`] is wanted.
    pub fn deadline(&self) -> Option<Timestamp> {
        match self {
            Self::Stopping { stop, .. } => stop.kill_at,
            Self::Restarting { due, .. } => Some(*due),
            Self::Created { .. }
            | Self::Starting(_)
            | Self::Running { .. }
            | Self::Paused { .. }
            | Self::Settling { .. }
            | Self::Exited { .. }
            | Self::Removing { .. }
            | Self::Dead { .. } => None,
        }
    }
}
