//! Everything that a build reads from its client: the Dockerfile, the ignore rules, the context and named contexts.

use crate::builds::Build;
use crate::error::{Error, Result};
use crate::filesync::{Into, Wanted, fetch};
use crate::progress::Teller;
use crate::session::Sessions;
use crate::upload;
use naru_build::{Contexts, KeptContext, NamedContext};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Largest Dockerfile or .dockerignore, in bytes.
const TEXT_BYTES_MAX: u64 = 4 << 20;
const IGNORE_FILE: &str = ".dockerignore";
/// The context's own directory among all that is fetched.
pub const CONTEXT_DIR: &str = "context";
/// Frontends that naru's own builder stands for (`# syntax=`), without registry, tag and digest.
const OWN_FRONTENDS: [&str; 2] = ["docker/dockerfile", "docker/dockerfile-upstream"];

/// What was fetched.
pub struct Fetched {
    /// Of the Dockerfile.
    pub name: String,
    pub text: String,
    pub contexts: BTreeMap<String, NamedContext>,
    /// Where the context is, if it was there from an earlier build.
    pub kept: Option<Arc<KeptContext>>,
}

/// Where a build's directories are: in its own session, or each in the one that its attribute names, as when several builds
/// of one client have the same context.
pub struct Directories<'a> {
    pub sessions: &'a Sessions,
    pub build: &'a Build,
    pub attributes: &'a BTreeMap<String, String>,
    pub kept: &'a Contexts,
}

impl Directories<'_> {
    /// Everything below `dir`, the context in its [`CONTEXT_DIR`]; that is empty but for the ignore rules unless it is wanted.
    pub async fn fetch_all(&self, dir: &Path, with_context: bool) -> Result<Fetched> {
        let name = self.attribute("filename", "Dockerfile");
        let mut teller = Teller::new(self.build);
        let context = sub(dir, CONTEXT_DIR)?;
        if let Some(id) = self.attributes.get("context").and_then(|url| url.strip_prefix(upload::SCHEME)) {
            teller.begin("[internal] load remote build context");
            let session = self.sessions.find(&self.build.session).await?;
            let bytes = upload::fetch(session, id, context.clone()).await?;
            teller.done(&format!("transferring context: {bytes}B"));
            let text = read(&context, &name)?.ok_or_else(|| Error::NoDockerfile { name: name.clone() })?;
            check_syntax(&text)?;
            let contexts = self.named_contexts(&mut teller, dir).await?;
            return Ok(Fetched { name, text, contexts, kept: None });
        }
        teller.begin(&format!("[internal] load build definition from {name}"));
        let rules_name = format!("{name}{IGNORE_FILE}");
        let file_dir = sub(dir, "dockerfile")?;
        let follow = vec![name.clone(), rules_name.clone()];
        let wanted =
            Wanted { dir: self.attribute("dockerfilekey", "dockerfile"), follow, exclude: Vec::new() };
        let bytes = self.fetch(&wanted, &file_dir).await?;
        let text = read(&file_dir, &name)?.ok_or_else(|| Error::NoDockerfile { name: name.clone() })?;
        teller.done(&format!("transferring dockerfile: {bytes}B"));
        check_syntax(&text)?;
        teller.begin("[internal] load .dockerignore");
        let key = self.attribute("contextkey", "context");
        let rules = match read(&file_dir, &rules_name)? {
            Some(rules) => rules,
            None => self.ignore_rules(&key, &sub(dir, "ignore")?).await?,
        };
        if !with_context {
            let path = context.join(IGNORE_FILE);
            std::fs::write(&path, rules).map_err(Error::io(format!("write {}", path.display())))?;
            return Ok(Fetched { name, text, contexts: BTreeMap::new(), kept: None });
        }
        teller.begin("[internal] load build context");
        let wanted = Wanted { dir: key, follow: Vec::new(), exclude: patterns(&rules) };
        let (bytes, kept) = self.fetch_kept(&wanted, context).await?;
        teller.done(&format!("transferring context: {bytes}B"));
        let contexts = self.named_contexts(&mut teller, dir).await?;
        Ok(Fetched { name, text, contexts, kept })
    }

    /// `--build-context`: name → `local:…`, `docker-image://…`.
    async fn named_contexts(
        &self,
        teller: &mut Teller<'_>,
        dir: &Path,
    ) -> Result<BTreeMap<String, NamedContext>> {
        let mut contexts = BTreeMap::new();
        let named =
            self.attributes.iter().filter_map(|(key, value)| Some((key.strip_prefix("context:")?, value)));
        for (number, (name, value)) in named.enumerate() {
            let context = if let Some(image) = value.strip_prefix("docker-image://") {
                NamedContext::Image(image.to_owned())
            } else if let Some(local) = value.strip_prefix("local:") {
                teller.begin(&format!("[context {name}] load from client"));
                let rules = self.ignore_rules(local, &sub(dir, &format!("ignore-{number}"))?).await?;
                let into = sub(dir, &format!("context-{number}"))?;
                let wanted = Wanted { dir: local.to_owned(), follow: Vec::new(), exclude: patterns(&rules) };
                let bytes = self.fetch(&wanted, &into).await?;
                teller.done(&format!("transferring {name}: {bytes}B"));
                NamedContext::Directory(into)
            } else {
                let hint = "name a directory or docker-image://…";
                return Err(Error::Unsupported { what: format!("the named context {name}={value}"), hint });
            };
            contexts.insert(name.to_owned(), context);
        }
        teller.end(None);
        Ok(contexts)
    }

    /// The text of a directory's own ignore file; empty when there is none.
    async fn ignore_rules(&self, key: &str, into: &Path) -> Result<String> {
        let wanted =
            Wanted { dir: key.to_owned(), follow: vec![IGNORE_FILE.to_owned()], exclude: Vec::new() };
        self.fetch(&wanted, into).await?;
        Ok(read(into, IGNORE_FILE)?.unwrap_or_default())
    }

    async fn fetch(&self, wanted: &Wanted, into: &Path) -> Result<u64> {
        let named = self.attributes.get(&format!("local-sessionid:{}", wanted.dir));
        let mut session = self.sessions.find(named.unwrap_or(&self.build.session)).await?;
        fetch(&mut session, wanted, &Into::Empty(into.to_owned())).await
    }

    /// Into what is kept of the same directory of the same client, so that only what changed is sent; into `into` when the
    /// client doesn't say which directory it is, or another build has it.
    async fn fetch_kept(&self, wanted: &Wanted, into: PathBuf) -> Result<(u64, Option<Arc<KeptContext>>)> {
        let named = self.attributes.get(&format!("local-sessionid:{}", wanted.dir));
        let mut session = self.sessions.find(named.unwrap_or(&self.build.session)).await?;
        let kept = match session.shared_key() {
            "" => None,
            key => self.kept.take(&format!("session {key} {}", wanted.dir))?.map(Arc::new),
        };
        let into = kept.clone().map_or(Into::Empty(into), Into::Kept);
        Ok((fetch(&mut session, wanted, &into).await?, kept))
    }

    fn attribute(&self, key: &str, default: &str) -> String {
        self.attributes.get(key).cloned().unwrap_or_else(|| default.to_owned())
    }
}

/// Refuses a `# syntax=` that names somebody else's language.
fn check_syntax(text: &str) -> Result<()> {
    let directives = text.trim_start_matches('\u{feff}').lines().map_while(|line| line.strip_prefix('#'));
    let syntax = directives
        .filter_map(|line| line.split_once('='))
        .find(|(key, _)| key.trim().eq_ignore_ascii_case("syntax"));
    let Some((_, value)) = syntax else { return Ok(()) };
    let image = value.trim().split(' ').next().unwrap_or("");
    let plain = image.strip_prefix("docker.io/").unwrap_or(image);
    let plain = plain.split(['@', ':']).next().unwrap_or("");
    if plain.is_empty() || OWN_FRONTENDS.contains(&plain) {
        return Ok(());
    }
    let hint = "naru reads Dockerfiles with its own builder; leave the line out if it is one";
    Err(Error::Unsupported { what: format!("the frontend {image:?} of `# syntax=`"), hint })
}

fn sub(dir: &Path, name: &str) -> Result<PathBuf> {
    let path = dir.join(name);
    std::fs::create_dir(&path).map_err(Error::io(format!("make {}", path.display())))?;
    Ok(path)
}

/// A text that a transfer brought; its links lead nowhere outside of the transfer.
fn read(dir: &Path, name: &str) -> Result<Option<String>> {
    use rustix::fs::{Mode, OFlags, ResolveFlags};
    let step = || format!("read {name} of the build context");
    let open = || {
        let dir = rustix::fs::open(dir, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        rustix::fs::openat2(dir, name, flags, Mode::empty(), ResolveFlags::IN_ROOT)
    };
    let file = match open() {
        Ok(file) => std::fs::File::from(file),
        Err(rustix::io::Errno::NOENT) => return Ok(None),
        Err(errno) => return Err(Error::sys(step())(errno)),
    };
    let mut text = String::new();
    let mut bounded = std::io::Read::take(file, TEXT_BYTES_MAX + 1);
    std::io::Read::read_to_string(&mut bounded, &mut text).map_err(Error::io(step()))?;
    if text.len() as u64 > TEXT_BYTES_MAX {
        return Err(Error::TransferLimit { dir: name.to_owned(), what: "bytes", max: TEXT_BYTES_MAX });
    }
    Ok(Some(text))
}

/// The lines of .dockerignore as patterns: without comments, blanks and leading slashes.
fn patterns(rules: &str) -> Vec<String> {
    let lines =
        rules.trim_start_matches('\u{feff}').lines().filter(|line| !line.starts_with('#')).map(str::trim);
    lines
        .map(|line| match line.strip_prefix('!') {
            Some(rest) => format!("!{}", clean(rest.trim())),
            None => clean(line),
        })
        .filter(|pattern| !pattern.is_empty() && pattern != "!")
        .collect()
}

fn clean(pattern: &str) -> String {
    let parts = pattern.split('/').filter(|part| !part.is_empty() && *part != ".");
    parts.collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ignore_rules_become_patterns() {
        assert_eq!(patterns("# c\n/a/\n\n ./b//c \n!/d\n*.log"), ["a", "b/c", "!d", "*.log"]);
    }

    #[test]
    fn other_languages_are_refused() {
        for text in [
            "FROM a",
            "# syntax=docker/dockerfile:1\nFROM a",
            "#syntax = docker.io/docker/dockerfile@sha256:0",
        ] {
            assert!(check_syntax(text).is_ok(), "{text}");
        }
        assert!(check_syntax("# escape=`\n# syntax=some/one:1\nFROM a").is_err());
        assert!(check_syntax("FROM a\n# syntax=some/one:1").is_ok());
    }
}
