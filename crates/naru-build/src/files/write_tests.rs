//! What the writer does that whole builds don't show: links, holes and limits.

use super::at;
use super::mount_points::remove_mount_points;
use super::source::SourceTree;
use super::write::{Changes, LayerWriter};
use crate::error::Position;
use rustix::fd::AsFd;
use std::collections::HashMap;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

fn copy_all(from: &Path, view: &Path, upper: &Path) -> Result<(), crate::error::BuildError> {
    let tree = SourceTree::whole(at::open_root(from).unwrap());
    let view = at::open_root(view).unwrap();
    let position = Position::new("Dockerfile", 2, "COPY . /");
    let mut writer = LayerWriter {
        at: &position,
        upper: at::open_root(upper).unwrap(),
        view: view.as_fd(),
        changes: Changes::default(),
        replace: false,
        cancel: &AtomicBool::new(false),
        links: HashMap::new(),
        into_layer: false,
    };
    let source = tree.select(&position, "COPY", ".")?.remove(0);
    writer.copy(&tree, &source, Path::new("to"))
}

fn dirs() -> (tempfile::TempDir, [PathBuf; 3]) {
    let dir = tempfile::tempdir().unwrap();
    let paths = ["from", "view", "upper"].map(|name| dir.path().join(name));
    for path in &paths {
        std::fs::create_dir(path).unwrap();
    }
    (dir, paths)
}

#[test]
fn names_of_one_file_stay_names_of_one_file() {
    let (_dir, [from, view, upper]) = dirs();
    std::fs::write(from.join("a"), "1").unwrap();
    std::fs::hard_link(from.join("a"), from.join("b")).unwrap();
    copy_all(&from, &view, &upper).unwrap();
    let inode = |name: &str| upper.join("to").join(name).metadata().unwrap().ino();
    assert_eq!(inode("a"), inode("b"));
}

#[test]
fn a_directory_of_the_image_is_made_again_as_it_was() {
    let (_dir, [from, view, upper]) = dirs();
    std::fs::write(from.join("a"), "1").unwrap();
    std::fs::create_dir(view.join("to")).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o1777);
    std::fs::set_permissions(view.join("to"), mode).unwrap();
    copy_all(&from, &view, &upper).unwrap();
    assert_eq!(upper.join("to").metadata().unwrap().mode() & 0o7777, 0o1777);
}

#[test]
fn only_empty_mount_points_go() {
    let (dir, [.., upper]) = dirs();
    std::fs::create_dir_all(upper.join("a/b")).unwrap();
    std::fs::create_dir_all(upper.join("full")).unwrap();
    std::fs::write(upper.join("full/x"), "1").unwrap();
    std::fs::write(upper.join("file"), "content").unwrap();
    std::fs::create_dir(dir.path().join("outside")).unwrap();
    symlink(dir.path(), upper.join("link")).unwrap();
    let points = ["a/b", "link/outside", "full", "file", "a", "missing/x"].map(PathBuf::from);
    remove_mount_points(&upper, &points).unwrap();
    assert!(!upper.join("a").exists());
    assert!(upper.join("full/x").exists() && upper.join("file").exists());
    assert!(dir.path().join("outside").exists());
}
