//! Archives and registries shared with another implementation: skopeo (containers/image).
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{Registry, is_root, layer_digests, make_image, pull, push, store};
use naru_types::ImageRef;
use std::fs::File;
use std::path::Path;
use std::process::Command;

/// `false`, with a word about it, where the tool isn't installed.
fn has_skopeo() -> bool {
    if !is_root() {
        return false;
    }
    if Path::new("/usr/bin/skopeo").exists() {
        return true;
    }
    println!("SKIP: skopeo is not installed");
    false
}

fn skopeo(arguments: &[&str]) -> String {
    let output = Command::new("/usr/bin/skopeo").arg("--insecure-policy").args(arguments).output().unwrap();
    assert!(output.status.success(), "skopeo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn skopeo_reads_what_save_wrote_and_load_reads_what_skopeo_wrote() {
    if !has_skopeo() {
        return;
    }
    let from = store();
    let image = make_image(&from, "team/app:v1");
    from.store.tag(&image.id, &ImageRef::parse("team/app:v2").unwrap()).unwrap();
    let dir = from.dir.path();
    let at = |name: &str| dir.join(name).display().to_string();
    from.store.save(&["team/app".to_owned()], &mut File::create(at("saved.tar")).unwrap()).unwrap();

    let source = format!("docker-archive:{}:team/app:v2", at("saved.tar"));
    let as_oci = format!("oci-archive:{}:v1", at("saved.tar"));
    for (source, target) in [
        (&source, format!("oci:{}:v1", at("layout"))),
        (&as_oci, format!("oci:{}:v1", at("layout2"))),
        (&source, format!("docker-archive:{}:team/copy:1", at("docker.tar"))),
        (&source, format!("oci-archive:{}:team/copy:2", at("oci.tar"))),
    ] {
        skopeo(&["copy", source, &target]);
    }
    let shown = skopeo(&["inspect", "--config", &source]);
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["rootfs"]["diff_ids"].as_array().unwrap().len(), 2);

    for (archive, name) in [("docker.tar", "team/copy:1"), ("oci.tar", "team/copy:2")] {
        let to = store();
        let loaded = to.store.load(&mut File::open(at(archive)).unwrap(), &|_| {}).unwrap();
        assert_eq!(loaded.len(), 1);
        assert_eq!(loaded[0].tags, [name]);
        let copy = to.store.get(name).unwrap();
        assert_eq!(copy.layers(), image.layers());
        assert_eq!(layer_digests(&to.store, &copy), layer_digests(&from.store, &image));
    }
}

#[test]
fn skopeo_and_naru_share_a_registry() {
    if !has_skopeo() {
        return;
    }
    let Some(registry) = Registry::start() else { return };
    let from = store();
    let name = format!("{}/app:1", registry.address);
    let image = make_image(&from, &name);
    let pushed = push(&from.store, &name).unwrap();
    let remote = format!("docker://{name}");
    let digest = skopeo(&["inspect", "--tls-verify=false", "--format", "{{.Digest}}", &remote]);
    assert_eq!(digest.trim(), pushed.digest.to_string());
    // As OCI with zstd and as Docker's schema 2, by skopeo into other tags.
    for (tag, options) in [
        ("oci", vec!["--format", "oci"]),
        ("zstd", vec!["--format", "oci", "--dest-compress-format", "zstd", "--dest-compress"]),
        ("v2s2", vec!["--format", "v2s2"]),
    ] {
        let target = format!("{}/copy:{tag}", registry.address);
        let mut arguments = vec!["copy", "--src-tls-verify=false", "--dest-tls-verify=false"];
        arguments.extend(options);
        let there = format!("docker://{target}");
        arguments.extend([remote.as_str(), &there]);
        skopeo(&arguments);
        let to = store();
        let pulled = pull(&to.store, &target).unwrap();
        assert_eq!(pulled.image.layers(), image.layers(), "{tag}");
        assert_eq!(layer_digests(&to.store, &pulled.image), layer_digests(&from.store, &image), "{tag}");
        // What came from elsewhere goes back unchanged.
        assert_eq!(push(&to.store, &target).unwrap().digest, pulled.digest, "{tag}");
    }
}
