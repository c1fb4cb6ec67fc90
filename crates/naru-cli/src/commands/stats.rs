//! `stats`: one table per second, or one table.

use crate::client::{Api, escape};
use crate::flags::StatsFlags;
use crate::{Outcome, output, table};
use naru_types::Result;
use serde_json::Value;
use std::io::IsTerminal;

const HEADS: [&str; 8] =
    ["CONTAINER ID", "NAME", "CPU %", "MEM USAGE / LIMIT", "MEM %", "NET I/O", "BLOCK I/O", "PIDS"];

pub fn stats(api: &Api, flags: &StatsFlags) -> Outcome {
    loop {
        let names = if flags.containers.is_empty() { running(api)? } else { flags.containers.clone() };
        // Each request takes the second that the daemon needs for its two samples: ask for all at once.
        let samples: Vec<Result<Value>> = std::thread::scope(|scope| {
            let asked: Vec<_> = names
                .iter()
                .map(|name| {
                    scope.spawn(move || api.get(&format!("/containers/{}/stats?stream=0", escape(name))))
                })
                .collect();
            asked.into_iter().filter_map(|thread| thread.join().ok()).collect()
        });
        let rows = samples
            .into_iter()
            .map(|sample| sample.map(|sample| row(&sample)))
            .collect::<Result<Vec<_>>>()?;
        if !flags.no_stream && std::io::stdout().is_terminal() {
            output::raw(b"\x1b[H\x1b[2J");
        }
        output::raw(table::render(&HEADS, &rows).as_bytes());
        if flags.no_stream {
            return Ok(0);
        }
    }
}

fn running(api: &Api) -> Result<Vec<String>> {
    let list = api.get("/containers/json")?;
    Ok(list
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|item| item["Id"].as_str().map(str::to_owned))
        .collect())
}

fn row(sample: &Value) -> Vec<String> {
    let number = |pointer: &str| sample.pointer(pointer).and_then(Value::as_u64).unwrap_or(0);
    let text = |pointer: &str| sample.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    let used = number("/memory_stats/usage").saturating_sub(
        number("/memory_stats/stats/total_inactive_file").max(number("/memory_stats/stats/inactive_file")),
    );
    let limit = number("/memory_stats/limit");
    let share = if limit == 0 { 0.0 } else { used as f64 / limit as f64 * 100.0 };
    let (mut received, mut sent) = (0, 0);
    for interface in sample["networks"].as_object().into_iter().flatten().map(|(_, value)| value) {
        received += interface["rx_bytes"].as_i64().unwrap_or(0);
        sent += interface["tx_bytes"].as_i64().unwrap_or(0);
    }
    let (mut read, mut written) = (0, 0);
    for entry in sample
        .pointer("/blkio_stats/io_service_bytes_recursive")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        let bytes = entry["value"].as_i64().unwrap_or(0);
        match entry["op"].as_str().map(str::to_ascii_lowercase).as_deref() {
            Some("read") => read += bytes,
            Some("write") => written += bytes,
            _ => {}
        }
    }
    vec![
        text("/id").chars().take(12).collect(),
        text("/name").trim_start_matches('/').to_owned(),
        format!("{:.2}%", cpu_percent(sample)),
        format!("{} / {}", table::binary_size(used), table::binary_size(limit)),
        format!("{share:.2}%"),
        format!("{} / {}", table::human_size(received), table::human_size(sent)),
        format!("{} / {}", table::human_size(read), table::human_size(written)),
        number("/pids_stats/current").to_string(),
    ]
}

/// As the docker CLI: the container's share of the host's CPU time between the two samples, times the CPUs.
fn cpu_percent(sample: &Value) -> f64 {
    let number = |pointer: &str| sample.pointer(pointer).and_then(Value::as_f64).unwrap_or(0.0);
    let used = number("/cpu_stats/cpu_usage/total_usage") - number("/precpu_stats/cpu_usage/total_usage");
    let system = number("/cpu_stats/system_cpu_usage") - number("/precpu_stats/system_cpu_usage");
    if used <= 0.0 || system <= 0.0 {
        0.0
    } else {
        used / system * number("/cpu_stats/online_cpus").max(1.0) * 100.0
    }
}
