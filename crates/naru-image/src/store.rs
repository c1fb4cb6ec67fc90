//! The store: a directory, opened by one process at a time.
//!
//! ```text
//! images.json              the index; what isn't in it does not exist
//! content/blobs/sha256/…   configurations and manifests
//! layers/<hex>/fs          one unpacked layer; beside it split.zst and replaced/ (see `split`)
//! staging/…                half-made things and things being deleted; emptied at start
//! lock                     held while open
//! ```
//! A change is made in this order: content in staging, synced; renamed into place; directory synced;
//! index replaced. A crash between two steps leaves only what the next start sweeps away.
//!
//! A start hashes nothing: what the index names was on the disk before the index was, so a crash can only have hurt
//! what the index doesn't name, and that is swept. `tests/powercut` holds this against cut states of a recorded disk.
//! Against a disk that lies or decays there is [`Store::verify`], which the user asks for.

use crate::error::{ImageError, Result};
use crate::flight::Flights;
use crate::index::{self, Index};
use crate::layer::Staged;
use crate::leftovers::Leftovers;
use crate::registry::agents::Agents;
use crate::registry::endpoint;
use crate::registry::tls::Tls;
use naru_types::platform::Platform;
use naru_types::{Digest, Timestamp};
use rustix::fs::FlockOperation;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::JoinHandle;

const DIR_MODE: u32 = 0o700;

#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// Tried in order before docker.io itself: `https://host[:port]`.
    pub registry_mirrors: Vec<String>,
    /// `host[:port]` or CIDR: unverified TLS and plain HTTP are allowed. Loopback always is.
    pub insecure_registries: Vec<String>,
    /// Directories with `<host>/hosts.toml`, `*.crt`, `*.cert` and `*.key` (containerd's and Docker's `certs.d`).
    pub certs_dirs: Vec<PathBuf>,
    /// PEM files with certificate authorities beside the system's.
    pub ca_files: Vec<PathBuf>,
    /// The platform of images that are pulled without one being named.
    pub platform: Platform,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            registry_mirrors: Vec::new(),
            insecure_registries: Vec::new(),
            certs_dirs: Vec::new(),
            ca_files: Vec::new(),
            platform: Platform::host(),
        }
    }
}

/// A handle; clones share one store.
#[derive(Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    root: PathBuf,
    pub blobs: PathBuf,
    layers: PathBuf,
    pub staging: PathBuf,
    pub config: StoreConfig,
    pub agents: Agents,
    /// Layers that pulls download now, by diff ID.
    pub flights: Flights<Staged>,
    /// Configurations likewise.
    pub config_flights: Flights<Vec<u8>>,
    /// Readers take the snapshot; writers make a new one under `writing`.
    index: RwLock<Arc<Index>>,
    writing: Mutex<()>,
    /// Layers by diff ID, images by id.
    leases: Mutex<BTreeMap<u64, BTreeSet<Digest>>>,
    /// Layers that a repair replaces now.
    pub healing: Mutex<BTreeSet<Digest>>,
    pub leftovers: Arc<Leftovers>,
    counter: AtomicU64,
    sweeper: Mutex<Option<JoinHandle<()>>>,
    /// Locked for as long as the store is open (flock(2)).
    _lock: File,
}

impl Store {
    /// Opens or makes the store. Leftovers of a crash are put aside at once and deleted in the background.
    pub fn open(root: &Path, config: StoreConfig) -> naru_types::Result<Self> {
        Ok(Self::open_inner(root, config)?)
    }

    fn open_inner(root: &Path, config: StoreConfig) -> Result<Self> {
        endpoint::check(&config)?;
        let (blobs, layers) = (root.join("content/blobs/sha256"), root.join("layers"));
        let staging = root.join("staging");
        for dir in [&blobs, &layers, &staging] {
            let made = DirBuilder::new().recursive(true).mode(DIR_MODE).create(dir);
            made.map_err(ImageError::io("create", dir))?;
        }
        for dir in [root, &root.join("content"), &root.join("content/blobs")] {
            index::sync_dir(dir)?;
        }
        let lock_path = root.join("lock");
        let lock = File::create(&lock_path).map_err(ImageError::io("create", &lock_path))?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| ImageError::Locked { root: root.to_owned() })?;
        let index = Index::load(root)?;
        let store = Self {
            inner: Arc::new(Inner {
                agents: Agents::new(&config),
                root: root.to_owned(),
                blobs,
                layers,
                staging,
                config,
                flights: Flights::default(),
                config_flights: Flights::default(),
                index: RwLock::new(Arc::new(index)),
                writing: Mutex::default(),
                leases: Mutex::default(),
                healing: Mutex::default(),
                leftovers: Arc::default(),
                counter: AtomicU64::new(0),
                sweeper: Mutex::default(),
                _lock: lock,
            }),
        };
        store.sweep()?;
        Ok(store)
    }

    pub(crate) fn index(&self) -> Arc<Index> {
        Arc::clone(&self.inner.index.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The store's HTTP client, which trusts the certificates that registries are checked with.
    pub fn http(&self) -> naru_types::Result<ureq::Agent> {
        Ok(self.inner.agents.agent(&Tls::default())?)
    }

    /// Makes one durable change of the index. `change` may rename things into place: nothing refers to
    /// them unless the index is saved. An error leaves the index as it was.
    pub(crate) fn transact<T>(&self, change: impl FnOnce(&mut Index) -> Result<T>) -> Result<T> {
        let mut trash = Vec::new();
        let value = {
            let _writing = locked(&self.inner.writing);
            let mut next = Index::clone(&self.index());
            let changed = change(&mut next);
            let dropped = std::mem::take(&mut next.dropped);
            let dropped_blobs = std::mem::take(&mut next.dropped_blobs);
            let (arrived, blobs) =
                (std::mem::take(&mut next.arrived), std::mem::take(&mut next.arrived_blobs));
            // On a full disk a start, which only sweeps, has to work: otherwise nothing could be removed.
            let is_changed = changed.is_ok() && next != *self.index();
            let replaced = if is_changed { next.replace(&self.inner.root) } else { Ok(()) };
            let value = match changed.and_then(|value| replaced.map(|()| value)) {
                Ok(value) => value,
                Err(error) => {
                    self.take_back(&arrived, &blobs);
                    return Err(error);
                }
            };
            // A failure here leaves it open whether the change lasts: what it put into place stays.
            if is_changed {
                index::sync_dir(&self.inner.root)?;
            }
            *self.inner.index.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
            for blob in &dropped_blobs {
                self.remove_blob(blob);
            }
            for layer in dropped {
                trash.extend(self.to_trash(&self.layer_path(&layer))?);
            }
            value
        };
        // The slow part holds no lock.
        self.inner.leftovers.retry();
        trash.into_iter().for_each(|path| self.inner.leftovers.remove(path));
        Ok(value)
    }

    /// Undoes what a change that failed had put into place; what cannot be undone is swept at the next start.
    fn take_back(&self, layers: &[Digest], blobs: &[Digest]) {
        let index = self.index();
        let known = index.content();
        for layer in layers.iter().filter(|layer| !index.layers.contains_key(layer)) {
            if let Ok(Some(trash)) = self.to_trash(&self.layer_path(layer)) {
                self.inner.leftovers.remove(trash);
            }
        }
        for blob in blobs.iter().filter(|blob| !known.contains(blob)) {
            self.remove_blob(blob);
        }
    }

    /// Makes unpacked layers part of the store, inside of [`Store::transact`].
    pub(crate) fn publish(&self, index: &mut Index, staged: &[Arc<Staged>]) -> Result<()> {
        for layer in staged {
            if self.is_healing(&layer.diff_id) && index.layers.contains_key(&layer.diff_id) {
                self.replace(layer)?;
            } else if let Entry::Vacant(vacant) = index.layers.entry(layer.diff_id) {
                let path = self.layer_path(&layer.diff_id);
                if let Some(stale) = self.to_trash(&path)? {
                    remove_tree(&stale)?;
                }
                layer.move_to(&path)?;
                vacant.insert(layer.record());
                index.arrived.push(layer.diff_id);
            }
            if let Some(blob) = layer.blob() {
                index.add_blob(&layer.diff_id, &blob);
            }
        }
        index::sync_dir(&self.inner.layers)
    }

    /// Puts a fresh tree in the place of a damaged one, unless somebody besides the repair's own pull holds that.
    fn replace(&self, layer: &Staged) -> Result<()> {
        let holders =
            locked(&self.inner.leases).values().filter(|held| held.contains(&layer.diff_id)).count();
        if holders > 1 {
            return Err(ImageError::LayerHeld { diff_id: layer.diff_id });
        }
        layer.exchange_with(&self.layer_path(&layer.diff_id))?;
        // The damaged tree is deleted with `layer`: not before the exchange is on the disk.
        index::sync_dir(&self.inner.layers)
    }

    /// Writes everything below the store's root to the disk (syncfs(2)): once for many files.
    pub(crate) fn sync_content(&self) -> Result<()> {
        let dir = File::open(&self.inner.staging).map_err(ImageError::io("open", &self.inner.staging))?;
        rustix::fs::syncfs(&dir).map_err(|errno| ImageError::io("sync", &self.inner.staging)(errno.into()))
    }

    pub(crate) fn layer_path(&self, diff_id: &Digest) -> PathBuf {
        self.inner.layers.join(diff_id.hex())
    }

    /// A name in staging that nobody else gets.
    pub(crate) fn staging_path(&self, what: &str) -> PathBuf {
        self.inner.staging.join(format!("{what}-{}", self.inner.counter.fetch_add(1, Ordering::Relaxed)))
    }

    fn to_trash(&self, path: &Path) -> Result<Option<PathBuf>> {
        let trash = self.staging_path("trash");
        match fs::rename(path, &trash) {
            Ok(()) => Ok(Some(trash)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(ImageError::Io { step: "move away", path: path.to_owned(), source }),
        }
    }

    /// Moves what the index does not know into one new directory and deletes that in the background.
    fn sweep(&self) -> Result<()> {
        let index = self.index();
        let known_blobs = index.content();
        let is_layer = |name: &str| Digest::from_hex(name).is_some_and(|id| index.layers.contains_key(&id));
        let is_blob = |name: &str| Digest::from_hex(name).is_some_and(|id| known_blobs.contains(&id));
        let old = self.inner.root.join("staging.old");
        if old.exists() {
            // An earlier sweep did not get to its end.
            let mut names = (0..u32::MAX).map(|n| self.inner.staging.join(format!("previous-{n}")));
            let free = names.find(|path| !path.exists());
            fs::rename(&old, free.unwrap_or_default()).map_err(ImageError::io("move away", &old))?;
        }
        fs::rename(&self.inner.staging, &old).map_err(ImageError::io("move away", &self.inner.staging))?;
        DirBuilder::new()
            .mode(DIR_MODE)
            .create(&self.inner.staging)
            .map_err(ImageError::io("create", &self.inner.staging))?;
        move_unknown(&self.inner.layers, &old, "layer", &is_layer)?;
        move_unknown(&self.inner.blobs, &old, "blob", &is_blob)?;
        let sweeper = std::thread::Builder::new()
            .name("image-sweep".into())
            // What cannot be deleted now is tried again at the next start.
            .spawn(move || drop(remove_tree(&old)))
            .map_err(ImageError::io("start a thread for", &self.inner.staging))?;
        *locked(&self.inner.sweeper) = Some(sweeper);
        // Layers of pulls and builds that never became an image.
        self.transact(|index| {
            let all: Vec<Digest> = index.layers.keys().copied().collect();
            index.drop_layers(&all, &BTreeSet::new());
            Ok(())
        })
    }

    /// Waits until the leftovers that [`Store::open`] found are gone.
    pub fn wait_for_sweep(&self) {
        if let Some(sweeper) = locked(&self.inner.sweeper).take() {
            // A panic in the sweeper has nothing to say here: the next start sweeps again.
            let _ = sweeper.join();
        }
    }

    /// A guard for layers that no image refers to yet, and for images on no list.
    pub fn lease(&self) -> Lease {
        let number = self.inner.counter.fetch_add(1, Ordering::Relaxed);
        locked(&self.inner.leases).insert(number, BTreeSet::new());
        Lease { store: self.clone(), number }
    }

    pub(crate) fn leased(&self) -> BTreeSet<Digest> {
        locked(&self.inner.leases).values().flatten().copied().collect()
    }

    /// Keeps `layers` under the name `owner` (a build cache entry, say) until [`Store::unpin`]; survives
    /// restarts. Replaces what the owner had before.
    pub fn pin(&self, owner: &str, layers: &[Digest]) -> naru_types::Result<()> {
        Ok(self.transact(|index| {
            if let Some(missing) = layers.iter().find(|layer| !index.layers.contains_key(layer)) {
                return Err(ImageError::NoSuchLayer { diff_id: *missing });
            }
            index.pins.insert(owner.to_owned(), layers.iter().copied().collect());
            Ok(())
        })?)
    }

    /// Lets go of an owner's layers and deletes those that nothing else reaches.
    pub fn unpin(&self, owner: &str) -> naru_types::Result<()> {
        Ok(self.transact(|index| {
            let layers: Vec<Digest> = index.pins.remove(owner).into_iter().flatten().collect();
            index.drop_layers(&layers, &self.leased());
            Ok(())
        })?)
    }
}

/// Keeps the layers and images it holds from being deleted while it lives.
pub struct Lease {
    store: Store,
    number: u64,
}

impl Lease {
    /// Holds a stored layer; an error when it isn't stored.
    pub fn hold(&self, diff_id: &Digest) -> naru_types::Result<()> {
        Ok(self.hold_inner(diff_id)?)
    }

    /// Holds an image and all of its layers, so that a container can be made of it. One without any layer is held, too.
    pub fn hold_image(&self, image: &crate::query::Image) -> naru_types::Result<()> {
        image.layers().iter().try_for_each(|layer| self.hold(layer))?;
        let _writing = locked(&self.store.inner.writing);
        if !self.store.index().images.contains_key(&image.id) {
            return Err(ImageError::NoSuchImage { name: image.id.to_string() }.into());
        }
        self.hold_unlocked(image.id);
        Ok(())
    }

    pub(crate) fn hold_inner(&self, diff_id: &Digest) -> Result<()> {
        // Under the writer's lock: either the layer is seen as held, or it is gone already.
        let _writing = locked(&self.store.inner.writing);
        if !self.store.index().layers.contains_key(diff_id) {
            return Err(ImageError::NoSuchLayer { diff_id: *diff_id });
        }
        self.hold_unlocked(*diff_id);
        Ok(())
    }

    /// Holds a layer from the moment on at which it is stored; says whether it is now.
    pub(crate) fn reserve(&self, diff_id: &Digest) -> bool {
        // As above: a removal under way has not yet asked who holds what, or is seen to have happened.
        let _writing = locked(&self.store.inner.writing);
        self.hold_unlocked(*diff_id);
        self.store.has_whole(diff_id)
    }

    /// For use inside of [`Store::transact`].
    pub(crate) fn hold_unlocked(&self, diff_id: Digest) {
        locked(&self.store.inner.leases).entry(self.number).or_default().insert(diff_id);
    }
}

/// Lets go; a layer that nothing reaches then is deleted by the next removal, prune or start.
impl Drop for Lease {
    fn drop(&mut self) {
        locked(&self.store.inner.leases).remove(&self.number);
    }
}

pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn now() -> Timestamp {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    Timestamp::from_parts(time.tv_sec, time.tv_nsec as u32)
}

pub(crate) fn remove_tree(path: &Path) -> Result<()> {
    let result = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match result {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(ImageError::Io { step: "delete", path: path.to_owned(), source: error })
        }
        _ => Ok(()),
    }
}

fn move_unknown(dir: &Path, trash: &Path, what: &str, is_known: &dyn Fn(&str) -> bool) -> Result<()> {
    for item in fs::read_dir(dir).map_err(ImageError::io("list", dir))? {
        let name = item.map_err(ImageError::io("list", dir))?.file_name();
        if !name.to_str().is_some_and(is_known) {
            let to = trash.join(format!("{what}-{}", name.display()));
            fs::rename(dir.join(&name), &to).map_err(ImageError::io("move away to", &to))?;
        }
    }
    Ok(())
}
