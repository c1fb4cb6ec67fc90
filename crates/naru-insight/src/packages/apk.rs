//! Alpine packages: the database of apk-tools 2 and 3 in its text form (apk-package(5): records of `LETTER:value` lines).

use super::{Finder, purl};
use naru_wire::analysis::{Ecosystem, Package};

const DATABASES: [&str; 2] = ["lib/apk/db/installed", "usr/lib/apk/db/installed"];

pub fn find(finder: &mut Finder<'_>) {
    for path in DATABASES {
        let Some(text) = finder.database(path.as_bytes()) else { continue };
        for record in text.split("\n\n") {
            if let Some(package) = package(finder, record, path) {
                finder.add(package);
            }
        }
    }
}

fn package(finder: &Finder<'_>, record: &str, path: &str) -> Option<Package> {
    let field = |key: &str| record.lines().find_map(|line| line.strip_prefix(key)).map(str::trim_end);
    let (name, version) = (field("P:")?, field("V:")?);
    let distro = finder.os.distro();
    let qualifiers = [("arch", field("A:").unwrap_or_default()), ("distro", distro.as_str())];
    let vendor = finder.os.vendor_or("alpine").to_ascii_lowercase();
    Some(Package {
        ecosystem: Ecosystem::Apk,
        name: name.to_owned(),
        version: version.to_owned(),
        purl: purl("apk", &vendor, &name.to_ascii_lowercase(), version, &qualifiers),
        license: field("L:").unwrap_or_default().to_owned(),
        locations: vec![path.to_owned()],
    })
}

#[cfg(test)]
mod tests {
    use crate::packages::tests::{found, purls};

    #[test]
    fn a_database_of_alpine() {
        let database = b"C:Q1abc=\nP:musl\nV:1.2.5-r0\nA:x86_64\nS:407278\nT:the musl c library\nL:MIT\nF:lib\nR:V:odd\n\nP:libstdc++\nV:13.2.1_git20240309-r0\nA:x86_64\nL:GPL-2.0-or-later LGPL-2.1-or-later\n\nP:broken\n\n";
        let found = found(&[
            ("lib/apk/db/installed", database),
            ("etc/os-release", b"NAME=\"Alpine Linux\"\nID=alpine\nVERSION_ID=3.20.1\n"),
        ]);
        assert_eq!(
            purls(&found),
            [
                "pkg:apk/alpine/libstdc%2B%2B@13.2.1_git20240309-r0?arch=x86_64&distro=alpine-3.20.1",
                "pkg:apk/alpine/musl@1.2.5-r0?arch=x86_64&distro=alpine-3.20.1",
            ]
        );
        assert_eq!(found.packages[1].license, "MIT");
        assert_eq!(found.distribution, "alpine 3.20.1");
    }
}
