//! What a person sees: data on stdout, talk on stderr.

use naru_types::{Error, Result};
use naru_wire::naru::BuildCheck;
use serde_json::Value;
use std::io::{IsTerminal, Read, Write};
use std::process::ExitCode;

/// One line of data. A reader that went away (`naru ps | head -1`) ends the program quietly.
pub fn line(text: impl std::fmt::Display) {
    if writeln!(std::io::stdout().lock(), "{text}").is_err() {
        std::process::exit(0);
    }
}

/// Data as it is, without a line feed.
pub fn raw(bytes: &[u8]) {
    let mut stdout = std::io::stdout().lock();
    if stdout.write_all(bytes).and_then(|()| stdout.flush()).is_err() {
        std::process::exit(0);
    }
}

/// One line of talk. A standard error that is gone is nobody's problem.
pub fn talk(text: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// Talk whose line is not ended yet: a question.
pub fn talk_part(text: impl std::fmt::Display) {
    let mut stderr = std::io::stderr().lock();
    let _ = write!(stderr, "{text}").and_then(|()| stderr.flush());
}

pub fn print_error(error: &Error) {
    talk(format_args!("{} {}", paint("error:", "1;31"), error.chain()));
    if let Some(hint) = error.hint() {
        talk(format_args!("{} {hint}", paint("hint:", "1;36")));
    }
}

/// clap's own message: help goes to stdout with 0, a usage error to stderr with Docker's 125.
pub fn usage(error: &clap::Error) -> ExitCode {
    let _ = error.print();
    if error.use_stderr() { ExitCode::from(125) } else { ExitCode::SUCCESS }
}

/// Colour where a person looks and doesn't mind (no-color.org).
pub fn paint(text: &str, code: &str) -> String {
    let wanted = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    if wanted { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}

/// Docker's stream of JSON messages, as lines on stderr. `quiet` shows only what went wrong, which is returned.
pub fn progress(response: impl Read, quiet: bool) -> Result<()> {
    result(response, quiet).map(drop)
}

/// As [`progress`]; what the stream gives beside its news (`aux`) is returned, the last of it.
pub fn result(response: impl Read, quiet: bool) -> Result<Option<Value>> {
    let mut result = None;
    messages(response, |message| {
        result = message.get("aux").cloned().or(result.take());
        if quiet || !message["progressDetail"]["current"].is_null() {
            // Byte counts change many times a second; a line for each would drown what matters.
            return;
        }
        let text = |key: &str| message.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
        match (text("id"), text("status"), text("stream")) {
            (Some(id), Some(status), _) => talk(format_args!("{id}: {status}")),
            (None, Some(status), _) => talk(status),
            (_, None, Some(stream)) => raw(stream.as_bytes()),
            _ => {}
        }
    })?;
    Ok(result)
}

/// The builder's stream: its text on stderr, the image's id as the result.
pub fn build_progress(response: impl Read, quiet: bool) -> Result<Option<String>> {
    let mut id = None;
    messages(response, |message| {
        if let Some(text) = message.pointer("/aux/ID").and_then(Value::as_str) {
            id = Some(text.to_owned());
        }
        if let Some(text) = message.get("stream").and_then(Value::as_str).filter(|_| !quiet) {
            let _ = std::io::stderr().write_all(text.as_bytes());
        }
        if let Some(status) = message.get("status").and_then(Value::as_str).filter(|_| !quiet) {
            let id = message.get("id").and_then(Value::as_str).unwrap_or_default();
            if message["progressDetail"]["current"].is_null() {
                talk(format_args!("{id}{}{status}", if id.is_empty() { "" } else { ": " }));
            }
        }
    })?;
    Ok(id)
}

/// A stream whose last status is its result, as the id that an import ends with.
pub fn last_status(response: impl Read) -> Result<Option<String>> {
    let mut last = None;
    messages(response, |message| {
        if let Some(status) = message.get("status").and_then(Value::as_str) {
            last = Some(status.to_owned());
        }
    })?;
    Ok(last)
}

/// The findings of a check.
pub fn build_check(response: impl Read) -> Result<BuildCheck> {
    let mut found = None;
    messages(response, |message| {
        if let Some(check) = message.pointer("/aux/check") {
            found = serde_json::from_value(check.clone()).ok();
        }
    })?;
    found.ok_or_else(|| Error::internal("the check ended without a result"))
}

/// The messages of a stream; one that carries an error ends it with that.
pub fn messages(response: impl Read, mut show: impl FnMut(&Value)) -> Result<()> {
    for message in serde_json::Deserializer::from_reader(response).into_iter::<Value>() {
        let message =
            message.map_err(|error| Error::internal("the daemon's answer broke off").with_source(error))?;
        if let Some(error) = message.get("error").and_then(Value::as_str) {
            let (text, hint) = split_hint(error);
            let detailed = message.pointer("/errorDetail/hint").and_then(Value::as_str).map(str::to_owned);
            let error = Error::new(naru_types::Kind::InvalidInput, text);
            return Err(if let Some(hint) = hint.or(detailed) { error.with_hint(hint) } else { error });
        }
        show(&message);
    }
    Ok(())
}

/// The daemon puts a hint on a line of its own, `hint: …`.
pub fn split_hint(message: &str) -> (String, Option<String>) {
    match message.split_once("\nhint: ") {
        Some((text, hint)) => (text.to_owned(), Some(hint.trim_end().to_owned())),
        None => (message.trim_end().to_owned(), None),
    }
}
