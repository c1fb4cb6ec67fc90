//! Bad input gives one clear error with what, which and why, and changes nothing.

use crate::lab::Lab;

pub const TESTS: &[(&str, fn(&Lab))] = &[
    ("bad_names_and_flags", names_and_flags),
    ("broken_dockerfiles", dockerfiles),
    ("broken_compose_files", compose),
    ("garbage_to_the_api", garbage),
];

/// What a refused request may not change.
fn inventory(lab: &Lab) -> String {
    let mut text = String::new();
    for args in [&["ps", "-aq"][..], &["images", "-aq"], &["volume", "ls", "-q"], &["network", "ls", "-q"]] {
        text.push_str(&lab.ok(args));
        text.push('\n');
    }
    text
}

fn names_and_flags(lab: &Lab) {
    let before = inventory(lab);
    for (args, code, words) in [
        (&["run", "--rm", "No/Such/Upper"][..], 125, &["lowercase"][..]),
        (&["run", "--rm", "--pull", "never", "nosuch:1"], 125, &["nosuch:1"]),
        (&["run", "--name", "bad/name", "busybox"], 125, &["bad/name"]),
        (
            &["run", "--mount", "type=bind,source=/does/not/exist,target=/x", "busybox"],
            125,
            &["/does/not/exist"],
        ),
        (&["run", "-v", "relative/../x", "busybox"], 125, &[]),
        (&["run", "--network", "nowhere", "busybox"], 125, &["nowhere"]),
        (&["run", "-m", "1k", "busybox"], 125, &["6MB"]),
        (&["run", "--restart", "sometimes", "busybox"], 125, &["sometimes"]),
        (&["run", "--rm", "--restart", "always", "busybox"], 125, &[]),
        (&["run", "-u", "nobody-here", "busybox", "true"], 125, &["nobody-here"]),
        (&["start", "nothing"], 1, &["nothing"]),
        (&["volume", "inspect", "nothing"], 1, &["nothing"]),
        (&["network", "create", "--subnet", "not-a-subnet", "x"], 1, &["not-a-subnet"]),
        (&["network", "create", "-d", "carrier-pigeon", "x"], 1, &["carrier-pigeon"]),
        (&["tag", "busybox", "Bad:Tag:1"], 1, &[]),
        (&["logs", "nothing"], 1, &["nothing"]),
        (&["pull", "127.0.0.1:9/nope"], 1, &["127.0.0.1:9"]),
    ] {
        let out = lab.docker(args);
        assert_eq!(out.code, code, "{args:?}: {out:?}");
        for word in words {
            assert!(out.stderr.contains(word), "{args:?} doesn't say {word:?}: {}", out.stderr);
        }
        if !lab.ok(&["ps", "-aq", "--filter", "status=created"]).is_empty() {
            // Docker itself leaves the created container of a run whose start failed; so does naru.
            lab.remove_everything();
        }
    }
    assert_eq!(inventory(lab), before);
}

fn dockerfiles(lab: &Lab) {
    let before = inventory(lab);
    for (text, words) in [
        ("FROM busybox\nRUM echo x\n", &["2", "RUM"][..]),
        ("RUN echo x\n", &["no build stage"]),
        ("FROM busybox\nCOPY nothing /\n", &["nothing"]),
        ("FROM busybox\nCOPY --from=later x /\n", &["later"]),
        ("FROM busybox\nENV\n", &["ENV"]),
        ("FROM busybox\nRUN false\n", &["returned a non-zero code: 1"]),
        ("FROM busybox\nADD https://example.invalid/x /\n", &["ADD"]),
        ("", &["empty"]),
    ] {
        let dir = lab.dir.join("broken-context");
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("Dockerfile"), text).unwrap();
        let out = lab.docker(&["build", "-t", "broken", dir.to_str().unwrap()]);
        assert_eq!(out.code, 1, "{text:?}: {out:?}");
        for word in words {
            assert!(out.stderr.contains(word), "{text:?} doesn't say {word:?}: {}", out.stderr);
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }
    assert_eq!(inventory(lab), before);
}

fn compose(lab: &Lab) {
    let before = inventory(lab);
    for (text, words) in [
        ("services:\n  web:\n    imagee: x\n", &["compose.yaml:3", "imagee", "image"][..]),
        ("services:\n  web:\n    image: x\n    depends_on: [db]\n", &["db"]),
        ("services:\n  a: {image: x, depends_on: [b]}\n  b: {image: x, depends_on: [a]}\n", &["cycle"]),
        ("services: [\n", &["compose.yaml"]),
        ("services:\n  web:\n    image: x\n    ports: [\"99999:80\"]\n", &["99999"]),
    ] {
        let dir = lab.dir.join("broken-project");
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join("compose.yaml"), text).unwrap();
        let out = lab.naru(&["up"], &dir);
        assert_eq!(out.code, 1, "{text:?}: {out:?}");
        for word in words {
            assert!(out.stderr.contains(word), "{text:?} doesn't say {word:?}: {}", out.stderr);
        }
        std::fs::remove_dir_all(&dir).unwrap();
    }
    assert_eq!(inventory(lab), before);
}

fn garbage(lab: &Lab) {
    let before = inventory(lab);
    for (method, path, body, status) in [
        ("GET", "/nope", "", 404),
        ("GET", "/v1.999/info", "", 400),
        ("POST", "/containers/create", "{", 400),
        ("POST", "/containers/create", "{}", 400),
        ("POST", "/containers/create", r#"{"Image": 7}"#, 400),
        ("POST", "/containers/create?name=%2F..%2F", r#"{"Image": "busybox"}"#, 400),
        ("GET", "/containers/json?filters=%7B", "", 400),
        ("GET", "/containers/json?filters=%7B%22nope%22%3A%7B%22x%22%3Atrue%7D%7D", "", 400),
        ("GET", "/containers/%2e%2e%2fetc/json", "", 404),
        ("POST", "/networks/create", r#"{"Name": ""}"#, 400),
        ("GET", "/swarm", "", 503),
        ("DELETE", "/volumes/..%2f..%2fetc", "", 404),
    ] {
        let (got, answer) = lab.api(method, path, body);
        assert_eq!(got, status, "{method} {path} {body}: {answer}");
        assert!(answer.contains("\"message\""), "{method} {path}: {answer}");
    }
    // Not HTTP at all: the connection is dropped, the daemon goes on.
    let socket = std::os::unix::net::UnixStream::connect(lab.socket()).unwrap();
    std::io::Write::write_all(&mut &socket, &[0xff; 4096]).ok();
    drop(socket);
    assert_eq!(lab.api("GET", "/_ping", "").0, 200);
    assert_eq!(inventory(lab), before);
}
