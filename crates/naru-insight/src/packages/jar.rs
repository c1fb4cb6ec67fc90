//! Java archives, whose `pom.properties` or manifest names the package; archives within archives too.

use super::zip::{Archive, Source};
use super::{Finder, Place, purl};
use crate::Result;
use crate::tree::lossy;
use naru_wire::analysis::{Ecosystem, Package};

/// How many bytes of all archives of an image are unpacked: a small archive can claim to hold any amount.
pub const UNPACK_BYTES_MAX: u64 = 4 << 30;
/// Archives within archives within an archive.
const DEPTH_MAX: usize = 3;
/// Largest archive within an archive; as many as [`DEPTH_MAX`] are held at a time.
const INNER_BYTES_MAX: u64 = 128 << 20;
/// Largest description of a package.
const DESCRIPTION_BYTES_MAX: u64 = 1 << 20;

pub fn find(finder: &mut Finder<'_>, place: &Place<'_>) -> Result<()> {
    let file = finder.tree.open(place.raw)?;
    look_into(finder, place.shown, Source::File(file), 0);
    Ok(())
}

fn look_into(finder: &mut Finder<'_>, path: &str, source: Source, depth: usize) {
    let Some(archive) = Archive::open(source) else {
        return finder.note(format!("not read: /{path} is not a zip file, or one of the zip64 kind"));
    };
    let mut is_found = false;
    let mut manifest = None;
    for member in archive.members() {
        let name = member.name.as_ref();
        let is_description = name == "META-INF/MANIFEST.MF"
            || (name.starts_with("META-INF/maven/") && name.ends_with("/pom.properties"));
        if !is_description && !name.ends_with(".jar") {
            continue;
        }
        let kind_max = if is_description { DESCRIPTION_BYTES_MAX } else { INNER_BYTES_MAX };
        let limit = kind_max.min(finder.unpack_bytes_left);
        let inner = || format!("{path}!/{name}");
        if !is_description && depth == DEPTH_MAX {
            finder.note(format!("not read: /{} lies more than {DEPTH_MAX} archives deep", inner()));
            continue;
        }
        let Some(content) = archive.content(&member, limit) else {
            // What was tried may have been unpacked up to the limit.
            finder.unpack_bytes_left -= limit;
            finder.note(format!("not read: /{} is damaged or larger than {limit} bytes", inner()));
            continue;
        };
        finder.unpack_bytes_left -= content.len() as u64;
        if !is_description {
            look_into(finder, &inner(), Source::Memory(content), depth + 1);
        } else if name.ends_with(".properties") {
            is_found |= pom(finder, path, &lossy(content));
        } else {
            manifest = Some(lossy(content));
        }
    }
    if let Some(manifest) = manifest.filter(|_| !is_found) {
        by_manifest(finder, path, &manifest);
    }
}

fn pom(finder: &mut Finder<'_>, path: &str, properties: &str) -> bool {
    let value = |key: &str| {
        let line = properties.lines().find_map(|line| line.strip_prefix(key)?.trim_start().strip_prefix('='));
        line.map(str::trim).filter(|value| !value.is_empty())
    };
    let (Some(group), Some(artifact), Some(version)) =
        (value("groupId"), value("artifactId"), value("version"))
    else {
        return false;
    };
    add(finder, group, artifact, version, path);
    true
}

fn by_manifest(finder: &mut Finder<'_>, path: &str, manifest: &str) {
    // Lines of at most 72 bytes are continued behind a blank (the JAR file specification).
    let manifest = manifest.replace("\r\n", "\n").replace("\n ", "");
    let value = |key: &str| {
        let line = manifest.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        line.map(str::trim).filter(|value| !value.is_empty())
    };
    let name = value("Bundle-SymbolicName")
        .or_else(|| value("Automatic-Module-Name"))
        .or_else(|| value("Implementation-Title"));
    let version = value("Implementation-Version").or_else(|| value("Bundle-Version"));
    if let (Some(name), Some(version)) = (name, version) {
        // Directives such as `;singleton:=true` follow a bundle's name.
        let name = name.split(';').next().unwrap_or(name).trim();
        add(finder, value("Implementation-Vendor-Id").unwrap_or_default(), name, version, path);
    }
}

fn add(finder: &mut Finder<'_>, group: &str, artifact: &str, version: &str, path: &str) {
    // A Maven package has a group; what doesn't name one has only the generic form.
    let kind = if group.is_empty() { "generic" } else { "maven" };
    finder.add(Package {
        ecosystem: Ecosystem::Maven,
        name: if group.is_empty() { artifact.to_owned() } else { format!("{group}:{artifact}") },
        version: version.to_owned(),
        purl: purl(kind, group, artifact, version, &[]),
        license: String::new(),
        locations: vec![path.to_owned()],
    });
}

#[cfg(test)]
mod tests {
    use super::super::zip::tests::archive;
    use super::*;
    use crate::packages::tests::{found, purls};
    use crate::tree::Tree;

    const POM: &[u8] =
        b"#Created\r\nversion=2.17.1\r\ngroupId=org.apache.logging.log4j\r\nartifactId=log4j-core\r\n";
    const MANIFEST: &[u8] =
        b"Manifest-Version: 1.0\r\nBundle-SymbolicName: org.example.ve\r\n ry.long;singleton:=true\r\nBundle-Version: 1.2.0\r\n";

    #[test]
    fn archives_within_archives() {
        let pom = "META-INF/maven/org.apache.logging.log4j/log4j-core/pom.properties";
        let inner = archive(&[("META-INF/MANIFEST.MF", MANIFEST), (pom, POM)]);
        let bundle = archive(&[("META-INF/MANIFEST.MF", MANIFEST)]);
        let outer = archive(&[("BOOT-INF/lib/log4j.jar", &inner), ("BOOT-INF/lib/bundle.jar", &bundle)]);
        let found =
            found(&[("app.jar", &outer), ("bad.war", b"PK"), ("cut.jar", &outer[..outer.len() - 30])]);
        assert_eq!(
            purls(&found),
            [
                "pkg:maven/org.apache.logging.log4j/log4j-core@2.17.1",
                "pkg:generic/org.example.very.long@1.2.0",
            ]
        );
        assert_eq!(found.packages[0].name, "org.apache.logging.log4j:log4j-core");
        assert_eq!(found.packages[0].locations, ["app.jar!/BOOT-INF/lib/log4j.jar"]);
        assert_eq!(
            found.notes,
            ["bad.war", "cut.jar"]
                .map(|name| format!("not read: /{name} is not a zip file, or one of the zip64 kind"))
        );
    }

    #[test]
    fn bombs_are_refused() {
        let mut nested = archive(&[("META-INF/MANIFEST.MF", MANIFEST)]);
        for _ in 0..DEPTH_MAX + 2 {
            nested = archive(&[("in.jar", &nested)]);
        }
        let note = found(&[("deep.jar", &nested)]).notes;
        assert_eq!(
            note,
            ["not read: /deep.jar!/in.jar!/in.jar!/in.jar!/in.jar lies more than 3 archives deep"]
        );

        let long = archive(&[("META-INF/MANIFEST.MF", &vec![b' '; DESCRIPTION_BYTES_MAX as usize + 1])]);
        let note = found(&[("long.jar", &long)]).notes;
        assert_eq!(
            note,
            ["not read: /long.jar!/META-INF/MANIFEST.MF is damaged or larger than 1048576 bytes"]
        );

        let tree = Tree::default();
        let mut finder = Finder::new(&tree);
        finder.unpack_bytes_left = 100_000;
        let member = vec![b' '; 90_000];
        let many = archive(&[("a.jar", &member), ("b.jar", &member), ("c.jar", &member)]);
        look_into(&mut finder, "many.jar", Source::Memory(many), 0);
        assert_eq!(finder.unpack_bytes_left, 0);
        let notes = finder.finish().notes;
        assert_eq!(notes[1], "not read: /many.jar!/b.jar is damaged or larger than 10000 bytes");
        assert_eq!(notes[2], "not read: /many.jar!/c.jar is damaged or larger than 0 bytes");
    }
}
