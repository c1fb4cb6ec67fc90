//! What a list of device rules comes to, by the meaning that cgroup v1 gives it.
//!
//! security/device_cgroup.c: a group allows or denies by default, with exceptions. `a` sets the default and forgets the
//! exceptions; a rule against the default adds an exception, one with it takes exactly that exception away. An access
//! passes a denying group if *one* exception covers all of it, and an allowing group if none covers any of it.
//!
//! The kernel silently ignores a rule that would cut a hole in a wider exception (`c *:* rw` allowed, then `c 1:3 w`
//! denied). That is an error here, as in runc: whoever wrote it believes the device is closed.

use crate::cgroup::CgroupError;
use crate::oci::DeviceRule;

/// Bits of an access, as v1's letters and BPF_DEVCG_ACC_* have them.
pub(super) const MKNOD: u8 = 1;
pub(super) const READ: u8 = 2;
pub(super) const WRITE: u8 = 4;
pub(super) const ALL: u8 = MKNOD | READ | WRITE;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Block,
    Char,
}

/// `None` numbers stand for any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Exception {
    pub kind: Kind,
    pub major: Option<u32>,
    pub minor: Option<u32>,
    pub access: u8,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Policy {
    pub allow_by_default: bool,
    pub exceptions: Vec<Exception>,
}

impl Policy {
    /// A new group denies until its list says otherwise, as runc has it.
    pub fn of(rules: &[DeviceRule]) -> Result<Self, CgroupError> {
        let mut policy = Self::default();
        rules.iter().try_for_each(|rule| policy.add(rule))?;
        Ok(policy)
    }

    /// What `devices.list` of v1 says.
    pub fn parse(list: &str) -> Self {
        let mut policy = Self::default();
        for line in list.lines() {
            if line.starts_with("a ") {
                return Self { allow_by_default: true, exceptions: Vec::new() };
            }
            policy.exceptions.extend(parse_line(line));
        }
        policy
    }

    fn add(&mut self, rule: &DeviceRule) -> Result<(), CgroupError> {
        let invalid = |why: &str| CgroupError::Invalid(format!("device rule {}: {why}", describe(rule)));
        let kind = match rule.kind.as_str() {
            "" | "a" => {
                *self = Self { allow_by_default: rule.allow, exceptions: Vec::new() };
                return Ok(());
            }
            "b" => Kind::Block,
            // `u` is the same as `c` everywhere in mknod(1) and the spec.
            "c" | "u" => Kind::Char,
            _ => return Err(invalid("the type is a, b or c")),
        };
        let access = access_bits(&rule.access).ok_or_else(|| invalid("the access is any of rwm"))?;
        let number = |value: Option<i64>| match value {
            None | Some(-1) => Ok(None),
            Some(number) => u32::try_from(number).map(Some).map_err(|_| invalid("no such device number")),
        };
        let wanted = Exception { kind, major: number(rule.major)?, minor: number(rule.minor)?, access };
        if rule.allow == self.allow_by_default {
            if self.exceptions.iter().any(|old| old.is_wider(&wanted) && old.access & access != 0) {
                return Err(invalid(
                    "it would be a hole in an earlier, wider rule, which the kernel cannot do",
                ));
            }
            self.remove(&wanted);
        } else {
            self.insert(wanted);
        }
        Ok(())
    }

    fn insert(&mut self, wanted: Exception) {
        match self.exceptions.iter_mut().find(|old| old.same_devices(&wanted)) {
            Some(old) => old.access |= wanted.access,
            None if wanted.access != 0 => self.exceptions.push(wanted),
            None => {}
        }
    }

    fn remove(&mut self, wanted: &Exception) {
        for old in self.exceptions.iter_mut().filter(|old| old.same_devices(wanted)) {
            old.access &= !wanted.access;
        }
        self.exceptions.retain(|old| old.access != 0);
    }
}

impl Exception {
    pub fn same_devices(&self, other: &Self) -> bool {
        (self.kind, self.major, self.minor) == (other.kind, other.major, other.minor)
    }

    /// Covers all devices of `other` and more.
    fn is_wider(&self, other: &Self) -> bool {
        let covers = |own: Option<u32>, theirs| own.is_none() || own == theirs;
        self.kind == other.kind
            && !self.same_devices(other)
            && covers(self.major, other.major)
            && covers(self.minor, other.minor)
    }

    /// `c 1:3 rwm`.
    pub fn line(&self) -> String {
        let number = |value: Option<u32>| value.map_or("*".to_owned(), |number| number.to_string());
        let kind = if self.kind == Kind::Block { 'b' } else { 'c' };
        let letters: String = [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')]
            .iter()
            .filter(|(bit, _)| self.access & bit != 0)
            .map(|(_, letter)| *letter)
            .collect();
        format!("{kind} {}:{} {letters}", number(self.major), number(self.minor))
    }
}

fn parse_line(line: &str) -> Option<Exception> {
    let mut words = line.split_whitespace();
    let kind = match words.next()? {
        "b" => Kind::Block,
        "c" => Kind::Char,
        _ => return None,
    };
    let (major, minor) = words.next()?.split_once(':')?;
    let number = |text: &str| if text == "*" { Some(None) } else { text.parse().ok().map(Some) };
    Some(Exception {
        kind,
        major: number(major)?,
        minor: number(minor)?,
        access: access_bits(words.next()?)?,
    })
}

fn access_bits(letters: &str) -> Option<u8> {
    letters.chars().try_fold(0, |bits, letter| match letter {
        'm' => Some(bits | MKNOD),
        'r' => Some(bits | READ),
        'w' => Some(bits | WRITE),
        _ => None,
    })
}

fn describe(rule: &DeviceRule) -> String {
    let number = |value: Option<i64>| value.map_or("*".to_owned(), |number| number.to_string());
    let verb = if rule.allow { "allow" } else { "deny" };
    format!("\"{verb} {} {}:{} {}\"", rule.kind, number(rule.major), number(rule.minor), rule.access)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(allow: bool, kind: &str, major: Option<i64>, minor: Option<i64>, access: &str) -> DeviceRule {
        DeviceRule { allow, kind: kind.into(), major, minor, access: access.into() }
    }

    #[test]
    fn lines() {
        let policy = Policy::of(&[
            rule(false, "a", None, None, "rwm"),
            rule(true, "c", Some(136), None, "rwm"),
            rule(true, "b", Some(-1), None, "m"),
        ])
        .unwrap();
        let lines: Vec<String> = policy.exceptions.iter().map(Exception::line).collect();
        assert_eq!(lines, ["c 136:* rwm", "b *:* m"]);
        assert_eq!(Policy::parse("c 136:* rwm\nb *:* m\n"), policy);
        assert!(Policy::parse("a *:* rwm\n").allow_by_default);
    }

    #[test]
    fn taking_back_and_holes() {
        let deny = rule(false, "a", None, None, "rwm");
        let null = |allow, access| rule(allow, "c", Some(1), Some(3), access);
        let policy = Policy::of(&[deny.clone(), null(true, "rwm"), null(false, "w")]).unwrap();
        assert_eq!(policy.exceptions[0].line(), "c 1:3 rm");
        let hole = Policy::of(&[deny.clone(), rule(true, "c", Some(1), None, "rw"), null(false, "w")]);
        assert!(hole.unwrap_err().to_string().contains("hole"));
        let beside = Policy::of(&[deny, rule(true, "c", Some(1), None, "m"), null(false, "w")]);
        assert!(beside.is_ok());
        assert!(Policy::of(&[rule(true, "x", None, None, "r")]).is_err());
        assert!(Policy::of(&[rule(true, "c", None, None, "rx")]).is_err());
    }
}
