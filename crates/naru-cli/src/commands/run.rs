//! `run` and `create`. The order of calls is Docker's and matters: attach and wait are registered before start, so
//! that a container that ends at once loses neither its output nor its exit code.

use crate::client::{Api, Waiter, escape, query};
use crate::flags::{CreateFlags, RunFlags};
use crate::request::{Attach, create_body};
use crate::stdio::{self, Streams};
use crate::{CliError, Outcome, output};
use naru_types::{Error, Kind, Result};
use serde_json::Value;
use std::io::IsTerminal;

/// The daemon refused (docker run(1), "Exit status").
const EXIT_DAEMON: u8 = 125;

pub fn create(api: &Api, flags: &CreateFlags) -> Outcome {
    let streams = Attach { stdin: flags.process.interactive, stdout: true, stderr: true };
    let id = make(api, flags, streams).map_err(|error| CliError::from(error).with_exit_code(EXIT_DAEMON))?;
    output::line(id);
    Ok(0)
}

pub fn run(api: &Api, flags: &RunFlags) -> Outcome {
    let refused = |error: Error| CliError::from(error).with_exit_code(EXIT_DAEMON);
    let create = &flags.create;
    let attach = wanted_streams(flags).map_err(refused)?;
    let foreground = attach.stdin || attach.stdout || attach.stderr;
    if create.process.tty && attach.stdin && !std::io::stdin().is_terminal() {
        let error =
            Error::invalid("cannot attach stdin to a TTY-enabled container because stdin is not a terminal");
        return Err(refused(error.with_hint("leave out -t, or run in a terminal")));
    }
    let id = make(api, create, attach).map_err(refused)?;
    if !foreground {
        start(api, &id)?;
        output::line(&id);
        return Ok(0);
    }
    let parameters = query(&[
        ("stream", Some("1")),
        ("stdin", attach.stdin.then_some("1")),
        ("stdout", attach.stdout.then_some("1")),
        ("stderr", attach.stderr.then_some("1")),
    ]);
    let socket = api.hijack(&format!("/containers/{id}/attach{parameters}"), None).map_err(refused)?;
    let condition = if create.process.rm { "removed" } else { "next-exit" };
    let waiter = api.wait(&id, condition).map_err(refused)?;
    start(api, &id)?;
    let session =
        Streams { tty: create.process.tty, stdin: attach.stdin, resize: format!("/containers/{id}/resize") };
    if !flags.no_sig_proxy && !create.process.tty {
        stdio::forward_signals(api, format!("/containers/{id}/kill"));
    }
    stdio::pump(api, socket, &session)?;
    finish(waiter)
}

/// Waits for the exit code that the waiter was registered for.
pub fn finish(waiter: Waiter) -> Outcome {
    let answer = waiter.answer()?;
    if let Some(message) =
        answer.pointer("/Error/Message").and_then(Value::as_str).filter(|text| !text.is_empty())
    {
        output::talk(message);
    }
    let code = answer.get("StatusCode").and_then(Value::as_i64).unwrap_or(i64::from(EXIT_DAEMON));
    Ok(u8::try_from(code & 0xff).unwrap_or(EXIT_DAEMON))
}

fn wanted_streams(flags: &RunFlags) -> Result<Attach> {
    if flags.detach {
        return if flags.attach.is_empty() {
            Ok(Attach::default())
        } else {
            Err(Error::invalid("conflicting options: cannot specify both --attach and --detach"))
        };
    }
    if flags.attach.is_empty() {
        return Ok(Attach { stdin: flags.create.process.interactive, stdout: true, stderr: true });
    }
    let mut attach = Attach::default();
    for stream in &flags.attach {
        match stream.to_ascii_lowercase().as_str() {
            "stdin" => attach.stdin = true,
            "stdout" => attach.stdout = true,
            "stderr" => attach.stderr = true,
            _ => {
                return Err(Error::invalid(format!(
                    "invalid stream {stream:?}: valid are STDIN, STDOUT and STDERR"
                )));
            }
        }
    }
    Ok(attach)
}

/// A start that fails names its class by the exit code: 127 not found, 126 not executable, 125 the rest.
fn start(api: &Api, id: &str) -> std::result::Result<(), CliError> {
    api.post(&format!("/containers/{id}/start"), None).map(drop).map_err(|error| {
        let text = error.message();
        let code = if text.contains("executable file not found") || text.contains("no such file or directory")
        {
            127
        } else if text.contains("permission denied") || text.contains("is a directory") {
            126
        } else {
            EXIT_DAEMON
        };
        CliError::from(error).with_exit_code(code)
    })
}

/// Creates the container, pulling a missing image first.
fn make(api: &Api, flags: &CreateFlags, attach: Attach) -> Result<String> {
    let body = create_body(flags, attach)?;
    if flags.process.pull == "always" {
        super::image::pull_with_progress(api, &flags.image, None, false)?;
    }
    let path = format!("/containers/create{}", query(&[("name", flags.process.name.as_deref())]));
    let answer = match api.post(&path, Some(&body)) {
        Err(error)
            if error.kind() == Kind::NotFound
                && flags.process.pull == "missing"
                && is_missing_image(&error) =>
        {
            output::talk(format_args!("Unable to find image '{}' locally", flags.image));
            super::image::pull_with_progress(api, &flags.image, None, true)?;
            api.post(&path, Some(&body))?
        }
        other => other?,
    };
    for warning in answer.get("Warnings").and_then(Value::as_array).into_iter().flatten() {
        output::talk(format_args!("WARNING: {}", warning.as_str().unwrap_or_default()));
    }
    let id = answer
        .get("Id")
        .and_then(Value::as_str)
        .ok_or_else(|| Error::internal("the daemon answered without an id"))?;
    if let Some(file) = &flags.process.cidfile {
        std::fs::write(file, id)
            .map_err(|error| Error::invalid(format!("cannot write {file}")).with_source(error))?;
    }
    Ok(escape(id))
}

fn is_missing_image(error: &Error) -> bool {
    error.message().to_ascii_lowercase().contains("no such image")
}
