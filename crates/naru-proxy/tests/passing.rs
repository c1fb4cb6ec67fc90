//! What passes through: headers, streams, upgrades; and what does not: requests with more than one reading.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use bytes::Bytes;
use common::{Bench, backend, full, read, route};
use http_body_util::BodyExt;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::Notify;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_backend_learns_who_asks() {
    let bench = Bench::new(vec![route("a.test", "/", &[backend("one", Arc::default()).await])]).await;
    let request = Request::get("/headers")
        .header("host", "a.test")
        .header("x-forwarded-for", "6.6.6.6")
        .header("x_forwarded_for", "6.6.6.6")
        .header("forwarded", "for=6.6.6.6")
        .header("connection", "x-hop")
        .header("x-hop", "1")
        .header("x-kept", "1")
        .body(full(""))
        .unwrap();
    let (_, text) = read(bench.http1("a.test").await.send_request(request).await.unwrap()).await;
    for line in [
        "host: a.test",
        "x-forwarded-for: 127.0.0.1",
        "x-forwarded-proto: https",
        "x-forwarded-host: a.test",
        "x-kept: 1",
    ] {
        assert!(text.lines().any(|got| got == line), "{line} in\n{text}");
    }
    assert!(!text.contains("6.6.6.6") && !text.contains("x-hop"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_are_not_held_back() {
    let release = Arc::new(Notify::new());
    let bench = Bench::new(vec![route("a.test", "/", &[backend("one", release.clone()).await])]).await;
    for h2 in [false, true] {
        let request = Request::get("https://a.test/two").header("host", "a.test").body(full("")).unwrap();
        let response = if h2 {
            bench.http2("a.test").await.send_request(request).await.unwrap()
        } else {
            bench.http1("a.test").await.send_request(request).await.unwrap()
        };
        let mut body = response.into_body();
        let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(&first[..], b"data: one\n\n", "before the backend sends the second");
        release.notify_one();
        assert_eq!(&body.collect().await.unwrap().to_bytes()[..], b"data: two\n\n");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_bodies_both_ways() {
    let bench = Bench::new(vec![route("a.test", "/", &[backend("one", Arc::default()).await])]).await;
    let data: Bytes = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    let known = http_body_util::Full::new(data.clone()).boxed();
    let unknown = {
        let (sender, receiver) = tokio::sync::mpsc::channel::<Bytes>(1);
        let data = data.clone();
        tokio::spawn(async move {
            for part in data.chunks(10_007) {
                sender.send(Bytes::copy_from_slice(part)).await.unwrap();
            }
        });
        common::Parts(receiver).boxed()
    };
    for body in [known, unknown] {
        let request = Request::post("/echo").header("host", "a.test").body(body).unwrap();
        let response = bench.http1("a.test").await.send_request(request).await.unwrap();
        assert!(response.into_body().collect().await.unwrap().to_bytes() == data);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn websockets_pass() {
    let bench = Bench::new(vec![route("a.test", "/", &[backend("one", Arc::default()).await])]).await;
    let mut sender = bench.http1("a.test").await;
    let ask = |path: &str| {
        Request::get(path)
            .header("host", "a.test")
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .body(full(""))
            .unwrap()
    };
    // A backend that does not want to is a plain answer, and the connection goes on.
    assert_eq!(read(sender.send_request(ask("/who")).await.unwrap()).await.1, "one");
    sender.ready().await.unwrap();
    let response = sender.send_request(ask("/ws")).await.unwrap();
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(response.headers()["upgrade"], "websocket");
    let mut io = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    for text in [&b"GET / HTTP/1.1\n\0not http"[..], b"second"] {
        io.write_all(text).await.unwrap();
        let mut echoed = vec![0; text.len()];
        io.read_exact(&mut echoed).await.unwrap();
        assert_eq!(echoed, text);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn smuggling_is_refused_and_reaches_nobody() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let bench = Bench::new(vec![route("a.test", "/", &[listener.local_addr().unwrap()])]).await;
    let h = "Host: a.test\r\n";
    for attempt in [
        "GET / HTTP/1.1\r\n\r\n".to_owned(),
        format!("GET / HTTP/1.1\r\n{h}Host: b.test\r\n\r\n"),
        format!("POST / HTTP/1.1\r\n{h}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        format!("POST / HTTP/1.1\r\n{h}Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n"),
        format!("POST / HTTP/1.1\r\n{h}Content-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
        format!("POST / HTTP/1.1\r\n{h}Content-Length: 1,1\r\n\r\na"),
        format!("POST / HTTP/1.1\r\n{h}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"),
        format!("POST / HTTP/1.1\r\n{h}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n"),
        format!("POST / HTTP/1.1\r\n{h}Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n"),
        format!("GET / HTTP/1.1\r\n{h}X: a\r\n\tb\r\n\r\n"),
        format!("GET / HTTP/1.1\n{h}\n"),
        format!("GET / HTTP/1.1\r\n{h}X: a\0b\r\n\r\n"),
        format!("GET http://b.test/ HTTP/1.1\r\n{h}\r\n"),
        format!("GET / HTTP/1.1\r\n X: y\r\n{h}\r\n"),
        "NARU-REFUSED /999 HTTP/1.1\r\nHost: a.test\r\n\r\n".to_owned(),
    ] {
        // What follows must not be taken for a request of its own.
        let answer =
            bench.raw("a.test", format!("{attempt}GET /smuggled HTTP/1.1\r\n{h}\r\n").as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{attempt:?}\n{answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{attempt:?}\n{answer}");
        assert!(answer.to_ascii_lowercase().contains("connection: close"), "{attempt:?}\n{answer}");
    }
    let nobody =
        std::future::poll_fn(|cx| std::task::Poll::Ready(listener.poll_accept(cx).is_pending())).await;
    assert!(nobody, "no attempt reached the backend");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_chunk_ends_the_connection() {
    let bench = Bench::new(vec![route("a.test", "/", &[backend("one", Arc::default()).await])]).await;
    let head = "POST /echo HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n";
    let answer = bench
        .raw("a.test", format!("{head}3\r\nabcX\r\nGET /who HTTP/1.1\r\nHost: a.test\r\n\r\n").as_bytes())
        .await;
    assert!(!answer.contains("\r\none"), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pipelined_requests_are_answered_in_order() {
    let bench = Bench::new(vec![route("a.test", "/", &[backend("one", Arc::default()).await])]).await;
    let two = "POST /echo HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabc\r\nGET /who HTTP/1.1\r\nHost: a.test\r\n\r\nGET /\r\n\r\n";
    let answer = bench.raw("a.test", two.as_bytes()).await;
    let (abc, one, bad) = (answer.find("abc"), answer.find("one"), answer.find("HTTP/1.1 400"));
    assert!(abc.is_some() && abc < one && one < bad, "{answer}");
}

/// Answers one request per connection, then closes it without a word: what a restarting server does to a pool.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stale_connections_are_no_errors() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let bench = Bench::new(vec![route("a.test", "/", &[listener.local_addr().unwrap()])]).await;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut head = [0; 1024];
                if matches!(stream.read(&mut head).await, Ok(1..)) {
                    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
                }
            });
        }
    });
    let mut sender = bench.http1("a.test").await;
    for _ in 0..200 {
        sender.ready().await.unwrap();
        let request = Request::get("/").header("host", "a.test").body(full("")).unwrap();
        assert_eq!(read(sender.send_request(request).await.unwrap()).await, (StatusCode::OK, "ok".into()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_that_breaks_off_is_a_502() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let bench = Bench::new(vec![route("a.test", "/", &[listener.local_addr().unwrap()])]).await;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.read(&mut [0; 1024]).await;
        }
    });
    let request = Request::post("/").header("host", "a.test").body(full("x")).unwrap();
    let (status, page) = read(bench.http1("a.test").await.send_request(request).await.unwrap()).await;
    assert_eq!(status, StatusCode::BAD_GATEWAY, "{page}");
}
