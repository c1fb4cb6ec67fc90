//! Rust crates: lock files, and programs built with `cargo auditable` (section `.dep-v0`: JSON, compressed by zlib).

use super::{DATABASE_BYTES_MAX, Finder, Place, purl};
use crate::Result;
use naru_wire::analysis::{Ecosystem, Package};
use serde::Deserialize;
use std::io::Read;

/// Largest list of a program, unpacked: what cargo-auditable's own reader takes.
const AUDITED_BYTES_MAX: u64 = 8 << 20;

#[derive(Deserialize)]
struct Audited {
    packages: Vec<AuditedCrate>,
}

#[derive(Deserialize)]
struct AuditedCrate {
    name: String,
    version: String,
    #[serde(default)]
    kind: String,
}

/// `[[package]]` tables with one `key = "value"` in a line, as cargo itself writes them; packages without a source are the
/// project's own.
pub fn lock(finder: &mut Finder<'_>, place: &Place<'_>) -> Result<()> {
    let text = finder.tree.text(place.raw, DATABASE_BYTES_MAX)?;
    for table in text.split("[[package]]").skip(1) {
        let value = |key: &str| {
            let mut lines = table.lines().take_while(|line| !line.starts_with('['));
            lines.find_map(|line| {
                let value = line.strip_prefix(key)?.trim_start().strip_prefix('=')?.trim();
                value.strip_prefix('"')?.strip_suffix('"')
            })
        };
        if let (Some(name), Some(version), Some(source)) = (value("name"), value("version"), value("source"))
        {
            finder.add(package(name, version, source, place));
        }
    }
    Ok(())
}

pub fn audited(finder: &mut Finder<'_>, place: &Place<'_>, data: &[u8]) {
    let limited = flate2::read::ZlibDecoder::new(data).take(AUDITED_BYTES_MAX);
    let mut json = Vec::new();
    let list = std::io::BufReader::new(limited).read_to_end(&mut json);
    let Some(list) = list.ok().and_then(|_| serde_json::from_slice::<Audited>(&json).ok()) else {
        return finder.note(format!("not read: the list of crates in /{}", place.shown));
    };
    // What only the build needed is not in the program.
    for item in list.packages.iter().filter(|item| item.kind != "build") {
        finder.add(package(&item.name, &item.version, "", place));
    }
}

fn package(name: &str, version: &str, source: &str, place: &Place<'_>) -> Package {
    // `git+https://host/repository#commit` is not what crates.io has under that name.
    let source = if source.starts_with("git+") { source.replace('#', "@") } else { String::new() };
    Package {
        ecosystem: Ecosystem::Cargo,
        name: name.to_owned(),
        version: version.to_owned(),
        purl: purl("cargo", "", name, version, &[("vcs_url", &source)]),
        license: String::new(),
        locations: vec![place.shown.to_owned()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packages::tests::{found, purls};
    use crate::tree::Tree;
    use std::io::Write;

    #[test]
    fn a_lock_file() {
        let lock = b"version = 4\n\n[[package]]\nname = \"mine\"\nversion = \"0.1.0\"\ndependencies = [\n \"serde\",\n]\n\n[[package]]\nname = \"serde\"\nversion = \"1.0.200\"\nsource = \"registry+https://example.org/index\"\nchecksum = \"00\"\n\n[[package]]\nname = \"forked\"\nversion = \"2.0.0\"\nsource = \"git+https://example.org/forked?branch=x#0123\"\n\n[metadata]\nname = \"no\"\n";
        let found = found(&[("app/Cargo.lock", lock)]);
        assert_eq!(
            purls(&found),
            [
                "pkg:cargo/forked@2.0.0?vcs_url=git%2Bhttps:%2F%2Fexample.org%2Fforked%3Fbranch%3Dx%400123",
                "pkg:cargo/serde@1.0.200",
            ]
        );
    }

    #[test]
    fn a_list_in_a_program() {
        let pack = |text: &[u8]| {
            let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
            encoder.write_all(text).unwrap();
            encoder.finish().unwrap()
        };
        let tree = Tree::default();
        let mut finder = Finder::new(&tree);
        let place = Place { raw: b"app", shown: "app" };
        let good = br#"{"packages":[{"name":"a","version":"1.0.0","source":"crates.io","root":true},{"name":"cc","version":"1.1.0","kind":"build"}]}"#;
        audited(&mut finder, &place, &pack(good));
        audited(&mut finder, &place, &pack(good)[..20]);
        audited(&mut finder, &place, &pack(&vec![b' '; 20 << 20]));
        let found = finder.finish();
        assert_eq!(purls(&found), ["pkg:cargo/a@1.0.0"]);
        assert_eq!(found.notes, ["not read: the list of crates in /app"; 2]);
    }
}
