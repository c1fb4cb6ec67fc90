//! Where packages come from: an option, the host's own apt sources in either of their formats (sources.list(5)), or a snapshot.

use crate::control::paragraphs;
use crate::error::{BootstrapError, Result};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Longest file of apt's configuration that is read, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// The only component that a minimal system needs.
pub const COMPONENT: &str = "main";

/// One suite at one address, as apt has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Without a slash at the end.
    pub uri: String,
    pub suite: String,
    pub components: Vec<String>,
    pub signed_by: Option<SignedBy>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SignedBy {
    File(PathBuf),
    /// The armored key itself.
    Key(String),
}

/// The sources of packages that the machine at `root` uses itself, in the order of the files' names.
pub fn of_host(root: &Path) -> Result<Vec<Source>> {
    let mut files = vec![root.join("etc/apt/sources.list")];
    files.extend(listed(&root.join("etc/apt/sources.list.d"))?);
    let mut found = Vec::new();
    for file in files {
        let Some(text) = read(&file)? else { continue };
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("list") => found.extend(text.lines().filter_map(one_line)),
            Some("sources") => found.extend(deb822(&text)),
            _ => {}
        }
    }
    Ok(found)
}

/// The proxy that apt uses for HTTP, when it is written in the usual one line: `Acquire::http::Proxy "http://…";` (apt.conf(5)).
pub fn host_proxy(root: &Path) -> Result<Option<String>> {
    let mut files = vec![root.join("etc/apt/apt.conf")];
    files.extend(listed(&root.join("etc/apt/apt.conf.d"))?);
    let mut found = None;
    for file in files {
        let Some(text) = read(&file)? else { continue };
        for line in text.lines() {
            let line = line.trim();
            let name = line.get(.."Acquire::http::Proxy".len()).unwrap_or_default();
            if name.eq_ignore_ascii_case("Acquire::http::Proxy") {
                let value = line[name.len()..].trim().trim_end_matches(';').trim().trim_matches('"');
                // The last word wins, as in apt; `DIRECT` and an empty one switch the proxy off.
                found = Some(value.to_owned()).filter(|value| value.contains("://"));
            }
        }
    }
    Ok(found)
}

/// The source that holds `suite` of a distribution: one of exactly that suite; or else the address of the distribution's other suites.
pub fn for_suite(sources: &[Source], distribution: &str, suite: &str) -> Result<Source> {
    let has_main = |source: &&Source| source.components.iter().any(|name| name == COMPONENT);
    let mut main = sources.iter().filter(has_main);
    if let Some(exact) = main.clone().find(|source| source.suite == suite) {
        return Ok(exact.clone());
    }
    let is_theirs = |source: &&Source| source.uri.rsplit('/').next() == Some(distribution);
    let other = main.find(is_theirs);
    let other = other.ok_or_else(|| BootstrapError::NoMirror { suite: format!("{distribution}:{suite}") })?;
    Ok(Source { suite: suite.to_owned(), components: vec![COMPONENT.into()], ..other.clone() })
}

/// The suite together with its updates, as the host has them (`bookworm-updates`, `bookworm-security`).
pub fn with_updates(sources: &[Source], main: &Source) -> Vec<Source> {
    let updates = format!("{}-", main.suite);
    let mut found = vec![main.clone()];
    found.extend(sources.iter().filter(|source| source.suite.starts_with(&updates)).cloned());
    found
}

/// As a `.sources` file. `key` is where the new root finds the key.
pub fn render(sources: &[Source], key: &str, is_snapshot: bool) -> String {
    let stanza = |source: &Source| {
        let valid = if is_snapshot { "Check-Valid-Until: no\n" } else { "" };
        let components = source.components.join(" ");
        format!(
            "Types: deb\nURIs: {}\nSuites: {}\nComponents: {components}\nSigned-By: {key}\n{valid}",
            source.uri, source.suite
        )
    };
    sources.iter().map(stanza).collect::<Vec<_>>().join("\n")
}

/// `deb [signed-by=/k.gpg arch=amd64] http://mirror/debian bookworm main`
fn one_line(line: &str) -> Option<Source> {
    let rest = line.trim().strip_prefix("deb")?.trim_start();
    let (options, rest) = match rest.strip_prefix('[') {
        Some(inner) => inner.split_once(']')?,
        None => ("", rest),
    };
    let mut words = rest.split_whitespace();
    let (uri, suite) = (words.next()?, words.next()?);
    let signed_by = options.split_whitespace().find_map(|option| option.strip_prefix("signed-by="));
    Some(Source {
        uri: http(uri)?,
        suite: suite.to_owned(),
        components: words.take_while(|word| !word.starts_with('#')).map(str::to_owned).collect(),
        signed_by: signed_by.map(|path| SignedBy::File(path.into())),
    })
}

fn deb822(text: &str) -> Vec<Source> {
    let mut found = Vec::new();
    for fields in paragraphs(text) {
        let is_on = !fields.text("Enabled").is_some_and(|value| value.eq_ignore_ascii_case("no"));
        if !is_on || !fields.words("Types").contains(&"deb") {
            continue;
        }
        let lines = fields.lines("Signed-By");
        let signed_by = match lines {
            [] => None,
            _ if lines.iter().any(|line| line.starts_with("-----BEGIN")) => {
                // An empty line within a field is written as a dot.
                let lines: Vec<&str> =
                    lines.iter().map(|line| if *line == "." { "" } else { line }).collect();
                Some(SignedBy::Key(lines.join("\n")))
            }
            _ => fields.words("Signed-By").first().map(|path| SignedBy::File(path.into())),
        };
        for uri in fields.words("URIs").into_iter().filter_map(http) {
            for suite in fields.words("Suites") {
                found.push(Source {
                    uri: uri.clone(),
                    suite: suite.to_owned(),
                    components: fields.words("Components").into_iter().map(str::to_owned).collect(),
                    signed_by: signed_by.clone(),
                });
            }
        }
    }
    found
}

/// Other methods of apt (`cdrom:`, `file:`) aren't for a container's sources.
fn http(uri: &str) -> Option<String> {
    let is_http = uri.starts_with("http://") || uri.starts_with("https://");
    is_http.then(|| uri.trim_end_matches('/').to_owned())
}

fn listed(dir: &Path) -> Result<Vec<PathBuf>> {
    let items = match std::fs::read_dir(dir) {
        Ok(items) => items,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(BootstrapError::io("list", dir)(error)),
    };
    let mut found = Vec::new();
    for item in items {
        found.push(item.map_err(BootstrapError::io("list", dir))?.path());
    }
    found.sort();
    Ok(found)
}

fn read(path: &Path) -> Result<Option<String>> {
    match std::fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(BootstrapError::io("look at", path)(error)),
        Ok(found) if !found.is_file() || found.len() > FILE_BYTES_MAX => return Ok(None),
        Ok(_) => {}
    }
    let bytes = std::fs::read(path).map_err(BootstrapError::io("read", path))?;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let apt = dir.path().join("etc/apt");
        std::fs::create_dir_all(apt.join("sources.list.d")).unwrap();
        std::fs::create_dir_all(apt.join("apt.conf.d")).unwrap();
        let list = "# deb http://no/debian x main\ndeb-src http://no/debian x main\ndeb cdrom:[x]/ bookworm main\ndeb [arch=amd64 signed-by=/k.gpg] http://m/ubuntu/ noble main universe # c\n";
        std::fs::write(apt.join("sources.list"), list).unwrap();
        let stanza = "Types: deb deb-src\nURIs: https://m/debian/\nSuites: bookworm bookworm-updates\nComponents: main\nSigned-By:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n abc\n -----END PGP PUBLIC KEY BLOCK-----\n\nTypes: deb\nEnabled: no\nURIs: http://off/debian\nSuites: sid\nComponents: main\n";
        std::fs::write(apt.join("sources.list.d/debian.sources"), stanza).unwrap();
        std::fs::write(apt.join("apt.conf.d/80proxy"), "acquire::http::proxy \"http://p:3128/\";\n").unwrap();
        dir
    }

    #[test]
    fn both_formats_are_read() {
        let dir = host();
        let found = of_host(dir.path()).unwrap();
        let shown: Vec<String> =
            found.iter().map(|source| format!("{} {}", source.uri, source.suite)).collect();
        assert_eq!(
            shown,
            ["http://m/ubuntu noble", "https://m/debian bookworm", "https://m/debian bookworm-updates"]
        );
        assert_eq!(found[0].signed_by, Some(SignedBy::File("/k.gpg".into())));
        assert!(matches!(&found[1].signed_by, Some(SignedBy::Key(key)) if key.contains("-----\n\nabc\n")));
        assert_eq!(host_proxy(dir.path()).unwrap().as_deref(), Some("http://p:3128/"));
        let main = for_suite(&found, "debian", "bookworm").unwrap();
        assert_eq!(with_updates(&found, &main).len(), 2);
        assert_eq!(for_suite(&found, "debian", "trixie").unwrap().uri, "https://m/debian");
        assert!(matches!(for_suite(&found, "devuan", "x"), Err(BootstrapError::NoMirror { .. })));
    }

    #[test]
    fn a_host_without_apt_has_no_sources() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(of_host(dir.path()).unwrap(), []);
        assert_eq!(host_proxy(dir.path()).unwrap(), None);
    }
}
