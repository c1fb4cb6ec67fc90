//! The proxy as a process of its own: started once, found again, ended by word, and clear when it cannot start.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use naru_proxy::{ProxyError, RouteTable, launch};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Cargo builds examples before it runs tests, into a directory beside the tests' own.
fn standalone() -> Option<PathBuf> {
    let path = std::env::current_exe().ok()?.parent()?.parent()?.join("examples/standalone");
    path.exists().then_some(path)
}

#[test]
fn started_once_and_ended_by_word() {
    let Some(exe) = standalone() else {
        println!("SKIP: the example `standalone` was not built");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let config = common::config(dir.path());
    let client = launch::launch(&exe, &config).unwrap();
    let first = client.status().unwrap();
    assert_ne!(first.pid, std::process::id());
    let pid = launch::launch(&exe, &config).unwrap().status().unwrap().pid;
    assert_eq!(pid, first.pid, "the one that is there is used");
    assert_eq!(client.set_routes(&RouteTable::default()).unwrap(), first.generation + 1);
    client.shutdown().unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while config.socket().exists() {
        assert!(Instant::now() < deadline, "its socket goes when it ends");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_taken_port_reaches_the_caller() {
    let Some(exe) = standalone() else {
        println!("SKIP: the example `standalone` was not built");
        return;
    };
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut config = common::config(dir.path());
    config.http = holder.local_addr().unwrap();
    let error = launch::launch(&exe, &config).unwrap_err();
    let ProxyError::DiedAtStart { said, .. } = &error else { panic!("{error:?}") };
    assert!(said.contains("already used by") && said.contains("hint:"), "{said}");
    assert!(matches!(
        launch::launch(&PathBuf::from("/nonexistent/naru"), &config),
        Err(ProxyError::Spawn { .. })
    ));
}
