//! HTTP/1.1 over a unix socket, as much as a client of the Engine API needs: one request per connection, bodies that
//! are read as they come, and connections that become raw streams (`Upgrade: tcp`).

use naru_types::{Error, Result};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

/// All header lines of an answer together, in bytes.
const HEADERS_LEN_MAX: u64 = 64 * 1024;
const CHUNK_BYTES: usize = 64 * 1024;

/// What a request carries.
pub enum Body {
    Empty,
    Json(Vec<u8>),
    /// Sent in chunks until its end.
    Stream(Box<dyn Read + Send>),
}

pub struct Response {
    pub status: u16,
    /// Names in lower case; the last of several wins.
    pub headers: BTreeMap<String, String>,
    framing: Framing,
    reader: BufReader<UnixStream>,
}

enum Framing {
    /// Bytes left.
    Length(u64),
    /// Bytes left of the present chunk, and whether the last chunk was seen.
    Chunked { left: u64, done: bool },
    UntilClose,
}

/// Sends one request and reads the answer's head. `HEAD` answers and upgrades have no body.
pub fn send(socket: &Path, method: &str, path: &str, body: Body, headers: &[(&str, &str)]) -> Result<Response> {
    let stream = UnixStream::connect(socket).map_err(|error| unreachable(socket, error))?;
    let broken = |error: std::io::Error| Error::unavailable("the connection to the daemon broke").with_source(error);
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: naru\r\nUser-Agent: naru/{}\r\n", env!("CARGO_PKG_VERSION"));
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("connection")) {
        head.push_str("Connection: close\r\n");
    }
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    match &body {
        Body::Empty => head.push_str("Content-Length: 0\r\n\r\n"),
        Body::Json(bytes) => {
            head.push_str(&format!("Content-Type: application/json\r\nContent-Length: {}\r\n\r\n", bytes.len()));
        }
        Body::Stream(_) => head.push_str("Transfer-Encoding: chunked\r\n\r\n"),
    }
    (&stream).write_all(head.as_bytes()).map_err(broken)?;
    match body {
        Body::Empty => {}
        Body::Json(bytes) => (&stream).write_all(&bytes).map_err(broken)?,
        Body::Stream(source) => send_chunks(&stream, source)?,
    }
    receive(stream, method)
}

fn unreachable(socket: &Path, error: std::io::Error) -> Error {
    let text = format!("cannot connect to the daemon at unix://{}", socket.display());
    let hint = match error.kind() {
        std::io::ErrorKind::PermissionDenied => "run as root, or join the group that owns the socket",
        _ => "start it with `naru system start`",
    };
    Error::unavailable(text).with_hint(hint).with_source(error)
}

/// A daemon that refuses early answers and closes: then the write fails, and the answer is what matters.
fn send_chunks(mut stream: &UnixStream, mut source: Box<dyn Read + Send>) -> Result<()> {
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        let count = source.read(&mut buffer).map_err(|error| Error::invalid("cannot read what is to be sent").with_source(error))?;
        let mut chunk = format!("{count:x}\r\n").into_bytes();
        chunk.extend_from_slice(&buffer[..count]);
        chunk.extend_from_slice(b"\r\n");
        if stream.write_all(&chunk).is_err() || count == 0 {
            return Ok(());
        }
    }
}

fn receive(stream: UnixStream, method: &str) -> Result<Response> {
    let mut reader = BufReader::new(stream);
    let (status, headers) = loop {
        let (status, headers) = read_head(&mut reader)?;
        // 100 Continue and its kind come before the answer; 101 is the answer.
        if !(100..200).contains(&status) || status == 101 {
            break (status, headers);
        }
    };
    let chunked = headers.get("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"));
    let length = headers.get("content-length").and_then(|length| length.parse().ok());
    let framing = match length {
        _ if method == "HEAD" || matches!(status, 101 | 204 | 304) => Framing::Length(0),
        _ if chunked => Framing::Chunked { left: 0, done: false },
        Some(length) => Framing::Length(length),
        None => Framing::UntilClose,
    };
    Ok(Response { status, headers, framing, reader })
}

fn read_head(reader: &mut BufReader<UnixStream>) -> Result<(u16, BTreeMap<String, String>)> {
    let broken = |error: std::io::Error| Error::unavailable("the daemon hung up before it answered").with_source(error);
    let garbage = || Error::internal("the daemon answered with something that is no HTTP");
    let mut limited = reader.by_ref().take(HEADERS_LEN_MAX);
    let mut line = String::new();
    if limited.read_line(&mut line).map_err(broken)? == 0 {
        return Err(broken(std::io::ErrorKind::UnexpectedEof.into()));
    }
    let status = line.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)?.parse().ok()).ok_or_else(garbage)?;
    let mut headers = BTreeMap::new();
    loop {
        line.clear();
        if limited.read_line(&mut line).map_err(broken)? == 0 {
            return Err(garbage());
        }
        let text = line.trim_end();
        if text.is_empty() {
            return Ok((status, headers));
        }
        let (name, value) = text.split_once(':').ok_or_else(garbage)?;
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
}

impl Response {
    /// The raw connection of an upgraded answer. Bytes that came with the head are given back through a socket pair's
    /// worth of care: the daemon sends nothing before the client has the connection, so there are none.
    pub fn into_stream(self) -> Result<UnixStream> {
        if !self.reader.buffer().is_empty() {
            return replayed(self.reader);
        }
        Ok(self.reader.into_inner())
    }
}

/// Output that a quick container wrote arrives in one segment with the head: it is put in front again.
fn replayed(mut reader: BufReader<UnixStream>) -> Result<UnixStream> {
    let broken = |error: std::io::Error| Error::internal("cannot join the container's stream").with_source(error);
    let (near, far) = UnixStream::pair().map_err(broken)?;
    let back = reader.get_ref().try_clone().map_err(broken)?;
    let far_reader = far.try_clone().map_err(broken)?;
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut reader, &mut &far);
        let _ = far.shutdown(std::net::Shutdown::Write);
    });
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut &far_reader, &mut &back);
        let _ = back.shutdown(std::net::Shutdown::Write);
    });
    Ok(near)
}

impl Read for Response {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        match &mut self.framing {
            Framing::UntilClose => self.reader.read(buffer),
            Framing::Length(left) => {
                let count = self.reader.by_ref().take(*left).read(buffer)?;
                if count == 0 && *left > 0 && !buffer.is_empty() {
                    return Err(std::io::ErrorKind::UnexpectedEof.into());
                }
                *left -= count as u64;
                Ok(count)
            }
            Framing::Chunked { left, done } => {
                if *done {
                    return Ok(0);
                }
                if *left == 0 {
                    *left = next_chunk(&mut self.reader)?;
                    if *left == 0 {
                        *done = true;
                        return Ok(0);
                    }
                }
                let count = self.reader.by_ref().take(*left).read(buffer)?;
                if count == 0 && !buffer.is_empty() {
                    return Err(std::io::ErrorKind::UnexpectedEof.into());
                }
                *left -= count as u64;
                if *left == 0 {
                    let mut end = [0; 2];
                    self.reader.read_exact(&mut end)?;
                }
                Ok(count)
            }
        }
    }
}

fn next_chunk(reader: &mut BufReader<UnixStream>) -> std::io::Result<u64> {
    let mut line = String::new();
    reader.by_ref().take(64).read_line(&mut line)?;
    let size = line.trim().split(';').next().unwrap_or_default();
    u64::from_str_radix(size, 16).map_err(|_| std::io::Error::other("a chunk without a size"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    /// A server that answers one connection with `answer`.
    fn ask(name: &str, answer: &'static [u8]) -> Result<(u16, String)> {
        let path = std::env::temp_dir().join(format!("naru-http-{}-{name}", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut buffer = [0; 1024];
            let _ = stream.read(&mut buffer);
            let _ = stream.write_all(answer);
        });
        let outcome = send(&path, "GET", "/", Body::Empty, &[]).and_then(|mut response| {
            let mut text = String::new();
            response.read_to_string(&mut text).map_err(|error| Error::internal("body").with_source(error))?;
            Ok((response.status, text))
        });
        server.join().unwrap();
        std::fs::remove_file(&path).unwrap();
        outcome
    }

    #[test]
    fn bodies_end_where_they_should() {
        assert_eq!(ask("length", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello more").unwrap(), (200, "hello".into()));
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\n\r\n";
        assert_eq!(ask("chunked", chunked).unwrap(), (200, "hello".into()));
        assert_eq!(ask("close", b"HTTP/1.1 404 X\r\n\r\nrest").unwrap(), (404, "rest".into()));
        assert_eq!(ask("continue", b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No\r\n\r\n").unwrap(), (204, String::new()));
    }

    #[test]
    fn broken_answers_are_errors() {
        for (name, answer) in [
            ("empty", &b""[..]),
            ("garbage", b"SSH-2.0-x\r\n"),
            ("cut", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel"),
            ("chunk", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
        ] {
            assert!(ask(name, answer).is_err(), "{name}");
        }
    }
}
