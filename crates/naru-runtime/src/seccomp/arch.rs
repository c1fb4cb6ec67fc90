//! The architectures of the runtime spec: how the kernel names them to a filter, how wide and in which order their
//! arguments lie, and what they add to the numbers of the table.

use super::SeccompError;
use super::table::Row;

/// Bit that marks x32 calls in the number (asm/unistd.h, __X32_SYSCALL_BIT).
pub const X32_BIT: u32 = 0x4000_0000;

/// One architecture (runtime-spec, config-linux.md, "Seccomp": `architectures`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arch {
    X86_64,
    X32,
    X86,
    Aarch64,
    Arm,
    Mips,
    Mips64,
    Mips64N32,
    Mipsel,
    Mipsel64,
    Mipsel64N32,
    Ppc,
    Ppc64,
    Ppc64Le,
    S390,
    S390X,
    Parisc,
    Parisc64,
    Riscv64,
    Loongarch64,
    M68k,
    Sh,
    Sheb,
}

/// What sets an architecture apart.
pub(super) struct Machine {
    pub arch: Arch,
    /// In a profile, behind `SCMP_ARCH_`.
    word: &'static str,
    /// AUDIT_ARCH_* of linux/audit.h, what seccomp_data.arch holds.
    pub audit: u32,
    /// Added to every number of the table.
    base: u32,
    /// Arguments are compared in 64 bits. Otherwise the upper half is none of a caller's registers and is not looked at.
    pub wide: bool,
    pub big_endian: bool,
    /// Has socketcall(2) and ipc(2) beside or instead of the calls that they bundle.
    multiplexes: bool,
    column: usize,
}

const BASE_O32: u32 = 4000;
const BASE_N64: u32 = 5000;
const BASE_N32: u32 = 6000;
const SOCKETCALL: u32 = 102;
const IPC: u32 = 117;

const fn machine(arch: Arch, word: &'static str, audit: u32, column: usize) -> Machine {
    // __AUDIT_ARCH_64BIT and __AUDIT_ARCH_LE.
    let (wide, big_endian) = (audit & 0x8000_0000 != 0, audit & 0x4000_0000 == 0);
    Machine { arch, word, audit, base: 0, wide, big_endian, multiplexes: false, column }
}

const fn multiplexing(arch: Arch, word: &'static str, audit: u32, column: usize) -> Machine {
    Machine { multiplexes: true, ..machine(arch, word, audit, column) }
}

const fn narrow(base: u32, machine: Machine) -> Machine {
    Machine { base, wide: false, ..machine }
}

/// In the order of [`Arch`].
#[rustfmt::skip]
static MACHINES: [Machine; 23] = [
    machine(Arch::X86_64, "X86_64", 0xc000_003e, 2),
    // For the kernel x32 is x86_64, but its pointers and most arguments have 32 bits.
    narrow(X32_BIT, machine(Arch::X32, "X32", 0xc000_003e, 3)),
    multiplexing(Arch::X86, "X86", 0x4000_0003, 1),
    machine(Arch::Aarch64, "AARCH64", 0xc000_00b7, 5),
    machine(Arch::Arm, "ARM", 0x4000_0028, 4),
    narrow(BASE_O32, multiplexing(Arch::Mips, "MIPS", 0x0000_0008, 8)),
    Machine { base: BASE_N64, ..machine(Arch::Mips64, "MIPS64", 0x8000_0008, 9) },
    narrow(BASE_N32, machine(Arch::Mips64N32, "MIPS64N32", 0xa000_0008, 10)),
    narrow(BASE_O32, multiplexing(Arch::Mipsel, "MIPSEL", 0x4000_0008, 8)),
    Machine { base: BASE_N64, ..machine(Arch::Mipsel64, "MIPSEL64", 0xc000_0008, 9) },
    narrow(BASE_N32, machine(Arch::Mipsel64N32, "MIPSEL64N32", 0xe000_0008, 10)),
    multiplexing(Arch::Ppc, "PPC", 0x0000_0014, 13),
    multiplexing(Arch::Ppc64, "PPC64", 0x8000_0015, 14),
    multiplexing(Arch::Ppc64Le, "PPC64LE", 0xc000_0015, 14),
    multiplexing(Arch::S390, "S390", 0x0000_0016, 16),
    multiplexing(Arch::S390X, "S390X", 0x8000_0016, 17),
    machine(Arch::Parisc, "PARISC", 0x0000_000f, 11),
    machine(Arch::Parisc64, "PARISC64", 0x8000_000f, 12),
    machine(Arch::Riscv64, "RISCV64", 0xc000_00f3, 15),
    machine(Arch::Loongarch64, "LOONGARCH64", 0xc000_0102, 6),
    multiplexing(Arch::M68k, "M68K", 0x0000_0004, 7),
    multiplexing(Arch::Sh, "SH", 0x4000_002a, 18),
    multiplexing(Arch::Sheb, "SHEB", 0x0000_002a, 18),
];

impl Arch {
    /// `SCMP_ARCH_X86_64` and so on.
    pub(super) fn parse(name: &str) -> Result<Self, SeccompError> {
        let word = name.strip_prefix("SCMP_ARCH_");
        if word == Some("NATIVE") {
            return Ok(Self::native());
        }
        let found = MACHINES.iter().find(|machine| Some(machine.word) == word);
        found.map(|machine| machine.arch).ok_or_else(|| SeccompError::Architecture(name.to_owned()))
    }

    /// What this program runs on.
    pub fn native() -> Self {
        if cfg!(target_arch = "aarch64") { Self::Aarch64 } else { Self::X86_64 }
    }

    /// The names that a profile can use, for `features`.
    pub fn names() -> impl Iterator<Item = String> {
        MACHINES.iter().map(|machine| format!("SCMP_ARCH_{}", machine.word))
    }

    pub(super) fn machine(self) -> &'static Machine {
        &MACHINES[self as usize]
    }
}

impl Machine {
    /// A call's number as a filter sees it.
    pub fn number(&self, row: Row) -> Option<u32> {
        row.number(self.column).map(|number| number + self.base)
    }

    /// The multiplexer that does the same here, and its operation: (number, first argument).
    pub fn multiplexed(&self, row: Row) -> Option<(u32, u32)> {
        let operation = row.operation().filter(|_| self.multiplexes)?;
        let call = if operation < 200 { SOCKETCALL } else { IPC };
        Some((self.base + call, operation % 100))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn numbers() {
        for (arch, name, number) in [
            (Arch::X86_64, "read", 0),
            (Arch::X86_64, "clone3", 435),
            (Arch::X32, "execve", X32_BIT + 520),
            (Arch::X86, "socketcall", 102),
            (Arch::Aarch64, "openat", 56),
            (Arch::Arm, "openat", 322),
            (Arch::Arm, "set_tls", 0xf_0005),
            (Arch::Mips, "read", 4003),
            (Arch::Mipsel64, "read", 5000),
            (Arch::Mips64N32, "read", 6000),
            (Arch::S390X, "openat", 288),
            (Arch::Riscv64, "riscv_flush_icache", 259),
        ] {
            let row = Row::find(name).unwrap();
            assert_eq!(arch.machine().number(row), Some(number), "{arch:?} {name}");
        }
        let shmctl = Row::find("shmctl").unwrap();
        assert_eq!(Arch::X86.machine().multiplexed(shmctl), Some((117, 24)));
        assert_eq!(Arch::Mips.machine().multiplexed(Row::find("accept4").unwrap()), Some((4102, 18)));
        assert_eq!(Arch::Arm.machine().multiplexed(shmctl), None);
    }

    #[test]
    fn names() {
        for (at, machine) in MACHINES.iter().enumerate() {
            assert_eq!(machine.arch as usize, at);
            assert!(machine.column < super::super::table::COLUMNS);
            assert_eq!(Arch::parse(&format!("SCMP_ARCH_{}", machine.word)).unwrap(), machine.arch);
        }
        assert!(Arch::parse("SCMP_ARCH_Z80").is_err());
        assert!(Arch::parse("X86_64").is_err());
    }
}
