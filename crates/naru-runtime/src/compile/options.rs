//! Mount options of a spec (config.md, "mounts"), told apart: attributes, propagation, and data for the file system.

use naru_kernel::mount::{self, Attrs, Propagation};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MountOptions {
    pub bind: bool,
    /// `rbind`: sub-mounts come along.
    pub recursive_bind: bool,
    pub set: Attrs,
    pub clear: Attrs,
    /// `rro` and its like: also for sub-mounts.
    pub set_recursive: Attrs,
    pub propagation: Option<(Propagation, bool)>,
    /// What the file system itself reads.
    pub data: Vec<String>,
}

const FLAGS: [(&str, &str, Attrs); 6] = [
    ("ro", "rw", mount::RDONLY),
    ("nosuid", "suid", mount::NOSUID),
    ("nodev", "dev", mount::NODEV),
    ("noexec", "exec", mount::NOEXEC),
    ("nodiratime", "diratime", mount::NODIRATIME),
    ("nosymfollow", "symfollow", mount::NOSYMFOLLOW),
];

/// Accepted and without effect here: defaults of the kernel, or of a new mount instance.
const INERT: [&str; 8] =
    ["defaults", "async", "loud", "norelatime", "nostrictatime", "newinstance", "nomand", ""];

impl MountOptions {
    pub fn parse(options: &[String]) -> Self {
        let mut parsed = Self::default();
        for option in options {
            parsed.add(option);
        }
        parsed
    }

    fn add(&mut self, option: &str) {
        if INERT.contains(&option) {
            return;
        }
        for (on, off, attr) in FLAGS {
            if option == on {
                self.set |= attr;
                self.clear &= !attr;
                return;
            }
            if option == off {
                self.clear |= attr;
                self.set &= !attr;
                return;
            }
            if option.strip_prefix('r') == Some(on) {
                self.set_recursive |= attr;
                return;
            }
        }
        match option {
            "bind" => self.bind = true,
            "rbind" => (self.bind, self.recursive_bind) = (true, true),
            "relatime" => self.set_atime(mount::RELATIME),
            "noatime" => self.set_atime(mount::NOATIME),
            "strictatime" | "atime" => self.set_atime(mount::STRICTATIME),
            _ => match propagation(option) {
                Some(propagation) => self.propagation = Some(propagation),
                None => self.data.push(option.to_owned()),
            },
        }
    }

    fn set_atime(&mut self, value: Attrs) {
        self.set = (self.set & !mount::ATIME_MASK) | value;
        self.clear |= mount::ATIME_MASK;
    }
}

/// `rslave` is (Slave, recursive), and so on.
pub(crate) fn propagation(text: &str) -> Option<(Propagation, bool)> {
    let (name, recursive) = match text {
        "private" | "shared" | "slave" | "unbindable" => (text, false),
        _ => (text.strip_prefix('r')?, true),
    };
    let propagation = match name {
        "private" => Propagation::Private,
        "shared" => Propagation::Shared,
        "slave" => Propagation::Slave,
        "unbindable" => Propagation::Unbindable,
        _ => return None,
    };
    Some((propagation, recursive))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_told_apart() {
        let words = ["nosuid", "strictatime", "mode=755", "size=65536k", "rprivate", "rbind", "rro", "ro"];
        let parsed = MountOptions::parse(&words.map(str::to_owned));
        assert_eq!(parsed.set, mount::NOSUID | mount::STRICTATIME | mount::RDONLY);
        assert_eq!(parsed.set_recursive, mount::RDONLY);
        assert_eq!(parsed.propagation, Some((Propagation::Private, true)));
        assert_eq!(parsed.data, ["mode=755", "size=65536k"]);
        assert!(parsed.bind && parsed.recursive_bind);
    }

    #[test]
    fn the_last_word_wins() {
        let parsed = MountOptions::parse(&["ro", "rw"].map(str::to_owned));
        assert_eq!((parsed.set, parsed.clear), (0, mount::RDONLY));
    }
}
