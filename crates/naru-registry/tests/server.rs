//! The server over sockets: the protocol case by case, hostile clients, pushes beside the garbage
//! collection, and `kill -9`. The server that is killed is this test binary, started again.

use naru_registry::{GcOptions, Pattern, Rights, ServeOptions, Store};
use sha2::{Digest, Sha256};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const ROOT: &str = "NARU_REGISTRY_TEST_ROOT";
const LISTEN: &str = "NARU_REGISTRY_TEST_LISTEN";
const ANONYMOUS: &str = "NARU_REGISTRY_TEST_ANONYMOUS";
const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";

/// Not a test of its own: what the others start.
#[test]
#[ignore = "the server of the other tests"]
fn serving_child() {
    let root = std::env::var_os(ROOT).unwrap();
    let listen = std::env::var(LISTEN).unwrap_or_else(|_| "127.0.0.1:0".into());
    let anonymous = if std::env::var_os(ANONYMOUS).is_some() {
        Rights { pull: true, push: true, delete: true }
    } else {
        Rights::default()
    };
    let quota = Some(64 << 20);
    let store = Arc::new(Store::open(Path::new(&root), quota).unwrap());
    let options =
        ServeOptions { delete: true, anonymous, tls: None, log: Box::new(|line| eprintln!("{line}")) };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind(listen).await.unwrap();
        println!("\nlistening {}", listener.local_addr().unwrap());
        naru_registry::serve(listener, store, options, std::future::pending()).await.unwrap();
    });
}

struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start(root: &Path, is_open: bool) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--ignored", "--exact", "serving_child", "--nocapture"]).env(ROOT, root);
        command.env_remove(LISTEN).env_remove(ANONYMOUS);
        if is_open {
            command.env(ANONYMOUS, "1");
        }
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let address = lines.find_map(|line| Some(line.strip_prefix("listening ")?.to_owned())).unwrap();
        Self { child, address }
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn client(&self) -> Client {
        Client { address: self.address.clone(), authorization: None }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[derive(Clone)]
struct Client {
    address: String,
    authorization: Option<String>,
}

#[derive(Debug)]
struct Answer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Client {
    fn call(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> std::io::Result<Answer> {
        let mut stream = TcpStream::connect(&self.address)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        let mut head = format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n",
            body.len()
        );
        let own = self.authorization.as_deref().map(|value| ("authorization", value));
        for (name, value) in headers.iter().copied().chain(own) {
            head += &format!("{name}: {value}\r\n");
        }
        stream.write_all(format!("{head}\r\n").as_bytes())?;
        // A refusal may come before the body is through.
        let _ = stream.write_all(body);
        read_answer(stream, method == "HEAD")
    }

    fn ok(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8], status: u16) -> Answer {
        let answer = self.call(method, path, headers, body).unwrap();
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text());
        answer
    }

    fn push_blob(&self, repository: &str, content: &[u8]) -> std::io::Result<(u16, String)> {
        let digest = sha256(content);
        let path = format!("/v2/{repository}/blobs/uploads/?digest={digest}");
        Ok((self.call("POST", &path, &[], content)?.status, digest))
    }

    /// The manifest's digest, when it was acknowledged.
    fn push_image(&self, repository: &str, tag: &str, layers: &[Vec<u8>]) -> std::io::Result<Option<String>> {
        let mut parts = Vec::new();
        for content in layers {
            let (status, digest) = self.push_blob(repository, content)?;
            if status != 201 {
                return Ok(None);
            }
            parts.push((digest, content.len()));
        }
        let manifest = manifest_of(&parts);
        let path = format!("/v2/{repository}/manifests/{tag}");
        let put = self.call("PUT", &path, &[("content-type", MANIFEST_TYPE)], manifest.as_bytes())?;
        assert!(put.status == 201 || put.status >= 500, "{}: {}", put.status, put.text());
        Ok((put.status == 201).then(|| sha256(manifest.as_bytes())))
    }

    fn check_image(&self, repository: &str, digest: &str) {
        let manifest = self.ok("GET", &format!("/v2/{repository}/manifests/{digest}"), &[], b"", 200);
        assert_eq!(sha256(&manifest.body), digest);
        let manifest: serde_json::Value = serde_json::from_slice(&manifest.body).unwrap();
        let layers = manifest["layers"].as_array().unwrap();
        for part in layers.iter().chain([&manifest["config"]]) {
            let digest = part["digest"].as_str().unwrap();
            let blob = self.ok("GET", &format!("/v2/{repository}/blobs/{digest}"), &[], b"", 200);
            assert_eq!(sha256(&blob.body), digest);
        }
    }
}

fn read_answer(stream: TcpStream, is_head: bool) -> std::io::Result<Answer> {
    let broken = || std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let status = line.split(' ').nth(1).and_then(|text| text.parse().ok()).ok_or_else(broken)?;
    let mut headers = Vec::new();
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    let mut answer = Answer { status, headers, body: Vec::new() };
    let length = answer.header("content-length").parse().unwrap_or(0);
    if !is_head && status != 204 {
        answer.body = vec![0; length];
        reader.read_exact(&mut answer.body)?;
    }
    Ok(answer)
}

fn sha256(content: &[u8]) -> String {
    let hex: String = Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// The first part is the config.
fn manifest_of(parts: &[(String, usize)]) -> String {
    let descriptor = |(digest, size): &(String, usize)| serde_json::json!({"mediaType": "application/octet-stream", "digest": digest, "size": size});
    let layers: Vec<_> = parts[1..].iter().map(descriptor).collect();
    serde_json::json!({"schemaVersion": 2, "config": descriptor(&parts[0]), "layers": layers}).to_string()
}

#[test]
fn chunks_ranges_and_cancelling() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path(), true);
    let client = server.client();
    let started = client.ok("POST", "/v2/a/blobs/uploads/", &[], b"", 202);
    let location = started.header("location").to_owned();
    let chunk = client.ok("PATCH", &location, &[("content-range", "0-4")], b"hello", 202);
    assert_eq!(chunk.header("range"), "0-4");
    let late = client.ok("PATCH", &location, &[("content-range", "7-8")], b"xx", 416);
    assert_eq!(late.header("range"), "0-4");
    client.ok("PATCH", &location, &[("content-range", "5-9")], b"xx", 416);
    assert_eq!(client.ok("GET", &location, &[], b"", 204).header("range"), "0-4");
    let digest = sha256(b"hello world");
    client.ok("PUT", &format!("{location}?digest={digest}"), &[("content-range", "5-10")], b" world", 201);
    client.ok("GET", &location, &[], b"", 404);
    let blob = format!("/v2/a/blobs/{digest}");
    assert_eq!(client.ok("GET", &blob, &[], b"", 200).text(), "hello world");
    let part = client.ok("GET", &blob, &[("range", "bytes=6-")], b"", 206);
    assert_eq!((part.text().as_str(), part.header("content-range")), ("world", "bytes 6-10/11"));
    client.ok("GET", &blob, &[("range", "bytes=11-")], b"", 416);
    assert_eq!(client.ok("HEAD", &blob, &[], b"", 200).header("content-length"), "11");
    let cancelled = client.ok("POST", "/v2/a/blobs/uploads/", &[], b"", 202).header("location").to_owned();
    client.ok("DELETE", &cancelled, &[], b"", 204);
    client.ok("PATCH", &cancelled, &[], b"x", 404);
    let wrong = format!("/v2/a/blobs/uploads/?digest={digest}");
    assert!(client.ok("POST", &wrong, &[], b"other", 400).text().contains("DIGEST_INVALID"));
    assert_eq!(std::fs::read_dir(root.path().join("uploads")).unwrap().count(), 0);
}

#[test]
fn tokens_decide_who_does_what() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path(), None).unwrap();
    let token = |pattern: &str, allow: &str| {
        let pattern = Pattern::parse(pattern).unwrap();
        store.create_token(&pattern, Rights::parse(allow).unwrap()).unwrap()
    };
    let (team, team_secret) = token("team/*", "push");
    let (_, reader_secret) = token("team/app", "pull");
    let (_, other_secret) = token("other/app", "push,delete");
    let server = Server::start(root.path(), false);
    let with = |secret: &str| Client { authorization: Some(format!("Bearer {secret}")), ..server.client() };
    let (team_client, reader) = (with(team_secret.reveal()), with(reader_secret.reveal()));
    let (other, nobody) = (with(other_secret.reveal()), server.client());
    assert!(nobody.ok("GET", "/v2/", &[], b"", 401).header("www-authenticate").starts_with("Basic"));
    team_client.ok("GET", "/v2/", &[], b"", 200);
    with("naru_x_y").ok("GET", "/v2/", &[], b"", 401);
    let (status, digest) = team_client.push_blob("team/app", b"secret layer").unwrap();
    assert_eq!(status, 201);
    let blob = format!("/v2/team/app/blobs/{digest}");
    reader.ok("GET", &blob, &[], b"", 200);
    reader.ok("DELETE", &blob, &[], b"", 403);
    assert_eq!(reader.push_blob("team/app", b"x").unwrap().0, 403);
    nobody.ok("GET", &blob, &[], b"", 401);
    other.ok("GET", &blob, &[], b"", 403);
    // A digest that leaked is worth nothing: the source has to be readable.
    let mount = format!("/v2/other/app/blobs/uploads/?mount={digest}&from=team/app");
    other.ok("POST", &mount, &[], b"", 202);
    let mount = format!("/v2/team/b/blobs/uploads/?mount={digest}&from=team/app");
    team_client.ok("POST", &mount, &[], b"", 201);
    assert_eq!(other.ok("GET", "/v2/_catalog", &[], b"", 200).text(), r#"{"repositories":[]}"#);
    assert!(team_client.ok("GET", "/v2/_catalog", &[], b"", 200).text().contains("team/b"));
    store.revoke_token(&team.id).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while team_client.call("GET", "/v2/", &[], b"").unwrap().status != 401 {
        assert!(Instant::now() < deadline, "a revoked token still works");
        std::thread::yield_now();
    }
}

#[test]
fn hostile_clients_get_nowhere() {
    let root = tempfile::tempdir().unwrap();
    let server = Server::start(root.path(), true);
    let client = server.client();
    // The slow one: half a head, and half a body. Others are served meanwhile.
    let mut half_head = TcpStream::connect(&server.address).unwrap();
    half_head.write_all(b"GET /v2/ HTTP/1.1\r\nho").unwrap();
    let mut half_body = TcpStream::connect(&server.address).unwrap();
    let head = format!(
        "POST /v2/a/blobs/uploads/?digest={} HTTP/1.1\r\nhost: x\r\ncontent-length: 99\r\n\r\nhalf",
        sha256(b"")
    );
    half_body.write_all(head.as_bytes()).unwrap();
    for (method, path, status) in [
        ("GET", "/v2/../../etc/passwd", 404),
        ("GET", "/v2/a/blobs/sha256:..%2f..%2fregistry.db", 404),
        ("GET", "/v2/..%2f..%2fx/tags/list", 400),
        ("GET", "/v2/a/manifests/%00", 400),
        ("PATCH", "/v2/a/blobs/uploads/..%2f..%2fregistry.db", 404),
        ("PATCH", "/v2/a/blobs/uploads/registry.db", 404),
        ("TRACE", "/v2/", 405),
        ("GET", "/v2/a/tags/list?n=-1", 400),
    ] {
        let answer = client.call(method, path, &[], b"").unwrap();
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text());
    }
    let huge = "x".repeat(64 * 1024);
    assert_eq!(client.call("GET", "/v2/", &[("x", &huge)], b"").unwrap().status, 431);
    let large = vec![b' '; naru_registry::MANIFEST_BYTES_MAX + 1];
    let put = client.call("PUT", "/v2/a/manifests/x", &[("content-type", MANIFEST_TYPE)], &large);
    // The server answers before it read all: the connection may be reset first.
    assert!(put.map_or(true, |answer| answer.status == 413));
    let started: Vec<u16> =
        (0..200).map(|_| client.call("POST", "/v2/a/blobs/uploads/", &[], b"").unwrap().status).collect();
    assert!(started.contains(&202) && started.last() == Some(&429), "{started:?}");
    client.ok("POST", "/v2/b/blobs/uploads/", &[], b"", 202);
    let quota = vec![0; (64 << 20) + 1];
    let refused = client.call("POST", &format!("/v2/b/blobs/uploads/?digest={}", sha256(b"")), &[], &quota);
    assert!(refused.map_or(true, |answer| answer.status == 403 && answer.text().contains("quota")));
}

#[test]
fn garbage_collection_beside_pushes_and_pulls() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path(), None).unwrap();
    let server = Server::start(root.path(), true);
    let is_over = AtomicBool::new(false);
    let options = GcOptions { grace: Duration::from_secs(600), untagged: true };
    let rounds = std::thread::scope(|scope| {
        let collector = scope.spawn(|| {
            let mut rounds = 0;
            while !is_over.load(Ordering::Relaxed) {
                store.collect_garbage(options).unwrap();
                rounds += 1;
            }
            rounds
        });
        let clients: Vec<_> = (0..8)
            .map(|number| {
                let client = server.client();
                scope.spawn(move || {
                    let repository = format!("r{}", number % 3);
                    for round in 0..12 {
                        let own = format!("{number} {round}").into_bytes();
                        let layers = [own, b"shared".to_vec(), vec![round; 70_000]];
                        let digest =
                            client.push_image(&repository, &format!("t{number}"), &layers).unwrap().unwrap();
                        client.check_image(&repository, &digest);
                    }
                })
            })
            .collect();
        for client in clients {
            client.join().unwrap();
        }
        is_over.store(true, Ordering::Relaxed);
        collector.join().unwrap()
    });
    assert!(rounds > 0);
    // Without a grace only what tags reach is left, and that is whole.
    let gone = store.collect_garbage(GcOptions { grace: Duration::ZERO, untagged: true }).unwrap();
    assert!(gone.manifests > 0 && gone.files > 0, "{gone:?}");
    for number in 0..8 {
        let path = format!("/v2/r{}/manifests/t{number}", number % 3);
        let digest =
            server.client().ok("HEAD", &path, &[], b"", 200).header("docker-content-digest").to_owned();
        server.client().check_image(&format!("r{}", number % 3), &digest);
    }
    println!("{rounds} collections beside 96 pushes; then {gone:?}");
}

#[test]
fn what_was_acknowledged_survives_kill_9() {
    let root = tempfile::tempdir().unwrap();
    let mut kept: Vec<String> = Vec::new();
    for round in 0..12_u64 {
        let mut server = Server::start(root.path(), true);
        let pushers: Vec<_> = (0..4)
            .map(|number| {
                let client = server.client();
                std::thread::spawn(move || {
                    let mut kept = Vec::new();
                    for count in 0.. {
                        let layers: Vec<Vec<u8>> = (0..3)
                            .map(|layer| {
                                format!("{round} {number} {count} {layer}").repeat(5000).into_bytes()
                            })
                            .collect();
                        match client.push_image("r", &format!("t{number}"), &layers) {
                            Ok(digest) => kept.extend(digest),
                            Err(_) => break,
                        }
                    }
                    kept
                })
            })
            .collect();
        // At a moment that differs from round to round, in milliseconds.
        std::thread::sleep(Duration::from_millis(150 + round * 37));
        server.kill();
        kept.extend(pushers.into_iter().flat_map(|pusher| pusher.join().unwrap()));
    }
    let server = Server::start(root.path(), true);
    assert!(!kept.is_empty());
    kept.iter().for_each(|digest| server.client().check_image("r", digest));
    assert_eq!(std::fs::read_dir(root.path().join("uploads")).unwrap().count(), 0);
    println!("{} acknowledged manifests whole after 12 kills", kept.len());
}
