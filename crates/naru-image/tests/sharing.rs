//! Pulls at the same time: what several of them need is fetched once, whoever of them goes away.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{NO_LIMIT, Proxy, Registry, TestStore, layer_digests, pull, store};
use naru_image::{Credentials, Image, PullOptions};
use naru_types::image::ImageConfig;
use naru_types::{Digest, ImageRef};
use std::fs;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};

/// Bytes of each layer: enough for downloads to overlap.
const LAYER_BYTES: usize = 3_000_000;

/// Layers that don't compress, so that they take as long as their size says.
fn make_layers(test: &TestStore, count: usize) -> Vec<Digest> {
    let lease = test.store.lease();
    let layers = (0..count).map(|number| {
        let dir = test.dir.path().join(format!("tree-{number}"));
        fs::create_dir(&dir).unwrap();
        let mut state = number as u64 + 1;
        let bytes: Vec<u8> = (0..LAYER_BYTES)
            .map(|_| {
                // xorshift64 (Marsaglia): the same bytes in each run.
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state as u8
            })
            .collect();
        fs::write(dir.join(format!("file-{number}")), bytes).unwrap();
        test.store.commit_layer(&dir, false, &lease).unwrap().diff_id
    });
    let layers: Vec<Digest> = layers.collect();
    // Held by an image, so that they outlive the lease.
    make_image(test, "all:1", &layers);
    layers
}

fn make_image(test: &TestStore, name: &str, layers: &[Digest]) -> Image {
    let config = ImageConfig {
        architecture: naru_types::platform::Platform::host().architecture,
        os: "linux".into(),
        author: Some(name.into()),
        ..ImageConfig::default()
    };
    test.store.create_image(config, layers, &[ImageRef::parse(name).unwrap()]).unwrap()
}

#[test]
fn overlapping_images_fetch_each_blob_once() {
    const IMAGES: usize = 10;
    let Some(registry) = Registry::start() else { return };
    let from = store();
    let layers = make_layers(&from, 5);
    let images: Vec<Image> = (0..IMAGES)
        .map(|number| {
            // Each begins elsewhere in the list, so that they meet in another order each.
            let own: Vec<Digest> = (0..4).map(|place| layers[(number + place) % 5]).collect();
            let name = format!("{}/app{number}:1", registry.address);
            let image = make_image(&from, &name, &own);
            common::push(&from.store, &name).unwrap();
            image
        })
        .collect();
    let proxy = Proxy::start(&registry.address, NO_LIMIT, NO_LIMIT);
    let (to, start) = (store(), Barrier::new(2 * IMAGES));
    std::thread::scope(|scope| {
        for number in 0..2 * IMAGES {
            let (to, start, proxy, images) = (&to, &start, &proxy, &images);
            scope.spawn(move || {
                start.wait();
                let pulled = pull(&to.store, &format!("{}/app{}:1", proxy.address, number % IMAGES)).unwrap();
                assert_eq!(pulled.image.id, images[number % IMAGES].id);
            });
        }
    });
    let gets = proxy.blob_gets();
    assert_eq!(gets.len(), layers.len() + IMAGES, "{gets:?}");
    assert!(gets.values().all(|count| *count == 1), "{gets:?}");
    for image in &images {
        assert_eq!(layer_digests(&to.store, image), layer_digests(&from.store, image));
    }
    // Nor is anything fetched again later.
    pull(&to.store, &format!("{}/app0:1", proxy.address)).unwrap();
    assert_eq!(proxy.blob_gets(), gets);
}

#[test]
fn who_hangs_up_takes_nothing_from_the_others() {
    let Some(registry) = Registry::start() else { return };
    let from = store();
    let layers = make_layers(&from, 1);
    let names = ["one", "two"].map(|name| format!("{}/{name}:1", registry.address));
    for name in &names {
        make_image(&from, name, &layers);
        common::push(&from.store, name).unwrap();
    }
    let proxy = Proxy::start(&registry.address, NO_LIMIT, NO_LIMIT);
    let to = store();
    let (cancel, joined) = (AtomicBool::new(false), Barrier::new(2));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let met = AtomicBool::new(false);
            // The download is under way when both have heard of it; then this one is cancelled.
            let stop = |message: naru_image::Progress| {
                if message.status() == "Downloading" && !met.swap(true, Ordering::SeqCst) {
                    joined.wait();
                    cancel.store(true, Ordering::SeqCst);
                }
            };
            let name = names[0].replace(&registry.address, &proxy.address);
            let options = PullOptions {
                credentials: Credentials::Anonymous,
                platform: None,
                progress: &stop,
                cancel: &cancel,
            };
            let error = to.store.pull(&ImageRef::parse(&name).unwrap(), &options).unwrap_err();
            assert_eq!(error.message(), "context canceled");
        });
        scope.spawn(|| {
            let met = AtomicBool::new(false);
            let wait = |message: naru_image::Progress| {
                if message.status() == "Downloading" && !met.swap(true, Ordering::SeqCst) {
                    joined.wait();
                }
            };
            let name = names[1].replace(&registry.address, &proxy.address);
            common::pull_telling(&to.store, &name, &wait).unwrap();
        });
    });
    let gets = proxy.blob_gets();
    // The layer and two configurations.
    assert_eq!((gets.len(), gets.values().copied().max()), (3, Some(1)), "{gets:?}");
}
