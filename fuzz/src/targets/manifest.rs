//! Manifests, indexes and configurations, for who pulls and for the registry.

use crate::Target;
use crate::random::Random;
use naru_types::image::ImageConfig;
use serde_json::{Value, json};

const TYPES: [&str; 6] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/json",
];
const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const KEYS: [&str; 12] = [
    "schemaVersion",
    "mediaType",
    "config",
    "layers",
    "manifests",
    "fsLayers",
    "subject",
    "artifactType",
    "annotations",
    "rootfs",
    "history",
    "digest",
];

pub struct Manifests;

impl Target for Manifests {
    fn name(&self) -> &'static str {
        "manifest"
    }

    fn generate(&mut self, random: &mut Random) -> Vec<u8> {
        let mut document = match random.below(3) {
            0 => image(random),
            1 => index(random),
            _ => config(random),
        };
        if random.one_in(3)
            && let Some(map) = document.as_object_mut()
        {
            let value =
                [json!(null), json!([]), json!({}), json!(-1), json!(1e300), image(random), json!("")];
            map.insert(random.pick(&KEYS).to_owned(), value[random.below(value.len())].clone());
        }
        document.to_string().into_bytes()
    }

    fn words(&self) -> &'static [&'static [u8]] {
        &[
            b"\"config\":{},",
            b"\"layers\":[],",
            b"\"manifests\":[],",
            b"\"fsLayers\":[],",
            b"null",
            b"\"mediaType\":",
            b"\"schemaVersion\":1,",
            b"[[[[[[[[",
            b"18446744073709551616",
            b"-1",
            b"1e999",
            b"\\u0000",
            b"sha512:",
            b"\"\"",
        ]
    }

    fn check(&mut self, input: &[u8]) -> Result<(), String> {
        for content_type in TYPES.into_iter().map(Some).chain([None]) {
            naru_image::fuzzing::manifest(input, content_type)?;
            naru_registry::fuzzing::manifest(input, content_type);
        }
        let Ok(config) = serde_json::from_slice::<ImageConfig>(input) else { return Ok(()) };
        let written = serde_json::to_value(&config).map_err(|error| format!("not written: {error}"))?;
        let again: ImageConfig = serde_json::from_value(written.clone())
            .map_err(|error| format!("a configuration isn't read again: {error}: {written}"))?;
        let again = serde_json::to_value(&again).map_err(|error| format!("not written: {error}"))?;
        if again == written { Ok(()) } else { Err(format!("{written} became {again}")) }
    }
}

fn descriptor(random: &mut Random) -> Value {
    let mut made = json!({"mediaType": random.pick(&TYPES), "digest": DIGEST, "size": random.below(1 << 40)});
    if random.one_in(3) {
        made["platform"] =
            json!({"architecture": "amd64", "os": "linux", "variant": random.pick(&["v2", "", "v8"])});
    }
    if random.one_in(4) {
        made["annotations"] = json!({"org.opencontainers.image.ref.name": "a"});
    }
    if random.one_in(6) {
        made["urls"] = json!(["https://x"]);
        made["data"] = json!("e30=");
    }
    made
}

fn image(random: &mut Random) -> Value {
    let layers: Vec<Value> = (0..random.below(4)).map(|_| descriptor(random)).collect();
    let mut made = json!({"schemaVersion": 2, "config": descriptor(random), "layers": layers});
    if random.one_in(2) {
        made["mediaType"] = json!(random.pick(&TYPES));
    }
    if random.one_in(4) {
        made["subject"] = descriptor(random);
        made["artifactType"] = json!("a/b");
    }
    made
}

fn index(random: &mut Random) -> Value {
    let children: Vec<Value> = (0..random.below(4)).map(|_| descriptor(random)).collect();
    json!({"schemaVersion": 2, "mediaType": random.pick(&TYPES[1..4]), "manifests": children})
}

fn config(random: &mut Random) -> Value {
    let ids: Vec<&str> = (0..random.below(4)).map(|_| DIGEST).collect();
    json!({
        "architecture": "amd64", "os": "linux", "created": random.pick(&["2024-01-02T03:04:05Z", "", "x"]),
        "config": {"Env": ["A=b"], "Cmd": ["sh"], "ExposedPorts": {"80/tcp": {}}, "Volumes": {"/v": {}},
            "Healthcheck": {"Test": ["CMD", "x"], "Interval": random.below(1 << 40)}, "Labels": {"a": "b"}},
        "rootfs": {"type": "layers", "diff_ids": ids},
        "history": [{"created_by": "x", "empty_layer": random.one_in(2)}],
    })
}
