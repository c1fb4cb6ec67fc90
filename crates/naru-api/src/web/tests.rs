//! The server on a socket of its own, with the routes that need no engine, against answers of a real dockerd.

use crate::routes::engineless;
use crate::web::server::serve;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::net::UnixListener;
use tokio::sync::oneshot;

/// A running server; dropped, it ends.
struct Served {
    path: PathBuf,
    _dir: tempfile::TempDir,
    _runtime: tokio::runtime::Runtime,
    _stop: oneshot::Sender<()>,
}

fn served() -> Served {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("api.sock");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let listener = runtime.block_on(async { UnixListener::bind(&path) }).unwrap();
    let (stop, stopped) = oneshot::channel();
    runtime.spawn(serve(listener, engineless(), Arc::new(()), async {
        let _ = stopped.await;
    }));
    Served { path, _dir: dir, _runtime: runtime, _stop: stop }
}

impl Served {
    /// Sends bytes, half-closes and reads everything.
    fn talk(&self, request: &str) -> String {
        let mut stream = UnixStream::connect(&self.path).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn get(&self, method: &str, path: &str) -> String {
        self.talk(&format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
    }
}

/// Status line, headers (sorted, without those whose value is the instance's own) and body.
fn shape(answer: &str) -> (String, Vec<String>, String) {
    let normal = answer.replace("\r\n", "\n");
    let (head, body) = normal.split_once("\n\n").unwrap_or((&normal, ""));
    let mut lines = head.lines();
    let status = lines.next().unwrap_or("").to_owned();
    let own = ["Date:", "Server:", "Api-Version:", "Builder-Version:", "Connection:", "Content-Length:"];
    let mut headers: Vec<String> =
        lines.filter(|line| !own.iter().any(|name| line.starts_with(name))).map(str::to_owned).collect();
    headers.sort();
    (status, headers, body.trim_end().to_owned())
}

#[test]
fn ping_and_errors_are_dockerds() {
    let server = served();
    for (method, path, golden) in [
        ("GET", "/_ping", include_str!("../../tests/golden/ping.http")),
        ("HEAD", "/v1.41/_ping", include_str!("../../tests/golden/ping-head.http")),
        ("GET", "/v1.50/nosuch", include_str!("../../tests/golden/err-nopage.http")),
        ("GET", "/swarm", include_str!("../../tests/golden/swarm-503.http")),
    ] {
        let (ours, theirs) = (shape(&server.get(method, path)), shape(golden));
        let common: Vec<String> = ours.1.iter().filter(|line| theirs.1.contains(line)).cloned().collect();
        assert_eq!((&ours.0, &ours.2), (&theirs.0, &theirs.2), "{path}");
        assert_eq!(common, theirs.1, "{path}");
    }
}

#[test]
fn versions_are_negotiated() {
    let server = served();
    let (status, _, body) = shape(&server.get("GET", "/v1.99/version"));
    assert_eq!(status, "HTTP/1.1 400 Bad Request");
    let golden = include_str!("../../tests/golden/err-too-new.http").replace("1.51", "1.50");
    assert_eq!(body, shape(&golden).2);
    assert!(server.get("GET", "/v1.23/version").contains("is too old"));
    let version = server.get("GET", "/v1.24/version");
    assert!(version.contains("Api-Version: 1.50"), "{version}");
    assert!(version.contains(r#""MinAPIVersion":"1.24""#), "{version}");
}

#[test]
fn absent_features_answer_with_a_message() {
    let server = served();
    for (method, path, status) in [
        ("GET", "/nodes", "503"),
        ("POST", "/swarm/init", "503"),
        ("GET", "/plugins", "200"),
        ("GET", "/images/search?term=x", "501"),
        ("POST", "/session", "404"),
        ("POST", "/grpc", "404"),
        ("PATCH", "/_ping", "404"),
    ] {
        let answer = server.get(method, path);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{method} {path}: {answer}");
        assert!(status == "200" || answer.contains(r#"{"message":"#), "{answer}");
    }
}

#[test]
fn garbage_is_refused_and_the_server_lives() {
    let server = served();
    for garbage in
        ["\r\n\r\n\0\0\0garbage\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "{\"a\":1}\r\n\r\n"]
    {
        let answer = server.talk(garbage);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{garbage:?}: {answer}");
    }
    assert!(server.get("GET", "/_ping").starts_with("HTTP/1.1 200"));
}

#[test]
fn bodies_are_checked() {
    let server = served();
    let post = |content_type: &str, body: &str| {
        let head = format!(
            "POST /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{content_type}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        shape(&server.talk(&head))
    };
    let json = "Content-Type: application/json\r\n";
    let golden = shape(include_str!("../../tests/golden/err-badjson.http"));
    let ours = post(json, r#"{"name": "#);
    assert_eq!((ours.0, ours.2), (golden.0, golden.2));
    assert!(post("Content-Type: text/plain\r\n", "{}").2.contains("must be 'application/json'"));
    assert!(post("", "{}").2.contains("no media type"));
    assert_eq!(
        post("Content-Type: application/json; charset=utf-8\r\n", r#"{"NAME":"x"}"#).2,
        r#"{"name":"x"}"#
    );
}

#[test]
fn a_panic_costs_one_request() {
    let server = served();
    let answer = server.get("GET", "/panic");
    assert!(answer.starts_with("HTTP/1.1 500"), "{answer}");
    assert!(server.get("GET", "/_ping").starts_with("HTTP/1.1 200"));
}

#[test]
fn hints_are_for_our_own_client() {
    let server = served();
    let ask = |agent: &str| {
        server.talk(&format!(
            "GET /images/search HTTP/1.1\r\nHost: x\r\nConnection: close\r\nUser-Agent: {agent}\r\n\r\n"
        ))
    };
    assert!(ask("naru/0.1.0").contains(r"\nhint: "));
    assert!(!ask("Docker-Client/28.2.2").contains("hint"));
}
