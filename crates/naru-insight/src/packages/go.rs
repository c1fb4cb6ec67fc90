//! Go modules: what the linker writes into every program since Go 1.18 (Go's `debug/buildinfo`): a header, then two strings with
//! their lengths before them, the second of which is a table of modules.

use super::{Finder, Place, purl};
use naru_wire::analysis::{Ecosystem, Package};

const MAGIC: &[u8] = b"\xff Go buildinf:";
/// The header begins at a multiple of this within the section.
const ALIGNMENT_BYTES: usize = 16;
const HEADER_BYTES: usize = 32;
const FLAGS_AT: usize = 15;
/// The strings follow the header. Older versions point to them.
const FLAG_INLINE: u8 = 2;
/// Marks before and behind the table of modules.
const MARK_BYTES: usize = 16;

pub fn find(finder: &mut Finder<'_>, place: &Place<'_>, section: &[u8]) {
    let Some((go, table)) = strings(section) else {
        return finder
            .note(format!("not read: modules of /{}, built with Go before 1.18 or damaged", place.shown));
    };
    let version = go.strip_prefix("go").unwrap_or(&go);
    add(finder, "stdlib", version.split_whitespace().next().unwrap_or_default(), place);
    let mut last: Option<(&str, &str)> = None;
    for line in table.lines() {
        let mut words = line.split('\t');
        match (words.next(), words.next(), words.next()) {
            (Some("mod" | "dep"), Some(name), Some(version)) => {
                if let Some((name, version)) = last.replace((name, version)) {
                    add(finder, name, version, place);
                }
            }
            // What stands in the place of the module before it.
            (Some("=>"), Some(name), Some(version)) => last = Some((name, version)),
            _ => {}
        }
    }
    if let Some((name, version)) = last {
        add(finder, name, version, place);
    }
}

fn strings(section: &[u8]) -> Option<(String, String)> {
    let at = section.chunks(ALIGNMENT_BYTES).position(|chunk| chunk.starts_with(MAGIC))?;
    let (header, rest) = section.get(at * ALIGNMENT_BYTES..)?.split_at_checked(HEADER_BYTES)?;
    if header[FLAGS_AT] & FLAG_INLINE == 0 {
        return None;
    }
    let (go, rest) = string(rest)?;
    let (table, _) = string(rest)?;
    let table = table.get(MARK_BYTES..table.len().saturating_sub(MARK_BYTES)).unwrap_or_default();
    Some((String::from_utf8_lossy(go).into_owned(), String::from_utf8_lossy(table).into_owned()))
}

/// A string with its length before it, seven bits to a byte.
fn string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut length = 0u64;
    for (at, byte) in bytes.iter().enumerate().take(9) {
        length |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return bytes[at + 1..].split_at_checked(usize::try_from(length).ok()?);
        }
    }
    None
}

fn add(finder: &mut Finder<'_>, name: &str, version: &str, place: &Place<'_>) {
    if name.is_empty() {
        return;
    }
    // The program itself, built outside of a module's version, is `(devel)`.
    let version = if version == "(devel)" { "" } else { version };
    // The type's definition: "the namespace and the name must be lowercased".
    let lower = name.to_ascii_lowercase();
    let (namespace, base) = lower.rsplit_once('/').unwrap_or(("", &lower));
    finder.add(Package {
        ecosystem: Ecosystem::Golang,
        name: name.to_owned(),
        version: version.to_owned(),
        purl: purl("golang", namespace, base, version, &[]),
        license: String::new(),
        locations: vec![place.shown.to_owned()],
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packages::elf::tests::program;
    use crate::packages::tests::purls;
    use crate::tree::{Tree, tests::layers};
    use std::os::unix::fs::PermissionsExt;

    fn section(table: &str) -> Vec<u8> {
        let mut section = [MAGIC, &[8, FLAG_INLINE], &[0; 16]].concat();
        section.extend(b"\x08go1.22.1");
        let marked = format!("{}{table}{}", "0".repeat(16), "1".repeat(16));
        section.extend([0x80 | (marked.len() & 0x7f) as u8, (marked.len() >> 7) as u8]);
        section.extend(marked.as_bytes());
        section
    }

    #[test]
    fn modules_of_a_program() {
        let table = "path\texample.org/app\nmod\texample.org/app\t(devel)\t\ndep\tgithub.com/BurntSushi/toml\tv1.3.2\th1:x=\ndep\texample.org/old\tv1.0.0\n=>\texample.org/fork\tv1.0.1\th1:y=\nbuild\tCGO_ENABLED=0\n";
        let data = section(table);
        let dir = tempfile::tempdir().unwrap();
        let inputs = layers(
            dir.path(),
            &[&[
                ("app", &program(true, true, ".go.buildinfo", &data)),
                ("cut", &program(true, true, ".go.buildinfo", &data[..60])),
            ]],
        );
        for name in ["app", "cut"] {
            let path = inputs[0].dir.join(name);
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let found = super::super::find(&Tree::read(&inputs).unwrap());
        assert_eq!(
            purls(&found),
            [
                "pkg:golang/example.org/app",
                "pkg:golang/example.org/fork@v1.0.1",
                "pkg:golang/github.com/burntsushi/toml@v1.3.2",
                "pkg:golang/stdlib@1.22.1",
            ]
        );
        assert_eq!(found.packages[2].name, "github.com/BurntSushi/toml");
        assert_eq!(found.notes, ["not read: modules of /cut, built with Go before 1.18 or damaged"]);
    }

    #[test]
    fn damaged_sections() {
        let whole = section("mod\tx\tv1\n");
        assert!(strings(&whole).is_some());
        for end in 0..whole.len() {
            assert_eq!(strings(&whole[..end]), None, "{end}");
        }
        assert_eq!(string(&[0xff; 12]), None);
    }
}
