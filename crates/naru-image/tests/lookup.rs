//! Finding images, what is told of them, and what a damaged one does to the others.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{Registry, is_root, make_image, pull, push, store};
use naru_image::{RemoveOptions, Removed};
use naru_types::image::{History, ImageConfig};
use naru_types::{Digest, ImageRef};
use serde_json::json;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";

fn nobody(_: &Digest) -> bool {
    false
}

#[test]
fn by_the_digest_of_a_manifest_or_of_a_list() {
    let Some(registry) = Registry::start() else { return };
    let from = store();
    let name = format!("{}/app:1", registry.address);
    let image = make_image(&from, &name);
    let pushed = push(&from.store, &name).unwrap();
    let index = json!({
        "schemaVersion": 2, "mediaType": INDEX,
        "manifests": [{
            "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
            "digest": pushed.digest.to_string(), "size": pushed.size,
            "platform": {"os": "linux", "architecture": image.config.architecture},
        }],
    });
    let url = format!("http://{}/v2/app/manifests/multi", registry.address);
    let agent = from.store.http().unwrap();
    agent.put(&url).header("Content-Type", INDEX).send(&index.to_string().into_bytes()[..]).unwrap();

    let to = store();
    let pulled = pull(&to.store, &format!("{}/app:multi", registry.address)).unwrap();
    let (list, own) = (pulled.digest, pushed.digest);
    let repository = format!("{}/app", registry.address);
    for known in [
        list.to_string(),
        own.to_string(),
        own.hex()[..12].to_owned(),
        format!("{repository}@{list}"),
        format!("{repository}@{own}"),
    ] {
        assert_eq!(to.store.get(&known).unwrap().id, image.id, "{known}");
    }
    assert!(to.store.get(&format!("other@{own}")).is_err(), "it came under another name");
    let removed = to.store.remove(
        &own.to_string(),
        &RemoveOptions { force: false, keep_parents: false, users: &|_| Vec::new() },
    );
    assert!(removed.is_ok(), "{removed:?}");
    to.assert_nothing_left();
}

#[test]
fn a_commit_knows_its_parent() {
    if !is_root() {
        return;
    }
    let test = store();
    let parent = make_image(&test, "app:1");
    let mut config = ImageConfig { author: Some("me".into()), ..parent.config.clone() };
    config.history.push(History { created_by: Some("sh".into()), empty_layer: true, ..History::default() });
    let child = test
        .store
        .create_child_image(config, parent.layers(), &[ImageRef::parse("app:2").unwrap()], parent.id)
        .unwrap();
    assert_eq!(child.parent, Some(parent.id));
    assert_eq!(parent.parent, None);
    let history = test.store.history(&child).unwrap();
    let ids: Vec<_> = history.iter().map(|entry| entry.id).collect();
    assert_eq!(ids, [Some(child.id), Some(parent.id), None, None]);
    assert_eq!(history[1].tags, ["app:1"]);
    // As dockerd: it loses its name and stays, even by force, until what was made of it goes.
    let options = RemoveOptions { force: true, keep_parents: false, users: &|_| Vec::new() };
    assert_eq!(test.store.remove("app:1", &options).unwrap(), [Removed::Untagged("app:1".into())]);
    let refused = test.store.remove(&parent.id.to_string(), &options).unwrap_err();
    let message = refused.message();
    assert!(message.ends_with("(cannot be forced) - image has dependent child images"), "{message}");
    assert_eq!(test.store.prune(&|image| image.is_dangling(), &nobody).unwrap().removed, []);
    assert_eq!(test.store.get("app:2").unwrap().parent, Some(parent.id));
    let removed = test.store.remove("app:2", &options).unwrap();
    assert!(removed.contains(&Removed::Deleted(parent.id)), "{removed:?}");
    test.assert_nothing_left();
}

#[test]
fn a_prune_takes_parents_after_their_children() {
    if !is_root() {
        return;
    }
    let test = store();
    let mut image = make_image(&test, "app:1");
    for number in 2..4 {
        let config = ImageConfig { author: Some(number.to_string()), ..image.config.clone() };
        let name = ImageRef::parse(&format!("app:{number}")).unwrap();
        let layers = image.layers().to_vec();
        image = test.store.create_child_image(config, &layers, &[name], image.id).unwrap();
    }
    let options = RemoveOptions { force: false, keep_parents: true, users: &|_| Vec::new() };
    test.store.remove("app:2", &options).unwrap();
    test.store.remove("app:3", &options).unwrap();
    assert_eq!(test.store.list().unwrap().len(), 2, "its parent was asked to stay");
    test.store.prune(&|_| true, &nobody).unwrap();
    test.assert_nothing_left();
}

#[test]
fn a_damaged_configuration_hides_no_other_image() {
    if !is_root() {
        return;
    }
    let test = store();
    let damaged = make_image(&test, "app:1");
    let config = ImageConfig { author: Some("me".into()), ..damaged.config.clone() };
    let whole =
        test.store.create_image(config, damaged.layers(), &[ImageRef::parse("app:2").unwrap()]).unwrap();
    let blob = test.dir.path().join("store/content/blobs/sha256").join(damaged.id.hex());
    std::fs::write(blob, b"{}").unwrap();
    let mut listed = test.store.list().unwrap();
    listed.sort_by(|one, other| one.repo_tags.cmp(&other.repo_tags));
    let shown: Vec<_> = listed.iter().map(|image| (image.id, image.size, image.damage.is_some())).collect();
    assert_eq!(shown, [(damaged.id, damaged.size, true), (whole.id, whole.size, false)]);
    let refused = test.store.get("app:1").unwrap_err();
    assert!(refused.hint().is_some_and(|hint| hint.contains("naru image verify --repair")), "{refused:?}");
    // It can be removed all the same.
    let id = test.store.id_of("app:1").unwrap();
    test.store
        .remove(&id.to_string(), &RemoveOptions { force: false, keep_parents: false, users: &|_| Vec::new() })
        .unwrap();
    assert_eq!(test.store.list().unwrap().len(), 1);
    assert!(test.store.verify(&[], &|_| {}).unwrap().is_sound());
}

#[test]
fn an_unlisted_image_without_layers_is_held_by_its_lease() {
    let test = store();
    let lease = test.store.lease();
    let config = ImageConfig { os: "linux".into(), ..ImageConfig::default() };
    let image = test.store.create_unlisted_image(config, &[], &lease).unwrap();
    assert!(test.store.list().unwrap().is_empty());
    test.store.collect(&nobody).unwrap();
    assert_eq!(test.store.get_by_id(&image.id).unwrap().id, image.id);
    drop(lease);
    test.store.collect(&nobody).unwrap();
    assert!(test.store.get_by_id(&image.id).is_err());
    test.assert_nothing_left();
}
