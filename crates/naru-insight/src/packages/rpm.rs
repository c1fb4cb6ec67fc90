//! RPM packages: the SQLite database of rpm 4.16 and later. Its rows are headers in rpm's own binary form (rpm's
//! `docs/manual/format_header.md`): an index of tags, then their values.

use super::{Finder, purl};
use naru_wire::analysis::{Ecosystem, Package};
use rusqlite::{Connection, OpenFlags};
use std::os::fd::AsRawFd;

const DATABASES: [&str; 2] = ["usr/lib/sysimage/rpm/rpmdb.sqlite", "var/lib/rpm/rpmdb.sqlite"];
/// Largest database that is opened, which bounds what SQLite keeps of its schema; that of a full desktop has 100 MB.
const DATABASE_BYTES_MAX: u64 = 256 << 20;
/// Most packages, and the largest header of one, in bytes (rpm's own limit is 256 MiB; real ones have some hundred KiB).
const PACKAGES_MAX: u32 = 100_000;
const HEADER_BYTES_MAX: u32 = 16 << 20;
/// Most tags of one header; a package with 100,000 files has no more.
const TAGS_MAX: usize = 10_000;
const INDEX_ENTRY_BYTES: usize = 16;

const TAG_NAME: u32 = 1000;
const TAG_VERSION: u32 = 1001;
const TAG_RELEASE: u32 = 1002;
const TAG_EPOCH: u32 = 1003;
const TAG_LICENSE: u32 = 1014;
const TAG_ARCH: u32 = 1022;

pub fn find(finder: &mut Finder<'_>) {
    for path in DATABASES {
        if finder.tree.node(path).is_none() {
            continue;
        }
        if let Err(error) = database(finder, path) {
            finder.note(format!("not read: rpm database (/{path}): {error}; its packages are not listed"));
        }
    }
}

fn database(finder: &mut Finder<'_>, path: &str) -> Result<(), String> {
    let node = |path: &str| finder.tree.node(path).map_or(0, |node| node.size);
    if node(path) > DATABASE_BYTES_MAX {
        return Err(format!("it has more than {DATABASE_BYTES_MAX} bytes"));
    }
    // Changes that were never merged would be missed.
    if node(&format!("{path}-wal")) > 0 {
        return Err("it has a write-ahead log".into());
    }
    let file = finder.tree.open(path).map_err(|error| error.sentence())?;
    // Immutable: a layer is never written to, not even by SQLite's own recovery. By descriptor: it is the file that was opened.
    let uri = format!("file:/proc/self/fd/{}?mode=ro&immutable=1", file.as_raw_fd());
    let flags =
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let said = |error: rusqlite::Error| error.to_string();
    let database = Connection::open_with_flags(&uri, flags).map_err(said)?;
    // The file is an image's, thus hostile (sqlite.org/security.html, "Untrusted SQLite Database Files").
    database
        .execute_batch("PRAGMA trusted_schema=OFF; PRAGMA cell_size_check=ON; PRAGMA mmap_size=0")
        .map_err(said)?;
    if !is_plain_table(&database).map_err(said)? {
        return Err("its Packages are no plain table".into());
    }
    let mut query = database
        .prepare("SELECT CASE WHEN length(blob) <= ?1 THEN blob END FROM Packages LIMIT ?2")
        .map_err(said)?;
    let mut rows = query.query([HEADER_BYTES_MAX, PACKAGES_MAX]).map_err(said)?;
    while let Some(row) = rows.next().map_err(said)? {
        let header: Option<Vec<u8>> = row.get(0).map_err(said)?;
        match header.as_deref().and_then(|header| package(finder, header, path)) {
            Some(package) => finder.add(package),
            None => finder.note(format!("not read: a damaged header in /{path}")),
        }
    }
    Ok(())
}

/// A view, or a column that is computed, would run the image's own SQL.
fn is_plain_table(database: &Connection) -> rusqlite::Result<bool> {
    let mut query =
        database.prepare("SELECT type, sql FROM sqlite_schema WHERE name = 'Packages' COLLATE NOCASE")?;
    let found: Vec<(String, String)> =
        query.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
    let plain = |sql: &str| {
        let sql = sql.to_ascii_lowercase();
        let is_word = |word: &str| sql.split(|c: char| !c.is_ascii_alphanumeric()).any(|part| part == word);
        sql.starts_with("create table") && !["as", "generated", "virtual", "check"].into_iter().any(is_word)
    };
    Ok(matches!(found.as_slice(), [(kind, sql)] if kind == "table" && plain(sql)))
}

fn package(finder: &Finder<'_>, header: &[u8], path: &str) -> Option<Package> {
    let tags = Tags::parse(header)?;
    let (name, version) = (tags.text(TAG_NAME)?, tags.text(TAG_VERSION)?);
    let release = tags.text(TAG_RELEASE).unwrap_or_default();
    let epoch = tags.number(TAG_EPOCH).map(|epoch| epoch.to_string()).unwrap_or_default();
    let full = if release.is_empty() { version } else { format!("{version}-{release}") };
    let vendor = finder.os.vendor_or("rpm").to_ascii_lowercase();
    let (arch, distro) = (tags.text(TAG_ARCH).unwrap_or_default(), finder.os.distro());
    let qualifiers = [("arch", arch.as_str()), ("distro", distro.as_str()), ("epoch", epoch.as_str())];
    Some(Package {
        ecosystem: Ecosystem::Rpm,
        purl: purl("rpm", &vendor, &name, &full, &qualifiers),
        version: if epoch.is_empty() { full } else { format!("{epoch}:{full}") },
        name,
        license: tags.text(TAG_LICENSE).unwrap_or_default(),
        locations: vec![path.to_owned()],
    })
}

struct Tags<'a> {
    index: &'a [u8],
    data: &'a [u8],
}

impl<'a> Tags<'a> {
    fn parse(header: &'a [u8]) -> Option<Self> {
        let count = number(header, 0)? as usize;
        let length = number(header, 4)? as usize;
        if count > TAGS_MAX {
            return None;
        }
        let end = 8 + count * INDEX_ENTRY_BYTES;
        Some(Self { index: header.get(8..end)?, data: header.get(end..end.checked_add(length)?)? })
    }

    /// Where a tag's value begins.
    fn find(&self, tag: u32) -> Option<usize> {
        let entry = self.index.chunks_exact(INDEX_ENTRY_BYTES).find(|entry| number(entry, 0) == Some(tag))?;
        number(entry, 8).map(|offset| offset as usize)
    }

    fn text(&self, tag: u32) -> Option<String> {
        let bytes = self.data.get(self.find(tag)?..)?;
        let end = bytes.iter().position(|byte| *byte == 0)?;
        Some(String::from_utf8_lossy(&bytes[..end]).into_owned())
    }

    fn number(&self, tag: u32) -> Option<u32> {
        number(self.data, self.find(tag)?)
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    let four = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_be_bytes(four.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use crate::packages::find;
    use crate::tree::{Tree, tests::layers};

    fn header(texts: &[(u32, &str)]) -> Vec<u8> {
        let (mut index, mut data) = (Vec::new(), Vec::new());
        for (tag, text) in texts {
            for number in [*tag, 6, data.len() as u32, 1] {
                index.extend(number.to_be_bytes());
            }
            data.extend(text.as_bytes());
            data.push(0);
        }
        let mut all = Vec::new();
        all.extend((texts.len() as u32).to_be_bytes());
        all.extend((data.len() as u32).to_be_bytes());
        [all, index, data].concat()
    }

    #[test]
    fn a_database_of_headers() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0/var/lib/rpm/rpmdb.sqlite");
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let database = rusqlite::Connection::open(&path).unwrap();
        database.execute("CREATE TABLE Packages (hnum INTEGER PRIMARY KEY, blob BLOB NOT NULL)", []).unwrap();
        let good = header(&[
            (1000, "bash"),
            (1001, "5.2"),
            (1002, "3.fc40"),
            (1022, "x86_64"),
            (1014, "GPL-3.0-or-later"),
        ]);
        for blob in [&good, &vec![0xff; 9]] {
            database.execute("INSERT INTO Packages (blob) VALUES (?1)", [blob]).unwrap();
        }
        drop(database);
        let inputs = layers(dir.path(), &[&[("etc/os-release", b"ID=fedora\nVERSION_ID=40\n")]]);
        let found = find(&Tree::read(&inputs).unwrap());
        assert_eq!(found.packages[0].purl, "pkg:rpm/fedora/bash@5.2-3.fc40?arch=x86_64&distro=fedora-40");
        assert_eq!(found.packages[0].license, "GPL-3.0-or-later");
        assert_eq!(found.notes, ["not read: a damaged header in /var/lib/rpm/rpmdb.sqlite"]);
    }

    #[test]
    fn sql_of_the_image_is_not_run() {
        const ENDLESS: &str =
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i, zeroblob(i) FROM n";
        for schema in [
            format!("CREATE VIEW Packages(hnum, blob) AS {ENDLESS}"),
            "CREATE TABLE Packages (hnum INTEGER PRIMARY KEY, blob GENERATED ALWAYS AS (zeroblob(1000000000)))".into(),
            "CREATE TABLE other (x)".into(),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("0/var/lib/rpm/rpmdb.sqlite");
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            let database = rusqlite::Connection::open(&path).unwrap();
            database.execute_batch(&schema).unwrap();
            drop(database);
            let found = find(&Tree::read(&layers(dir.path(), &[&[]])).unwrap());
            assert!(found.packages.is_empty());
            assert_eq!(found.notes, ["not read: rpm database (/var/lib/rpm/rpmdb.sqlite): its Packages are no plain table; its packages are not listed"]);
        }
        let dir = tempfile::tempdir().unwrap();
        let garbage = [&b"SQLite format 3\0"[..], &[0xff; 4096]].concat();
        let found =
            find(&Tree::read(&layers(dir.path(), &[&[("var/lib/rpm/rpmdb.sqlite", &garbage)]])).unwrap());
        assert_eq!(found.notes.len(), 1, "{:?}", found.notes);
    }

    #[test]
    fn what_would_be_half_a_list_is_none() {
        let files: &[(&str, &[u8])] =
            &[("var/lib/rpm/rpmdb.sqlite", b"x"), ("var/lib/rpm/rpmdb.sqlite-wal", b"x")];
        let dir = tempfile::tempdir().unwrap();
        let found = find(&Tree::read(&layers(dir.path(), &[files])).unwrap());
        let because = |why: &str| {
            format!("not read: rpm database (/var/lib/rpm/rpmdb.sqlite): {why}; its packages are not listed")
        };
        assert_eq!(found.notes, [because("it has a write-ahead log")]);
        std::fs::remove_file(dir.path().join("0/var/lib/rpm/rpmdb.sqlite-wal")).unwrap();
        let database =
            std::fs::File::options().write(true).open(dir.path().join("0/var/lib/rpm/rpmdb.sqlite")).unwrap();
        database.set_len(super::DATABASE_BYTES_MAX + 1).unwrap();
        let found = find(&Tree::read(&layers(dir.path(), &[&[]])).unwrap());
        assert_eq!(found.notes, [because("it has more than 268435456 bytes")]);
    }
}
