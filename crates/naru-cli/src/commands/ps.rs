//! `ps`, `top`, `port`: what runs, and where it can be reached.

use crate::client::{Api, escape, filters, query};
use crate::flags::PsFlags;
use crate::template::Template;
use crate::{Outcome, output, table};
use naru_types::Timestamp;
use serde_json::{Map, Value, json};

const HEADS: [&str; 7] = ["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"];
const COMMAND_LEN_MAX: usize = 20;

pub fn ps(api: &Api, flags: &PsFlags) -> Outcome {
    let limit = if flags.latest { Some(1) } else { flags.last.filter(|n| *n > 0) }.map(|n| n.to_string());
    let filters = filters(&flags.filter)?;
    let all = (flags.all || limit.is_some()).then_some("1");
    let parameters = query(&[("all", all), ("limit", limit.as_deref()), ("filters", filters.as_deref())]);
    let list = api.get(&format!("/containers/json{parameters}"))?;
    let rows: Vec<Value> =
        list.as_array().into_iter().flatten().map(|item| row(item, flags.no_trunc)).collect();
    if flags.quiet {
        rows.iter().for_each(|row| output::line(row["ID"].as_str().unwrap_or_default()));
        return Ok(0);
    }
    if let Some(format) = &flags.format {
        let template = Template::parse(format)?;
        if template.table {
            return Err(super::invalid("template: `table` is not supported; leave it out for plain lines"));
        }
        for row in &rows {
            output::line(template.render(row)?);
        }
        return Ok(0);
    }
    let cells = |row: &Value| {
        ["ID", "Image", "Command", "RunningFor", "Status", "Ports", "Names"]
            .map(|key| row[key].as_str().unwrap_or_default().to_owned())
            .to_vec()
    };
    output::raw(table::render(&HEADS, &rows.iter().map(cells).collect::<Vec<_>>()).as_bytes());
    Ok(0)
}

/// The fields that `--format` of docker ps knows.
fn row(item: &Value, no_trunc: bool) -> Value {
    let text = |key: &str| item.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (id, command) = (text("Id"), text("Command"));
    let created = item.get("Created").and_then(Value::as_i64).unwrap_or(0);
    let names: Vec<String> =
        strings(item.get("Names")).map(|name| name.trim_start_matches('/').to_owned()).collect();
    let labels = item.get("Labels").and_then(Value::as_object).cloned().unwrap_or_default();
    let networks =
        item.pointer("/NetworkSettings/Networks").and_then(Value::as_object).cloned().unwrap_or_default();
    json!({
        "ID": if no_trunc { id } else { id.chars().take(12).collect() },
        "Image": text("Image"),
        "Command": format!("\"{}\"", shorten(&command, no_trunc)),
        "CreatedAt": Timestamp::from_parts(created, 0).to_string(),
        "RunningFor": format!("{} ago", table::human_duration(now_secs() - created)),
        "Ports": ports(item.get("Ports")),
        "State": text("State"),
        "Status": text("Status"),
        "Names": names.join(","),
        "Labels": label_list(&labels),
        "Networks": networks.keys().cloned().collect::<Vec<_>>().join(","),
        "Mounts": item.get("Mounts").and_then(Value::as_array).into_iter().flatten()
            .filter_map(|mount| mount.get("Name").or(mount.get("Source")).and_then(Value::as_str)).collect::<Vec<_>>().join(","),
    })
}

fn label_list(labels: &Map<String, Value>) -> String {
    let mut list: Vec<String> =
        labels.iter().map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default())).collect();
    list.sort();
    list.join(",")
}

fn shorten(command: &str, no_trunc: bool) -> String {
    if no_trunc || command.chars().count() <= COMMAND_LEN_MAX {
        return command.to_owned();
    }
    command.chars().take(COMMAND_LEN_MAX - 1).chain(std::iter::once('…')).collect()
}

/// `0.0.0.0:8080->80/tcp, 9000/tcp`.
fn ports(list: Option<&Value>) -> String {
    let mut shown: Vec<String> = list
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|port| {
            let number = |key: &str| port.get(key).and_then(Value::as_u64);
            let private =
                format!("{}/{}", number("PrivatePort").unwrap_or(0), port["Type"].as_str().unwrap_or("tcp"));
            match (number("PublicPort"), port.get("IP").and_then(Value::as_str)) {
                (Some(public), Some(ip)) if ip.contains(':') => format!("[{ip}]:{public}->{private}"),
                (Some(public), Some(ip)) => format!("{ip}:{public}->{private}"),
                _ => private,
            }
        })
        .collect();
    shown.sort();
    shown.join(", ")
}

pub fn top(api: &Api, container: &str) -> Outcome {
    let answer = api.get(&format!("/containers/{}/top", escape(container)))?;
    let heads: Vec<&str> =
        answer["Titles"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let rows: Vec<Vec<String>> = answer["Processes"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|row| strings(Some(row)).map(str::to_owned).collect())
        .collect();
    output::raw(table::render(&heads, &rows).as_bytes());
    Ok(0)
}

pub fn port(api: &Api, container: &str) -> Outcome {
    let view = api.get(&format!("/containers/{}/json", escape(container)))?;
    let map = view.pointer("/NetworkSettings/Ports").and_then(Value::as_object).cloned().unwrap_or_default();
    for (private, bindings) in &map {
        for binding in bindings.as_array().into_iter().flatten() {
            let (ip, port) =
                (binding["HostIp"].as_str().unwrap_or(""), binding["HostPort"].as_str().unwrap_or(""));
            let address = if ip.contains(':') { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") };
            output::line(format_args!("{private} -> {address}"));
        }
    }
    Ok(0)
}

fn strings(value: Option<&Value>) -> impl Iterator<Item = &str> {
    value.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

pub fn now_secs() -> i64 {
    naru_kernel::clock::now().secs()
}
