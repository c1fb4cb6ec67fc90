//! What Dockerfiles, contexts and base images did to the hosts of other builders: each case is a hole that BuildKit,
//! buildah or Docker had, and shows that naru doesn't have it.

use crate::lab::{Lab, Out};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Stdio;

pub const TESTS: &[(&str, fn(&Lab))] = &[
    ("build_mounts_stay_in_their_source", mounts_stay),
    ("build_cache_mounts_stay_in_the_cache", caches_stay),
    ("build_takes_mounts_down_where_it_made_them", teardown),
    ("build_writes_beneath_its_root", writes_stay),
    ("build_reads_contexts_beneath_their_root", contexts_stay),
    ("build_reads_hostile_user_files", user_files),
    ("build_cache_is_not_poisoned_by_images", cache_is_own),
    ("build_grants_no_network_by_itself", host_network),
    ("build_keeps_secrets_out_of_the_image", secrets),
];

/// A directory of the host with a file that no build may see or change.
struct Victim {
    dir: PathBuf,
}

impl Victim {
    fn new(lab: &Lab, name: &str) -> Self {
        let dir = lab.dir.join(name);
        fs::create_dir_all(dir.join("sub")).unwrap();
        fs::write(dir.join("secret"), "of the host").unwrap();
        Self { dir }
    }

    fn path(&self) -> String {
        self.dir.display().to_string()
    }

    fn unharmed(&self) {
        let mut names: Vec<_> =
            fs::read_dir(&self.dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["secret", "sub"], "the host's directory was changed");
        assert_eq!(fs::read_to_string(self.dir.join("secret")).unwrap(), "of the host");
        assert_eq!(fs::read_dir(self.dir.join("sub")).unwrap().count(), 0);
    }
}

fn context(lab: &Lab, name: &str) -> PathBuf {
    let dir = lab.dir.join(name);
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join("f"), "of the context").unwrap();
    dir
}

fn build(lab: &Lab, dir: &Path, dockerfile: &str) -> Out {
    fs::write(dir.join("Dockerfile"), dockerfile).unwrap();
    lab.docker(&["build", "-t", "hostile", "--no-cache", &dir.display().to_string()])
}

fn refused(lab: &Lab, dir: &Path, dockerfile: &str, why: &str) {
    let out = build(lab, dir, dockerfile);
    assert!(out.code != 0 && out.stderr.contains(why), "{dockerfile}: {out:?}");
}

/// CVE-2024-1753: the source of a bind mount was a symbolic link of the image, followed on the host. CVE-2024-9407: an option
/// of the mount went to the kernel unread.
fn mounts_stay(lab: &Lab) {
    let (victim, dir) = (Victim::new(lab, "cve-bind"), context(lab, "cve-bind-context"));
    let path = victim.path();
    let evil = format!(
        "FROM busybox AS evil\nRUN ln -s / /root-of && ln -s {path} /way && ln -s ../../../../.. /up\n"
    );
    for source in [format!("/root-of{path}"), "/way".into(), format!("/up{path}"), format!("/../..{path}")] {
        let mount = format!("--mount=type=bind,from=evil,source={source},target=/m,rw");
        let out =
            build(lab, &dir, &format!("{evil}FROM busybox\nRUN {mount} cat /m/secret; touch /m/pwned\n"));
        assert!(!out.stdout.contains("of the host"), "{source}: {out:?}");
        victim.unharmed();
    }
    symlink(&path, dir.join("way")).unwrap();
    let out =
        build(lab, &dir, "FROM busybox\nRUN --mount=type=bind,source=way,target=/m,rw touch /m/pwned\n");
    assert_ne!(out.code, 0, "{out:?}");
    victim.unharmed();
    for option in ["bind-propagation=rshared", "z", "O", "idmap"] {
        refused(lab, &dir, &format!("FROM busybox\nRUN --mount=type=bind,target=/m,{option} true\n"), option);
    }
}

/// CVE-2024-9675: a cache mount's id or source led out of the cache. CVE-2024-23651 and CVE-2024-11218: a directory of a
/// shared cache became a link while another build mounted what was below it.
fn caches_stay(lab: &Lab) {
    let (victim, dir) = (Victim::new(lab, "cve-cache"), context(lab, "cve-cache-context"));
    let path = victim.path();
    for field in [
        "id=../../../../../../../../..".to_owned(),
        format!("id=../../../../../../../..{path}"),
        format!("id={path}"),
        format!("id=c,source=../../../../../../../..{path}"),
        format!("id=c,source={path}"),
    ] {
        let out = build(
            lab,
            &dir,
            &format!(
                "FROM busybox\nRUN --mount=type=cache,{field},target=/c cat /c/secret; touch /c/pwned\n"
            ),
        );
        assert!(!out.stdout.contains("of the host"), "{field}: {out:?}");
        victim.unharmed();
    }
    // The race needs a directory within the cache as the source, and there is no such thing.
    refused(
        lab,
        &dir,
        "FROM busybox\nRUN --mount=type=cache,id=c,source=d,target=/m true\n",
        "the cache has no directory d",
    );
    lab.ok(&["builder", "prune", "-af"]);
}

/// CVE-2024-23652: the command put a link in the place of a mount point's directory, and the builder removed the empty
/// mount point behind it.
fn teardown(lab: &Lab) {
    let (victim, dir) = (Victim::new(lab, "cve-teardown"), context(lab, "cve-teardown-context"));
    let path = victim.path();
    for mount in ["type=tmpfs", "type=cache,id=t", "type=bind"] {
        let swap = format!("mv /x /y && ln -s {path} /x");
        let text = format!("FROM busybox\nRUN --mount={mount},target=/x/sub {swap}\n");
        build(lab, &dir, &text).expect(0, "a command that swaps a mount point's directory");
        victim.unharmed();
    }
    fs::write(dir.join("empty"), "").unwrap();
    let text = format!(
        "FROM busybox\nRUN --mount=type=bind,source=empty,target=/x/secret mv /x /y && ln -s {path} /x\n"
    );
    build(lab, &dir, &text).expect(0, "the same with a file");
    victim.unharmed();
}

/// CVE-2014-6407, CVE-2020-10696: links in an image or an archive led what was copied out of the image.
fn writes_stay(lab: &Lab) {
    let (victim, dir) = (Victim::new(lab, "cve-write"), context(lab, "cve-write-context"));
    let path = victim.path();
    symlink(&path, dir.join("way")).unwrap();
    fs::create_dir_all(dir.join("second/way")).unwrap();
    fs::write(dir.join("second/way/pwned"), "x").unwrap();
    let tar = |args: &str| {
        let out = lab.sh(&format!("cd {} && tar {args}", dir.display()));
        assert_eq!(out.code, 0, "{out:?}");
    };
    // A link, and then a file through it.
    tar("-cf evil.tar way && tar -rf evil.tar -C second way/pwned");
    tar(&format!("-Pcf up.tar --transform s,^,../../../../../../..{path}/, f"));
    fs::remove_dir_all(dir.join("second")).unwrap();
    fs::remove_file(dir.join("way")).unwrap();
    for lines in [
        "COPY f /way/pwned",
        "COPY --link f /way/pwned",
        "ADD evil.tar /",
        "ADD evil.tar /way/",
        "ADD up.tar /",
        "WORKDIR /way/pwned",
        "WORKDIR /way\nCOPY f pwned",
        "VOLUME /way/pwned",
        "RUN --mount=type=tmpfs,target=/way/pwned true",
        "COPY --from=evil /way/secret /s",
        "COPY --from=evil --parents /way/* /s/",
    ] {
        let text =
            format!("FROM busybox AS evil\nRUN ln -s {path} /way\nFROM evil\n{lines}\nRUN cat /s || true\n");
        let out = build(lab, &dir, &text);
        assert!(!out.stdout.contains("of the host"), "{lines}: {out:?}");
        victim.unharmed();
    }
}

/// The context is what the client sent: neither a link in it nor `..` shows a file of the daemon's host. CVE-2019-13139: an
/// address with a reference became an option of `git`.
fn contexts_stay(lab: &Lab) {
    let (victim, dir) = (Victim::new(lab, "cve-context"), context(lab, "cve-context-context"));
    let path = victim.path();
    symlink(&path, dir.join("way")).unwrap();
    for source in
        ["way/secret", "../cve-context/secret", &format!("../../../../../../..{path}/secret"), "way/*"]
    {
        let out = build(lab, &dir, &format!("FROM busybox\nCOPY {source} /s\nRUN cat /s\n"));
        assert!(out.code != 0 && !out.stdout.contains("of the host"), "{source}: {out:?}");
    }
    // The stock client would resolve these itself.
    for (link, parameter) in [("Dockerfile", ""), (".dockerignore", ""), ("other", "?dockerfile=other")] {
        let _ = fs::remove_file(dir.join("Dockerfile"));
        if link == ".dockerignore" {
            fs::write(dir.join("Dockerfile"), "FROM busybox\nCOPY . /c\n").unwrap();
        }
        symlink(format!("{path}/secret"), dir.join(link)).unwrap();
        let script = format!(
            "cd {} && tar -c . | curl -s --unix-socket {} -X POST -H 'Content-Type: application/x-tar' --data-binary @- 'http://d/v1.41/build{parameter}'",
            dir.display(),
            lab.socket().display()
        );
        let out = lab.sh(&script);
        assert!(!out.stdout.contains("of the host"), "{link}: {out:?}");
        fs::remove_file(dir.join(link)).unwrap();
    }
    let touched = lab.dir.join("cve-context-touched");
    let remote = format!("https://127.0.0.1:1/x.git%23--upload-pack=touch%20{};:", touched.display());
    let (status, body) = lab.api("POST", &format!("/v1.41/build?remote={remote}"), "");
    assert!(status >= 400 && body.contains("remote"), "{status} {body}");
    assert!(!touched.exists());
    victim.unharmed();
}

/// Names of users come from files of the image: a link, a pipe or an endless file in their place.
fn user_files(lab: &Lab) {
    let dir = context(lab, "cve-users-context");
    for (make, expect) in [
        ("ln -sf /proc/kmsg /etc/passwd", None),
        ("rm -f /etc/passwd && mkfifo /etc/passwd", None),
        ("rm -f /etc/passwd && mkdir /etc/passwd", None),
        ("ln -sf /etc/passwd /etc/passwd", None),
        ("truncate -s 67108864 /etc/passwd", None),
        ("printf 'bob:x:4294967295:0::/:\\n' > /etc/passwd", None),
        ("printf 'bob:x:7:8::/:\\n' > /p && ln -sf /p /etc/passwd", Some("7:8")),
    ] {
        let text = format!("FROM busybox\nRUN {make}\nCOPY --chown=bob f /f\nRUN stat -c owner=%u:%g /f\n");
        let out = build(lab, &dir, &text);
        match expect {
            Some(owner) => assert!(out.stdout.contains(&format!("owner={owner}")), "{make}: {out:?}"),
            None => {
                let told = out.stderr.contains("unable to find user") || out.stderr.contains("is no owner");
                assert!(out.code != 0 && told, "{make}: {out:?}");
            }
        }
    }
}

/// CVE-2024-24557: an image that somebody else made was taken for the result of a step, because its configuration looked alike.
fn cache_is_own(lab: &Lab) {
    let dir = context(lab, "cve-poison-context");
    fs::write(dir.join("pwned"), "x").unwrap();
    let out = lab.sh(&format!("cd {} && tar -cf evil.tar pwned", dir.display()));
    assert_eq!(out.code, 0, "{out:?}");
    let archive = dir.join("evil.tar").display().to_string();
    let lines = ["LABEL a=b", "CMD [\"/f\"]"];
    lab.ok(&["import", "-c", lines[0], "-c", lines[1], "-m", lines[0], &archive, "poison"]);
    fs::write(dir.join("Dockerfile"), format!("FROM scratch\n{}\nCOPY f /f\n", lines.join("\n"))).unwrap();
    lab.ok(&["build", "-t", "hostile", &dir.display().to_string()]);
    let listed = lab.sh(&format!(
        "docker -H unix://{} save hostile | tar -xO --wildcards '*/layer.tar' 'blobs/sha256/*' 2>/dev/null | tar -ti 2>/dev/null",
        lab.socket().display()
    ));
    assert!(!listed.stdout.contains("pwned"), "{listed:?}");
    assert_eq!(lab.ok(&["inspect", "-f", "{{len .RootFS.Layers}}", "hostile"]), "1");
    lab.ok(&["rmi", "poison", "hostile"]);
}

/// The entitlement network.host is the user's to give, not the Dockerfile's or the base image's to take.
fn host_network(lab: &Lab) {
    let dir = context(lab, "cve-network-context");
    let text = "FROM busybox\nRUN --network=host ip link > /links\n";
    refused(lab, &dir, text, "network.host is not allowed");
    build(lab, &dir, "FROM busybox\nONBUILD RUN --network=host true\n")
        .expect(0, "a base image with ONBUILD");
    lab.ok(&["tag", "hostile", "hostile-base"]);
    refused(lab, &dir, "FROM hostile-base\n", "network.host is not allowed");
    fs::write(dir.join("Dockerfile"), text).unwrap();
    let path = dir.display().to_string();
    lab.ok(&["build", "--network", "host", &path]);
    lab.naru(&["build", "--allow", "network.host", "-t", "hostile", &path], &dir).expect(0, "allowed");
    let out = lab.naru(&["build", "--allow", "security.insecure", &path], &dir);
    assert!(out.code != 0 && out.stderr.contains("network.host"), "{out:?}");
    refused(lab, &dir, "FROM busybox\nRUN --security=insecure true\n", "security.insecure is not allowed");
    lab.ok(&["rmi", "-f", "hostile-base"]);
}

/// A secret's value is in no layer, no configuration, no history and no log.
fn secrets(lab: &Lab) {
    const VALUE: &str = "swordfish-7491";
    let dir = context(lab, "cve-secret-context");
    fs::write(dir.join("value"), VALUE).unwrap();
    fs::write(dir.join(".dockerignore"), "value\n").unwrap();
    let text = "FROM busybox\nRUN --mount=type=secret,id=s,env=S --mount=type=secret,id=s \
                test \"$S\" = \"$(cat /run/secrets/s)\" && test ${#S} = 14 && ls -la /run/secrets > /seen\n";
    fs::write(dir.join("Dockerfile"), text).unwrap();
    let secret = format!("id=s,src={}", dir.join("value").display());
    lab.naru(&["build", "--secret", &secret, "-t", "hostile", &dir.display().to_string()], &dir)
        .expect(0, "a build");
    let mut save = lab.docker_command(&["save", "hostile"]);
    save.stdout(Stdio::piped());
    let saved = save.output().unwrap().stdout;
    let holds = |bytes: &[u8]| bytes.windows(VALUE.len()).any(|part| part == VALUE.as_bytes());
    assert!(!holds(&saved), "the secret is in the image");
    for args in [&["inspect", "hostile"][..], &["history", "--no-trunc", "hostile"]] {
        assert!(!lab.ok(args).contains(VALUE), "{args:?}");
    }
    assert!(!holds(&fs::read(lab.dir.join("daemon.log")).unwrap()), "the secret is in the log");
    let found = lab.sh(&format!("grep -rls {VALUE} {0}/root {0}/run", lab.dir.display()));
    assert_eq!(found.stdout, "", "the secret was left on disk");
    lab.ok(&["rmi", "hostile"]);
}
