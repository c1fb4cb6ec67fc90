//! The guest's root file system: Debian with systemd and its own kernel, made once and kept in the user's cache.
//!
//! The kernel is the cloud flavour: everything a container needs and virtio, without drivers for hardware. The root
//! becomes an ext4 image by `mke2fs -d`, so that nothing is mounted on the host.

use crate::images;
use crate::process::{Result, is_root, run};
use std::fs::{copy, create_dir_all, remove_dir_all, remove_file, rename};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Newer than the host's: its kernel has what the runtime uses when it is there (6.12: `lowerdir+`, idmapped overlay).
const SUITE: &str = "trixie";

const PACKAGES: [&str; 18] = [
    "linux-image-cloud-amd64",
    "zstd",
    "systemd",
    "systemd-sysv",
    "udev",
    "dbus",
    "dbus-user-session",
    "libpam-systemd",
    "apparmor",
    "iproute2",
    "nftables",
    "crun",
    "runc",
    "criu",
    "busybox-static",
    "uidmap",
    "kmod",
    "procps",
];

/// Bytes; the image is sparse.
const IMAGE_SIZE: &str = "3G";

/// Only what finds the root: unpacking a general initrd takes longer than all the rest of an emulated boot.
const BEFORE_PACKAGES: &str = r#"
mkdir -p "$1/etc/initramfs-tools/conf.d"
printf 'MODULES=list\nCOMPRESS=zstd\nCOMPRESSLEVEL=3\nRESUME=none\n' > "$1/etc/initramfs-tools/conf.d/naru"
printf 'virtio_pci\nvirtio_blk\next4\n' > "$1/etc/initramfs-tools/modules"
"#;

/// The unit that runs the tests, and `student`: an unprivileged user with a range of subordinate ids and a user
/// manager that runs without a log-in, so that a part of the cgroup tree is theirs.
const AFTER_PACKAGES: &str = r#"
cat > "$1/etc/systemd/system/naru-guest.service" <<'UNIT'
[Unit]
Description=What cargo xtask guest asked for
After=basic.target systemd-user-sessions.service user@1000.service apparmor.service
Wants=user@1000.service
FailureAction=poweroff
SuccessAction=poweroff

[Service]
Type=oneshot
ExecStart=/bin/sh -c 'mkdir -p /payload && mount /dev/vdb /payload && exec /bin/sh /payload/run.sh'
StandardOutput=tty
StandardError=inherit
TTYPath=/dev/ttyS1
TimeoutStartSec=infinity
Delegate=yes
TasksMax=infinity
KeyringMode=private

[Install]
WantedBy=multi-user.target
UNIT
ln -s ../naru-guest.service "$1/etc/systemd/system/multi-user.target.wants/naru-guest.service"
for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer \
    systemd-timesyncd.service systemd-networkd.service serial-getty@ttyS0.service getty@tty1.service; do
    ln -sf /dev/null "$1/etc/systemd/system/$unit"
done
chroot "$1" useradd --create-home --shell /bin/bash --uid 1000 student
printf 'student:100000:65536\n' | tee "$1/etc/subuid" > "$1/etc/subgid"
mkdir -p "$1/var/lib/systemd/linger" && touch "$1/var/lib/systemd/linger/student"
echo guest > "$1/etc/hostname"
printf '127.0.0.1 localhost guest\n' > "$1/etc/hosts"
"#;

/// What a virtual machine is started from.
pub struct Root {
    pub image: PathBuf,
    pub kernel: PathBuf,
    pub initrd: PathBuf,
}

/// Makes the root if this recipe's isn't there.
pub fn ensure() -> Result<Root> {
    let mut hasher = DefaultHasher::new();
    (SUITE, PACKAGES, IMAGE_SIZE, BEFORE_PACKAGES, AFTER_PACKAGES).hash(&mut hasher);
    let dir = images::cache("naru-guest")?.join(format!("{:016x}", hasher.finish()));
    let root = Root { image: dir.join("root.img"), kernel: dir.join("vmlinuz"), initrd: dir.join("initrd") };
    if dir.exists() {
        return Ok(root);
    }
    if !is_root() {
        return Err("making the guest's root file system needs root".into());
    }
    println!("making the guest's root file system from Debian {SUITE} packages");
    let fresh = dir.with_extension(format!("part-{}", std::process::id()));
    let made = make(&fresh).and_then(|()| Ok(rename(&fresh, &dir)?));
    if made.is_err() {
        let _ = remove_dir_all(&fresh);
    }
    made.map(|()| root)
}

fn make(fresh: &Path) -> Result<()> {
    create_dir_all(fresh)?;
    let tree = fresh.join("tree");
    let options = [
        "--format=directory".to_owned(),
        format!("--include={}", PACKAGES.join(",")),
        format!("--setup-hook={BEFORE_PACKAGES}"),
        format!("--customize-hook={AFTER_PACKAGES}"),
        "--dpkgopt=force-confold".to_owned(),
    ];
    // The log lies beside the tree, which goes when it fails: keep what went wrong.
    images::mmdebstrap(SUITE, &tree, &options).map_err(|error| {
        let log = std::fs::read_to_string(tree.with_extension("log")).unwrap_or_default();
        let tail: Vec<&str> = log.lines().rev().take(20).collect();
        format!("{error}\n{}", tail.into_iter().rev().collect::<Vec<_>>().join("\n"))
    })?;
    for (prefix, name) in [("vmlinuz-", "vmlinuz"), ("initrd.img-", "initrd")] {
        copy(starting_with(&tree.join("boot"), prefix)?, fresh.join(name))?;
    }
    make_ext4(&tree, &fresh.join("root.img"), IMAGE_SIZE)?;
    remove_dir_all(&tree)?;
    Ok(remove_file(tree.with_extension("log"))?)
}

fn starting_with(dir: &Path, prefix: &str) -> Result<PathBuf> {
    let names = std::fs::read_dir(dir)?.filter_map(|entry| Some(entry.ok()?.path()));
    let mut found =
        names.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix)));
    found.next().ok_or_else(|| format!("{}: no {prefix}*", dir.display()).into())
}

/// An ext4 file system of `size` with what is in `tree`. Without a journal: it lives for one run.
pub fn make_ext4(tree: &Path, image: &Path, size: &str) -> Result<()> {
    run(Command::new("mke2fs")
        .args(["-q", "-t", "ext4", "-m", "0", "-O", "^has_journal", "-E", "root_owner=0:0", "-d"])
        .arg(tree)
        .arg(image)
        .arg(size)
        .stdout(std::process::Stdio::null()))
}
