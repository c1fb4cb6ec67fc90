//! `docker build` without buildx, against naru's own builder.

use crate::lab::Lab;
use std::path::PathBuf;

pub const TESTS: &[(&str, fn(&Lab))] =
    &[("build_a_multi_stage_image", multi_stage), ("build_cache", cache), ("push_and_pull", push_and_pull)];

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
