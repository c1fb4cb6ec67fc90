//! Bit for bit: an image of many layers with everything that archives can hold, mounted from naru's store,
//! is the same tree that umoci unpacks. The layers are written by GNU tar, so that neither side reads what
//! it wrote itself. `NARU_BIT_FOR_BIT=full` takes the sizes of the promise instead of small ones.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{is_root, make_tree, store};
use naru_image::Store;
use naru_image::blob::sha256;
use naru_image::load::LoadedImage;
use rustix::fs::{AtFlags, CWD, FileType, Mode, XattrFlags};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What Docker's overlay2 takes at most.
const LAYERS: usize = 127;

struct Sizes {
    files: usize,
    /// Of a file that is mostly a hole.
    sparse_bytes: u64,
    /// Of a file without holes, which makes its layer as large.
    dense_bytes: u64,
}

fn sizes() -> Sizes {
    if std::env::var_os("NARU_BIT_FOR_BIT").is_some_and(|value| value == "full") {
        return Sizes { files: 200_000, sparse_bytes: 5 << 30, dense_bytes: 5 << 30 };
    }
    Sizes { files: 2_000, sparse_bytes: 8 << 20, dense_bytes: 3 << 20 }
}

#[test]
fn a_mounted_image_is_what_umoci_unpacks() {
    if !is_root() {
        return;
    }
    if !Path::new("/usr/bin/umoci").exists() {
        println!("SKIP: umoci is not installed");
        return;
    }
    let test = store();
    let layout = test.dir.path().join("layout");
    write_layout(&layout, test.dir.path());
    let loaded = load_layout(&test.store, &layout).unwrap();
    let image = test.store.get_by_id(&loaded[0].id).unwrap();
    assert_eq!(image.layers().len(), LAYERS);
    let mount = overlay(&test.store.layer_dirs(&image).unwrap());
    let ours = tree(&PathBuf::from(format!("/proc/self/fd/{}", mount.as_raw_fd())));

    let bundle = test.dir.path().join("bundle");
    let source = format!("{}:a", layout.display());
    tool("umoci", &["unpack".as_ref(), "--image".as_ref(), source.as_ref(), bundle.as_os_str()]);
    let theirs = tree(&bundle.join("rootfs"));
    println!("{} entries, {} layers", ours.len(), LAYERS);
    let differing: Vec<String> = ours
        .keys()
        .chain(theirs.keys())
        .filter(|path| ours.get(*path) != theirs.get(*path))
        .map(|path| format!("{path:?}:\n  naru  {:?}\n  umoci {:?}", ours.get(path), theirs.get(path)))
        .take(20)
        .collect();
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

/// GNU tar writes the layout's archive, naru reads it at the same time: it never lies on the disk.
fn load_layout(store: &Store, layout: &Path) -> naru_types::Result<Vec<LoadedImage>> {
    let mut tar = Command::new("tar")
        .args(["-cf", "-", "."])
        .current_dir(layout)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let loaded = store.load(&mut tar.stdout.take().unwrap(), &|_| {});
    // Of an archive that is refused not all is read: tar may say so, and its end is all that is wanted.
    let status = tar.wait().unwrap();
    assert!(status.success() || loaded.is_err());
    loaded
}

/// A hard link whose target only a lower layer holds. umoci, which unpacks all layers into one tree, makes it;
/// dockerd 20.10 and 28.5, containerd 1.6 and 2.1 and podman, which keep each layer apart as naru does, refuse the
/// image (seen with this very layout). The OCI image-spec (layer.md, "Hardlinks") records no such link.
#[test]
fn a_hard_link_into_a_lower_layer_is_refused_by_name() {
    if !is_root() {
        return;
    }
    let test = store();
    let (layout, tree) = (test.dir.path().join("layout"), test.dir.path().join("tree"));
    fs::create_dir_all(layout.join("blobs/sha256")).unwrap();
    fs::create_dir_all(tree.join("d")).unwrap();
    fs::write(tree.join("d/below"), b"x").unwrap();
    fs::hard_link(tree.join("d/below"), tree.join("d/link")).unwrap();
    let mut layers = Layers::default();
    layers.add(&layout, &archive_of(&tree, test.dir.path(), &["d/below"]));
    // The second name of a file whose first one is left out of the archive again.
    let linked = archive_of(&tree, test.dir.path(), &["d/below", "d/link"]);
    tool("tar", &["--delete".as_ref(), "-f".as_ref(), linked.as_os_str(), "d/below".as_ref()]);
    layers.add(&layout, &linked);
    layers.finish(&layout);
    let refused = load_layout(&test.store, &layout).unwrap_err();
    let said = refused.chain();
    assert!(said.contains("\"d/link\"") && said.contains("\"d/below\""), "{said}");
    assert!(refused.hint().is_some_and(|hint| hint.contains("content")), "{refused:?}");
    test.assert_nothing_left();
}

/// Runs a program that has to succeed.
fn tool(program: &str, arguments: &[&OsStr]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
}

/// An OCI layout of [`LAYERS`] layers.
fn write_layout(layout: &Path, scratch: &Path) {
    fs::create_dir_all(layout.join("blobs/sha256")).unwrap();
    let tree = scratch.join("tree");
    let mut layers = Layers::default();
    for number in 0..LAYERS {
        fs::create_dir(&tree).unwrap();
        fill(&tree, number);
        let archive = archive_of(&tree, scratch, &["."]);
        fs::remove_dir_all(&tree).unwrap();
        layers.add(layout, &archive);
    }
    layers.finish(layout);
}

/// An archive of what `names` are in `tree`.
fn archive_of(tree: &Path, scratch: &Path, names: &[&str]) -> PathBuf {
    let path = scratch.join("layer.tar");
    let options =
        ["--format=pax", "--xattrs", "--xattrs-include=*", "--sparse", "--numeric-owner", "--sort=name"];
    let mut arguments: Vec<&OsStr> = options.iter().map(OsStr::new).collect();
    arguments.extend(["-C".as_ref(), tree.as_os_str(), "-cf".as_ref(), path.as_os_str()]);
    arguments.extend(names.iter().map(OsStr::new));
    tool("tar", &arguments);
    path
}

/// The layers of an image that is being written.
#[derive(Default)]
struct Layers {
    descriptors: Vec<Value>,
    diff_ids: Vec<String>,
}

impl Layers {
    /// Moves the archive into the layout.
    fn add(&mut self, layout: &Path, archive: &Path) {
        let (hex, size) = (content_digest(archive), fs::metadata(archive).unwrap().len());
        fs::rename(archive, layout.join("blobs/sha256").join(&hex)).unwrap();
        let digest = format!("sha256:{hex}");
        let media_type = "application/vnd.oci.image.layer.v1.tar";
        self.descriptors.push(json!({"mediaType": media_type, "digest": digest, "size": size}));
        self.diff_ids.push(digest);
    }

    fn finish(&self, layout: &Path) {
        let config = json!({
            "architecture": "amd64", "os": "linux", "config": {},
            "rootfs": {"type": "layers", "diff_ids": self.diff_ids},
        });
        let config = blob(layout, "application/vnd.oci.image.config.v1+json", &config);
        let manifest = "application/vnd.oci.image.manifest.v1+json";
        let image =
            json!({"schemaVersion": 2, "mediaType": manifest, "config": config, "layers": self.descriptors});
        let mut named = blob(layout, manifest, &image);
        named["annotations"] = json!({"org.opencontainers.image.ref.name": "a"});
        fs::write(layout.join("index.json"), json!({"schemaVersion": 2, "manifests": [named]}).to_string())
            .unwrap();
        fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    }
}

/// Stores a document; its descriptor.
fn blob(layout: &Path, media_type: &str, document: &Value) -> Value {
    let bytes = document.to_string().into_bytes();
    let digest = sha256(&bytes);
    fs::write(layout.join("blobs/sha256").join(digest.hex()), &bytes).unwrap();
    json!({"mediaType": media_type, "digest": digest.to_string(), "size": bytes.len()})
}

fn fill(root: &Path, number: usize) {
    match number {
        0 => {
            make_tree(root);
            base(root);
        }
        1 => changes(root),
        _ => {
            fs::create_dir(root.join("d")).unwrap();
            fs::write(root.join("d/each"), number.to_string()).unwrap();
            fs::write(root.join(format!("d/{number}")), vec![number as u8; number]).unwrap();
        }
    }
    // Times of directories depend on when their files were made: they are set last, and differ by layer.
    for name in [".", "d", "gone", "opaque"] {
        let path = root.join(name);
        if path.exists() {
            set_time(&path, 1_000_000_000 + number as i64, 500);
        }
    }
}

fn base(root: &Path) {
    let sizes = sizes();
    for dir in ["d", "gone", "opaque", "many"] {
        fs::create_dir(root.join(dir)).unwrap();
    }
    fs::write(root.join("gone/file"), b"x").unwrap();
    fs::write(root.join("opaque/below"), b"x").unwrap();
    fs::write(root.join("gone-file"), b"x").unwrap();
    fs::write(root.join("d").join(OsString::from_vec(b"not \xff\xfe UTF-8 \n".to_vec())), b"bytes").unwrap();
    fs::write(root.join("linked"), b"one inode").unwrap();
    for name in ["d/link1", "d/link2"] {
        fs::hard_link(root.join("linked"), root.join(name)).unwrap();
    }
    for number in 0..sizes.files {
        let dir = root.join(format!("many/{:03}", number / 1000));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(number.to_string()), number.to_le_bytes()).unwrap();
    }
    // Data, a hole, data, and a hole at the end; and one that is all data.
    let mut sparse = File::create(root.join("sparse")).unwrap();
    sparse.write_all(&[1; 5000]).unwrap();
    sparse.seek(SeekFrom::Start(sizes.sparse_bytes)).unwrap();
    sparse.write_all(b"end").unwrap();
    sparse.set_len(sizes.sparse_bytes + 100_000).unwrap();
    write_dense(&root.join("dense"), sizes.dense_bytes);
    set_time(&root.join("dense"), -86_400, 999_999_999);
    set_time(&root.join("many"), 1_700_000_000, 1);
    for (name, mode) in [("setgid", 0o2755), ("none", 0), ("block", 0o660)] {
        let path = root.join(name);
        if name == "block" {
            let device = rustix::fs::makedev(7, 300);
            rustix::fs::mknodat(CWD, &path, FileType::BlockDevice, Mode::from_raw_mode(mode), device)
                .unwrap();
        } else {
            fs::write(&path, b"").unwrap();
        }
        rustix::fs::chmod(&path, Mode::from_raw_mode(mode)).unwrap();
    }
}

/// Bytes that differ from block to block and hold no hole.
fn write_dense(path: &Path, bytes: u64) {
    let mut file = File::create(path).unwrap();
    let mut block = vec![9_u8; 1 << 20];
    for number in 0..bytes >> 20 {
        block[..8].copy_from_slice(&number.to_le_bytes());
        file.write_all(&block).unwrap();
    }
}

/// Whiteouts, an opaque directory, a file that becomes a directory, links that are made again, attributes that change.
fn changes(root: &Path) {
    for dir in ["d", "opaque", "gone-file"] {
        fs::create_dir(root.join(dir)).unwrap();
    }
    fs::write(root.join(".wh.gone"), b"").unwrap();
    fs::write(root.join("opaque/.wh..wh..opq"), b"").unwrap();
    fs::write(root.join("opaque/above"), b"y").unwrap();
    fs::write(root.join("gone-file/inside"), b"y").unwrap();
    fs::write(root.join("linked"), b"two inodes").unwrap();
    fs::hard_link(root.join("linked"), root.join("d/link1")).unwrap();
    fs::write(root.join("d/.wh.link2"), b"").unwrap();
    fs::write(root.join("none"), b"now with an attribute").unwrap();
    rustix::fs::setxattr(root.join("none"), "user.new", b"v", XattrFlags::empty()).unwrap();
    rustix::fs::chown(
        root.join("none"),
        Some(rustix::fs::Uid::from_raw(12)),
        Some(rustix::fs::Gid::from_raw(34)),
    )
    .unwrap();
}

fn set_time(path: &Path, tv_sec: i64, tv_nsec: i64) {
    let time = rustix::fs::Timespec { tv_sec, tv_nsec };
    let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::empty()).unwrap();
}

/// A mount that is attached nowhere, and gone with its descriptor.
fn overlay(lowest_last: &[PathBuf]) -> OwnedFd {
    let context = rustix::mount::fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).unwrap();
    for dir in lowest_last {
        rustix::mount::fsconfig_set_string(&context, "lowerdir+", dir).unwrap();
    }
    rustix::mount::fsconfig_create(&context).unwrap();
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY;
    rustix::mount::fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes).unwrap()
}

/// All that can be seen of each file, by path.
fn tree(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut inodes: BTreeMap<u64, PathBuf> = BTreeMap::new();
    let mut stack = vec![PathBuf::new()];
    while let Some(relative) = stack.pop() {
        // The empty path is the root; the dot makes that a directory to look at, not the link in /proc.
        let path = root.join(".").join(&relative);
        let meta = fs::symlink_metadata(&path).unwrap();
        let kind = meta.file_type();
        let mut shown = format!(
            "{:o} {}:{} {}.{:09}",
            meta.mode(),
            meta.uid(),
            meta.gid(),
            meta.mtime(),
            meta.mtime_nsec()
        );
        if kind.is_dir() {
            let mut names: Vec<_> =
                fs::read_dir(&path).unwrap().map(|item| item.unwrap().file_name()).collect();
            // Sorted downwards, so that the stack gives them upwards: the first of several links is the same one.
            names.sort_by(|a, b| b.cmp(a));
            stack.extend(names.iter().map(|name| relative.join(name)));
        } else if kind.is_symlink() {
            shown += &format!(" -> {:?}", fs::read_link(&path).unwrap());
        } else if kind.is_file() {
            let (digest, length) = (content_digest(&path), meta.len());
            shown += &format!(" {length} {digest}");
        } else if kind.is_char_device() || kind.is_block_device() {
            shown += &format!(" device {:x}", meta.rdev());
        }
        if !kind.is_dir() && meta.nlink() > 1 {
            let first = inodes.entry(meta.ino()).or_insert_with(|| relative.clone());
            shown += &format!(" {} links with {first:?}", meta.nlink());
        }
        if !kind.is_symlink() {
            shown += &attributes(&path);
        }
        found.insert(relative, shown);
    }
    found
}

fn content_digest(path: &Path) -> String {
    use sha2::Digest as _;
    let mut hasher = sha2::Sha256::new();
    let mut file = File::open(path).unwrap();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let got = file.read(&mut buffer).unwrap();
        if got == 0 {
            return format!("{:x}", hasher.finalize());
        }
        hasher.update(&buffer[..got]);
    }
}

fn attributes(path: &Path) -> String {
    let mut list = vec![0; 64 * 1024];
    let length = rustix::fs::llistxattr(path, &mut list[..]).unwrap();
    let mut names: Vec<&[u8]> =
        list[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()).collect();
    names.sort_unstable();
    let mut shown = String::new();
    for name in names {
        // overlayfs hides its own marks; what else a host adds to every file is none of an archive's.
        if name.starts_with(b"trusted.overlay.") || name == b"security.selinux" {
            continue;
        }
        let mut value = vec![0; 64 * 1024];
        let length = rustix::fs::lgetxattr(path, OsStr::from_bytes(name), &mut value[..]).unwrap();
        shown += &format!(" {}={:?}", String::from_utf8_lossy(name), &value[..length]);
    }
    shown
}
