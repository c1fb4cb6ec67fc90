//! The commands, as a table: what they are called, take, and do.

mod checkpoint;
mod create;
mod delete;
mod events;
mod exec;
mod features;
mod kill;
mod list;
mod pause;
mod ps;
mod spec;
mod start;
mod state;
mod stats;
mod update;

use crate::error::OciError;
use crate::flags::{Args, Count, Flag, Order};
use crate::globals::Globals;
use crate::log::Log;
use std::io::Write;
use std::os::fd::OwnedFd;

/// One command.
pub(crate) struct Command {
    pub name: &'static str,
    pub about: &'static str,
    /// What follows the flags, for the help.
    pub arguments: &'static str,
    pub flags: &'static [Flag],
    pub order: Order,
    pub positional: Count,
    /// The exit code.
    pub run: fn(&mut Call<'_>) -> Result<u8, OciError>,
}

/// What a command is called with.
pub(crate) struct Call<'a> {
    pub globals: &'a Globals,
    pub args: &'a Args<'a>,
    pub log: &'a mut Log,
    /// What the program was executed from (`own_exe::take_mount`): to be closed when there is time.
    pub own_mount: Option<OwnedFd>,
}

impl Call<'_> {
    /// The container that is meant.
    pub fn id(&self) -> &str {
        self.args.positional.first().copied().unwrap_or_default()
    }
}

pub(crate) const TABLE: &[Command] = &[
    checkpoint::CHECKPOINT,
    create::CREATE,
    delete::DELETE,
    events::EVENTS,
    exec::EXEC,
    features::FEATURES,
    kill::KILL,
    list::LIST,
    pause::PAUSE,
    ps::PS,
    checkpoint::RESTORE,
    pause::RESUME,
    create::RUN,
    spec::SPEC,
    start::START,
    state::STATE,
    update::UPDATE,
];

const ONE: Count = Count { min: 1, max: 1 };
const NONE: Count = Count { min: 0, max: 0 };
const ID: &str = "<container-id>";

pub(crate) fn find(name: &str) -> Option<&'static Command> {
    TABLE.iter().find(|command| command.name == name)
}

/// To standard output, whole.
pub(crate) fn print(text: &str) -> Result<u8, OciError> {
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    written.map(|()| 0).map_err(|cause| OciError::kernel("write to standard output", cause))
}

fn print_json(value: &impl serde::Serialize) -> Result<u8, OciError> {
    let mut text =
        serde_json::to_string(value).map_err(|why| OciError::Json { what: "print".into(), why })?;
    text.push('\n');
    print(&text)
}

/// Indented with `indent`, for people.
fn pretty(value: &impl serde::Serialize, indent: &[u8]) -> Result<String, OciError> {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(indent);
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    value.serialize(&mut serializer).map_err(|why| OciError::Json { what: "print".into(), why })?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_flag_is_defined_twice() {
        for command in TABLE {
            let mut names: Vec<&str> =
                command.flags.iter().flat_map(|flag| [flag.name, flag.short]).collect();
            names.retain(|name| !name.is_empty());
            let count = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), count, "{}", command.name);
        }
    }
}
