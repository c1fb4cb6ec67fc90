//! ADD from `http://` and `https://`: downloads, kept by what the server says of them.
//!
//! Beneath `<root>/build-cache/downloads` each file has a directory called by its sha256, and each address a
//! note of the last answer (ETag, Last-Modified, sha256). An address with a note is asked whether it has
//! changed; one with a `--checksum` that is here already is not asked at all. A torn note doesn't parse and
//! counts as none; a file gets its name only when it is whole.

use crate::error::{BuildError, Position, Result};
use crate::execute::Execution;
use crate::files::at;
use crate::files::source::{Source, SourceTree};
use naru_types::Timestamp;
use rustix::fd::OwnedFd;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Largest download, in bytes.
const DOWNLOAD_BYTES_MAX: u64 = 32 << 30;
const BUFFER_BYTES: usize = 256 << 10;
/// Docker's mode for what ADD downloads.
const DOWNLOAD_MODE: u32 = 0o600;
/// The name of a download whose address has none.
const UNNAMED: &str = "__unnamed__";
/// The file's name in its directory; the name that it is copied under comes from the address.
const CONTENT: &str = "content";

/// A file that is here now.
#[derive(Clone, Debug)]
pub(crate) struct Download {
    pub(crate) name: String,
    /// In hex.
    pub(crate) sha256: String,
    dir: PathBuf,
}

/// The last answer of an address.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Note {
    etag: Option<String>,
    last_modified: Option<String>,
    sha256: String,
}

impl Download {
    pub(crate) fn open_dir(&self) -> Result<OwnedFd> {
        at::open_root(&self.dir).map_err(BuildError::sys("open", &self.dir))
    }

    /// The file as a source of a copy out of its directory.
    pub(crate) fn source(&self, tree: &SourceTree) -> Result<Source> {
        let stat = at::stat(&tree.root, CONTENT.as_ref()).map_err(BuildError::sys("read", &self.dir))?;
        Ok(Source { path: PathBuf::from(CONTENT), name: OsString::from(&self.name), stat })
    }
}

/// Downloads `url`, or finds that it is here. `checksum` is `sha256:…`.
pub(crate) fn fetch(
    run: &Execution<'_>,
    at: &Position,
    url: &str,
    checksum: Option<&str>,
) -> Result<Download> {
    let wanted = checksum.map(|text| parse_checksum(at, text)).transpose()?;
    let root = run.cache.downloads();
    let done = |sha256: String| Download { name: name_of(url), dir: root.join(&sha256), sha256 };
    if let Some(sha256) = wanted.filter(|sha256| root.join(sha256).is_dir()) {
        return Ok(done(sha256.to_owned()));
    }
    let note_path = root.join(format!("{}.json", blake3::hash(url.as_bytes()).to_hex()));
    let note: Option<Note> = fs::read(&note_path).ok().and_then(|text| serde_json::from_slice(&text).ok());
    let note = note.filter(|note| root.join(&note.sha256).is_dir());
    let found = match ask(run, at, url, note.as_ref())? {
        Some(response) => receive(run, at, url, response)?,
        None => note.unwrap_or_default(),
    };
    if let Some(wanted) = wanted.filter(|wanted| *wanted != found.sha256) {
        return Err(at.hinted(
            format!("digest mismatch sha256:{}: sha256:{wanted}", found.sha256),
            format!("{url} has another content than the --checksum says"),
        ));
    }
    // The next build asks again if the note can't be kept.
    if let Ok(text) = serde_json::to_vec(&found) {
        let _ = fs::write(&note_path, text);
    }
    Ok(done(found.sha256))
}

type Response = ureq::http::Response<ureq::Body>;

/// `None`: what is here is still right.
fn ask(run: &Execution<'_>, at: &Position, url: &str, note: Option<&Note>) -> Result<Option<Response>> {
    let mut request = run.store.http()?.get(url);
    if let Some(note) = note {
        if let Some(etag) = &note.etag {
            request = request.header("if-none-match", etag);
        }
        if let Some(date) = &note.last_modified {
            request = request.header("if-modified-since", date);
        }
    }
    let response = request.call().map_err(|error| at.error(format!("cannot download {url}: {error}")))?;
    match response.status().as_u16() {
        304 if note.is_some() => Ok(None),
        200..=299 => Ok(Some(response)),
        status => Err(at.error(format!("invalid response status {status} from {url}"))),
    }
}

/// Reads a body into its place.
fn receive(run: &Execution<'_>, at: &Position, url: &str, response: Response) -> Result<Note> {
    let header = |name: &str| response.headers().get(name)?.to_str().ok().map(str::to_owned);
    let (etag, last_modified) = (header("etag"), header("last-modified"));
    let staging =
        run.scratch.dir(&format!("download-{}", naru_types::id::hex(&crate::scratch::random::<8>()?)))?;
    let path = staging.join(CONTENT);
    let mut file = File::create(&path).map_err(BuildError::io("create", &path))?;
    let mut body = response.into_body().into_with_config().limit(DOWNLOAD_BYTES_MAX).reader();
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        run.check_cancel()?;
        let count = body
            .read(&mut buffer)
            .map_err(|error| at.error(format!("the download of {url} broke off: {error}")))?;
        if count == 0 {
            break;
        }
        hasher.update(&buffer[..count]);
        file.write_all(&buffer[..count]).map_err(BuildError::io("write", &path))?;
    }
    file.set_permissions(fs::Permissions::from_mode(DOWNLOAD_MODE))
        .map_err(BuildError::io("chmod", &path))?;
    // As BuildKit has it: the epoch where the server names no time.
    let seconds = last_modified.as_deref().and_then(parse_http_date).unwrap_or(0);
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
        .map_err(BuildError::io("set the time of", &path))?;
    let sha256 = naru_types::id::hex(&hasher.finalize());
    keep(&staging, &run.cache.downloads().join(&sha256))?;
    Ok(Note { etag, last_modified, sha256 })
}

fn keep(staging: &Path, dir: &Path) -> Result<()> {
    match fs::rename(staging, dir) {
        // The same content came from elsewhere before.
        Err(_) if dir.is_dir() => Ok(()),
        moved => moved.map_err(BuildError::io("keep the download", dir)),
    }
}

fn parse_checksum<'a>(at: &Position, text: &'a str) -> Result<&'a str> {
    let hex = text.strip_prefix("sha256:").ok_or_else(|| {
        at.hinted(format!("unsupported digest algorithm in --checksum={text}"), "write sha256:…")
    })?;
    let valid = hex.len() == 64 && hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if valid { Ok(hex) } else { Err(at.error("invalid checksum digest format")) }
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110 §5.6.7) as seconds since the epoch.
fn parse_http_date(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let words: Vec<&str> = text.split(' ').collect();
    let [_, day, month, year, time, "GMT"] = words.as_slice() else { return None };
    let month = MONTHS.iter().position(|known| known == month)? + 1;
    let stamp = Timestamp::parse_rfc3339(&format!("{year}-{month:02}-{day}T{time}Z"))?;
    u64::try_from(stamp.secs()).ok()
}

/// The last part of the address's path.
fn name_of(url: &str) -> String {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let path = path.split_once("://").map_or(path, |(_, rest)| rest);
    let name = path.split_once('/').map_or("", |(_, path)| path.trim_end_matches('/'));
    let name = name.rsplit('/').next().unwrap_or_default();
    if matches!(name, "" | "." | "..") { UNNAMED.into() } else { percent_decoded(name) }
}

/// A name of an address; what would be no file's name stays encoded.
fn percent_decoded(name: &str) -> String {
    let bytes = name.as_bytes();
    let mut out = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let hex = (bytes[at] == b'%').then(|| name.get(at + 1..at + 3)).flatten();
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    let plain = |text: &String| !text.contains(['/', '\0']) && !matches!(text.as_str(), "." | "..");
    String::from_utf8(out).ok().filter(plain).unwrap_or_else(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        assert_eq!(parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(parse_http_date("yesterday"), None);
    }

    #[test]
    fn names() {
        for (url, expect) in [
            ("https://h/a/b.tar.gz?x=1#y", "b.tar.gz"),
            ("http://h/a/", "a"),
            ("http://h", UNNAMED),
            ("http://h/", UNNAMED),
            ("http://h/a%20b", "a b"),
            ("http://h/%2e%2e", "%2e%2e"),
            ("http://h/a%2fb", "a%2fb"),
        ] {
            assert_eq!(name_of(url), expect, "{url}");
        }
    }
}
