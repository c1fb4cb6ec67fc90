//! What a bench prints: one row per runtime, then the ratios to the one that the promise names.

use crate::measure::{Sample, Spread};
use crate::runtimes::Runtime;
use std::time::Duration;

/// The peer of the promises about the runtime.
const PEER: &str = "crun";
const BYTES_PER_MB: f64 = 1_000_000.0;

/// All samples of one runtime, one for each round.
pub struct Series {
    pub name: String,
    /// `None`: it failed or hung in that round.
    pub samples: Vec<Option<Sample>>,
}

impl Series {
    pub fn new(runtime: &Runtime) -> Self {
        Self { name: runtime.name.clone(), samples: Vec::new() }
    }
}

pub fn print(title: &str, all: &[Series]) {
    print_against(title, all, PEER);
}

/// As [`print`], for a promise that names another peer.
pub fn print_against(title: &str, all: &[Series], promised: &str) {
    let rounds = all.first().map_or(0, |series| series.samples.len());
    println!("## {title}, {rounds} interleaved rounds\n");
    println!("| | wall min | wall median | wall IQR | CPU min | CPU median | max RSS |");
    println!("|---|---|---|---|---|---|---|");
    for series in all {
        let figures = |of: fn(&Sample) -> f64| Spread::of(series.samples.iter().flatten().map(of).collect());
        let (Some(wall), Some(cpu), Some(rss)) = (
            figures(|sample| ms(sample.wall)),
            figures(|sample| ms(sample.cpu)),
            figures(|sample| sample.rss_bytes as f64 / BYTES_PER_MB),
        ) else {
            continue;
        };
        println!(
            "| {} | {:.2} ms | {:.2} ms | {:.2}–{:.2} | {:.2} ms | {:.2} ms | {:.1} MB |",
            series.name, wall.min, wall.median, wall.low, wall.high, cpu.min, cpu.median, rss.max
        );
    }
    for series in all {
        let failed = series.samples.iter().filter(|sample| sample.is_none()).count();
        if failed > 0 {
            println!("\n{} failed or hung in {failed} of {rounds} rounds", series.name);
        }
    }
    println!();
    let is_own = |series: &&Series| series.name.starts_with("naru");
    for own in all.iter().filter(is_own) {
        for peer in all.iter().filter(|series| !is_own(series)) {
            print_ratio(own, peer, promised);
        }
    }
    println!();
}

/// The ratio within each round, so that what loads the machine for a while loads both sides.
fn print_ratio(own: &Series, peer: &Series, promised: &str) {
    let paired = |of: fn(&Sample) -> Duration| {
        let pairs = own.samples.iter().zip(&peer.samples);
        let both = pairs.filter_map(|(own, peer)| Some((own.as_ref()?, peer.as_ref()?)));
        Spread::of(both.map(|(own, peer)| ms(of(own)) / ms(of(peer)).max(f64::MIN_POSITIVE)).collect())
    };
    let (Some(wall), Some(cpu)) = (paired(|sample| sample.wall), paired(|sample| sample.cpu)) else { return };
    let promised = if peer.name == promised { "  <- the promise" } else { "" };
    println!(
        "{} / {}: wall median {:.3} (quartiles {:.3}–{:.3}), CPU median {:.3} ({:.3}–{:.3}){promised}",
        own.name, peer.name, wall.median, wall.low, wall.high, cpu.median, cpu.low, cpu.high
    );
}

fn ms(duration: Duration) -> f64 {
    const MS_PER_S: f64 = 1000.0;
    duration.as_secs_f64() * MS_PER_S
}
