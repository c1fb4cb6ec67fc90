//! Power cuts: the store works on a disk that records every write and flush; then, for many moments of that record, the
//! disk is put together as a power cut would have left it (what was flushed, and of the rest a random part), mounted,
//! and the store opened. What it lists must pass verification; what was acknowledged must be listed; what isn't listed
//! must come with the next pull or load.
//!
//! `NARU_POWERCUT_CUTS` says how many cut states (few by default), `NARU_POWERCUT_STEPS` how many operations are
//! recorded, `NARU_POWERCUT_SEED` repeats a series, `NARU_POWERCUT_FS` is ext4, xfs or btrfs. `NARU_POWERCUT_PEER=containerd` does
//! the same to `ctr image pull` instead and expects damage: a harness that finds none anywhere would prove nothing.
//!
//! This process serves the disk ([`recorder`]); another one, in a mount namespace of its own, uses it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)]

#[path = "../common/mod.rs"]
mod common;
#[path = "../../../naru/tests/chaos/dice.rs"]
mod dice;
mod disk;
mod peer;
mod recorder;
mod scenario;

use common::is_root;
use dice::Dice;
use disk::{Rack, Recording};
use recorder::Recorder;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const CUTS_DEFAULT: u64 = 12;
const STEPS_DEFAULT: u64 = 12;
/// Set for the process that uses the disk: the rack's directory.
const DRIVER: &str = "NARU_POWERCUT_RACK";

fn main() -> ExitCode {
    if let Some(dir) = std::env::var_os(DRIVER) {
        return drive(Path::new(&dir));
    }
    if !is_root() {
        println!("test result: ok. 0 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out");
        return ExitCode::SUCCESS;
    }
    let dir = TempDir::new().unwrap();
    for sub in ["backing", "seen", "work"] {
        fs::create_dir(dir.path().join(sub)).unwrap();
    }
    let device = File::options().read(true).write(true).open("/dev/fuse").unwrap();
    let mut driver = Command::new("unshare")
        .args(["--mount", "--propagation", "private"])
        .arg(std::env::current_exe().unwrap())
        .env(DRIVER, dir.path())
        .stdin(device.try_clone().unwrap())
        .spawn()
        .unwrap();
    let server = Recorder::new(&dir.path().join("backing"));
    let serving = std::thread::spawn(move || serve_when_mounted(server, &device));
    let status = driver.wait().unwrap();
    // A driver that died before it mounted anything leaves nothing to wait for.
    if dir.path().join("mounted").exists() {
        serving.join().unwrap();
    }
    let (word, passed) = if status.success() { ("ok", 1) } else { ("FAILED", 0) };
    println!(
        "test result: {word}. {passed} passed; {} failed; 0 ignored; 0 measured; 0 filtered out",
        1 - passed
    );
    if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The device can be read from once it is mounted (until then: EPERM), and offers nothing to wait for that.
fn serve_when_mounted(server: Recorder, device: &File) {
    let root = server.dir().parent().unwrap().join("mounted");
    while !root.exists() {
        std::thread::sleep(Duration::from_millis(5));
    }
    server.serve(device.try_clone().unwrap()).unwrap();
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

struct Plan {
    cuts: u64,
    steps: u64,
    file_system: String,
    dice: Dice,
    rack: Rack,
    work: PathBuf,
}

fn drive(dir: &Path) -> ExitCode {
    let rack = Rack { backing: dir.join("backing"), seen: dir.join("seen") };
    disk::mount_recorder(&rack.seen);
    File::create(dir.join("mounted")).unwrap();
    let seed = number("NARU_POWERCUT_SEED").unwrap_or_else(|| u64::from(std::process::id()) * 7919);
    let mut plan = Plan {
        cuts: number("NARU_POWERCUT_CUTS").unwrap_or(CUTS_DEFAULT),
        steps: number("NARU_POWERCUT_STEPS").unwrap_or(STEPS_DEFAULT),
        file_system: std::env::var("NARU_POWERCUT_FS").unwrap_or_else(|_| "ext4".into()),
        dice: Dice::new(seed),
        rack,
        work: dir.join("work"),
    };
    println!("powercut: {} cut states on {}, seed {seed}", plan.cuts, plan.file_system);
    let started = Instant::now();
    let passed = match std::env::var("NARU_POWERCUT_PEER").as_deref() {
        Ok("containerd") => peer::shows_damage(&mut plan),
        Ok(other) => panic!("NARU_POWERCUT_PEER={other}: only containerd is known"),
        Err(_) => scenario::survives(&mut plan),
    };
    println!(
        "test powercut ... {} ({:.1} s)",
        if passed { "ok" } else { "FAILED" },
        started.elapsed().as_secs_f32()
    );
    if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

impl Plan {
    /// Makes the disk, runs `work` on it, and gives its record and the fresh disk's copy back.
    fn record<T>(&self, work: impl FnOnce(&Path) -> T) -> (Recording, T) {
        self.rack.make("disk", &self.file_system);
        let fresh = self.rack.backing.join("fresh");
        disk::copy_sparse(&File::open(self.rack.backing.join("disk")).unwrap(), &fresh);
        let mounted = self.rack.mount("disk", &self.file_system, &self.work.join("mnt"));
        let result = work(&mounted.path);
        drop(mounted);
        let recording = Recording::open(&self.rack.backing.join("disk.log"), &fresh, &self.file_system);
        println!(
            "  recorded {} events, {} of them flushes",
            recording.moments().count(),
            recording.flushes()
        );
        (recording, result)
    }

    fn moment(&self) -> u64 {
        self.rack.moment("disk")
    }

    /// Half of the cuts anywhere, half at the moments that matter most: right after something was acknowledged.
    fn moments(&mut self, recording: &Recording, acknowledged: &[u64]) -> Vec<u64> {
        let all: Vec<u64> = recording.moments().filter(|moment| *moment >= acknowledged[0]).collect();
        let mut chosen: Vec<u64> = (0..self.cuts)
            .map(|number| {
                let from = if number % 2 == 0 { &all[..] } else { acknowledged };
                from[self.dice.below(from.len() as u64) as usize]
            })
            .collect();
        chosen.sort_unstable();
        chosen
    }

    /// Makes a cut's disk, mounts it and looks at it.
    fn look<T>(
        &mut self,
        recording: &mut Recording,
        number: usize,
        moment: u64,
        look: impl FnOnce(&Path, &mut Dice) -> T,
    ) -> (disk::Cut, T) {
        let name = format!("cut-{number}");
        let cut = recording.cut(moment, &self.rack.backing.join(&name), &mut self.dice);
        let mounted = self.rack.mount(&name, &self.file_system, &self.work.join("cut"));
        let result = look(&mounted.path, &mut self.dice);
        drop(mounted);
        self.rack.remove(&name);
        (cut, result)
    }
}
