//! Debian packages: dpkg's database (deb822(5) paragraphs), and one file for each package where an image has no dpkg (distroless).

use super::{Finder, purl};
use naru_wire::analysis::{Ecosystem, Package};

const STATUS: &str = "var/lib/dpkg/status";
const STATUS_DIR: &str = "var/lib/dpkg/status.d";

pub fn find(finder: &mut Finder<'_>) {
    if let Some(text) = finder.database(STATUS.as_bytes()) {
        for paragraph in text.split("\n\n").filter(|paragraph| is_installed(paragraph)) {
            if let Some(package) = package(finder, paragraph, STATUS) {
                finder.add(package);
            }
        }
    }
    let tree = finder.tree;
    for (path, _) in tree.beneath(STATUS_DIR.as_bytes()).filter(|(path, _)| !path.ends_with(b".md5sums")) {
        // Bazel's rules write such a paragraph for each package that they unpack, without a status.
        let Some(text) = finder.database(path) else { continue };
        if let Some(package) = package(finder, &text, &crate::tree::shown(path)) {
            finder.add(package);
        }
    }
}

/// The third word of the status is what the package is; `hold ok installed` is installed too, `deinstall ok config-files` is what
/// `apt-get remove` leaves.
fn is_installed(paragraph: &str) -> bool {
    field(paragraph, "Status").is_some_and(|status| status.split_whitespace().nth(2) == Some("installed"))
}

fn package(finder: &Finder<'_>, paragraph: &str, path: &str) -> Option<Package> {
    let (name, version) = (field(paragraph, "Package")?, field(paragraph, "Version")?);
    let distro = finder.os.distro();
    let arch = field(paragraph, "Architecture").unwrap_or_default();
    let vendor = finder.os.vendor_or("debian").to_ascii_lowercase();
    let qualifiers = [("arch", arch), ("distro", distro.as_str())];
    Some(Package {
        ecosystem: Ecosystem::Deb,
        name: name.to_owned(),
        version: version.to_owned(),
        purl: purl("deb", &vendor, &name.to_ascii_lowercase(), version, &qualifiers),
        license: String::new(),
        locations: vec![path.to_owned()],
    })
}

fn field<'a>(paragraph: &'a str, name: &str) -> Option<&'a str> {
    let line = paragraph.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.map(str::trim).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use crate::packages::tests::{found, purls};

    #[test]
    fn what_is_installed() {
        let status = b"Package: libstdc++6\nStatus: install ok installed\nArchitecture: amd64\nMulti-Arch: same\nVersion: 12.2.0-14\nDescription: x\n Version: 9\n\nPackage: held\nStatus: hold ok installed\nArchitecture: all\nVersion: 1:2~b\n\nPackage: gone\nStatus: deinstall ok config-files\nVersion: 1\n\nPackage: half\nStatus: install reinstreq half-installed\nVersion: 1\n\nVersion: 3\n\nPackage: bare\nVersion: 1\n";
        let found = found(&[
            ("var/lib/dpkg/status", status),
            ("var/lib/dpkg/status.d/tzdata", b"Package: tzdata\nVersion: 2024a-0\nArchitecture: all\n"),
            ("var/lib/dpkg/status.d/tzdata.md5sums", b"Package: no\nVersion: 1\n"),
            ("etc/os-release", b"ID=debian\nVERSION_ID=\"12\"\n"),
        ]);
        assert_eq!(
            purls(&found),
            [
                "pkg:deb/debian/held@1:2~b?arch=all&distro=debian-12",
                "pkg:deb/debian/libstdc%2B%2B6@12.2.0-14?arch=amd64&distro=debian-12",
                "pkg:deb/debian/tzdata@2024a-0?arch=all&distro=debian-12",
            ]
        );
    }
}
