//! Archives in and out of the store: round trips, GNU tar's output, hostile archives.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use EntryKind::{HardLink, Symlink};
use common::{is_root, layer_digests, make_image, make_tree, make_upper, store, tree_digest};
use naru_image::changes::{ChangeKind, changes};
use naru_image::tar::{self, Entry, EntryKind, Reader};
use naru_image::unpack::{UnpackOptions, unpack};
use naru_image::{ImageUser, RemoveOptions, Removed};
use naru_types::ImageRef;
use rustix::fd::AsFd;
use std::fs;
use std::io::Cursor;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::process::Command;
use tempfile::TempDir;

fn archive(entries: &[(Entry, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (entry, content) in entries {
        let mut entry = entry.clone();
        entry.size = content.len() as u64;
        bytes.extend(tar::encode(&entry));
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes.extend(tar::trailer());
    bytes
}

fn file(path: &str) -> (Entry, &'static [u8]) {
    (Entry::new(path, EntryKind::File), b"x")
}

fn linked(path: &str, kind: EntryKind, target: &str) -> (Entry, &'static [u8]) {
    let mut entry = Entry::new(path, kind);
    entry.link = target.into();
    (entry, b"")
}

fn directory(path: &str) -> (Entry, &'static [u8]) {
    (Entry::new(path, EntryKind::Directory), b"")
}

fn unpack_into(dir: &Path, bytes: &[u8], options: &UnpackOptions) -> naru_types::Result<()> {
    let root = naru_image::tree::open_root(dir)?;
    unpack(root.as_fd(), &mut Reader::new(Cursor::new(bytes)), options)?;
    Ok(())
}

#[test]
fn hostile_archives_stay_inside() {
    if !is_root() {
        return;
    }
    for (why, entries) in [
        ("..", vec![file("../escape")]),
        ("inner ..", vec![directory("a"), file("a/../../escape")]),
        ("symlink parent", vec![linked("a", Symlink, "/tmp"), file("a/escape")]),
        ("relative symlink parent", vec![linked("a", Symlink, "../"), file("a/escape")]),
        (
            "swapped directory",
            vec![directory("a"), file("a/f"), linked("a", Symlink, "/tmp"), file("a/escape")],
        ),
        ("hard link out", vec![linked("a", HardLink, "../../etc/passwd")]),
        ("absolute hard link", vec![linked("a", HardLink, "/etc/passwd")]),
        (
            "hard link through a symlink",
            vec![linked("s", Symlink, "/etc"), linked("a", HardLink, "s/passwd")],
        ),
        ("hard link to itself", vec![file("a"), linked("a", HardLink, "a")]),
        ("beneath a file", vec![file("a"), file("a/b")]),
        ("whiteout of nothing", vec![file(".wh.")]),
        ("whiteout of ..", vec![file(".wh...")]),
        ("file as root", vec![file("./")]),
    ] {
        let dir = TempDir::new().unwrap();
        let root = dir.path().join("root");
        fs::create_dir(&root).unwrap();
        let result = unpack_into(&root, &archive(&entries), &UnpackOptions::layer());
        assert!(result.is_err(), "{why}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "{why}");
        assert!(!Path::new("/tmp/escape").exists(), "{why}");
    }
    // An absolute name is taken as relative, as tar and Docker do; a link that is replaced is not followed.
    let dir = TempDir::new().unwrap();
    let victim = dir.path().join("victim");
    fs::write(&victim, "safe").unwrap();
    let root = dir.path().join("root");
    fs::create_dir(&root).unwrap();
    let entries = [linked("f", Symlink, victim.to_str().unwrap()), file("f"), file("/etc/passwd")];
    unpack_into(&root, &archive(&entries), &UnpackOptions::layer()).unwrap();
    assert_eq!(fs::read_to_string(&victim).unwrap(), "safe");
    assert_eq!(fs::read_to_string(root.join("f")).unwrap(), "x");
    assert_eq!(fs::read_to_string(root.join("etc/passwd")).unwrap(), "x");
}

#[test]
fn damaged_archives_are_refused() {
    let dir = TempDir::new().unwrap();
    let whole = archive(&[file("a"), (Entry::new("b", EntryKind::File), &[1; 3000])]);
    // The end of a member's content may be the end of the archive (at 513 to 1024), as in Go.
    for cut in [100, 511, 512, 1025, 2000] {
        assert!(unpack_into(dir.path(), &whole[..cut], &UnpackOptions::plain()).is_err(), "{cut}");
    }
    let mut flipped = whole.clone();
    flipped[3] ^= 1;
    let error = unpack_into(dir.path(), &flipped, &UnpackOptions::plain()).unwrap_err();
    assert!(error.message().contains("checksum"), "{error}");
    assert!(unpack_into(dir.path(), b"this is no archive at all", &UnpackOptions::plain()).is_err());
}

#[test]
fn whiteouts_become_overlay_marks_and_come_back() {
    if !is_root() {
        return;
    }
    let entries = [
        directory("d"),
        file("d/.wh..wh..opq"),
        file("d/kept"),
        file("e/.wh.gone"),
        file(".wh.again"),
        directory("again"),
        file("again/inside"),
        file("stays"),
        file(".wh.stays"),
    ];
    let dir = TempDir::new().unwrap();
    unpack_into(dir.path(), &archive(&entries), &UnpackOptions::layer()).unwrap();
    let opaque = |name: &str| {
        let mut value = [0; 8];
        rustix::fs::lgetxattr(dir.path().join(name), "trusted.overlay.opaque", &mut value[..]).is_ok()
    };
    let gone = fs::symlink_metadata(dir.path().join("e/gone")).unwrap();
    assert!(gone.file_type().is_char_device() && gone.rdev() == 0);
    assert!(opaque("d") && opaque("again") && !opaque("e"));
    assert!(dir.path().join("stays").is_file() && dir.path().join("again/inside").is_file());

    let other = TempDir::new().unwrap();
    let mut bytes = Vec::new();
    let root = naru_image::tree::open_root(dir.path()).unwrap();
    let options =
        naru_image::pack::PackOptions { whiteouts: true, ..naru_image::pack::PackOptions::default() };
    naru_image::pack::tar_tree(root.as_fd(), Path::new("."), &mut bytes, &options).unwrap();
    unpack_into(other.path(), &bytes, &UnpackOptions::layer()).unwrap();
    assert_eq!(tree_digest(dir.path()), tree_digest(other.path()));
}

#[test]
fn gnu_tar_archives_in_each_format() {
    if !is_root() {
        return;
    }
    let test = store();
    let tree = test.dir.path().join("tree");
    fs::create_dir(&tree).unwrap();
    make_tree(&tree);
    let sparse = fs::File::create(tree.join("sparse")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"head", 0).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"tail", 3_000_000).unwrap();
    sparse.set_len(5_000_000).unwrap();
    let content = fs::read(tree.join("sparse")).unwrap();
    for format in ["gnu", "posix"] {
        let path = test.dir.path().join(format);
        let xattrs: &[&str] = if format == "posix" { &["--xattrs", "--xattrs-include=*"] } else { &[] };
        let status = Command::new("tar")
            .args(xattrs)
            .args(["--sparse", &format!("--format={format}"), "-cf"])
            .arg(&path)
            .arg("-C")
            .arg(&tree)
            .arg(".")
            .status()
            .unwrap();
        assert!(status.success());
        let out = TempDir::new().unwrap();
        unpack_into(out.path(), &fs::read(&path).unwrap(), &UnpackOptions::layer()).unwrap();
        assert_eq!(fs::read(out.path().join("sparse")).unwrap(), content, "{format}");
        assert!(
            fs::metadata(out.path().join("sparse")).unwrap().blocks() < 1000,
            "{format}: holes were filled"
        );
        if format == "posix" {
            assert_eq!(tree_digest(out.path()), tree_digest(&tree));
        }
        // The store writes the very same archive again: the layer's digest is the file's.
        let lease = test.store.lease();
        let layer = test.store.add_layer(&mut fs::File::open(&path).unwrap(), &lease).unwrap();
        assert_eq!(layer.diff_id, naru_image::blob::sha256(&fs::read(&path).unwrap()), "{format}");
        let mut again = Vec::new();
        let dir = test.store.layer_dir(&layer.diff_id).unwrap();
        naru_image::split::write_tar(dir.parent().unwrap(), &mut again).unwrap();
        assert_eq!(naru_image::blob::sha256(&again), layer.diff_id, "{format}");
    }
}

#[test]
fn names_given_twice_do_not_change_the_archive() {
    if !is_root() {
        return;
    }
    let test = store();
    let entries = [
        (Entry::new("d/f", EntryKind::File), &b"first"[..]),
        (Entry::new("d/f", EntryKind::File), b"second"),
        (Entry::new("d/g", EntryKind::File), b"third"),
        (Entry::new("d", EntryKind::File), b"no directory any more"),
        (Entry::new("d", EntryKind::Directory), b""),
        (Entry::new("d/f", EntryKind::File), b"last"),
        (Entry::new(".wh.w", EntryKind::File), b"payload of a whiteout"),
    ];
    let bytes = archive(&entries);
    let lease = test.store.lease();
    let layer = test.store.add_layer(&mut &bytes[..], &lease).unwrap();
    let dir = test.store.layer_dir(&layer.diff_id).unwrap();
    assert_eq!(fs::read_to_string(dir.join("d/f")).unwrap(), "last");
    assert!(!dir.join("d/g").exists());
    let mut again = Vec::new();
    naru_image::split::write_tar(dir.parent().unwrap(), &mut again).unwrap();
    assert!(again == bytes);
}

#[test]
fn save_and_load_give_the_same_image() {
    if !is_root() {
        return;
    }
    let from = store();
    let image = make_image(&from, "team/app:v1");
    from.store.tag(&image.id, &ImageRef::parse("team/app:v2").unwrap()).unwrap();
    let mut bytes = Vec::new();
    from.store.save(&["team/app".into()], &mut bytes).unwrap();
    let to = store();
    let loaded = to.store.load(&mut &bytes[..], &|_| {}).unwrap();
    assert_eq!(loaded.len(), 1);
    assert_eq!(
        (loaded[0].id, loaded[0].tags.as_slice()),
        (image.id, &["team/app:v1".to_owned(), "team/app:v2".into()][..])
    );
    let other = to.store.get("team/app:v2").unwrap();
    assert_eq!(layer_digests(&to.store, &other), layer_digests(&from.store, &image));
    assert_eq!(other.size, image.size);

    // Without manifest.json the same archive is an OCI layout.
    let dir = TempDir::new().unwrap();
    fs::create_dir(dir.path().join("x")).unwrap();
    unpack_into(&dir.path().join("x"), &bytes, &UnpackOptions::plain()).unwrap();
    fs::remove_file(dir.path().join("x/manifest.json")).unwrap();
    let mut tar = Command::new("tar");
    tar.arg("-czf").arg(dir.path().join("a.tar")).arg("-C").arg(dir.path().join("x")).arg(".");
    assert!(tar.status().unwrap().success());
    let third = store();
    let loaded = third.store.load(&mut fs::File::open(dir.path().join("a.tar")).unwrap(), &|_| {}).unwrap();
    assert_eq!(loaded[0].id, image.id);
    assert_eq!(third.store.get("team/app:v1").unwrap().id, image.id);

    // Garbage changes nothing.
    let fourth = store();
    for bad in [
        &b"garbage"[..],
        &archive(&[file("manifest.json")]),
        &archive(&[file("hello")]),
        &bytes[..bytes.len() / 2],
    ] {
        assert!(fourth.store.load(&mut &bad[..], &|_| {}).is_err());
    }
    fourth.assert_nothing_left();
}

#[test]
fn commit_by_copy_and_by_taking_over_agree() {
    if !is_root() {
        return;
    }
    let test = store();
    let upper = test.dir.path().join("store/upper");
    fs::create_dir(&upper).unwrap();
    make_tree(&upper);
    make_upper(&test.dir.path().join("unused"));
    let before = tree_digest(&upper);
    let lease = test.store.lease();
    let copied = test.store.commit_layer(&upper, false, &lease).unwrap();
    let dir = test.store.layer_dir(&copied.diff_id).unwrap();
    assert_eq!(tree_digest(&dir), before);
    let other = store();
    let lease = other.store.lease();
    let taken = other.store.commit_layer(&upper, true, &lease).unwrap();
    assert_eq!(copied, taken);
    assert!(!upper.exists());
    assert_eq!(tree_digest(&other.store.layer_dir(&taken.diff_id).unwrap()), before);
}

#[test]
fn changes_are_dockers() {
    if !is_root() {
        return;
    }
    let test = store();
    let (lower, upper) = (test.dir.path().join("l"), test.dir.path().join("u"));
    fs::create_dir_all(lower.join("tmp")).unwrap();
    make_tree_light(&lower);
    fs::write(lower.join("tmp/old"), "o").unwrap();
    make_upper(&upper);
    fs::write(upper.join("added"), "a").unwrap();
    let found: Vec<(String, ChangeKind)> = changes(&upper, &[lower])
        .unwrap()
        .into_iter()
        .map(|change| (change.path.display().to_string(), change.kind))
        .collect();
    let expect = [
        ("/added", ChangeKind::Added),
        ("/bin", ChangeKind::Modified),
        ("/bin/ls", ChangeKind::Deleted),
        ("/tmp", ChangeKind::Modified),
        ("/tmp/new", ChangeKind::Added),
        ("/tmp/old", ChangeKind::Deleted),
    ];
    assert_eq!(found, expect.map(|(path, kind)| (path.to_owned(), kind)));
}

fn make_tree_light(root: &Path) {
    fs::create_dir_all(root.join("bin")).unwrap();
    fs::write(root.join("bin/ls"), "x").unwrap();
}

#[test]
fn removal_follows_docker() {
    if !is_root() {
        return;
    }
    let test = store();
    let image = make_image(&test, "app:1");
    test.store.tag(&image.id, &ImageRef::parse("app:2").unwrap()).unwrap();
    let nobody = |_: &naru_types::Digest| Vec::new();
    let stopped = |_: &naru_types::Digest| vec![ImageUser { container: "c".repeat(64), is_running: false }];
    let options = RemoveOptions { force: false, keep_parents: false, users: &stopped };
    assert_eq!(test.store.remove("app:1", &options).unwrap(), [Removed::Untagged("app:1".into())]);
    let error = test.store.remove("app:2", &options).unwrap_err();
    assert_eq!(
        error.message(),
        format!(
            "conflict: unable to remove repository reference \"app:2\" (must force) - container cccccccccccc is using its referenced image {}",
            image.id.short()
        )
    );
    let error = test.store.remove(&image.id.short(), &options).unwrap_err();
    assert!(
        error.message().ends_with("(must be forced) - image is being used by stopped container cccccccccccc")
    );
    // By force: it is gone from the list, but the container can still find its layers.
    let forced = RemoveOptions { force: true, keep_parents: false, users: &stopped };
    assert_eq!(test.store.remove("app:2", &forced).unwrap().len(), 2);
    assert!(test.store.get("app:2").is_err() && test.store.list().unwrap().is_empty());
    let kept = test.store.get_by_id(&image.id).unwrap();
    assert!(test.store.layer_dirs(&kept).unwrap().iter().all(|dir| dir.is_dir()));
    assert!(test.store.collect(&|_| false).unwrap() > 0);
    test.assert_nothing_left();

    let image = make_image(&test, "app:3");
    let removed = test
        .store
        .remove(&image.id.to_string(), &RemoveOptions { force: false, keep_parents: false, users: &nobody })
        .unwrap();
    assert_eq!(removed[..2], [Removed::Untagged("app:3".into()), Removed::Deleted(image.id)]);
    assert_eq!(removed.len(), 4);
    test.assert_nothing_left();
    let error = test.store.get("app:3").unwrap_err();
    assert_eq!(error.message(), "No such image: app:3");
}

#[test]
fn a_restart_sweeps_what_a_crash_left() {
    if !is_root() {
        return;
    }
    let test = store();
    let image = make_image(&test, "app");
    let root = test.dir.path().join("store");
    assert!(naru_image::Store::open(&root, naru_image::StoreConfig::default()).is_err(), "opened twice");
    // A layer that no image came to use, a half-made one, and one that was never entered.
    let loose = test.dir.path().join("loose");
    fs::create_dir(&loose).unwrap();
    fs::write(loose.join("f"), "f").unwrap();
    let lease = test.store.lease();
    let layer = test.store.commit_layer(&loose, false, &lease).unwrap();
    drop(lease);
    fs::create_dir_all(root.join("staging/layer-99/fs/x")).unwrap();
    fs::create_dir_all(root.join("layers").join("0".repeat(64)).join("fs")).unwrap();
    let dir = test.dir;
    drop(test.store);
    let store = naru_image::Store::open(&root, naru_image::StoreConfig::default()).unwrap();
    store.wait_for_sweep();
    let found = store.get("app").unwrap();
    assert_eq!(found.id, image.id);
    assert!(store.layer_dir(&layer.diff_id).is_err());
    assert_eq!(fs::read_dir(root.join("layers")).unwrap().count(), 2);
    assert_eq!(fs::read_dir(root.join("staging")).unwrap().count(), 0);
    assert!(!root.join("staging.old").exists());
    let history = store.history(&found).unwrap();
    assert_eq!(history.len(), 3);
    assert_eq!((history[0].created_by.as_str(), history[0].size), ("upper", 100_000));
    assert_eq!((history[1].size, history[0].id), (0, Some(image.id)));
    drop(dir);
}

#[test]
fn old_docker_archives_link_equal_layers() {
    if !is_root() {
        return;
    }
    let layer = archive(&[file("f")]);
    let diff_id = naru_image::blob::sha256(&layer);
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{}},"rootfs":{{"type":"layers","diff_ids":["{diff_id}","{diff_id}"]}}}}"#
    );
    let manifest = br#"[{"Config":"c.json","RepoTags":["old:1"],"Layers":["a/layer.tar","b/layer.tar"]}]"#;
    let bytes = archive(&[
        (Entry::new("c.json", EntryKind::File), config.as_bytes()),
        (Entry::new("a/layer.tar", EntryKind::File), &layer),
        linked("b/layer.tar", EntryKind::Symlink, "../a/layer.tar"),
        (Entry::new("manifest.json", EntryKind::File), manifest),
    ]);
    let test = store();
    let loaded = test.store.load(&mut &bytes[..], &|_| {}).unwrap();
    assert_eq!(loaded[0].tags, ["old:1"]);
    assert_eq!(test.store.layer_dirs(&test.store.get("old:1").unwrap()).unwrap().len(), 2);
    // A layer that is not the one that the configuration names.
    let wrong = archive(&[
        (Entry::new("c.json", EntryKind::File), config.replace(&diff_id.hex(), &"0".repeat(64)).as_bytes()),
        (Entry::new("a/layer.tar", EntryKind::File), &layer),
        linked("b/layer.tar", EntryKind::Symlink, "/etc/passwd"),
        (Entry::new("manifest.json", EntryKind::File), manifest),
    ]);
    let test = store();
    let error = test.store.load(&mut &wrong[..], &|_| {}).unwrap_err();
    assert!(error.message().starts_with("invalid diffID for layer a/layer.tar"), "{error}");
    test.assert_nothing_left();
}

#[test]
fn import_makes_an_image_of_one_layer() {
    if !is_root() {
        return;
    }
    let test = store();
    let bytes = archive(&[directory("./"), file("./f")]);
    let options = naru_image::import::ImportOptions {
        config: naru_types::image::RunConfig { cmd: Some(vec!["sh".into()]), ..Default::default() },
        message: Some("Imported from -".into()),
        platform: None,
        tag: Some(ImageRef::parse("imported").unwrap()),
        now: naru_types::Timestamp(1_700_000_000_000_000_000),
    };
    let image = test.store.import(&mut &bytes[..], options).unwrap();
    assert_eq!(image.repo_tags, ["imported:latest"]);
    assert_eq!(image.created.secs(), 1_700_000_000);
    let history = test.store.history(&image).unwrap();
    assert_eq!((history.len(), history[0].comment.as_str()), (1, "Imported from -"));
    assert_eq!(test.store.get(&image.id.hex()[..8]).unwrap().id, image.id);
    assert_eq!(test.store.get(&format!("sha256:{}", image.id.short())).unwrap().id, image.id);
}

#[test]
fn leases_and_pins_keep_layers() {
    if !is_root() {
        return;
    }
    let test = store();
    let image = make_image(&test, "app");
    let [base, upper] = image.layers() else { panic!("two layers") };
    let lease = test.store.lease();
    lease.hold(base).unwrap();
    test.store.pin("cache", &[*upper]).unwrap();
    let nobody = |_: &naru_types::Digest| Vec::new();
    test.store.remove("app", &RemoveOptions { force: false, keep_parents: false, users: &nobody }).unwrap();
    assert!(test.store.layer_dir(base).is_ok() && test.store.layer_dir(upper).is_ok());
    drop(lease);
    test.store.collect(&|_| false).unwrap();
    assert!(test.store.layer_dir(base).is_err() && test.store.layer_dir(upper).is_ok());
    test.store.unpin("cache").unwrap();
    test.assert_nothing_left();
}

#[test]
fn an_image_that_a_container_is_being_made_of_stays_until_that_is_decided() {
    if !is_root() {
        return;
    }
    let test = store();
    let image = make_image(&test, "a:1");
    let lease = test.store.lease();
    lease.hold_image(&image).unwrap();
    let nobody = |_: &naru_types::Digest| Vec::new();
    let options = RemoveOptions { force: false, keep_parents: false, users: &nobody };
    test.store.remove("a:1", &options).unwrap();
    // Out of sight, but whole: the container that the lease is for can still start.
    assert!(test.store.get("a:1").is_err() && test.store.list().unwrap().is_empty());
    assert_eq!(test.store.get_by_id(&image.id).unwrap().layers(), image.layers());
    assert_eq!(test.store.collect(&|_| false).unwrap(), 0);
    drop(lease);
    assert_eq!(test.store.collect(&|id| *id == image.id).unwrap(), 0, "a container has it now");
    assert!(test.store.collect(&|_| false).unwrap() > 0);
    test.assert_nothing_left();
}

#[test]
fn the_kernel_reads_the_marks() {
    if !is_root() {
        return;
    }
    let test = store();
    let image = make_image(&test, "app");
    let dirs = test.store.layer_dirs(&image).unwrap();
    let at = test.dir.path().join("mount");
    fs::create_dir(&at).unwrap();
    let script = format!(
        "mount -t overlay overlay -o lowerdir={}:{} {at} && cd {at} && ls -A bin tmp && stat -c '%a %h' setuid bin/busybox",
        dirs[0].display(),
        dirs[1].display(),
        at = at.display(),
    );
    let output = Command::new("unshare").args(["-m", "sh", "-c", &script]).output().unwrap();
    if !output.status.success() {
        println!("SKIP: cannot mount overlay: {}", String::from_utf8_lossy(&output.stderr));
        return;
    }
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text, "bin:\nbusybox\ndangling\nsh\n\ntmp:\nnew\n4755 1\n755 2\n");
}
