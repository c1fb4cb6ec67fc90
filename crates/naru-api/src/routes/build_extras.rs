//! What `naru build` sends beyond Docker's `POST /build`: secrets, SSH agents, named contexts, `--check`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use naru_build::{BuildRequest, Lent, LintReport, LintWarning, NamedContext, Secret};
use naru_types::{Error, Result};
use naru_wire::naru::{BuildCheck, BuildExtras, BuildWarning};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An empty header asks for nothing.
pub fn from_header(header: &str) -> Result<BuildExtras> {
    if header.is_empty() {
        return Ok(BuildExtras::default());
    }
    let invalid = || Error::invalid("the header X-Naru-Build is not what naru's CLI sends");
    let json = STANDARD.decode(header).map_err(|error| invalid().with_source(error))?;
    serde_json::from_slice(&json).map_err(|error| invalid().with_source(error))
}

/// Where the build's own context lies in the unpacked archive.
pub fn context(extras: &BuildExtras, root: &Path) -> PathBuf {
    if extras.directories.is_empty() { root.to_owned() } else { root.join("context") }
}

pub fn fill(extras: &BuildExtras, root: &Path, wanted: &mut BuildRequest) -> Result<()> {
    wanted.host_network_allowed = extras.host_network;
    let mut lent = Lent::default();
    for (id, value) in &extras.secrets {
        let value = STANDARD
            .decode(value)
            .map_err(|error| Error::invalid(format!("the secret {id} is not base64")).with_source(error))?;
        lent.secrets.insert(id.clone(), Secret::new(value));
    }
    for (id, socket) in &extras.ssh {
        let socket = PathBuf::from(socket);
        if !socket.is_absolute() || !socket.exists() {
            let message = format!("there is no SSH agent's socket {} on the daemon's host", socket.display());
            return Err(
                Error::invalid(message).with_hint("--ssh goes with a daemon on the same machine only")
            );
        }
        lent.agents.insert(id.clone(), socket);
    }
    wanted.session = Arc::new(lent);
    let images = extras.images.iter().map(|(name, image)| (name.clone(), NamedContext::Image(image.clone())));
    wanted.contexts.extend(images);
    let directories = extras.directories.iter().enumerate().map(|(number, name)| {
        (name.clone(), NamedContext::Directory(root.join(format!("directories/{number}"))))
    });
    wanted.contexts.extend(directories);
    Ok(())
}

pub fn report(found: LintReport) -> BuildCheck {
    let warning = |warning: LintWarning| BuildWarning {
        rule_name: warning.rule.to_owned(),
        description: warning.description.to_owned(),
        url: warning.url,
        detail: warning.detail,
        first_line: warning.first_line,
        last_line: warning.last_line,
    };
    BuildCheck {
        warnings: found.warnings.into_iter().map(warning).collect(),
        file: found.file,
        text: found.text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers() {
        assert!(from_header("").unwrap() == BuildExtras::default());
        assert!(from_header("!").is_err() && from_header("e30K e30=").is_err());
        let header =
            STANDARD.encode(r#"{"secrets":{"a":"Yg=="},"images":{"n":"busybox"},"directories":["d"]}"#);
        let extras = from_header(&header).unwrap();
        let mut wanted = BuildRequest::new("/c");
        fill(&extras, Path::new("/root"), &mut wanted).unwrap();
        assert_eq!(wanted.session.secret("a").unwrap(), Some(Secret::new("b")));
        assert_eq!(wanted.contexts["n"], NamedContext::Image("busybox".into()));
        assert_eq!(wanted.contexts["d"], NamedContext::Directory("/root/directories/0".into()));
        assert_eq!(context(&extras, Path::new("/root")), Path::new("/root/context"));
        let lost = BuildExtras { ssh: [("default".to_owned(), "/nope/agent".to_owned())].into(), ..extras };
        assert!(fill(&lost, Path::new("/root"), &mut wanted).is_err());
    }
}
