//! Python distributions, as `pip list` sees them: the metadata directories of where Python looks for packages
//! (packaging.python.org, "Recording installed projects").

use super::{Ecosystem, Finder, MANIFEST_BYTES_MAX, Package, purl};
use crate::Result;

/// Names of the directories that are on Python's path, as pip and Debian have them.
const ROOTS: [&str; 2] = ["site-packages", "dist-packages"];

pub fn find(finder: &mut Finder<'_>, path: &str) -> Result<()> {
    if !is_metadata(path) {
        return Ok(());
    }
    let text = finder.tree.text(path, MANIFEST_BYTES_MAX)?;
    // Fields as in mail; the description behind the first empty line may say anything.
    let head = text.split("\n\n").next().unwrap_or_default();
    let field = |name: &str| {
        let line = head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.map(str::trim).filter(|value| !value.is_empty() && *value != "UNKNOWN")
    };
    let (Some(name), Some(version)) = (field("Name"), field("Version")) else { return Ok(()) };
    finder.add(Package {
        ecosystem: Ecosystem::Pypi,
        name: name.to_owned(),
        version: version.to_owned(),
        purl: purl("pypi", "", &normal(name), version, &[]),
        license: field("License-Expression").or_else(|| field("License")).unwrap_or_default().to_owned(),
        locations: vec![path.to_owned()],
    });
    Ok(())
}

/// `…/site-packages/x.dist-info/METADATA`, `….egg-info/PKG-INFO`, `….egg-info`.
fn is_metadata(path: &str) -> bool {
    let parts: Vec<&str> = path.rsplit('/').take(3).collect();
    let is_root = |part: Option<&&str>| part.is_some_and(|part| ROOTS.contains(part));
    match parts.as_slice() {
        ["METADATA", directory, rest @ ..] => directory.ends_with(".dist-info") && is_root(rest.first()),
        ["PKG-INFO", directory, rest @ ..] => directory.ends_with(".egg-info") && is_root(rest.first()),
        [file, rest @ ..] => file.ends_with(".egg-info") && is_root(rest.first()),
        [] => false,
    }
}

/// The normal form of a name (PEP 503), which purl asks for.
fn normal(name: &str) -> String {
    let mut text = String::new();
    for letter in name.chars() {
        match letter {
            '-' | '_' | '.' if text.ends_with('-') => {}
            '-' | '_' | '.' => text.push('-'),
            other => text.extend(other.to_lowercase()),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_python_looks() {
        for path in [
            "usr/local/lib/python3.11/site-packages/a-1.dist-info/METADATA",
            "usr/lib/python3/dist-packages/b.egg-info/PKG-INFO",
            "usr/lib/python3/dist-packages/c-1.egg-info",
        ] {
            assert!(is_metadata(path), "{path}");
        }
        for path in [
            "usr/share/x.dist-info/METADATA",
            "site-packages/a/METADATA",
            "site-packages/a/b.dist-info/METADATA",
            "METADATA",
        ] {
            assert!(!is_metadata(path), "{path}");
        }
        assert_eq!(normal("Zope._Interface-x"), "zope-interface-x");
    }
}
