//! Alpine packages: the database of apk-tools 2 and 3 in its text form.

use super::{Ecosystem, Finder, Package, purl};

const DATABASES: [&str; 2] = ["lib/apk/db/installed", "usr/lib/apk/db/installed"];

pub fn find(finder: &mut Finder<'_>) {
    for path in DATABASES {
        let Some(text) = finder.text_of(path) else { continue };
        for record in text.split("\n\n") {
            let field =
                |key: &str| record.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
            let (name, version) = (field("P:"), field("V:"));
            if name.is_empty() || version.is_empty() {
                continue;
            }
            let vendor = if finder.os.id.is_empty() { "alpine".to_owned() } else { finder.os.id.clone() };
            let distro = format!("{vendor}-{}", finder.os.version);
            let package = Package {
                ecosystem: Ecosystem::Apk,
                name: name.to_owned(),
                version: version.to_owned(),
                purl: purl(
                    "apk",
                    &vendor,
                    name,
                    version,
                    &[("arch", field("A:")), ("distro", distro.trim_end_matches('-'))],
                ),
                license: field("L:").to_owned(),
                locations: vec![path.to_owned()],
            };
            finder.add(package);
        }
    }
}
