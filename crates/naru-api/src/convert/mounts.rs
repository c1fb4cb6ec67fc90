//! Binds, `--mount`, `--tmpfs` and anonymous volumes, into one list and back.

use naru_kernel::random;
use naru_types::id;
use naru_types::spec::{ContainerSpec, Mount, MountSource, Propagation};
use naru_types::{Error, Result};
use naru_wire::create::Config;
use naru_wire::host_config::{self, HostConfig};
use std::collections::BTreeMap;

pub fn mounts(config: &Config, host: &HostConfig) -> Result<Vec<Mount>> {
    let mut mounts = Vec::new();
    for text in host.binds.iter().flatten() {
        mounts.push(bind(text)?);
    }
    for mount in &host.mounts {
        mounts.push(typed(mount)?);
    }
    for (target, options) in &host.tmpfs {
        let options = options.split(',').filter(|option| !option.is_empty()).map(str::to_owned).collect();
        let source = MountSource::Tmpfs { size: 0, mode: 0, options };
        mounts.push(Mount { source, target: target.clone(), read_only: false });
    }
    for target in config.volumes.iter().flat_map(BTreeMap::keys) {
        // Older clients list bound targets here as well.
        if !mounts.iter().any(|mount| same_target(&mount.target, target)) {
            mounts.push(Mount { source: anonymous(true)?, target: target.clone(), read_only: false });
        }
    }
    Ok(mounts)
}

fn same_target(a: &str, b: &str) -> bool {
    a.trim_end_matches('/') == b.trim_end_matches('/')
}

fn anonymous(copy: bool) -> Result<MountSource> {
    let mut bytes = [0; 32];
    random::fill(&mut bytes)
        .map_err(|error| Error::internal("cannot draw a volume's name").with_source(error))?;
    Ok(MountSource::anonymous_volume(id::hex(&bytes), copy))
}

/// `source:target[:options]`, or a target alone.
fn bind(text: &str) -> Result<Mount> {
    let invalid = || Error::invalid(format!("invalid volume specification: '{text}'"));
    let parts: Vec<&str> = text.split(':').collect();
    let (source, target, options) = match parts[..] {
        [target] => {
            return Ok(Mount { source: anonymous(true)?, target: absolute(target, text)?, read_only: false });
        }
        [source, target] => (source, target, ""),
        [source, target, options] => (source, target, options),
        _ => return Err(invalid()),
    };
    if source.is_empty() || target.is_empty() {
        return Err(invalid());
    }
    let options = BindOptions::parse(options, text)?;
    let source = if source.starts_with('/') {
        MountSource::Bind { path: source.into(), propagation: options.propagation, create: true }
    } else {
        if !id::is_valid_name(source, 2) {
            return Err(bad_volume_name(source));
        }
        MountSource::named_volume(source.to_owned(), !options.no_copy)
    };
    Ok(Mount { source, target: absolute(target, text)?, read_only: options.read_only })
}

fn absolute(target: &str, text: &str) -> Result<String> {
    if target.starts_with('/') {
        return Ok(target.to_owned());
    }
    Err(Error::invalid(format!(
        "invalid volume specification: '{text}': invalid mount path: '{target}' mount path must be absolute"
    )))
}

pub fn bad_volume_name(name: &str) -> Error {
    Error::invalid(format!(
        "create {name}: {name:?} includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
    ))
}

#[derive(Default)]
struct BindOptions {
    read_only: bool,
    no_copy: bool,
    propagation: Propagation,
}

impl BindOptions {
    fn parse(options: &str, text: &str) -> Result<Self> {
        let mut parsed = Self::default();
        for option in options.split(',').filter(|option| !option.is_empty()) {
            match option {
                "ro" | "readonly" => parsed.read_only = true,
                "nocopy" => parsed.no_copy = true,
                // SELinux labels and the cache modes of Docker Desktop: no meaning on a plain Linux host, as in dockerd.
                "rw" | "z" | "Z" | "consistent" | "cached" | "delegated" | "default" | "rbind" => {}
                other => match Propagation::parse(other) {
                    Some(propagation) => parsed.propagation = propagation,
                    None => {
                        return Err(Error::invalid(format!(
                            "invalid volume specification: '{text}': invalid mode: {other}"
                        )));
                    }
                },
            }
        }
        Ok(parsed)
    }
}

/// One of `HostConfig.Mounts`.
fn typed(mount: &host_config::Mount) -> Result<Mount> {
    let kind = mount.kind.as_str();
    let refuse = |why: String| Err(Error::invalid(format!("invalid mount config for type {kind:?}: {why}")));
    if mount.target.is_empty() {
        return refuse("field Target must not be empty".into());
    }
    let source = match kind {
        "bind" if mount.source.is_empty() => return refuse("field Source must not be empty".into()),
        "bind" => bind_source(mount)?,
        "volume" => volume_source(mount)?,
        "tmpfs" if !mount.source.is_empty() => return refuse("field Source must not be specified".into()),
        "tmpfs" => tmpfs_source(mount),
        "image" | "npipe" | "cluster" => {
            return Err(Error::not_implemented(format!("mounts of type {kind:?} are not supported by naru"))
                .with_hint("use bind, volume or tmpfs"));
        }
        _ => return Err(Error::invalid(format!("mount type unknown: {kind:?}"))),
    };
    Ok(Mount { source, target: mount.target.clone(), read_only: mount.read_only })
}

fn bind_source(mount: &host_config::Mount) -> Result<MountSource> {
    let options = mount.bind_options.clone().unwrap_or_default();
    if options.non_recursive || options.read_only_non_recursive || options.read_only_force_recursive {
        return Err(Error::not_implemented("non-recursive bind mounts are not supported by naru")
            .with_hint("binds are recursive, and read-only ones are read-only throughout"));
    }
    let propagation = Propagation::parse(&options.propagation).ok_or_else(|| {
        Error::invalid(format!(
            "invalid mount config for type \"bind\": invalid propagation: {}",
            options.propagation
        ))
    })?;
    Ok(MountSource::Bind {
        path: mount.source.clone().into(),
        propagation,
        create: options.create_mountpoint,
    })
}

fn volume_source(mount: &host_config::Mount) -> Result<MountSource> {
    let options = mount.volume_options.clone().unwrap_or_default();
    let driver = options.driver_config.unwrap_or_default();
    let unsupported = [
        ("Subpath", !options.subpath.is_empty()),
        ("DriverConfig.Name", !matches!(driver.name.as_str(), "" | "local")),
        ("DriverConfig.Options", !driver.options.is_empty()),
    ];
    if let Some((field, _)) = unsupported.iter().find(|(_, is_set)| *is_set) {
        return Err(Error::not_implemented(format!(
            "VolumeOptions.{field} of a mount is not supported by naru"
        ))
        .with_hint("create the volume first: naru volume create"));
    }
    let labels = options.labels;
    if mount.source.is_empty() {
        let source = anonymous(!options.no_copy)?;
        return Ok(with_labels(source, labels));
    }
    if !id::is_valid_name(&mount.source, 2) {
        return Err(bad_volume_name(&mount.source));
    }
    Ok(with_labels(MountSource::named_volume(mount.source.clone(), !options.no_copy), labels))
}

fn with_labels(mut source: MountSource, given: BTreeMap<String, String>) -> MountSource {
    if let MountSource::Volume { labels, .. } = &mut source {
        *labels = given;
    }
    source
}

fn tmpfs_source(mount: &host_config::Mount) -> MountSource {
    let options = mount.tmpfs_options.clone().unwrap_or_default();
    MountSource::Tmpfs {
        size: options.size_bytes,
        mode: options.mode,
        options: options.options.iter().map(|pair| pair.join("=")).collect(),
    }
}

/// What inspect shows of the mounts in `HostConfig`: binds as `-v` writes them, `--mount` as it was, tmpfs by target.
#[derive(Default)]
pub struct Shown {
    pub binds: Vec<String>,
    pub mounts: Vec<host_config::Mount>,
    pub tmpfs: BTreeMap<String, String>,
}

pub fn shown(spec: &ContainerSpec) -> Shown {
    let mut shown = Shown::default();
    for mount in spec.mounts.iter().filter(|mount| !spec.inherited.contains(&mount.target)) {
        let suffix = if mount.read_only { ":ro" } else { "" };
        let target = &mount.target;
        match &mount.source {
            MountSource::Bind { path, create: true, propagation } => {
                let mut options: Vec<&str> = mount.read_only.then_some("ro").into_iter().collect();
                options.extend((*propagation != Propagation::default()).then(|| propagation.as_str()));
                let options =
                    if options.is_empty() { String::new() } else { format!(":{}", options.join(",")) };
                shown.binds.push(format!("{}:{target}{options}", path.display()));
            }
            MountSource::Bind { path, create: false, .. } => shown.mounts.push(host_config::Mount {
                kind: "bind".into(),
                source: path.display().to_string(),
                target: target.clone(),
                read_only: mount.read_only,
                ..host_config::Mount::default()
            }),
            MountSource::Volume { name, anonymous: false, labels, .. } if !labels.is_empty() => {
                let options = host_config::VolumeOptions {
                    labels: labels.clone(),
                    ..host_config::VolumeOptions::default()
                };
                shown.mounts.push(host_config::Mount {
                    kind: "volume".into(),
                    source: name.clone(),
                    target: target.clone(),
                    read_only: mount.read_only,
                    volume_options: Some(options),
                    ..host_config::Mount::default()
                });
            }
            MountSource::Volume { name, anonymous: false, .. } => {
                shown.binds.push(format!("{name}:{target}{suffix}"));
            }
            MountSource::Volume { anonymous: true, .. } => {}
            MountSource::Tmpfs { size: 0, mode: 0, options } => {
                shown.tmpfs.insert(target.clone(), options.join(","));
            }
            MountSource::Tmpfs { size, mode, .. } => shown.mounts.push(host_config::Mount {
                kind: "tmpfs".into(),
                target: target.clone(),
                read_only: mount.read_only,
                tmpfs_options: Some(host_config::TmpfsOptions {
                    size_bytes: *size,
                    mode: *mode,
                    options: Vec::new(),
                }),
                ..host_config::Mount::default()
            }),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binds() {
        let named = bind("gvol:/d").unwrap();
        assert_eq!(named.source, MountSource::named_volume("gvol", true));
        let host = bind("/tmp:/hosttmp:ro,rslave").unwrap();
        let expect =
            MountSource::Bind { path: "/tmp".into(), propagation: Propagation::Rslave, create: true };
        assert!(host.read_only && host.source == expect);
        assert!(matches!(bind("/d").unwrap().source, MountSource::Volume { anonymous: true, .. }));
        for bad in ["a:b", "x:/d:bogus", "/a:/b:ro:x", ":/d", "a/b:/d"] {
            assert!(bind(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn shown_as_given() {
        let mounts = ["gvol:/d", "/tmp:/hosttmp:ro"].map(|text| bind(text).unwrap());
        let spec = ContainerSpec { mounts: mounts.to_vec(), ..ContainerSpec::default() };
        assert_eq!(shown(&spec).binds, ["gvol:/d", "/tmp:/hosttmp:ro"]);
    }

    #[test]
    fn typed_mounts() {
        let mount = |kind: &str, source: &str| host_config::Mount {
            kind: kind.into(),
            source: source.into(),
            target: "/d".into(),
            ..host_config::Mount::default()
        };
        assert!(matches!(
            typed(&mount("bind", "/x")).unwrap().source,
            MountSource::Bind { create: false, .. }
        ));
        assert!(typed(&mount("bind", "")).is_err());
        assert!(typed(&mount("image", "x")).is_err());
        assert!(typed(&mount("bogus", "x")).unwrap_err().message().contains("mount type unknown"));
    }
}
