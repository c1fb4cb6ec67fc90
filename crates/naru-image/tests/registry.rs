//! Pulls and pushes against a real registry.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{
    Proxy, Registry, layer_digests, make_image, pull, pull_telling, push, push_telling, store, store_with,
};
use naru_image::{Credentials, PullOptions, PushOptions, Secret, StoreConfig};
use naru_types::{ImageRef, Kind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

#[test]
fn push_then_pull_gives_the_same_image() {
    let Some(registry) = Registry::start() else { return };
    let name = format!("{}/team/app:v1", registry.address);
    let from = store();
    let image = make_image(&from, &name);
    let lines = Mutex::new(Vec::new());
    let pushed =
        push_telling(&from.store, &name, &|message| lines.lock().unwrap().push(message.status())).unwrap();
    let lines = lines.into_inner().unwrap();
    assert_eq!(lines[0], format!("The push refers to repository [{}/team/app]", registry.address));
    assert_eq!(lines.iter().filter(|line| *line == "Pushed").count(), 2);
    assert_eq!(lines.last().unwrap(), &format!("v1: digest: {} size: {}", pushed.digest, pushed.size));

    let to = store();
    let lines = Mutex::new(Vec::new());
    let pulled =
        pull_telling(&to.store, &name, &|message| lines.lock().unwrap().push(message.status())).unwrap();
    let lines = lines.into_inner().unwrap();
    assert_eq!((pulled.image.id, pulled.digest, pulled.is_new), (image.id, pushed.digest, true));
    assert_eq!(layer_digests(&to.store, &pulled.image), layer_digests(&from.store, &image));
    assert_eq!(pulled.image.repo_digests, [format!("{}/team/app@{}", registry.address, pushed.digest)]);
    assert_eq!(pulled.image.size, image.size);
    assert_eq!(lines[0], "Pulling from team/app");
    for (text, count) in [("Pulling fs layer", 2), ("Download complete", 2), ("Pull complete", 2)] {
        assert_eq!(lines.iter().filter(|line| *line == text).count(), count, "{text}");
    }
    assert_eq!(lines.last().unwrap(), &format!("Status: Downloaded newer image for {name}"));

    // Again: nothing to do. By digest: the same image. Pushed back: the manifest is the same.
    let lines = Mutex::new(Vec::new());
    let again =
        pull_telling(&to.store, &name, &|message| lines.lock().unwrap().push(message.status())).unwrap();
    assert!(!again.is_new);
    assert_eq!(
        lines.into_inner().unwrap().last().unwrap(),
        &format!("Status: Image is up to date for {name}")
    );
    let by_digest = format!("{}/team/app@{}", registry.address, pushed.digest);
    assert_eq!(pull(&to.store, &by_digest).unwrap().image.id, image.id);
    assert_eq!(push(&to.store, &name).unwrap().digest, pushed.digest);
    drop(to);

    // Another repository of the same registry takes the blobs over.
    let other = format!("{}/other:v2", registry.address);
    from.store.tag(&image.id, &ImageRef::parse(&other).unwrap()).unwrap();
    let lines = Mutex::new(Vec::new());
    push_telling(&from.store, &other, &|message| lines.lock().unwrap().push(message.status())).unwrap();
    assert_eq!(lines.into_inner().unwrap().iter().filter(|line| *line == "Mounted from team/app").count(), 2);
}

#[test]
fn what_is_missing_is_said_as_docker_says_it() {
    let Some(registry) = Registry::start() else { return };
    let test = store();
    make_image(&test, &format!("{}/a:1", registry.address));
    push(&test.store, &format!("{}/a:1", registry.address)).unwrap();
    let error = pull(&test.store, &format!("{}/a:2", registry.address)).unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    assert_eq!(
        error.message(),
        format!("manifest for {}/a:2 not found: manifest unknown: manifest unknown", registry.address)
    );
    let error = push(&test.store, &format!("{}/nosuch:1", registry.address)).unwrap_err();
    assert_eq!(error.kind(), Kind::NotFound);
    let address = registry.address.clone();
    drop(registry);
    let error = pull(&test.store, &format!("{address}/a:1")).unwrap_err();
    assert_eq!(
        error.message(),
        format!("Get \"http://{address}/v2/\": dial tcp {address}: connect: connection refused")
    );
}

#[test]
fn a_dropped_connection_is_resumed() {
    let Some(registry) = Registry::start() else { return };
    let from = store();
    let image = make_image(&from, &format!("{}/app", registry.address));
    push(&from.store, &format!("{}/app", registry.address)).unwrap();
    let proxy = Proxy::start(&registry.address, 200_000, 300_000);
    let to = store();
    let pulled = pull(&to.store, &format!("{}/app", proxy.address)).unwrap();
    assert_eq!(pulled.image.id, image.id);
    assert_eq!(layer_digests(&to.store, &pulled.image), layer_digests(&from.store, &image));
    assert!(proxy.connections.load(Ordering::SeqCst) > 3, "the proxy never cut a connection");
}

#[test]
fn a_dead_registry_leaves_nothing_and_a_retry_heals() {
    let Some(registry) = Registry::start() else { return };
    let from = store();
    let image = make_image(&from, &format!("{}/app", registry.address));
    push(&from.store, &format!("{}/app", registry.address)).unwrap();
    let proxy = Proxy::start(&registry.address, 200_000, 100_000_000);
    proxy.dead.store(true, Ordering::SeqCst);
    let to = store();
    let name = format!("{}/app", proxy.address);
    let error = pull(&to.store, &name).unwrap_err();
    assert!(error.message().contains(&proxy.address), "{error}");
    to.assert_nothing_left();
    proxy.dead.store(false, Ordering::SeqCst);
    assert_eq!(pull(&to.store, &name).unwrap().image.id, image.id);
}

#[test]
fn a_corrupted_blob_is_refused() {
    let Some(registry) = Registry::start() else { return };
    let from = store();
    let name = format!("{}/app", registry.address);
    make_image(&from, &name);
    push(&from.store, &name).unwrap();
    registry.corrupt_largest_blob();
    let to = store();
    let error = pull(&to.store, &name).unwrap_err();
    assert!(
        error.message().starts_with("filesystem layer verification failed for digest sha256:"),
        "{error}"
    );
    to.assert_nothing_left();
}

#[test]
fn cancelled_pulls_end() {
    let Some(registry) = Registry::start() else { return };
    let from = store();
    let name = format!("{}/app", registry.address);
    make_image(&from, &name);
    push(&from.store, &name).unwrap();
    let to = store();
    let cancel = AtomicBool::new(false);
    let stop = |message: naru_image::Progress| {
        if message.status() == "Downloading" {
            cancel.store(true, Ordering::SeqCst);
        }
    };
    let options =
        PullOptions { credentials: Credentials::Anonymous, platform: None, progress: &stop, cancel: &cancel };
    let error = to.store.pull(&ImageRef::parse(&name).unwrap(), &options).unwrap_err();
    assert_eq!(error.message(), "context canceled");
    to.assert_nothing_left();
}

#[test]
fn mirrors_serve_docker_hub_names() {
    let Some(registry) = Registry::start() else { return };
    let from = store();
    let image = make_image(&from, &format!("{}/library/busybox:1", registry.address));
    push(&from.store, &format!("{}/library/busybox:1", registry.address)).unwrap();
    let config = StoreConfig {
        registry_mirrors: vec!["http://127.0.0.1:1".into(), format!("http://{}", registry.address)],
        ..StoreConfig::default()
    };
    let to = store_with(config);
    let pulled = pull(&to.store, "busybox:1").unwrap();
    assert_eq!(pulled.image.id, image.id);
    assert_eq!(pulled.image.repo_tags, ["busybox:1"]);
}

#[test]
fn basic_authentication() {
    // htpasswd entry of user "u" with password "p" (bcrypt).
    let dir = tempfile::TempDir::new().unwrap();
    let path = dir.path().join("htpasswd");
    std::fs::write(&path, "u:$2b$05$abcdefghijklmnopqrstuuqwWMzKt5N8p.u2GX5MuH1t19BMWuLOW\n").unwrap();
    let auth = format!("auth:\n  htpasswd:\n    realm: test\n    path: {}\n", path.display());
    let Some(registry) = Registry::start_with(&auth) else { return };
    let test = store();
    let name = format!("{}/app", registry.address);
    let error = pull(&test.store, &name).unwrap_err();
    assert!(error.message().ends_with("no basic auth credentials"), "{error}");
    assert_eq!(error.kind(), Kind::Unauthorized);
    let cancel = AtomicBool::new(false);
    let credentials = Credentials::Password { username: "u".into(), password: Secret::new("wrong") };
    let options = PullOptions { credentials, platform: None, progress: &|_| {}, cancel: &cancel };
    let error = test.store.pull(&ImageRef::parse(&name).unwrap(), &options).unwrap_err();
    assert_eq!(error.kind(), Kind::Unauthorized);
    let credentials = Credentials::Password { username: "u".into(), password: Secret::new("p") };
    let image = make_image(&test, &name);
    let options = PushOptions { credentials: credentials.clone(), progress: &|_| {}, cancel: &cancel };
    test.store.push(&ImageRef::parse(&name).unwrap(), &options).unwrap();
    let options = PullOptions { credentials, platform: None, progress: &|_| {}, cancel: &cancel };
    assert_eq!(store().store.pull(&ImageRef::parse(&name).unwrap(), &options).unwrap().image.id, image.id);
}
