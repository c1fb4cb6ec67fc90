//! What a real registry does not do on demand: token authentication, 429, manifest lists, schema 1, zstd
//! layers, answers that lie. Served by a few lines of HTTP.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{is_root, store};
use naru_image::blob::sha256;
use naru_image::tar::{self, Entry, EntryKind};
use naru_image::{Credentials, PullOptions, PulledImage, Secret, Store};
use naru_types::platform::Platform;
use naru_types::{ImageRef, Kind, Result};
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";

#[derive(Default)]
struct Content {
    /// Path below `/v2/app/` → media type and body.
    served: HashMap<String, (String, Vec<u8>)>,
    /// A user's token must be shown.
    wants_token: bool,
    /// Answers of 429 to give before anything else, and what else they say.
    busy: u32,
    busy_headers: &'static str,
    /// Each blob's first answer breaks off in the middle.
    is_flaky: bool,
    cut: HashSet<String>,
    /// Authorization headers seen at the token server.
    logins: Vec<String>,
}

struct Fake {
    address: String,
    content: Arc<Mutex<Content>>,
}

impl Fake {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let content = Arc::new(Mutex::new(Content::default()));
        let (shared, own) = (Arc::clone(&content), address.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (shared, own) = (Arc::clone(&shared), own.clone());
                std::thread::spawn(move || serve(stream, &shared, &own));
            }
        });
        Self { address, content }
    }

    fn put(&self, path: &str, media_type: &str, body: &[u8]) {
        let mut content = self.content.lock().unwrap();
        content.served.insert(path.to_owned(), (media_type.to_owned(), body.to_vec()));
    }

    /// Serves an image of one layer; returns its manifest's descriptor.
    fn image(&self, layer: &[u8], diff_id: &str, platform: &str) -> Value {
        let (os, architecture) = platform.split_once('/').unwrap();
        let config = json!({"os": os, "architecture": architecture, "config": {},
            "rootfs": {"type": "layers", "diff_ids": [diff_id]}})
        .to_string();
        let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST,
            "config": self.blob(config.as_bytes(), "application/vnd.oci.image.config.v1+json"),
            "layers": [self.blob(layer, "application/vnd.oci.image.layer.v1.tar+zstd")]})
        .to_string();
        let digest = sha256(manifest.as_bytes());
        self.put(&format!("manifests/{digest}"), MANIFEST, manifest.as_bytes());
        json!({"mediaType": MANIFEST, "digest": digest.to_string(), "size": manifest.len(),
            "platform": {"os": os, "architecture": architecture}})
    }

    fn blob(&self, bytes: &[u8], media_type: &str) -> Value {
        let digest = sha256(bytes);
        self.put(&format!("blobs/{digest}"), "application/octet-stream", bytes);
        json!({"mediaType": media_type, "digest": digest.to_string(), "size": bytes.len()})
    }

    fn list(&self, tag: &str, manifests: &[Value]) {
        let list = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests}).to_string();
        self.put(&format!("manifests/{tag}"), INDEX, list.as_bytes());
    }

    fn name(&self, tag: &str) -> String {
        format!("{}/app:{tag}", self.address)
    }
}

fn serve(stream: TcpStream, content: &Mutex<Content>, own: &str) {
    let mut out = stream.try_clone().unwrap();
    let mut input = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if input.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        let (mut authorization, mut length) = (String::new(), 0);
        loop {
            line.clear();
            if input.read_line(&mut line).unwrap_or(0) == 0 || line.trim().is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').unwrap_or_default();
            match name.to_ascii_lowercase().as_str() {
                "authorization" => value.trim().clone_into(&mut authorization),
                "content-length" => length = value.trim().parse().unwrap_or(0),
                _ => {}
            }
        }
        let _ = input.by_ref().take(length).read_to_end(&mut Vec::new());
        let (status, headers, body) = answer(&mut content.lock().unwrap(), &path, &authorization, own);
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n{headers}\r\n", body.len());
        let is_cut = path.contains("/blobs/") && {
            let mut content = content.lock().unwrap();
            content.is_flaky && content.cut.insert(path.clone())
        };
        let end = if is_cut { body.len() / 2 } else { body.len() };
        if out.write_all(head.as_bytes()).and_then(|()| out.write_all(&body[..end])).is_err() || is_cut {
            return;
        }
    }
}

fn answer(content: &mut Content, path: &str, authorization: &str, own: &str) -> (String, String, Vec<u8>) {
    if path.starts_with("/token") {
        content.logins.push(format!("{path} {authorization}"));
        return ("200 OK".into(), String::new(), br#"{"token":"let-me-in"}"#.to_vec());
    }
    if content.wants_token && authorization != "Bearer let-me-in" {
        let challenge = format!(
            "WWW-Authenticate: Bearer realm=\"http://{own}/token\",service=\"fake\",scope=\"repository:app:pull\"\r\n"
        );
        return ("401 Unauthorized".into(), challenge, Vec::new());
    }
    if path != "/v2/" && content.busy > 0 {
        content.busy -= 1;
        let body = br#"{"errors":[{"code":"TOOMANYREQUESTS","message":"You have reached your limit."}]}"#;
        return ("429 Too Many Requests".into(), content.busy_headers.into(), body.to_vec());
    }
    match content.served.get(path.strip_prefix("/v2/app/").unwrap_or_default()) {
        Some((media_type, body)) => {
            ("200 OK".into(), format!("Content-Type: {media_type}\r\n"), body.clone())
        }
        None if path == "/v2/" => ("200 OK".into(), String::new(), Vec::new()),
        None => {
            let body = br#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}"#;
            ("404 Not Found".into(), String::new(), body.to_vec())
        }
    }
}

fn layer(content: &str) -> Vec<u8> {
    let mut entry = Entry::new("which", EntryKind::File);
    entry.size = content.len() as u64;
    let mut bytes = tar::encode(&entry);
    bytes.extend_from_slice(content.as_bytes());
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes.extend(tar::trailer());
    bytes
}

fn pull_as(
    store: &Store,
    name: &str,
    credentials: Credentials,
    platform: Option<&str>,
) -> Result<PulledImage> {
    let cancel = AtomicBool::new(false);
    let platform = platform.map(|text| Platform::parse(text).unwrap());
    let options = PullOptions { credentials, platform, progress: &|_| {}, cancel: &cancel };
    store.pull(&ImageRef::parse(name).unwrap(), &options)
}

#[test]
fn the_platform_is_chosen_and_zstd_is_read() {
    if !is_root() {
        return;
    }
    let fake = Fake::start();
    let entries: Vec<Value> = ["linux/s390x", "linux/amd64", "linux/arm64"]
        .into_iter()
        .map(|platform| {
            let tar = layer(platform);
            let compressed = zstd::encode_all(&tar[..], 3).unwrap();
            fake.image(&compressed, &sha256(&tar).to_string(), platform)
        })
        .collect();
    fake.list("multi", &entries);
    for platform in ["linux/arm64", "linux/amd64"] {
        let test = store();
        let pulled =
            pull_as(&test.store, &fake.name("multi"), Credentials::Anonymous, Some(platform)).unwrap();
        let dir = &test.store.layer_dirs(&pulled.image).unwrap()[0];
        assert_eq!(std::fs::read_to_string(dir.join("which")).unwrap(), platform);
    }
    let test = store();
    let error =
        pull_as(&test.store, &fake.name("multi"), Credentials::Anonymous, Some("linux/riscv64")).unwrap_err();
    assert_eq!(error.message(), "no matching manifest for linux/riscv64 in the manifest list entries");
    assert_eq!(error.kind(), Kind::NotFound);
    test.assert_nothing_left();
}

#[test]
fn tokens_are_fetched_with_the_users_name() {
    if !is_root() {
        return;
    }
    let fake = Fake::start();
    let tar = layer("x");
    let entry = fake.image(&tar, &sha256(&tar).to_string(), "linux/amd64");
    fake.list("t", &[entry]);
    fake.content.lock().unwrap().wants_token = true;
    fake.content.lock().unwrap().busy = 2;
    fake.content.lock().unwrap().busy_headers = "Retry-After: 0\r\n";
    let test = store();
    let credentials = Credentials::Password { username: "u".into(), password: Secret::new("p") };
    pull_as(&test.store, &fake.name("t"), credentials, Some("linux/amd64")).unwrap();
    let logins = fake.content.lock().unwrap().logins.clone();
    assert_eq!(logins, ["/token?service=fake&scope=repository%3Aapp%3Apull&account=u Basic dTpw"]);
}

#[test]
fn answers_that_lie_are_refused() {
    if !is_root() {
        return;
    }
    let fake = Fake::start();
    let (tar, other) = (layer("x"), layer("y"));
    let wrong = fake.image(&tar, &sha256(&other).to_string(), "linux/amd64");
    fake.list("wrong-diff-id", &[wrong]);
    let swapped = fake.image(&other, &sha256(&other).to_string(), "linux/amd64");
    fake.put(&format!("blobs/{}", sha256(&other)), "application/octet-stream", &tar);
    fake.list("swapped-blob", std::slice::from_ref(&swapped));
    let digest = swapped["digest"].as_str().unwrap();
    fake.put(
        "manifests/old",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
        br#"{"schemaVersion":1,"fsLayers":[]}"#,
    );
    fake.put("manifests/garbage", MANIFEST, b"<html>");
    for (tag, expect) in [
        ("wrong-diff-id", "unpacked layer verification failed for digest"),
        ("swapped-blob", "filesystem layer verification failed for digest"),
        ("old", "has an image manifest of schema 1"),
        ("garbage", "the manifest of"),
    ] {
        let test = store();
        let error =
            pull_as(&test.store, &fake.name(tag), Credentials::Anonymous, Some("linux/amd64")).unwrap_err();
        assert!(error.message().contains(expect), "{tag}: {error}");
        test.assert_nothing_left();
    }
    fake.put(&format!("manifests/{digest}"), MANIFEST, b"{}");
    let test = store();
    let name = format!("{}/app@{digest}", fake.address);
    let error = pull_as(&test.store, &name, Credentials::Anonymous, None).unwrap_err();
    assert!(error.message().starts_with("manifest verification failed for digest"), "{error}");
    test.assert_nothing_left();
}

#[test]
fn rate_limits_are_waited_for_and_told() {
    if !is_root() {
        return;
    }
    let fake = Fake::start();
    let tar = layer("x");
    let entry = fake.image(&tar, &sha256(&tar).to_string(), "linux/amd64");
    fake.list("t", &[entry]);
    fake.content.lock().unwrap().busy = 1;
    fake.content.lock().unwrap().busy_headers = "Retry-After: 1\r\n";
    let test = store();
    let lines = Mutex::new(Vec::new());
    let tell = |message: naru_image::Progress| lines.lock().unwrap().push(message.status());
    common::pull_telling(&test.store, &fake.name("t"), &tell).unwrap();
    let host = &fake.address;
    let expect = format!("{host} was asked too often (its rate limit is reached): retrying in 1 second");
    assert_eq!(lines.lock().unwrap()[0], expect);

    // Who is to come back in an hour is told so at once.
    fake.content.lock().unwrap().busy = 1;
    fake.content.lock().unwrap().busy_headers =
        "Retry-After: 3600\r\nRateLimit-Limit: 100;w=21600\r\nRateLimit-Remaining: 0;w=21600\r\n";
    let error = common::pull(&store().store, &fake.name("t")).unwrap_err();
    let expect = format!(
        "toomanyrequests: You have reached your limit. ({host} allows 100 requests in 6 hours; try again in 60 minutes)"
    );
    assert_eq!((error.message(), error.kind()), (expect.as_str(), Kind::Unavailable));
}

#[test]
fn a_registry_without_ranges_is_read_from_the_start_again() {
    if !is_root() {
        return;
    }
    let fake = Fake::start();
    let tar = layer(&"resumed".repeat(50_000));
    let entry = fake.image(&tar, &sha256(&tar).to_string(), "linux/amd64");
    fake.list("t", &[entry]);
    let test = store();
    fake.content.lock().unwrap().is_flaky = true;
    let lines = Mutex::new(Vec::new());
    let tell = |message: naru_image::Progress| lines.lock().unwrap().push(message.status());
    let pulled = common::pull_telling(&test.store, &fake.name("t"), &tell).unwrap();
    let dir = &test.store.layer_dirs(&pulled.image).unwrap()[0];
    assert_eq!(std::fs::read_to_string(dir.join("which")).unwrap(), "resumed".repeat(50_000));
    assert_eq!(fake.content.lock().unwrap().cut.len(), 2, "the configuration and the layer");
    assert!(lines.lock().unwrap().contains(&"Retrying in 1 second".to_owned()));
}
