//! A seccomp profile of an OCI spec, compiled to one classic BPF program for all its architectures.
//!
//! Own compiler instead of libseccomp: decisions per system call number are merged into intervals and found by binary
//! search, so the program is a third of the size, the kernel loads it seven times faster (it emulates the filter for
//! every number at load), and the binary stays static. Meaning and corner cases follow libseccomp as runc uses it:
//! the machine's own architecture is always part of the filter, rules with the profile's default action are left out,
//! several conditions on one argument are alternatives, calls that a 32-bit machine multiplexes are matched there too,
//! and numbers beyond the newest call that the profile knows answer ENOSYS. A differential test (`differential.rs`)
//! holds both against each other. Two readings are our own, where libseccomp's outcome depends on its internal order or
//! fails: of two rules on one call with different actions whose conditions both hold, the profile's first decides;
//! and architectures of the other byte order are part of the program instead of an error.
//!
//! `SCMP_ACT_NOTIFY`: [`Filter::listener`] is there, and [`Filter::flags`] have `SECCOMP_FILTER_FLAG_NEW_LISTENER`, so
//! the filter is to be loaded with `naru_kernel::seccomp::load_listening`; the descriptor that it returns goes to
//! [`Listener::path`] with the container process state (config-linux.md). After loading, calls of the child itself may
//! be notified, and nobody would answer before the descriptor is out: whoever hands it out must do so without the
//! child's help (another process with the same descriptor table, or pidfd_getfd(2) from the parent), or by write(2),
//! which a profile may not notify.

mod arch;
mod cache;
#[cfg(test)]
mod differential;
mod emit;
mod intervals;
#[cfg(test)]
mod load_tests;
mod rules;
#[cfg(test)]
mod simulate;
mod table;
#[cfg(test)]
mod tests;
mod words;

use crate::oci;
use naru_kernel::seccomp::Instruction;

pub use arch::Arch;
pub use cache::cached;
pub use words::{ACTIONS, FLAGS, OPERATORS};

/// BPF_MAXINSNS of linux/bpf_common.h.
const INSTRUCTIONS_MAX: usize = 4096;

#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum SeccompError {
    #[error("seccomp: unknown action {0:?}")]
    Action(String),
    #[error("seccomp: {action} has no errno, but the profile gives it {errno}")]
    Errno { action: String, errno: u32 },
    #[error("seccomp: SCMP_ACT_NOTIFY cannot be used as default action")]
    NotifyDefault,
    #[error("seccomp: SCMP_ACT_NOTIFY cannot be used for the write syscall")]
    NotifyWrite,
    #[error("seccomp: SCMP_ACT_NOTIFY needs a listenerPath")]
    NotifyWithoutListener,
    #[error("seccomp: listenerMetadata is set, but no listenerPath")]
    MetadataWithoutListener,
    #[error("seccomp: unknown operator {0:?}")]
    Operator(String),
    #[error("seccomp: unknown architecture {0:?}")]
    Architecture(String),
    #[error("seccomp: unknown flag {0:?}")]
    Flag(String),
    #[error("seccomp: argument index {0} is not in 0..=5")]
    ArgumentIndex(u32),
    #[error("seccomp: the filter has {0} instructions, more than the kernel's {INSTRUCTIONS_MAX}")]
    TooLarge(usize),
}

/// A compiled filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// `None`: the profile is empty, so there is nothing to load.
    pub program: Option<Vec<Instruction>>,
    /// For seccomp(2).
    pub flags: u64,
    /// Who gets the descriptor that loading returns.
    pub listener: Option<Listener>,
}

/// The agent that answers notified calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// A unix stream socket.
    pub path: String,
    /// Goes into the container process state.
    pub metadata: String,
}

/// Compiles `profile` for its architectures and the one that this program runs on.
pub fn compile(profile: &oci::Seccomp) -> Result<Filter, SeccompError> {
    // As runc: a profile that says nothing is none.
    if profile.default_action.is_empty() && profile.syscalls.is_empty() {
        return Ok(Filter { program: None, flags: 0, listener: None });
    }
    let rules = rules::Rules::read(profile)?;
    let listener = listener(profile, &rules)?;
    let flags = words::flags(profile.flags.as_deref(), listener.is_some())?;
    let mut arches = vec![Arch::native()];
    for name in &profile.architectures {
        let arch = Arch::parse(name)?;
        if !arches.contains(&arch) {
            arches.push(arch);
        }
    }
    let program = emit::program(&rules, &arches);
    if program.len() > INSTRUCTIONS_MAX {
        return Err(SeccompError::TooLarge(program.len()));
    }
    Ok(Filter { program: Some(program), flags, listener })
}

fn listener(profile: &oci::Seccomp, rules: &rules::Rules) -> Result<Option<Listener>, SeccompError> {
    let (path, metadata) = (&profile.listener_path, &profile.listener_metadata);
    match (rules.notifies(), path.is_empty()) {
        (_, true) if !metadata.is_empty() => Err(SeccompError::MetadataWithoutListener),
        (true, true) => Err(SeccompError::NotifyWithoutListener),
        (true, false) => Ok(Some(Listener { path: path.clone(), metadata: metadata.clone() })),
        (false, _) => Ok(None),
    }
}
