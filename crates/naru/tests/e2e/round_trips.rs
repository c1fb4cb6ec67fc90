//! Images through other tools and back: what one wrote the other reads, and ids, layers and manifests keep
//! their digests: podman, buildah, skopeo and Debian's dockerd, or the dockerds that `NARU_TEST_DOCKERD` names (paths
//! separated by colons; one before Docker 25 writes the old form of archives).

use crate::lab::{Lab, Out, collect, wait_for};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

pub const TESTS: &[(&str, fn(&Lab))] = &[
    ("round_trip_debians_registry", debians_registry),
    ("round_trip_own_registry", own_registry),
    ("round_trip_archives", archives),
    ("round_trip_dockerd", dockerds),
];

const DOCKERDS: &str = "NARU_TEST_DOCKERD";
const DEBIANS_DOCKERD: &str = "/usr/sbin/dockerd";
pub const DEBIANS: &str = "127.0.0.1:5057";
pub const OWN: &str = "127.0.0.1:5058";
pub const BUILT: &str = "team/trip:1";
const MADE_THERE: &str = "team/made-there:1";

/// A process that ends with the test.
pub struct Peer(Child);

impl Drop for Peer {
    fn drop(&mut self) {
        let pid = self.0.id().to_string();
        // Ended politely: a dockerd has a containerd to end.
        let _ = Command::new("kill").arg(&pid).status();
        let _ = self.0.wait();
    }
}

impl Peer {
    fn start(mut command: Command, log: &Path) -> Self {
        let log = std::fs::File::create(log).unwrap();
        let err = log.try_clone().unwrap();
        Self(command.stdin(Stdio::null()).stdout(log).stderr(err).spawn().unwrap())
    }
}

pub fn scratch(lab: &Lab, name: &str) -> PathBuf {
    let dir = lab.dir.join(name);
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

pub fn run(lab: &Lab, program: &str, args: &[&str]) -> Out {
    let mut command = lab.inside(program);
    std::fs::write(lab.dir.join("no-logins.json"), "{}").unwrap();
    // Neither the logins of who runs the tests nor their configuration.
    command.args(args).env("REGISTRY_AUTH_FILE", lab.dir.join("no-logins.json"));
    command.env("DOCKER_CONFIG", lab.dir.join("docker-config")).env_remove("DOCKER_HOST");
    collect(command, b"").expect(0, &format!("{program} {}", args.join(" ")))
}

/// Podman or buildah with a storage of the test's own.
fn with_storage(lab: &Lab, program: &str, args: &[&str]) -> String {
    let dir = scratch(lab, "containers");
    let (root, runroot) = (dir.join("root").display().to_string(), dir.join("run").display().to_string());
    let mut all = vec!["--root", root.as_str(), "--runroot", &runroot, "--storage-driver", "vfs"];
    all.extend(args);
    run(lab, program, &all).stdout.trim().to_owned()
}

/// Three layers with a hard link, a removed file, a set-id bit and a capability.
pub fn build(lab: &Lab) {
    let dir = scratch(lab, "trip");
    let text = "FROM busybox\nRUN echo hi > /a && ln /a /b && mkdir -m 1777 /t\nRUN rm /a && chmod 4755 /b\nLABEL x=y\nCMD [\"sh\"]\n";
    std::fs::write(dir.join("Dockerfile"), text).unwrap();
    lab.ok(&["build", "-q", "-t", BUILT, &dir.display().to_string()]);
}

/// Id and layers.
pub fn identity(lab: &Lab, name: &str) -> String {
    lab.ok(&["image", "inspect", "-f", "{{.Id}} {{.RootFS.Layers}}", name])
}

/// The digest that `docker push` says at its end.
pub fn push(lab: &Lab, name: &str) -> String {
    let said = lab.ok(&["push", name]);
    let digest = said.split("digest: ").nth(1).and_then(|rest| rest.split(' ').next());
    digest.unwrap_or_else(|| panic!("no digest in {said}")).to_owned()
}

fn debians_registry(lab: &Lab) {
    let _registry = start_debians(lab);
    build(lab);
    goes_round(lab, DEBIANS, &[]);
}

/// Debian's docker-registry, open to everyone.
pub fn start_debians(lab: &Lab) -> Peer {
    let dir = scratch(lab, "debians");
    let config = dir.join("config.yml");
    let root = dir.display();
    let text = format!(
        "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {root}}}}}\nhttp: {{addr: {DEBIANS}}}\n"
    );
    std::fs::write(&config, text).unwrap();
    let mut command = lab.inside("docker-registry");
    command.arg("serve").arg(&config);
    let registry = Peer::start(command, &dir.join("log"));
    wait_for("the registry", || lab.sh(&format!("curl -sfm 1 http://{DEBIANS}/v2/")).code == 0);
    registry
}

/// naru's push, everyone's pull, everyone's push, naru's pull.
fn goes_round(lab: &Lab, registry: &str, credentials: &[&str]) {
    let name = format!("{registry}/team/trip:1");
    let before = identity(lab, BUILT);
    lab.ok(&["tag", BUILT, &name]);
    let digest = push(lab, &name);
    let remote = format!("docker://{name}");
    let login =
        |flag: &str| credentials.iter().flat_map(|one| [flag.to_owned(), (*one).to_owned()]).collect();
    let inspect: Vec<String> = login("--creds");
    let mut args = vec!["inspect", "--tls-verify=false", "--format", "{{.Digest}}"];
    args.extend(inspect.iter().map(String::as_str));
    args.push(&remote);
    assert_eq!(run(lab, "skopeo", &args).stdout.trim(), digest, "as skopeo sees it");
    let id = before.split(' ').next().unwrap().trim_start_matches("sha256:").to_owned();
    for program in ["podman", "buildah"] {
        let mut args = vec!["pull", "-q", "--tls-verify=false"];
        args.extend(inspect.iter().map(String::as_str));
        args.push(&name);
        assert_eq!(with_storage(lab, program, &args), id, "the id after {program} pull");
    }
    let shown = with_storage(lab, "podman", &["image", "inspect", "--format", "{{.Digest}}", &name]);
    assert_eq!(shown, digest, "the manifest after podman pull");
    // Back under other names: podman compresses anew, skopeo copies.
    let (by_podman, by_skopeo) = (format!("{registry}/team/podman:1"), format!("{registry}/team/skopeo:1"));
    let mut args = vec!["push", "-q", "--tls-verify=false"];
    args.extend(inspect.iter().map(String::as_str));
    let to = format!("docker://{by_podman}");
    args.extend([name.as_str(), &to]);
    with_storage(lab, "podman", &args);
    let (from, to): (Vec<String>, Vec<String>) = (login("--src-creds"), login("--dest-creds"));
    let mut args = vec!["copy", "-q", "--src-tls-verify=false", "--dest-tls-verify=false"];
    args.extend(from.iter().chain(&to).map(String::as_str));
    let target = format!("docker://{by_skopeo}");
    args.extend([remote.as_str(), &target]);
    run(lab, "skopeo", &args);
    with_storage(lab, "podman", &["rmi", "-a", "-f"]);
    lab.ok(&["rmi", "-f", BUILT, &name]);
    for other in [&by_podman, &by_skopeo] {
        lab.ok(&["pull", "-q", other]);
        assert_eq!(identity(lab, other), before, "{other}");
        lab.ok(&["rmi", other]);
    }
    lab.ok(&["pull", "-q", &name]);
    assert_eq!(identity(lab, &name), before);
    let shown = lab.ok(&["image", "inspect", "-f", "{{index .RepoDigests 0}}", &name]);
    assert!(shown.ends_with(&digest), "{shown} for {digest}");
    // What came from elsewhere goes back unchanged.
    assert_eq!(push(lab, &name), digest);
    lab.ok(&["tag", &name, BUILT]);
    lab.ok(&["rmi", &name]);
}

/// `naru registry` with TLS and tokens.
fn own_registry(lab: &Lab) {
    let (_registry, secret) = start_own(lab);
    build(lab);
    let name = format!("{OWN}/team/trip:1");
    lab.ok(&["tag", BUILT, &name]);
    let refused = lab.docker(&["push", &name]).expect(1, "a push without a login");
    assert!(refused.stderr.contains("no basic auth credentials"), "{refused:?}");
    let login = ["login", "-u", "anyone", "--password-stdin", OWN];
    lab.docker_in(&login, b"naru_0_0\n").expect(1, "a wrong token");
    lab.docker_in(&login, secret.as_bytes()).expect(0, "docker login");
    goes_round(lab, OWN, &[&format!("anyone:{secret}")]);
    // The same token as a bearer's.
    let tags = |header: &str| {
        lab.sh(&format!("curl -skm 5 -H 'Authorization: {header}' https://{OWN}/v2/team/trip/tags/list"))
    };
    let listed = tags(&format!("Bearer {secret}"));
    assert!(listed.stdout.contains(r#""tags":["1"]"#), "{listed:?}");
    assert!(tags("Bearer naru_0_0").stdout.contains("UNAUTHORIZED"));
    lab.ok(&["logout", OWN]);
    lab.ok(&["rmi", BUILT]);
}

pub fn start_own(lab: &Lab) -> (Peer, String) {
    let dir = scratch(lab, "own");
    let (root, certificate, key) = (dir.join("root"), dir.join("cert.pem"), dir.join("key.pem"));
    let mut command = Command::new("openssl");
    command.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]);
    command
        .args(["-addext", "subjectAltName=IP:127.0.0.1", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&certificate);
    collect(command, b"").expect(0, "openssl req");
    let mut command = Command::new(lab.binary());
    command.args(["registry", "--root"]).arg(&root).args(["token", "create", "team/*", "--allow", "push"]);
    let secret = collect(command, b"").expect(0, "naru registry token create").stdout.trim().to_owned();
    let mut command = lab.inside(&lab.binary().display().to_string());
    command.args(["registry", "--root"]).arg(&root).args(["serve", "--listen", OWN, "--tls-cert"]);
    let peer = Peer::start(
        {
            command.arg(&certificate).arg("--tls-key").arg(&key);
            command
        },
        &dir.join("log"),
    );
    wait_for("naru registry", || lab.sh(&format!("curl -skm 1 https://{OWN}/v2/")).code == 0);
    (peer, secret)
}

/// docker-archive and OCI, as file and as directory, by skopeo from what naru saved, and loaded again.
fn archives(lab: &Lab) {
    build(lab);
    let before = identity(lab, BUILT);
    let layers = before.split_once(' ').unwrap().1;
    let dir = scratch(lab, "archives");
    let at = |name: &str| dir.join(name).display().to_string();
    lab.ok(&["save", "-o", &at("naru.tar"), BUILT, "busybox"]);
    let from = format!("docker-archive:{}:{BUILT}", at("naru.tar"));
    for (kind, file) in [("docker-archive", "docker.tar"), ("oci-archive", "oci.tar")] {
        let name = format!("team/{kind}:2");
        run(
            lab,
            "skopeo",
            &["--insecure-policy", "copy", "-q", &from, &format!("{kind}:{}:{name}", at(file))],
        );
        lab.ok(&["load", "-i", &at(file)]);
        let after = identity(lab, &name);
        assert_eq!(after.split_once(' ').unwrap().1, layers, "layers by {kind}");
        // skopeo writes the configuration of an OCI image anew; a docker-archive keeps its id.
        assert!(kind == "oci-archive" || after == before, "{after} for {before}");
        lab.ok(&["rmi", &name]);
    }
    let layout = format!("oci:{}:a", at("layout"));
    run(lab, "skopeo", &["--insecure-policy", "copy", "-q", &from, &layout]);
    run(lab, "tar", &["-C", &at("layout"), "-cf", &at("layout.tar"), "."]);
    // A layout's bare tag names nothing: the image comes by its id.
    let said = lab.ok(&["load", "-i", &at("layout.tar")]);
    let id = said.strip_prefix("Loaded image ID: ").unwrap_or_else(|| panic!("{said}"));
    assert_eq!(identity(lab, id).split_once(' ').unwrap().1, layers);
    lab.ok(&["rmi", id, BUILT]);
    refusals(lab, &dir);
}

/// What can't be loaded is told as dockerd tells it: status 200, and the error in the stream.
fn refusals(lab: &Lab, dir: &Path) {
    std::fs::write(dir.join("junk.tar"), b"junk").unwrap();
    let said = lab.docker(&["load", "-i", &dir.join("junk.tar").display().to_string()]);
    assert!(said.code == 1 && said.stderr.contains("cut off"), "{said:?}");
    let (status, body) = lab.api("POST", "/images/load", "junk");
    assert!(status == 200 && body.contains(r#""errorDetail""#), "{status} {body}");
}

fn dockerds(lab: &Lab) {
    let programs = std::env::var_os(DOCKERDS).unwrap_or_else(|| DEBIANS_DOCKERD.into());
    for (number, program) in std::env::split_paths(&programs).enumerate() {
        if !program.exists() {
            println!("SKIP: needs {} (Debian's docker.io has a dockerd)", program.display());
            continue;
        }
        let dir = scratch(lab, &format!("dockerd{number}"));
        let socket = format!("unix://{}", dir.join("docker.sock").display());
        let mut command = lab.inside(&program.display().to_string());
        // ip6tables is a switch of its own; what it makes would stay in the namespace.
        command.args(["-H", &socket, "--bridge", "none", "--iptables=false", "--ip6tables=false"]);
        command.args(["--storage-driver", "overlay2"]);
        command.arg("--data-root").arg(dir.join("root")).arg("--exec-root").arg(dir.join("run"));
        command.arg("--pidfile").arg(dir.join("pid"));
        let directory = program.parent().unwrap_or(Path::new("/usr/sbin"));
        let beside = directory.with_file_name("bin");
        let path = std::env::var("PATH").unwrap_or_default();
        command.env("PATH", format!("{}:{}:{path}", directory.display(), beside.display()));
        let _dockerd = Peer::start(command, &dir.join("log"));
        let docker = |args: &[&str]| {
            let mut command = Command::new("docker");
            command.env("DOCKER_CONFIG", lab.dir.join("docker-config")).args(["-H", &socket]).args(args);
            collect(command, b"")
        };
        wait_for("dockerd", || docker(&["version"]).code == 0);
        by_archive(lab, &dir, &|args| docker(args).expect(0, &args.join(" ")).stdout);
        by_own_registry(lab, &|args| docker(args).expect(0, &args.join(" ")).stdout);
        docker(&["rmi", "-f", BUILT, "busybox"]).expect(0, "rmi");
    }
}

type Docker<'a> = &'a dyn Fn(&[&str]) -> String;
const IDENTITY: [&str; 4] = ["image", "inspect", "-f", "{{.Id}} {{.RootFS.Layers}}"];

/// naru's archive into dockerd, dockerd's into naru, that one's into dockerd.
fn by_archive(lab: &Lab, dir: &Path, docker: Docker<'_>) {
    build(lab);
    let identity_there = |name| docker(&[&IDENTITY[..], &[name]].concat()).trim().to_owned();
    let (one, two, three) = (dir.join("1.tar"), dir.join("2.tar"), dir.join("3.tar"));
    let (one, two, three) =
        (one.display().to_string(), two.display().to_string(), three.display().to_string());
    let before = [identity(lab, BUILT), identity(lab, "busybox")];
    lab.ok(&["save", "-o", &one, BUILT, "busybox"]);
    docker(&["load", "-i", &one]);
    assert_eq!([identity_there(BUILT), identity_there("busybox")], before, "in dockerd");
    docker(&["save", "-o", &two, BUILT, "busybox"]);
    lab.ok(&["rmi", BUILT]);
    lab.ok(&["load", "-i", &two]);
    assert_eq!([identity(lab, BUILT), identity(lab, "busybox")], before, "back in naru");
    lab.ok(&["save", "-o", &three, BUILT, "busybox"]);
    docker(&["rmi", "-f", BUILT, "busybox"]);
    docker(&["load", "-i", &three]);
    assert_eq!([identity_there(BUILT), identity_there("busybox")], before, "again in dockerd");
    // The other way round: an image that dockerd made.
    let base = crate::lab::base_image("busybox_latest").display().to_string();
    docker(&["import", "-c", "CMD [\"sh\"]", &base, MADE_THERE]);
    let before = identity_there(MADE_THERE);
    docker(&["save", "-o", &one, MADE_THERE]);
    lab.ok(&["load", "-i", &one]);
    assert_eq!(identity(lab, MADE_THERE), before, "dockerd's own in naru");
    lab.ok(&["save", "-o", &two, MADE_THERE]);
    docker(&["rmi", MADE_THERE]);
    docker(&["load", "-i", &two]);
    assert_eq!(identity_there(MADE_THERE), before, "dockerd's own back in dockerd");
    docker(&["rmi", MADE_THERE]);
    lab.ok(&["rmi", MADE_THERE]);
}

/// dockerd pushes to `naru registry`, naru pulls; naru pushes, dockerd pulls.
fn by_own_registry(lab: &Lab, docker: Docker<'_>) {
    let (_registry, secret) = start_own(lab);
    let before = identity(lab, BUILT);
    let (theirs, ours) = (format!("{OWN}/team/theirs:1"), format!("{OWN}/team/ours:1"));
    docker(&["login", "-u", "anyone", "-p", &secret, OWN]);
    docker(&["tag", BUILT, &theirs]);
    let said = docker(&["push", &theirs]);
    let their_digest =
        said.split("digest: ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap().to_owned();
    docker(&["rmi", &theirs]);
    lab.ok(&["tag", BUILT, &ours]);
    let digest = push(lab, &ours);
    lab.ok(&["rmi", BUILT, &ours]);
    lab.ok(&["pull", "-q", &theirs]);
    assert_eq!(identity(lab, &theirs), before, "dockerd's push, naru's pull");
    let shown = lab.ok(&["image", "inspect", "-f", "{{.RepoDigests}}", &theirs]);
    assert!(shown.contains(&their_digest), "{shown} for {their_digest}");
    docker(&["pull", "-q", &ours]);
    let there = docker(&[&IDENTITY[..], &[&ours]].concat());
    assert_eq!(there.trim(), before, "naru's push, dockerd's pull");
    let there = docker(&["image", "inspect", "-f", "{{.RepoDigests}}", &ours]);
    assert!(there.contains(&digest), "{there} for {digest}");
    docker(&["rmi", &ours]);
    docker(&["logout", OWN]);
    lab.ok(&["rmi", &theirs]);
}
