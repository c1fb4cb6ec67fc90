//! Descriptors that the caller passes on to the container: those of socket activation (sd_listen_fds(3)), then those of
//! `--preserve-fds`, from number 3 on.

use crate::error::OciError;
use naru_kernel::inherit;
use std::os::fd::OwnedFd;

const FIRST: i32 = 3;
/// Most descriptors that may be passed on.
const COUNT_MAX: usize = 1024;

/// The descriptors, and what the container's environment must say about them.
#[derive(Debug, Default)]
pub(crate) struct Inherited {
    pub fds: Vec<OwnedFd>,
    pub env: Vec<String>,
}

/// Takes them out of this process's table; before anything else is opened without close-on-exec.
pub(crate) fn take(preserve: usize, with_listeners: bool) -> Result<Inherited, OciError> {
    let listeners = if with_listeners { listeners() } else { 0 };
    if listeners + preserve > COUNT_MAX {
        return Err(OciError::Refused(format!(
            "cannot pass {preserve} descriptors on: the limit is {COUNT_MAX}"
        )));
    }
    let mut fds = Vec::with_capacity(listeners + preserve);
    for index in 0..listeners + preserve {
        let fd = inherit::take(FIRST + index as i32).map_err(|errno| {
            let number = index.saturating_sub(listeners);
            let cause = crate::text::of_error(&errno.into());
            OciError::Refused(format!("unable to stat preserved-fd {number} (of {preserve}): {cause}"))
        })?;
        fds.push(fd);
    }
    let env = if listeners == 0 {
        Vec::new()
    } else {
        vec![format!("LISTEN_FDS={listeners}"), "LISTEN_PID=1".to_owned()]
    };
    Ok(Inherited { fds, env })
}

fn listeners() -> usize {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<usize>().ok());
    if number("LISTEN_PID") == Some(std::process::id() as usize) {
        number("LISTEN_FDS").unwrap_or(0)
    } else {
        0
    }
}
