//! Go modules: what the linker writes into every program since Go 1.18 (Go's `debug/buildinfo`): a header, then two strings with
//! their lengths before them, the second of which is a table of modules.

use super::{Ecosystem, Finder, Package, purl};

const MAGIC: &[u8] = b"\xff Go buildinf:";
const HEADER_BYTES: usize = 32;
const FLAGS_AT: usize = 15;
/// The strings follow the header. Older versions point to them.
const FLAG_INLINE: u8 = 2;
/// Marks before and behind the table of modules.
const MARK_BYTES: usize = 16;

pub fn find(finder: &mut Finder<'_>, path: &str, section: &[u8]) {
    let Some((go, table)) = strings(section) else {
        return finder.note(&format!("/{path}: its build information is older than Go 1.18 and is not read"));
    };
    let version = go.strip_prefix("go").unwrap_or(&go);
    add(finder, "stdlib", version.split_whitespace().next().unwrap_or_default(), path);
    let mut last: Option<(String, String)> = None;
    for line in table.lines() {
        let mut words = line.split('\t');
        match (words.next(), words.next(), words.next()) {
            (Some("mod" | "dep"), Some(name), Some(version)) => {
                if let Some((name, version)) = last.replace((name.to_owned(), version.to_owned())) {
                    add(finder, &name, &version, path);
                }
            }
            // What stands in the place of the module before it.
            (Some("=>"), Some(name), Some(version)) => last = Some((name.to_owned(), version.to_owned())),
            _ => {}
        }
    }
    if let Some((name, version)) = last {
        add(finder, &name, &version, path);
    }
}

fn strings(section: &[u8]) -> Option<(String, String)> {
    let header = section.get(..HEADER_BYTES).filter(|header| header.starts_with(MAGIC))?;
    if header[FLAGS_AT] & FLAG_INLINE == 0 {
        return None;
    }
    let (go, rest) = string(&section[HEADER_BYTES..])?;
    let (table, _) = string(rest)?;
    let table =
        if table.len() >= 2 * MARK_BYTES { &table[MARK_BYTES..table.len() - MARK_BYTES] } else { table };
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

fn add(finder: &mut Finder<'_>, name: &str, version: &str, path: &str) {
    // The program itself, built outside of a module's version, is `(devel)`.
    let version = if version == "(devel)" { "" } else { version };
    let (namespace, base) = name.rsplit_once('/').unwrap_or(("", name));
    finder.add(Package {
        ecosystem: Ecosystem::Golang,
        name: name.to_owned(),
        version: version.to_owned(),
        purl: purl("golang", namespace, base, version, &[]),
        license: String::new(),
        locations: vec![path.to_owned()],
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_with_lengths() {
        let mut section = [MAGIC, &[8, FLAG_INLINE], &[0; 16]].concat();
        section.extend(b"\x06go1.22");
        let table = format!("{}path\tx\nmod\tx\t(devel)\n{}", "0".repeat(16), "1".repeat(16));
        section.extend([table.len() as u8]);
        section.extend(table.as_bytes());
        assert_eq!(strings(&section), Some(("go1.22".into(), "path\tx\nmod\tx\t(devel)\n".into())));
        assert_eq!(strings(&section[..40]), None);
        assert_eq!(string(&[0xff; 12]), None);
    }
}
