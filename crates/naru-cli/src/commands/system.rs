//! `version`, `info`, `system …`.

use crate::client::{Api, Endpoint};
use crate::flags::{FormatFlag, SystemCommand};
use crate::template::Template;
use crate::{Outcome, daemon, output, table};
use naru_types::{Error, Kind};
use serde_json::{Value, json};

pub fn version(api: &Api, flag: &FormatFlag) -> Outcome {
    let server = api.get("/version")?;
    let client = json!({
        "Version": env!("CARGO_PKG_VERSION"),
        "ApiVersion": crate::client::API_VERSION,
        "Os": std::env::consts::OS,
        "Arch": std::env::consts::ARCH,
    });
    let both = json!({ "Client": client, "Server": server });
    if let Some(format) = &flag.format {
        output::line(Template::parse(format)?.render(&both)?);
        return Ok(0);
    }
    output::line(format_args!(
        "Client: naru {} (API {})",
        env!("CARGO_PKG_VERSION"),
        crate::client::API_VERSION
    ));
    let text =
        |pointer: &str| server.pointer(pointer).and_then(Value::as_str).unwrap_or("unknown").to_owned();
    output::line(format_args!(
        "Server: {} (answers as Docker {}, API {} to {})",
        text("/Platform/Name"),
        text("/Version"),
        text("/MinAPIVersion"),
        text("/ApiVersion")
    ));
    for part in server["Components"].as_array().into_iter().flatten() {
        output::line(format_args!(
            " {}: {}",
            part["Name"].as_str().unwrap_or_default(),
            part["Version"].as_str().unwrap_or_default()
        ));
    }
    output::line(format_args!(" Kernel: {}", text("/KernelVersion")));
    Ok(0)
}

pub fn info(api: &Api, flag: &FormatFlag) -> Outcome {
    let info = api.get("/info")?;
    if let Some(format) = &flag.format {
        output::line(Template::parse(format)?.render(&info)?);
        return Ok(0);
    }
    for (label, key) in [
        ("Containers", "Containers"),
        (" Running", "ContainersRunning"),
        (" Paused", "ContainersPaused"),
        (" Stopped", "ContainersStopped"),
        ("Images", "Images"),
        ("Server Version", "ServerVersion"),
        ("Storage Driver", "Driver"),
        ("Cgroup Driver", "CgroupDriver"),
        ("Cgroup Version", "CgroupVersion"),
        ("Kernel Version", "KernelVersion"),
        ("Operating System", "OperatingSystem"),
        ("Architecture", "Architecture"),
        ("CPUs", "NCPU"),
        ("Name", "Name"),
        ("Root Dir", "DockerRootDir"),
    ] {
        let value = match &info[key] {
            Value::String(text) => text.clone(),
            Value::Null => continue,
            other => other.to_string(),
        };
        output::line(format_args!("{label}: {value}"));
    }
    output::line(format_args!(
        "Total Memory: {}",
        table::binary_size(info["MemTotal"].as_u64().unwrap_or(0))
    ));
    for warning in info["Warnings"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        output::talk(warning);
    }
    Ok(0)
}

pub fn system(command: SystemCommand, endpoint: &Endpoint) -> Outcome {
    match command {
        SystemCommand::Start => {
            daemon::ensure_running(endpoint.path())?;
            Ok(0)
        }
        SystemCommand::Stop => stop(endpoint),
        SystemCommand::Df => df(&Api::connect(endpoint)?),
    }
}

/// A daemon that isn't running is as stopped as one can be.
fn stop(endpoint: &Endpoint) -> Outcome {
    let api = match Api::connect_only(endpoint) {
        Ok(api) => api,
        Err(error) if error.kind() == Kind::Unavailable => return Ok(0),
        Err(error) => return Err(error.into()),
    };
    api.post("/naru/v1/shutdown", None)?;
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while Api::connect_only(endpoint).is_ok() {
        if std::time::Instant::now() > deadline {
            return Err(Error::unavailable("the daemon was asked to end but still answers").into());
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    Ok(0)
}

fn df(api: &Api) -> Outcome {
    let usage = api.get("/system/df")?;
    let count = |key: &str| usage[key].as_array().map_or(0, Vec::len);
    let sum = |key: &str, pointer: &str| -> i64 {
        usage[key]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|item| item.pointer(pointer)?.as_i64())
            .filter(|size| *size > 0)
            .sum()
    };
    let rows = [
        ("Images", count("Images"), usage["LayersSize"].as_i64().unwrap_or(0)),
        ("Containers", count("Containers"), sum("Containers", "/SizeRw")),
        ("Local Volumes", count("Volumes"), sum("Volumes", "/UsageData/Size")),
        ("Build Cache", count("BuildCache"), sum("BuildCache", "/Size")),
    ]
    .map(|(name, count, size)| vec![name.to_owned(), count.to_string(), table::human_size(size)]);
    output::raw(table::render(&["TYPE", "TOTAL", "SIZE"], &rows).as_bytes());
    Ok(0)
}
