//! What a runtime says when it fails, from its `--log` in JSON, in the words and with the exit codes of Docker.

use crate::errors::{CANNOT_START, NOT_EXECUTABLE, NOT_FOUND};
use crate::request::SpawnError;
use serde::Deserialize;
use std::io::Read;
use std::path::Path;

/// Bytes of a runtime's log that are read.
const LOG_BYTES_MAX: u64 = 1 << 20;

/// Characters of a complaint that are told.
const COMPLAINT_CHARS_MAX: usize = 4096;

/// One line of logrus' JSON, which crun and youki write as well.
#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    level: String,
    msg: String,
}

/// The last error in the log, or its last line; `None`: the runtime said nothing.
pub fn complaint(log: &Path) -> Option<String> {
    let mut text = String::new();
    std::fs::File::open(log).ok()?.take(LOG_BYTES_MAX).read_to_string(&mut text).ok()?;
    of_log(&text)
}

fn of_log(text: &str) -> Option<String> {
    let lines: Vec<Line> = text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let grave = |line: &&Line| matches!(line.level.as_str(), "error" | "fatal" | "panic");
    let line = lines.iter().rfind(grave).or(lines.last())?;
    Some(line.msg.trim().chars().take(COMPLAINT_CHARS_MAX).collect())
}

/// `verb` failed because of `why`; `program` is what was to be executed.
pub fn error(verb: &str, why: &str, program: &str) -> SpawnError {
    let doing = if verb == "exec" { "exec" } else { "create" };
    SpawnError {
        step: format!("{verb} by the runtime"),
        errno: 0,
        message: format!("OCI runtime {doing} failed: {why}"),
        exit_code: exit_code(why, program),
    }
}

/// moby's `setExitCodeFromError`: only what is said of the program counts.
fn exit_code(why: &str, program: &str) -> i32 {
    let why = why.to_lowercase();
    let says = |words: &[&str]| words.iter().any(|words| why.contains(words));
    if program.is_empty() || !why.contains(&program.to_lowercase()) {
        CANNOT_START
    } else if says(&["executable file not found", "executable file `", "no such file or directory"]) {
        NOT_FOUND
    } else if says(&["permission denied", "is a directory", "not a directory", "exec format error"]) {
        NOT_EXECUTABLE
    } else {
        CANNOT_START
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_error_is_told() {
        let log = "{\"level\":\"warning\",\"msg\":\"hm\"}\nno json\n\
                   {\"level\":\"error\",\"msg\":\"exec: \\\"nope\\\": executable file not found in $PATH\"}\n\
                   {\"level\":\"debug\",\"msg\":\"bye\"}\n";
        let why = of_log(log).unwrap();
        assert_eq!(why, "exec: \"nope\": executable file not found in $PATH");
        assert_eq!(error("create", &why, "nope").exit_code, 127);
        assert_eq!(error("create", &why, "other").exit_code, 128);
        assert_eq!(error("exec", "exec /etc/passwd: permission denied", "/etc/passwd").exit_code, 126);
        assert_eq!(of_log("{\"msg\": \"crun's\"}").unwrap(), "crun's");
        assert_eq!(of_log(""), None);
    }
}
