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
        mode: go_file_mode(stat.mode),
        mtime: stat.mtime.to_string(),
        link_target: stat.link_target.clone(),
    };
    let json = serde_json::to_vec(&shown)
        .map_err(|error| Error::internal("cannot write JSON").with_source(error))?;
    respond::set_header(&mut response, "x-docker-container-path-stat", &STANDARD.encode(json))?;
    Ok(response)
}

/// `st_mode` (inode(7)) as Go's `fs.FileMode`, whose type bits are its own.
fn go_file_mode(mode: u32) -> u32 {
    const DIR: u32 = 1 << 31;
    const SYMLINK: u32 = 1 << 27;
    const DEVICE: u32 = 1 << 26;
    const NAMED_PIPE: u32 = 1 << 25;
    const SOCKET: u32 = 1 << 24;
    const SETUID: u32 = 1 << 23;
    const SETGID: u32 = 1 << 22;
    const CHAR_DEVICE: u32 = 1 << 21;
    const STICKY: u32 = 1 << 20;
    let kind = match mode & 0o170_000 {
        0o040_000 => DIR,
        0o120_000 => SYMLINK,
        0o060_000 => DEVICE,
        0o020_000 => DEVICE | CHAR_DEVICE,
        0o010_000 => NAMED_PIPE,
        0o140_000 => SOCKET,
        _ => 0,
    };
    let bit = |from: u32, to: u32| if mode & from != 0 { to } else { 0 };
    (mode & 0o777) | kind | bit(0o4000, SETUID) | bit(0o2000, SETGID) | bit(0o1000, STICKY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes() {
        for (unix, go) in [
            (0o100_644, 0o644),
            (0o040_755, (1 << 31) | 0o755),
            (0o120_777, (1 << 27) | 0o777),
            (0o041_777, (1 << 31) | (1 << 20) | 0o777),
            (0o020_620, (1 << 26) | (1 << 21) | 0o620),
            (0o104_755, (1 << 23) | 0o755),
        ] {
            assert_eq!(go_file_mode(unix), go, "{unix:o}");
        }
    }
}
