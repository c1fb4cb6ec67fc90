//! Where requests go: hosts, prefixes, redirects, dead backends, changes of the table.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{Bench, backend, closed_port, full, read, route};
use hyper::{Request, StatusCode};
use naru_proxy::{Proxy, ProxyError};
use std::sync::Arc;
use tokio::sync::Notify;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_prefixes_and_protocols() {
    let (one, two) = (backend("one", Arc::default()).await, backend("two", Arc::default()).await);
    let bench = Bench::new(vec![route("a.test", "/", &[one]), route("a.test", "/api", &[two])]).await;
    for (path, expect) in [("/", "one"), ("/apix", "one"), ("/api", "two"), ("/api/x?y=1", "two")] {
        assert_eq!(bench.get("a.test", path).await, (StatusCode::OK, expect.into()), "{path}");
    }
    let mut h2 = bench.http2("a.test").await;
    let request = |host: &str| Request::get(format!("https://{host}/api")).body(full("")).unwrap();
    assert_eq!(read(h2.send_request(request("a.test")).await.unwrap()).await.1, "two");
    let (status, _) = read(h2.send_request(request("b.test")).await.unwrap()).await;
    assert_eq!(status, StatusCode::MISDIRECTED_REQUEST, "a connection is for one host");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_hosts_get_no_certificate() {
    let bench = Bench::new(vec![route("a.test", "/", &[backend("one", Arc::default()).await])]).await;
    for host in ["b.test", "x.a.test"] {
        assert!(bench.tls(host, b"http/1.1").await.is_err(), "{host}");
    }
    let log = bench.dir.path().join("root/proxy/access.log");
    let said = |text: &str| text.contains("b.test") && text.contains("no route for this host");
    while !std::fs::read_to_string(&log).is_ok_and(|text| said(&text)) {
        tokio::task::yield_now().await;
    }
    assert!(!bench.dir.path().join("root/proxy/certificates/b.test.pem").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_http_redirects_known_hosts_only() {
    let bench = Bench::new(vec![route("a.test", "/", &[])]).await;
    for (host, status) in [("a.test", StatusCode::TEMPORARY_REDIRECT), ("b.test", StatusCode::NOT_FOUND)] {
        let stream = tokio::net::TcpStream::connect(bench.http).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let request = Request::get("/x?y=1").header("host", host).body(full("")).unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.status(), status);
        let target = format!("https://a.test:{}/x?y=1", bench.https.port());
        let expect = (host == "a.test").then_some(target);
        assert_eq!(response.headers().get("location").map(|v| v.to_str().unwrap().to_owned()), expect);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_backends() {
    let (alive, dead) = (backend("alive", Arc::default()).await, closed_port().await);
    let bench = Bench::new(vec![
        route("some.test", "/", &[dead, alive]),
        route("all.test", "/", &[dead]),
        route("none.test", "/", &[]),
        route("path.test", "/only", &[alive]),
    ])
    .await;
    for _ in 0..4 {
        assert_eq!(bench.get("some.test", "/").await, (StatusCode::OK, "alive".into()));
    }
    assert_eq!(bench.get("all.test", "/").await.0, StatusCode::BAD_GATEWAY);
    assert_eq!(bench.get("none.test", "/").await.0, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(bench.get("path.test", "/").await.0, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_under_load_loses_no_request() {
    let (one, two) = (backend("one", Arc::default()).await, backend("two", Arc::default()).await);
    let mut bench = Bench::new(vec![route("a.test", "/", &[one])]).await;
    let mut workers = Vec::new();
    for _ in 0..4 {
        let mut sender = bench.http1("a.test").await;
        workers.push(tokio::spawn(async move {
            for _ in 0..400 {
                sender.ready().await.unwrap();
                let request = Request::get("/").header("host", "a.test").body(full("")).unwrap();
                let (status, text) = read(sender.send_request(request).await.unwrap()).await;
                assert!(status == StatusCode::OK && (text == "one" || text == "two"), "{status} {text}");
            }
        }));
    }
    for turn in 0..20 {
        bench.set(vec![route("a.test", "/", &[if turn % 2 == 0 { two } else { one }])]).await;
    }
    for worker in workers {
        worker.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn begun_requests_outlive_their_route() {
    let release = Arc::new(Notify::new());
    let old = backend("old", release.clone()).await;
    let mut bench = Bench::new(vec![route("a.test", "/", &[old])]).await;
    let mut sender = bench.http1("a.test").await;
    let request = Request::get("/two").header("host", "a.test").body(full("")).unwrap();
    let response = sender.send_request(request).await.unwrap();
    bench.set(vec![]).await;
    release.notify_one();
    assert_eq!(read(response).await.1, "data: one\n\ndata: two\n\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_keeps_routes_and_certificates() {
    let one = backend("one", Arc::default()).await;
    let mut bench = Bench::new(vec![route("a.test", "/", &[one])]).await;
    assert_eq!(bench.get("a.test", "/").await.1, "one");
    let ca = std::fs::read(bench.dir.path().join("root/proxy/ca/ca.pem")).unwrap();
    let proxy = bench.proxy.take().unwrap();
    proxy.stop();
    proxy.stopped().await;
    let bench = Bench::start(bench.dir).await;
    assert_eq!(bench.get("a.test", "/").await.1, "one");
    assert_eq!(std::fs::read(bench.dir.path().join("root/proxy/ca/ca.pem")).unwrap(), ca);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_tables_change_nothing() {
    let one = backend("one", Arc::default()).await;
    let mut bench = Bench::new(vec![route("a.test", "/", &[one])]).await;
    let client = bench.client();
    let bad = naru_proxy::RouteTable { routes: vec![route("*.test", "/", &[one])] };
    let refused = tokio::task::spawn_blocking(move || client.set_routes(&bad)).await.unwrap().unwrap_err();
    assert!(
        matches!(&refused, ProxyError::Refused { message } if message.contains("wildcard")),
        "{refused:?}"
    );
    assert_eq!(bench.get("a.test", "/").await.1, "one");
    assert_eq!(bench.set(vec![]).await, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_taken_port_names_its_owner() {
    let holder = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut config = common::config(dir.path());
    config.https = holder.local_addr().unwrap();
    let error = naru_types::Error::from(Proxy::start(&config).await.err().unwrap());
    assert!(error.to_string().contains(&format!("(pid {})", std::process::id())), "{error}");
    assert!(error.hint().is_some());

    let bench = Bench::start(tempfile::tempdir().unwrap()).await;
    let second = Proxy::start(&common::config(bench.dir.path())).await.err().unwrap();
    assert!(matches!(second, ProxyError::AlreadyRunning { .. }), "{second}");
}
