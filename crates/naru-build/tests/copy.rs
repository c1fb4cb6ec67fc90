//! COPY and ADD: where things go, and as what.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{World, request, world};
use naru_types::Digest;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

fn build(world: &World, context: &Path, text: &str) -> Digest {
    match world.build(&request(context, &format!("FROM base\n{text}"))) {
        Ok(built) => built.id,
        Err(error) => panic!("{text}: {error}"),
    }
}

#[test]
fn places() {
    let Some(world) = world() else { return };
    world.base();
    let context =
        world.context(&[("a.txt", "a"), ("b.txt", "b"), ("d/one", "1"), ("d/sub/two", "2"), ("e f", "s")]);
    symlink("a.txt", context.join("link")).unwrap();
    symlink("/etc/passwd", context.join("d/out")).unwrap();
    for (text, path, content) in [
        ("COPY a.txt /x", "x", "a"),
        ("COPY a.txt /x/", "x/a.txt", "a"),
        ("COPY a.txt /tmp", "tmp/a.txt", "a"),
        ("WORKDIR /w\nCOPY a.txt .", "w/a.txt", "a"),
        ("WORKDIR /w\nCOPY a.txt sub/name", "w/sub/name", "a"),
        ("COPY *.txt /t/", "t/b.txt", "b"),
        ("COPY [ab].txt d /t/", "t/sub/two", "2"),
        ("COPY d /x", "x/one", "1"),
        ("COPY d/ /x/y/", "x/y/sub/two", "2"),
        ("COPY . /all", "all/d/one", "1"),
        ("COPY */one /t/", "t/one", "1"),
        ("COPY link /x", "x", "a"),
        ("COPY link /t/", "t/link", "a"),
        ("COPY ../../a.txt /x", "x", "a"),
        ("COPY [\"e f\", \"/x y\"]", "x y", "s"),
        ("ENV P=/p/q\nCOPY a.txt $P/", "p/q/a.txt", "a"),
        ("COPY <<f.txt /h/\n$NOPE-x\nf.txt", "h/f.txt", "-x\n"),
        ("ENV V=1\nCOPY <<\"f\" /h\n$V\nf", "h", "$V\n"),
        ("RUN ln -s /srv/real /link\nCOPY a.txt /link/", "srv/real/a.txt", "a"),
        ("RUN mkdir -p /srv/real && ln -s ../srv/real /tmp/up\nCOPY d /tmp/up", "srv/real/sub/two", "2"),
        ("RUN ln -s ../../../../../../../../etc/evil /esc\nCOPY a.txt /esc", "etc/evil", "a"),
        ("RUN echo old > /tmp/a.txt\nCOPY a.txt /tmp/", "tmp/a.txt", "a"),
        ("RUN ln -s /etc/passwd /tmp/a.txt\nCOPY a.txt /tmp/", "tmp/a.txt", "a"),
        ("RUN ln -s /elsewhere /l\nCOPY --link a.txt /l/", "l/a.txt", "a"),
    ] {
        let id = build(&world, &context, text);
        assert_eq!(world.read(&id, path), content, "{text}");
    }
    let id = build(&world, &context, "COPY d /x");
    assert_eq!(std::fs::read_link(world.find(&id, "x/out").unwrap()).unwrap(), Path::new("/etc/passwd"));
    assert!(!Path::new("/etc/evil").exists());
    world.assert_clean();
}

#[test]
fn directories_that_are_links_are_not_replaced() {
    let Some(world) = world() else { return };
    world.base();
    let context = world.context(&[("root/lib/x", "1"), ("f", "2")]);
    let result = world
        .build(&request(&context, "FROM base\nRUN mkdir -p /usr/lib && ln -s usr/lib /lib\nCOPY root /"));
    let error = result.err().unwrap();
    assert_eq!(error.message(), "Dockerfile:3: cannot copy to non-directory: /lib (in `COPY root /`)");
    let result = world.build(&request(&context, "FROM base\nRUN mkdir -p /t/f\nCOPY f /t/"));
    assert!(result.err().unwrap().message().contains("cannot replace to directory /t/f with file"));
    // A link that the same COPY put there leads nowhere either.
    std::fs::create_dir_all(context.join("one")).unwrap();
    std::fs::create_dir_all(context.join("two/x")).unwrap();
    symlink("/etc", context.join("one/x")).unwrap();
    std::fs::write(context.join("two/x/naru-escape"), "").unwrap();
    assert!(world.build(&request(&context, "FROM base\nCOPY one two /t/")).is_err());
    assert!(!Path::new("/etc/naru-escape").exists());
}

#[test]
fn owners_and_modes() {
    let Some(world) = world() else { return };
    world.base();
    let context = world.context(&[("f", "1"), ("d/x", "2"), ("run.sh", "#!")]);
    std::os::unix::fs::chown(context.join("f"), Some(77), Some(77)).unwrap();
    std::fs::set_permissions(context.join("run.sh"), std::fs::Permissions::from_mode(0o4755)).unwrap();
    std::fs::set_permissions(context.join("d"), std::fs::Permissions::from_mode(0o700)).unwrap();
    for (text, path, uid, gid, mode) in [
        ("COPY f /n/f", "n/f", 0, 0, 0o644),
        ("COPY f /n/f", "n", 0, 0, 0o755),
        ("COPY run.sh /", "run.sh", 0, 0, 0o4755),
        ("COPY --chown=app f /", "f", 10, 20, 0o644),
        ("COPY --chown=app:web d /n/d", "n/d/x", 10, 33, 0o644),
        ("COPY --chown=5 d /n/d", "n", 5, 5, 0o755),
        ("COPY --chown=5:6 --chmod=0750 run.sh /", "run.sh", 5, 6, 0o750),
        ("ENV M=600\nCOPY --chmod=$M f /", "f", 0, 0, 0o600),
        ("COPY . /all", "all/d", 0, 0, 0o700),
        // A directory of the image keeps what it is.
        ("RUN mkdir -m 711 /own\nCOPY --chown=5 f /own/", "own", 0, 0, 0o711),
    ] {
        let id = build(&world, &context, text);
        let found =
            world.find(&id, path).unwrap_or_else(|| panic!("{text}: no {path}")).symlink_metadata().unwrap();
        assert_eq!((found.uid(), found.gid(), found.mode() & 0o7777), (uid, gid, mode), "{text}");
    }
    // From another stage owners are kept.
    let text = "FROM base AS one\nCOPY --chown=7:8 f /f\nFROM base\nCOPY --from=one /f /g";
    let id = world.build(&request(&context, text)).unwrap().id;
    assert_eq!(world.find(&id, "g").unwrap().metadata().unwrap().uid(), 7);
    // Times are the source's.
    let id = build(&world, &context, "COPY f /");
    let (there, here) =
        (world.find(&id, "f").unwrap().metadata().unwrap(), context.join("f").metadata().unwrap());
    assert_eq!(there.mtime(), here.mtime());
}

#[test]
fn the_last_rules_of_dockerignore() {
    let Some(world) = world() else { return };
    world.base();
    let context = world.context(&[
        ("keep/a", "1"),
        ("drop/b", "2"),
        ("drop/keep/c", "3"),
        (".dockerignore", "drop\n!drop/keep\n"),
        ("Other.dockerignore", "keep\n"),
    ]);
    let id = build(&world, &context, "COPY . /x");
    assert!(world.find(&id, "x/keep/a").is_some());
    assert!(world.find(&id, "x/drop/keep/c").is_some());
    assert_eq!(world.find(&id, "x/drop/b"), None);
    assert!(world.build(&request(&context, "FROM base\nCOPY drop/b /")).is_err());
    let mut other = request(&context, "FROM base\nCOPY . /x");
    other.dockerfile =
        naru_build::DockerfileSource::Text { name: "Other".into(), text: "FROM base\nCOPY . /x".into() };
    let id = world.build(&other).unwrap().id;
    assert_eq!(world.find(&id, "x/keep"), None);
    assert!(world.find(&id, "x/drop/b").is_some());
}

#[test]
fn parents_keeps_the_directories() {
    let Some(world) = world() else { return };
    world.base();
    let context = world.context(&[("a.txt", "a"), ("d/one", "1"), ("d/sub/two", "2"), ("e/sub/three", "3")]);
    std::fs::set_permissions(context.join("d"), std::fs::Permissions::from_mode(0o750)).unwrap();
    for (text, expect) in [
        ("COPY --parents d/sub/two a.txt /x/", vec!["a.txt", "d/sub/two"]),
        ("COPY --parents d/./sub/two /x/", vec!["sub/two"]),
        ("COPY --parents ./*/sub/t* /x/", vec!["d/sub/two", "e/sub/three"]),
        ("COPY --parents ./**/t* /x/", vec!["d/sub/two", "e/sub/three"]),
        ("COPY --parents d /x/", vec!["d/one", "d/sub/two"]),
        ("COPY --parents --exclude=**/one d /x/", vec!["d/sub/two"]),
        ("COPY --parents d/n* /x/", vec![]),
        ("FROM base AS s\nCOPY d /s/d\nFROM base\nCOPY --from=s --parents /s/./d/one /x/", vec!["d/one"]),
    ] {
        let id = build(&world, &context, text);
        let all = ["a.txt", "d/one", "d/sub/two", "e/sub/three", "sub/two"];
        let found = all.iter().filter(|path| world.find(&id, &format!("x/{path}")).is_some());
        assert_eq!(found.copied().collect::<Vec<_>>(), expect, "{text}");
        if let Some(dir) = world.find(&id, "x/d").filter(|_| !text.contains("--from")) {
            assert_eq!(dir.metadata().unwrap().mode() & 0o777, 0o750, "{text}");
        }
    }
    let error = world.build(&request(&context, "FROM base\nCOPY --parents d/nope /x/")).err().unwrap();
    assert!(error.message().starts_with("Dockerfile:2: COPY failed: file not found"), "{error}");
    world.assert_clean();
}

#[test]
fn archives() {
    let Some(world) = world() else { return };
    world.base();
    let context = world.context(&[("in/dir/f", "packed"), ("plain.gz", "no archive"), ("x.bz2", "BZh9")]);
    for (flag, name) in [("-cf", "a.tar"), ("-czf", "a.tgz")] {
        let status = std::process::Command::new("tar")
            .args(["--owner=3", "--group=4", flag, name, "-C", "in", "dir"])
            .current_dir(&context)
            .status();
        if !status.is_ok_and(|status| status.success()) {
            println!("SKIP: needs tar to make the input");
            return;
        }
    }
    for name in ["a.tar", "a.tgz"] {
        let id = build(&world, &context, &format!("ADD {name} /x"));
        assert_eq!(world.read(&id, "x/dir/f"), "packed", "{name}");
        assert_eq!(world.find(&id, "x/dir/f").unwrap().metadata().unwrap().uid(), 3);
        let id = build(&world, &context, &format!("COPY {name} /x/"));
        assert!(world.find(&id, &format!("x/{name}")).is_some());
    }
    let id = build(&world, &context, "ADD plain.gz /x/");
    assert_eq!(world.read(&id, "x/plain.gz"), "no archive");
    let error = world.build(&request(&context, "FROM base\nADD x.bz2 /")).err().unwrap();
    assert!(error.message().contains("bzip2 and xz are not supported"), "{error}");
    world.assert_clean();
}
