//! Twenty pulls at the same time of images that overlap, again and again: some are cancelled, and the process is killed
//! with SIGKILL at a random moment. After each: what is listed is sound, nothing is left over, the next process pulls
//! everything, and nothing was fetched that was there or was on its way already.
//!
//! `NARU_STORM_ROUNDS` says how many rounds (3 by default), `NARU_STORM_SEED` repeats a series.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{NO_LIMIT, Proxy, Registry, TestStore, store};
use naru_image::{Credentials, Progress, PullOptions, RemoveOptions, Store, StoreConfig};
use naru_types::image::ImageConfig;
use naru_types::{Digest, ImageRef};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const ROUNDS_DEFAULT: u64 = 3;
const PULLS: usize = 20;
const IMAGES: usize = 8;
const LAYERS: usize = 10;
const LAYERS_PER_IMAGE: usize = 6;
const FILES_PER_LAYER: usize = 40;
const FILE_BYTES: usize = 40_000;
/// A kill and a cancellation come within this time, in milliseconds.
const MOMENT_MS_MAX: u64 = 1_500;

/// In the environment of the process that is killed: the store, the registry, and when each pull is cancelled.
const STORE: &str = "NARU_STORM_STORE";
const ADDRESS: &str = "NARU_STORM_ADDRESS";
const CANCELS: &str = "NARU_STORM_CANCELS";

/// xorshift64 (Marsaglia).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 11) % limit
    }
}

#[test]
fn pulls_that_are_cancelled_and_killed() {
    let variable = |name: &str| std::env::var(name).ok();
    if let (Some(path), Some(address), Some(cancels)) =
        (variable(STORE), variable(ADDRESS), variable(CANCELS))
    {
        return pull_until_killed(Path::new(&path), &address, &cancels);
    }
    let Some(registry) = Registry::start() else { return };
    let rounds = variable("NARU_STORM_ROUNDS").map_or(ROUNDS_DEFAULT, |text| text.parse().unwrap());
    let seed = variable("NARU_STORM_SEED")
        .map_or(u64::from(std::process::id()) * 7919, |text| text.parse().unwrap());
    println!("storm: {rounds} rounds, seed {seed}");
    let from = store();
    let storm = Storm {
        images: fill(&from, &registry.address),
        proxy: Proxy::start(&registry.address, NO_LIMIT, NO_LIMIT),
        dir: tempfile::TempDir::new().unwrap(),
    };
    let mut dice = Dice(seed.max(1));
    let mut seen = Seen::default();
    for round in 0..rounds {
        storm.round(round, &mut dice, &mut seen);
    }
    println!("storm: {seen:?}");
}

#[derive(Debug, Default)]
struct Seen {
    killed: u64,
    cancelled: u64,
    /// Images that were listed after the kill.
    survived: u64,
    /// Downloads that were begun again because all who wanted them had gone.
    again: u64,
}

struct Storm {
    /// The blobs and layers of each image.
    images: Vec<Content>,
    proxy: Proxy,
    dir: tempfile::TempDir,
}

struct Content {
    id: Digest,
    /// Configuration and layers, as the registry has them.
    blobs: BTreeSet<String>,
}

impl Storm {
    fn round(&self, round: u64, dice: &mut Dice, seen: &mut Seen) {
        let path = self.dir.path().join("store");
        // Every other round is without cancellations: there, nothing may be fetched twice at all.
        let cancels: Vec<Option<u64>> = (0..PULLS)
            .map(|_| (round % 2 == 1 && dice.below(2) == 0).then(|| dice.below(MOMENT_MS_MAX)))
            .collect();
        let kill = (dice.below(4) > 0).then(|| dice.below(MOMENT_MS_MAX));
        self.first_life(&path, &cancels, kill);
        seen.killed += u64::from(kill.is_some());
        seen.cancelled += cancels.iter().flatten().count() as u64;
        for (blob, count) in self.proxy.blob_gets() {
            let wanted = |number: &usize| self.images[number % IMAGES].blobs.contains(&blob);
            let gone = (0..PULLS).filter(|number| cancels[*number].is_some()).filter(wanted).count();
            assert!(
                count <= 1 + gone,
                "round {round}: {blob} was fetched {count} times, {gone} were cancelled"
            );
            seen.again += count as u64 - 1;
        }
        self.proxy.forget();

        let store = Store::open(&path, StoreConfig::default()).unwrap();
        let there = self.assert_tidy(&store, &path);
        seen.survived += store.list().unwrap().len() as u64;
        pull_all(&store, &self.proxy.address, &vec![None; PULLS], &|outcome| outcome.unwrap());
        for (blob, count) in self.proxy.blob_gets() {
            assert_eq!(count, 1, "round {round}: {blob}");
            assert!(!there.contains(&blob), "round {round}: {blob} was there");
        }
        self.assert_tidy(&store, &path);
        let ids: BTreeSet<Digest> = store.list().unwrap().iter().map(|image| image.id).collect();
        assert_eq!(ids, self.images.iter().map(|image| image.id).collect());
        for id in ids {
            store
                .remove(
                    &id.to_string(),
                    &RemoveOptions { force: true, keep_parents: false, users: &|_| Vec::new() },
                )
                .unwrap();
        }
        for sub in ["staging", "layers", "content/blobs/sha256"] {
            assert_eq!(
                names(&path.join(sub)),
                BTreeSet::new(),
                "round {round}: {sub} after the removal of all"
            );
        }
        drop(store);
        self.proxy.forget();
    }

    /// A process of its own, so that it can be killed.
    fn first_life(&self, path: &Path, cancels: &[Option<u64>], kill: Option<u64>) {
        let shown: Vec<String> =
            cancels.iter().map(|moment| moment.map_or_else(String::new, |ms| ms.to_string())).collect();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "pulls_that_are_cancelled_and_killed", "--nocapture"])
            .env(STORE, path)
            .env(ADDRESS, &self.proxy.address)
            .env(CANCELS, shown.join(","))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        if let Some(moment) = kill {
            // At a random moment: there is nothing to wait for.
            std::thread::sleep(Duration::from_millis(moment));
            child.kill().unwrap();
        }
        let status = child.wait().unwrap();
        assert!(kill.is_some() || status.success(), "{status}");
    }

    /// What is listed is sound, and there is nothing else. Says which blobs need not be fetched.
    fn assert_tidy(&self, store: &Store, path: &Path) -> BTreeSet<String> {
        store.wait_for_sweep();
        let verified = store.verify(&[], &|_| {}).unwrap();
        assert!(verified.is_sound(), "{verified:?}");
        let images = store.list().unwrap();
        let layers: BTreeSet<String> =
            images.iter().flat_map(|image| image.layers()).map(|layer| layer.hex().to_string()).collect();
        assert_eq!(names(&path.join("layers")), layers);
        assert_eq!(names(&path.join("staging")), BTreeSet::new());
        assert!(!path.join("staging.old").exists());
        let listed: BTreeSet<Digest> = images.iter().map(|image| image.id).collect();
        self.images
            .iter()
            .filter(|image| listed.contains(&image.id))
            .flat_map(|image| image.blobs.clone())
            .collect()
    }
}

fn names(dir: &Path) -> BTreeSet<String> {
    let items = fs::read_dir(dir).unwrap().map(|item| item.unwrap().file_name());
    items.map(|name| name.to_string_lossy().into_owned()).collect()
}

/// Ends when all pulls have, or with the process.
fn pull_until_killed(path: &Path, address: &str, cancels: &str) {
    let store = Store::open(path, StoreConfig::default()).unwrap();
    let cancels: Vec<Option<u64>> = cancels.split(',').map(|text| text.parse().ok()).collect();
    pull_all(&store, address, &cancels, &|outcome| {
        if let Err(error) = outcome {
            assert_eq!(error.message(), "context canceled");
        }
    });
}

fn pull_all(
    store: &Store,
    address: &str,
    cancels: &[Option<u64>],
    judge: &(dyn Fn(naru_types::Result<()>) + Sync),
) {
    let start = Barrier::new(cancels.len());
    std::thread::scope(|scope| {
        for (number, moment) in cancels.iter().copied().enumerate() {
            let start = &start;
            scope.spawn(move || {
                let (cancel, ended) = (AtomicBool::new(false), AtomicBool::new(false));
                let reference = ImageRef::parse(&format!("{address}/app{}:1", number % IMAGES)).unwrap();
                start.wait();
                std::thread::scope(|inner| {
                    let (cancel, ended) = (&cancel, &ended);
                    if let Some(moment) = moment {
                        inner.spawn(move || {
                            let mut left = moment;
                            while left > 0 && !ended.load(Ordering::SeqCst) {
                                std::thread::sleep(Duration::from_millis(left.min(20)));
                                left = left.saturating_sub(20);
                            }
                            cancel.store(true, Ordering::SeqCst);
                        });
                    }
                    let silent = |_: Progress| {};
                    let credentials = Credentials::Anonymous;
                    let options = PullOptions { credentials, platform: None, progress: &silent, cancel };
                    judge(store.pull(&reference, &options).map(drop));
                    ended.store(true, Ordering::SeqCst);
                });
            });
        }
    });
}

/// Pushes images that share layers.
fn fill(from: &TestStore, address: &str) -> Vec<Content> {
    let lease = from.store.lease();
    let mut dice = Dice(42);
    let layers: Vec<Digest> = (0..LAYERS)
        .map(|layer| {
            let dir = from.dir.path().join(format!("tree{layer}"));
            fs::create_dir(&dir).unwrap();
            for file in 0..FILES_PER_LAYER {
                let bytes: Vec<u8> = (0..FILE_BYTES).map(|_| dice.next() as u8).collect();
                fs::write(dir.join(format!("file{layer}-{file}")), bytes).unwrap();
            }
            from.store.commit_layer(&dir, false, &lease).unwrap().diff_id
        })
        .collect();
    let images = (0..IMAGES).map(|number| {
        let own: Vec<Digest> = (0..LAYERS_PER_IMAGE).map(|place| layers[(number + place) % LAYERS]).collect();
        let config = ImageConfig {
            architecture: naru_types::platform::Platform::host().architecture,
            os: "linux".into(),
            author: Some(format!("app{number}")),
            ..ImageConfig::default()
        };
        let name = format!("{address}/app{number}:1");
        let image = from.store.create_image(config, &own, &[ImageRef::parse(&name).unwrap()]).unwrap();
        common::push(&from.store, &name).unwrap();
        Content { id: image.id, blobs: blobs_of(address, number) }
    });
    images.collect()
}

/// The digests in an image's manifest.
fn blobs_of(address: &str, number: usize) -> BTreeSet<String> {
    let url = format!("http://{address}/v2/app{number}/manifests/1");
    let accept =
        "application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json";
    let output =
        Command::new("curl").args(["-sf", "-H", &format!("Accept: {accept}"), &url]).output().unwrap();
    assert!(output.status.success());
    let manifest: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let layers = manifest["layers"].as_array().unwrap().iter();
    let all = layers.chain([&manifest["config"]]);
    all.map(|part| part["digest"].as_str().unwrap().to_owned()).collect()
}
