//! From flags to the body of `POST /containers/create`.

use crate::flags::{CreateFlags, HealthFlags, LimitFlags, NetFlags, ProcessFlags, StorageFlags};
use naru_types::quantity::{parse_bytes, parse_duration};
use naru_types::{Error, Result};
use serde_json::{Map, Value, json};

/// Which streams of the new container the client will attach to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Attach {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
}

/// Builds the request body. Reads `--env-file` and `--security-opt seccomp=FILE` from disk, nothing else.
pub fn create_body(flags: &CreateFlags, attach: Attach) -> Result<Value> {
    let process = &flags.process;
    let mut body = Map::new();
    body.insert("Image".into(), json!(flags.image));
    if !flags.command.is_empty() {
        body.insert("Cmd".into(), json!(flags.command));
    }
    if let Some(entrypoint) = &process.entrypoint {
        // An empty --entrypoint takes the image's away; Docker spells that [""].
        body.insert("Entrypoint".into(), json!([entrypoint]));
    }
    fill_process(&mut body, process, attach)?;
    fill_text(&mut body, "Hostname", flags.network.hostname.as_deref());
    fill_text(&mut body, "Domainname", flags.network.domainname.as_deref());
    let exposed = flags.network.expose.iter().map(|port| (with_proto(port), json!({})));
    let mut exposed: Map<String, Value> = exposed.collect();
    let ports = ports(&flags.network.publish)?;
    exposed.extend(ports.keys().map(|port| (port.clone(), json!({}))));
    body.insert("ExposedPorts".into(), Value::Object(exposed));
    let (binds, volumes) = split_volumes(&flags.storage.volume)?;
    body.insert("Volumes".into(), Value::Object(volumes.into_iter().map(|path| (path, json!({}))).collect()));
    if let Some(check) = healthcheck(&flags.health)? {
        body.insert("Healthcheck".into(), check);
    }
    let mut host = host_config(flags)?;
    host.insert("Binds".into(), json!(binds));
    host.insert("PortBindings".into(), Value::Object(ports));
    body.insert("HostConfig".into(), Value::Object(host));
    if let Some(endpoints) = endpoints(&flags.network) {
        body.insert("NetworkingConfig".into(), json!({ "EndpointsConfig": endpoints }));
    }
    Ok(Value::Object(body))
}

fn fill_process(body: &mut Map<String, Value>, process: &ProcessFlags, attach: Attach) -> Result<()> {
    body.insert("AttachStdin".into(), json!(attach.stdin));
    body.insert("AttachStdout".into(), json!(attach.stdout));
    body.insert("AttachStderr".into(), json!(attach.stderr));
    body.insert("OpenStdin".into(), json!(process.interactive));
    body.insert("StdinOnce".into(), json!(process.interactive && attach.stdin));
    body.insert("Tty".into(), json!(process.tty));
    body.insert("Env".into(), json!(environment(&process.env_file, &process.env)?));
    body.insert("Labels".into(), json!(pairs(&process.label)));
    fill_text(body, "WorkingDir", process.workdir.as_deref());
    fill_text(body, "User", process.user.as_deref());
    fill_text(body, "StopSignal", process.stop_signal.as_deref());
    if let Some(secs) = process.stop_timeout {
        body.insert("StopTimeout".into(), json!(secs));
    }
    Ok(())
}

fn host_config(flags: &CreateFlags) -> Result<Map<String, Value>> {
    let (process, network, storage, security) =
        (&flags.process, &flags.network, &flags.storage, &flags.security);
    let mut host = limits(&flags.limits)?;
    host.insert("AutoRemove".into(), json!(process.rm));
    host.insert("RestartPolicy".into(), restart_policy(&process.restart)?);
    host.insert("NetworkMode".into(), json!(network.network.as_deref().unwrap_or("default")));
    host.insert("PublishAllPorts".into(), json!(network.publish_all));
    host.insert("ExtraHosts".into(), json!(network.add_host));
    host.insert("Dns".into(), json!(network.dns));
    host.insert("DnsSearch".into(), json!(network.dns_search));
    host.insert("DnsOptions".into(), json!(network.dns_option));
    host.insert("ReadonlyRootfs".into(), json!(storage.read_only));
    host.insert(
        "Mounts".into(),
        Value::Array(storage.mount.iter().map(|text| mount(text)).collect::<Result<_>>()?),
    );
    host.insert("Tmpfs".into(), json!(tmpfs(storage)));
    host.insert("Devices".into(), Value::Array(storage.device.iter().map(|text| device(text)).collect()));
    host.insert("Privileged".into(), json!(security.privileged));
    host.insert("CapAdd".into(), json!(security.cap_add));
    host.insert("CapDrop".into(), json!(security.cap_drop));
    host.insert("SecurityOpt".into(), json!(security_options(&security.security_opt)?));
    host.insert("Sysctls".into(), json!(pairs(&security.sysctl)));
    host.insert("GroupAdd".into(), json!(process.group_add));
    fill_text(&mut host, "PidMode", security.pid.as_deref());
    fill_text(&mut host, "IpcMode", security.ipc.as_deref());
    fill_text(&mut host, "UTSMode", security.uts.as_deref());
    fill_text(&mut host, "UsernsMode", security.userns.as_deref());
    fill_text(&mut host, "CgroupnsMode", security.cgroupns.as_deref());
    fill_text(&mut host, "Runtime", security.runtime.as_deref());
    if process.init {
        host.insert("Init".into(), json!(true));
    }
    if process.log_driver.is_some() || !process.log_opt.is_empty() {
        let driver = process.log_driver.as_deref().unwrap_or("json-file");
        host.insert("LogConfig".into(), json!({ "Type": driver, "Config": pairs(&process.log_opt) }));
    }
    Ok(host)
}

fn limits(flags: &LimitFlags) -> Result<Map<String, Value>> {
    let mut host = Map::new();
    let mut bytes = |key: &str, text: &Option<String>| -> Result<()> {
        if let Some(text) = text {
            let bytes = if text == "-1" { Some(-1) } else { parse_bytes(text) };
            let bytes = bytes.ok_or_else(|| {
                Error::invalid(format!("invalid size: {text:?}")).with_hint("sizes look like 64m or 1.5g")
            })?;
            host.insert(key.into(), json!(bytes));
        }
        Ok(())
    };
    bytes("Memory", &flags.memory)?;
    bytes("MemorySwap", &flags.memory_swap)?;
    bytes("MemoryReservation", &flags.memory_reservation)?;
    bytes("ShmSize", &flags.shm_size)?;
    if let Some(cpus) = &flags.cpus {
        let count: f64 =
            cpus.parse().map_err(|_| Error::invalid(format!("invalid number of CPUs: {cpus:?}")))?;
        host.insert("NanoCpus".into(), json!((count * 1e9).round() as i64));
    }
    if let Some(shares) = flags.cpu_shares {
        host.insert("CpuShares".into(), json!(shares));
    }
    fill_text(&mut host, "CpusetCpus", flags.cpuset_cpus.as_deref());
    if let Some(pids) = flags.pids_limit {
        host.insert("PidsLimit".into(), json!(pids));
    }
    if let Some(weight) = flags.blkio_weight {
        host.insert("BlkioWeight".into(), json!(weight));
    }
    if let Some(score) = flags.oom_score_adj {
        host.insert("OomScoreAdj".into(), json!(score));
    }
    host.insert(
        "Ulimits".into(),
        Value::Array(flags.ulimit.iter().map(|text| ulimit(text)).collect::<Result<_>>()?),
    );
    Ok(host)
}

fn fill_text(map: &mut Map<String, Value>, key: &str, text: Option<&str>) {
    if let Some(text) = text {
        map.insert(key.into(), json!(text));
    }
}

/// `KEY=value` lists as a map; a key alone has an empty value.
pub fn pairs(list: &[String]) -> Map<String, Value> {
    list.iter()
        .map(|item| {
            let (key, value) = item.split_once('=').unwrap_or((item, ""));
            (key.to_owned(), json!(value))
        })
        .collect()
}

/// Files first, flags after; `KEY` alone takes the caller's value over, or is left out when there is none.
pub fn environment(files: &[String], flags: &[String]) -> Result<Vec<String>> {
    let mut list = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(file)
            .map_err(|error| Error::invalid(format!("cannot read env file {file}")).with_source(error))?;
        let lines =
            text.lines().map(str::trim_start).filter(|line| !line.is_empty() && !line.starts_with('#'));
        list.extend(lines.filter_map(resolved));
    }
    list.extend(flags.iter().filter_map(|item| resolved(item)));
    Ok(list)
}

fn resolved(item: &str) -> Option<String> {
    if item.contains('=') {
        return Some(item.to_owned());
    }
    let value = std::env::vars().find(|(key, _)| key == item)?.1;
    Some(format!("{item}={value}"))
}

fn restart_policy(text: &str) -> Result<Value> {
    let (name, retries) = text.split_once(':').unwrap_or((text, ""));
    let retries: i64 = if retries.is_empty() {
        0
    } else {
        retries.parse().map_err(|_| {
            Error::invalid(format!("invalid restart policy {text:?}: retries must be a number"))
        })?
    };
    Ok(json!({ "Name": name, "MaximumRetryCount": retries }))
}

fn with_proto(port: &str) -> String {
    if port.contains('/') { port.to_owned() } else { format!("{port}/tcp") }
}

/// `-p` flags as Docker's PortBindings. Ranges on both sides are matched one to one.
pub fn ports(list: &[String]) -> Result<Map<String, Value>> {
    let mut map: Map<String, Value> = Map::new();
    for text in list {
        for (container, address, host) in port_mappings(text)? {
            let binding = json!({ "HostIp": address, "HostPort": host });
            match map.get_mut(&container).and_then(Value::as_array_mut) {
                Some(bindings) => bindings.push(binding),
                None => {
                    map.insert(container, json!([binding]));
                }
            }
        }
    }
    Ok(map)
}

fn port_mappings(text: &str) -> Result<Vec<(String, String, String)>> {
    let invalid = |why: &str| {
        Error::invalid(format!("invalid publish {text:?}: {why}"))
            .with_hint("write [[address:]host:]container[/proto]")
    };
    let (rest, proto) = text.rsplit_once('/').unwrap_or((text, "tcp"));
    let (address, rest) = match rest.strip_prefix('[') {
        Some(inner) => {
            let (address, after) = inner.split_once(']').ok_or_else(|| invalid("missing ]"))?;
            (address.to_owned(), after.strip_prefix(':').ok_or_else(|| invalid("missing port"))?)
        }
        None if rest.matches(':').count() == 2 => {
            let (address, after) = rest.split_once(':').unwrap_or_default();
            (address.to_owned(), after)
        }
        None => (String::new(), rest),
    };
    let (host, container) = rest.rsplit_once(':').unwrap_or(("", rest));
    let containers = range(container).ok_or_else(|| invalid("container port must be 1 to 65535"))?;
    if host.is_empty() {
        return Ok(containers
            .map(|port| (format!("{port}/{proto}"), address.clone(), String::new()))
            .collect());
    }
    let hosts = range(host).ok_or_else(|| invalid("host port must be 0 to 65535"))?;
    if containers.len() == 1 && hosts.len() > 1 {
        return Ok(vec![(format!("{}/{proto}", containers.start()), address, host.to_owned())]);
    }
    if containers.len() != hosts.len() {
        return Err(invalid("the ranges have different lengths"));
    }
    Ok(containers
        .zip(hosts)
        .map(|(port, host)| (format!("{port}/{proto}"), address.clone(), host.to_string()))
        .collect())
}

fn range(text: &str) -> Option<std::ops::RangeInclusive<u16>> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some(first..=last)
}

/// `-v`: with a source it is a bind or a named volume, alone an anonymous volume. Relative sources are the client's.
fn split_volumes(list: &[String]) -> Result<(Vec<String>, Vec<String>)> {
    let (mut binds, mut volumes) = (Vec::new(), Vec::new());
    for text in list {
        match text.split_once(':') {
            None => volumes.push(text.clone()),
            Some((source, rest)) if source.starts_with('.') || source.starts_with('~') => {
                let absolute = std::path::absolute(source)
                    .map_err(|error| Error::invalid(format!("invalid volume {text:?}")).with_source(error))?;
                binds.push(format!("{}:{rest}", clean(&absolute)));
            }
            Some(_) => binds.push(text.clone()),
        }
    }
    Ok((binds, volumes))
}

/// Without `.` and `..` components, which a daemon elsewhere could not resolve.
fn clean(path: &std::path::Path) -> String {
    let mut parts: Vec<std::path::Component<'_>> = Vec::new();
    for part in path.components() {
        match part {
            std::path::Component::ParentDir => {
                parts.pop();
            }
            std::path::Component::CurDir => {}
            other => parts.push(other),
        }
    }
    parts.iter().collect::<std::path::PathBuf>().display().to_string()
}

fn mount(text: &str) -> Result<Value> {
    let mut mount = json!({ "Type": "volume" });
    for pair in text.split(',') {
        let (key, value) = pair.split_once('=').unwrap_or((pair, "true"));
        let flag = || matches!(value, "true" | "1");
        match key.to_ascii_lowercase().as_str() {
            "type" => mount["Type"] = json!(value),
            "source" | "src" if value.starts_with('.') => {
                let absolute = std::path::absolute(value)
                    .map_err(|error| Error::invalid(format!("invalid mount {text:?}")).with_source(error))?;
                mount["Source"] = json!(clean(&absolute));
            }
            "source" | "src" => mount["Source"] = json!(value),
            "target" | "destination" | "dst" => mount["Target"] = json!(value),
            "readonly" | "ro" => mount["ReadOnly"] = json!(flag()),
            "bind-propagation" => mount["BindOptions"]["Propagation"] = json!(value),
            "volume-nocopy" => mount["VolumeOptions"]["NoCopy"] = json!(flag()),
            "tmpfs-size" => {
                let size = parse_bytes(value)
                    .ok_or_else(|| Error::invalid(format!("invalid mount {text:?}: tmpfs-size")))?;
                mount["TmpfsOptions"]["SizeBytes"] = json!(size);
            }
            "tmpfs-mode" => {
                let mode = u32::from_str_radix(value, 8).map_err(|_| {
                    Error::invalid(format!("invalid mount {text:?}: tmpfs-mode must be octal"))
                })?;
                mount["TmpfsOptions"]["Mode"] = json!(mode);
            }
            _ => return Err(Error::invalid(format!("invalid mount {text:?}: unknown key {key:?}"))),
        }
    }
    Ok(mount)
}

fn tmpfs(storage: &StorageFlags) -> Map<String, Value> {
    let split = |text: &String| {
        let (target, options) = text.split_once(':').unwrap_or((text, ""));
        (target.to_owned(), json!(options))
    };
    storage.tmpfs.iter().map(split).collect()
}

fn device(text: &str) -> Value {
    let mut parts = text.split(':');
    let host = parts.next().unwrap_or("");
    let (container, permissions) = match (parts.next(), parts.next()) {
        (Some(access), None) if !access.starts_with('/') => (host, access),
        (Some(container), access) => (container, access.unwrap_or("rwm")),
        (None, _) => (host, "rwm"),
    };
    json!({ "PathOnHost": host, "PathInContainer": container, "CgroupPermissions": permissions })
}

fn ulimit(text: &str) -> Result<Value> {
    let invalid = || Error::invalid(format!("invalid ulimit {text:?}")).with_hint("write name=soft[:hard]");
    let (name, limits) = text.split_once('=').ok_or_else(invalid)?;
    let (soft, hard) = limits.split_once(':').unwrap_or((limits, limits));
    let number =
        |text: &str| if text == "unlimited" { Ok(-1) } else { text.parse::<i64>().map_err(|_| invalid()) };
    Ok(json!({ "Name": name, "Soft": number(soft)?, "Hard": number(hard)? }))
}

/// A seccomp profile is a file of the client: its content goes over the wire.
fn security_options(list: &[String]) -> Result<Vec<String>> {
    let read = |option: &String| match option.split_once('=') {
        Some(("seccomp", path)) if path != "unconfined" && path != "builtin" && !path.starts_with('{') => {
            let profile = std::fs::read_to_string(path).map_err(|error| {
                Error::invalid(format!("cannot read seccomp profile {path}")).with_source(error)
            })?;
            Ok(format!("seccomp={profile}"))
        }
        _ => Ok(option.clone()),
    };
    list.iter().map(read).collect()
}

fn healthcheck(flags: &HealthFlags) -> Result<Option<Value>> {
    if flags.no_healthcheck {
        return Ok(Some(json!({ "Test": ["NONE"] })));
    }
    let mut check = Map::new();
    if let Some(command) = &flags.health_cmd {
        check.insert("Test".into(), json!(["CMD-SHELL", command]));
    }
    let durations = [
        ("Interval", &flags.health_interval),
        ("Timeout", &flags.health_timeout),
        ("StartPeriod", &flags.health_start_period),
        ("StartInterval", &flags.health_start_interval),
    ];
    for (key, text) in durations {
        if let Some(text) = text {
            let nanos = parse_duration(text).ok_or_else(|| {
                Error::invalid(format!("invalid duration {text:?}"))
                    .with_hint("durations look like 30s or 1m30s")
            })?;
            check.insert(key.into(), json!(nanos));
        }
    }
    if let Some(retries) = flags.health_retries {
        check.insert("Retries".into(), json!(retries));
    }
    Ok((!check.is_empty()).then_some(Value::Object(check)))
}

fn endpoints(flags: &NetFlags) -> Option<Value> {
    let network = flags.network.as_deref()?;
    let shared = network.contains(':') || matches!(network, "host" | "none" | "default");
    if shared && flags.network_alias.is_empty() && flags.ip.is_none() && flags.mac_address.is_none() {
        return None;
    }
    let mut endpoint = json!({ "Aliases": flags.network_alias });
    if let Some(ip) = &flags.ip {
        endpoint["IPAMConfig"] = json!({ "IPv4Address": ip });
    }
    if let Some(mac) = &flags.mac_address {
        endpoint["MacAddress"] = json!(mac);
    }
    Some(json!({ network: endpoint }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags::{Cli, Command};
    use clap::Parser;

    fn body(line: &str) -> Result<Value> {
        let cli = Cli::try_parse_from(std::iter::once("naru").chain(line.split_whitespace())).unwrap();
        match cli.command {
            Command::Run(run) => create_body(&run.create, Attach::default()),
            _ => unreachable!("the table only runs"),
        }
    }

    #[test]
    fn flags_reach_the_body() {
        let made = body("run --rm -it -m 64m --cpus 0.5 -p 127.0.0.1:8080:80 -p 53/udp -v v:/d -v /anon --network net --network-alias al --health-cmd true --health-interval 2s img sh -c x").unwrap();
        for (pointer, expect) in [
            ("/Image", json!("img")),
            ("/Cmd", json!(["sh", "-c", "x"])),
            ("/Tty", json!(true)),
            ("/HostConfig/Memory", json!(64 << 20)),
            ("/HostConfig/NanoCpus", json!(500_000_000)),
            ("/HostConfig/PortBindings/80~1tcp/0", json!({"HostIp": "127.0.0.1", "HostPort": "8080"})),
            ("/HostConfig/PortBindings/53~1udp/0", json!({"HostIp": "", "HostPort": ""})),
            ("/HostConfig/Binds", json!(["v:/d"])),
            ("/Volumes/~1anon", json!({})),
            ("/NetworkingConfig/EndpointsConfig/net/Aliases", json!(["al"])),
            ("/Healthcheck/Interval", json!(2_000_000_000i64)),
            ("/HostConfig/AutoRemove", json!(true)),
        ] {
            assert_eq!(made.pointer(pointer), Some(&expect), "{pointer}");
        }
    }

    #[test]
    fn port_ranges() {
        assert_eq!(ports(&["8000-8001:80-81".into()]).unwrap().len(), 2);
        assert_eq!(ports(&["8000-8010:80".into()]).unwrap()["80/tcp"][0]["HostPort"], "8000-8010");
        assert_eq!(ports(&["[::1]:1:2".into()]).unwrap()["2/tcp"][0]["HostIp"], "::1");
        for bad in ["x", "70000:80", "1-2:80-82", "::", "[::1:80", "5-4:1-2"] {
            assert!(ports(&[bad.to_owned()]).is_err(), "{bad}");
        }
    }

    #[test]
    fn bad_flags_are_named() {
        for (line, word) in [
            ("run -m 64x img", "64x"),
            ("run --cpus many img", "many"),
            ("run --ulimit nofile img", "nofile"),
            ("run --mount type=bind,sauce=/x img", "sauce"),
            ("run --health-interval 2 img", "\"2\""),
            ("run --env-file /does/not/exist img", "/does/not/exist"),
        ] {
            assert!(body(line).unwrap_err().message().contains(word), "{line}");
        }
    }
}
