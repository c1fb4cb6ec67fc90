//! Logins: the stock docker CLI and naru's own against a registry that wants a password, credentials in
//! config.json and in a credential helper, each program using what the other has kept.

use crate::lab::{Lab, Out, collect, wait_for};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Child, Command, Stdio};

pub const TESTS: &[(&str, fn(&Lab))] = &[("logins", logins), ("credential_helpers", credential_helpers)];

/// htpasswd entry of user "u" with password "p" (bcrypt).
const HTPASSWD: &str = "u:$2b$05$abcdefghijklmnopqrstuuqwWMzKt5N8p.u2GX5MuH1t19BMWuLOW\n";
const REGISTRY: &str = "127.0.0.1:5056";
const IMAGE: &str = "127.0.0.1:5056/team/app:1";

/// Debian's docker-registry behind basic authentication; ends with the test.
struct Guarded(Child);

impl Guarded {
    fn start(lab: &Lab) -> Self {
        let data = lab.dir.join("guarded");
        std::fs::create_dir_all(&data).unwrap();
        std::fs::write(data.join("htpasswd"), HTPASSWD).unwrap();
        let (root, config) = (data.display(), data.join("config.yml"));
        let text = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {root}}}}}\nhttp: {{addr: {REGISTRY}}}\nauth: {{htpasswd: {{realm: test, path: {root}/htpasswd}}}}\n"
        );
        std::fs::write(&config, text).unwrap();
        let mut command = lab.inside("docker-registry");
        command.arg("serve").arg(&config).stdout(Stdio::null()).stderr(Stdio::null());
        let registry = Self(command.spawn().unwrap());
        wait_for("the registry", || lab.sh(&format!("curl -sm 1 http://{REGISTRY}/v2/")).code == 0);
        registry
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn logins(lab: &Lab) {
    let _registry = Guarded::start(lab);
    let config = lab.dir.join("docker-config/config.json");
    let kept = || std::fs::read_to_string(&config).unwrap_or_default();
    let naru = |args: &[&str]| lab.naru(args, &lab.dir);
    lab.ok(&["tag", "busybox", IMAGE]);
    let refused = naru(&["push", IMAGE]).expect(1, "pushing without a login");
    assert!(refused.stderr.contains("no basic auth credentials"), "{refused:?}");
    let wrong = ["login", "-u", "u", "--password-stdin", REGISTRY];
    let refused = lab.docker_in(&wrong, b"no\n").expect(1, "a wrong password");
    assert!(refused.stderr.contains("401 Unauthorized"), "{refused:?}");
    assert!(!kept().contains(REGISTRY));

    // docker logs in, naru uses it.
    let said = lab.docker_in(&wrong, b"p\n").expect(0, "docker login");
    assert!(said.stdout.contains("Login Succeeded"), "{said:?}");
    naru(&["push", IMAGE]).expect(0, "naru push after docker login");
    lab.ok(&["rmi", IMAGE]);
    naru(&["pull", IMAGE]).expect(0, "naru pull after docker login");
    let gone = naru(&["logout", REGISTRY]).expect(0, "naru logout");
    assert_eq!(gone.stdout, format!("Removing login credentials for {REGISTRY}\n"));
    assert_eq!(naru(&["logout", REGISTRY]).stdout, format!("Not logged in to {REGISTRY}\n"));
    lab.docker(&["push", IMAGE]).expect(1, "docker push after naru logout");

    // naru logs in, docker uses it.
    let said = collect(naru_command(lab, &wrong, ""), b"p\n").expect(0, "naru login");
    assert!(said.stdout == "Login Succeeded\n" && said.stderr.contains("stored unencrypted"), "{said:?}");
    assert_eq!(std::fs::metadata(&config).unwrap().mode() & 0o777, 0o600);
    lab.ok(&["push", IMAGE]);
    assert!(lab.ok(&["login", REGISTRY]).contains("Login Succeeded"));
    naru(&["login", REGISTRY]).expect(0, "naru login with what is kept");
    builds_from(lab);
    let refused = collect(naru_command(lab, &wrong, ""), b"no").expect(1, "naru login, wrong password");
    assert!(refused.stderr.contains("failed with status: 401 Unauthorized"), "{refused:?}");
    lab.ok(&["logout", REGISTRY]);
    lab.ok(&["rmi", IMAGE]);
    let interactive = naru(&["login", REGISTRY]).expect(1, "naru login without a terminal");
    assert!(interactive.stderr.contains("Cannot perform an interactive login from a non TTY device"));
    assert_eq!(lab.api("POST", "/auth", "{").0, 400);
}

/// The base image of a build needs the login too.
fn builds_from(lab: &Lab) {
    lab.ok(&["rmi", IMAGE]);
    let dir = lab.dir.join("guarded-build");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("Dockerfile"), format!("FROM {IMAGE}\nLABEL a=b\n")).unwrap();
    lab.naru(&["build", "-t", "from-guarded", "."], &dir).expect(0, "naru build from a guarded base");
    lab.ok(&["rmi", "from-guarded"]);
    lab.naru(&["pull", IMAGE], &dir).expect(0, "naru pull");
}

/// A helper that keeps one secret in a file, as docker-credential-pass would in a keychain.
const HELPER: &str = r#"#!/bin/sh
cd "$(dirname "$0")" || exit 1
case "$1" in
store) cat > kept ;;
get) read -r url; if [ -e kept ] && grep -q "\"ServerURL\":\"$url\"" kept; then cat kept; else echo "credentials not found in native keychain"; exit 1; fi ;;
erase) rm -f kept ;;
list) if [ -e kept ]; then echo '{"127.0.0.1:5056":"u"}'; else echo '{}'; fi ;;
esac
"#;

fn credential_helpers(lab: &Lab) {
    let _registry = Guarded::start(lab);
    let bin = lab.dir.join("helper");
    std::fs::create_dir_all(&bin).unwrap();
    let program = bin.join("docker-credential-filed");
    std::fs::write(&program, HELPER).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let config = lab.dir.join("docker-config/config.json");
    std::fs::write(&config, r#"{"credsStore":"filed","psFormat":"table {{.ID}}"}"#).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    let naru = |args: &[&str], input: &[u8]| -> Out { collect(naru_command(lab, args, &path), input) };
    let login = ["login", "-u", "u", "--password-stdin", REGISTRY];
    let said = naru(&login, b"p").expect(0, "naru login with a helper");
    assert!(!said.stderr.contains("unencrypted"), "{said:?}");
    let text = std::fs::read_to_string(&config).unwrap();
    assert!(text.contains("psFormat") && text.contains(REGISTRY) && !text.contains("dTpw"), "{text}");
    assert!(std::fs::read_to_string(bin.join("kept")).unwrap().contains(r#""Secret":"p""#));
    lab.ok(&["tag", "busybox", IMAGE]);
    naru(&["push", IMAGE], b"").expect(0, "naru push with a helper");
    let mut docker = lab.docker_command(&["push", IMAGE]);
    docker.env("PATH", &path);
    collect(docker, b"").expect(0, "docker push with what naru kept");
    naru(&["logout", REGISTRY], b"").expect(0, "naru logout with a helper");
    assert!(!bin.join("kept").exists());
    naru(&["push", IMAGE], b"").expect(1, "naru push after logout");
    // A helper that isn't there is said; the pull goes on without credentials, as docker's does.
    std::fs::write(&config, r#"{"credsStore":"../evil"}"#).unwrap();
    let said = naru(&["pull", IMAGE], b"").expect(1, "a helper with a path for a name");
    assert!(said.stderr.contains("invalid name of a credential helper"), "{said:?}");
    std::fs::write(&config, "{}").unwrap();
    lab.ok(&["rmi", IMAGE]);
}

fn naru_command(lab: &Lab, args: &[&str], path: &str) -> Command {
    let mut command = Command::new(lab.binary());
    command.arg("-H").arg(format!("unix://{}", lab.socket().display())).args(args);
    command.env("DOCKER_CONFIG", lab.dir.join("docker-config"));
    if !path.is_empty() {
        command.env("PATH", path);
    }
    command
}
