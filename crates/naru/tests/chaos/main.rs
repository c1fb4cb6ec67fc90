//! Chaos: four clients do everything at random while the daemon, the keeper or both are killed with SIGKILL at random
//! moments and started again. No client may wait for ever; what nobody killed under must answer rightly; after every few
//! kills every container is listed right and can be removed, and then nothing is left of any.
//!
//! `NARU_CHAOS_CYCLES` says how many kills (40 by default), `NARU_CHAOS_SEED` repeats a series. The series of
//! operations is the same for one seed; the moments at which they meet a kill are not.
//! Before that, `NARU_RESTARTS` restarts under `NARU_RESTART_CONTAINERS` live containers, and `NARU_SHORT_LIVES` times
//! `run --rm`. `NARU_BUILD_KILLS` kills (6 by default) during builds come last.

mod builds;
mod clients;
mod dice;
#[path = "../e2e/host.rs"]
mod host;
#[path = "../e2e/lab.rs"]
#[expect(dead_code, reason = "the end-to-end tests use the rest")]
mod lab;
mod residue;
mod restarts;

use clients::{Clients, Seen};
use dice::Dice;
use host::Snapshot;
use lab::{Lab, wait_for};
use residue::Residue;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::{Duration, Instant};

const CYCLES_DEFAULT: u64 = 40;
/// Restarts of the daemon, and the containers that live through them (R3).
const RESTARTS_DEFAULT: u64 = 10;
const CONTAINERS_DEFAULT: u64 = 50;
/// `run --rm`, one after the other (R5).
const SHORT_LIVES_DEFAULT: u64 = 50;
/// Kills in the middle of builds.
const BUILD_KILLS_DEFAULT: u64 = 6;
const CLIENTS: u64 = 4;
/// Kills between one rest and the next.
const ROUND_KILLS: u64 = 5;
/// Between one restart and the next kill.
const CALM_MILLIS_MAX: u64 = 900;

fn main() -> ExitCode {
    if let Some(reason) = lab::missing() {
        println!("SKIP: chaos: {reason}");
        println!("test result: ok. 0 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out");
        return ExitCode::SUCCESS;
    }
    let cycles = number("NARU_CHAOS_CYCLES").unwrap_or(CYCLES_DEFAULT);
    let seed = number("NARU_CHAOS_SEED").unwrap_or_else(|| u64::from(std::process::id()) * 7919);
    println!("chaos: {cycles} kills, seed {seed}");
    let before = Snapshot::take();
    let lab = Lab::start("e2e-chaos");
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let started = Instant::now();
        let told = |what: &str| println!("test {what} ... ok ({:.1} s)", started.elapsed().as_secs_f32());
        let restarts = number("NARU_RESTARTS").unwrap_or(RESTARTS_DEFAULT);
        let containers = number("NARU_RESTART_CONTAINERS").unwrap_or(CONTAINERS_DEFAULT);
        restarts::nothing_is_lost(&lab, restarts, containers as usize);
        told(&format!("{restarts} restarts with {containers} containers"));
        let lives = number("NARU_SHORT_LIVES").unwrap_or(SHORT_LIVES_DEFAULT);
        restarts::short_lives_leave_nothing(&lab, lives);
        told(&format!("{lives} short lives"));
        chaos(&lab, cycles, seed);
        told("kills");
        let kills = number("NARU_BUILD_KILLS").unwrap_or(BUILD_KILLS_DEFAULT);
        builds::nothing_is_poisoned(&lab, kills, seed);
        lab.finish(&before);
        told(&format!("{kills} kills during builds"));
    }));
    let (word, passed) = if outcome.is_ok() { ("ok", 1) } else { ("FAILED", 0) };
    println!(
        "test result: {word}. {passed} passed; {} failed; 0 ignored; 0 measured; 0 filtered out",
        1 - passed
    );
    if passed == 1 {
        return ExitCode::SUCCESS;
    }
    println!("failed: chaos; seed {seed}; logs are in {}", lab.dir.display());
    println!("{}", lab.docker(&["ps", "-a", "--no-trunc"]).stdout);
    lab.remove_everything();
    ExitCode::FAILURE
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// In rounds: after a few kills everything comes to rest and is judged. What is wrong at one moment would be set right, and
/// so hidden, by the next restart.
fn chaos(lab: &Lab, cycles: u64, seed: u64) {
    lab.ok(&["run", "--rm", "-p", "18099:80", "busybox", "true"]);
    let calm = Residue::settled(lab);
    let mut dice = Dice::new(seed);
    let mut left = cycles;
    let mut seen = Seen::default();
    while left > 0 {
        let kills = left.min(ROUND_KILLS);
        left -= kills;
        seen += round(lab, &mut dice, kills);
        come_to_rest(lab, &calm);
    }
    println!("  {seen}");
}

fn round(lab: &Lab, dice: &mut Dice, kills: u64) -> Seen {
    let clients = Clients::new(lab);
    std::thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (clients, dice) = (&clients, Dice::new(dice.below(u64::MAX)));
            scope.spawn(move || clients.work(number, dice));
        }
        let killing = catch_unwind(AssertUnwindSafe(|| {
            for _ in 0..kills {
                std::thread::sleep(Duration::from_millis(dice.below(CALM_MILLIS_MAX)));
                kill(lab, &clients, dice);
            }
        }));
        clients.stop();
        if let Err(panic) = killing {
            std::panic::resume_unwind(panic);
        }
    });
    clients.seen()
}

/// Everything is listed right and can be removed, and then nothing is left.
fn come_to_rest(lab: &Lab, calm: &Residue) {
    residue::listed_right(lab);
    for id in lab.ok(&["ps", "-aq", "--no-trunc"]).split_whitespace() {
        lab.docker(&["rm", "-f", "-v", id]).expect(0, "removing what the chaos left");
    }
    assert_eq!(lab.ok(&["ps", "-aq"]), "", "containers are listed after their removal");
    lab.remove_everything();
    wait_for("everything to be given back", || Residue::take(lab).over(calm).is_empty());
    residue::no_panics(lab);
}

/// One of: the daemon, the keeper, both in either order. A killed daemon is started again; the daemon itself replaces
/// a keeper.
fn kill(lab: &Lab, clients: &Clients<'_>, dice: &mut Dice) {
    clients.disturbed();
    let mut killed = None;
    let mut kill_keeper = || {
        killed = lab.keeper_pid();
        if let Some(pid) = &killed {
            lab.sh(&format!("kill -9 {pid}"));
        }
    };
    match dice.below(4) {
        0 => kill_keeper(),
        1 => {
            lab.kill_daemon();
            kill_keeper();
            lab.start_daemon();
        }
        _ => {
            lab.kill_daemon();
            std::thread::sleep(Duration::from_millis(dice.below(300)));
            lab.start_daemon();
        }
    }
    // Another one: a killed process is seen until the kernel is through with it.
    wait_for("a keeper", || lab.keeper_pid().is_some_and(|pid| killed.as_ref() != Some(&pid)));
    clients.disturbed();
}
