//! Capability names (capabilities(7)) and bit sets of them.

use naru_kernel::caps::CapBits;

/// In the kernel's order: index is number.
pub const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// The number of `NET_ADMIN` or `CAP_NET_ADMIN`, any case.
pub fn number(name: &str) -> Option<u32> {
    let has_prefix = name.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("CAP_"));
    let bare = if has_prefix { &name[4..] } else { name };
    NAMES.iter().position(|known| known.eq_ignore_ascii_case(bare)).map(|index| index as u32)
}

/// The bits of `names`; names this program does not know are left out, as runc does with a newer spec.
pub fn bits(names: &[String]) -> CapBits {
    names.iter().filter_map(|name| number(name)).fold(0, |set, number| set | 1 << number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        assert_eq!(number("cap_sys_admin"), Some(21));
        assert_eq!(number("CHECKPOINT_RESTORE"), Some(40));
        assert_eq!(number("NOPE"), None);
        assert_eq!(bits(&["CAP_CHOWN".into(), "KILL".into()]), 0b10_0001);
    }
}
