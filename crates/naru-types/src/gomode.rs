//! Go's `fs.FileMode`, which Docker's API and BuildKit's transfers carry: permissions as in `st_mode` (inode(7)), but bits of
//! its own for the type and for set-id and sticky (pkg.go.dev/io/fs, "FileMode").

pub const DIR: u32 = 1 << 31;
pub const SYMLINK: u32 = 1 << 27;
pub const DEVICE: u32 = 1 << 26;
pub const NAMED_PIPE: u32 = 1 << 25;
pub const SOCKET: u32 = 1 << 24;
pub const SETUID: u32 = 1 << 23;
pub const SETGID: u32 = 1 << 22;
pub const CHAR_DEVICE: u32 = 1 << 21;
pub const STICKY: u32 = 1 << 20;
pub const IRREGULAR: u32 = 1 << 19;
/// All bits of the type; none of them: a regular file.
pub const TYPE: u32 = DIR | SYMLINK | DEVICE | NAMED_PIPE | SOCKET | CHAR_DEVICE | IRREGULAR;

/// Bits of `st_mode` beside those that are the same, and Go's.
const SPECIAL: [(u32, u32); 3] = [(0o4000, SETUID), (0o2000, SETGID), (0o1000, STICKY)];

/// Go's mode of an `st_mode`.
pub fn of(mode: u32) -> u32 {
    let kind = match mode & 0o170_000 {
        0o040_000 => DIR,
        0o120_000 => SYMLINK,
        0o060_000 => DEVICE,
        0o020_000 => DEVICE | CHAR_DEVICE,
        0o010_000 => NAMED_PIPE,
        0o140_000 => SOCKET,
        _ => 0,
    };
    SPECIAL.iter().filter(|(unix, _)| mode & unix != 0).fold(mode & 0o777 | kind, |go, (_, bit)| go | bit)
}

/// The permissions, set-id and sticky bits of a Go mode as chmod(2) takes them.
pub fn permissions(go: u32) -> u32 {
    SPECIAL.iter().filter(|(_, bit)| go & bit != 0).fold(go & 0o777, |mode, (unix, _)| mode | unix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways() {
        for (unix, go) in [
            (0o100_644, 0o644),
            (0o040_755, DIR | 0o755),
            (0o120_777, SYMLINK | 0o777),
            (0o041_777, DIR | STICKY | 0o777),
            (0o020_620, DEVICE | CHAR_DEVICE | 0o620),
            (0o104_755, SETUID | 0o755),
            (0o102_711, SETGID | 0o711),
        ] {
            assert_eq!(of(unix), go, "{unix:o}");
            assert_eq!(permissions(go), unix & 0o7777, "{unix:o}");
        }
    }
}
