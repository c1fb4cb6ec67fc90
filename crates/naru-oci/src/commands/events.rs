//! `events`: statistics now and then, and out-of-memory kills as they happen, one JSON object a line.

use super::stats::Stats;
use super::{Call, Command, ID, ONE, print_json};
use crate::container::Container;
use crate::error::OciError;
use crate::flags::{Order, flag, value};
use crate::status::Status;
use naru_runtime::cgroup::Cgroup;
use naru_types::quantity;
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use serde::Serialize;
use std::time::{Duration, Instant};

const INTERVAL: Duration = Duration::from_secs(5);

pub(super) const EVENTS: Command = Command {
    name: "events",
    about: "display container events such as OOM notifications, cpu, memory, and IO usage statistics",
    arguments: ID,
    flags: &[
        value("interval", "", "set the stats collection interval (default: 5s)"),
        flag("stats", "", "display the container's stats then exit"),
    ],
    order: Order::Anywhere,
    positional: ONE,
    run,
};

#[derive(Serialize)]
struct Event<'a> {
    r#type: &'static str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Stats>,
}

fn run(call: &mut Call<'_>) -> Result<u8, OciError> {
    let container = Container::load(call.globals, call.id())?;
    let interval = match call.args.value("interval") {
        None => INTERVAL,
        Some(text) => {
            let nanos = quantity::parse_duration(text).and_then(|nanos| u64::try_from(nanos).ok());
            let positive = nanos.filter(|nanos| *nanos > 0).map(Duration::from_nanos);
            positive.ok_or_else(|| OciError::Refused("duration interval must be greater than 0".into()))?
        }
    };
    if matches!(container.status(), Status::Stopped | Status::Creating) {
        let id = &container.state.id;
        return Err(OciError::Refused(format!("container with id {id} is not running")));
    }
    let cgroup = container.need_cgroup("events")?;
    if call.args.has("stats") {
        return print_stats(&container, &cgroup);
    }
    follow(&container, &cgroup, interval)
}

/// Until the container ends.
fn follow(container: &Container, cgroup: &Cgroup, interval: Duration) -> Result<u8, OciError> {
    let failed = |errno: Errno| OciError::kernel("wait for events", errno);
    let (_, pidfd) = container.init()?;
    let watch = cgroup.oom_watch()?;
    let mut kills = cgroup.oom_kills()?;
    let mut next = Instant::now() + interval;
    loop {
        let left = next.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        let mut polled = [PollFd::new(&pidfd, PollFlags::IN), PollFd::new(&watch, PollFlags::IN)];
        match rustix::event::poll(&mut polled, Some(&timeout)) {
            Err(Errno::INTR) => continue,
            other => other.map_err(failed)?,
        };
        let [ended, woken] = polled.map(|polled| !polled.revents().is_empty());
        if woken {
            watch.drain();
        }
        // The last kill is told also when the container ended by it; its group may be gone by now.
        let now = cgroup.oom_kills().unwrap_or(kills);
        for _ in kills..now {
            print_json(&Event { r#type: "oom", id: &container.state.id, data: None })?;
        }
        kills = now;
        if ended {
            return Ok(0);
        }
        if Instant::now() >= next {
            print_stats(container, cgroup)?;
            next += interval;
        }
    }
}

fn print_stats(container: &Container, cgroup: &Cgroup) -> Result<u8, OciError> {
    let data = Some(Stats::new(&cgroup.stats()?, cgroup));
    print_json(&Event { r#type: "stats", id: &container.state.id, data })
}
