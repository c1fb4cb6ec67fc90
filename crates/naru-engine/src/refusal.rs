//! Refusals in Docker's words; clients match on several of them.

use crate::machine::{LaunchFailure, Refusal};
use naru_types::{ContainerId, Error, Kind};

/// What was asked for, as far as the text depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Start,
    Stop,
    Restart,
    Kill,
    Pause,
    Unpause,
    Remove,
}

pub fn error(verb: Verb, name: &str, id: &ContainerId, refusal: Refusal) -> Error {
    match refusal {
        Refusal::AlreadyRunning => {
            Error::new(Kind::NotModified, format!("container {name} is already running"))
        }
        Refusal::AlreadyStopped => {
            Error::new(Kind::NotModified, format!("container {name} is already stopped"))
        }
        Refusal::NotRunning if verb == Verb::Kill => {
            Error::conflict(format!("cannot kill container: {name}: container {id} is not running"))
        }
        Refusal::NotRunning => Error::conflict(format!("container {id} is not running")),
        Refusal::IsPaused => Error::conflict("cannot start a paused container, try unpause instead"),
        Refusal::AlreadyPaused => Error::conflict(format!("container {id} is already paused")),
        Refusal::NotPaused => Error::conflict(format!("container {id} is not paused")),
        Refusal::IsRestarting => {
            Error::conflict(format!("Container {id} is restarting, wait until the container is running"))
        }
        Refusal::RemovalInProgress => {
            Error::conflict(format!("removal of container {name} is already in progress"))
        }
        Refusal::MarkedForRemoval => {
            Error::conflict("container is marked for removal and cannot be started".to_owned())
        }
        Refusal::StillActive(crate::view::Status::Paused) => Error::conflict(format!(
            "cannot remove container \"{name}\": container is paused and must be unpaused first"
        ))
        .with_hint(format!("unpause {name}, or remove it by force")),
        Refusal::StillActive(status) => Error::conflict(format!(
            "cannot remove container \"{name}\": container is {}: stop the container before removing or force remove",
            status.as_str()
        )),
        Refusal::Overtaken => {
            Error::conflict(format!("container {name} was stopped by another request meanwhile"))
        }
        Refusal::LaunchFailed(LaunchFailure { code, error, hint }) => {
            let error =
                if matches!(code, 126 | 127) { Error::invalid(error) } else { Error::internal(error) };
            match hint {
                Some(hint) => error.with_hint(hint),
                None => error,
            }
        }
        Refusal::Failed(error) => Error::internal(format!("cannot {} container {name}: {error}", word(verb))),
    }
}

fn word(verb: Verb) -> &'static str {
    match verb {
        Verb::Start => "start",
        Verb::Stop => "stop",
        Verb::Restart => "restart",
        Verb::Kill => "kill",
        Verb::Pause => "pause",
        Verb::Unpause => "unpause",
        Verb::Remove => "remove",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::Status;

    #[test]
    fn texts_are_dockers() {
        let id = ContainerId::from_bytes([0xab; 32]);
        for (verb, refusal, text, status) in [
            (
                Verb::Remove,
                Refusal::StillActive(Status::Running),
                "cannot remove container \"x\": container is running: stop the container before removing or force remove",
                409,
            ),
            (Verb::Remove, Refusal::RemovalInProgress, "removal of container x is already in progress", 409),
            (Verb::Start, Refusal::AlreadyRunning, "container x is already running", 304),
            (Verb::Start, Refusal::IsPaused, "cannot start a paused container, try unpause instead", 409),
        ] {
            let error = error(verb, "x", &id, refusal);
            assert_eq!((error.message(), error.kind().http_status()), (text, status));
        }
    }
}
