//! Java archives: zip files (APPNOTE.TXT) whose `pom.properties` or manifest names the package; archives within archives too.

use super::{BINARY_BYTES_MAX, Ecosystem, Finder, Package, purl};
use crate::Result;
use std::io::Read;

/// Archives within archives within an archive.
const DEPTH_MAX: usize = 3;
/// Largest archive within an archive, and largest description, unpacked.
const MEMBER_BYTES_MAX: u64 = 256 << 20;
const TEXT_BYTES_MAX: u64 = 1 << 20;
/// What is unpacked of one file of the image in all: members may overlap, and be said to be there any number of times.
const UNPACKED_BYTES_MAX: u64 = 1 << 30;
const MEMBERS_MAX: usize = 200_000;
/// The end of the directory lies within the last 64 KiB, its comment, and its own 22 bytes.
const END_BYTES: usize = 22;
const END_MAGIC: &[u8] = b"PK\x05\x06";
const DIRECTORY_MAGIC: &[u8] = b"PK\x01\x02";
const METHOD_STORED: u16 = 0;
const METHOD_DEFLATED: u16 = 8;

pub fn find(finder: &mut Finder<'_>, path: &str, size: u64) -> Result<()> {
    if size > BINARY_BYTES_MAX {
        finder.note(&format!("/{path}: too large to be looked into"));
        return Ok(());
    }
    let bytes = finder.tree.bytes(path, BINARY_BYTES_MAX)?;
    let mut left = UNPACKED_BYTES_MAX;
    archive(finder, path, &bytes, 0, &mut left);
    if left == 0 {
        finder.note(&format!(
            "/{path}: more than {UNPACKED_BYTES_MAX} bytes when unpacked, not read to the end"
        ));
    }
    Ok(())
}

/// `left`: what may still be unpacked, in bytes.
fn archive(finder: &mut Finder<'_>, path: &str, bytes: &[u8], depth: usize, left: &mut u64) {
    let Some(members) = members(bytes) else {
        return finder.note(&format!("/{path}: it is not a readable zip file"));
    };
    let text = |member: &Member<'_>, left: &mut u64| {
        let content = member.content(bytes, TEXT_BYTES_MAX, left)?;
        Some(String::from_utf8_lossy(&content).into_owned())
    };
    let mut found = false;
    for member in &members {
        let name = member.name.as_ref();
        if name.starts_with("META-INF/maven/") && name.ends_with("/pom.properties") {
            let properties = text(member, left).unwrap_or_default();
            let value = |key: &str| {
                properties.lines().find_map(|line| line.strip_prefix(key)?.trim_start().strip_prefix('='))
            };
            if let (Some(group), Some(artifact), Some(version)) =
                (value("groupId"), value("artifactId"), value("version"))
            {
                add(finder, group.trim(), artifact.trim(), version.trim(), path);
                found = true;
            }
        } else if depth < DEPTH_MAX
            && name.ends_with(".jar")
            && let Some(inner) = member.content(bytes, MEMBER_BYTES_MAX, left)
        {
            archive(finder, &format!("{path}!/{name}"), &inner, depth + 1, left);
        }
    }
    if !found
        && let Some(manifest) = members
            .iter()
            .find(|member| member.name == "META-INF/MANIFEST.MF")
            .and_then(|member| text(member, left))
    {
        // Lines of at most 72 bytes are continued behind a blank (the JAR file specification).
        let manifest = manifest.replace("\r\n", "\n").replace("\n ", "");
        let value = |key: &str| {
            manifest.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).map(str::trim)
        };
        let name = value("Bundle-SymbolicName")
            .or_else(|| value("Implementation-Title"))
            .or_else(|| value("Automatic-Module-Name"));
        let version = value("Implementation-Version").or_else(|| value("Bundle-Version"));
        if let (Some(name), Some(version)) = (name, version) {
            // Directives such as `;singleton:=true` follow a bundle's name.
            let name = name.split(';').next().unwrap_or(name);
            add(finder, value("Implementation-Vendor-Id").unwrap_or_default(), name, version, path);
        }
    }
}

fn add(finder: &mut Finder<'_>, group: &str, artifact: &str, version: &str, path: &str) {
    finder.add(Package {
        ecosystem: Ecosystem::Maven,
        name: if group.is_empty() { artifact.to_owned() } else { format!("{group}:{artifact}") },
        version: version.to_owned(),
        purl: purl("maven", group, artifact, version, &[]),
        license: String::new(),
        locations: vec![path.to_owned()],
    });
}

struct Member<'a> {
    name: std::borrow::Cow<'a, str>,
    method: u16,
    packed: usize,
    size: u64,
    header_at: usize,
}

/// By the directory at the end, which is what Java reads; `None` when there is none, or when it needs zip64.
fn members(bytes: &[u8]) -> Option<Vec<Member<'_>>> {
    let from = bytes.len().saturating_sub(END_BYTES + usize::from(u16::MAX));
    let at = from + bytes[from..].windows(4).rposition(|window| window == END_MAGIC)?;
    let count = usize::from(short(bytes, at + 10)?).min(MEMBERS_MAX);
    let mut next = int(bytes, at + 16)? as usize;
    let mut found = Vec::with_capacity(count);
    for _ in 0..count {
        if bytes.get(next..next + 4)? != DIRECTORY_MAGIC {
            return None;
        }
        let length = usize::from(short(bytes, next + 28)?);
        found.push(Member {
            name: String::from_utf8_lossy(bytes.get(next + 46..next + 46 + length)?),
            method: short(bytes, next + 10)?,
            packed: int(bytes, next + 20)? as usize,
            size: u64::from(int(bytes, next + 24)?),
            header_at: int(bytes, next + 42)? as usize,
        });
        next += 46 + length + usize::from(short(bytes, next + 30)?) + usize::from(short(bytes, next + 32)?);
    }
    Some(found)
}

impl Member<'_> {
    /// `None` for one that is damaged, larger than `bytes_max`, or too much.
    fn content(&self, bytes: &[u8], bytes_max: u64, left: &mut u64) -> Option<Vec<u8>> {
        if self.size > bytes_max {
            return None;
        }
        match left.checked_sub(self.size) {
            Some(rest) => *left = rest,
            None => {
                *left = 0;
                return None;
            }
        }
        let start = self.header_at.checked_add(30)?
            + usize::from(short(bytes, self.header_at.checked_add(26)?)?)
            + usize::from(short(bytes, self.header_at.checked_add(28)?)?);
        let packed = bytes.get(start..start.checked_add(self.packed)?)?;
        match self.method {
            METHOD_STORED => Some(packed.to_vec()),
            METHOD_DEFLATED => {
                let mut content = Vec::new();
                flate2::read::DeflateDecoder::new(packed).take(self.size).read_to_end(&mut content).ok()?;
                Some(content)
            }
            _ => None,
        }
    }
}

fn short(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

fn int(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use crate::packages::find;
    use crate::tree::{Tree, tests::layers};
    use flate2::{Compression, write::DeflateEncoder};
    use std::io::Write;

    /// A zip file; each member is said to be there `times` over.
    fn zip(members: &[(&str, &[u8])], times: usize) -> Vec<u8> {
        let (mut file, mut directory, mut count) = (Vec::new(), Vec::new(), 0u16);
        for (name, content) in members {
            let mut packer = DeflateEncoder::new(Vec::new(), Compression::best());
            packer.write_all(content).unwrap();
            let packed = packer.finish().unwrap();
            let at = file.len() as u32;
            let mut sizes = Vec::new();
            sizes.extend((packed.len() as u32).to_le_bytes());
            sizes.extend((content.len() as u32).to_le_bytes());
            sizes.extend((name.len() as u16).to_le_bytes());
            file.extend(
                [
                    b"PK\x03\x04\x14\0\0\0\x08\0\0\0\0\0\0\0\0\0",
                    &sizes[..],
                    &[0, 0],
                    name.as_bytes(),
                    &packed,
                ]
                .concat(),
            );
            for _ in 0..times {
                let head = b"PK\x01\x02\x14\0\x14\0\0\0\x08\0\0\0\0\0\0\0\0\0";
                directory.extend([&head[..], &sizes, &[0; 12], &at.to_le_bytes(), name.as_bytes()].concat());
                count += 1;
            }
        }
        let at = file.len() as u32;
        let counts = [count.to_le_bytes(), count.to_le_bytes()].concat();
        let place = [(directory.len() as u32).to_le_bytes(), at.to_le_bytes()].concat();
        [file, directory, b"PK\x05\x06\0\0\0\0".to_vec(), counts, place, vec![0, 0]].concat()
    }

    fn names(jar: &[u8]) -> (Vec<String>, Vec<String>) {
        let dir = tempfile::tempdir().unwrap();
        let inputs = layers(dir.path(), &[&[("app.jar", jar)]]);
        let found = find(&Tree::read(&inputs).unwrap());
        (found.packages.into_iter().map(|package| package.purl).collect(), found.notes)
    }

    #[test]
    fn archives_within_archives() {
        let properties = b"groupId=org.x\nartifactId = y \nversion=1.2\n";
        let inner = zip(&[("META-INF/maven/org.x/y/pom.properties", properties)], 1);
        let manifest = b"Bundle-SymbolicName: a.b;singleton:=true\r\nBundle-Version: 3.\r\n 1\r\n";
        let outer = zip(&[("META-INF/MANIFEST.MF", manifest), ("BOOT-INF/lib/y.jar", &inner)], 1);
        assert_eq!(names(&outer), (vec!["pkg:maven/a.b@3.1".into(), "pkg:maven/org.x/y@1.2".into()], vec![]));
        assert_eq!(names(&outer[..outer.len() - 30]).0, Vec::<String>::new());
    }

    #[test]
    fn a_bomb_is_left_alone() {
        let bomb = zip(&[("a.jar", &vec![0; 200 << 20])], 60_000);
        let (found, notes) = names(&bomb);
        assert!(found.is_empty());
        assert!(notes.last().unwrap().contains("not read to the end"), "{notes:?}");
    }
}
