//! The context that every case is built in.

use crate::case::Case;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

const TAR_BLOCK: usize = 512;

/// Files, a directory with one beneath it, links to both, an empty directory, an archive; and the case's own.
pub fn write(dir: &Path, case: &Case) {
    let file = |name: &str, content: &[u8]| {
        let path = dir.join(name);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    };
    for name in ["d/sub", "empty"] {
        std::fs::create_dir_all(dir.join(name)).unwrap();
    }
    for (name, mode) in [("d", 0o750), ("d/sub", 0o755), ("empty", 0o755)] {
        std::fs::set_permissions(dir.join(name), std::fs::Permissions::from_mode(mode)).unwrap();
    }
    file("a.txt", b"a");
    file("b.txt", b"b");
    file("d/one", b"1");
    file("d/sub/two", b"2");
    symlink("a.txt", dir.join("link")).unwrap();
    symlink("d", dir.join("l")).unwrap();
    file("t.tar", &archive());
    file("Dockerfile", &case.dockerfile);
    for (name, content) in &case.files {
        file(name, content.as_bytes());
    }
}

/// A directory, a file of another owner in it, and a link (pax(1), ustar).
fn archive() -> Vec<u8> {
    let mut out = Vec::new();
    for (name, kind, mode, content, link) in
        [("dir/", b'5', 0o711, "", ""), ("dir/f", b'0', 0o640, "packed", ""), ("dir/l", b'2', 0o777, "", "f")]
    {
        let mut block = [0u8; TAR_BLOCK];
        let mut put = |at: usize, text: &str| block[at..at + text.len()].copy_from_slice(text.as_bytes());
        put(0, name);
        put(100, &format!("{mode:07o}"));
        put(108, "0000003");
        put(116, "0000004");
        put(124, &format!("{:011o}", content.len()));
        put(136, "00000000000");
        put(148, "        ");
        put(157, link);
        put(257, "ustar\0");
        put(263, "00");
        block[156] = kind;
        let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        out.extend(block);
        if !content.is_empty() {
            let mut data = content.as_bytes().to_vec();
            data.resize(TAR_BLOCK, 0);
            out.extend(data);
        }
    }
    out.extend([0; 2 * TAR_BLOCK]);
    out
}
