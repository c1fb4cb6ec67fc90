//! The log that callers read: lines as logrus writes them, text or JSON, to a file or to standard error.
//!
//! containerd and conmon take the last error of the JSON file as the message for their user. An error goes to standard
//! error as well when there is a file, for whoever typed the command.

use crate::error::OciError;
use crate::flags::Args;
use naru_types::time::Timestamp;
use rustix::time::{ClockId, clock_gettime};
use std::fs::File;
use std::io::Write;
use std::path::Path;

#[derive(Debug)]
pub(crate) struct Log {
    file: Option<File>,
    json: bool,
    debug: bool,
}

impl Log {
    pub fn stderr() -> Self {
        Self { file: None, json: false, debug: false }
    }

    pub fn from_flags(args: &Args<'_>) -> Result<Self, OciError> {
        let json = match args.value("log-format") {
            None | Some("text") => false,
            Some("json") => true,
            Some(other) => return Err(OciError::Refused(format!("invalid log-format: {other}"))),
        };
        let open = |path: &str| {
            let file = File::options().create(true).append(true).open(path);
            file.map_err(|cause| OciError::file("open", Path::new(path), cause))
        };
        let file = args.value("log").map(open).transpose()?;
        Ok(Self { file, json, debug: args.has("debug") })
    }

    pub fn error(&mut self, message: &str) {
        self.write("error", message);
        if self.file.is_some() {
            // With nobody on standard error there is nothing more to do.
            let _ = writeln!(std::io::stderr(), "{message}");
        }
    }

    pub fn warn(&mut self, message: &str) {
        self.write("warning", message);
    }

    pub fn warn_all(&mut self, messages: &[String]) {
        for message in messages {
            self.warn(message);
        }
    }

    pub fn debug(&mut self, message: &str) {
        if self.debug {
            self.write("debug", message);
        }
    }

    fn write(&mut self, level: &str, message: &str) {
        let time = now();
        let line = if self.json {
            let quoted = |text: &str| serde_json::Value::from(text).to_string();
            format!("{{\"level\":{},\"msg\":{},\"time\":\"{time}\"}}\n", quoted(level), quoted(message))
        } else {
            format!("time=\"{time}\" level={level} msg={message:?}\n")
        };
        // A log that cannot be written must not keep a container from being made or removed.
        let _ = match &mut self.file {
            Some(file) => file.write_all(line.as_bytes()),
            None => std::io::stderr().write_all(line.as_bytes()),
        };
    }
}

/// The current time to the second, RFC 3339.
fn now() -> String {
    let fixed = timestamp().rfc3339_fixed();
    let seconds = fixed.split('.').next().unwrap_or(&fixed);
    format!("{seconds}Z")
}

pub(crate) fn timestamp() -> Timestamp {
    let now = clock_gettime(ClockId::Realtime);
    Timestamp::from_parts(now.tv_sec, now.tv_nsec as u32)
}
