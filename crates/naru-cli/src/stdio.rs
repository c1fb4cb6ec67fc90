//! Standard input and output joined to a container's: frames taken apart, raw terminal mode, window size, signals.

use crate::client::{Api, query};
use crate::terminal::{RawMode, window_size};
use naru_kernel::signals;
use naru_types::{Error, Result};
use naru_wire::client::Hijacked;
use std::io::{IsTerminal, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

const COPY_BYTES: usize = 32 * 1024;
/// Longest frame that is believed: the daemon never sends larger ones, garbage does.
const FRAME_LEN_MAX: u32 = 16 << 20;
/// How often the terminal's size is looked at.
const RESIZE_POLL_MS: u64 = 200;
/// ctrl-p ctrl-q, Docker's default detach keys.
const DETACH_KEYS: [u8; 2] = [0x10, 0x11];

/// What a hijacked connection carries.
pub struct Streams {
    pub tty: bool,
    pub stdin: bool,
    /// Where window sizes are posted.
    pub resize: String,
}

/// Copies both ways until the container's output ends. The terminal is raw meanwhile and is put back on every path.
pub fn pump(api: &Api, connection: Hijacked, streams: &Streams) -> Result<()> {
    let broken =
        |error: std::io::Error| Error::internal("the connection to the daemon broke").with_source(error);
    let _raw = (streams.tty && streams.stdin && std::io::stdin().is_terminal())
        .then(RawMode::enter)
        .transpose()
        .map_err(broken)?;
    let done = Arc::new(AtomicBool::new(false));
    if streams.stdin {
        let writer = connection.writer.try_clone().map_err(broken)?;
        let tty = streams.tty;
        // Not joined: it may sit in a read of standard input for ever.
        thread::spawn(move || send_stdin(writer, tty));
    }
    let mut reader = connection.reader;
    thread::scope(|scope| {
        if streams.tty && std::io::stdout().is_terminal() {
            let done = Arc::clone(&done);
            scope.spawn(move || follow_window_size(api, &streams.resize, &done));
        }
        let outcome = demultiplex(&mut reader, streams.tty);
        done.store(true, Ordering::Release);
        outcome
    })
}

fn send_stdin(mut socket: UnixStream, tty: bool) {
    let mut stdin = std::io::stdin();
    let mut buffer = vec![0; COPY_BYTES];
    let mut previous = 0;
    while let Ok(count) = stdin.read(&mut buffer) {
        if count == 0 {
            // Half close: the process sees the end of its input and may still answer.
            let _ = socket.shutdown(Shutdown::Write);
            return;
        }
        let bytes = &buffer[..count];
        let detached =
            [previous, bytes[0]] == DETACH_KEYS || bytes.windows(2).any(|pair| pair == DETACH_KEYS);
        if tty && detached {
            let _ = socket.shutdown(Shutdown::Both);
            return;
        }
        previous = bytes[count - 1];
        if socket.write_all(bytes).is_err() {
            return;
        }
    }
}

fn follow_window_size(api: &Api, path: &str, done: &AtomicBool) {
    let mut last = None;
    while !done.load(Ordering::Acquire) {
        let size = window_size();
        if size != last {
            if let Some((rows, columns)) = size {
                let (h, w) = (rows.to_string(), columns.to_string());
                // The process may not exist yet, or no more: then the next round tries again, or ends.
                if api.post(&format!("{path}{}", query(&[("h", Some(&h)), ("w", Some(&w))])), None).is_ok() {
                    last = size;
                }
            }
        }
        thread::sleep(Duration::from_millis(RESIZE_POLL_MS));
    }
}

/// What a user or a supervisor sends to a client, and means for the container.
const FORWARDED: [i32; 6] = [1, 2, 3, 10, 12, 15];

/// `docker run --sig-proxy`: from now on these signals reach the container instead of the client. Called before any
/// other thread is there, so that all of them inherit the mask.
pub fn forward_signals(api: &Api, path: String) {
    let set = signals::bits(&FORWARDED);
    if signals::set_mask(set).is_err() {
        return;
    }
    let api = api.clone();
    thread::spawn(move || {
        while let Ok(signal) = signals::wait(set) {
            let number = signal.to_string();
            // The container may be gone already; then the client is about to end as well.
            let _ = api.post(&format!("{path}{}", query(&[("signal", Some(&number))])), None);
        }
    });
}

/// Writes Docker's frames to standard output and error, raw bytes where there is a terminal.
pub fn demultiplex(reader: &mut impl Read, raw: bool) -> Result<()> {
    let broken =
        |error: std::io::Error| Error::internal("the connection to the daemon broke").with_source(error);
    let mut buffer = vec![0; COPY_BYTES];
    if raw {
        let mut stdout = std::io::stdout();
        loop {
            let count = match reader.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return Ok(()),
                Err(error) => return Err(broken(error)),
            };
            if stdout.write_all(&buffer[..count]).and_then(|()| stdout.flush()).is_err() {
                return Ok(());
            }
        }
    }
    frames(reader, |stream, bytes| {
        let outcome = if stream == 2 {
            std::io::stderr().write_all(bytes)
        } else {
            let mut stdout = std::io::stdout().lock();
            stdout.write_all(bytes).and_then(|()| stdout.flush())
        };
        outcome.is_ok()
    })
}

/// The same, cut into lines.
pub fn demultiplex_lines(reader: &mut impl Read, raw: bool, mut line: impl FnMut(&str)) -> Result<()> {
    let mut pending: Vec<u8> = Vec::new();
    let mut take = |bytes: &[u8]| {
        pending.extend_from_slice(bytes);
        while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
            let rest = pending.split_off(end + 1);
            line(String::from_utf8_lossy(&pending[..end]).trim_end_matches('\r'));
            pending = rest;
        }
    };
    if raw {
        let mut buffer = vec![0; COPY_BYTES];
        while let Ok(count) = reader.read(&mut buffer) {
            if count == 0 {
                break;
            }
            take(&buffer[..count]);
        }
    } else {
        frames(reader, |_, bytes| {
            take(bytes);
            true
        })?;
    }
    if !pending.is_empty() {
        line(&String::from_utf8_lossy(&pending));
    }
    Ok(())
}

/// Calls `sink` for each frame until the stream ends or `sink` says stop.
fn frames(reader: &mut impl Read, mut sink: impl FnMut(u8, &[u8]) -> bool) -> Result<()> {
    let broken =
        |error: std::io::Error| Error::internal("the connection to the daemon broke").with_source(error);
    let mut payload = Vec::new();
    loop {
        let mut header = [0; 8];
        match reader.read_exact(&mut header) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(error) => return Err(broken(error)),
        }
        let len = u32::from_be_bytes([header[4], header[5], header[6], header[7]]);
        if header[0] > 3 || len > FRAME_LEN_MAX {
            return Err(Error::internal("the daemon sent something that is no Docker stream frame"));
        }
        payload.resize(len as usize, 0);
        reader.read_exact(&mut payload).map_err(broken)?;
        if !sink(header[0], &payload) {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_become_lines() {
        let mut bytes = Vec::new();
        for (stream, text) in [(1u8, "one\ntw"), (2, "o\n"), (1, "three")] {
            bytes.extend_from_slice(&[stream, 0, 0, 0]);
            bytes.extend_from_slice(&(text.len() as u32).to_be_bytes());
            bytes.extend_from_slice(text.as_bytes());
        }
        let mut lines = Vec::new();
        demultiplex_lines(&mut &bytes[..], false, |line| lines.push(line.to_owned())).unwrap();
        assert_eq!(lines, ["one", "two", "three"]);
        assert!(demultiplex_lines(&mut &b"HTTP/1.1 500 oh no"[..], false, |_| ()).is_err());
    }
}
