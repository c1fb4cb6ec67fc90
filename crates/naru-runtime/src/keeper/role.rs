//! What a keeper process was started for, by its arguments.

use std::ffi::OsString;
use std::os::fd::RawFd;
use std::path::PathBuf;

/// `keeper --run DIR [--resume FD | --check-state FD]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// `run_dir` holds the socket, the lock, the keeper's log and `bundles/`.
    Run { run_dir: PathBuf },
    /// Go on as the keeper whose state is in this descriptor, which the program before this one kept.
    Resume { run_dir: PathBuf, state: RawFd },
    /// Say whether that would work, and end. 0: standard input.
    CheckState { state: RawFd },
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("usage: naru keeper --run DIR [--resume FD | --check-state FD]")]
pub struct RoleError;

impl Role {
    /// From the arguments after `keeper`.
    pub fn parse(args: &[OsString]) -> Result<Self, RoleError> {
        let number = |text: &OsString| text.to_str().and_then(|text| text.parse().ok()).ok_or(RoleError);
        match args {
            [run, dir] if run == "--run" => Ok(Self::Run { run_dir: dir.into() }),
            [run, dir, flag, fd] if run == "--run" && flag == "--resume" => {
                Ok(Self::Resume { run_dir: dir.into(), state: number(fd)? })
            }
            [run, _, flag, fd] if run == "--run" && flag == "--check-state" => {
                Ok(Self::CheckState { state: number(fd)? })
            }
            _ => Err(RoleError),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles() {
        let parse = |text: &str| Role::parse(&text.split(' ').map(OsString::from).collect::<Vec<_>>());
        let run_dir = PathBuf::from("/run/x");
        assert_eq!(parse("--run /run/x"), Ok(Role::Run { run_dir: run_dir.clone() }));
        assert_eq!(parse("--run /run/x --resume 7"), Ok(Role::Resume { run_dir, state: 7 }));
        assert_eq!(parse("--run /run/x --check-state 0"), Ok(Role::CheckState { state: 0 }));
        for bad in ["", "--run", "--run /x --resume", "--run /x --resume x", "--run /x --other 3"] {
            assert_eq!(parse(bad), Err(RoleError), "{bad}");
        }
    }
}
