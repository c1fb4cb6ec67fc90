//! Privileges, security options and shared namespaces.

use naru_types::spec::{NamespaceMode, Namespaces, Seccomp, Security, UserNamespace};
use naru_types::{Error, Result};
use naru_wire::host_config::HostConfig;

pub fn security(host: &HostConfig) -> Result<Security> {
    let mut security = Security {
        privileged: host.privileged,
        cap_add: capabilities(host.cap_add.as_deref()),
        cap_drop: capabilities(host.cap_drop.as_deref()),
        read_only_rootfs: host.readonly_rootfs,
        masked_paths: host.masked_paths.clone(),
        readonly_paths: host.readonly_paths.clone(),
        security_opt: host.security_opt.clone().unwrap_or_default(),
        userns: user_namespace(&host.userns_mode)?,
        ..Security::default()
    };
    for option in host.security_opt.iter().flatten() {
        apply(&mut security, option)?;
    }
    Ok(security)
}

/// Docker knows "" and "host"; "auto" is Podman's word for what `userns-remap` gives everybody.
fn user_namespace(mode: &str) -> Result<UserNamespace> {
    match mode {
        "" => Ok(UserNamespace::Default),
        "host" => Ok(UserNamespace::Host),
        "auto" | "private" => Ok(UserNamespace::Own { first: None }),
        other => Err(Error::invalid(format!("invalid USER mode: {other}"))
            .with_hint("--userns is host (the daemon's), or auto (one of the container's own)")),
    }
}

/// Without `CAP_`, in upper case.
fn capabilities(list: Option<&[String]>) -> Vec<String> {
    let plain = |name: &String| {
        let upper = name.trim().to_ascii_uppercase();
        upper.strip_prefix("CAP_").unwrap_or(&upper).to_owned()
    };
    list.unwrap_or_default().iter().map(plain).collect()
}

fn apply(security: &mut Security, option: &str) -> Result<()> {
    let invalid = || Error::invalid(format!("invalid --security-opt: {option:?}"));
    // Docker takes a colon too, from before 1.11.
    let (key, value) = option.split_once('=').or_else(|| option.split_once(':')).unwrap_or((option, ""));
    match (key, value) {
        ("no-new-privileges", "" | "true") => security.no_new_privileges = true,
        ("no-new-privileges", "false") => security.no_new_privileges = false,
        ("seccomp", "unconfined") => security.seccomp = Seccomp::Unconfined,
        ("seccomp", "builtin") => security.seccomp = Seccomp::Default,
        ("seccomp", profile) if profile.trim_start().starts_with('{') => {
            security.seccomp = Seccomp::Profile(profile.to_owned());
        }
        ("seccomp", path) => {
            return Err(Error::invalid(format!(
                "opening seccomp profile ({path}) failed: the profile must be sent, not named"
            ))
            .with_hint("a client reads the file and sends its JSON"));
        }
        ("systempaths", "unconfined") => {
            security.masked_paths = Some(Vec::new());
            security.readonly_paths = Some(Vec::new());
        }
        // A profile that isn't loaded is an error of the start, as in Docker.
        ("apparmor", profile) if !profile.is_empty() => security.apparmor = Some(profile.to_owned()),
        // No label is what a container gets in any case.
        ("label", "disable") => {}
        ("label" | "writable-cgroups", _) => {
            return Err(Error::not_implemented(format!(
                "security option {option:?} is not supported by naru"
            ))
            .with_hint(
                "supported: no-new-privileges, seccomp, systempaths=unconfined, label=disable, apparmor",
            ));
        }
        _ => return Err(invalid()),
    }
    Ok(())
}

pub fn namespaces(host: &HostConfig) -> Result<Namespaces> {
    Ok(Namespaces {
        pid: mode("PID", &host.pid_mode, true)?,
        ipc: match host.ipc_mode.as_str() {
            "shareable" => NamespaceMode::Private,
            "none" => {
                return Err(Error::not_implemented("IPC mode \"none\" is not supported by naru")
                    .with_hint("the default is private already"));
            }
            other => mode("IPC", other, true)?,
        },
        uts: mode("UTS", &host.uts_mode, false)?,
        cgroup: mode("cgroup namespace", &host.cgroupns_mode, false)?,
    })
}

fn mode(what: &str, text: &str, can_join: bool) -> Result<NamespaceMode> {
    match (text, text.strip_prefix("container:")) {
        ("" | "private", _) => Ok(NamespaceMode::Private),
        ("host", _) => Ok(NamespaceMode::Host),
        (_, Some(container)) if can_join && !container.is_empty() => {
            Ok(NamespaceMode::Container(container.to_owned()))
        }
        _ => Err(Error::invalid(format!("invalid {what} mode: {text}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options() {
        let with = |option: &str| {
            security(&HostConfig { security_opt: Some(vec![option.into()]), ..HostConfig::default() })
        };
        assert!(with("no-new-privileges").unwrap().no_new_privileges);
        assert!(!with("no-new-privileges=false").unwrap().no_new_privileges);
        assert_eq!(with("seccomp=unconfined").unwrap().seccomp, Seccomp::Unconfined);
        assert!(matches!(with("seccomp={\"a\":1}").unwrap().seccomp, Seccomp::Profile(_)));
        assert_eq!(with("apparmor=mine").unwrap().apparmor.as_deref(), Some("mine"));
        assert_eq!(with("apparmor:unconfined").unwrap().apparmor.as_deref(), Some("unconfined"));
        assert_eq!(with("systempaths=unconfined").unwrap().masked_paths, Some(Vec::new()));
        for bad in ["seccomp=/etc/x", "apparmor=", "label=level:s0", "nope"] {
            assert!(with(bad).is_err(), "{bad}");
        }
    }
}
