//! Volumes: a directory `<root>/volumes/<name>/_data` and a row. Only who names a volume removes it, but for
//! anonymous ones, which go with their container when asked (`rm -v`, `--rm`).

use crate::create::make_dir;
use crate::engine::Engine;
use crate::options::VolumeCreate;
use crate::record::VolumeRow;
use crate::view::VolumeView;
use naru_types::id::is_valid_name;
use naru_types::spec::MountSource;
use naru_types::{Error, Result};
use std::path::PathBuf;

const NAME_LEN_MIN: usize = 2;

impl Engine {
    /// An existing volume of the same name is returned as it is, as Docker does.
    pub async fn volume_create(&self, options: VolumeCreate) -> Result<VolumeView> {
        if let Some(driver) = options.driver.filter(|driver| !driver.is_empty() && driver != "local") {
            return Err(Error::not_found(format!(
                "error looking up volume plugin {driver}: plugin \"{driver}\" not found"
            ))
            .with_hint("naru has the driver `local` only"));
        }
        if !options.options.is_empty() {
            let keys: Vec<_> = options.options.keys().map(String::as_str).collect();
            return Err(Error::not_implemented(format!(
                "volume options are not supported: {}",
                keys.join(", ")
            ))
            .with_hint("mount a host directory with `--mount type=bind` instead"));
        }
        let (name, anonymous) = match options.name.filter(|name| !name.is_empty()) {
            Some(name) => (name, false),
            None => (crate::ids::random_hex(), true),
        };
        let row = VolumeRow { name: name.clone(), labels: options.labels, anonymous, ..VolumeRow::default() };
        self.blocking(move |engine| engine.ensure_volume(row)).await?;
        self.volume(&name)
    }

    pub fn volumes(&self) -> Vec<VolumeView> {
        let rows: Vec<_> = self.table().volumes.values().cloned().collect();
        rows.into_iter().map(|row| self.volume_view(row)).collect()
    }

    pub fn volume(&self, name: &str) -> Result<VolumeView> {
        let row = self.table().volumes.get(name).cloned();
        row.map(|row| self.volume_view(row)).ok_or_else(|| none(name))
    }

    /// `force`: a volume that does not exist is no error.
    pub async fn volume_remove(&self, name: &str, force: bool) -> Result<()> {
        let name = name.to_owned();
        self.blocking(move |engine| {
            if !engine.table().volumes.contains_key(&name) {
                return if force { Ok(()) } else { Err(none(&name)) };
            }
            let users = engine.volume_users(&name);
            if !users.is_empty() {
                return Err(Error::conflict(format!(
                    "remove {name}: volume is in use - [{}]",
                    users.join(", ")
                )));
            }
            engine.drop_volume(&name)
        })
        .await
    }

    fn volume_view(&self, row: VolumeRow) -> VolumeView {
        VolumeView {
            driver: "local".into(),
            mountpoint: self.volume_data(&row.name),
            ref_count: self.volume_users(&row.name).len(),
            name: row.name,
            labels: row.labels,
            options: row.options,
            created: row.created,
            anonymous: row.anonymous,
        }
    }

    /// Ids of the containers, running or not, that mount the volume.
    pub(crate) fn volume_users(&self, name: &str) -> Vec<String> {
        let containers = self.containers();
        let uses =
            |source: &MountSource| matches!(source, MountSource::Volume { name: own, .. } if own == name);
        containers
            .iter()
            .filter(|container| container.cell().spec.mounts.iter().any(|mount| uses(&mount.source)))
            .map(|container| container.id.to_string())
            .collect()
    }

    pub(crate) fn volume_data(&self, name: &str) -> PathBuf {
        self.config.root.join("volumes").join(name).join("_data")
    }

    /// Makes the volume unless it exists; says whether it did. Blocks.
    pub(crate) fn ensure_volume(&self, row: VolumeRow) -> Result<bool> {
        let Some(row) = self.place_volume(row)? else { return Ok(false) };
        self.db.save_volume(&row)?;
        self.announce_volume(row);
        Ok(true)
    }

    /// Makes the directory of a volume that nobody knows yet. `None`: there is one of this name already. Blocks.
    pub(crate) fn place_volume(&self, mut row: VolumeRow) -> Result<Option<VolumeRow>> {
        if !is_valid_name(&row.name, NAME_LEN_MIN) {
            return Err(Error::invalid(format!(
                "create {}: \"{}\" includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path",
                row.name, row.name
            )));
        }
        if self.table().volumes.contains_key(&row.name) {
            return Ok(None);
        }
        row.created = crate::ids::now();
        let data = self.volume_data(&row.name);
        if let Some(parent) = data.parent() {
            make_dir(parent, 0o701)?;
        }
        if !data.exists() {
            make_dir(&data, 0o755)?;
        }
        Ok(Some(row))
    }

    /// A volume whose row is saved can be found from here on.
    pub(crate) fn announce_volume(&self, row: VolumeRow) {
        let name = row.name.clone();
        self.table().volumes.insert(name.clone(), row);
        self.emit_volume(&name, "create", &[]);
    }

    /// Takes [`Engine::place_volume`] back: what has something in it stays.
    pub(crate) fn unplace_volume(&self, name: &str) {
        let data = self.volume_data(name);
        if std::fs::remove_dir(&data).is_ok()
            && let Some(parent) = data.parent()
        {
            let _ = std::fs::remove_dir(parent);
        }
    }

    /// Removes a volume with all that is in it. Blocks.
    pub(crate) fn drop_volume(&self, name: &str) -> Result<()> {
        // The row last: what is killed in between is found again by it.
        let dir = self.config.root.join("volumes").join(name);
        std::fs::remove_dir_all(&dir).or_else(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Ok(()),
            _ => Err(Error::internal(format!("cannot remove {}: {error}", dir.display())).with_source(error)),
        })?;
        self.db.delete_volume(name)?;
        self.table().volumes.remove(name);
        self.emit_volume(name, "destroy", &[]);
        Ok(())
    }
}

fn none(name: &str) -> Error {
    Error::not_found(format!("get {name}: no such volume"))
}
