//! Credential helpers: programs named `docker-credential-<name>` with the verbs `get`, `store`, `erase` and
//! `list`, JSON on their standard streams (docker-credential-helpers, README, "Development").
//!
//! That is the one interface they have, so they are run; they may ask the user, so they get no time limit.

use naru_types::{Error, Result};
use naru_wire::image::AuthConfig;
use serde::Deserialize;
use serde_json::json;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::process::{Command, Stdio};

/// Longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: u64 = 1 << 20;
/// How a helper says that it has nothing.
const NOT_FOUND: &str = "credentials not found in native keychain";
/// The user name that marks a secret as an identity token.
const TOKEN_USER: &str = "<token>";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Found {
    #[serde(default)]
    username: String,
    #[serde(default)]
    secret: String,
}

pub fn get(name: &str, key: &str) -> Result<Option<AuthConfig>> {
    let Some(answer) = run(name, "get", key.as_bytes())? else { return Ok(None) };
    let found: Found = serde_json::from_slice(&answer).map_err(|error| garbled(name, "get", error))?;
    Ok(Some(if found.username == TOKEN_USER {
        AuthConfig { identitytoken: found.secret, ..AuthConfig::default() }
    } else {
        AuthConfig { username: found.username, password: found.secret, ..AuthConfig::default() }
    }))
}

pub fn store(name: &str, key: &str, auth: &AuthConfig) -> Result<()> {
    let (username, secret) = if auth.identitytoken.is_empty() {
        (auth.username.as_str(), &auth.password)
    } else {
        (TOKEN_USER, &auth.identitytoken)
    };
    let entry = json!({ "ServerURL": key, "Username": username, "Secret": secret });
    run(name, "store", entry.to_string().as_bytes()).map(drop)
}

pub fn erase(name: &str, key: &str) -> Result<()> {
    run(name, "erase", key.as_bytes()).map(drop)
}

/// The registries that it knows.
pub fn list(name: &str) -> Result<Vec<String>> {
    let answer = run(name, "list", b"unused")?.unwrap_or_else(|| b"{}".to_vec());
    let known: BTreeMap<String, String> =
        serde_json::from_slice(&answer).map_err(|error| garbled(name, "list", error))?;
    Ok(known.into_keys().collect())
}

/// What it wrote; `None`: it has nothing of the kind.
fn run(name: &str, verb: &str, input: &[u8]) -> Result<Option<Vec<u8>>> {
    let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if !is_name {
        return Err(Error::invalid(format!("invalid name of a credential helper: {name:?}"))
            .with_hint("docker-credential-NAME is looked for in PATH; write only NAME"));
    }
    let program = format!("docker-credential-{name}");
    let failed = |error: std::io::Error| {
        Error::invalid(format!("cannot run the credential helper {program}")).with_source(error)
    };
    let mut child = Command::new(&program)
        .arg(verb)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper may answer without reading what it was told.
        let _ = stdin.write_all(input);
    }
    let mut answer = Vec::new();
    let read = child.stdout.take().map_or(Ok(0), |out| out.take(ANSWER_BYTES_MAX).read_to_end(&mut answer));
    let status = child.wait().map_err(failed)?;
    read.map_err(failed)?;
    if status.success() {
        return Ok(Some(answer));
    }
    let said = String::from_utf8_lossy(&answer).trim().to_owned();
    if said.contains(NOT_FOUND) {
        return Ok(None);
    }
    Err(Error::invalid(format!("the credential helper {program} failed to {verb} ({status}): {said}")))
}

fn garbled(name: &str, verb: &str, error: serde_json::Error) -> Error {
    Error::invalid(format!("the credential helper docker-credential-{name} answered {verb} with broken JSON"))
        .with_source(error)
}
