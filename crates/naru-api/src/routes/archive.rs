//! `docker cp` both ways and `docker export`.

use crate::context::ApiContext;
use crate::web::body::ResponseBody;
use crate::web::request::Request;
use crate::web::respond::{self, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::StatusCode;
use naru_engine::{ArchivePut, PathStat};
use naru_types::{Error, Result};
use naru_wire::inspect;
use std::sync::Arc;

const TAR: &str = "application/x-tar";

fn path(request: &Request) -> Result<&str> {
    match request.query.text("path") {
        "" => Err(Error::invalid("bad parameter: path cannot be empty")),
        path => Ok(path),
    }
}

pub async fn stat(context: Arc<ApiContext>, request: Request) -> Result<Response> {
    let stat = context.engine.archive_stat(&request.name, path(&request)?).await?;
    with_stat(respond::status(StatusCode::OK), &stat)
}

pub async fn get(context: Arc<ApiContext>, request: Request) -> Result<Response> {
    let (stat, pieces) = context.engine.archive_get(&request.name, path(&request)?).await?;
    with_stat(respond::with_type(StatusCode::OK, TAR, ResponseBody::stream(pieces)), &stat)
}

pub async fn put(context: Arc<ApiContext>, mut request: Request) -> Result<Response> {
    let path = path(&request)?.to_owned();
    let options = ArchivePut {
        no_overwrite_dir_non_dir: request.query.flag("noOverwriteDirNonDir"),
        copy_uid_gid: request.query.flag("copyUIDGID"),
    };
    let tar = Box::new(request.reader());
    context.engine.archive_put(&request.name, &path, options, tar).await?;
    Ok(respond::status(StatusCode::OK))
}

pub async fn export(context: Arc<ApiContext>, request: Request) -> Result<Response> {
    let pieces = context.engine.export(&request.name).await?;
    Ok(respond::with_type(StatusCode::OK, "application/octet-stream", ResponseBody::stream(pieces)))
}

fn with_stat(mut response: Response, stat: &PathStat) -> Result<Response> {
    let shown = inspect::PathStat {
        name: stat.name.clone(),
        size: stat.size,
        mode: naru_types::gomode::of(stat.mode),
        mtime: stat.mtime.to_string(),
        link_target: stat.link_target.clone(),
    };
    let json = serde_json::to_vec(&shown)
        .map_err(|error| Error::internal("cannot write JSON").with_source(error))?;
    respond::set_header(&mut response, "x-docker-container-path-stat", &STANDARD.encode(json))?;
    Ok(response)
}
