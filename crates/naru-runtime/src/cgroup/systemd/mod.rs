//! A container's control group as a scope of systemd, for hosts whose tree systemd manages alone.
//!
//! A scope begins with a process in it: a placeholder, a child of ours that only waits. Then the container's first
//! process is born in the scope's group, as in any other, and the placeholder ends ([`super::Cgroup::settle`]). So the
//! container is never anywhere else, and systemd needs to know no number of a process that runs foreign code.

mod annotations;
mod dbus;
mod names;
mod properties;
mod wire;

use super::CgroupError;
use crate::oci::Resources;
use dbus::Connection;
use naru_kernel::process::{self, Child};
use naru_kernel::{pidfd, prctl};
use naru_types::signal::Signal;
use std::collections::BTreeMap;
use wire::{Method, Property, Value, Writer};

pub use dbus::DbusError;
pub(super) use names::{place, unit_and_slice};
pub(super) use properties::rounded;

const SYSTEMD: &str = "org.freedesktop.systemd1";
const PATH: &str = "/org/freedesktop/systemd1";
const MANAGER: &str = "org.freedesktop.systemd1.Manager";
const JOB_REMOVED: &str = "JobRemoved";
const SIGKILL: i32 = 9;
/// Beside the first process there is the placeholder for a moment.
const TASKS_MIN: u64 = 2;

/// A process that keeps a scope alive; it ends with this value.
#[derive(Debug)]
pub(super) struct Placeholder(Child);

impl Placeholder {
    fn new() -> Result<Self, naru_kernel::Errno> {
        let parent = std::process::id();
        process::fork(move || {
            let _ = prctl::set_parent_death_signal(SIGKILL);
            // The parent may have gone before that.
            while rustix::process::getppid().is_some_and(|pid| pid.as_raw_pid() as u32 == parent) {
                std::thread::sleep(std::time::Duration::from_secs(1));
            }
            0
        })
        .map(Self)
    }
}

impl Drop for Placeholder {
    fn drop(&mut self) {
        let _ = pidfd::send_signal(&self.0.pidfd, Signal::KILL);
        let _ = pidfd::wait(&self.0.pidfd);
    }
}

/// Starts the scope with its limits.
pub(super) fn start(
    path: &str,
    user: bool,
    v2: bool,
    resources: &Resources,
    annotations: &BTreeMap<String, String>,
) -> Result<Placeholder, CgroupError> {
    let (unit, slice) = unit_and_slice(path);
    let mut all: Vec<Property> = vec![
        ("Description".into(), Value::Text(format!("naru container {unit}"))),
        ("Slice".into(), Value::Text(slice.to_owned())),
        ("Delegate".into(), Value::Bool(true)),
        ("DefaultDependencies".into(), Value::Bool(false)),
        ("MemoryAccounting".into(), Value::Bool(true)),
        ("CPUAccounting".into(), Value::Bool(true)),
        (if v2 { "IOAccounting" } else { "BlockIOAccounting" }.into(), Value::Bool(true)),
        ("TasksAccounting".into(), Value::Bool(true)),
    ];
    all.extend(properties::of(resources, v2)?);
    for (name, value) in &mut all {
        if let ("TasksMax", Value::U64(tasks)) = (name.as_ref(), value) {
            *tasks = (*tasks).max(TASKS_MIN);
        }
    }
    // Last: what the caller says of the unit counts.
    all.extend(annotations::of(annotations)?);
    let placeholder =
        Placeholder::new().map_err(|errno| CgroupError::kernel("fork for", path.as_ref(), errno))?;
    all.push(("PIDs".into(), Value::U32s(vec![placeholder.0.pid as u32])));
    let mut body = Writer::default();
    body.text(unit);
    body.text("fail");
    body.properties(&all);
    body.array(8, |_| {});
    let body = body.finish();
    let failed = told("start", unit);
    let mut connection = subscribed(user).map_err(told("reach the manager for", unit))?;
    let mut asked = job(&mut connection, "StartTransientUnit", "ssa(sv)a(sa(sv))", &body);
    if matches!(&asked, Err(DbusError::Refused { name, .. }) if name.ends_with(".UnitExists")) {
        // Perhaps one that failed and that nobody has looked at.
        let _ = reset(&mut connection, unit);
        asked = job(&mut connection, "StartTransientUnit", "ssa(sv)a(sa(sv))", &body);
    }
    asked.map_err(&failed)?;
    Ok(placeholder)
}

/// New limits for as long as the unit lives.
pub(super) fn update(path: &str, user: bool, v2: bool, resources: &Resources) -> Result<(), CgroupError> {
    let (unit, _) = unit_and_slice(path);
    let properties = properties::of(resources, v2)?;
    if properties.is_empty() {
        return Ok(());
    }
    let mut body = Writer::default();
    body.text(unit);
    body.u32(1);
    body.properties(&properties);
    let failed = told("set properties of", unit);
    let mut connection = Connection::open(&dbus::addresses(user)).map_err(&failed)?;
    connection.call(manager("SetUnitProperties", "sba(sv)"), &body.finish()).map(drop).map_err(failed)
}

/// Stops the unit, and lets systemd forget it. One that is gone, as its last process made it, is fine.
pub(super) fn stop(path: &str, user: bool) -> Result<(), CgroupError> {
    let (unit, _) = unit_and_slice(path);
    let failed = told("stop", unit);
    let mut connection = subscribed(user).map_err(&failed)?;
    let mut body = Writer::default();
    body.text(unit);
    body.text("replace");
    let stopped = job(&mut connection, "StopUnit", "ss", &body.finish());
    let _ = reset(&mut connection, unit);
    match stopped {
        Err(DbusError::Refused { name, .. }) if name.ends_with(".NoSuchUnit") => Ok(()),
        other => other.map_err(failed),
    }
}

/// Where the manager's own group is: `/` or that of the user's manager.
pub(super) fn manager_group(user: bool) -> Result<String, CgroupError> {
    let failed = told("ask for the group of", "the manager");
    let mut connection = Connection::open(&dbus::addresses(user)).map_err(&failed)?;
    let mut body = Writer::default();
    body.text(MANAGER);
    body.text("ControlGroup");
    let interface = "org.freedesktop.DBus.Properties";
    let method = Method { interface, ..manager("Get", "ss") };
    let answer = connection.call(method, &body.finish()).map_err(&failed)?;
    let mut reader = answer.body();
    let text = reader.signature().and_then(|_| reader.text());
    text.map(str::to_owned).map_err(|why| failed(why.into()))
}

fn told(step: &'static str, unit: &str) -> impl Fn(DbusError) -> CgroupError + use<> {
    let unit = unit.to_owned();
    move |source| CgroupError::Systemd { step, unit: unit.clone(), source }
}

fn manager(member: &'static str, signature: &'static str) -> Method<'static> {
    Method { destination: SYSTEMD, path: PATH, interface: MANAGER, member, signature }
}

fn subscribed(user: bool) -> Result<Connection, DbusError> {
    let mut connection = Connection::open(&dbus::addresses(user))?;
    connection.listen_for(MANAGER, JOB_REMOVED)?;
    connection.call(manager("Subscribe", ""), &[])?;
    Ok(connection)
}

fn reset(connection: &mut Connection, unit: &str) -> Result<(), DbusError> {
    let mut body = Writer::default();
    body.text(unit);
    connection.call(manager("ResetFailedUnit", "s"), &body.finish()).map(drop)
}

/// Calls what answers with a job, and waits for that job's end.
fn job(
    connection: &mut Connection,
    member: &'static str,
    signature: &'static str,
    body: &[u8],
) -> Result<(), DbusError> {
    let answer = connection.call(manager(member, signature), body)?;
    let own = answer.body().text()?.to_owned();
    let result = connection.wait_signal(|signal| {
        if signal.interface != MANAGER || signal.member != JOB_REMOVED {
            return None;
        }
        // The job's number and path, the unit, the result.
        let mut reader = signal.body();
        reader.u32().ok()?;
        let path = reader.text().ok()?;
        reader.text().ok()?;
        let result = reader.text().ok()?;
        (path == own).then(|| result.to_owned())
    })?;
    if result == "done" { Ok(()) } else { Err(DbusError::Job(result)) }
}
