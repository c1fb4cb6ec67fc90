//! `docker build` without buildx, against naru's own builder.

use crate::lab::Lab;
use std::path::PathBuf;

pub const TESTS: &[(&str, fn(&Lab))] = &[
    ("build_a_multi_stage_image", multi_stage),
    ("build_cache", cache),
    ("build_from_a_kept_context", kept_context),
    ("push_and_pull", push_and_pull),
    ("build_lends_secrets_and_takes_contexts", lent),
    ("build_weighs_less_than_a_service", weight),
    ("build_takes_a_dockerfile_from_elsewhere", from_elsewhere),
];

fn context(lab: &Lab, name: &str, files: &[(&str, &str)]) -> PathBuf {
    let dir = lab.dir.join(name);
    for (path, text) in files {
        let path = dir.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    dir
}

fn multi_stage(lab: &Lab) {
    let dockerfile = "\
ARG BASE=busybox
FROM ${BASE} AS make
ARG WORD=default
RUN mkdir /out && echo \"$WORD\" > /out/word && ln -s word /out/link && chmod 640 /out/word
COPY data/ /out/data/

FROM ${BASE}
ENV GREETING=\"hello there\" \\
    EMPTY=
WORKDIR /srv/app
COPY --from=make --chown=1000:50 /out/ ./
COPY --chmod=700 run.sh /usr/bin/run.sh
RUN <<EOF
set -e
echo heredoc > /srv/heredoc
EOF
USER 1000:50
EXPOSE 8080/tcp
VOLUME /srv/state
LABEL a=b c=\"d e\"
STOPSIGNAL SIGINT
HEALTHCHECK --interval=5s CMD true
ENTRYPOINT [\"/usr/bin/run.sh\"]
CMD [\"from\", \"cmd\"]
";
    let dir = context(
        lab,
        "stages",
        &[
            ("Dockerfile", dockerfile),
            (
                "run.sh",
                "#!/bin/sh\necho $GREETING $(cat /srv/app/word) $(cat /srv/heredoc) $(ls data) $(id -u) $@\n",
            ),
            ("data/kept", "x"),
            ("data/ignored.log", "x"),
            (".dockerignore", "**/*.log\n"),
        ],
    );
    let out = lab
        .docker(&["build", "-t", "staged:1", "--build-arg", "WORD=given", dir.to_str().unwrap()])
        .expect(0, "the build");
    assert!(out.stdout.contains("Step 1/") && out.stdout.contains("Successfully tagged staged:1"), "{out:?}");
    // `run.sh` is 0700 of root: the image's user can't execute it.
    lab.docker(&["run", "--rm", "staged:1"]).expect(126, "a file of mode 0700 of another user");
    let said = lab.ok(&["run", "--rm", "-u", "0", "staged:1"]);
    assert_eq!(said, "hello there given heredoc kept 0 from cmd");
    assert_eq!(
        lab.ok(&["run", "--rm", "--entrypoint", "stat", "staged:1", "-c", "%u:%g %a", "/srv/app/word"]),
        "1000:50 640"
    );
    let view = lab.ok(&["image", "inspect", "-f", "{{.Config.User}} {{.Config.WorkingDir}} {{.Config.StopSignal}} {{.Config.Labels.c}} {{json .Config.ExposedPorts}} {{json .Config.Volumes}}", "staged:1"]);
    assert_eq!(view, r#"1000:50 /srv/app SIGINT d e {"8080/tcp":{}} {"/srv/state":{}}"#);
    lab.ok(&["rmi", "staged:1"]);
}

fn cache(lab: &Lab) {
    let dir = context(
        lab,
        "cached",
        &[
            (
                "Dockerfile",
                "FROM busybox\nRUN cat /proc/sys/kernel/random/uuid > /first\nCOPY file /file\nRUN cat /proc/sys/kernel/random/uuid > /second\n",
            ),
            ("file", "one"),
        ],
    );
    let path = dir.to_str().unwrap().to_owned();
    let build = || {
        lab.ok(&["build", "-t", "cached", &path]);
        lab.ok(&["run", "--rm", "busybox", "true"]);
        let read = |file: &str| lab.ok(&["run", "--rm", "cached", "cat", file]);
        (read("/first"), read("/second"))
    };
    let first = build();
    assert_eq!(build(), first, "nothing changed, yet it was built again");
    std::fs::write(dir.join("file"), "two").unwrap();
    let changed = build();
    assert_eq!(changed.0, first.0, "the step before the change ran again");
    assert_ne!(changed.1, first.1, "the step after the change did not run");
    // The same content under a new time is the same.
    std::fs::write(dir.join("file"), "one").unwrap();
    assert_eq!(build(), first);
    lab.ok(&["build", "--no-cache", "-t", "cached", &path]);
    lab.ok(&["rmi", "-f", "cached"]);
}

/// `naru build` reads the directory itself, and copies only what changed since the last build.
fn kept_context(lab: &Lab) {
    let dockerfile = "\
FROM busybox
COPY data/one /first/one
COPY . /all/
RUN --mount=type=bind,target=/bound,rw sh -c 'echo spoilt > /bound/data/one; cat /bound/data/one > /bound-one'
COPY data/one /second/one
RUN cp /first/one /second/one
";
    let files = [
        ("Dockerfile", dockerfile),
        ("data/one", "one"),
        ("data/two", "two"),
        ("data/no.log", "x"),
        (".dockerignore", "**/*.log\nDockerfile\n"),
    ];
    let dir = context(lab, "kept", &files);
    std::fs::hard_link(dir.join("data/two"), dir.join("data/also-two")).unwrap();
    let build = || {
        lab.naru(&["build", "-t", "kept", "."], &dir).expect(0, "a build from the directory");
        lab.ok(&[
            "run",
            "--rm",
            "kept",
            "sh",
            "-c",
            "cat /all/data/* /bound-one; ls -A /all; [ /all/data/two -ef /all/data/also-two ] && echo same; true",
        ])
    };
    let kept = lab.dir.join("root/build-cache/contexts");
    let count = || std::fs::read_dir(&kept).map_or(0, Iterator::count);
    // Other tests build as well.
    let before = count();
    assert_eq!(build(), "twoonetwospoilt\n.dockerignore\ndata\nsame");
    // The same size and the same time: only the time of the change tells.
    let time = std::fs::metadata(dir.join("data/one")).unwrap().modified().unwrap();
    std::fs::write(dir.join("data/one"), "new").unwrap();
    std::fs::File::options().append(true).open(dir.join("data/one")).unwrap().set_modified(time).unwrap();
    std::fs::remove_file(dir.join("data/also-two")).unwrap();
    assert_eq!(build(), "newtwospoilt\n.dockerignore\ndata");
    assert_eq!(count(), before + 1, "one directory, one copy");
    lab.ok(&["builder", "prune", "-af"]);
    assert_eq!(count(), 0);
    assert_eq!(lab.ok(&["run", "--rm", "kept", "cat", "/second/one"]), "new");
    lab.ok(&["rmi", "-f", "kept"]);
}

/// A real registry: Debian's docker-registry.
fn push_and_pull(lab: &Lab) {
    let data = lab.dir.join("registry");
    std::fs::create_dir_all(&data).unwrap();
    let config = data.join("config.yml");
    std::fs::write(&config, format!("version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: 127.0.0.1:5055}}\n", data.display())).unwrap();
    let mut registry = lab.inside("docker-registry");
    registry
        .arg("serve")
        .arg(&config)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null());
    let mut registry = registry.spawn().unwrap();
    crate::lab::wait_for("the registry", || lab.sh("curl -sm 1 http://127.0.0.1:5055/v2/").code == 0);
    let id = lab.ok(&["image", "inspect", "-f", "{{.Id}}", "busybox"]);
    lab.ok(&["tag", "busybox", "127.0.0.1:5055/library/busybox:pushed"]);
    let pushed = lab.ok(&["push", "127.0.0.1:5055/library/busybox:pushed"]);
    assert!(pushed.contains("digest: sha256:"), "{pushed}");
    lab.ok(&["rmi", "127.0.0.1:5055/library/busybox:pushed"]);
    let pulled = lab.ok(&["pull", "127.0.0.1:5055/library/busybox:pushed"]);
    assert!(
        pulled.contains("Status: Downloaded newer image for 127.0.0.1:5055/library/busybox:pushed"),
        "{pulled}"
    );
    assert_eq!(lab.ok(&["image", "inspect", "-f", "{{.Id}}", "127.0.0.1:5055/library/busybox:pushed"]), id);
    let out = lab.docker(&["pull", "127.0.0.1:5055/library/missing:1"]).expect(1, "pulling what isn't there");
    assert!(out.stderr.contains("not found") || out.stderr.contains("manifest unknown"), "{out:?}");
    lab.ok(&["rmi", "127.0.0.1:5055/library/busybox:pushed"]);
    let _ = registry.kill();
    let _ = registry.wait();
}

/// What `naru build` has beyond Docker's old interface, with steps that run in real containers.
fn lent(lab: &Lab) {
    let dockerfile = "\
FROM named AS tools
FROM busybox
COPY --from=local /greeting /greeting
RUN --mount=type=secret,id=tok,mode=0440,gid=50 cat /run/secrets/tok > /seen && stat -c '%a %g' /run/secrets/tok >> /seen
RUN --mount=type=secret,id=tok,env=TOK --mount=type=ssh,required echo $TOK >> /seen; stat -c %F $SSH_AUTH_SOCK >> /seen
RUN --mount=type=bind,target=/in,rw echo gone > /in/new && cat /in/new >> /seen; grep far /etc/hosts >> /seen
COPY --parents --exclude=**/skip deep/er /kept/
CMD echo no $NOPE
";
    let files = [
        ("Dockerfile", dockerfile),
        ("deep/er/file", "x"),
        ("deep/er/skip", "x"),
        ("other/greeting", "hello\n"),
    ];
    let dir = context(lab, "lent", &files);
    std::fs::write(lab.dir.join("tok"), "s3cret\n").unwrap();
    let agent = lab.dir.join("agent");
    let _listener = std::os::unix::net::UnixListener::bind(&agent).unwrap();
    let secret = format!("id=tok,src={}", lab.dir.join("tok").display());
    let ssh = format!("default={}", agent.display());
    let flags = [
        "build",
        "-t",
        "lent",
        "--secret",
        &secret,
        "--ssh",
        &ssh,
        "--add-host",
        "far:10.1.2.3",
        "--build-context",
        "named=docker-image://busybox",
        "--build-context",
        "local=other",
        ".",
    ];
    lab.naru(&flags, &dir).expect(0, "build");
    let seen = lab.ok(&[
        "run",
        "--rm",
        "lent",
        "sh",
        "-c",
        "cat /greeting /seen; ls /kept/deep/er; ls -d /run /in 2>&1; true",
    ]);
    let expect = "hello\ns3cret\n440 50\ns3cret\nsocket\ngone\n10.1.2.3\tfar\n";
    assert!(seen.starts_with(expect), "{seen:?}");
    // Nothing stays of what was mounted, nor of the places where it was.
    let after = seen.strip_prefix(expect).unwrap_or_default();
    let gone = |path: &str| format!("ls: {path}: No such file or directory");
    assert_eq!(after, format!("file\n{}\n{}", gone("/run"), gone("/in")));
    let found = lab.naru(&["build", "--check", "."], &dir).expect(1, "check");
    assert!(found.stdout.contains("WARNING: JSONArgsRecommended - https://"), "{found:?}");
    assert!(found.stdout.contains("   8 | >>> CMD echo no $NOPE"), "{found:?}");
    std::fs::remove_dir_all(&dir).unwrap();
}

/// All steps of all builds are in one control group of little weight, so that they can't starve a service.
fn weight(lab: &Lab) {
    let dir = context(lab, "weight", &[("Dockerfile", "FROM busybox\nRUN cat /proc/self/cgroup\n")]);
    let shown = lab.ok(&["build", "--no-cache", "--network", "host", &dir.display().to_string()]);
    // A namespace of control groups shows the step's own as the root: its parent is what the host sees.
    let of_builds = |file: &str| {
        let found = lab
            .sh(&format!("cat /sys/fs/cgroup/*/{0}/build/{file} /sys/fs/cgroup/{0}/build/{file}", lab.name));
        found.stdout.trim().to_owned()
    };
    if lab.sh("grep -c . /sys/fs/cgroup/cgroup.controllers").code == 0 {
        assert_eq!(of_builds("cpu.weight"), "5", "{shown}");
    } else {
        assert_eq!(of_builds("cpu.shares"), "128", "{shown}");
    }
}

/// The stock CLI ends such an archive with the last member's content, without padding.
fn from_elsewhere(lab: &Lab) {
    let dir = context(
        lab,
        "elsewhere",
        &[("Made", "FROM busybox\nCOPY . /x\nCMD [\"ls\", \"/x\"]\n"), ("c/a", "a\n")],
    );
    let (file, path) = (dir.join("Made").display().to_string(), dir.join("c").display().to_string());
    lab.ok(&["build", "-q", "-t", "elsewhere", "-f", &file, &path]);
    let listed = lab.ok(&["run", "--rm", "elsewhere"]);
    assert!(listed.lines().any(|name| name == "a"), "{listed}");
    lab.ok(&["rmi", "elsewhere"]);
}
