//! Debian packages: dpkg's database, and one file for each package where an image has no dpkg (distroless).

use super::{Ecosystem, Finder, Package, purl};

const STATUS: &str = "var/lib/dpkg/status";
const STATUS_DIR: &str = "var/lib/dpkg/status.d";

pub fn find(finder: &mut Finder<'_>) {
    let mut paths = vec![STATUS.to_owned()];
    let single = finder.tree.beneath(STATUS_DIR).map(|(path, _)| path.to_owned());
    paths.extend(single.filter(|path| !path.ends_with(".md5sums")));
    for path in paths {
        let Some(text) = finder.text_of(&path) else { continue };
        for paragraph in text.split("\n\n") {
            if let Some(package) = package(finder, paragraph, &path) {
                finder.add(package);
            }
        }
    }
}

fn package(finder: &Finder<'_>, paragraph: &str, path: &str) -> Option<Package> {
    let field = |name: &str| {
        let line = paragraph.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.map(str::trim).filter(|value| !value.is_empty())
    };
    // `config-files`: removed, and only its configuration left.
    if field("Status").is_some_and(|status| !status.ends_with(" installed")) {
        return None;
    }
    let (name, version) = (field("Package")?, field("Version")?);
    let distro = if finder.os.version.is_empty() {
        finder.os.id.clone()
    } else {
        format!("{}-{}", finder.os.id, finder.os.version)
    };
    let vendor = if finder.os.id.is_empty() { "debian" } else { &finder.os.id };
    let qualifiers = [("arch", field("Architecture").unwrap_or_default()), ("distro", &distro)];
    Some(Package {
        ecosystem: Ecosystem::Deb,
        name: name.to_owned(),
        version: version.to_owned(),
        purl: purl("deb", vendor, name, version, &qualifiers),
        license: String::new(),
        locations: vec![path.to_owned()],
    })
}
