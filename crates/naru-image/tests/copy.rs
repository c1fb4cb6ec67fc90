//! Copies between registries (Debian's docker-registry, which keeps no lists of referrers itself): digests, what is
//! skipped, mounted or streamed, broken connections, damaged blobs.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{Proxy, Registry, TestStore, make_image, pull, push, store};
use naru_image::blob::sha256;
use naru_image::{
    CopiedImage, CopyOptions, Credentials, LayerStep, Progress, Referrer, RemoteManifest, RemoteOptions,
};
use naru_types::image::ImageConfig;
use naru_types::platform::Platform;
use naru_types::{Digest, ImageRef, Result};
use serde_json::{Value, json};
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const SBOM: &str = "application/spdx+json";

struct Copied {
    image: Result<CopiedImage>,
    steps: Vec<LayerStep>,
}

fn copy_with(test: &TestStore, from: &str, to: &str, platform: Option<&str>, referrers: bool) -> Copied {
    let steps = Mutex::new(Vec::new());
    let progress = |step| {
        if let Progress::Layer { step, .. } = step {
            steps.lock().unwrap().push(step);
        }
    };
    let (cancel, platform) = (AtomicBool::new(false), platform.map(|text| Platform::parse(text).unwrap()));
    let (credentials, progress) = (Credentials::Anonymous, &progress);
    let (from, to) = (ImageRef::parse(from).unwrap(), ImageRef::parse(to).unwrap());
    let options = CopyOptions {
        from: credentials.clone(),
        to: credentials,
        platform,
        referrers,
        progress,
        cancel: &cancel,
    };
    let image = test.store.copy(&from, &to, &options);
    drop(options);
    Copied { image, steps: steps.into_inner().unwrap() }
}

fn copy(test: &TestStore, from: &str, to: &str) -> CopiedImage {
    copy_with(test, from, to, None, false).image.unwrap()
}

fn remote<T>(name: &str, ask: impl Fn(&ImageRef, &RemoteOptions<'_>) -> Result<T>) -> Result<T> {
    let cancel = AtomicBool::new(false);
    let options = RemoteOptions { credentials: Credentials::Anonymous, progress: &|_| {}, cancel: &cancel };
    ask(&ImageRef::parse(name).unwrap(), &options)
}

fn manifest(test: &TestStore, name: &str) -> Result<RemoteManifest> {
    remote(name, |reference, options| test.store.remote_manifest(reference, options))
}

fn referrers(test: &TestStore, name: &str) -> Vec<Referrer> {
    remote(name, |reference, options| test.store.referrers(reference, options)).unwrap().1
}

/// Puts a document under a tag or its digest.
fn put(test: &TestStore, registry: &Registry, path: &str, media_type: &str, document: &Value) -> Digest {
    let bytes = document.to_string().into_bytes();
    let digest = sha256(&bytes);
    let name = if path.ends_with('/') { format!("{path}{digest}") } else { path.to_owned() };
    let url = format!("http://{}/v2/{name}", registry.address);
    let agent = test.store.http().unwrap();
    let answer = agent.put(&url).header("Content-Type", media_type).send(&bytes[..]).unwrap();
    assert_eq!(answer.status(), 201, "{url}");
    digest
}

/// `app:multi` for two platforms, which share their layers; and the index's document.
fn make_multi(test: &TestStore, registry: &Registry) -> Value {
    let image = make_image(test, &format!("{}/app:amd64", registry.address));
    let arm = ImageConfig { architecture: "arm64".into(), ..image.config.clone() };
    let name = format!("{}/app:arm64", registry.address);
    test.store.create_image(arm, image.layers(), &[ImageRef::parse(&name).unwrap()]).unwrap();
    let own = image.config.architecture.clone();
    let manifests: Vec<Value> = [("amd64", own.as_str()), ("arm64", "arm64")]
        .into_iter()
        .map(|(tag, architecture)| {
            let pushed = push(&test.store, &format!("{}/app:{tag}", registry.address)).unwrap();
            let media_type = "application/vnd.docker.distribution.manifest.v2+json";
            json!({
                "mediaType": media_type, "digest": pushed.digest.to_string(), "size": pushed.size,
                "platform": {"os": "linux", "architecture": architecture},
            })
        })
        .collect();
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
    put(test, registry, "app/manifests/multi", INDEX, &index);
    index
}

#[test]
fn all_of_a_list_or_one_platform() {
    let (Some(one), Some(other)) = (Registry::start(), Registry::start()) else { return };
    let test = store();
    let index = make_multi(&test, &one);
    let (from, to) = (format!("{}/app:multi", one.address), format!("{}/sub/copy:1", other.address));

    let first = copy(&test, &from, &to);
    assert_eq!(first.digest, sha256(index.to_string().as_bytes()));
    // Two configurations, and two layers that both images share.
    assert_eq!((first.manifests, first.streamed, first.present), (3, 4, 2));
    assert_eq!(manifest(&test, &from).unwrap(), manifest(&test, &to).unwrap());
    let shown = remote(&to, |reference, options| test.store.distribution(reference, options)).unwrap();
    let platforms: Vec<String> = shown.platforms.iter().map(Platform::to_string).collect();
    assert_eq!(platforms, ["linux/amd64", "linux/arm64"]);

    // Again: nothing travels. From the same registry: nothing travels either.
    let again = copy_with(&test, &from, &to, None, false);
    let counted = again.image.unwrap();
    assert_eq!((counted.manifests, counted.streamed, counted.mounted, counted.present), (0, 0, 0, 0));
    assert_eq!(again.steps, [LayerStep::ManifestAlreadyExists]);
    let within = copy(&test, &from, &format!("{}/mounted:1", one.address));
    assert_eq!((within.streamed, within.mounted, within.present), (0, 4, 2));
    let retagged = copy(&test, &to, &format!("{}/sub/copy:2", other.address));
    assert_eq!((retagged.manifests, retagged.digest), (0, first.digest));

    let arm = copy_with(&test, &from, &format!("{}/arm:1", other.address), Some("linux/arm64"), false);
    let arm = arm.image.unwrap();
    assert_eq!(arm.digest.to_string(), index["manifests"][1]["digest"]);
    let refused = |from: &str, platform: &str| {
        copy_with(&test, from, &to, Some(platform), false).image.unwrap_err().message().to_owned()
    };
    assert!(refused(&from, "linux/s390x").contains("no matching manifest for linux/s390x"));
    let single = format!("{}/arm:1", other.address);
    assert!(refused(&single, "linux/amd64").contains("its platform (linux/arm64) does not match"));

    // What was copied is what was pushed: another store pulls it.
    let fresh = store();
    let pulled = pull(&fresh.store, &to).unwrap();
    assert_eq!(pulled.image.id, test.store.get(&format!("{}/app:amd64", one.address)).unwrap().id);
}

#[test]
fn what_refers_to_an_image_goes_with_it() {
    let (Some(one), Some(other)) = (Registry::start(), Registry::start()) else { return };
    let test = store();
    make_image(&test, &format!("{}/app:1", one.address));
    let name = format!("{}/app:1", one.address);
    let subject = push(&test.store, &name).unwrap();
    assert_eq!(referrers(&test, &name), []);
    // An SBOM of the image, and what says of the SBOM who made it; each in the list that its pusher has to keep.
    let config = test.store.get(&name).unwrap().id;
    let mut parent =
        json!({"mediaType": MANIFEST, "digest": subject.digest.to_string(), "size": subject.size});
    for kind in [SBOM, "application/x-signature"] {
        let size = manifest_config_size(&test, &name);
        let config = json!({"mediaType": kind, "digest": config.to_string(), "size": size});
        let document = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "artifactType": kind, "config": config, "layers": [],
            "subject": parent,
        });
        let digest = put(&test, &one, "app/manifests/", MANIFEST, &document);
        let size = document.to_string().len();
        let referrer = json!({
            "mediaType": MANIFEST, "digest": digest.to_string(), "size": size, "artifactType": kind,
            "annotations": {"made-by": "test"},
        });
        let list = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [referrer]});
        let tag = parent["digest"].as_str().unwrap().replace(':', "-");
        put(&test, &one, &format!("app/manifests/{tag}"), INDEX, &list);
        parent = json!({"mediaType": MANIFEST, "digest": digest.to_string(), "size": size});
    }
    let expected = referrers(&test, &name);
    assert_eq!((expected.len(), expected[0].artifact_type.as_str()), (1, SBOM));

    let to = format!("{}/app:1", other.address);
    let plain = copy(&test, &name, &to);
    assert_eq!((plain.manifests, referrers(&test, &to)), (1, Vec::new()));
    for manifests in [2, 0] {
        let copied = copy_with(&test, &name, &to, None, true).image.unwrap();
        assert_eq!(copied.manifests, manifests, "the image was there; then its referrers are, too");
        assert_eq!(referrers(&test, &to), expected);
        let sbom = format!("{}/app@{}", other.address, expected[0].digest);
        assert_eq!(referrers(&test, &sbom)[0].artifact_type, "application/x-signature");
    }
}

/// Of the blob that stands in for an artifact's configuration.
fn manifest_config_size(test: &TestStore, name: &str) -> u64 {
    let manifest: Value = serde_json::from_slice(&manifest(test, name).unwrap().bytes).unwrap();
    manifest["config"]["size"].as_u64().unwrap()
}

#[test]
fn a_connection_that_breaks_is_taken_up_and_a_damaged_blob_is_refused() {
    let (Some(one), Some(other)) = (Registry::start(), Registry::start()) else { return };
    let test = store();
    let name = format!("{}/app:1", one.address);
    make_image(&test, &name);
    let digest = push(&test.store, &name).unwrap().digest;
    let proxy = Proxy::start(&one.address, 400_000, 400_000);
    let copied = copy(&test, &format!("{}/app:1", proxy.address), &format!("{}/app:1", other.address));
    assert_eq!((copied.digest, copied.streamed), (digest, 3));

    one.corrupt_largest_blob();
    let to = format!("{}/damaged:1", other.address);
    let refused = copy_with(&test, &name, &to, None, false).image.unwrap_err();
    assert!(refused.message().contains("of the registry: expected sha256:"), "{refused:?}");
    assert!(manifest(&test, &to).is_err());
    // The registry did not get it, nor the manifest: what is missing there now is taken from its other repository.
    let mended = copy(&test, &format!("{}/app:1", other.address), &to);
    assert!(mended.mounted >= 1 && mended.mounted + mended.present == 3, "{mended:?}");

    let nowhere = format!("{}/none:1", one.address);
    let missing = copy_with(&test, &nowhere, &to, None, false).image.unwrap_err();
    assert!(missing.message().contains("not found"), "{missing:?}");
}
