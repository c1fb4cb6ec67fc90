//! ADD from the web, and what clients lend: against a server and a socket of the test's own.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{request, world};
use naru_build::{Lent, Secret};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::sync::{Arc, Mutex};

const CONTENT: &str = "downloaded\n";
const SHA256: &str = "ee4f6ab2b2bb3be4a3e9ebb0dbb1d5ac1ec0b48f0e5cdb64fa22bbd17d7b0e03";

/// A web server that knows one file and writes down what it was asked.
struct Server {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start(content: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let lines = BufReader::new(stream.try_clone().unwrap()).lines();
                let head: Vec<String> =
                    lines.map(Result::unwrap).take_while(|line| !line.is_empty()).collect();
                let known = head.iter().any(|line| line.eq_ignore_ascii_case("if-none-match: \"v1\""));
                let status = match (known, head[0].contains("/f.txt")) {
                    (true, _) => "304 Not Modified",
                    (false, true) => "200 OK",
                    (false, false) => "404 Not Found",
                };
                log.lock().unwrap().push(format!("{} {}", head[0], &status[..3]));
                let body = if status == "200 OK" { content } else { "" };
                write!(
                    stream,
                    "HTTP/1.1 {status}\r\ncontent-length: {}\r\netag: \"v1\"\r\n\
                     last-modified: Sun, 06 Nov 1994 08:49:37 GMT\r\nconnection: close\r\n\r\n{body}",
                    body.len()
                )
                .unwrap();
            }
        });
        Self { address, asked }
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

#[test]
fn downloads_are_kept_by_their_etag() {
    let Some(world) = world() else { return };
    world.base();
    let context = world.context(&[]);
    let server = Server::start(CONTENT);
    let text = format!("FROM base\nADD {}/a/f.txt?x=1 /d/\nRUN cat /d/f.txt", server.address);
    let built = world.build(&request(&context, &text)).unwrap();
    assert_eq!(world.read(&built.id, "d/f.txt"), CONTENT);
    let stat = world.find(&built.id, "d/f.txt").unwrap().metadata().unwrap();
    assert_eq!((stat.mode() & 0o7777, stat.uid(), stat.mtime()), (0o600, 0, 784_111_777));
    assert_eq!(server.asked(), ["GET /a/f.txt?x=1 HTTP/1.1 200"]);
    // The server says that nothing has changed, and no step runs.
    let again = world.build(&request(&context, &text)).unwrap();
    assert_eq!((again.runs(), again.id), (0, built.id));
    assert_eq!(server.asked(), ["GET /a/f.txt?x=1 HTTP/1.1 304"]);
    world.assert_clean();
}

#[test]
fn a_checksum_is_checked_and_saves_the_question() {
    let Some(world) = world() else { return };
    world.base();
    let context = world.context(&[]);
    let server = Server::start(CONTENT);
    let digest = <sha2::Sha256 as sha2::Digest>::digest(CONTENT);
    let right = naru_types::id::hex(&digest);
    let add = |sum: &str| format!("FROM base\nARG S={sum}\nADD --checksum=$S {}/f.txt /x", server.address);
    let error = world.build(&request(&context, &add(&format!("sha256:{SHA256}")))).err().unwrap();
    let expect = format!("Dockerfile:3: digest mismatch sha256:{right}: sha256:{SHA256}");
    assert!(error.message().starts_with(&expect), "{error}");
    world.build(&request(&context, &add(&format!("sha256:{right}")))).unwrap();
    server.asked();
    let mut fresh = request(&context, &add(&format!("sha256:{right}")));
    fresh.no_cache = true;
    let built = world.build(&fresh).unwrap();
    assert_eq!(world.read(&built.id, "x"), CONTENT);
    assert_eq!(server.asked(), Vec::<String>::new());
    for (text, message) in [
        (format!("ADD {}/nope /x", server.address), "invalid response status 404"),
        ("ADD --checksum=sha256:12 http://127.0.0.1:1/x /x".into(), "invalid checksum digest format"),
        ("ADD --checksum=md5:12 http://127.0.0.1:1/x /x".into(), "unsupported digest algorithm"),
        ("ADD http://127.0.0.1:1/x /x".into(), "cannot download http://127.0.0.1:1/x"),
    ] {
        let error = world.build(&request(&context, &format!("FROM base\n{text}"))).err().unwrap();
        assert!(error.message().starts_with(&format!("Dockerfile:2: {message}")), "{text}: {error}");
    }
    world.assert_clean();
}

#[test]
fn what_is_lent_is_in_no_image_and_no_key() {
    let Some(world) = world() else { return };
    world.base();
    let context = world.context(&[]);
    let socket = world.dir.path().join("agent");
    let _listener = UnixListener::bind(&socket).unwrap();
    let text = "FROM base\nRUN --mount=type=secret,id=tok --mount=type=secret,id=env,env=E,required \
                --mount=type=ssh,required cat /run/secrets/tok; echo $E $SSH_AUTH_SOCK; stat -c %F $SSH_AUTH_SOCK";
    let lent = |value: &str| {
        let secrets = [("tok", value), ("env", "from-env")];
        let secrets = secrets.map(|(id, text)| (id.to_owned(), Secret::new(text)));
        let mut wanted = request(&context, text);
        wanted.session = Arc::new(Lent {
            secrets: secrets.into(),
            agents: BTreeMap::from([("default".to_owned(), socket.clone())]),
        });
        wanted
    };
    let built = world.build(&lent("one\n")).unwrap();
    assert_eq!(built.output(), "one\nfrom-env /run/buildkit/ssh_agent.0\nsocket\n");
    assert_eq!(world.find(&built.id, "run"), None);
    let config = serde_json::to_string(&world.store.get_by_id(&built.id).unwrap().config).unwrap();
    assert!(!config.contains("from-env") && !config.contains("ssh_agent"), "{config}");
    // Another value is no reason to run again; that there is none is no reason to fail when cached.
    let again = world.build(&lent("two\n")).unwrap();
    assert_eq!((again.runs(), again.id), (0, built.id));
    world.assert_clean();
}
