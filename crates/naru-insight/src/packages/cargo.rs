//! Rust crates: lock files, and programs built with `cargo auditable` (section `.dep-v0`: JSON, compressed by zlib).

use super::{Ecosystem, Finder, Package, TEXT_BYTES_MAX, purl};
use crate::Result;
use serde_json::Value;
use std::io::Read;

/// Largest list of a program, uncompressed.
const AUDITED_BYTES_MAX: u64 = 64 << 20;

/// `[[package]]` tables with one `key = "value"` in a line, as cargo itself writes them; packages without a source are the project's own.
pub fn lock(finder: &mut Finder<'_>, path: &str) -> Result<()> {
    let text = finder.tree.text(path, TEXT_BYTES_MAX)?;
    for table in text.split("[[package]]").skip(1) {
        let value = |key: &str| {
            let mut lines = table.lines().take_while(|line| !line.starts_with('['));
            lines.find_map(|line| {
                line.strip_prefix(key)?
                    .trim_start()
                    .strip_prefix('=')?
                    .trim()
                    .strip_prefix('"')?
                    .strip_suffix('"')
            })
        };
        if let (Some(name), Some(version), Some(_)) = (value("name"), value("version"), value("source")) {
            finder.add(package(name, version, path));
        }
    }
    Ok(())
}

pub fn audited(finder: &mut Finder<'_>, path: &str, data: &[u8]) {
    let mut json = Vec::new();
    let read = flate2::read::ZlibDecoder::new(data).take(AUDITED_BYTES_MAX).read_to_end(&mut json);
    let value: Value = match (read, serde_json::from_slice(&json)) {
        (Ok(_), Ok(value)) => value,
        _ => return finder.note(&format!("/{path}: its list of crates is damaged")),
    };
    for item in value["packages"].as_array().into_iter().flatten() {
        // What only the build needed is not in the program.
        if let (Some(name), Some(version), false) =
            (item["name"].as_str(), item["version"].as_str(), item["kind"] == "build")
        {
            finder.add(package(name, version, path));
        }
    }
}

fn package(name: &str, version: &str, path: &str) -> Package {
    Package {
        ecosystem: Ecosystem::Cargo,
        name: name.to_owned(),
        version: version.to_owned(),
        purl: purl("cargo", "", name, version, &[]),
        license: String::new(),
        locations: vec![path.to_owned()],
    }
}
