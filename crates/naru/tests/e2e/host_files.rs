//! What an ordinary user of the host finds of the daemon: a socket that has a mode, and nothing else.

use crate::lab::Lab;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};

pub const TESTS: &[(&str, fn(&Lab))] = &[("host_users_find_nothing", private_files)];

/// Bits of a mode that are not the owner's.
const STRANGERS: u32 = 0o077;

/// CVE-2021-41091: below the data directory lie set-user-id programs of images, which nobody may reach, environments, and
/// locks that anybody who can open them could take. Guard: `ROOT_DIR_MODE`, and modes of 0600 in the run directory.
fn private_files(lab: &Lab) {
    let id = lab.ok(&["run", "-d", "-e", "SECRET=1", "-v", "kept:/data", "busybox", "sleep", "60"]);
    let mode = |path: &std::path::Path| std::fs::symlink_metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&lab.dir.join("root")) & STRANGERS, 0);
    assert_eq!(mode(&lab.dir.join("root/state.db")) & STRANGERS, 0);
    for entry in std::fs::read_dir(lab.dir.join("run")).unwrap() {
        let entry = entry.unwrap();
        // Whoever has the group of the API's socket may use it, as Docker's.
        let shared = if entry.file_type().unwrap().is_socket() { 0o060 } else { 0 };
        assert_eq!(mode(&entry.path()) & STRANGERS & !shared, 0, "{}", entry.path().display());
    }
    lab.ok(&["rm", "-f", &id]);
    lab.ok(&["volume", "rm", "kept"]);
}
