//! `attach`, and `start -a`.

use super::run::finish;
use crate::Outcome;
use crate::client::{Api, escape, query};
use crate::flags::AttachFlags;
use crate::stdio::{self, Streams};
use naru_types::Error;
use serde_json::Value;

pub fn attach(api: &Api, flags: &AttachFlags) -> Outcome {
    let view = api.get(&format!("/containers/{}/json", escape(&flags.container)))?;
    if view.pointer("/State/Running").and_then(Value::as_bool) != Some(true) {
        return Err(Error::conflict("cannot attach to a stopped container, start it first")
            .with_hint(format!("naru start -a {}", flags.container))
            .into());
    }
    let target = Target::of(&view, !flags.no_stdin)?;
    let socket = target.hijack(api)?;
    let waiter = api.wait(&target.id, "not-running")?;
    if !target.tty {
        stdio::forward_signals(api, format!("/containers/{}/kill", target.id));
    }
    stdio::pump(api, socket, &target.streams())?;
    finish(waiter)
}

pub fn start_attached(api: &Api, container: &str, stdin: bool) -> Outcome {
    let view = api.get(&format!("/containers/{}/json", escape(container)))?;
    let target = Target::of(&view, stdin)?;
    let socket = target.hijack(api)?;
    let waiter = api.wait(&target.id, "next-exit")?;
    api.post(&format!("/containers/{}/start", target.id), None)?;
    if !target.tty {
        stdio::forward_signals(api, format!("/containers/{}/kill", target.id));
    }
    stdio::pump(api, socket, &target.streams())?;
    finish(waiter)
}

struct Target {
    id: String,
    tty: bool,
    stdin: bool,
}

impl Target {
    fn of(view: &Value, want_stdin: bool) -> naru_types::Result<Self> {
        let id = view
            .get("Id")
            .and_then(Value::as_str)
            .ok_or_else(|| Error::internal("the daemon answered without an id"))?;
        let flag = |pointer: &str| view.pointer(pointer).and_then(Value::as_bool).unwrap_or(false);
        Ok(Self {
            id: id.to_owned(),
            tty: flag("/Config/Tty"),
            stdin: want_stdin && flag("/Config/OpenStdin"),
        })
    }

    fn hijack(&self, api: &Api) -> naru_types::Result<naru_wire::client::Hijacked> {
        let stdin = self.stdin.then_some("1");
        let parameters =
            query(&[("stream", Some("1")), ("stdin", stdin), ("stdout", Some("1")), ("stderr", Some("1"))]);
        api.hijack(&format!("/containers/{}/attach{parameters}", self.id), None)
    }

    fn streams(&self) -> Streams {
        Streams { tty: self.tty, stdin: self.stdin, resize: format!("/containers/{}/resize", self.id) }
    }
}
