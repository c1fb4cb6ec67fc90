//! Exec: create, start, resize, inspect.

use crate::context::ApiContext;
use crate::routes::lifecycle::window;
use crate::web::hijack::{self, Framing, Session};
use crate::web::request::Request;
use crate::web::respond::{self, Response};
use hyper::StatusCode;
use naru_engine::{ExecSpec, ExecView};
use naru_types::{Error, Result};
use naru_wire::exec::{ExecCreate, ExecJson, ExecStart, IdResponse, ProcessConfig};
use std::sync::Arc;

pub async fn create(context: Arc<ApiContext>, mut request: Request) -> Result<Response> {
    let body: ExecCreate = request.json().await?;
    if body.cmd.is_empty() {
        return Err(Error::invalid("No exec command specified"));
    }
    hijack::parse_detach_keys(&body.detach_keys)?;
    let spec = ExecSpec {
        args: body.cmd,
        env: body.env,
        user: body.user,
        working_dir: body.working_dir,
        tty: body.tty,
        attach_stdin: body.attach_stdin,
        attach_stdout: body.attach_stdout,
        attach_stderr: body.attach_stderr,
        privileged: body.privileged,
        detach_keys: body.detach_keys,
        console_size: body.console_size.map(|[rows, cols]| (rows, cols)),
    };
    let id = context.engine.exec_create(&request.name, spec).await?;
    respond::created(&IdResponse { id: id.to_string() })
}

pub async fn start(context: Arc<ApiContext>, mut request: Request) -> Result<Response> {
    let body: ExecStart = request.json_or_default().await?;
    let view = context.engine.exec_inspect(&request.name)?;
    let console_size = body.console_size.map(|[rows, cols]| (rows, cols));
    let options = naru_engine::ExecStart { detach: body.detach, tty: body.tty, console_size };
    let started = context.engine.exec_start(view.id.as_str(), options).await;
    // A program that can't be run is told in the stream, as dockerd does: the client reads the exit code afterwards.
    let failed_to_run = !body.detach && context.engine.exec_inspect(&request.name)?.exit_code.is_some();
    let container = match started {
        Ok(Some(container)) => container,
        Ok(None) => return Ok(respond::status(StatusCode::OK)),
        Err(error) if failed_to_run && view.exit_code.is_none() => {
            hijack::saying(&format!("{}\r\n", error.message()), view.spec.tty)?
        }
        Err(error) => return Err(error),
    };
    let tty = view.spec.tty;
    let detach_keys = if tty && view.spec.attach_stdin {
        hijack::parse_detach_keys(&view.spec.detach_keys)?
    } else {
        Vec::new()
    };
    let (engine, id) = (Arc::clone(&context.engine), view.id.to_string());
    let settled = Box::pin(async move { engine.exec_wait(&id).await });
    // Whether there are frames is for the one to say who starts it, as in dockerd, whatever the process has.
    let framing = Framing::between(tty, body.tty);
    Ok(hijack::answer(request, Session { container, preface: None, detach_keys, tty, framing, settled }))
}

pub async fn resize(context: Arc<ApiContext>, request: Request) -> Result<Response> {
    let (rows, cols) = window(&request.query)?;
    context.engine.exec_resize(&request.name, rows, cols).await?;
    Ok(respond::status(StatusCode::OK))
}

pub async fn inspect(context: Arc<ApiContext>, request: Request) -> Result<Response> {
    respond::json(&shown(&context.engine.exec_inspect(&request.name)?))
}

fn shown(view: &ExecView) -> ExecJson {
    let spec = &view.spec;
    ExecJson {
        id: view.id.to_string(),
        running: view.running,
        exit_code: view.exit_code,
        process_config: ProcessConfig {
            tty: spec.tty,
            entrypoint: spec.args.first().cloned().unwrap_or_default(),
            arguments: spec.args.get(1..).unwrap_or_default().to_vec(),
            privileged: spec.privileged,
            user: spec.user.clone(),
        },
        open_stdin: spec.attach_stdin,
        open_stderr: spec.attach_stderr,
        open_stdout: spec.attach_stdout,
        can_remove: !view.running && view.exit_code.is_some(),
        container_id: view.container_id.to_string(),
        detach_keys: spec.detach_keys.clone(),
        pid: view.pid,
    }
}
