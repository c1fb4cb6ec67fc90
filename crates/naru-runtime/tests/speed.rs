//! How long a start takes, printed; the bound only catches a start that waits for something (run with --nocapture).

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use common::{Group, Root, skip, spec, start};
use naru_kernel::clock::monotonic_nanos;

const STARTS: usize = 30;

/// Milliseconds; a sane start takes a few, an RCU wait per hierarchy would take hundreds.
const MEDIAN_MS_MAX: u64 = 500;

#[test]
fn starts_do_not_wait() {
    if skip() {
        return;
    }
    let (root, config) = (Root::new(), spec(&["true"]));
    let mut rows = Vec::new();
    for _ in 0..STARTS {
        let begin = monotonic_nanos();
        let group = Group::new();
        group.0.apply(&config.linux.resources).unwrap();
        let limited = monotonic_nanos();
        let running = start(&root, &config, Some(&group)).unwrap();
        let started = monotonic_nanos();
        running.finish();
        let ended = monotonic_nanos();
        drop(group);
        rows.push([limited - begin, started - limited, ended - started, monotonic_nanos() - ended]);
    }
    let median = |column: usize| {
        let mut values: Vec<u64> = rows.iter().map(|row| row[column]).collect();
        values.sort_unstable();
        values[STARTS / 2] / 1000
    };
    println!("µs, medians: cgroup {} start {} run {} delete {}", median(0), median(1), median(2), median(3));
    assert!(median(1) < MEDIAN_MS_MAX * 1000);
}

#[test]
fn the_filter_compiles_fast() {
    let profile = spec(&["true"]).linux.seccomp.unwrap();
    let begin = monotonic_nanos();
    naru_runtime::seccomp::compile(&profile).unwrap();
    let compiled = monotonic_nanos();
    let _ = spec(&["true"]);
    println!("µs: compile {} lower {}", (compiled - begin) / 1000, (monotonic_nanos() - compiled) / 1000);
}
