//! What a service executes and with which environment, health check, log and security.

use crate::dotenv;
use crate::error::Result;
use crate::project::Scope;
use crate::read::{At, Table};
use crate::words;
use naru_types::capability::CAPABILITIES;
use naru_types::image::Healthcheck;
use naru_types::spec::{Device, LogSpec, RestartPolicy, Seccomp, Security, UserNamespace};
use naru_types::suggest::nearest;
use std::collections::BTreeMap;

/// `command` and `entrypoint`: a text is cut into words, an empty list is an empty vector.
pub(crate) fn arguments(at: &At<'_>) -> Result<Vec<String>> {
    if at.is_list() {
        return at.strings();
    }
    words::split(at.text()?)
        .map_err(|message| at.error(message).hint("close the quote, or write a list of words"))
}

/// `env_file`s in order, then `environment`; sorted.
pub(crate) fn environment(table: &Table<'_>, scope: &Scope<'_>) -> Result<Vec<String>> {
    let mut env: BTreeMap<String, Option<String>> = BTreeMap::new();
    if let Some(at) = table.get("env_file") {
        let items = if at.is_list() { at.items()? } else { vec![at] };
        for item in items {
            env.extend(env_file(&item, scope)?);
        }
    }
    if let Some(at) = table.get("environment") {
        for (key, value) in at.pairs()? {
            if key.is_empty() || key.contains(['\0', '=']) {
                return Err(at.error(format!("invalid variable name {key:?}")));
            }
            // A key alone takes the value of where naru was called, or is not set.
            let value = value.or_else(|| scope.lookup(&key));
            env.insert(key, value);
        }
    }
    Ok(env.into_iter().filter_map(|(key, value)| Some(format!("{key}={}", value?))).collect())
}

fn env_file(item: &At<'_>, scope: &Scope<'_>) -> Result<Vec<(String, Option<String>)>> {
    let (at, required) = if item.is_map() {
        let table =
            item.table(&["path", "required"], &[("format", "only the usual KEY=value format is read")])?;
        let path = table.get("path").ok_or_else(|| item.error("path is missing"))?;
        (path, table.read("required", At::bool)?.unwrap_or(true))
    } else {
        (item.clone(), true)
    };
    let path = scope.working_dir.join(at.text()?);
    let text = match (scope.read_file)(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !required => return Ok(Vec::new()),
        Err(error) => {
            let error = at.error(format!("cannot read {}: {error}", path.display()));
            return Err(
                error.hint("paths are relative to the compose file; an entry may say required: false")
            );
        }
    };
    dotenv::parse(&text, &|name| scope.lookup(name))
        .map_err(|(line, message)| at.error(format!("{}:{line}: {message}", path.display())))
}

pub(crate) fn healthcheck(at: &At<'_>) -> Result<Healthcheck> {
    let known = ["disable", "interval", "retries", "start_interval", "start_period", "test", "timeout"];
    let table = at.table(&known, &[])?;
    let mut test = match table.get("test") {
        None => Vec::new(),
        Some(at) if at.is_list() => {
            let words = at.strings()?;
            match words.first().map(String::as_str) {
                Some("NONE") if words.len() == 1 => words,
                Some("CMD") if words.len() > 1 => words,
                Some("CMD-SHELL") if words.len() == 2 => words,
                _ => {
                    return Err(at
                        .error("a list must begin with NONE, CMD or CMD-SHELL")
                        .hint("write [\"CMD\", \"curl\", …] or one text for the shell"));
                }
            }
        }
        Some(at) => vec!["CMD-SHELL".into(), at.text()?.to_owned()],
    };
    if table.flag("disable")? {
        test = vec!["NONE".into()];
    }
    let duration = |key: &str| Ok(table.read(key, At::duration)?.unwrap_or(0));
    Ok(Healthcheck {
        test,
        interval: duration("interval")?,
        timeout: duration("timeout")?,
        start_period: duration("start_period")?,
        start_interval: duration("start_interval")?,
        retries: table.read("retries", At::number::<u32>)?.map_or(0, i64::from),
    })
}

pub(crate) fn restart(at: &At<'_>) -> Result<RestartPolicy> {
    let text = at.text()?;
    let unknown = || {
        at.error(format!("unknown restart policy {text:?}"))
            .hint("use no, always, unless-stopped or on-failure[:times]")
    };
    Ok(match text {
        // YAML reads a bare `no` as false.
        "no" | "false" => RestartPolicy::No,
        "always" => RestartPolicy::Always,
        "unless-stopped" => RestartPolicy::UnlessStopped,
        "on-failure" => RestartPolicy::OnFailure { max_retries: 0 },
        _ => {
            let times = text.strip_prefix("on-failure:").and_then(|times| times.parse().ok());
            RestartPolicy::OnFailure { max_retries: times.ok_or_else(unknown)? }
        }
    })
}

pub(crate) fn logging(at: &At<'_>) -> Result<LogSpec> {
    let table = at.table(&["driver", "options"], &[])?;
    let mut log = LogSpec::default();
    if let Some(driver) = table.get("driver") {
        match driver.text()? {
            name @ ("json-file" | "local" | "none") => {
                log.enabled = name != "none";
                name.clone_into(&mut log.driver);
            }
            other => {
                return Err(driver.unsupported(
                    format!("log driver {other:?} is not supported"),
                    "use json-file, local or none",
                ));
            }
        }
    }
    for (key, value) in table.get("options").map(|at| at.entries()).transpose()?.unwrap_or_default() {
        match key.as_str() {
            "max-size" => log.file_bytes_max = value.bytes()?.cast_unsigned(),
            "max-file" => log.files_max = value.number()?,
            // Records are small and rotated files few; there is nothing to compress.
            "compress" => drop(value.bool()?),
            _ => {
                return Err(value.unsupported(
                    format!("log option {key:?} is not supported"),
                    "use max-size and max-file",
                ));
            }
        }
        log.options.insert(key, value.text()?.to_owned());
    }
    Ok(log)
}

/// A name of capabilities(7), without its prefix, or `ALL`.
fn capability(item: &At<'_>) -> Result<String> {
    let upper = item.text()?.to_ascii_uppercase();
    let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
    if name == "ALL" || CAPABILITIES.contains(&name) {
        return Ok(name.to_owned());
    }
    let error = item.error(format!("unknown capability {:?}", item.text()?));
    Err(error.hint(match nearest(name, CAPABILITIES) {
        Some(meant) => format!("did you mean {meant}?"),
        None => "use a name from capabilities(7), such as NET_ADMIN, or ALL".into(),
    }))
}

pub(crate) fn security(table: &Table<'_>, scope: &Scope<'_>) -> Result<Security> {
    let capabilities = |key: &str| match table.get(key) {
        Some(list) => list.items()?.iter().map(capability).collect::<Result<Vec<_>>>(),
        None => Ok(Vec::new()),
    };
    let mut security = Security {
        privileged: table.flag("privileged")?,
        read_only_rootfs: table.flag("read_only")?,
        cap_add: capabilities("cap_add")?,
        cap_drop: capabilities("cap_drop")?,
        userns: user_namespace(table)?,
        ..Security::default()
    };
    for item in table.get("security_opt").map(|at| at.items()).transpose()?.unwrap_or_default() {
        security_option(&item, scope, &mut security)?;
        security.security_opt.push(item.text()?.to_owned());
    }
    Ok(security)
}

/// The specification knows `host`; `auto` is naru's, as in `naru run --userns`.
fn user_namespace(table: &Table<'_>) -> Result<UserNamespace> {
    let Some(item) = table.get("userns_mode") else { return Ok(UserNamespace::Default) };
    match item.text()? {
        "" => Ok(UserNamespace::Default),
        "host" => Ok(UserNamespace::Host),
        "auto" => Ok(UserNamespace::Own { first: None }),
        other => Err(item
            .error(format!("unknown userns_mode {other:?}"))
            .hint("host is the daemon's user namespace, auto one of the container's own")),
    }
}

fn security_option(item: &At<'_>, scope: &Scope<'_>, security: &mut Security) -> Result<()> {
    let text = item.text()?;
    let (name, value) = text.split_once(['=', ':']).unwrap_or((text, ""));
    match (name, value) {
        ("no-new-privileges", "" | "true") => security.no_new_privileges = true,
        ("no-new-privileges", "false") => security.no_new_privileges = false,
        ("seccomp", "unconfined") => security.seccomp = Seccomp::Unconfined,
        ("seccomp", path) if !path.is_empty() => {
            let path = scope.working_dir.join(path);
            let profile = (scope.read_file)(&path);
            security.seccomp = Seccomp::Profile(
                profile.map_err(|error| item.error(format!("cannot read {}: {error}", path.display())))?,
            );
        }
        ("systempaths", "unconfined") => {
            security.masked_paths = Some(Vec::new());
            security.readonly_paths = Some(Vec::new());
        }
        ("apparmor", profile) if !profile.is_empty() => security.apparmor = Some(profile.to_owned()),
        // Without SELinux labels there is nothing to turn off.
        ("label", "disable") => {}
        ("label", _) => {
            return Err(item
                .unsupported(format!("{name} profiles are not supported"), "use seccomp and capabilities"));
        }
        _ => {
            return Err(item
                .error(format!("unknown security option {text:?}"))
                .hint("use no-new-privileges:true, seccomp=FILE or seccomp=unconfined"));
        }
    }
    Ok(())
}

/// `/dev/x`, `/dev/x:/dev/y`, `/dev/x:/dev/y:rw`.
pub(crate) fn devices(at: &At<'_>) -> Result<Vec<Device>> {
    let one = |item: At<'_>| {
        let text = item.text()?;
        let parts: Vec<&str> = text.split(':').collect();
        let (host, container, permissions) = match parts.as_slice() {
            [host] => (*host, *host, "rwm"),
            [host, container] => (*host, *container, "rwm"),
            [host, container, permissions] => (*host, *container, *permissions),
            _ => {
                return Err(item
                    .error(format!("invalid device {text:?}"))
                    .hint("write /dev/name or /dev/name:/dev/other:rwm"));
            }
        };
        if !host.starts_with('/')
            || !container.starts_with('/')
            || permissions.is_empty()
            || permissions.contains(|c| !"rwm".contains(c))
        {
            return Err(item
                .error(format!("invalid device {text:?}"))
                .hint("write /dev/name or /dev/name:/dev/other:rwm"));
        }
        Ok(Device { host: host.into(), container: container.to_owned(), permissions: permissions.to_owned() })
    };
    at.items()?.into_iter().map(one).collect()
}
