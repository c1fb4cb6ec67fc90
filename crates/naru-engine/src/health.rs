//! Health checks: one task per run that executes the probe and folds its result into a verdict.
//!
//! As dockerd: a failure within the start period does not count, the first success ends that period, `retries`
//! failures in a row make it unhealthy.

use crate::container::Container;
use crate::engine::Engine;
use crate::ids;
use crate::machine::State;
use crate::options::{ExecSpec, ExecStart};
use crate::view::{HealthResult, HealthStatus, HealthView};
use naru_runtime::keeper::protocol::Target;
use naru_types::Timestamp;
use naru_types::image::Healthcheck;
use naru_types::signal::Signal;
use naru_wire::frame::Demux;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncReadExt;

/// Docker's defaults, nanoseconds.
const INTERVAL_NS_DEFAULT: i64 = 30_000_000_000;
const TIMEOUT_NS_DEFAULT: i64 = 30_000_000_000;
const START_INTERVAL_NS_DEFAULT: i64 = 5_000_000_000;
const RETRIES_DEFAULT: i64 = 3;
/// Bytes of output kept per probe.
const OUTPUT_BYTES_MAX: usize = 4096;
/// Results kept.
const LOG_RESULTS_MAX: usize = 5;
/// Exit code that stands for "the probe could not be run, or took too long".
const CODE_NO_RESULT: i64 = -1;

/// The task of one run; dropped, it stops.
pub struct HealthTask(tokio::task::AbortHandle);

impl Drop for HealthTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The probe's argument vector; `None` without a check.
fn probe_args(check: &Healthcheck, shell: &[String]) -> Option<Vec<String>> {
    match check.test.split_first()? {
        (kind, args) if kind == "CMD" && !args.is_empty() => Some(args.to_vec()),
        (kind, [line, ..]) if kind == "CMD-SHELL" => {
            Some(shell.iter().cloned().chain([line.clone()]).collect())
        }
        _ => None,
    }
}

/// Starts the checks of a run that has just begun, or that a new daemon found.
pub fn watch(engine: &Arc<Engine>, container: &Arc<Container>) {
    let check = container.cell().spec.healthcheck.clone();
    let shell = ["/bin/sh".to_owned(), "-c".to_owned()];
    let Some((check, args)) =
        check.and_then(|check| Some((probe_args(&check, &shell)?, check))).map(|(a, c)| (c, a))
    else {
        container.cell().facts.health = None;
        return;
    };
    let task = tokio::spawn(run(Arc::clone(engine), Arc::clone(container), check, args));
    let mut cell = container.cell();
    cell.health = Some(HealthTask(task.abort_handle()));
    let fresh = HealthView { status: HealthStatus::Starting, failing_streak: 0, log: Vec::new() };
    cell.facts.health.get_or_insert(fresh);
}

/// The run is over: what it was is kept for inspect, the next run starts afresh.
pub fn unwatch(container: &Container) {
    container.cell().health = None;
}

async fn run(engine: Arc<Engine>, container: Arc<Container>, check: Healthcheck, args: Vec<String>) {
    let or = |value: i64, default: i64| if value > 0 { value } else { default };
    let interval = or(check.interval, INTERVAL_NS_DEFAULT);
    let start_interval = or(check.start_interval, START_INTERVAL_NS_DEFAULT);
    let timeout = Duration::from_nanos(or(check.timeout, TIMEOUT_NS_DEFAULT) as u64);
    let rules = HealthRules {
        retries: or(check.retries, RETRIES_DEFAULT) as u32,
        start_period_ns: check.start_period,
        started_at: container.cell().state.run().map_or_else(ids::now, |run| run.started_at),
    };
    loop {
        let starting =
            container.cell().facts.health.as_ref().is_none_or(|h| h.status == HealthStatus::Starting);
        let in_start = starting && ids::now().0 - rules.started_at.0 < rules.start_period_ns;
        let pause = if in_start { start_interval.min(interval) } else { interval };
        tokio::time::sleep(Duration::from_nanos(pause as u64)).await;
        if !matches!(container.cell().state, State::Running { .. }) {
            // Paused or on its way out: no verdict.
            continue;
        }
        let result = probe(&engine, &container, &args, timeout).await;
        let changed = {
            let mut cell = container.cell();
            let before = cell.facts.health.take();
            let (after, changed) = fold(before, result, &rules);
            cell.facts.health = Some(after.clone());
            changed.then_some(after)
        };
        if let Some(health) = changed {
            store(&engine, &container).await;
            engine.emit_about(&container, &format!("health_status: {}", health.status.as_str()), &[]);
        }
    }
}

async fn store(engine: &Arc<Engine>, container: &Arc<Container>) {
    let container = Arc::clone(container);
    let save = move |engine: &Arc<Engine>| {
        Ok(engine.db.save_facts(&container.id, || container.cell().facts.clone())?)
    };
    // The verdict is observed again at the next probe; a full disk shows itself where something is acknowledged.
    let _ = engine.blocking(save).await;
}

async fn probe(
    engine: &Arc<Engine>,
    container: &Arc<Container>,
    args: &[String],
    timeout: Duration,
) -> HealthResult {
    let start = ids::now();
    let spec =
        ExecSpec { args: args.to_vec(), attach_stdout: true, attach_stderr: true, ..ExecSpec::default() };
    let exec = engine.new_exec(container, spec);
    engine.emit_about(
        container,
        &format!("exec_create: {}", args.join(" ")),
        &[("execID", exec.id.as_str())],
    );
    let started = engine.run_exec(Arc::clone(&exec), ExecStart::default(), true).await;
    let (exit_code, output) = match started {
        Err(error) => (CODE_NO_RESULT, error.chain()),
        Ok(None) => (CODE_NO_RESULT, String::new()),
        Ok(Some(mut stream)) => {
            let mut output = Vec::new();
            let run = async {
                read_bounded(&mut stream, &mut output).await;
                exec.ended().await
            };
            if let Ok(code) = tokio::time::timeout(timeout, run).await {
                (code, text(&output))
            } else {
                let target = Target::exec(container.id.clone(), exec.id.clone());
                // Gone meanwhile is as good.
                let _ = engine.with_keeper(move |keeper| keeper.signal(&target, Signal::KILL)).await;
                (CODE_NO_RESULT, format!("Health check exceeded timeout ({})", go_duration(timeout)))
            }
        }
    };
    engine.forget_exec(&exec);
    HealthResult { start, end: ids::now(), exit_code, output }
}

/// Reads to the end so that the probe never blocks on a full pipe; keeps the first bytes.
async fn read_bounded(stream: &mut tokio::net::UnixStream, output: &mut Vec<u8>) {
    let mut demux = Demux::default();
    let mut buffer = [0u8; 4096];
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        let fed = demux.feed(&buffer[..count], |_, payload| {
            let room = OUTPUT_BYTES_MAX.saturating_sub(output.len());
            output.extend_from_slice(&payload[..payload.len().min(room)]);
        });
        // Not a stream of ours any more: what was read so far is what the probe said.
        if fed.is_err() {
            return;
        }
    }
}

fn text(output: &[u8]) -> String {
    String::from_utf8_lossy(output).into_owned()
}

/// Whole seconds as Go prints them; anything finer in milliseconds.
fn go_duration(duration: Duration) -> String {
    if duration.subsec_millis() == 0 {
        format!("{}s", duration.as_secs())
    } else {
        format!("{}ms", duration.as_millis())
    }
}

struct HealthRules {
    retries: u32,
    start_period_ns: i64,
    started_at: Timestamp,
}

/// The verdict after one more result, and whether it changed.
fn fold(before: Option<HealthView>, result: HealthResult, rules: &HealthRules) -> (HealthView, bool) {
    let mut health =
        before.unwrap_or(HealthView { status: HealthStatus::Starting, failing_streak: 0, log: Vec::new() });
    let old = health.status;
    if result.exit_code == 0 {
        health.failing_streak = 0;
        health.status = HealthStatus::Healthy;
    } else {
        let in_start =
            old == HealthStatus::Starting && result.start.0 - rules.started_at.0 < rules.start_period_ns;
        if !in_start {
            health.failing_streak = health.failing_streak.saturating_add(1);
            if health.failing_streak >= rules.retries {
                health.status = HealthStatus::Unhealthy;
            }
        }
    }
    health.log.push(result);
    let surplus = health.log.len().saturating_sub(LOG_RESULTS_MAX);
    health.log.drain(..surplus);
    let changed = health.status != old;
    (health, changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts() {
        let rules = HealthRules { retries: 2, start_period_ns: 100, started_at: Timestamp(0) };
        let mut health = None;
        for (start, code, expect, change) in [
            (10, 1, HealthStatus::Starting, false),
            (150, 1, HealthStatus::Starting, false),
            (160, 1, HealthStatus::Unhealthy, true),
            (170, 0, HealthStatus::Healthy, true),
            (180, 1, HealthStatus::Healthy, false),
            (190, 1, HealthStatus::Unhealthy, true),
        ] {
            let result = HealthResult {
                start: Timestamp(start),
                end: Timestamp(start + 1),
                exit_code: code,
                output: String::new(),
            };
            let (after, changed) = fold(health.take(), result, &rules);
            assert_eq!((after.status, changed), (expect, change), "{start}");
            assert!(after.log.len() <= LOG_RESULTS_MAX);
            health = Some(after);
        }
    }
}
