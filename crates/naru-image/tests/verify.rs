//! What is damaged on disk is found, named where that is possible, and comes again from where it came from.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{Registry, is_root, layer_digests, make_image, pull, push, store};
use naru_image::verify::repair::RepairOptions;
use naru_image::{Credentials, DamagedPart, Store, Verified};
use naru_types::Digest;
use rustix::fs::{AtFlags, CWD};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::AtomicBool;

fn verify(store: &Store) -> Verified {
    store.verify(&[], &|_| {}).unwrap()
}

/// Each remark as `path: what`.
fn remarks(verified: &Verified) -> Vec<String> {
    let damage = verified.images.iter().flat_map(|image| &image.damage);
    damage.map(|damage| format!("{}: {}", damage.path.as_deref().unwrap_or("-"), damage.what)).collect()
}

#[test]
fn what_was_changed_is_named() {
    if !is_root() {
        return;
    }
    type Harm = fn(&Path);
    let cases: [(&str, Harm); 12] = [
        ("bin/busybox: cannot be opened", |fs| fs::remove_file(fs.join("bin/busybox")).unwrap()),
        ("setuid: 10 of its 10 bytes are missing", |fs| fs::write(fs.join("setuid"), "").unwrap()),
        ("empty: has 3 bytes instead of 0", |fs| fs::write(fs.join("empty"), "now").unwrap()),
        ("empty: is missing", |fs| fs::remove_file(fs.join("empty")).unwrap()),
        ("-: the content of a file was changed", |fs| fs::write(fs.join("setuid"), "#!/bin/ls\n").unwrap()),
        ("tmp: has the mode 700 instead of 1777", |fs| {
            fs::set_permissions(fs.join("tmp"), fs::Permissions::from_mode(0o700)).unwrap();
        }),
        ("setuid: has lost its attribute user.note", |fs| {
            rustix::fs::removexattr(fs.join("setuid"), "user.note").unwrap()
        }),
        ("null: belongs to 7:0 instead of 0:0", |fs| {
            rustix::fs::chown(fs.join("null"), Some(rustix::fs::Uid::from_raw(7)), None).unwrap();
        }),
        ("new: does not belong to the layer", |fs| fs::write(fs.join("new"), "").unwrap()),
        ("bin/sh: is no longer a link to the same file", |fs| {
            fs::remove_file(fs.join("bin/sh")).unwrap();
            fs::copy(fs.join("bin/busybox"), fs.join("bin/sh")).unwrap();
            for name in ["sh", "busybox"] {
                // What a copy lacks isn't what this case is about.
                let _ = rustix::fs::setxattr(
                    fs.join("bin").join(name),
                    "security.capability",
                    &rustix_capability(&fs.join("bin/busybox")),
                    rustix::fs::XattrFlags::empty(),
                );
            }
        }),
        ("bin/ls: leads elsewhere", |fs| {
            fs::remove_file(fs.join("bin/ls")).unwrap();
            symlink("busybux", fs.join("bin/ls")).unwrap();
        }),
        ("fifo: is missing", |fs| rustix::fs::unlinkat(CWD, fs.join("fifo"), AtFlags::empty()).unwrap()),
    ];
    for (wanted, harm) in cases {
        let test = store();
        let image = make_image(&test, "app:1");
        assert!(verify(&test.store).is_sound(), "{:?}", remarks(&verify(&test.store)));
        let dirs = test.store.layer_dirs(&image).unwrap();
        harm(&dirs[1]);
        let verified = verify(&test.store);
        let found = remarks(&verified);
        assert!(found.iter().any(|remark| remark.starts_with(wanted)), "{wanted:?} in {found:?}");
        assert!(
            verified.images[0]
                .damage
                .iter()
                .all(|damage| damage.part == DamagedPart::Layer(image.layers()[0]))
        );
    }
}

fn rustix_capability(path: &Path) -> Vec<u8> {
    let mut value = vec![0; 64];
    let len = rustix::fs::getxattr(path, "security.capability", &mut value[..]).unwrap();
    value.truncate(len);
    value
}

#[test]
fn marks_of_the_upper_layer_and_the_headers_count() {
    if !is_root() {
        return;
    }
    let test = store();
    let image = make_image(&test, "app:1");
    let upper = test.store.layer_dirs(&image).unwrap().remove(0);
    rustix::fs::removexattr(upper.join("tmp"), "trusted.overlay.opaque").unwrap();
    fs::remove_file(upper.join("bin/ls")).unwrap();
    fs::write(upper.join("bin/ls"), "").unwrap();
    let found = remarks(&verify(&test.store));
    assert_eq!(
        found,
        [
            "tmp: has lost the mark that it hides the layers below",
            "bin/ls: is not the mark of a removed file"
        ]
    );
    // Without its headers a layer has no archive.
    fs::write(upper.parent().unwrap().join("split.zst"), "").unwrap();
    let found = remarks(&verify(&test.store));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("split.zst cannot be read"), "{found:?}");
}

#[test]
fn a_damaged_configuration_is_no_reason_to_fail() {
    if !is_root() {
        return;
    }
    let test = store();
    let image = make_image(&test, "app:1");
    let path = test.dir.path().join("store/content/blobs/sha256").join(image.id.hex());
    fs::write(path, "{}").unwrap();
    let verified = verify(&test.store);
    assert_eq!(verified.images[0].damage[0].part, DamagedPart::Config(image.id));
}

fn repair(store: &Store, is_running: bool) -> Vec<Option<String>> {
    let cancel = AtomicBool::new(false);
    let options = RepairOptions {
        is_running: &|_: &Digest| is_running,
        credentials: &|_| Credentials::Anonymous,
        cancel: &cancel,
    };
    let done = store.repair(&verify(store), &options).unwrap();
    done.into_iter().map(|repaired| repaired.failure).collect()
}

#[test]
fn what_a_registry_holds_comes_again() {
    let Some(registry) = Registry::start() else { return };
    let from = store();
    let name = format!("{}/app:1", registry.address);
    let sound = make_image(&from, &name);
    push(&from.store, &name).unwrap();
    let to = store();
    let image = pull(&to.store, &name).unwrap().image;
    let fs_dir = to.store.layer_dirs(&image).unwrap().remove(1);
    fs::write(fs_dir.join("bin/busybox"), "").unwrap();
    fs::remove_dir_all(fs_dir.join("tmp")).unwrap();
    let blobs = to.dir.path().join("store/content/blobs/sha256");
    fs::write(blobs.join(image.id.hex()), "{}").unwrap();
    // A container that runs goes on reading what it has.
    let before = fs::metadata(&fs_dir).unwrap();
    let failures = repair(&to.store, true);
    assert!(failures[0].as_deref().is_some_and(|why| why.contains("stop the container")), "{failures:?}");
    assert_eq!(
        std::os::unix::fs::MetadataExt::ino(&before),
        std::os::unix::fs::MetadataExt::ino(&fs::metadata(&fs_dir).unwrap())
    );
    // So does one who holds the layer: a build, say.
    let lease = to.store.lease();
    lease.hold(&image.layers()[0]).unwrap();
    let failures = repair(&to.store, false);
    assert!(
        failures[0].as_deref().is_some_and(|why| why.contains("holds the damaged layer")),
        "{failures:?}"
    );
    drop(lease);
    assert_eq!(repair(&to.store, false), [None]);
    assert!(verify(&to.store).is_sound());
    let healed = to.store.get(&name).unwrap();
    assert_eq!(layer_digests(&to.store, &healed), layer_digests(&from.store, &sound));
    assert_eq!((healed.repo_tags, healed.repo_digests), (image.repo_tags, image.repo_digests));
    assert_eq!(fs::read_dir(to.dir.path().join("store/staging")).unwrap().count(), 0);
    // With nothing to heal, nothing is done.
    assert!(repair(&to.store, false).is_empty());
}

/// An image that was made here has no manifest until it is pushed; then the registry's is as good as one that came.
#[test]
fn what_was_pushed_comes_back() {
    let Some(registry) = Registry::start() else { return };
    let test = store();
    let name = format!("{}/app:1", registry.address);
    let image = make_image(&test, &name);
    push(&test.store, &name).unwrap();
    fs::write(test.store.layer_dirs(&image).unwrap()[1].join("empty"), "x").unwrap();
    fs::write(test.dir.path().join("store/content/blobs/sha256").join(image.id.hex()), "{}").unwrap();
    assert_eq!(repair(&test.store, false), [None]);
    assert!(verify(&test.store).is_sound());
    assert_eq!(test.store.get(&name).unwrap().id, image.id);
}

#[test]
fn what_came_from_nowhere_is_explained() {
    if !is_root() {
        return;
    }
    let test = store();
    let image = make_image(&test, "app:1");
    fs::remove_file(test.store.layer_dirs(&image).unwrap()[1].join("empty")).unwrap();
    let failures = repair(&test.store, false);
    let why = failures[0].as_deref().unwrap();
    assert!(why.contains("did not come from a registry") && why.contains("remove it, then"), "{why}");
}
