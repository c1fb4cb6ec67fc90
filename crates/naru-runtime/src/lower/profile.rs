//! Docker's seccomp profile format (architecture map, rules that depend on capabilities, architecture or kernel) to the
//! runtime spec's. `seccomp-default.json` holds the rules of moby/profiles for the machines that naru supports.

use crate::oci;
use naru_types::{Error, Result};
use serde::Deserialize;

const DEFAULT_PROFILE: &str = include_str!("seccomp-default.json");

/// The machine a profile is lowered for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeccompHost {
    /// Go's word: `amd64`, `arm64`.
    pub arch: &'static str,
    /// Major and minor.
    pub kernel: (u32, u32),
}

impl Default for SeccompHost {
    fn default() -> Self {
        let arch = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        Self { arch, kernel: (u32::MAX, 0) }
    }
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Profile {
    default_action: String,
    default_errno_ret: Option<u32>,
    architectures: Vec<String>,
    flags: Option<Vec<String>>,
    arch_map: Vec<ArchMap>,
    syscalls: Vec<Rule>,
    listener_path: String,
    listener_metadata: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ArchMap {
    architecture: String,
    sub_architectures: Option<Vec<String>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Rule {
    name: String,
    names: Vec<String>,
    action: String,
    errno_ret: Option<u32>,
    args: Option<Vec<oci::SyscallArg>>,
    includes: Filter,
    excludes: Filter,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Filter {
    caps: Vec<String>,
    arches: Vec<String>,
    min_kernel: Option<String>,
}

/// Docker's default profile for a container with these capabilities (`CAP_…`).
pub fn default_seccomp(capabilities: &[String], host: &SeccompHost) -> Result<oci::Seccomp> {
    lower(DEFAULT_PROFILE, capabilities, host)
}

/// A profile in Docker's JSON.
pub(super) fn lower(json: &str, capabilities: &[String], host: &SeccompHost) -> Result<oci::Seccomp> {
    let profile: Profile = serde_json::from_str(json)
        .map_err(|error| Error::invalid(format!("decoding seccomp profile failed: {error}")))?;
    if !profile.architectures.is_empty() && !profile.arch_map.is_empty() {
        return Err(Error::invalid(
            "both 'architectures' and 'archMap' are specified in the seccomp profile, use either 'architectures' or 'archMap'",
        ));
    }
    let native = if host.arch == "arm64" { "SCMP_ARCH_AARCH64" } else { "SCMP_ARCH_X86_64" };
    let mut architectures = profile.architectures;
    for entry in profile.arch_map.into_iter().filter(|entry| entry.architecture == native) {
        architectures.push(entry.architecture);
        architectures.extend(entry.sub_architectures.unwrap_or_default());
    }
    let mut syscalls = Vec::new();
    for rule in profile.syscalls {
        if !rule.name.is_empty() && !rule.names.is_empty() {
            return Err(Error::invalid(
                "both 'name' and 'names' are specified in the seccomp profile, use either 'name' or 'names'",
            ));
        }
        if applies(&rule, capabilities, host)? {
            let names = if rule.name.is_empty() { rule.names } else { vec![rule.name] };
            let args = rule.args.unwrap_or_default();
            syscalls.push(oci::SyscallRule { names, action: rule.action, errno_ret: rule.errno_ret, args });
        }
    }
    let lowered = oci::Seccomp {
        default_action: profile.default_action,
        default_errno_ret: profile.default_errno_ret,
        architectures,
        flags: profile.flags,
        listener_path: profile.listener_path,
        listener_metadata: profile.listener_metadata,
        syscalls,
    };
    // A profile that cannot be compiled is the user's mistake, to be told at create and not at start.
    crate::seccomp::cached(&lowered).map_err(|error| Error::invalid(error.to_string()))?;
    Ok(lowered)
}

/// moby profiles/seccomp_linux.go: one excluded thing excludes; every included thing is needed (of architectures, one).
fn applies(rule: &Rule, capabilities: &[String], host: &SeccompHost) -> Result<bool> {
    let has = |cap: &String| capabilities.contains(cap);
    let here = |arches: &[String]| arches.iter().any(|arch| arch == host.arch);
    let excluded = here(&rule.excludes.arches)
        || rule.excludes.caps.iter().any(has)
        || kernel_at_least(rule.excludes.min_kernel.as_deref(), host)?.unwrap_or(false);
    let included = (rule.includes.arches.is_empty() || here(&rule.includes.arches))
        && rule.includes.caps.iter().all(has)
        && kernel_at_least(rule.includes.min_kernel.as_deref(), host)?.unwrap_or(true);
    Ok(included && !excluded)
}

fn kernel_at_least(version: Option<&str>, host: &SeccompHost) -> Result<Option<bool>> {
    let Some(version) = version else { return Ok(None) };
    let parsed =
        version.split_once('.').and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    let wanted: (u32, u32) = parsed.ok_or_else(|| {
        Error::invalid(format!("invalid kernel version in the seccomp profile: {version:?}"))
    })?;
    Ok(Some(host.kernel >= wanted))
}
