//! The words of [`SpawnError`]: Docker's, since its clients tell exit codes 126 and 127 from the text.

use crate::request::SpawnError;
use naru_kernel::Errno;
use std::io;

/// What was being started; the texts differ a little, as runc's do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Context {
    Init,
    Exec,
}

/// Exit code for "executable not found" (as a shell has it).
pub const NOT_FOUND: i32 = 127;
/// Exit code for "found but cannot be executed".
pub const NOT_EXECUTABLE: i32 = 126;
/// Exit code for everything else that keeps a container from starting.
pub const CANNOT_START: i32 = 128;

/// Makes the errors of one start.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StartError {
    context: Context,
}

impl StartError {
    pub fn new(context: Context) -> Self {
        Self { context }
    }

    /// An error of no system call.
    pub fn plain(self, message: &str) -> SpawnError {
        let message = format!("{}{message}", self.prefix());
        SpawnError { step: "prepare".into(), errno: 0, message, exit_code: CANNOT_START }
    }

    pub fn errno(self, step: &str, errno: Errno) -> SpawnError {
        let message = format!("{}{step}: {}", self.prefix(), text(errno.raw_os_error()));
        SpawnError { step: step.to_owned(), errno: errno.raw_os_error(), message, exit_code: CANNOT_START }
    }

    pub fn io(self, step: &str, error: &io::Error) -> SpawnError {
        self.errno(step, Errno::from_io_error(error).unwrap_or(Errno::IO))
    }

    /// execve of `program` failed.
    pub fn execve(self, program: &str, errno: i32) -> SpawnError {
        let by_path = program.contains('/');
        let (what, exit_code) = match Errno::from_raw_os_error(errno) {
            Errno::NOENT | Errno::NOTDIR if !by_path => {
                (format!("exec: {program:?}: executable file not found in $PATH"), NOT_FOUND)
            }
            Errno::NOENT => {
                (format!("exec: {program:?}: stat {program}: no such file or directory"), NOT_FOUND)
            }
            Errno::NOTDIR => (format!("exec: {program:?}: stat {program}: not a directory"), NOT_EXECUTABLE),
            Errno::ACCESS | Errno::PERM => (format!("exec: {program:?}: permission denied"), NOT_EXECUTABLE),
            Errno::ISDIR => (format!("exec: {program:?}: is a directory"), NOT_EXECUTABLE),
            _ => (format!("exec {program}: {}", text(errno)), NOT_EXECUTABLE),
        };
        SpawnError { step: "execve".into(), errno, message: format!("{}{what}", self.prefix()), exit_code }
    }

    fn prefix(self) -> &'static str {
        match self.context {
            Context::Init => "unable to start container process: error during container init: ",
            Context::Exec => "exec failed: unable to start container process: ",
        }
    }
}

/// An errno as Go prints it: the system's words, lower case.
pub(crate) fn text(errno: i32) -> String {
    let full = io::Error::from_raw_os_error(errno).to_string();
    let words = full.split(" (os error").next().unwrap_or(&full);
    let mut chars = words.chars();
    match chars.next() {
        Some(first) => first.to_lowercase().chain(chars).collect(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_words() {
        let error = StartError::new(Context::Init);
        let check = |program, errno: Errno, code, end: &str| {
            let made = error.execve(program, errno.raw_os_error());
            assert_eq!(made.exit_code, code, "{end}");
            assert!(made.message.ends_with(end), "{}", made.message);
        };
        check("nope", Errno::NOENT, 127, "exec: \"nope\": executable file not found in $PATH");
        check("/nope", Errno::NOENT, 127, "exec: \"/nope\": stat /nope: no such file or directory");
        check("/etc", Errno::ISDIR, 126, "exec: \"/etc\": is a directory");
        check("/etc/passwd", Errno::ACCESS, 126, "exec: \"/etc/passwd\": permission denied");
        check("/x", Errno::NOEXEC, 126, "exec /x: exec format error");
        assert_eq!(error.errno("mount /x", Errno::BUSY).exit_code, 128);
    }
}
