//! What a child reports on its way to the program, and the words that its caller makes of it.

use crate::child::{EXECVE, HEADER_BYTES, REPORT_BYTES_MAX, ReportKind};
use crate::errors::{StartError, text};
use crate::plan::{Op, Plan};
use crate::request::SpawnError;
use naru_kernel::{Errno, ns, unix};
use std::os::fd::OwnedFd;

/// One message of the child.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// The peer has closed: nothing else is set.
    pub end: bool,
    pub kind: Option<ReportKind>,
    pub index: u32,
    pub errno: i32,
    pub text: String,
    pub fds: Vec<OwnedFd>,
}

impl Report {
    /// Waits for one.
    pub fn receive(socket: &OwnedFd, error: StartError) -> Result<Self, SpawnError> {
        let mut buffer = [0u8; REPORT_BYTES_MAX];
        let received = match unix::recv(socket, &mut buffer) {
            // The peer went with our word unread.
            Err(cause) if cause.kind() == std::io::ErrorKind::ConnectionReset => {
                return Ok(Self { end: true, ..Self::default() });
            }
            other => other.map_err(|cause| error.io("hear from the new process", &cause))?,
        };
        if received.len == 0 {
            return Ok(Self { end: true, ..Self::default() });
        }
        let bytes = buffer.get(..received.len).unwrap_or_default();
        let word = |at: usize| bytes.get(at..at + 4)?.try_into().ok().map(u32::from_ne_bytes);
        Ok(Self {
            end: false,
            kind: word(0).and_then(ReportKind::from_number),
            index: word(4).unwrap_or_default(),
            errno: word(8).unwrap_or_default() as i32,
            text: String::from_utf8_lossy(bytes.get(HEADER_BYTES..).unwrap_or_default()).into_owned(),
            fds: received.fds,
        })
    }
}

/// Of a step that may fail.
pub(crate) fn warning(plan: &Plan, report: &Report) -> String {
    let step = plan.steps.get(report.index as usize).map(|step| step.op.describe()).unwrap_or_default();
    format!("cannot {step}: {}", text(report.errno))
}

/// With the kernel's own words on it.
pub(crate) fn explained(message: String, detail: &str) -> String {
    if detail.is_empty() { message } else { format!("{message}: {detail}") }
}

/// Of the step that ended the start, or of the execve itself.
pub(crate) fn failure(plan: &Plan, report: &Report, error: StartError) -> SpawnError {
    if report.index == EXECVE {
        return error.execve(&report.text, report.errno);
    }
    let Some(step) = plan.steps.get(report.index as usize) else {
        return error.plain("the new process named a step that does not exist");
    };
    let errno = Errno::from_raw_os_error(report.errno);
    if let Op::Unshare(ns::NEWTIME) = step.op
        && errno == Errno::INVAL
    {
        return error.plain("this kernel has no time namespaces (CONFIG_TIME_NS)");
    }
    if let Op::NewFs(fs) = &step.op
        && fs.plain_target
        && errno == Errno::LOOP
    {
        // runc's words (CVE-2019-19921).
        let (kind, target) = (fs.kind.to_string_lossy(), fs.target.text());
        let step = format!("filesystem {kind:?} must be mounted on ordinary directory, {target} is none");
        return error.errno(&step, errno);
    }
    let mut failure = error.errno(&step.op.describe(), errno);
    if matches!(step.op, Op::WorkingDir(_)) && errno == Errno::ACCESS {
        failure.exit_code = crate::errors::NOT_EXECUTABLE;
    }
    failure
}
