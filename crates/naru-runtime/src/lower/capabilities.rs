//! Docker's capability arithmetic (moby daemon/pkg/oci/caps).

use crate::capability;
use naru_types::spec::Security;
use naru_types::{Error, Result};

/// Docker's default set.
const DEFAULT: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

/// The container's capabilities as `CAP_…` in the kernel's order, limited to what the host can give.
pub(super) fn of(security: &Security, host: u64) -> Result<Vec<String>> {
    let all: u64 = (1 << capability::NAMES.len()) - 1;
    let default = capability::bits(&DEFAULT.map(str::to_owned));
    let (add, add_all) = parse(&security.cap_add)?;
    let (drop, drop_all) = parse(&security.cap_drop)?;
    let bits = if security.privileged || add_all {
        // With privileged Docker ignores --cap-drop.
        if security.privileged { all } else { all & !drop }
    } else if drop_all {
        add
    } else {
        (default & !drop) | add
    };
    if let Some(missing) = (0..).zip(capability::NAMES).find(|(n, _)| add & !host & (1 << n) != 0) {
        let text = format!(
            "capability not supported by your kernel or not available in the current environment: \"CAP_{}\"",
            missing.1
        );
        return Err(Error::invalid(text));
    }
    let has = |number: &usize| bits & host & (1 << number) != 0;
    Ok((0..capability::NAMES.len())
        .filter(has)
        .map(|number| format!("CAP_{}", capability::NAMES[number]))
        .collect())
}

fn parse(names: &[String]) -> Result<(u64, bool)> {
    let (mut bits, mut all) = (0, false);
    for name in names {
        if name.eq_ignore_ascii_case("ALL") {
            all = true;
            continue;
        }
        let upper = name.to_ascii_uppercase();
        let full = if upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
        let number = capability::number(&full)
            .ok_or_else(|| Error::invalid(format!("unknown capability: {full:?}")))?;
        bits |= 1u64 << number;
    }
    Ok((bits, all))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(add: &[&str], drop: &[&str], privileged: bool, expect: &str) {
        let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let security =
            Security { cap_add: list(add), cap_drop: list(drop), privileged, ..Security::default() };
        let bits = capability::bits(&of(&security, u64::MAX).unwrap());
        assert_eq!(format!("{bits:016x}"), expect, "{add:?} {drop:?}");
    }

    #[test]
    fn as_docker() {
        check(&[], &[], false, "00000000a80425fb");
        check(&["NET_ADMIN"], &[], false, "00000000a80435fb");
        check(&[], &["ALL"], false, "0000000000000000");
        check(&["cap_chown"], &["ALL"], false, "0000000000000001");
        check(&["ALL"], &["SYS_ADMIN"], false, "000001ffffdfffff");
        check(&[], &["CHOWN"], true, "000001ffffffffff");
    }

    #[test]
    fn what_cannot_be_had_is_an_error_by_name() {
        let security = Security { cap_add: vec!["SYS_RESOURCE".into()], ..Security::default() };
        assert!(of(&security, 0).unwrap_err().message().contains("CAP_SYS_RESOURCE"));
        let security = Security { cap_drop: vec!["NOPE".into()], ..Security::default() };
        assert_eq!(of(&security, 0).unwrap_err().message(), "unknown capability: \"CAP_NOPE\"");
    }
}
