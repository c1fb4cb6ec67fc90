//! `volumes` and `tmpfs`.

use crate::error::Result;
use crate::project::Scope;
use crate::read::{At, Table};
use naru_types::quantity::parse_bytes;
use naru_types::spec::{Mount, MountSource, Propagation};
use std::path::{Path, PathBuf};

/// /tmp's mode, which Docker gives every tmpfs.
const TMPFS_MODE: u32 = 0o1777;

pub(crate) fn read(table: &Table<'_>, scope: &mut Scope<'_>) -> Result<Vec<Mount>> {
    let mut mounts: Vec<Mount> = Vec::new();
    let mut add = |at: &At<'_>, mount: Mount| {
        if !mount.target.starts_with('/') {
            let error = at.error(format!("the target {:?} must be an absolute path", mount.target));
            return Err(error.hint(format!("write /{}", mount.target)));
        }
        if mounts.iter().any(|known| known.target == mount.target) {
            return Err(at.error(format!("something is mounted on {} already", mount.target)));
        }
        mounts.push(mount);
        Ok(())
    };
    if let Some(volumes) = table.get("volumes") {
        for item in volumes.items()? {
            let mount = if item.is_map() { long(&item, scope)? } else { short(&item, scope)? };
            add(&item, mount)?;
        }
    }
    if let Some(at) = table.get("tmpfs") {
        for text in at.one_or_more()? {
            let (target, options) = text.split_once(':').unwrap_or((&text, ""));
            add(&at, Mount { source: tmpfs(&at, options)?, target: target.to_owned(), read_only: false })?;
        }
    }
    Ok(mounts)
}

/// `/data`, `name:/data`, `./dir:/data:ro`.
fn short(item: &At<'_>, scope: &mut Scope<'_>) -> Result<Mount> {
    let text = item.text()?;
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, options) = match parts.as_slice() {
        [target] => (None, *target, ""),
        [source, target] => (Some(*source), *target, ""),
        [source, target, options] => (Some(*source), *target, *options),
        _ => {
            return Err(item
                .error(format!("invalid volume {text:?}"))
                .hint("write source:/target or source:/target:ro"));
        }
    };
    if target.is_empty() || source == Some("") {
        return Err(item.error(format!("invalid volume {text:?}")).hint("write source:/target"));
    }
    let mut read_only = false;
    let mut copy = true;
    let mut propagation = Propagation::default();
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "ro" => read_only = true,
            "nocopy" => copy = false,
            // SELinux labels and the hints for Docker's own virtual machine change nothing here.
            "rw" | "z" | "Z" | "cached" | "delegated" | "consistent" => {}
            other => {
                propagation = Propagation::parse(other).ok_or_else(|| {
                    let error = item.error(format!("unknown volume option {other:?}"));
                    error.hint("use ro, rw, nocopy, z, Z, or a propagation such as rslave")
                })?;
            }
        }
    }
    let source = match source {
        None => MountSource::anonymous_volume(String::new(), copy),
        Some(path) if path.starts_with(['.', '/', '~']) => {
            MountSource::Bind { path: host_path(item, scope, path)?, propagation, create: true }
        }
        Some(name) => MountSource::named_volume(scope.volume(item, name)?, copy),
    };
    Ok(Mount { source, target: target.to_owned(), read_only })
}

fn long(item: &At<'_>, scope: &mut Scope<'_>) -> Result<Mount> {
    let known = ["bind", "consistency", "read_only", "source", "target", "tmpfs", "type", "volume"];
    let refused = [("image", "mounting an image is not there yet; copy the files into a volume")];
    let table = item.table(&known, &refused)?;
    let kind = table
        .get("type")
        .ok_or_else(|| item.error("type is missing").hint("write type: volume, bind or tmpfs"))?;
    let target = table.string("target")?.ok_or_else(|| item.error("target is missing"))?;
    let source = table.get("source");
    let section = |name: &str, keys: &[&'static str]| {
        table
            .get(name)
            .map(|at| {
                at.table(keys, &[("subpath", "mount the whole volume"), ("recursive", "binds are recursive")])
            })
            .transpose()
    };
    let (bind, volume) =
        (section("bind", &["create_host_path", "propagation", "selinux"])?, section("volume", &["nocopy"])?);
    let options = section("tmpfs", &["mode", "size"])?;
    for (name, given) in
        [("bind", bind.is_some()), ("volume", volume.is_some()), ("tmpfs", options.is_some())]
    {
        if given && kind.text()? != name {
            return Err(item.error(format!("{name} options do not go with type {}", kind.text()?)));
        }
    }
    let source = match kind.text()? {
        "bind" => {
            let source = source.ok_or_else(|| item.error("source is missing"))?;
            let mut propagation = Propagation::default();
            let mut create = true;
            if let Some(bind) = bind {
                create = bind.read("create_host_path", At::bool)?.unwrap_or(true);
                if let Some(at) = bind.get("propagation") {
                    propagation =
                        Propagation::parse(at.text()?).ok_or_else(|| at.error("unknown propagation"))?;
                }
            }
            MountSource::Bind { path: host_path(&source, scope, source.text()?)?, propagation, create }
        }
        "volume" => {
            let copy = !volume.map(|volume| volume.flag("nocopy")).transpose()?.unwrap_or(false);
            match source {
                None => MountSource::anonymous_volume(String::new(), copy),
                Some(at) => MountSource::named_volume(scope.volume(&at, at.text()?)?, copy),
            }
        }
        "tmpfs" => {
            let size = options
                .as_ref()
                .map(|table| table.read("size", At::bytes))
                .transpose()?
                .flatten()
                .unwrap_or(0);
            let mode = options
                .as_ref()
                .map(|table| table.read("mode", octal))
                .transpose()?
                .flatten()
                .unwrap_or(TMPFS_MODE);
            MountSource::Tmpfs { size, mode, options: Vec::new() }
        }
        other => {
            return Err(kind.unsupported(
                format!("volume type {other:?} is not supported"),
                "use volume, bind or tmpfs",
            ));
        }
    };
    Ok(Mount { source, target, read_only: table.flag("read_only")? })
}

/// `size=64m,mode=1777,noexec`.
fn tmpfs(at: &At<'_>, text: &str) -> Result<MountSource> {
    let (mut size, mut mode, mut options) = (0, TMPFS_MODE, Vec::new());
    for option in text.split(',').filter(|option| !option.is_empty()) {
        match option.split_once('=') {
            Some(("size", value)) => {
                size = parse_bytes(value).ok_or_else(|| at.error(format!("invalid size {value:?}")))?;
            }
            Some(("mode", value)) => {
                mode =
                    u32::from_str_radix(value, 8).map_err(|_| at.error(format!("invalid mode {value:?}")))?;
            }
            Some(("uid" | "gid", value)) if value.parse::<u32>().is_ok() => options.push(option.to_owned()),
            None if matches!(
                option,
                "rw" | "ro" | "exec" | "noexec" | "suid" | "nosuid" | "dev" | "nodev"
            ) =>
            {
                options.push(option.to_owned());
            }
            _ => return Err(at.error(format!("unknown tmpfs option {option:?}"))),
        }
    }
    Ok(MountSource::Tmpfs { size, mode, options })
}

/// YAML's own octal (`0o1777`, `01777`) and plain digits.
fn octal(at: &At<'_>) -> Result<u32> {
    let text = at.text()?;
    let digits = text.strip_prefix("0o").unwrap_or(text);
    u32::from_str_radix(digits, 8)
        .map_err(|_| at.error(format!("invalid mode {text:?}")).hint("write it in octal: 01777"))
}

fn host_path(at: &At<'_>, scope: &Scope<'_>, text: &str) -> Result<PathBuf> {
    if let Some(rest) = text.strip_prefix('~') {
        if !(rest.is_empty() || rest.starts_with('/')) {
            return Err(at.error(format!("invalid path {text:?}")).hint("~ stands for your own home only"));
        }
        let home = scope.lookup("HOME").ok_or_else(|| at.error("HOME is not set, so ~ means nothing"))?;
        return Ok(clean(&Path::new(&home).join(rest.trim_start_matches('/'))));
    }
    Ok(clean(&scope.working_dir.join(text)))
}

/// Without `.` and `..`, by the text alone.
pub(crate) fn clean(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for component in path.components() {
        match component {
            std::path::Component::CurDir => {}
            std::path::Component::ParentDir => {
                out.pop();
            }
            other => out.push(other),
        }
    }
    out
}
