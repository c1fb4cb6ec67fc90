//! What an image holds, as text that two builders' results can be compared by.

use crate::common::World;
use naru_kernel::mount;
use naru_types::Digest;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The longest content that is shown and not hashed, in bytes.
const SHOWN_BYTES_MAX: usize = 200;
/// Made by whoever runs a step, and no part of its result.
const NOBODYS: [&str; 7] = ["dev", "proc", "sys", "etc/hosts", "etc/resolv.conf", "etc/hostname", "run"];

/// The files of a directory tree: path and description.
pub fn tree(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    walk(root, Path::new(""), &mut found);
    found.retain(|path, _| !NOBODYS.contains(&path.as_str()));
    found
}

fn walk(root: &Path, dir: &Path, found: &mut BTreeMap<String, String>) {
    for entry in std::fs::read_dir(root.join(dir)).unwrap() {
        let path = dir.join(entry.unwrap().file_name());
        let stat = root.join(&path).symlink_metadata().unwrap();
        let look = format!("{:04o} {}:{}", stat.mode() & 0o7777, stat.uid(), stat.gid());
        let text = if stat.is_dir() {
            walk(root, &path, found);
            format!("/ {look}")
        } else if stat.is_symlink() {
            format!(" -> {}", std::fs::read_link(root.join(&path)).unwrap().display())
        } else {
            let content = std::fs::read(root.join(&path)).unwrap();
            let shown = std::str::from_utf8(&content)
                .ok()
                .filter(|text| text.len() <= SHOWN_BYTES_MAX && !text.contains('\0'));
            match shown {
                Some(text) => format!(" {look} {text:?}"),
                None => format!(" {look} {} bytes", content.len()),
            }
        };
        found.insert(path.to_str().unwrap().to_owned(), text);
    }
}

/// What `now` has and `base` hasn't, or has otherwise; what is gone begins with a minus.
pub fn changes(base: &BTreeMap<String, String>, now: &BTreeMap<String, String>) -> Vec<String> {
    let new = now.iter().filter(|(path, text)| base.get(*path) != Some(text));
    let gone = base.keys().filter(|path| !now.contains_key(*path)).map(|path| format!("-{path}"));
    new.map(|(path, text)| format!("{path}{text}")).chain(gone).collect()
}

/// The root filesystem of an image in the store, all layers together.
pub fn rootfs(world: &World, image: &Digest) -> BTreeMap<String, String> {
    let image = world.store.get_by_id(image).unwrap();
    let empty = tempfile::tempdir().unwrap();
    let lowers: Vec<CString> = world
        .store
        .layer_dirs(&image)
        .unwrap()
        .iter()
        .map(std::path::PathBuf::as_path)
        .chain([empty.path()])
        .map(|path| CString::new(path.as_os_str().as_bytes()).unwrap())
        .collect();
    if image.layers().is_empty() {
        return BTreeMap::new();
    }
    let options = lowers.iter().map(|lower| (c"lowerdir+", Some(lower.as_c_str())));
    let fd = mount::new_fs(c"overlay", Some(c"test"), options, 0).unwrap();
    tree(Path::new(&format!("/proc/self/fd/{}/.", fd.as_raw_fd())))
}

/// The part of an image's configuration that the language decides.
pub fn config(config: &Value, author: Option<&str>) -> Map<String, Value> {
    const KEYS: [&str; 12] = [
        "User",
        "Env",
        "Cmd",
        "Entrypoint",
        "WorkingDir",
        "ExposedPorts",
        "Volumes",
        "Labels",
        "StopSignal",
        "Shell",
        "OnBuild",
        "Healthcheck",
    ];
    let empty = |value: &Value| match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    };
    let mut found: Map<String, Value> = KEYS
        .iter()
        .filter_map(|key| Some(((*key).to_owned(), config.get(key).filter(|value| !empty(value))?.clone())))
        .collect();
    if let Some(author) = author.filter(|author| !author.is_empty()) {
        found.insert("Author".into(), author.into());
    }
    found
}
