//! Mount options of a spec (config.md, "Linux mount options"), told apart: attributes of the mount, propagation, flags of
//! the superblock, and data for the file system.
//!
//! | words | become |
//! |---|---|
//! | `ro`, `nosuid`, `noatime`, … and their opposites | attributes of the one mount |
//! | the same with `r` before it | attributes of the mount and all below it (mount_setattr(2), AT_RECURSIVE) |
//! | `private`, `rslave`, … | propagation, in their order: `slave` then `shared` is both |
//! | `sync`, `dirsync`, `mand`, `lazytime` and their opposites | flags of a new or remounted superblock; a bind has none of its own, and mount(8) leaves the source's alone, too |
//! | `bind`, `rbind`, `remount`, `tmpcopyup`, `idmap`, `ridmap` | what kind of mount it is |
//! | `iversion`, `silent` and their opposites | nothing: see [`INERT`] |
//! | anything else | the file system's own data |

use naru_kernel::mount::{self, Attrs, Propagation};

/// How far an idmap reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recursive {
    No,
    Yes,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MountOptions {
    pub bind: bool,
    /// `rbind`: sub-mounts come along.
    pub recursive_bind: bool,
    /// The mount that is there already is changed.
    pub remount: bool,
    /// A new tmpfs begins with what the directory below it holds.
    pub copy_up: bool,
    pub idmap: Option<Recursive>,
    pub set: Attrs,
    pub clear: Attrs,
    /// `rro` and its like: also for sub-mounts.
    pub set_recursive: Attrs,
    pub clear_recursive: Attrs,
    /// In the order of the words; true: recursively.
    pub propagation: Vec<(Propagation, bool)>,
    /// Flags of the superblock, as fsconfig(2) calls them; the last word of each kind.
    pub superblock: Vec<&'static str>,
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

/// One choice of three; the opposites lead back to the kernel's own, relatime (mount(8)).
const ATIME: [(&str, &str, Attrs); 3] = [
    ("noatime", "atime", mount::NOATIME),
    ("relatime", "norelatime", mount::RELATIME),
    ("strictatime", "nostrictatime", mount::STRICTATIME),
];

/// The kernel takes them for any file system (vfs_parse_sb_flag): on, off.
const SUPERBLOCK: [(&str, &str); 4] =
    [("sync", "async"), ("dirsync", ""), ("mand", "nomand"), ("lazytime", "nolazytime")];

const PROPAGATION: [(&str, Propagation); 4] = [
    ("private", Propagation::Private),
    ("shared", Propagation::Shared),
    ("slave", Propagation::Slave),
    ("unbindable", Propagation::Unbindable),
];

/// The kind of the mount.
const KINDS: [&str; 6] = ["bind", "rbind", "remount", "tmpcopyup", "idmap", "ridmap"];

/// Without effect: `iversion` because file systems with a change counter keep it always (ext4 since Linux 6.1; fsopen(2)
/// has no such flag), `silent` because what goes wrong is not printed but told to who made the mount, `newinstance`
/// because each devpts is one since Linux 4.7.
const INERT: [&str; 7] = ["defaults", "iversion", "loud", "newinstance", "noiversion", "silent", ""];

/// Every word that is not passed on to the file system, sorted: for `features`.
pub fn known() -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for (on, off, _) in FLAGS.iter().chain(&ATIME) {
        for word in [on, off] {
            words.extend([(*word).to_owned(), format!("r{word}")]);
        }
    }
    for (name, _) in PROPAGATION {
        words.extend([name.to_owned(), format!("r{name}")]);
    }
    let rest = SUPERBLOCK.iter().flat_map(|(on, off)| [on, off]).chain(&KINDS).chain(&INERT);
    words.extend(rest.filter(|word| !word.is_empty()).map(|word| (*word).to_owned()));
    words.sort_unstable();
    words
}

impl MountOptions {
    pub fn parse(options: &[String]) -> Self {
        let mut parsed = Self::default();
        for option in options {
            parsed.add(option);
        }
        parsed
    }

    fn add(&mut self, word: &str) {
        if INERT.contains(&word) || self.add_kind(word) || self.add_superblock(word) {
            return;
        }
        if let Some(propagation) = propagation(word) {
            return self.propagation.push(propagation);
        }
        if let Some(one) = attribute(word) {
            return one.apply(&mut self.set, &mut self.clear);
        }
        if let Some(all) = word.strip_prefix('r').and_then(attribute) {
            return all.apply(&mut self.set_recursive, &mut self.clear_recursive);
        }
        self.data.extend(split_data(word));
    }

    fn add_kind(&mut self, word: &str) -> bool {
        match word {
            "bind" => self.bind = true,
            "rbind" => (self.bind, self.recursive_bind) = (true, true),
            "remount" => self.remount = true,
            "tmpcopyup" => self.copy_up = true,
            "idmap" => self.idmap = Some(Recursive::No),
            "ridmap" => self.idmap = Some(Recursive::Yes),
            _ => return false,
        }
        true
    }

    fn add_superblock(&mut self, word: &str) -> bool {
        let Some((on, off)) = SUPERBLOCK.into_iter().find(|(on, off)| word == *on || word == *off) else {
            return false;
        };
        self.superblock.retain(|have| *have != on && *have != off);
        self.superblock.push(if word == on { on } else { off });
        true
    }
}

/// What one word does to attributes.
#[derive(Clone, Copy)]
enum Attribute {
    Set(Attrs),
    Clear(Attrs),
    Atime(Attrs),
}

impl Attribute {
    fn apply(self, set: &mut Attrs, clear: &mut Attrs) {
        match self {
            Self::Set(attr) => {
                *set |= attr;
                *clear &= !attr;
            }
            Self::Clear(attr) => {
                *clear |= attr;
                *set &= !attr;
            }
            // mount_setattr(2): the whole field is cleared where one of its values is set.
            Self::Atime(value) => {
                *set = *set & !mount::ATIME_MASK | value;
                *clear |= mount::ATIME_MASK;
            }
        }
    }
}

fn attribute(word: &str) -> Option<Attribute> {
    let flag = FLAGS.into_iter().find_map(|(on, off, attr)| match word {
        _ if word == on => Some(Attribute::Set(attr)),
        _ if word == off => Some(Attribute::Clear(attr)),
        _ => None,
    });
    let atime = ATIME.into_iter().find_map(|(on, off, value)| match word {
        _ if word == on => Some(Attribute::Atime(value)),
        _ if word == off => Some(Attribute::Atime(mount::RELATIME)),
        _ => None,
    });
    flag.or(atime)
}

/// `rslave` is (Slave, recursive), and so on.
pub(crate) fn propagation(text: &str) -> Option<(Propagation, bool)> {
    let find = |word: &str| PROPAGATION.into_iter().find(|(name, _)| *name == word).map(|(_, value)| value);
    match find(text) {
        Some(value) => Some((value, false)),
        None => find(text.strip_prefix('r')?).map(|value| (value, true)),
    }
}

/// A word may hold several options, as mount(2) takes them: a comma divides, unless it is quoted (SELinux contexts have
/// commas) or escaped (overlayfs). Quotes are not part of the value.
fn split_data(text: &str) -> Vec<String> {
    let (mut parts, mut part, mut quoted, mut escaped) = (Vec::new(), String::new(), false, false);
    for letter in text.chars() {
        match letter {
            '"' if !escaped => quoted = !quoted,
            ',' if !quoted && !escaped => parts.push(std::mem::take(&mut part)),
            _ => part.push(letter),
        }
        escaped = letter == '\\' && !escaped;
    }
    parts.push(part);
    parts.retain(|part| !part.is_empty());
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> MountOptions {
        MountOptions::parse(&words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn options_are_told_apart() {
        let parsed =
            parse(&["nosuid", "strictatime", "mode=755", "size=65536k", "rprivate", "rbind", "rro", "ro"]);
        assert_eq!(parsed.set, mount::NOSUID | mount::STRICTATIME | mount::RDONLY);
        assert_eq!(parsed.set_recursive, mount::RDONLY);
        assert_eq!(parsed.propagation, [(Propagation::Private, true)]);
        assert_eq!(parsed.data, ["mode=755", "size=65536k"]);
        assert!(parsed.bind && parsed.recursive_bind);
    }

    #[test]
    fn the_last_word_wins() {
        let parsed = parse(&["ro", "rw", "sync", "async", "rnoatime", "rstrictatime"]);
        assert_eq!((parsed.set, parsed.clear), (0, mount::RDONLY));
        assert_eq!(parsed.superblock, ["async"]);
        assert_eq!((parsed.set_recursive, parsed.clear_recursive), (mount::STRICTATIME, mount::ATIME_MASK));
        assert_eq!(parse(&["rro", "rrw"]).clear_recursive, mount::RDONLY);
    }

    /// The table of config.md, 1.3.
    #[test]
    fn no_option_of_the_specification_is_data() {
        let all = "async atime bind defaults dev diratime dirsync exec iversion lazytime loud mand noatime nodev \
                   nodiratime noexec noiversion nolazytime nomand norelatime nostrictatime nosuid nosymfollow private \
                   ratime rbind rdev rdiratime relatime remount rexec rnoatime rnodiratime rnoexec rnorelatime \
                   rnostrictatime rnosuid rnosymfollow ro rprivate rrelatime rro rrw rshared rslave rstrictatime rsuid \
                   rsymfollow runbindable rw shared silent slave strictatime suid symfollow sync tmpcopyup unbindable \
                   idmap ridmap";
        let known = known();
        for word in all.split_whitespace() {
            assert_eq!(parse(&[word]).data, Vec::<String>::new(), "{word}");
            assert!(known.iter().any(|have| have == word), "{word}");
        }
        for word in &known {
            assert!(parse(&[word]).data.is_empty(), "{word}");
        }
        assert_eq!(parse(&["rbindd"]).data, ["rbindd"]);
    }

    #[test]
    fn what_each_word_becomes() {
        let is = |word: &str, expect: MountOptions| assert_eq!(parse(&[word]), expect, "{word}");
        let none = MountOptions::default;
        is("idmap", MountOptions { idmap: Some(Recursive::No), ..none() });
        is("ridmap", MountOptions { idmap: Some(Recursive::Yes), ..none() });
        is("remount", MountOptions { remount: true, ..none() });
        is("tmpcopyup", MountOptions { copy_up: true, ..none() });
        is("lazytime", MountOptions { superblock: vec!["lazytime"], ..none() });
        is("dirsync", MountOptions { superblock: vec!["dirsync"], ..none() });
        is("nodev", MountOptions { set: mount::NODEV, ..none() });
        is("dev", MountOptions { clear: mount::NODEV, ..none() });
        is("rdev", MountOptions { clear_recursive: mount::NODEV, ..none() });
        is("rnosymfollow", MountOptions { set_recursive: mount::NOSYMFOLLOW, ..none() });
        is("noatime", MountOptions { set: mount::NOATIME, clear: mount::ATIME_MASK, ..none() });
        for word in ["atime", "relatime", "norelatime", "nostrictatime"] {
            is(word, MountOptions { clear: mount::ATIME_MASK, ..none() });
        }
        is("silent", none());
        let both = parse(&["slave", "rshared"]).propagation;
        assert_eq!(both, [(Propagation::Slave, false), (Propagation::Shared, true)]);
    }

    #[test]
    fn data_is_divided() {
        assert_eq!(parse(&["size=1k,mode=755", "foo"]).data, ["size=1k", "mode=755", "foo"]);
        assert_eq!(parse(&["context=\"a:b:c1,c2\",x"]).data, ["context=a:b:c1,c2", "x"]);
        assert_eq!(parse(&["lowerdir=/a\\,b"]).data, ["lowerdir=/a\\,b"]);
    }
}
