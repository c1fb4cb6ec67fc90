//! Node.js packages, as `npm ls --all` counts them: what lies in a `node_modules` directory, or in that of such a package.

use super::{Finder, Place, purl};
use crate::Result;
use naru_wire::analysis::{Ecosystem, Package};
use serde::Deserialize;
use serde_json::Value;

/// Largest package.json that is read. Those with a whole manual within have 200 kB.
const MANIFEST_BYTES_MAX: u64 = 2 << 20;

/// npm takes a package without a version, and one whose words have another type, for broken; so do we.
#[derive(Deserialize)]
struct Manifest {
    #[serde(default)]
    name: Value,
    #[serde(default)]
    version: Value,
    #[serde(default)]
    license: Value,
}

pub fn find(finder: &mut Finder<'_>, place: &Place<'_>) -> Result<()> {
    if !is_installed(place.shown) {
        return Ok(());
    }
    let text = finder.tree.text(place.raw, MANIFEST_BYTES_MAX)?;
    let Ok(manifest) = serde_json::from_str::<Manifest>(text.trim_start_matches('\u{feff}')) else {
        finder.note(format!("not read: /{} is not a package's description in JSON", place.shown));
        return Ok(());
    };
    let (Some(name), Some(version)) = (manifest.name.as_str(), manifest.version.as_str()) else {
        return Ok(());
    };
    if name.is_empty() {
        return Ok(());
    }
    let (namespace, base) = name.rsplit_once('/').unwrap_or(("", name));
    // Older packages write `{"type": "MIT"}`.
    let license = manifest.license.as_str().or_else(|| manifest.license["type"].as_str());
    finder.add(Package {
        ecosystem: Ecosystem::Npm,
        name: name.to_owned(),
        version: version.to_owned(),
        purl: purl("npm", namespace, base, version, &[]),
        license: license.unwrap_or_default().to_owned(),
        locations: vec![place.shown.to_owned()],
    });
    Ok(())
}

/// Whether from the outermost `node_modules` on the path goes from package to package: fixtures and the like within packages
/// don't count, nor what begins with a dot; but for pnpm's store, in which each package has a `node_modules` of its own.
fn is_installed(path: &str) -> bool {
    let mut parts = path.split('/').skip_while(|part| *part != "node_modules").peekable();
    let mut is_any = false;
    while parts.next_if(|part| *part == "node_modules").is_some() {
        let Some(name) = parts.next() else { return false };
        if name == ".pnpm" {
            // `.pnpm/NAME@VERSION/node_modules/NAME`
            parts.next();
            is_any = false;
            continue;
        }
        if name.starts_with('.') || (name.starts_with('@') && parts.next().is_none()) {
            return false;
        }
        is_any = true;
    }
    is_any && parts.next() == Some("package.json") && parts.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packages::tests::{found, purls};

    #[test]
    fn where_npm_looks() {
        for path in [
            "app/node_modules/a/package.json",
            "node_modules/@s/b/package.json",
            "x/node_modules/a/node_modules/b/package.json",
            "x/node_modules/.pnpm/@s+b@1.0.0/node_modules/@s/b/package.json",
        ] {
            assert!(is_installed(path), "{path}");
        }
        for path in [
            "app/package.json",
            "node_modules/a/lib/package.json",
            "node_modules/@s/package.json",
            "node_modules/.cache/package.json",
            "node_modules/.pnpm/package.json",
            "node_modules/package.json",
            "node_modules/a/test/node_modules/b/package.json",
        ] {
            assert!(!is_installed(path), "{path}");
        }
    }

    #[test]
    fn manifests() {
        let huge = vec![b' '; MANIFEST_BYTES_MAX as usize + 1];
        let deep = "[".repeat(1 << 20);
        let found = found(&[
            (
                "n/node_modules/JSONStream/package.json",
                br#"{"name":"JSONStream","version":"1.3.5","license":{"type":"MIT"}}"#,
            ),
            (
                "n/node_modules/bom/package.json",
                "\u{feff}{\"name\":\"bom\",\"version\":\"2.0.0\"}".as_bytes(),
            ),
            ("n/node_modules/odd/package.json", br#"{"name":["odd"],"version":"1"}"#),
            ("n/node_modules/deep/package.json", deep.as_bytes()),
            ("n/node_modules/huge/package.json", &huge),
            ("n/node_modules/text/package.json", b"\xff\xfe"),
        ]);
        assert_eq!(purls(&found), ["pkg:npm/JSONStream@1.3.5", "pkg:npm/bom@2.0.0"]);
        assert_eq!(found.packages[0].license, "MIT");
        assert_eq!(
            found.notes,
            [
                "not read: /n/node_modules/deep/package.json is not a package's description in JSON",
                "not read: /n/node_modules/huge/package.json is larger than the 2097152 bytes that are read of such a file",
                "not read: /n/node_modules/text/package.json is not a package's description in JSON",
            ]
        );
    }
}
