//! Instructions as types. Words that may hold variables are kept as written.

use crate::dockerfile::source::Heredoc;
use crate::error::Position;
use crate::runner::StepNetwork;
use naru_types::image::Healthcheck;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dockerfile {
    pub escape: char,
    /// ARGs before the first FROM.
    pub global_args: Vec<(Position, Vec<Arg>)>,
    /// At least one.
    pub stages: Vec<Stage>,
    pub warnings: Vec<String>,
    /// The `# check=` directive.
    pub check: Option<String>,
    /// Lines at whose continuations an empty line stands.
    pub empty_continuations: Vec<usize>,
    /// Names to which the request gives a meaning of its own (`--build-context`).
    pub contexts: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    pub at: Position,
    /// The FROM line as written.
    pub text: String,
    /// Lower case.
    pub name: Option<String>,
    pub base: String,
    pub platform: Option<String>,
    pub steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub at: Position,
    pub text: String,
    pub instruction: Instruction,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Instruction {
    Run(Run),
    Copy(Copy),
    Env(Vec<(String, String)>),
    Arg(Vec<Arg>),
    Workdir(String),
    User(String),
    /// The words are split after expansion, since a variable may hold several ports.
    Expose(String),
    Label(Vec<(String, String)>),
    Cmd(Command),
    Entrypoint(Command),
    Volume(Vec<String>),
    Healthcheck(Healthcheck),
    Shell(Vec<String>),
    StopSignal(String),
    /// The text of the instruction to run in images built on this one.
    OnBuild(String),
    Maintainer(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arg {
    pub name: String,
    pub default: Option<String>,
}

/// What CMD, ENTRYPOINT and RUN execute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// One line for the shell.
    Shell(String),
    Exec(Vec<String>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    pub command: Command,
    /// `RUN <<EOF` whose content begins with `#!`: executed as a file of this name.
    pub script: Option<Heredoc>,
    pub mounts: Vec<MountFlag>,
    pub network: Option<StepNetwork>,
}

/// A `--mount` as written; its variables get their values when the step runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountFlag {
    pub text: String,
    /// The stage or image of `from=`.
    pub from: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunMount {
    pub target: Option<String>,
    pub kind: RunMountKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunMountKind {
    Cache {
        /// `None`: the target is the name.
        id: Option<String>,
        /// Where the cache's first content comes from.
        from: Option<String>,
        source: Option<String>,
        sharing: Sharing,
        read_only: bool,
        look: Look,
    },
    /// What a step writes to one that isn't read-only is gone after the step.
    Bind {
        from: Option<String>,
        source: String,
        read_only: bool,
    },
    Tmpfs {
        size: Option<i64>,
    },
    Secret {
        id: String,
        /// The variable that holds the value.
        env: Option<String>,
        required: bool,
        look: Look,
    },
    Ssh {
        id: String,
        required: bool,
        look: Look,
    },
}

/// `mode=`, `uid=` and `gid=` of a mount.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Look {
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
}

/// What happens when two steps want one cache mount at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sharing {
    #[default]
    Shared,
    /// The second waits.
    Locked,
    /// The second gets another directory.
    Private,
}

/// COPY and ADD.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// ADD, not COPY.
    pub add: bool,
    /// A stage's name or number, or an image.
    pub from: Option<String>,
    pub sources: Vec<String>,
    /// Heredocs: files named by their delimiters.
    pub inline: Vec<Heredoc>,
    pub destination: String,
    pub chown: Option<String>,
    pub chmod: Option<String>,
    /// The destination's symbolic links in the image are not followed.
    pub link: bool,
    /// Sources keep the directories that they were named with.
    pub parents: bool,
    /// Patterns of what is left out, relative to each source.
    pub exclude: Vec<String>,
    /// `sha256:…` of a download.
    pub checksum: Option<String>,
    /// ADD's own choice otherwise: local archives are unpacked, downloads are not.
    pub unpack: Option<bool>,
}

impl Copy {
    pub fn keyword(&self) -> &'static str {
        if self.add { "ADD" } else { "COPY" }
    }
}
