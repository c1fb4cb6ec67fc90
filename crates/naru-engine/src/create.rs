//! Making a container: everything is checked first, and a guard unmakes what was made when a later step fails.

use crate::container::ContainerPaths;
use crate::engine::Engine;
use crate::machine::State;
use crate::record::{ContainerRow, RunFacts, VolumeRow};
use crate::view::Created;
use crate::{ids, merge, names, runtimes, validate};
use naru_types::id::is_valid_name;
use naru_types::spec::{ContainerSpec, MountSource, NetworkMode};
use naru_types::{ContainerId, Error, ImageRef, Kind, Result};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

/// Attempts at a random name that nobody has.
const NAME_TRIES: u32 = 64;
/// Docker wants names of containers and volumes at least this long.
const NAME_LEN_MIN: usize = 2;

impl Engine {
    /// The image's configuration is merged into `spec`. When this fails, nothing is left behind.
    pub async fn create(&self, name: Option<&str>, spec: ContainerSpec) -> Result<Created> {
        let name = name.map(|name| name.trim_start_matches('/').to_owned()).filter(|name| !name.is_empty());
        let created = self.blocking(move |engine| Making::new(engine, name.as_deref())?.finish(spec)).await?;
        Ok(created)
    }
}

/// A container in the making. Dropped before [`Making::finish`] is through, it takes everything back.
struct Making<'a> {
    engine: &'a Arc<Engine>,
    id: ContainerId,
    name: String,
    volumes: Vec<String>,
    /// Anonymous ones have no row before the container has.
    anonymous: Vec<VolumeRow>,
    finished: bool,
}

impl<'a> Making<'a> {
    /// Reserves an id and a name.
    fn new(engine: &'a Arc<Engine>, wanted: Option<&str>) -> Result<Self> {
        let id = fresh_id();
        let mut table = engine.table();
        let name = match wanted {
            Some(name) => {
                check_name(name)?;
                if let Some(owner) = table.names.get(name) {
                    return Err(name_taken(name, owner));
                }
                name.to_owned()
            }
            None => (0..NAME_TRIES)
                .map(|attempt| {
                    let random = ids::random_32();
                    let mut bytes = [0; 8];
                    bytes.copy_from_slice(&random[..8]);
                    names::name(bytes, attempt)
                })
                .find(|name| !table.names.contains_key(name))
                .unwrap_or_else(|| format!("naru_{}", id.short())),
        };
        table.names.insert(name.clone(), id.clone());
        drop(table);
        Ok(Self { engine, id, name, volumes: Vec::new(), anonymous: Vec::new(), finished: false })
    }

    fn finish(mut self, mut spec: ContainerSpec) -> Result<Created> {
        let engine = self.engine;
        engine.choose_runtime(&mut spec)?;
        let image = engine.store.get(&spec.image).map_err(|error| no_such_image(&spec.image, error))?;
        // Until the row names the image, nothing but this keeps an `rmi` from taking its layers.
        let lease = engine.store.lease();
        lease.hold_image(&image).map_err(|error| no_such_image(&spec.image, error))?;
        engine.inherit_volumes(&mut spec)?;
        merge::merge(&mut spec, &image.config.config, ids::random_hex)?;
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let warnings = validate::spec(&spec, cpus)?;
        self.check_network(&spec)?;
        if spec.hostname.is_empty() && spec.network.mode != NetworkMode::Host {
            self.id.short().clone_into(&mut spec.hostname);
        }
        // Until the row is in the table: two creates at once must not choose the same ids.
        let _choice = crate::lock(&engine.userns_choice);
        engine.choose_user_namespace(&mut spec)?;
        runtimes::check(&spec)?;
        let lower = engine.store.layer_dirs(&image)?;
        check_binds(&spec)?;
        self.make_volumes(&spec)?;
        let paths = ContainerPaths::new(&engine.config.root, &engine.config.run, &self.id, lower.clone());
        make_dirs(&paths)?;
        let row = ContainerRow {
            id: self.id.clone(),
            name: self.name.clone(),
            created: ids::now(),
            image_id: image.id,
            spec,
            state: State::Created { failure: None },
            facts: RunFacts::default(),
        };
        engine.db.insert_container(&row, &self.anonymous)?;
        self.finished = true;
        for volume in std::mem::take(&mut self.anonymous) {
            engine.announce_volume(volume);
        }
        let id = row.id.clone();
        let container = engine.adopt_row(row, lower);
        engine.emit_about(&container, "create", &[]);
        Ok(Created { id, warnings })
    }

    /// What the container will be attached to has to exist now, so that nothing half-made waits for it. A missing one is
    /// the request's fault, not a 404: docker takes a 404 of a create for a missing image and pulls it.
    fn check_network(&self, spec: &ContainerSpec) -> Result<()> {
        self.find_joined(spec).map_err(|error| Error::invalid(error.message()).with_source(error))
    }

    fn find_joined(&self, spec: &ContainerSpec) -> Result<()> {
        match &spec.network.mode {
            NetworkMode::Container(other) => {
                self.engine.find(other)?;
            }
            NetworkMode::Network(name) => {
                self.engine.find_network(name)?;
            }
            NetworkMode::Bridge | NetworkMode::Host | NetworkMode::None => {}
        }
        for name in spec.network.endpoints.keys() {
            self.engine.find_network(name)?;
        }
        Ok(())
    }

    fn make_volumes(&mut self, spec: &ContainerSpec) -> Result<()> {
        for mount in &spec.mounts {
            let MountSource::Volume { name, anonymous, labels, .. } = &mount.source else { continue };
            let (name, labels) = (name.clone(), labels.clone());
            let row = VolumeRow { name: name.clone(), labels, anonymous: *anonymous, ..VolumeRow::default() };
            if *anonymous {
                // Only its container knows this name, so a daemon that is killed before the container has its row
                // must not leave a volume that nobody ever removes.
                self.anonymous.extend(self.engine.place_volume(row)?);
            } else if self.engine.ensure_volume(row)? {
                self.volumes.push(name);
            }
        }
        Ok(())
    }
}

impl Drop for Making<'_> {
    fn drop(&mut self) {
        if self.finished {
            return;
        }
        // The error that brought us here is the one to report; what cannot be taken back now, start-up sweeps.
        let paths =
            ContainerPaths::new(&self.engine.config.root, &self.engine.config.run, &self.id, Vec::new());
        let _ = std::fs::remove_dir_all(&paths.dir);
        for name in &self.volumes {
            let _ = self.engine.drop_volume(name);
        }
        for row in &self.anonymous {
            self.engine.unplace_volume(&row.name);
        }
        let mut table = self.engine.table();
        if table.names.get(&self.name) == Some(&self.id) {
            table.names.remove(&self.name);
        }
    }
}

fn fresh_id() -> ContainerId {
    loop {
        // `random_hex` avoids ids whose short form looks like a number.
        if let Some(id) = ContainerId::parse(&ids::random_hex()) {
            return id;
        }
    }
}

pub fn check_name(name: &str) -> Result<()> {
    if is_valid_name(name, NAME_LEN_MIN) {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "Invalid container name ({name}), only [a-zA-Z0-9][a-zA-Z0-9_.-] are allowed"
    )))
}

pub fn name_taken(name: &str, owner: &ContainerId) -> Error {
    Error::conflict(format!(
        "Conflict. The container name \"/{name}\" is already in use by container \"{owner}\". You have to remove (or rename) that container to be able to reuse that name."
    ))
}

fn no_such_image(asked: &str, error: Error) -> Error {
    if error.kind() != Kind::NotFound {
        return error;
    }
    let shown = ImageRef::parse(asked)
        .map_or_else(|_| asked.to_owned(), |reference| reference.with_default_tag().familiar());
    Error::not_found(format!("No such image: {shown}")).with_hint(format!("naru pull {shown}"))
}

/// `--mount` wants its source to exist; `-v` makes it at start.
pub fn check_binds(spec: &ContainerSpec) -> Result<()> {
    for mount in &spec.mounts {
        if let MountSource::Bind { path, create: false, .. } = &mount.source
            && !path.exists()
        {
            return Err(Error::invalid(format!(
                "invalid mount config for type \"bind\": bind source path does not exist: {}",
                path.display()
            )));
        }
    }
    Ok(())
}

fn make_dirs(paths: &ContainerPaths) -> Result<()> {
    make_dir(&paths.dir, 0o710)?;
    make_dir(&paths.work(), 0o700)?;
    make_dir(&paths.upper(), 0o755)?;
    // An overlay's root shows the mode of its upper directory: the image's own root mode has to be carried over.
    if let Some(top) = paths.lower.first()
        && let Ok(meta) = std::fs::metadata(top)
    {
        std::fs::set_permissions(paths.upper(), std::fs::Permissions::from_mode(meta.permissions().mode()))
            .map_err(|error| dir_error(&paths.upper(), error))?;
    }
    Ok(())
}

pub fn make_dir(path: &Path, mode: u32) -> Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .and_then(|()| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)))
        .map_err(|error| dir_error(path, error))
}

fn dir_error(path: &Path, error: std::io::Error) -> Error {
    Error::internal(format!("cannot make {}: {error}", path.display())).with_source(error)
}
