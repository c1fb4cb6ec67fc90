//! What earlier builds learnt: step key → when it was made and which layer it gave.
//!
//! One small file per key beneath `<root>/build-cache/steps`. A file that a crash left torn doesn't parse
//! and is a miss; an entry whose layer the store no longer holds is a miss too. So nothing here needs to
//! be synced. The layers are pinned in the store under the key, so that a collection spares them.

use crate::error::{BuildError, Result};
use crate::kept::Contexts;
use naru_image::{Lease, Store};
use naru_types::{Digest, Kind};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The most entries that are kept; the ones longest unused go first when the builder opens.
const ENTRIES_MAX: usize = 20_000;

pub(crate) type Key = blake3::Hash;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// RFC 3339.
    pub(crate) created: String,
    /// `None`: the step changed no file.
    pub(crate) layer: Option<Digest>,
}

#[derive(Clone)]
pub(crate) struct Cache {
    steps: PathBuf,
    mounts: PathBuf,
    downloads: PathBuf,
    contexts: Contexts,
    store: Store,
}

impl Cache {
    pub(crate) fn open(root: &Path, store: Store) -> Result<Self> {
        let dir = root.join("build-cache");
        let cache = Self {
            steps: dir.join("steps"),
            mounts: dir.join("mounts"),
            downloads: dir.join("downloads"),
            contexts: Contexts::open(&dir)?,
            store,
        };
        for dir in [&cache.steps, &cache.mounts, &cache.downloads] {
            fs::create_dir_all(dir).map_err(BuildError::io("make the directory", dir))?;
        }
        cache.trim(ENTRIES_MAX)?;
        Ok(cache)
    }

    /// Where cache mounts live.
    pub(crate) fn mounts(&self) -> &Path {
        &self.mounts
    }

    /// Where the files of ADD from the web are kept.
    pub(crate) fn downloads(&self) -> &Path {
        &self.downloads
    }

    pub(crate) fn contexts(&self) -> &Contexts {
        &self.contexts
    }

    /// The entry of `key` if its layer is still there; `lease` then keeps the layer.
    pub(crate) fn find(&self, key: &Key, lease: &Lease) -> Option<Entry> {
        let path = self.path(key);
        let entry: Entry = serde_json::from_slice(&fs::read(&path).ok()?).ok()?;
        if let Some(layer) = &entry.layer
            && lease.hold(layer).is_err()
        {
            // The file would never be of use again; that it can't be removed harms nobody.
            let _ = fs::remove_file(&path);
            let _ = self.store.unpin(&owner(key));
            return None;
        }
        // The time of last use, for trim; a cache on a read-only disk still serves.
        if let Ok(file) = fs::File::options().append(true).open(&path) {
            let _ = file.set_modified(std::time::SystemTime::now());
        }
        Some(entry)
    }

    pub(crate) fn put(&self, key: &Key, entry: &Entry) -> Result<()> {
        if let Some(layer) = &entry.layer {
            self.store.pin(&owner(key), &[*layer])?;
        }
        let path = self.path(key);
        let staged = path.with_extension(format!("{:016x}", u64::from_le_bytes(crate::scratch::random()?)));
        let text = serde_json::to_vec(entry).map_err(|error| BuildError::Io {
            step: "write",
            path: path.clone(),
            source: error.into(),
        })?;
        fs::write(&staged, text).map_err(BuildError::io("write", &staged))?;
        fs::rename(&staged, &path).map_err(BuildError::io("write", &path))
    }

    /// Entries, and the unpacked bytes that they keep.
    pub(crate) fn usage(&self) -> Result<(u64, u64)> {
        let mut layers = std::collections::BTreeSet::new();
        let mut entries = 0;
        for (path, _) in self.files()? {
            entries += 1;
            let entry: Option<Entry> =
                fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok());
            layers.extend(entry.and_then(|entry| entry.layer));
        }
        let bytes: u64 = layers.iter().filter_map(|layer| self.store.layer_size(layer).ok()).sum();
        Ok((entries, bytes + tree_bytes(&self.mounts) + tree_bytes(&self.downloads) + self.contexts.bytes()))
    }

    /// Forgets everything. The layers themselves go with the store's next collection.
    pub(crate) fn clear(&self) -> Result<()> {
        self.trim(0)?;
        self.contexts.clear()?;
        let downloads = fs::read_dir(&self.downloads).map_err(BuildError::io("read", &self.downloads))?;
        for download in downloads.flatten() {
            let path = download.path();
            let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.map_err(BuildError::io("remove", &path))?;
        }
        let mounts = fs::read_dir(&self.mounts).map_err(BuildError::io("read", &self.mounts))?;
        for mount in mounts.flatten() {
            let Some(_lock) = crate::steps::cache_mounts::try_lock(&mount.path())? else { continue };
            let path = mount.path();
            fs::remove_dir_all(&path).map_err(BuildError::io("remove", &path))?;
        }
        Ok(())
    }

    fn trim(&self, keep: usize) -> Result<()> {
        let mut files = self.files()?;
        files.sort_by_key(|(_, used)| std::cmp::Reverse(*used));
        for (path, _) in files.into_iter().skip(keep) {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(BuildError::io("remove", path)(error));
                }
                _ => {}
            }
            if let Some(name) = path.file_name().and_then(|name| name.to_str()) {
                match self.store.unpin(&format!("{OWNER_PREFIX}{name}")) {
                    Err(error) if error.kind() != Kind::NotFound => return Err(error.into()),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    fn files(&self) -> Result<Vec<(PathBuf, std::time::SystemTime)>> {
        let entries = fs::read_dir(&self.steps).map_err(BuildError::io("read", &self.steps))?;
        Ok(entries
            .flatten()
            .filter_map(|entry| Some((entry.path(), entry.metadata().ok()?.modified().ok()?)))
            .collect())
    }

    fn path(&self, key: &Key) -> PathBuf {
        self.steps.join(key.to_hex().as_str())
    }
}

const OWNER_PREFIX: &str = "build-cache/";

/// The pin's name in the store.
fn owner(key: &Key) -> String {
    format!("{OWNER_PREFIX}{}", key.to_hex())
}

/// Bytes of the files beneath `dir`, as far as they can be read.
fn tree_bytes(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    entries
        .flatten()
        .filter_map(|entry| Some((entry.path(), entry.metadata().ok()?)))
        .map(|(path, metadata)| if metadata.is_dir() { tree_bytes(&path) } else { metadata.len() })
        .sum()
}
