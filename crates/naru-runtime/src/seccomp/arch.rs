//! Architectures and their system call tables.

use super::SeccompError;
use std::collections::HashMap;

/// Bit that marks x32 calls in the number (asm/unistd.h, __X32_SYSCALL_BIT).
pub const X32_BIT: u32 = 0x4000_0000;

/// An architecture whose calls one kernel of the x86 or Arm family can take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Arch {
    X86_64,
    X32,
    I386,
    Aarch64,
    Arm,
}

impl Arch {
    /// `SCMP_ARCH_X86_64` and so on. `None`: known to the runtime spec, but for another family of machines.
    pub(super) fn parse(name: &str) -> Result<Option<Self>, SeccompError> {
        const FOREIGN: [&str; 14] = [
            "MIPS",
            "MIPS64",
            "MIPS64N32",
            "MIPSEL",
            "MIPSEL64",
            "MIPSEL64N32",
            "PPC",
            "PPC64",
            "PPC64LE",
            "S390",
            "S390X",
            "PARISC",
            "RISCV64",
            "LOONGARCH64",
        ];
        match name.strip_prefix("SCMP_ARCH_").unwrap_or(name) {
            "X86_64" => Ok(Some(Self::X86_64)),
            "X32" => Ok(Some(Self::X32)),
            "X86" => Ok(Some(Self::I386)),
            "AARCH64" => Ok(Some(Self::Aarch64)),
            "ARM" => Ok(Some(Self::Arm)),
            "NATIVE" => Ok(Some(Self::native())),
            other if FOREIGN.contains(&other) => Ok(None),
            _ => Err(SeccompError::Architecture(name.to_owned())),
        }
    }

    pub fn native() -> Self {
        if cfg!(target_arch = "aarch64") { Self::Aarch64 } else { Self::X86_64 }
    }

    /// AUDIT_ARCH_* of linux/audit.h, what seccomp_data.arch holds.
    pub fn audit(self) -> u32 {
        match self {
            Self::X86_64 | Self::X32 => 0xc000_003e,
            Self::I386 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
            Self::Arm => 0x4000_0028,
        }
    }

    /// Added to every number of the table.
    pub fn number_base(self) -> u32 {
        if self == Self::X32 { X32_BIT } else { 0 }
    }

    /// Names and numbers (without [`Arch::number_base`]).
    pub fn table(self) -> HashMap<&'static str, u32> {
        let text = match self {
            Self::X86_64 => include_str!("tables/x86_64.txt"),
            Self::X32 => include_str!("tables/x32.txt"),
            Self::I386 => include_str!("tables/i386.txt"),
            Self::Aarch64 => include_str!("tables/aarch64.txt"),
            Self::Arm => include_str!("tables/arm.txt"),
        };
        let words = text.lines().filter(|line| !line.starts_with('#')).flat_map(str::split_whitespace);
        words
            .filter_map(|word| word.split_once('='))
            .filter_map(|(name, n)| Some((name, n.parse().ok()?)))
            .collect()
    }
}

/// Calls that i386 also has as an operation of socketcall(2) or ipc(2): name, multiplexer, operation (linux/net.h,
/// linux/ipc.h).
pub(super) const I386_MULTIPLEXED: [(&str, &str, u64); 31] = [
    ("socket", "socketcall", 1),
    ("bind", "socketcall", 2),
    ("connect", "socketcall", 3),
    ("listen", "socketcall", 4),
    ("accept", "socketcall", 5),
    ("getsockname", "socketcall", 6),
    ("getpeername", "socketcall", 7),
    ("socketpair", "socketcall", 8),
    ("send", "socketcall", 9),
    ("recv", "socketcall", 10),
    ("sendto", "socketcall", 11),
    ("recvfrom", "socketcall", 12),
    ("shutdown", "socketcall", 13),
    ("setsockopt", "socketcall", 14),
    ("getsockopt", "socketcall", 15),
    ("sendmsg", "socketcall", 16),
    ("recvmsg", "socketcall", 17),
    ("accept4", "socketcall", 18),
    ("recvmmsg", "socketcall", 19),
    ("sendmmsg", "socketcall", 20),
    ("semop", "ipc", 1),
    ("semget", "ipc", 2),
    ("semctl", "ipc", 3),
    ("semtimedop", "ipc", 4),
    ("msgsnd", "ipc", 11),
    ("msgrcv", "ipc", 12),
    ("msgget", "ipc", 13),
    ("msgctl", "ipc", 14),
    ("shmat", "ipc", 21),
    ("shmdt", "ipc", 22),
    ("shmget", "ipc", 23),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables() {
        for (arch, name, number) in [
            (Arch::X86_64, "read", 0),
            (Arch::X86_64, "clone3", 435),
            (Arch::X32, "execve", 520),
            (Arch::I386, "socketcall", 102),
            (Arch::Aarch64, "openat", 56),
            (Arch::Arm, "openat", 322),
        ] {
            assert_eq!(arch.table().get(name), Some(&number), "{arch:?} {name}");
        }
        assert!(Arch::parse("SCMP_ARCH_S390X").unwrap().is_none());
        assert!(Arch::parse("SCMP_ARCH_Z80").is_err());
    }
}
