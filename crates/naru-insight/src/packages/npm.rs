//! Node.js packages, as `npm ls` sees them: what lies in a `node_modules` directory, or in that of such a package.

use super::{Ecosystem, Finder, MANIFEST_BYTES_MAX, Package, purl};
use crate::Result;
use serde_json::Value;

pub fn find(finder: &mut Finder<'_>, path: &str) -> Result<()> {
    if !is_installed(path) {
        return Ok(());
    }
    let text = finder.tree.text(path, MANIFEST_BYTES_MAX)?;
    let Ok(value) = serde_json::from_str::<Value>(&text) else {
        finder.note(&format!("/{path}: it is not JSON"));
        return Ok(());
    };
    let (Some(name), Some(version)) = (value["name"].as_str(), value["version"].as_str()) else {
        return Ok(());
    };
    let (namespace, base) = name.rsplit_once('/').unwrap_or(("", name));
    // Older packages write `{"type": "MIT"}`.
    let license = value["license"].as_str().or_else(|| value["license"]["type"].as_str());
    finder.add(Package {
        ecosystem: Ecosystem::Npm,
        name: name.to_owned(),
        version: version.to_owned(),
        purl: purl("npm", namespace, base, version, &[]),
        license: license.unwrap_or_default().to_owned(),
        locations: vec![path.to_owned()],
    });
    Ok(())
}

/// Whether from the outermost `node_modules` on the path goes from package to package: fixtures and the like within packages don't
/// count, nor what begins with a dot.
fn is_installed(path: &str) -> bool {
    let mut parts = path.split('/').skip_while(|part| *part != "node_modules").peekable();
    let mut is_any = false;
    while parts.next_if(|part| *part == "node_modules").is_some() {
        let Some(name) = parts.next() else { return false };
        if name.starts_with('.') || (name.starts_with('@') && parts.next().is_none()) {
            return false;
        }
        is_any = true;
    }
    is_any && parts.next() == Some("package.json") && parts.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::is_installed;

    #[test]
    fn where_npm_looks() {
        for path in [
            "app/node_modules/a/package.json",
            "node_modules/@s/b/package.json",
            "x/node_modules/a/node_modules/b/package.json",
        ] {
            assert!(is_installed(path), "{path}");
        }
        for path in [
            "app/package.json",
            "node_modules/a/lib/package.json",
            "node_modules/.cache/package.json",
            "node_modules/package.json",
            "node_modules/a/test/node_modules/b/package.json",
        ] {
            assert!(!is_installed(path), "{path}");
        }
    }
}
