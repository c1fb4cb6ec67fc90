//! start, stop, restart, kill, rm, pause, unpause, wait, rename: one request per container.

use super::for_each;
use crate::client::{Api, escape, query};
use crate::flags::{KillFlags, Names, RmFlags, StartFlags, StopFlags};
use crate::{Outcome, output};
use serde_json::Value;

pub fn start(api: &Api, flags: &StartFlags) -> Outcome {
    if flags.attach || flags.interactive {
        let [container] = flags.containers.as_slice() else {
            return Err(super::invalid("you cannot start and attach multiple containers at once"));
        };
        return super::attach::start_attached(api, container, flags.interactive);
    }
    for_each(&flags.containers, |name| {
        api.post(&format!("/containers/{}/start", escape(name)), None)?;
        output::line(name);
        Ok(())
    })
}

pub fn stop(api: &Api, flags: &StopFlags, verb: &str) -> Outcome {
    let timeout = flags.timeout.map(|secs| secs.to_string());
    let parameters = query(&[("signal", flags.signal.as_deref()), ("t", timeout.as_deref())]);
    for_each(&flags.containers, |name| {
        api.post(&format!("/containers/{}/{verb}{parameters}", escape(name)), None)?;
        output::line(name);
        Ok(())
    })
}

pub fn kill(api: &Api, flags: &KillFlags) -> Outcome {
    for_each(&flags.containers, |name| {
        api.post(
            &format!("/containers/{}/kill{}", escape(name), query(&[("signal", Some(&flags.signal))])),
            None,
        )?;
        output::line(name);
        Ok(())
    })
}

pub fn remove(api: &Api, flags: &RmFlags) -> Outcome {
    let one = |on: bool| on.then_some("1");
    let parameters = query(&[("force", one(flags.force)), ("v", one(flags.volumes))]);
    for_each(&flags.containers, |name| {
        match api.delete(&format!("/containers/{}{parameters}", escape(name))) {
            // Removing by force what isn't there is what was wanted.
            Err(error) if flags.force && error.kind() == naru_types::Kind::NotFound => {
                output::print_error(&error)
            }
            Err(error) => return Err(error),
            Ok(_) => output::line(name),
        }
        Ok(())
    })
}

pub fn simple(api: &Api, names: &Names, verb: &str) -> Outcome {
    for_each(&names.containers, |name| {
        api.post(&format!("/containers/{}/{verb}", escape(name)), None)?;
        output::line(name);
        Ok(())
    })
}

pub fn wait(api: &Api, names: &Names) -> Outcome {
    for_each(&names.containers, |name| {
        let answer = api.post(&format!("/containers/{}/wait", escape(name)), None)?;
        output::line(answer.get("StatusCode").and_then(Value::as_i64).unwrap_or(-1));
        Ok(())
    })
}

pub fn rename(api: &Api, container: &str, new_name: &str) -> Outcome {
    api.post(
        &format!("/containers/{}/rename{}", escape(container), query(&[("name", Some(new_name))])),
        None,
    )?;
    Ok(0)
}
