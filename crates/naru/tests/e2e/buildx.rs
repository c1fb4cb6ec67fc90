//! `docker buildx build`, the stock plugin, through BuildKit's interface.

use crate::lab::{Lab, Out, collect};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;

pub const TESTS: &[(&str, fn(&Lab))] = &[
    ("buildx_builds_into_the_store", into_the_store),
    ("buildx_sends_only_what_changed", only_what_changed),
    ("buildx_shows_where_a_build_failed", failures),
    ("buildx_refuses_by_name", refusals),
    ("buildx_lends_secrets_and_directories", lent),
    ("buildx_bakes_and_prunes", bake_and_prune),
    ("buildx_writes_results_elsewhere", elsewhere),
    ("buildx_takes_archives_and_forwards_agents", archives_and_agents),
    ("buildx_checks_and_warns", checks),
];

/// Names the plugin where it is not installed for the docker CLI.
const PLUGIN_VARIABLE: &str = "NARU_TEST_BUILDX";
const PLUGIN_DIRS: [&str; 4] = [
    "/usr/local/lib/docker/cli-plugins",
    "/usr/local/libexec/docker/cli-plugins",
    "/usr/lib/docker/cli-plugins",
    "/usr/libexec/docker/cli-plugins",
];

fn plugin() -> Option<PathBuf> {
    let named = std::env::var_os(PLUGIN_VARIABLE).map(PathBuf::from);
    let installed = PLUGIN_DIRS.iter().map(|dir| Path::new(dir).join("docker-buildx"));
    named.into_iter().chain(installed).find(|path| path.exists())
}

/// The docker CLI with the plugin; `None`, and a word about it, where there is no plugin.
fn buildx(lab: &Lab) -> Option<impl Fn(&[&str]) -> Out> {
    let Some(plugin) = plugin() else {
        println!("SKIP: docker buildx isn't installed; {PLUGIN_VARIABLE} may name it");
        return None;
    };
    let config = config(lab);
    std::fs::create_dir_all(config.join("cli-plugins")).unwrap();
    let link = config.join("cli-plugins/docker-buildx");
    if !link.exists() {
        std::os::unix::fs::symlink(plugin, link).unwrap();
    }
    Some(|args: &[&str]| collect(command(lab, args), b""))
}

fn config(lab: &Lab) -> PathBuf {
    lab.dir.join("buildx-config")
}

fn command(lab: &Lab, args: &[&str]) -> Command {
    let mut command = lab.docker_command(args);
    command.env("DOCKER_CONFIG", config(lab)).env("DOCKER_BUILDKIT", "1").env("BUILDKIT_PROGRESS", "plain");
    command
}

fn context(lab: &Lab, name: &str, files: &[(&str, &str)]) -> String {
    let dir = lab.dir.join(name);
    for (path, text) in files {
        let path = dir.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    dir.display().to_string()
}

const STAGES: &str = "\
FROM busybox AS make
ARG WORD=default
RUN mkdir /out && echo \"$WORD\" > /out/word && echo to-stderr >&2
COPY --chmod=640 data/ /out/data/
FROM busybox AS unused
RUN exit 1
FROM busybox
WORKDIR /srv
COPY --from=make --chown=1000:50 /out/ ./
CMD [\"sh\", \"-c\", \"echo $(cat word) $(ls data) $(stat -c %u:%g word)\"]
FROM busybox AS last
";

fn into_the_store(lab: &Lab) {
    let Some(buildx) = buildx(lab) else { return };
    let files =
        [("Dockerfile", STAGES), ("data/kept", "x"), ("data/no.log", "x"), (".dockerignore", "**/*.log\n")];
    let dir = context(lab, "buildx-stages", &files);
    let id_file = lab.dir.join("buildx-id").display().to_string();
    let args = |rest: &[&str]| {
        let base = ["buildx", "build", "--target", "2", "--build-arg", "WORD=given", "--label", "a=b"];
        [&base[..], rest, &[dir.as_str()]].concat().into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let run = |rest: &[&str]| {
        let args = args(rest);
        buildx(&args.iter().map(String::as_str).collect::<Vec<_>>()).expect(0, "the build").stderr
    };
    let shown = run(&["-t", "bx:1", "-t", "bx:2", "--iidfile", &id_file]);
    for expect in
        ["[make 1/3] FROM docker.io/library/busybox:latest", "[make 2/3] RUN mkdir /out", "to-stderr"]
    {
        assert!(shown.contains(expect), "{expect:?} in {shown}");
    }
    assert!(shown.contains("[stage-2 3/3] COPY --from=make") && !shown.contains("unused"), "{shown}");
    assert_eq!(lab.ok(&["run", "--rm", "bx:1"]), "given kept 1000:50");
    let id = lab.ok(&["image", "inspect", "-f", "{{.Id}} {{.Config.Labels.a}}", "bx:2"]);
    assert_eq!(id, format!("{} b", std::fs::read_to_string(id_file).unwrap()));
    assert_eq!(run(&[]).matches("CACHED").count(), 4);
    assert_eq!(run(&["--no-cache"]).matches("CACHED").count(), 0);
    // `docker build` is the plugin as well.
    buildx(&["build", "-q", "--target", "make", &dir]).expect(0, "docker build");
    lab.ok(&["rmi", "bx:1", "bx:2"]);
}

fn only_what_changed(lab: &Lab) {
    let Some(buildx) = buildx(lab) else { return };
    let big = "x".repeat(100_000);
    let dockerfile =
        "FROM busybox\nCOPY . /all/\nCMD [\"sh\", \"-c\", \"cat /all/d/small; wc -c < /all/d/big\"]\n";
    let files = [("Dockerfile", dockerfile), ("d/big", &big), ("d/small", "first"), ("gone/file", "x")];
    let dir = context(lab, "buildx-changed", &files);
    let build = || {
        let out = buildx(&["buildx", "build", "-t", "changed", &dir]).expect(0, "the build");
        let sent = |line: &str| line.split_once("transferring context: ").map(|(_, rest)| rest.to_owned());
        let sent = out.stderr.lines().filter_map(sent).next_back().expect("the context's bytes");
        (sent.split('B').next().unwrap().to_owned(), lab.ok(&["run", "--rm", "changed"]))
    };
    assert_eq!(build(), ((dockerfile.len() + 100_006).to_string(), "first100000".to_owned()));
    assert_eq!(build(), ("0".to_owned(), "first100000".to_owned()));
    std::fs::write(Path::new(&dir).join("d/small"), "then").unwrap();
    std::fs::remove_dir_all(Path::new(&dir).join("gone")).unwrap();
    std::fs::write(Path::new(&dir).join("gone"), "a file").unwrap();
    assert_eq!(build(), ("10".to_owned(), "then100000".to_owned()));
    assert_eq!(lab.ok(&["run", "--rm", "changed", "cat", "/all/gone"]), "a file");
    lab.ok(&["rmi", "-f", "changed"]);
}

fn failures(lab: &Lab) {
    let Some(buildx) = buildx(lab) else { return };
    let files =
        [("Dockerfile", "FROM busybox\nRUN echo oops; exit 3\n"), ("unknown", "FROM busybox\nRUNN x\n")];
    let dir = context(lab, "buildx-failures", &files);
    let shown = buildx(&["buildx", "build", &dir]).expect(1, "a failing step").stderr;
    for expect in [
        " > [2/2] RUN echo oops; exit 3:",
        "   2 | >>> RUN echo oops; exit 3",
        "failed to solve: process \"/bin/sh -c echo oops; exit 3\" did not complete successfully: exit code: 3",
    ] {
        assert!(shown.contains(expect), "{expect:?} in {shown}");
    }
    let file = format!("{dir}/unknown");
    let shown = buildx(&["buildx", "build", "-f", &file, &dir]).expect(1, "a bad file").stderr;
    assert!(shown.contains("   2 | >>> RUNN x") && shown.contains("unknown instruction: RUNN"), "{shown}");
    let shown = buildx(&["buildx", "build", "-f", &format!("{dir}/none"), &dir]).expect(1, "no file").stderr;
    assert!(shown.contains("no such file or directory"), "{shown}");
    let shown = buildx(&["buildx", "build", "--target", "nope", &dir]).expect(1, "no stage").stderr;
    assert!(shown.contains("target stage \"nope\" could not be found"), "{shown}");
}

/// What naru has no answer for is said by name, before anything runs.
fn refusals(lab: &Lab) {
    let Some(buildx) = buildx(lab) else { return };
    let dir = context(lab, "buildx-refused", &[("Dockerfile", "FROM busybox\nRUN exit 9\n")]);
    for (args, expect) in [
        (&["--ulimit", "nofile=5"][..], "--ulimit is not supported by naru"),
        (&["--build-arg", "BUILDKIT_SYNTAX=some/frontend"], "is not supported by naru"),
        (
            &["--output", "type=tar,dest=/dev/null,compression=gzip"],
            "the attribute compression=gzip of the output tar",
        ),
        (&["--call", "outline"], "the build's subrequest \"frontend.outline\" is not supported by naru"),
        (&["--build-context", "a=https://localhost/a.git"], "the named context a="),
        (&["--allow", "security.insecure"], "the entitlement security.insecure is not supported by naru"),
    ] {
        let shown = buildx(&[&["buildx", "build"], args, &[&dir]].concat()).expect(1, "a refusal").stderr;
        assert!(shown.contains(expect) && !shown.contains("exit 9"), "{expect:?} in {shown}");
    }
}

fn lent(lab: &Lab) {
    let Some(buildx) = buildx(lab) else { return };
    let dockerfile = "\
# syntax=docker/dockerfile:1
FROM busybox
RUN --mount=type=secret,id=word cat /run/secrets/word | tr a-z A-Z > /word
RUN --mount=type=secret,id=absent [ ! -e /run/secrets/absent ]
RUN --mount=type=cache,target=/cache echo x >> /cache/runs && cp /cache/runs /runs
COPY --from=other . /other/
";
    let files =
        [("main/Dockerfile", dockerfile), ("other/kept", "x"), ("other/ü.no", "x"), ("secret", "hush")];
    let dir = context(lab, "buildx-lent", &files);
    std::fs::write(format!("{dir}/other/.dockerignore"), "ü.*\n").unwrap();
    let (secret, other) = (format!("id=word,src={dir}/secret"), format!("other={dir}/other"));
    let meta = format!("{dir}/meta.json");
    let main = format!("{dir}/main");
    let with = ["--secret", &secret, "--build-context", &other, "--metadata-file", &meta, "-t", "bx:lent"];
    for no_cache in [&[][..], &["--no-cache"]] {
        buildx(&[&["buildx", "build", &main], &with[..], no_cache].concat()).expect(0, "the build");
    }
    let shown = lab.ok(&["run", "--rm", "bx:lent", "sh", "-c", "cat /word; wc -l < /runs; ls -A /other"]);
    assert_eq!(shown.split_whitespace().collect::<Vec<_>>(), ["HUSH2", ".dockerignore", "kept"]);
    let id = lab.ok(&["image", "inspect", "-f", "{{.Id}}", "bx:lent"]);
    let meta = std::fs::read_to_string(meta).unwrap();
    assert!(meta.contains(&format!("\"containerimage.digest\": \"{id}\"")), "{meta}");
    assert!(!lab.ok(&["history", "--no-trunc", "bx:lent"]).contains("hush"));
    lab.ok(&["rmi", "bx:lent"]);
}

fn bake_and_prune(lab: &Lab) {
    let Some(buildx) = buildx(lab) else { return };
    let bake = "group \"default\" { targets = [\"one\", \"two\"] }
target \"one\" { tags = [\"bx:one\"] }
target \"two\" {
  tags = [\"bx:two\"]
  args = { WORD = \"baked\" }
}
";
    let dockerfile = "FROM busybox\nARG WORD=none\nRUN echo $WORD > /word\n";
    let dir = context(lab, "buildx-bake", &[("Dockerfile", dockerfile), ("docker-bake.hcl", bake)]);
    let file = format!("{dir}/docker-bake.hcl");
    let context_of = format!("*.context={dir}");
    let allow = format!("fs.read={dir}");
    buildx(&["buildx", "bake", "-f", &file, "--allow", &allow, "--set", &context_of]).expect(0, "bake");
    assert_eq!(lab.ok(&["run", "--rm", "bx:one", "cat", "/word"]), "none");
    assert_eq!(lab.ok(&["run", "--rm", "bx:two", "cat", "/word"]), "baked");
    let shown = buildx(&["buildx", "du"]).expect(0, "du").stdout;
    assert!(shown.contains("Total:") && shown.contains("build-cache"), "{shown}");
    lab.ok(&["rmi", "bx:one", "bx:two"]);
    buildx(&["buildx", "history", "ls"]).expect(0, "history ls");
    buildx(&["buildx", "prune", "-f"]).expect(0, "prune");
    assert!(!buildx(&["buildx", "du"]).expect(0, "du").stdout.contains("build-cache"));
}

/// `--output`: a directory, an archive, standard output; the store's list stays as it is.
fn elsewhere(lab: &Lab) {
    let Some(buildx) = buildx(lab) else { return };
    let dockerfile = "\
FROM busybox AS make
RUN mkdir -p /o/deep && echo one > /o/deep/one && ln /o/deep/one /o/again && ln -s deep/one /o/link \\
 && chmod 2755 /o/deep && echo gone > /o/gone && touch -d '2001-02-03 04:05:06' /o/again
RUN rm /o/gone
FROM scratch
COPY --from=make /o /
";
    let dir = context(lab, "buildx-elsewhere", &[("Dockerfile", dockerfile)]);
    let images = lab.ok(&["images", "-aq"]);
    let (local, tar) = (format!("{dir}/local"), format!("{dir}/result.tar"));
    buildx(&["buildx", "build", "-o", &local, &dir]).expect(0, "to a directory");
    let shown = lab.sh(&format!(
        "cd {local} && cat again deep/one && readlink link && stat -c '%a %h %Y' deep again && ls -A | tr '\\n' ' '"
    ));
    let lines: Vec<&str> = shown.stdout.lines().collect();
    assert_eq!(lines[..3], ["one", "one", "deep/one"], "{shown:?}");
    assert!(lines[3].starts_with("2755 ") && lines[4] == "644 2 981173106", "{shown:?}");
    assert_eq!(lines[5].trim(), "again deep link");
    buildx(&["buildx", "build", "--output", &format!("type=tar,dest={tar}"), &dir])
        .expect(0, "to an archive");
    let listed = lab.sh(&format!("tar tvf {tar}")).stdout;
    assert!(listed.contains("drwxr-sr-x 0/0") && listed.contains("link -> deep/one"), "{listed}");
    assert!(listed.contains("link to ") && !listed.contains("gone"), "{listed}");
    let streamed = buildx(&["buildx", "build", "-q", "-o", "-", &dir]).expect(0, "to standard output").stdout;
    assert!(streamed.contains("ustar"));
    assert_eq!(lab.ok(&["images", "-aq"]), images);
    // The build before has left its cache, whichever way its result went.
    let shown = buildx(&["buildx", "build", "-o", &local, &dir]).expect(0, "again").stderr;
    assert_eq!(shown.matches("CACHED").count(), 3, "{shown}");
    let denied = format!("type=local,dest={tar}/below-a-file");
    buildx(&["buildx", "build", "-o", &denied, &dir]).expect(1, "to where nothing can be");
}

fn archives_and_agents(lab: &Lab) {
    let Some(buildx) = buildx(lab) else { return };
    let dockerfile = "\
FROM busybox
COPY . /context
RUN --mount=type=ssh,id=here [ -S \"$SSH_AUTH_SOCK\" ] && stat -c %a \"$SSH_AUTH_SOCK\" > /mode
";
    let files = [("Dockerfile", dockerfile), ("a.log", "x"), (".dockerignore", "*.log\n")];
    let dir = context(lab, "buildx-archive", &files);
    lab.sh(&format!("tar -C {dir} -czf {dir}.tgz .")).expect(0, "an archive");
    let archive = std::fs::read(format!("{dir}.tgz")).unwrap();
    let agent = lab.dir.join("buildx-agent");
    let _listener = UnixListener::bind(&agent).unwrap();
    let ssh = format!("here={}", agent.display());
    let build = command(lab, &["buildx", "build", "--ssh", &ssh, "-t", "bx:archive", "-"]);
    collect(build, &archive).expect(0, "a build of an archive");
    let shown = lab.ok(&["run", "--rm", "bx:archive", "sh", "-c", "cat /mode; ls -A /context"]);
    // As with BuildKit, an archive's ignore rules are not looked at.
    assert_eq!(shown.lines().collect::<Vec<_>>(), ["600", ".dockerignore", "Dockerfile", "a.log"]);
    let required = format!("{dir}/required");
    std::fs::write(&required, "FROM busybox\nRUN --mount=type=ssh,id=other,required true\n").unwrap();
    let shown =
        buildx(&["buildx", "build", "--ssh", &ssh, "-f", &required, &dir]).expect(1, "another agent").stderr;
    assert!(shown.contains("unset ssh forward key other"), "{shown}");
    lab.ok(&["rmi", "bx:archive"]);
}

fn checks(lab: &Lab) {
    let Some(buildx) = buildx(lab) else { return };
    let files = [
        ("Dockerfile", "from busybox AS a\nMAINTAINER me\nRUN true\n"),
        ("good", "FROM busybox\nRUN true\n"),
        ("bad", "FROM busybox\nRUNN true\n"),
    ];
    let dir = context(lab, "buildx-checks", &files);
    let shown = buildx(&["buildx", "build", "--check", &dir]).expect(1, "a check with findings").stdout;
    assert!(shown.contains("Check complete, 3 warnings have been found!"), "{shown}");
    assert!(
        shown.contains("WARNING: MaintainerDeprecated") && shown.contains("   2 | >>> MAINTAINER me"),
        "{shown}"
    );
    let good = format!("{dir}/good");
    let shown = buildx(&["buildx", "build", "--check", "-f", &good, &dir]).expect(0, "a good file").stdout;
    assert!(shown.contains("no warnings found"), "{shown}");
    let bad = format!("{dir}/bad");
    let shown = buildx(&["buildx", "build", "--check", "-f", &bad, &dir]).expect(1, "a bad file");
    assert!(shown.stderr.contains("unknown instruction: RUNN"), "{shown:?}");
    let caches = ["--cache-to", "type=inline", "--cache-from", "type=registry,ref=127.0.0.1:1/x"];
    let shown = buildx(&[&["--debug", "buildx", "build"], &caches[..], &["-f", &good, &dir]].concat());
    let shown = shown.expect(0, "caches are warned of").stderr;
    assert!(
        shown.contains("--cache-to is left out") && shown.contains("--cache-from is left out"),
        "{shown}"
    );
}
