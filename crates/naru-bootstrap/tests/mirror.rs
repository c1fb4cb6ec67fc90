//! A mirror that tells the truth, and mirrors that don't: from the signature to the packages, over HTTP.

mod repo;

use naru_bootstrap::suite::Suite;
use naru_bootstrap::{BootstrapError, Request};
use naru_types::{Error, ImageRef, Timestamp};
use repo::{KeyKind, Repo, SUITE, flip};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// A repository of two packages.
fn tiny(dir: &Path, kind: KeyKind) -> Repo {
    let mut repo = Repo::make(dir, kind);
    repo.package(
        "tiny-base",
        "Essential: yes\nPriority: required\n",
        &[("usr/share/tiny/file", "644", b"hello")],
    );
    repo.package("apt", "Depends: tiny-base\n", &[("usr/share/tiny/apt", "644", b"apt")]);
    repo.sign("");
    repo
}

/// Serves a directory until the test's process ends; gives the address.
fn serve(dir: PathBuf) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let first = lines.next().unwrap().unwrap();
            while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
            let path = first.split(' ').nth(1).unwrap().trim_start_matches('/');
            let (status, body) = match fs::read(dir.join(path)) {
                Ok(body) => ("200 OK", body),
                Err(_) => ("404 Not Found", Vec::new()),
            };
            let head =
                format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
            // A client that has read enough may be gone.
            let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body));
        }
    });
    format!("http://{address}")
}

fn request(mirror: String, keyring: Vec<u8>, suite: &str) -> Request {
    Request {
        base: ImageRef::parse(&format!("tinylinux:{suite}")).unwrap(),
        tag: None,
        mirror: Some(mirror),
        keyring: Some(keyring),
        include: Vec::new(),
        snapshot: None,
        cancel: Arc::new(AtomicBool::new(false)),
    }
}

/// Everything up to the downloaded packages; the names of them.
fn fetch(request: &Request) -> Result<Vec<String>, BootstrapError> {
    let into = tempfile::tempdir().unwrap();
    let suite = Suite::open(request, Path::new("/nowhere"), naru_kernel::clock::now(), &|_| {})?;
    let all: Vec<_> = suite.index.packages.values().collect();
    suite.download(&all, into.path(), &|_| {})?;
    let mut names: Vec<String> = fs::read_dir(into.path())
        .unwrap()
        .map(|item| item.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    Ok(names)
}

fn scratch() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("nb").tempdir_in("/tmp").unwrap()
}

#[test]
fn every_kind_of_key_and_both_forms_of_release() {
    for kind in [KeyKind::Rsa, KeyKind::Ed25519, KeyKind::RsaSubkey] {
        let dir = scratch();
        let repo = tiny(dir.path(), kind);
        let request = request(serve(repo.dir.clone()), repo.keyring(), SUITE);
        assert_eq!(fetch(&request).unwrap(), ["apt.deb", "tiny-base.deb"], "{kind:?}, InRelease");
        fs::remove_file(repo.dists().join("InRelease")).unwrap();
        assert_eq!(fetch(&request).unwrap(), ["apt.deb", "tiny-base.deb"], "{kind:?}, Release.gpg");
    }
}

#[test]
fn whatever_is_tampered_with_is_refused() {
    let dir = scratch();
    let repo = tiny(dir.path(), KeyKind::Ed25519);
    let request = request(serve(repo.dir.clone()), repo.keyring(), SUITE);
    let in_release = repo.dists().join("InRelease");
    let tampered = |path: &Path, needle: Option<&str>| -> Error {
        let before = fs::read(path).unwrap();
        flip(path, needle);
        let error = fetch(&request).expect_err("it was tampered with");
        fs::write(path, before).unwrap();
        Error::from(error)
    };
    let error = tampered(&in_release, Some("Origin"));
    assert!(error.message().contains("InRelease: its signature was refused"), "{error}");
    assert!(error.message().contains("is BAD"), "{error}");
    assert!(error.hint().unwrap().contains("don't use this mirror"));
    let error = tampered(&repo.index(), None);
    assert!(error.message().contains("Packages was changed: expected sha256:"), "{error}");
    let error = tampered(&repo.deb("tiny-base"), None);
    assert!(error.message().contains("tiny-base.deb was changed: expected sha256:"), "{error}");
    let whole = fs::read(repo.deb("apt")).unwrap();
    fs::write(repo.deb("apt"), b"short").unwrap();
    let error = Error::from(fetch(&request).unwrap_err());
    assert!(error.message().contains("apt.deb was changed: expected "), "{error}");
    fs::write(repo.deb("apt"), whole).unwrap();
    fetch(&request).unwrap();
    fs::remove_file(&in_release).unwrap();
    let error = tampered(&repo.dists().join("Release"), Some("Origin"));
    assert!(error.message().contains("Release: its signature was refused"), "{error}");
}

#[test]
fn who_signed_and_when_counts() {
    let (dir, other) = (scratch(), scratch());
    let repo = tiny(dir.path(), KeyKind::Ed25519);
    let stranger = Repo::make(other.path(), KeyKind::Ed25519);
    let mirror = serve(repo.dir.clone());
    let refused = |request: &Request| fetch(request).unwrap_err();
    let by_stranger = refused(&request(mirror.clone(), stranger.keyring(), SUITE)).to_string();
    assert!(by_stranger.contains("signature was refused"), "{by_stranger}");
    assert!(matches!(
        refused(&request(mirror.clone(), b"x".to_vec(), SUITE)),
        BootstrapError::Keyring { .. }
    ));
    assert!(matches!(
        refused(&request(mirror.clone(), repo.keyring(), "absent")),
        BootstrapError::Missing { .. }
    ));

    // Another suite's Release, which the key signed as well, in the place of the one that is asked for.
    fs::create_dir_all(repo.dir.join("dists/other")).unwrap();
    fs::copy(repo.dists().join("InRelease"), repo.dir.join("dists/other/InRelease")).unwrap();
    assert!(matches!(
        refused(&request(mirror.clone(), repo.keyring(), "other")),
        BootstrapError::WrongSuite { .. }
    ));

    repo.sign("Valid-Until: Sat, 01 Jan 2022 00:00:00 UTC\n");
    let good = request(mirror, repo.keyring(), SUITE);
    assert!(matches!(refused(&good), BootstrapError::Expired { .. }));

    // A signature from before the key's time of validity, or after it.
    repo.sign("");
    fetch(&good).unwrap();
    for days in [-1, 3] {
        let then = Timestamp::from_parts(naru_kernel::clock::now().secs() + days * 86_400, 0);
        let opened = Suite::open(&good, Path::new("/nowhere"), then, &|_| {});
        assert!(matches!(opened.err(), Some(BootstrapError::Signature { .. })), "{days} days");
    }
}
