//! Images between registries and in directories, with skopeo, umoci and the stock docker CLI as the other side; and
//! images by the digests that registries know them by.

use crate::lab::{Lab, Out, collect};
use crate::round_trips::{
    BUILT, DEBIANS, OWN, build, identity, push, run, scratch, start_debians, start_own,
};
use serde_json::{Value, json};

pub const TESTS: &[(&str, fn(&Lab))] = &[
    ("copy_between_registries", between_registries),
    ("copy_layout_directories", layouts),
    ("a_commit_has_a_parent", parents),
];

const SBOM: &str = "application/spdx+json";

fn naru(lab: &Lab, args: &[&str]) -> String {
    lab.naru(args, &lab.dir).expect(0, &format!("naru {}", args.join(" "))).stdout.trim_end().to_owned()
}

/// The stock CLI where it asks a registry itself.
fn docker_inside(lab: &Lab, args: &[&str]) -> String {
    let mut command = lab.inside("docker");
    command.args(args).env("DOCKER_CONFIG", lab.dir.join("docker-config")).env_remove("DOCKER_HOST");
    collect(command, b"").expect(0, &args.join(" ")).stdout
}

fn sha256(bytes: &[u8]) -> String {
    naru_image::blob::sha256(bytes).to_string()
}

fn between_registries(lab: &Lab) {
    let _debians = start_debians(lab);
    let (_own, secret) = start_own(lab);
    build(lab);
    let (single, list) = (format!("{DEBIANS}/team/trip:1"), format!("{DEBIANS}/team/list:1"));
    lab.ok(&["tag", BUILT, &single]);
    let own_digest = push(lab, &single);
    docker_inside(lab, &["manifest", "create", "--insecure", &list, &single]);
    let said = docker_inside(lab, &["manifest", "push", "--insecure", "--purge", &list]);
    let list_digest = said.lines().last().unwrap_or_default();

    let copied = format!("{OWN}/team/copy:1");
    let refused = lab.naru(&["image", "copy", &list, &copied], &lab.dir).expect(1, "without a login");
    assert!(refused.stderr.contains("naru login"), "{refused:?}");
    lab.docker_in(&["login", "-u", "anyone", "--password-stdin", OWN], secret.as_bytes()).expect(0, "login");
    assert_eq!(naru(lab, &["image", "copy", &list, &copied]), format!("{copied}@{list_digest}"));
    let again = lab.naru(&["image", "copy", "-q", &list, &copied], &lab.dir).expect(0, "again");
    assert_eq!(again.stderr, "", "quiet");

    let raw = naru(lab, &["manifest", "inspect", "--raw", &copied]);
    assert_eq!(sha256(raw.as_bytes()), list_digest);
    let credentials = format!("anyone:{secret}");
    let remote = format!("docker://{copied}");
    let by_skopeo =
        run(lab, "skopeo", &["inspect", "--raw", "--tls-verify=false", "--creds", &credentials, &remote]);
    assert_eq!(by_skopeo.stdout, raw);
    let parsed = |text: &str| -> Value { serde_json::from_str(text).unwrap() };
    let by_docker = docker_inside(lab, &["manifest", "inspect", "--insecure", &copied]);
    assert_eq!(parsed(&by_docker), parsed(&naru(lab, &["manifest", "inspect", &copied])));

    by_digest(lab, &copied, list_digest, &own_digest);
    distribution(lab, &list, list_digest);
    refer(lab, &credentials, list_digest, raw.len());
    let nowhere = lab.naru(&["image", "copy", "oci:/tmp/x", &copied], &lab.dir).expect(1, "a directory");
    assert!(nowhere.stderr.contains("naru load"), "{nowhere:?}");
    lab.ok(&["logout", OWN]);
    lab.ok(&["rmi", "-f", BUILT, &single]);
}

/// What was pulled by a list's name is found by the list's digest and by its own.
fn by_digest(lab: &Lab, name: &str, list: &str, own: &str) {
    lab.ok(&["rmi", "-f", BUILT]);
    lab.ok(&["pull", "-q", name]);
    let id = lab.ok(&["image", "inspect", "-f", "{{.Id}}", name]);
    let repository = name.trim_end_matches(":1");
    let (short, with_name) = (own[7..19].to_owned(), format!("{repository}@{own}"));
    for known in [list.to_owned(), own.to_owned(), short, with_name] {
        assert_eq!(lab.ok(&["image", "inspect", "-f", "{{.Id}}", &known]), id, "{known}");
        assert_eq!(lab.ok(&["run", "--rm", "--pull=never", &known, "echo", "hi"]), "hi", "{known}");
    }
    lab.ok(&["tag", own, BUILT]);
    lab.ok(&["rmi", name]);
}

/// The answer of a dockerd 28.5 to the same request.
fn distribution(lab: &Lab, name: &str, digest: &str) {
    let (status, body) = lab.api("GET", &format!("/distribution/{name}/json"), "");
    let found: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, found["Descriptor"]["digest"].as_str()), (200, Some(digest)), "{body}");
    let list = "application/vnd.docker.distribution.manifest.list.v2+json";
    assert_eq!(found["Descriptor"]["mediaType"], list);
    assert_eq!(found["Platforms"][0]["os"], "linux", "{body}");
    for (name, status, message) in [
        (format!("{DEBIANS}/team/nope:1"), 404, "manifest unknown: manifest unknown"),
        (digest.to_owned(), 500, "no manifest found for full image ID"),
        ("UP".to_owned(), 400, "must be lowercase"),
    ] {
        let (found, body) = lab.api("GET", &format!("/distribution/{name}/json"), "");
        assert!(found == status && body.contains(message), "{name}: {found} {body}");
    }
}

/// An SBOM in naru's registry, which keeps the list of referrers itself, goes to one that does not.
fn refer(lab: &Lab, credentials: &str, subject: &str, subject_bytes: usize) {
    let curl = |args: &str| -> Out { lab.sh(&format!("curl -skfm 10 -u {credentials} {args}")) };
    let base = format!("https://{OWN}/v2/team/copy");
    let empty = sha256(b"{}");
    let begun = curl(&format!("-o /dev/null -X POST -D - {base}/blobs/uploads/")).expect(0, "begin").stdout;
    let location = begun
        .lines()
        .find_map(|line| line.to_ascii_lowercase().starts_with("location:").then(|| line[9..].trim()));
    let location = location.unwrap_or_else(|| panic!("{begun}"));
    let location =
        if location.starts_with('/') { format!("https://{OWN}{location}") } else { location.to_owned() };
    let join = if location.contains('?') { '&' } else { '?' };
    curl(&format!("-X PUT --data-binary '{{}}' '{location}{join}digest={empty}'")).expect(0, "the blob");
    let manifest = "application/vnd.oci.image.manifest.v1+json";
    let blob = json!({"mediaType": "application/vnd.oci.empty.v1+json", "digest": empty, "size": 2});
    let index = "application/vnd.docker.distribution.manifest.list.v2+json";
    let document = json!({
        "schemaVersion": 2, "mediaType": manifest, "artifactType": SBOM, "config": blob, "layers": [blob],
        "subject": {"mediaType": index, "digest": subject, "size": subject_bytes},
    })
    .to_string();
    let digest = sha256(document.as_bytes());
    let path = scratch(lab, "referrer").join("manifest.json");
    std::fs::write(&path, &document).unwrap();
    let (path, header) = (path.display(), format!("Content-Type: {manifest}"));
    curl(&format!("-X PUT -H '{header}' --data-binary @{path} {base}/manifests/{digest}"))
        .expect(0, "the SBOM");

    let (there, here) = (format!("{OWN}/team/copy:1"), format!("{DEBIANS}/team/back:1"));
    let line = format!("{digest} {SBOM}");
    let format = "{{.digest}} {{.artifact_type}}";
    assert_eq!(naru(lab, &["image", "referrers", "--format", format, &there]), line);
    assert_eq!(naru(lab, &["image", "referrers", "--artifact-type", "x/y", "--format", format, &there]), "");
    naru(lab, &["image", "copy", "--referrers", &there, &here]);
    assert_eq!(naru(lab, &["image", "referrers", "--format", format, &here]), line);
    assert!(naru(lab, &["image", "referrers", &here]).starts_with("DIGEST"), "a table");
}

fn layouts(lab: &Lab) {
    build(lab);
    let before = identity(lab, BUILT);
    let dir = scratch(lab, "layouts");
    let at = |name: &str| dir.join(name).display().to_string();
    let (saved, file) = (at("saved/"), at("saved.tar"));
    naru(lab, &["save", "--format", "oci", "-o", &saved, BUILT]);
    naru(lab, &["save", "--format", "oci", "-o", &file, BUILT]);
    let mut names: Vec<String> = std::fs::read_dir(&saved)
        .unwrap()
        .map(|item| item.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["blobs", "index.json", "oci-layout"]);
    let full = lab.naru(&["save", "-o", &saved, BUILT], &lab.dir).expect(1, "into a full directory");
    assert!(full.stderr.contains("not empty"), "{full:?}");
    // What others read of it.
    assert_eq!(run(lab, "umoci", &["ls", "--layout", saved.trim_end_matches('/')]).stdout.trim(), "1");
    let (layout, archive) =
        (format!("oci:{}:1", saved.trim_end_matches('/')), format!("oci-archive:{file}:1"));
    let digest = |from: &str| run(lab, "skopeo", &["inspect", "--format", "{{.Digest}}", from]).stdout;
    assert_eq!(digest(&layout), digest(&archive));
    // And what others wrote.
    let copied = format!("oci:{}:team/by-skopeo:2", at("by-skopeo"));
    run(lab, "skopeo", &["--insecure-policy", "copy", "-q", &layout, &copied]);
    lab.ok(&["rmi", BUILT]);
    naru(lab, &["load", "-i", &saved]);
    assert_eq!(identity(lab, BUILT), before);
    naru(lab, &["load", "-i", &at("by-skopeo")]);
    let by_skopeo = identity(lab, "team/by-skopeo:2");
    assert_eq!(by_skopeo.split_once(' ').unwrap().1, before.split_once(' ').unwrap().1, "the layers");
    let none = lab.naru(&["load", "-i", &dir.display().to_string()], &lab.dir).expect(1, "no layout");
    assert!(none.stderr.contains("index.json"), "{none:?}");
    lab.ok(&["rmi", BUILT, "team/by-skopeo:2"]);
}

/// As a dockerd 28.5 shows it.
fn parents(lab: &Lab) {
    let container = lab.ok(&["create", "busybox", "sh"]);
    lab.ok(&["commit", &container, "team/child:1"]);
    let id = |name: &str| lab.ok(&["image", "inspect", "-f", "{{.Id}}", name]);
    assert_eq!(lab.ok(&["image", "inspect", "-f", "{{.Parent}}", "team/child:1"]), id("busybox"));
    let history = lab.ok(&["history", "--no-trunc", "--format", "{{.ID}}", "team/child:1"]);
    assert_eq!(history, format!("{}\n{}", id("team/child:1"), id("busybox")));
    let by_naru = naru(lab, &["image", "history", "--no-trunc", "-q", "team/child:1"]);
    assert_eq!(by_naru, history);
    assert!(naru(lab, &["history", "team/child:1"]).lines().count() == 3, "a table with its head");
    assert_eq!(naru(lab, &["image", "inspect", "-f", "{{.Id}}", "busybox"]), id("busybox"));
    assert!(naru(lab, &["image", "ls"]).contains("team/child"));
    lab.ok(&["rm", &container]);
    // A second name keeps what the first one loses; the image itself stays as long as its child.
    let container = lab.ok(&["create", "team/child:1", "sh"]);
    lab.ok(&["commit", &container, "team/grandchild:1"]);
    lab.ok(&["rm", &container]);
    let child = id("team/child:1");
    assert_eq!(lab.ok(&["rmi", "team/child:1"]), "Untagged: team/child:1");
    let refused = lab.docker(&["rmi", "-f", &child]).expect(1, "a parent");
    assert!(refused.stderr.contains("image has dependent child images"), "{refused:?}");
    let listed = |args: &[&str]| lab.ok(&[&["images", "-q", "--no-trunc"], args].concat()).contains(&child);
    assert!(!listed(&[]) && listed(&["-a"]), "a step on the way is shown with -a only");
    assert!(lab.ok(&["rmi", "team/grandchild:1"]).contains(&format!("Deleted: {child}")));
}
