//! The Dockerfile instructions that `commit --change` and `import --change` allow, applied to an image's
//! configuration one at a time.
//!
//! This is not the builder's language: there are no stages, no variables and no comments.

use crate::error::{Error, Result};
use crate::image::{Empty, RunConfig};
use crate::spec::PortProto;

pub fn apply(config: &mut RunConfig, line: &str) -> Result<()> {
    let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let rest = rest.trim();
    let word = word.to_ascii_uppercase();
    if rest.is_empty() {
        return Err(Error::invalid(format!("{word} requires at least one argument: {line:?}")));
    }
    match word.as_str() {
        "CMD" => config.cmd = Some(command(rest)),
        "ENTRYPOINT" => config.entrypoint = Some(command(rest)),
        "USER" => rest.clone_into(&mut config.user),
        "WORKDIR" => rest.clone_into(&mut config.working_dir),
        "STOPSIGNAL" => config.stop_signal = Some(rest.to_owned()),
        "EXPOSE" => {
            for text in rest.split_whitespace() {
                let port = PortProto::parse(text)
                    .ok_or_else(|| Error::invalid(format!("invalid containerPort: {text}")))?;
                config.exposed_ports.insert(port.to_string(), Empty {});
            }
        }
        "VOLUME" => {
            let list =
                json_list(rest).unwrap_or_else(|| rest.split_whitespace().map(str::to_owned).collect());
            config.volumes.extend(list.into_iter().map(|path| (path, Empty {})));
        }
        "ENV" => {
            for (key, value) in pairs(rest)? {
                let prefix = format!("{key}=");
                config.env.retain(|entry| !entry.starts_with(&prefix));
                config.env.push(format!("{prefix}{value}"));
            }
        }
        "LABEL" => config.labels.extend(pairs(rest)?),
        _ => return Err(Error::invalid(format!("{word} is not a valid change command"))),
    }
    Ok(())
}

fn json_list(text: &str) -> Option<Vec<String>> {
    serde_json::from_str(text).ok()
}

/// Exec form (a JSON list) or shell form.
fn command(text: &str) -> Vec<String> {
    json_list(text).unwrap_or_else(|| vec!["/bin/sh".into(), "-c".into(), text.to_owned()])
}

/// `key=value key2="a b"`, or the old form `key all the rest`.
fn pairs(text: &str) -> Result<Vec<(String, String)>> {
    if !text.split_whitespace().next().is_some_and(|first| first.contains('=')) {
        let (key, value) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        return Ok(vec![(key.to_owned(), value.trim().to_owned())]);
    }
    let mut found = Vec::new();
    let (mut word, mut quote) = (String::new(), None);
    for letter in text.chars().chain([' ']) {
        match (letter, quote) {
            ('"' | '\'', None) => quote = Some(letter),
            (_, Some(open)) if letter == open => quote = None,
            (_, None) if letter.is_whitespace() => {
                if !word.is_empty() {
                    found.push(pair(&word)?);
                    word.clear();
                }
            }
            _ => word.push(letter),
        }
    }
    if quote.is_some() {
        return Err(Error::invalid(format!("a quote is not closed in {text:?}")));
    }
    Ok(found)
}

fn pair(word: &str) -> Result<(String, String)> {
    let (key, value) = word.split_once('=').ok_or_else(|| {
        Error::invalid(format!("Syntax error - can't find = in {word:?}. Must be of the form: name=value"))
    })?;
    Ok((key.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions() {
        let mut config = RunConfig::default();
        for line in [
            "CMD [\"/bin/sh\"]",
            "entrypoint run me",
            "ENV A=1 B=\"x y\"",
            "ENV A 2",
            "EXPOSE 80 53/udp",
            "VOLUME /a /b",
            "LABEL k=v",
        ] {
            apply(&mut config, line).unwrap();
        }
        assert_eq!(config.cmd, Some(vec!["/bin/sh".to_owned()]));
        assert_eq!(config.entrypoint, Some(vec!["/bin/sh".to_owned(), "-c".into(), "run me".into()]));
        assert_eq!(config.env, ["B=x y", "A=2"]);
        assert_eq!(config.exposed_ports.len() + config.volumes.len(), 4);
        for bad in ["RUN x", "CMD", "EXPOSE x", "LABEL a=1 b", "ENV a=\"x"] {
            assert!(apply(&mut config, bad).is_err(), "{bad}");
        }
    }
}
