//! The builder: a Dockerfile and a context directory become an image.
//!
//! # What it is
//! A parser of the Dockerfile language, the plan of the stages that are needed, and the execution of
//! their steps over a content-keyed cache. COPY and ADD write a layer directly; RUN goes through a port,
//! [`StepRunner`], that others implement over containers.
//!
//! # What it must not do
//! It starts no process and no container itself, speaks to no registry but through the image store, and
//! never follows a path of the context or of an image outside of its root.
//!
//! # Start reading at
//! [`Builder::build`], then `execute` and `steps`; the language is in `dockerfile`.
//!
//! # Invariants
//! - A Dockerfile is parsed and checked as a whole before the first step runs.
//! - Names are put on the image in one act, after its last step; a failed or cancelled build leaves
//!   nothing but cache entries of the steps that had succeeded.
//! - A cache entry counts only while the store still holds its layer.
//! - Cache keys depend on content, never on times.
//! - A file of a kept context may be in layers by a hard link. Neither is ever written to: what a step may write to is a copy.
//!
//! # How it is tested
//! Tables beside each part of the language; `tests/` builds against a real store in a temporary
//! directory, as root, with a runner that executes commands in a private root.

pub mod event;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
pub mod outline;
pub mod request;
pub mod runner;
pub mod session;

pub use builder::{Builder, Built, EventSink, PrunedCache};
pub use context_dir::{ContextDir, unpack_context};
pub use error::{BuildError, Position};
pub use event::{BuildEvent, Stream};
pub use kept::{Contexts, KeptContext};
pub use lint::{LintReport, LintWarning};
pub use request::{BuildRequest, DockerfileSource, NamedContext};
pub use runner::{StepExit, StepMount, StepMountKind, StepNetwork, StepRunner, StepSpec};
pub use session::{BuildSession, Lent, NoSession, Secret, SshAgent};

mod args;
mod builder;
mod cache;
mod context_dir;
mod dockerfile;
mod error;
mod execute;
mod files;
mod kept;
mod lint;
mod plan;
mod scratch;
mod state;
mod steps;
