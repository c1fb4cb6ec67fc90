//! Linux signals by name and number (signal(7)), real-time ones included.

use std::fmt;

/// A signal number from 1 to 64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Signal(pub u8);

const NAMES: [(&str, u8); 34] = [
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("PWR", 30),
    ("SYS", 31),
    ("POLL", 29),
    ("IOT", 6),
    ("CLD", 17),
];

/// First real-time signal as libc counts (`SIGRTMIN`); the kernel's 32 and 33 belong to the libc.
const RTMIN: u8 = 34;
const RTMAX: u8 = 64;

impl Signal {
    pub const KILL: Signal = Signal(9);
    pub const TERM: Signal = Signal(15);
    pub const WINCH: Signal = Signal(28);

    /// Accepts `9`, `KILL`, `SIGKILL`, `sigkill`, `RTMIN+3`, `SIGRTMAX-1`.
    pub fn parse(text: &str) -> Option<Self> {
        if let Ok(number) = text.parse::<u8>() {
            return (1..=RTMAX).contains(&number).then_some(Self(number));
        }
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        if let Some((_, number)) = NAMES.iter().find(|(known, _)| *known == name) {
            return Some(Self(*number));
        }
        let offset = |rest: &str, sign: char| -> Option<u8> {
            if rest.is_empty() { Some(0) } else { rest.strip_prefix(sign)?.parse().ok() }
        };
        let number = if let Some(rest) = name.strip_prefix("RTMIN") {
            RTMIN.checked_add(offset(rest, '+')?)?
        } else {
            RTMAX.checked_sub(offset(name.strip_prefix("RTMAX")?, '-')?)?
        };
        (RTMIN..=RTMAX).contains(&number).then_some(Self(number))
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.iter().find(|(_, number)| *number == self.0) {
            Some((name, _)) => write!(f, "SIG{name}"),
            None => write!(f, "{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        for (text, expect) in [
            ("9", Some(9)),
            ("SIGTERM", Some(15)),
            ("hup", Some(1)),
            ("RTMIN+3", Some(37)),
            ("SIGRTMAX-1", Some(63)),
            ("0", None),
            ("65", None),
            ("RTMIN+40", None),
            ("NOPE", None),
            ("", None),
        ] {
            assert_eq!(Signal::parse(text).map(|s| s.0), expect, "{text}");
        }
        assert_eq!(Signal(29).to_string(), "SIGIO");
    }
}
