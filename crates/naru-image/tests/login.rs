//! Logging in: at a real registry with basic authentication, at token servers, and at registries that
//! would like to have somebody else's password.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{Registry, store};
use naru_image::{Credentials, Secret};
use naru_types::Kind;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// htpasswd entry of user "u" with password "p" (bcrypt).
const HTPASSWD: &str = "u:$2b$05$abcdefghijklmnopqrstuuqwWMzKt5N8p.u2GX5MuH1t19BMWuLOW\n";

/// What a server was asked: method, path, authorization, body.
type Asked = (String, String, String, String);
/// Status line's end and headers, and the body.
type Answer = (String, String);

/// A few lines of HTTP; remembers all that it was asked.
struct Server {
    address: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    /// `answer` gets the server's own address and the question.
    fn start(answer: impl Fn(&str, &Asked) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (seen, own, answer) = (Arc::clone(&asked), address.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (seen, own, answer) = (Arc::clone(&seen), own.clone(), Arc::clone(&answer));
                std::thread::spawn(move || {
                    if let Some(question) = read(&stream) {
                        seen.lock().unwrap().push(question.clone());
                        let (head, body) = answer(&own, &question);
                        let length = body.len();
                        let _ = write!(
                            &stream,
                            "HTTP/1.1 {head}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
                        );
                    }
                });
            }
        });
        Self { address, asked }
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

/// `None`: not HTTP (a client that tries TLS first).
fn read(stream: &TcpStream) -> Option<Asked> {
    let mut input = BufReader::new(stream);
    let mut line = String::new();
    input.read_line(&mut line).ok()?;
    let mut words = line.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let (mut authorization, mut length) = (String::new(), 0);
    loop {
        line.clear();
        if input.read_line(&mut line).ok()? == 0 || line.trim().is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').unwrap_or_default();
        match name.to_ascii_lowercase().as_str() {
            "authorization" => value.trim().clone_into(&mut authorization),
            "content-length" => length = value.trim().parse().unwrap_or(0),
            _ => {}
        }
    }
    let mut body = String::new();
    input.take(length).read_to_string(&mut body).ok()?;
    Some((method, path, authorization, body))
}

fn user() -> Credentials {
    Credentials::Password { username: "u".into(), password: Secret::new("p") }
}

fn bearer(own: &str, realm: &str) -> Answer {
    let challenge = format!("WWW-Authenticate: Bearer realm=\"{realm}\",service=\"{own}\"");
    (format!("401 Unauthorized\r\n{challenge}"), String::new())
}

fn ok(body: &str) -> Answer {
    ("200 OK".into(), body.to_owned())
}

#[test]
fn basic_at_a_real_registry() {
    let dir = tempfile::TempDir::new().unwrap();
    let path = dir.path().join("htpasswd");
    std::fs::write(&path, HTPASSWD).unwrap();
    let auth = format!("auth:\n  htpasswd:\n    realm: test\n    path: {}\n", path.display());
    let Some(registry) = Registry::start_with(&auth) else { return };
    let test = store();
    assert!(test.store.log_in(&registry.address, &user()).unwrap().identity_token.is_none());
    let wrong = Credentials::Password { username: "u".into(), password: Secret::new("no") };
    let error = test.store.log_in(&registry.address, &wrong).unwrap_err();
    assert_eq!(error.kind(), Kind::Unauthorized);
    let url = format!("http://{}/v2/", registry.address);
    assert_eq!(error.message(), format!("login attempt to {url} failed with status: 401 Unauthorized"));
    let error = test.store.log_in(&registry.address, &Credentials::Anonymous).unwrap_err();
    assert_eq!(error.message(), format!("Get {url:?}: no basic auth credentials"));
}

#[test]
fn a_token_server_gives_an_identity_token_which_serves_for_the_next_login() {
    let server = Server::start(|own, (method, path, authorization, body)| {
        match (method.as_str(), path.split('?').next().unwrap_or_default(), authorization.as_str()) {
            ("GET", "/token", "Basic dTpw") => ok(r#"{"token":"short","refresh_token":"long+"}"#),
            ("POST", "/token", _) if body.contains("refresh_token=long%2B") => {
                ok(r#"{"access_token":"short"}"#)
            }
            (_, "/token", _) => ("401 Unauthorized".into(), String::new()),
            (_, _, "Bearer short") => ok("{}"),
            _ => bearer(own, &format!("http://{own}/token")),
        }
    });
    let test = store();
    let login = test.store.log_in(&server.address, &user()).unwrap();
    let token = login.identity_token.unwrap();
    assert_eq!(token.reveal(), "long+");
    test.store.log_in(&server.address, &Credentials::IdentityToken(token)).unwrap();
    let first = server.asked().into_iter().find(|(_, path, _, _)| path.starts_with("/token")).unwrap().1;
    assert!(first.contains("offline_token=true") && first.contains("account=u"), "{first}");
    let wrong = Credentials::IdentityToken(Secret::new("old"));
    let error = test.store.log_in(&server.address, &wrong).unwrap_err();
    let url = format!("http://{}/v2/", server.address);
    assert_eq!(
        (error.kind(), error.message()),
        (Kind::Unauthorized, format!("Get {url:?}: unauthorized: incorrect username or password").as_str())
    );
}

#[test]
fn a_redirect_to_another_host_gets_neither_password_nor_a_say_about_the_token_server() {
    let thief = Server::start(|own, (_, path, _, _)| match path.starts_with("/token") {
        true => ok(r#"{"token":"t"}"#),
        false => bearer(own, &format!("http://{own}/token")),
    });
    let there = thief.address.clone();
    let registry = Server::start(move |_, _| {
        (format!("307 Temporary Redirect\r\nLocation: http://{there}/v2/"), String::new())
    });
    let test = store();
    let error = test.store.log_in(&registry.address, &user()).unwrap_err();
    assert_eq!(error.kind(), Kind::Unauthorized);
    assert!(error.message().contains("asks for a login of its own"), "{error}");
    let name = naru_types::ImageRef::parse(&format!("{}/app", registry.address)).unwrap();
    let cancel = std::sync::atomic::AtomicBool::new(false);
    let options =
        naru_image::PullOptions { credentials: user(), platform: None, progress: &|_| {}, cancel: &cancel };
    assert_eq!(test.store.pull(&name, &options).unwrap_err().kind(), Kind::Unauthorized);
    let shown: Vec<_> = thief
        .asked()
        .into_iter()
        .filter(|(_, path, shown, body)| !shown.is_empty() || !body.is_empty() || path.starts_with("/token"))
        .collect();
    assert!(shown.is_empty(), "{shown:?}");
}

#[test]
fn a_redirect_after_the_login_takes_no_authorization_along() {
    let storage = Server::start(|_, _| ok("{}"));
    let there = storage.address.clone();
    let registry = Server::start(move |_, (_, _, authorization, _)| match authorization.as_str() {
        "Basic dTpw" => (format!("307 Temporary Redirect\r\nLocation: http://{there}/x"), String::new()),
        _ => ("401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"r\"".into(), String::new()),
    });
    store().store.log_in(&registry.address, &user()).unwrap();
    let asked = storage.asked();
    assert!(!asked.is_empty() && asked.iter().all(|(_, _, shown, _)| shown.is_empty()), "{asked:?}");
}

#[test]
fn redirects_in_a_circle_end() {
    let server = Server::start(|own, _| {
        (format!("307 Temporary Redirect\r\nLocation: http://{own}/v2/"), String::new())
    });
    let error = store().store.log_in(&server.address, &user()).unwrap_err();
    assert!(error.message().contains("redirect"), "{error}");
    assert!(server.asked().len() <= 12, "{} requests", server.asked().len());
}

#[test]
fn answers_of_a_token_server_are_limited_and_read_strictly() {
    for body in ["{}".to_owned(), "not json".to_owned(), format!("{{\"token\":\"{}\"}}", "x".repeat(1 << 20))]
    {
        let server = Server::start(move |own, (_, path, _, _)| match path.starts_with("/token") {
            true => ok(&body),
            false => bearer(own, &format!("http://{own}/token")),
        });
        store().store.log_in(&server.address, &user()).unwrap_err();
    }
}

#[test]
fn addresses_that_are_none() {
    for address in ["a b", "-", "x@y", "host:port", "../..", "h\nost"] {
        let error = store().store.log_in(address, &user()).unwrap_err();
        assert_eq!(error.kind(), Kind::InvalidInput, "{address:?}: {error}");
    }
}
