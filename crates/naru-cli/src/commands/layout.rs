//! The directory of an OCI layout (image-spec, image-layout.md) as the archive that `load` sends.
//!
//! Only what belongs to a layout is sent: the directory may be somebody's home.

use naru_tar::{Entry, EntryKind, encode, padding, trailer};
use naru_types::{Error, Result};
use std::fs::File;
use std::io::{self, Cursor, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::vec::IntoIter;

const INDEX: &str = "index.json";
/// Beside the blobs. The last two are Docker's, in what `naru save` wrote.
const FILES: [&str; 4] = [INDEX, "oci-layout", "manifest.json", "repositories"];
const BLOBS: &str = "blobs";

/// An archive of the layout that is made while it is read.
pub fn pack(root: &str) -> Result<Box<dyn Read + Send>> {
    let root = Path::new(root);
    if !root.join(INDEX).is_file() {
        return Err(Error::invalid(format!(
            "{} holds no {INDEX}: it is not the directory of an OCI layout",
            root.display()
        ))
        .with_hint("naru load -i FILE for an archive"));
    }
    let names = names(root).map_err(|error| {
        Error::invalid(format!("cannot read the layout {}", root.display())).with_source(error)
    })?;
    let names = names.into_iter();
    Ok(Box::new(Packed { root: root.to_owned(), names, current: Box::new(io::empty()), is_ended: false }))
}

fn names(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found: Vec<PathBuf> =
        FILES.iter().map(PathBuf::from).filter(|name| root.join(name).is_file()).collect();
    for algorithm in std::fs::read_dir(root.join(BLOBS))? {
        let algorithm = algorithm?;
        for blob in std::fs::read_dir(algorithm.path())? {
            let name = Path::new(BLOBS).join(algorithm.file_name()).join(blob?.file_name());
            if root.join(&name).is_file() {
                found.push(name);
            }
        }
    }
    Ok(found)
}

struct Packed {
    root: PathBuf,
    names: IntoIter<PathBuf>,
    current: Box<dyn Read + Send>,
    is_ended: bool,
}

impl Read for Packed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let got = self.current.read(buffer)?;
            if got > 0 || buffer.is_empty() || self.is_ended {
                return Ok(got);
            }
            self.current = match self.names.next() {
                Some(name) => entry(&self.root, &name)?,
                None => {
                    self.is_ended = true;
                    Box::new(Cursor::new(trailer()))
                }
            };
        }
    }
}

/// Header, content, padding. A file that is cut meanwhile shifts what follows, which the reader notices.
fn entry(root: &Path, name: &Path) -> io::Result<Box<dyn Read + Send>> {
    let file = File::open(root.join(name))?;
    let mut entry = Entry::new(name.as_os_str().as_bytes(), EntryKind::File);
    entry.size = file.metadata()?.len();
    let gap = io::repeat(0).take(padding(entry.size) as u64);
    Ok(Box::new(Cursor::new(encode(&entry)).chain(file.take(entry.size)).chain(gap)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use naru_tar::Reader;

    #[test]
    fn only_the_layout_is_packed() {
        let root = std::env::temp_dir().join(format!("naru-cli-layout-{}", std::process::id()));
        std::fs::create_dir_all(&root).unwrap();
        assert!(pack(&root.display().to_string()).is_err());
        std::fs::create_dir_all(root.join("blobs/sha256")).unwrap();
        for (name, content) in
            [("index.json", "{}"), ("oci-layout", ""), ("blobs/sha256/ab", "blob"), ("diary", "secret")]
        {
            std::fs::write(root.join(name), content).unwrap();
        }
        let mut packed = pack(&root.display().to_string()).unwrap();
        let mut reader = Reader::new(&mut packed);
        let mut found = Vec::new();
        while let Some(entry) = reader.next_entry().unwrap() {
            let mut content = String::new();
            reader.read_to_string(&mut content).unwrap();
            found.push((String::from_utf8(entry.path).unwrap(), content));
        }
        let expected = [("index.json", "{}"), ("oci-layout", ""), ("blobs/sha256/ab", "blob")];
        std::fs::remove_dir_all(&root).unwrap();
        assert_eq!(found, expected.map(|(name, content)| (name.to_owned(), content.to_owned())));
    }
}
