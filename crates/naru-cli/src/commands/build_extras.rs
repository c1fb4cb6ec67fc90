//! `build`'s flags beyond Docker's old interface: what is lent, other contexts, and the report of `--check`.

use crate::flags::BuildFlags;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use naru_types::{Error, Result};
use naru_wire::naru::{BuildCheck, BuildExtras, BuildWarning};
use std::fmt::Write as _;
use std::path::PathBuf;

/// Lines shown around the ones that a finding is about.
const EXCERPT_MARGIN: usize = 2;

/// What goes into the header, and the directories that travel beside the context, in the header's order.
pub fn read(flags: &BuildFlags) -> Result<(BuildExtras, Vec<PathBuf>)> {
    let host_network = !flags.allow.is_empty();
    let mut extras = BuildExtras { check: flags.check, host_network, ..BuildExtras::default() };
    let mut directories = Vec::new();
    for text in &flags.secret {
        let (id, value) = secret(text)?;
        extras.secrets.insert(id, STANDARD.encode(value));
    }
    for text in &flags.ssh {
        let (id, socket) = agent(text)?;
        extras.ssh.insert(id, socket);
    }
    for text in &flags.build_context {
        let (name, value) = text
            .split_once('=')
            .filter(|(name, value)| !name.is_empty() && !value.is_empty())
            .ok_or_else(|| {
                Error::invalid(format!("invalid --build-context {text:?}")).with_hint("write NAME=DIRECTORY")
            })?;
        if let Some(image) = value.strip_prefix("docker-image://") {
            extras.images.insert(name.to_owned(), image.to_owned());
        } else if value.contains("://") {
            let message = format!("the build context {value:?} is not supported");
            return Err(Error::not_implemented(message).with_hint("use a directory or docker-image://IMAGE"));
        } else {
            extras.directories.push(name.to_owned());
            directories.push(PathBuf::from(value));
        }
    }
    Ok((extras, directories))
}

pub fn header(extras: &BuildExtras) -> Result<String> {
    let json = serde_json::to_vec(extras)
        .map_err(|error| Error::internal("cannot write the build's header").with_source(error))?;
    Ok(STANDARD.encode(json))
}

/// `id=NAME[,src=FILE|,env=VARIABLE]`; without either, the variable of that name or else the file.
fn secret(text: &str) -> Result<(String, Vec<u8>)> {
    let (mut id, mut file, mut variable) = (None, None, None);
    for field in text.split(',') {
        match field.split_once('=') {
            Some(("id", value)) => id = Some(value.to_owned()),
            Some(("src" | "source", value)) => file = Some(value.to_owned()),
            Some(("env", value)) => variable = Some(value.to_owned()),
            Some(("type", "file" | "env")) => {}
            _ => {
                let message = format!("unexpected {field:?} in --secret");
                return Err(
                    Error::invalid(message).with_hint("write id=NAME,src=FILE or id=NAME,env=VARIABLE")
                );
            }
        }
    }
    let id = id.ok_or_else(|| Error::invalid("--secret needs an id").with_hint("write id=NAME,src=FILE"))?;
    let named = variable.as_ref().or(file.is_none().then_some(&id));
    let from_env =
        named.and_then(|name| std::env::vars_os().find(|(key, _)| key.to_str() == Some(name.as_str())));
    if let Some((_, value)) = from_env {
        return Ok((id, value.into_encoded_bytes()));
    }
    if let Some(variable) = variable {
        return Err(Error::invalid(format!("the variable {variable} of the secret {id} is not set")));
    }
    let path = file.unwrap_or_else(|| id.clone());
    let value = std::fs::read(&path)
        .map_err(|error| Error::invalid(format!("cannot read the secret {path}")).with_source(error))?;
    Ok((id, value))
}

/// `default`, `NAME` or `NAME=SOCKET`.
fn agent(text: &str) -> Result<(String, String)> {
    let (id, socket) = text.split_once('=').unwrap_or((text, ""));
    if !socket.is_empty() {
        let path = std::path::absolute(socket)
            .map_err(|error| Error::invalid(format!("invalid path {socket:?}")).with_source(error))?;
        return Ok((id.to_owned(), path.display().to_string()));
    }
    let found = std::env::vars().find(|(key, value)| key == "SSH_AUTH_SOCK" && !value.is_empty());
    let (_, socket) = found.ok_or_else(|| {
        Error::invalid("SSH_AUTH_SOCK is not set").with_hint("start an agent, or write --ssh NAME=SOCKET")
    })?;
    Ok((id.to_owned(), socket))
}

/// As `docker build --check` prints it.
pub fn report(found: &BuildCheck) -> String {
    let count = found.warnings.len();
    if count == 0 {
        return "Check complete, no warnings found.".into();
    }
    let (verb, plural) = if count == 1 { ("has", "") } else { ("have", "s") };
    let mut out = format!("Check complete, {count} warning{plural} {verb} been found!\n");
    for warning in &found.warnings {
        let (name, url) = (&warning.rule_name, &warning.url);
        let _ = write!(out, "\nWARNING: {name} - {url}\n{}\n{}", warning.detail, excerpt(found, warning));
    }
    out.trim_end().to_owned()
}

fn excerpt(found: &BuildCheck, warning: &BuildWarning) -> String {
    let rule = "-".repeat(20);
    let mut out = format!("{}:{}\n{rule}\n", found.file, warning.first_line);
    let first = warning.first_line.saturating_sub(EXCERPT_MARGIN).max(1);
    for (index, line) in found
        .text
        .split('\n')
        .enumerate()
        .skip(first - 1)
        .take(warning.last_line + EXCERPT_MARGIN + 1 - first)
    {
        let number = index + 1;
        let mark = if (warning.first_line..=warning.last_line).contains(&number) { ">>>" } else { "   " };
        let _ = writeln!(out, "{number:4} | {mark} {line}");
    }
    out + &rule + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_of_a_check() {
        let warning = BuildWarning {
            rule_name: "LegacyKeyValueFormat".into(),
            url: "https://x/".into(),
            detail: "text".into(),
            first_line: 2,
            last_line: 2,
            ..BuildWarning::default()
        };
        let found = BuildCheck {
            warnings: vec![warning],
            file: "Dockerfile".into(),
            text: "FROM base\nENV A b\nCMD x\n".into(),
        };
        let expect = "Check complete, 1 warning has been found!\n\nWARNING: LegacyKeyValueFormat - https://x/\ntext\nDockerfile:2\n\
            --------------------\n   1 |     FROM base\n   2 | >>> ENV A b\n   3 |     CMD x\n   4 |     \n--------------------";
        assert_eq!(report(&found), expect);
    }

    #[test]
    fn secrets_and_agents() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
        let (id, value) = secret(&format!("id=a,src={path}")).unwrap();
        assert!(id == "a" && value.starts_with(b"[package]"));
        assert!(!secret("id=PATH").unwrap().1.is_empty());
        assert!(
            secret("src=x").is_err()
                && secret("id=a,size=1").is_err()
                && secret("id=a,env=NO_SUCH_THING").is_err()
        );
        assert_eq!(agent("k=/run/a").unwrap(), ("k".to_owned(), "/run/a".to_owned()));
    }
}
