//! Python distributions, as `pip list` sees them: the metadata directories of where Python looks for packages
//! (packaging.python.org, "Recording installed projects").

use super::{Finder, Place, purl};
use crate::Result;
use crate::tree::lossy;
use naru_wire::analysis::{Ecosystem, Package};

/// Names of the directories that are on Python's path, as pip and Debian have them.
const ROOTS: [&str; 2] = ["site-packages", "dist-packages"];
/// How much of a metadata file is read: its fields come before the description.
const HEAD_BYTES_MAX: u64 = 256 << 10;

pub fn find(finder: &mut Finder<'_>, place: &Place<'_>) -> Result<()> {
    if !is_metadata(place.shown) {
        return Ok(());
    }
    let text = lossy(finder.tree.head(place.raw, HEAD_BYTES_MAX)?);
    // Fields as in mail; the description behind the first empty line may say anything.
    let field = |name: &str| {
        let mut head = text.lines().take_while(|line| !line.is_empty());
        let line = head.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.map(str::trim).filter(|value| !value.is_empty() && *value != "UNKNOWN")
    };
    let (Some(name), Some(version)) = (field("Name"), field("Version")) else {
        finder.note(format!("not read: /{} has no name and version", place.shown));
        return Ok(());
    };
    finder.add(Package {
        ecosystem: Ecosystem::Pypi,
        name: name.to_owned(),
        version: version.to_owned(),
        purl: purl("pypi", "", &normal(name), version, &[]),
        license: field("License-Expression").or_else(|| field("License")).unwrap_or_default().to_owned(),
        locations: vec![place.shown.to_owned()],
    });
    Ok(())
}

/// `…/x.dist-info/METADATA`, `….egg-info/PKG-INFO`, `….egg-info`, `….egg/EGG-INFO/PKG-INFO`.
fn is_metadata(path: &str) -> bool {
    let mut parts: Vec<&str> = path.split('/').collect();
    let last = parts.pop().unwrap_or_default();
    let entry = match last {
        "METADATA" | "PKG-INFO" => parts.pop().unwrap_or_default(),
        _ => last,
    };
    let entry = if entry == "EGG-INFO" { parts.pop().unwrap_or_default() } else { entry };
    let end = match (last, entry) {
        ("METADATA", _) => ".dist-info",
        (_, entry) if entry.ends_with(".egg") => ".egg",
        _ => ".egg-info",
    };
    // pip renames what it is about to remove to `~…`, and ignores it.
    entry.ends_with(end) && !entry.starts_with('~') && is_on_path(&parts)
}

/// Directly in one of [`ROOTS`]; or, outside of them, in a directory that `pip install --target` fills. What a package brings along
/// within itself (`setuptools/_vendor`) is not listed by pip.
fn is_on_path(directory: &[&str]) -> bool {
    match directory.iter().rposition(|part| ROOTS.contains(part)) {
        Some(root) => root + 1 == directory.len(),
        None => !directory.is_empty() && !directory.contains(&"_vendor"),
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
    use crate::packages::tests::{found, purls};

    #[test]
    fn where_python_looks() {
        for path in [
            "usr/local/lib/python3.11/site-packages/a-1.dist-info/METADATA",
            "usr/lib/python3/dist-packages/b.egg-info/PKG-INFO",
            "usr/lib/python3/dist-packages/c-1.egg-info",
            "venv/lib/python3.11/site-packages/d-1-py3.11.egg/EGG-INFO/PKG-INFO",
            "app/libs/e-1.dist-info/METADATA",
        ] {
            assert!(is_metadata(path), "{path}");
        }
        for path in [
            "usr/lib/python3/dist-packages/x/METADATA",
            "site-packages/a/METADATA",
            "site-packages/a/b.dist-info/METADATA",
            "site-packages/setuptools/_vendor/b-1.dist-info/METADATA",
            "app/libs/setuptools/_vendor/b-1.dist-info/METADATA",
            "site-packages/~ip-24.dist-info/METADATA",
            "site-packages/a.dist-info/licenses/METADATA",
            "METADATA",
        ] {
            assert!(!is_metadata(path), "{path}");
        }
        assert_eq!(normal("Zope._Interface-x"), "zope-interface-x");
    }

    #[test]
    fn metadata() {
        let long = [&b"Metadata-Version: 2.1\nName: long\nVersion: 1\n\n"[..], &vec![b'x'; 1 << 20]].concat();
        let found = found(&[
            ("s/site-packages/Zope.Interface-5.dist-info/METADATA", b"Metadata-Version: 2.4\r\nName: Zope.Interface\r\nVersion: 5.0+local\r\nLicense-Expression: ZPL-2.1\r\n\r\nName: no\r\n"),
            ("s/site-packages/long-1.dist-info/METADATA", &long),
            ("s/site-packages/empty-1.dist-info/METADATA", b""),
            ("s/site-packages/bad-1.dist-info/METADATA", b"\xff\nVersion: 1\n"),
        ]);
        assert_eq!(purls(&found), ["pkg:pypi/zope-interface@5.0%2Blocal", "pkg:pypi/long@1"]);
        assert_eq!(found.packages[0].license, "ZPL-2.1");
        assert_eq!(
            found.notes,
            ["bad", "empty"].map(|name| format!(
                "not read: /s/site-packages/{name}-1.dist-info/METADATA has no name and version"
            ))
        );
    }
}
