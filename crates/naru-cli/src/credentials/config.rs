//! docker's `config.json`: `auths`, `credsStore`, `credHelpers`. Whatever else is in it stays as it is.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use naru_types::reference::domain_of_address;
use naru_types::{Error, Result};
use naru_wire::image::AuthConfig;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Longest configuration that is read, in bytes.
const CONFIG_BYTES_MAX: u64 = 4 << 20;
/// It holds passwords.
const CONFIG_MODE: u32 = 0o600;

pub struct DockerConfig {
    pub path: PathBuf,
    root: Map<String, Value>,
}

impl DockerConfig {
    /// `$DOCKER_CONFIG/config.json`, else `~/.docker/config.json`; one that isn't there is empty.
    pub fn load() -> Result<Self> {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let dir = set("DOCKER_CONFIG").or_else(|| set("HOME").map(|home| home.join(".docker")));
        let dir = dir.ok_or_else(|| {
            Error::invalid("cannot find docker's configuration: HOME is not set")
                .with_hint("name its directory with DOCKER_CONFIG")
        })?;
        Self::read(dir.join("config.json"))
    }

    fn read(path: PathBuf) -> Result<Self> {
        let mut bytes = Vec::new();
        match fs::File::open(&path) {
            Ok(file) => {
                file.take(CONFIG_BYTES_MAX).read_to_end(&mut bytes).map_err(|e| failed("read", &path, e))?
            }
            Err(error) if error.kind() == ErrorKind::NotFound => 0,
            Err(error) => return Err(failed("read", &path, error)),
        };
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(Self { path, root: Map::new() });
        }
        let root = serde_json::from_slice(&bytes).map_err(|error| {
            Error::invalid(format!("{} is not a JSON object", path.display())).with_source(error)
        })?;
        Ok(Self { path, root })
    }

    /// The helper that keeps this registry's credentials.
    pub fn helper_of(&self, key: &str) -> Option<&str> {
        let own = self.root.get("credHelpers").and_then(|helpers| helpers.get(key)).and_then(Value::as_str);
        own.or_else(|| self.default_helper()).filter(|name| !name.is_empty())
    }

    pub fn default_helper(&self) -> Option<&str> {
        self.root.get("credsStore").and_then(Value::as_str).filter(|name| !name.is_empty())
    }

    /// The registries that the file names.
    pub fn keys(&self) -> BTreeSet<String> {
        let maps = ["auths", "credHelpers"].into_iter().filter_map(|name| self.root.get(name)?.as_object());
        maps.flat_map(Map::keys).cloned().collect()
    }

    /// The entry of `key`, or one that names the same registry in another way (`https://host/v1/`).
    pub fn entry(&self, key: &str) -> Result<Option<AuthConfig>> {
        let Some(auths) = self.root.get("auths").and_then(Value::as_object) else { return Ok(None) };
        let wanted = domain_of_address(key);
        let same = || auths.iter().find(|(name, _)| domain_of_address(name) == wanted).map(|(_, v)| v);
        let Some(value) = auths.get(key).or_else(same) else { return Ok(None) };
        let broken = || Error::invalid(format!("{}: the entry of {key} is damaged", self.path.display()));
        let mut auth: AuthConfig =
            serde_json::from_value(value.clone()).map_err(|error| broken().with_source(error))?;
        if !auth.auth.is_empty() {
            let pair = STANDARD.decode(&auth.auth).map_err(|error| broken().with_source(error))?;
            let pair = String::from_utf8(pair).map_err(|error| broken().with_source(error))?;
            let (username, password) = pair.split_once(':').ok_or_else(broken)?;
            username.clone_into(&mut auth.username);
            // docker has written passwords with a zero at their end.
            password.trim_end_matches('\0').clone_into(&mut auth.password);
            auth.auth.clear();
        }
        Ok(Some(auth).filter(|auth| *auth != AuthConfig::default()))
    }

    pub fn set(&mut self, key: &str, auth: &AuthConfig) {
        let mut entry = Map::new();
        if !auth.username.is_empty() {
            let pair = STANDARD.encode(format!("{}:{}", auth.username, auth.password));
            entry.insert("auth".into(), json!(pair));
        }
        if !auth.identitytoken.is_empty() {
            entry.insert("identitytoken".into(), json!(auth.identitytoken));
        }
        self.remove(key);
        let auths = self.root.entry("auths").or_insert_with(|| json!({}));
        if !auths.is_object() {
            *auths = json!({});
        }
        if let Some(auths) = auths.as_object_mut() {
            auths.insert(key.to_owned(), Value::Object(entry));
        }
    }

    /// All entries of the registry; `false`: there was none.
    pub fn remove(&mut self, key: &str) -> bool {
        let Some(auths) = self.root.get_mut("auths").and_then(Value::as_object_mut) else { return false };
        let before = auths.len();
        auths.retain(|name, _| domain_of_address(name) != domain_of_address(key));
        auths.len() < before
    }

    /// Whole or not at all: written beside and renamed. A link is followed, as its owner wants it.
    pub fn save(&self) -> Result<()> {
        let target = self.path.canonicalize().unwrap_or_else(|_| self.path.clone());
        let dir = target.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(dir).map_err(|error| failed("make", dir, error))?;
        let temporary = dir.join(format!(".config.json.{}", std::process::id()));
        let written = self.write(&temporary).and_then(|()| fs::rename(&temporary, &target));
        written.map_err(|error| {
            // It may not be there; what matters is the error before.
            let _ = fs::remove_file(&temporary);
            failed("write", &target, error)
        })
    }

    fn write(&self, path: &Path) -> std::io::Result<()> {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(CONFIG_MODE).open(path)?;
        let text = serde_json::to_string_pretty(&self.root).map_err(std::io::Error::other)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    }
}

fn failed(step: &str, path: &Path, error: std::io::Error) -> Error {
    Error::internal(format!("cannot {step} {}", path.display())).with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(text: &str) -> DockerConfig {
        DockerConfig { path: "config.json".into(), root: serde_json::from_str(text).unwrap() }
    }

    #[test]
    fn entries_are_found_under_any_name_of_their_registry() {
        let config = config(
            r#"{"auths":{"https://index.docker.io/v1/":{"auth":"dTpwOnA="},"https://r.example/v1/":{"identitytoken":"t"},
                "bad":{"auth":"!"},"listed":{}}}"#,
        );
        let hub = config.entry("docker.io").unwrap().unwrap();
        assert_eq!((hub.username.as_str(), hub.password.as_str()), ("u", "p:p"));
        assert_eq!(config.entry("r.example").unwrap().unwrap().identitytoken, "t");
        assert!(config.entry("r.example.org").unwrap().is_none());
        assert!(config.entry("listed").unwrap().is_none());
        assert!(config.entry("bad").is_err());
    }

    #[test]
    fn what_else_is_in_the_file_stays() {
        let mut config =
            config(r#"{"psFormat":"x","auths":{"http://a/":{"auth":"dTpw"}},"credHelpers":{"b":"y"}}"#);
        let auth = AuthConfig { username: "u".into(), password: "q".into(), ..AuthConfig::default() };
        config.set("a", &auth);
        let expect = json!({"psFormat":"x","auths":{"a":{"auth":"dTpx"}},"credHelpers":{"b":"y"}});
        assert_eq!(Value::Object(config.root.clone()), expect);
        assert_eq!((config.helper_of("a"), config.helper_of("b")), (None, Some("y")));
        assert!(config.remove("a") && !config.remove("a"));
    }
}
