//! Help, from the same tables that arguments are read by, and the version.

use crate::commands::{Command, TABLE, find, print};
use crate::error::OciError;
use crate::flags::{Flag, Takes};
use crate::globals;
use naru_runtime::oci;
use std::fmt::Write;

/// Callers look for the word `version` in the first line and for `spec:` in a later one.
pub(crate) fn version() -> Result<u8, OciError> {
    print(&format!("naru version {}\nspec: {}\n", env!("CARGO_PKG_VERSION"), oci::VERSION))
}

pub(crate) fn program() -> Result<u8, OciError> {
    let mut text = String::from(
        "NAME:\n   naru oci - run containers from OCI bundles, with runc's command line\n\n\
         USAGE:\n   naru oci [global options] command [command options] [arguments...]\n\nCOMMANDS:\n",
    );
    for command in TABLE {
        // Writing to a String cannot fail, here and below.
        let _ = writeln!(text, "   {:<12}{}", command.name, command.about);
    }
    let _ = writeln!(text, "   {:<12}Shows a list of commands or help for one command", "help, h");
    text.push_str("\nGLOBAL OPTIONS:\n");
    flags(&mut text, globals::FLAGS);
    print(&text)
}

pub(crate) fn topic(name: Option<&str>) -> Result<u8, OciError> {
    match name {
        None => program(),
        Some(name) => match find(name) {
            Some(found) => command(found),
            None => Err(OciError::NoCommand(name.to_owned(), None)),
        },
    }
}

pub(crate) fn command(command: &Command) -> Result<u8, OciError> {
    let mut text = format!(
        "NAME:\n   naru oci {name} - {about}\n\nUSAGE:\n   naru oci {name} [command options] {arguments}\n",
        name = command.name,
        about = command.about,
        arguments = command.arguments,
    );
    if !command.flags.is_empty() {
        text.push_str("\nOPTIONS:\n");
        flags(&mut text, command.flags);
    }
    print(&text)
}

fn flags(text: &mut String, table: &[Flag]) {
    for flag in table {
        let value = if flag.takes == Takes::Nothing { "" } else { " value" };
        let short = if flag.short.is_empty() { String::new() } else { format!(", -{}{value}", flag.short) };
        let _ = writeln!(text, "   {:<36}{}", format!("--{}{value}{short}", flag.name), flag.help);
    }
}
