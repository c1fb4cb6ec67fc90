//! Garbage collection: what a policy gives up, and what it must leave to others at the same time.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{Registry, TestStore, is_root, pull, push, store};
use naru_image::{GcPolicy, GcReason};
use naru_types::image::ImageConfig;
use naru_types::{Digest, ImageRef};
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

const LAYER_BYTES: usize = 100_000;
const ROUNDS: usize = 12;

/// An image of one layer of its own above `below`.
fn make(test: &TestStore, name: &str, below: &[Digest]) -> Digest {
    let dir = test.dir.path().join(name.replace(['/', ':'], "-"));
    fs::create_dir_all(&dir).unwrap();
    let mut bytes = vec![0; LAYER_BYTES];
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    fs::write(dir.join("file"), bytes).unwrap();
    let lease = test.store.lease();
    let layer = test.store.commit_layer(&dir, true, &lease).unwrap().diff_id;
    for layer in below {
        lease.hold(layer).unwrap();
    }
    let config = ImageConfig { os: "linux".into(), author: Some(name.into()), ..ImageConfig::default() };
    let layers = [below, &[layer]].concat();
    test.store.create_image(config, &layers, &[ImageRef::parse(name).unwrap()]).unwrap().id
}

fn names(test: &TestStore) -> Vec<String> {
    let mut names: Vec<String> =
        test.store.list().unwrap().into_iter().flat_map(|image| image.repo_tags).collect();
    names.sort();
    names
}

fn nobody(_: &Digest) -> bool {
    false
}

#[test]
fn the_oldest_go_until_the_policy_is_kept() {
    if !is_root() {
        return;
    }
    let test = store();
    let ids = ["a:1", "a:2", "b:1", "a:3"].map(|name| make(&test, name, &[]));
    let off = test.store.gc(&GcPolicy::default(), &nobody, false).unwrap();
    assert!(off.images.is_empty() && off.bytes == 0);
    let two = GcPolicy { keep_bytes: Some(2 * LAYER_BYTES as u64), ..GcPolicy::default() };
    let in_use = |id: &Digest| *id == ids[0];
    let dry = test.store.gc(&two, &in_use, true).unwrap();
    assert_eq!(names(&test), ["a:1", "a:2", "a:3", "b:1"]);
    let done = test.store.gc(&two, &in_use, false).unwrap();
    assert_eq!(dry, done);
    assert_eq!(done.bytes, 2 * LAYER_BYTES as u64);
    // a:1 is older, but a container was made from it.
    assert_eq!(names(&test), ["a:1", "a:3"]);
    assert!(done.images.iter().all(|image| image.reason == GcReason::Bytes));
    assert!(test.store.verify(&[], &|_| {}).unwrap().is_sound());
}

#[test]
fn of_each_repository_the_newest_stay() {
    if !is_root() {
        return;
    }
    let test = store();
    for name in ["a:1", "a:2", "b:1", "a:3"] {
        make(&test, name, &[]);
    }
    // Still among the newest of another one.
    test.store.tag(&test.store.get("a:1").unwrap().id, &ImageRef::parse("stable:1").unwrap()).unwrap();
    let policy = GcPolicy { per_repository_max: Some(1), ..GcPolicy::default() };
    let done = test.store.gc(&policy, &nobody, false).unwrap();
    let gone: Vec<_> = done.images.iter().flat_map(|image| image.names.clone()).collect();
    assert_eq!(gone, ["a:2", "a:3"], "a:1 was named last");
    assert_eq!(names(&test), ["a:1", "b:1", "stable:1"]);
}

#[test]
fn age_and_a_full_disk_count() {
    if !is_root() {
        return;
    }
    let test = store();
    make(&test, "a:1", &[]);
    let young = GcPolicy { age_secs_max: Some(3600), disk_percent_max: Some(100), ..GcPolicy::default() };
    assert!(test.store.gc(&young, &nobody, false).unwrap().images.is_empty());
    let full = GcPolicy { disk_percent_max: Some(0), ..GcPolicy::default() };
    assert_eq!(test.store.gc(&full, &nobody, true).unwrap().images[0].reason, GcReason::Disk);
    let lease = test.store.lease();
    lease.hold_image(&test.store.get("a:1").unwrap()).unwrap();
    assert!(test.store.gc(&full, &nobody, false).unwrap().images.is_empty(), "a lease keeps it");
    drop(lease);
    assert_eq!(test.store.gc(&full, &nobody, false).unwrap().images.len(), 1);
    test.assert_nothing_left();
}

/// Collecting all the time, as greedily as can be, under pulls and builds that share layers.
#[test]
fn nothing_goes_that_a_pull_or_a_build_counts_on() {
    let Some(registry) = Registry::start() else { return };
    let from = store();
    let base = make(&from, &format!("{}/base:1", registry.address), &[]);
    let base = from.store.get(&base.to_string()).unwrap().layers().to_vec();
    let remote = ["x", "y"].map(|name| format!("{}/{name}:1", registry.address));
    for name in &remote {
        make(&from, name, &base);
        push(&from.store, name).unwrap();
    }
    let to = store();
    let done = AtomicBool::new(false);
    let greedy = GcPolicy { keep_bytes: Some(0), ..GcPolicy::default() };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                to.store.gc(&greedy, &nobody, false).unwrap();
                to.store.collect(&nobody).unwrap();
            }
        });
        let pulls = remote.each_ref().map(|name| {
            let to = &to;
            scope.spawn(move || {
                for _ in 0..ROUNDS {
                    // It may be gone again at once; what must not happen is an error or a layer that is missing.
                    pull(&to.store, name).unwrap();
                }
            })
        });
        let build = scope.spawn(|| {
            for round in 0..ROUNDS {
                make(&to, &format!("made{round}:1"), &[]);
                assert!(to.store.verify(&[], &|_| {}).unwrap().is_sound());
            }
        });
        let ended: Vec<_> =
            pulls.into_iter().chain([build]).map(std::thread::ScopedJoinHandle::join).collect();
        done.store(true, Ordering::SeqCst);
        for result in ended {
            result.unwrap();
        }
    });
    assert!(to.store.verify(&[], &|_| {}).unwrap().is_sound());
    to.store.gc(&greedy, &nobody, false).unwrap();
    to.assert_nothing_left();
}
