//! The words of a profile: actions, operators and flags, as libseccomp's seccomp.h spells them.

use super::SeccompError;
use crate::oci;

/// A filter's return value, SECCOMP_RET_* of linux/seccomp.h with its data.
pub type Action = u32;

pub const KILL_THREAD: Action = 0;
pub const KILL_PROCESS: Action = 0x8000_0000;
pub const TRAP: Action = 0x0003_0000;
pub const ERRNO: Action = 0x0005_0000;
pub const NOTIFY: Action = 0x7fc0_0000;
pub const TRACE: Action = 0x7ff0_0000;
pub const LOG: Action = 0x7ffc_0000;
pub const ALLOW: Action = 0x7fff_0000;
pub const DATA_MASK: u32 = 0xffff;

const EPERM: u32 = 1;
pub const ENOSYS: u32 = 38;

/// SECCOMP_FILTER_FLAG_* of linux/seccomp.h.
pub const FLAG_LOG: u64 = 1 << 1;
pub const FLAG_SPEC_ALLOW: u64 = 1 << 2;
pub const FLAG_NEW_LISTENER: u64 = 1 << 3;
pub const FLAG_WAIT_KILLABLE_RECV: u64 = 1 << 5;

/// What a profile can say, for `features`.
pub const ACTIONS: [&str; 9] = [
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_TRAP",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
];
pub const OPERATORS: [&str; 7] = [
    "SCMP_CMP_NE",
    "SCMP_CMP_LT",
    "SCMP_CMP_LE",
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_MASKED_EQ",
];
pub const FLAGS: [&str; 4] = [
    "SECCOMP_FILTER_FLAG_TSYNC",
    "SECCOMP_FILTER_FLAG_LOG",
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
];

/// Reads an action with its errno, EPERM if there is none.
pub fn action(name: &str, errno: Option<u32>) -> Result<Action, SeccompError> {
    let bare = match name {
        "SCMP_ACT_ERRNO" => return Ok(ERRNO | (errno.unwrap_or(EPERM) & DATA_MASK)),
        "SCMP_ACT_TRACE" => return Ok(TRACE | (errno.unwrap_or(EPERM) & DATA_MASK)),
        "SCMP_ACT_ALLOW" => ALLOW,
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => KILL_THREAD,
        "SCMP_ACT_KILL_PROCESS" => KILL_PROCESS,
        "SCMP_ACT_TRAP" => TRAP,
        "SCMP_ACT_LOG" => LOG,
        "SCMP_ACT_NOTIFY" => NOTIFY,
        other => return Err(SeccompError::Action(other.to_owned())),
    };
    // "When the action doesn't support an errno, the runtime MUST print and error and fail." Zero is what encoders write
    // that know no absent numbers.
    match errno {
        None | Some(0) => Ok(bare),
        Some(errno) => Err(SeccompError::Errno { action: name.to_owned(), errno }),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    NotEqual,
    Less,
    LessOrEqual,
    Equal,
    GreaterOrEqual,
    Greater,
    /// `argument & value == value_two & value`.
    MaskedEqual,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition {
    pub index: u32,
    pub operator: Operator,
    pub value: u64,
    pub value_two: u64,
}

impl Condition {
    pub fn read(arg: &oci::SyscallArg) -> Result<Self, SeccompError> {
        if arg.index > 5 {
            return Err(SeccompError::ArgumentIndex(arg.index));
        }
        let operator = match arg.op.as_str() {
            "SCMP_CMP_NE" => Operator::NotEqual,
            "SCMP_CMP_LT" => Operator::Less,
            "SCMP_CMP_LE" => Operator::LessOrEqual,
            "SCMP_CMP_EQ" => Operator::Equal,
            "SCMP_CMP_GE" => Operator::GreaterOrEqual,
            "SCMP_CMP_GT" => Operator::Greater,
            "SCMP_CMP_MASKED_EQ" => Operator::MaskedEqual,
            other => return Err(SeccompError::Operator(other.to_owned())),
        };
        Ok(Self { index: arg.index, operator, value: arg.value, value_two: arg.value_two })
    }
}

/// For seccomp(2). `notifies`: some rule has `SCMP_ACT_NOTIFY`.
pub fn flags(names: Option<&[String]>, notifies: bool) -> Result<u64, SeccompError> {
    let listener = if notifies { FLAG_NEW_LISTENER } else { 0 };
    let Some(names) = names else {
        // As runc: without it each thread pays for the mitigation of speculative store bypass.
        return Ok(FLAG_SPEC_ALLOW | listener);
    };
    names.iter().try_fold(listener, |flags, name| match name.as_str() {
        // The child has one thread, so there is none to synchronise.
        "SECCOMP_FILTER_FLAG_TSYNC" => Ok(flags),
        "SECCOMP_FILTER_FLAG_LOG" => Ok(flags | FLAG_LOG),
        "SECCOMP_FILTER_FLAG_SPEC_ALLOW" => Ok(flags | FLAG_SPEC_ALLOW),
        // The kernel refuses it for a filter without listener, where it would mean nothing.
        "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" if !notifies => Ok(flags),
        "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV" => Ok(flags | FLAG_WAIT_KILLABLE_RECV),
        other => Err(SeccompError::Flag(other.to_owned())),
    })
}
