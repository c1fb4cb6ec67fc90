//! The client against a socket that says what a test wants.

use super::*;
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicU32, Ordering};

/// A server for one connection that reads one head (and body up to `until`), says `answer` and hangs up.
fn answering(answer: &'static [u8], until: &'static [u8]) -> (Client, std::thread::JoinHandle<Vec<u8>>) {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let path = std::env::temp_dir().join(format!("naru-wire-{}-{number}.sock", std::process::id()));
    let listener = UnixListener::bind(&path).unwrap();
    let client = Client::new(&path);
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        std::fs::remove_file(path).unwrap();
        let mut seen = Vec::new();
        let mut byte = [0];
        while !seen.ends_with(until) && stream.read(&mut byte).unwrap() == 1 {
            seen.push(byte[0]);
        }
        stream.write_all(answer).unwrap();
        seen
    });
    (client, server)
}

#[test]
fn chunked_answer_and_streamed_body() {
    let answer = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{\"a\r\n6;x=y\r\n\":1}\n2\r\n0\r\n\r\n";
    let (client, server) = answering(answer, b"0\r\n\r\n");
    let mut body = &b"hello"[..];
    let response = client.send(Request::post("/build?x=1").stream("application/x-tar", &mut body)).unwrap();
    let mut text = String::new();
    let mut reader = response.body;
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "{\"a\":1}\n2");
    let seen = String::from_utf8(server.join().unwrap()).unwrap();
    assert!(seen.starts_with("POST /build?x=1 HTTP/1.1\r\n"), "{seen}");
    assert!(seen.ends_with("\r\n\r\n5\r\nhello\r\n0\r\n\r\n"), "{seen}");
}

#[test]
fn refusals_carry_message_and_hint() {
    let answer = b"HTTP/1.1 404 Not Found\r\nContent-Length: 43\r\n\r\n{\"message\":\"No such x\\nhint: create it\"}   \n";
    let (client, server) = answering(answer, b"\r\n\r\n");
    let error = client.send(Request::get("/x")).err().unwrap();
    server.join().unwrap();
    assert!(matches!(&error, ClientError::Refused { status: 404, message, hint: Some(hint) }
        if message == "No such x" && hint == "create it"));
}

#[test]
fn hijack_keeps_the_bytes_behind_the_head() {
    let answer = b"HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\nhello";
    let (client, server) = answering(answer, b"\r\n\r\n");
    let mut hijacked = client.hijack(Request::post("/containers/x/attach")).unwrap();
    let mut text = String::new();
    hijacked.reader.read_to_string(&mut text).unwrap();
    assert_eq!(text, "hello");
    let seen = String::from_utf8(server.join().unwrap()).unwrap();
    assert!(seen.contains("Upgrade: tcp\r\n"), "{seen}");
}

#[test]
fn truncated_answers_are_errors() {
    for answer in [&b"HTTP/1.1 200"[..], b"garbage\r\n\r\n", b""] {
        let (client, server) = answering(answer, b"\r\n\r\n");
        assert!(client.send(Request::get("/")).is_err());
        server.join().unwrap();
    }
    let (client, server) = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", b"\r\n\r\n");
    let mut body = client.send(Request::get("/")).unwrap().body;
    assert!(body.read_to_string(&mut String::new()).is_err());
    server.join().unwrap();
}

#[test]
fn addresses() {
    for (address, path) in [
        ("unix:///run/x.sock", Some("/run/x.sock")),
        ("/run/x.sock", Some("/run/x.sock")),
        ("unix://x", None),
        ("tcp://h:1", None),
        ("x", None),
    ] {
        let client = Client::from_address(address).ok();
        assert_eq!(client.as_ref().map(|client| client.socket().to_str().unwrap()), path, "{address}");
    }
    assert!(Client::new("/nonexistent/naru.sock").send(Request::get("/")).err().unwrap().is_no_daemon());
}
