//! `naru oci`: an OCI runtime with runc's command line.
//!
//! # What it is
//! dockerd, containerd's shim, podman and CRI-O start a program with runc's arguments and read runc's outputs. This is
//! that program: [`commands`] are its verbs, [`flags`] reads its arguments from tables, [`store`] keeps one directory
//! per container. Making a container is naru-runtime's work.
//!
//! # What it must not do
//! No threads, no async, no daemon, no network, no images. No external programs, except `criu` for checkpoint and
//! restore, which have no other implementation.
//!
//! # Start reading at
//! [`run`], then [`launch`] (create and run) and [`state`] (what is kept between two commands).
//!
//! # Invariants
//! A container's directory is changed only under its lock. A pid is taken for the container's only together with its
//! start time. What a command half made is unmade by it, or by the next create or delete of that id.
//!
//! # How it is tested
//! Tables beside their code; `tests/oci` runs the commands as processes with real containers, and compares with runc
//! where that is installed.

mod cgroups;
mod commands;
mod console;
mod container;
mod criu;
mod destroy;
mod error;
mod flags;
mod foreground;
mod globals;
mod help;
mod inherited;
mod launch;
mod log;
mod protect;
mod root_mount;
mod state;
mod status;
mod store;
mod text;

pub use error::OciError;

use globals::Globals;
use log::Log;
use naru_kernel::own_exe;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::process::ExitCode;

/// The file name under which the binary is this runtime: callers take a path and no further argument.
pub const PROGRAM: &str = "naru-oci";

/// Exit code of a failed command, as runc has it.
const FAILED: u8 = 1;
/// Exit code of a failed `exec`, so that it differs from what most programs return.
const EXEC_FAILED: u8 = 255;
/// Exit code for a command that does not exist.
const NO_COMMAND: u8 = 3;

/// Runs the command in `args` (the program's name first) and turns its outcome into an exit code.
pub fn run(args: &[OsString]) -> ExitCode {
    // First, so that nothing that is executed from here inherits it.
    let own_mount = own_exe::take_mount();
    let mut log = Log::stderr();
    match dispatch(args, &mut log, own_mount) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            log.error(&error.to_string());
            let code = match error {
                OciError::Exec(_) => EXEC_FAILED,
                OciError::NoCommand(..) => NO_COMMAND,
                _ => FAILED,
            };
            ExitCode::from(code)
        }
    }
}

fn dispatch(args: &[OsString], log: &mut Log, own_mount: Option<OwnedFd>) -> Result<u8, OciError> {
    let words = text::words(args)?;
    let rest = words.get(1..).unwrap_or_default();
    let parsed = flags::parse(globals::FLAGS, rest, flags::Order::FlagsFirst)?;
    let (name, rest) = match parsed.positional.split_first() {
        _ if parsed.has("version") => return help::version(),
        _ if parsed.has("help") => return help::program(),
        None => return help::program(),
        Some((name, rest)) => (*name, rest),
    };
    if matches!(name, "help" | "h") {
        return help::topic(rest.first().copied());
    }
    let Some(command) = commands::find(name) else {
        let names = commands::TABLE.iter().map(|command| command.name);
        return Err(OciError::NoCommand(name.to_owned(), naru_types::suggest::nearest(name, names)));
    };
    *log = Log::from_flags(&parsed)?;
    let own = flags::parse(command.flags, rest, command.order)?;
    if own.has("help") {
        return help::command(command);
    }
    own.check_count(command.name, command.positional)?;
    let globals = Globals::from_flags(&parsed)?;
    (command.run)(&mut commands::Call { globals: &globals, args: &own, log, own_mount })
}
