//! `exec`: create the session, start it attached or detached, answer with its exit code.

use crate::client::{Api, escape};
use crate::flags::ExecFlags;
use crate::stdio::{self, Streams};
use crate::{Outcome, request};
use naru_types::Error;
use serde_json::{Value, json};
use std::io::IsTerminal;

pub fn exec(api: &Api, flags: &ExecFlags) -> Outcome {
    if flags.tty && flags.interactive && !flags.detach && !std::io::stdin().is_terminal() {
        return Err(Error::invalid(
            "cannot attach stdin to a TTY-enabled container because stdin is not a terminal",
        )
        .with_hint("leave out -t, or run in a terminal")
        .into());
    }
    let body = json!({
        "Cmd": flags.command,
        "Env": request::environment(&[], &flags.env)?,
        "User": flags.user.as_deref().unwrap_or(""),
        "WorkingDir": flags.workdir.as_deref().unwrap_or(""),
        "Privileged": flags.privileged,
        "Tty": flags.tty,
        "AttachStdin": flags.interactive && !flags.detach,
        "AttachStdout": !flags.detach,
        "AttachStderr": !flags.detach,
    });
    let answer = api.post(&format!("/containers/{}/exec", escape(&flags.container)), Some(&body))?;
    let id = answer
        .get("Id")
        .and_then(Value::as_str)
        .ok_or_else(|| Error::internal("the daemon answered without an id"))?;
    let start = json!({ "Detach": flags.detach, "Tty": flags.tty });
    if flags.detach {
        api.post(&format!("/exec/{id}/start"), Some(&start))?;
        return Ok(0);
    }
    let socket = api.hijack(&format!("/exec/{id}/start"), Some(&start))?;
    let session = Streams { tty: flags.tty, stdin: flags.interactive, resize: format!("/exec/{id}/resize") };
    stdio::pump(api, socket, &session)?;
    let state = api.get(&format!("/exec/{id}/json"))?;
    let code = state.get("ExitCode").and_then(Value::as_i64).unwrap_or(1);
    Ok(u8::try_from(code & 0xff).unwrap_or(1))
}
