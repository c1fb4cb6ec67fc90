//! An archive unpacked by root into a directory: nothing beside it may change.

use super::tar_input::{OUTSIDE, WORDS, archive, mend_checksums};
use crate::Target;
use crate::random::Random;
use naru_image::unpack::{UnpackOptions, unpack};
use naru_tar::Reader;
use rustix::fd::AsFd;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A directory with the root of unpackings and what must not change beside it.
pub struct Yard {
    dir: TempDir,
    before: Vec<String>,
}

impl Yard {
    /// In memory where there is a place for it: a sync of a disk per input would be all that one measures.
    pub fn new() -> io::Result<Self> {
        let memory = Path::new("/dev/shm");
        let dir = if memory.is_dir() { TempDir::new_in(memory)? } else { TempDir::new()? };
        let outside = dir.path().join(OUTSIDE);
        fs::create_dir(&outside)?;
        fs::write(outside.join("f"), b"untouched")?;
        let mut yard = Self { dir, before: Vec::new() };
        yard.before = yard.look()?;
        Ok(yard)
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// A new empty root.
    pub fn root(&self) -> io::Result<PathBuf> {
        let root = self.dir.path().join("root");
        match fs::remove_dir_all(&root) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::create_dir(&root)?;
        Ok(root)
    }

    fn look(&self) -> io::Result<Vec<String>> {
        let outside = self.dir.path().join(OUTSIDE);
        let mut seen = Vec::new();
        for path in [outside.clone(), outside.join("f")] {
            let found = fs::symlink_metadata(&path)?;
            let (mode, owner, links) = (found.mode(), found.uid(), found.nlink());
            // Nanoseconds too: a write of the same bytes shows.
            seen.push(format!("{mode:o} {owner} {links} {} {}", found.mtime_nsec(), found.ctime_nsec()));
        }
        let mut names: Vec<_> =
            fs::read_dir(&outside)?.map(|item| Ok(item?.file_name())).collect::<io::Result<_>>()?;
        names.sort();
        seen.push(format!("{names:?} {:?}", fs::read(outside.join("f"))?));
        Ok(seen)
    }

    /// What is beside the root, against what was there at first; `allowed` are other names of the yard.
    pub fn judge(&self, allowed: &[&str]) -> Result<(), String> {
        let after = self.look().map_err(|error| format!("what is outside: {error}"))?;
        if after != self.before {
            return Err(format!("outside was {:?} and is {after:?}", self.before));
        }
        for item in fs::read_dir(self.dir.path()).map_err(|error| error.to_string())?.flatten() {
            let name = item.file_name();
            if name != OUTSIDE && name != "root" && !allowed.iter().any(|known| name == *known) {
                return Err(format!("{name:?} was made beside the root"));
            }
        }
        Ok(())
    }
}

#[derive(Default)]
pub struct Unpack {
    yard: Option<Yard>,
}

impl Target for Unpack {
    fn name(&self) -> &'static str {
        "unpack"
    }

    fn generate(&mut self, random: &mut Random) -> Vec<u8> {
        let mut input = archive(random);
        if random.one_in(2) {
            crate::mutate::mutate(&mut input, WORDS, random);
        }
        mend_checksums(&mut input);
        input
    }

    fn words(&self) -> &'static [&'static [u8]] {
        WORDS
    }

    fn check(&mut self, input: &[u8]) -> Result<(), String> {
        let yard = match self.yard.take() {
            Some(yard) => yard,
            None => Yard::new().map_err(|error| format!("no place to unpack: {error}"))?,
        };
        for options in [
            UnpackOptions::layer(),
            UnpackOptions::plain(),
            UnpackOptions { follow_parents: true, keep_kind: true, ..UnpackOptions::plain() },
        ] {
            let path = yard.root().map_err(|error| format!("the root: {error}"))?;
            let root = naru_image::tree::open_root(&path).map_err(|error| error.to_string())?;
            // Refused or taken: both are right.
            let _ = unpack(root.as_fd(), &mut Reader::new(input), &options);
            yard.judge(&[]).map_err(|broken| format!("{options:?}: {broken}"))?;
        }
        self.yard = Some(yard);
        Ok(())
    }
}
