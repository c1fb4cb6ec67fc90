//! AppArmor: naru's default profile, and whether this machine can have it.
//!
//! The profile is written in `apparmor/naru-default.profile` and shipped compiled, as the kernel takes it: no program
//! is executed to load it, and it does not matter whether `apparmor_parser` is installed. It is compiled for the
//! features of the 3.0 ABI, which every kernel since 5.10 understands and newer ones keep to; after a change:
//!
//! ```text
//! apparmor_parser --skip-kernel-load --skip-cache --features-file /etc/apparmor.d/abi/3.0 \
//!     --ofile naru-default.policy naru-default.profile
//! ```
//!
//! It is not here that the label is given to a program: that is a step of the plan ([`crate::plan`]), written in the
//! child for the next execve.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};

/// The name by which containers have it, as `docker-default` is Docker's.
pub const DEFAULT_PROFILE: &str = "naru-default";
/// No confinement, in AppArmor's own word.
pub const UNCONFINED: &str = "unconfined";

/// What `naru-default.profile` compiles to.
const POLICY: &[u8] = include_bytes!("apparmor/naru-default.policy");

const ENABLED: &str = "/sys/module/apparmor/parameters/enabled";
/// Takes a compiled policy in one write; a profile of the same name is replaced, also for those that run with it.
const REPLACE: &str = "/sys/kernel/security/apparmor/.replace";
/// Lines of `name (mode)`.
const PROFILES: &str = "/sys/kernel/security/apparmor/profiles";

#[derive(Debug, thiserror::Error)]
pub enum AppArmorError {
    #[error("cannot load the AppArmor profile {DEFAULT_PROFILE:?} through {REPLACE}")]
    Load(#[source] std::io::Error),
    #[error("cannot read the loaded AppArmor profiles ({PROFILES})")]
    List(#[source] std::io::Error),
}

/// The kernel enforces AppArmor, and its interface is there. Where it is not mounted (in another engine's container) no
/// profile can be given; Docker decides the same.
pub fn enabled() -> bool {
    std::fs::read_to_string(ENABLED).is_ok_and(|text| text.starts_with('Y'))
        && std::path::Path::new(REPLACE).exists()
}

/// The profile for containers that name none, loaded when it isn't. `None`: without AppArmor, or without the right to
/// change policy, which is never had in a user namespace.
pub fn default_profile() -> Result<Option<&'static str>, AppArmorError> {
    /// The kernel has this version's policy, not an older one's.
    static LOADED: AtomicBool = AtomicBool::new(false);
    if !enabled() || naru_kernel::ns::in_user_namespace() {
        return Ok(None);
    }
    // Looked at each time: tools that tidy up profiles remove those that no file in /etc names.
    if !(LOADED.load(Ordering::Relaxed) && is_loaded(DEFAULT_PROFILE)?) {
        load()?;
        LOADED.store(true, Ordering::Relaxed);
    }
    Ok(Some(DEFAULT_PROFILE))
}

/// Whether the kernel knows a profile of this name.
pub fn is_loaded(name: &str) -> Result<bool, AppArmorError> {
    let profiles = std::fs::read_to_string(PROFILES).map_err(AppArmorError::List)?;
    Ok(names(&profiles).any(|known| known == name))
}

/// The mode is in parentheses after the name, which may have spaces of its own.
fn names(profiles: &str) -> impl Iterator<Item = &str> {
    profiles.lines().filter_map(|line| line.rsplit_once(" (")).map(|(name, _)| name)
}

fn load() -> Result<(), AppArmorError> {
    let write = || std::fs::OpenOptions::new().write(true).open(REPLACE)?.write(POLICY);
    match write().map_err(AppArmorError::Load)? {
        written if written == POLICY.len() => Ok(()),
        _ => Err(AppArmorError::Load(std::io::ErrorKind::WriteZero.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read() {
        let list = "naru-default (enforce)\n/usr/bin/a b//null (complain)\n\n";
        assert_eq!(names(list).collect::<Vec<_>>(), ["naru-default", "/usr/bin/a b//null"]);
    }

    #[test]
    fn the_policy_is_of_the_name_that_containers_get() {
        let named = |text: &[u8]| POLICY.windows(text.len()).any(|window| window == text);
        assert!(named(b"naru-default\0") && POLICY.starts_with(b"\x04\x08\0version\0"));
        let source = include_str!("apparmor/naru-default.profile");
        assert!(source.contains("profile naru-default flags="));
    }
}
