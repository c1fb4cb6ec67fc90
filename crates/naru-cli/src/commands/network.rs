//! `network …`.

use super::for_each;
use crate::client::{Api, escape, filters, query};
use crate::flags::{ListFlags, NetworkCommand, NetworkCreateFlags};
use crate::request::pairs;
use crate::template::Template;
use crate::{Outcome, output, table};
use serde_json::{Value, json};

pub fn network(api: &Api, command: NetworkCommand) -> Outcome {
    match command {
        NetworkCommand::Create(flags) => create(api, &flags),
        NetworkCommand::Ls(flags) => list(api, &flags),
        NetworkCommand::Rm { names } => for_each(&names, |name| {
            api.delete(&format!("/networks/{}", escape(name)))?;
            output::line(name);
            Ok(())
        }),
        NetworkCommand::Inspect { format, names } => {
            super::inspect::show(&names, format.as_deref(), |name| {
                api.get(&format!("/networks/{}", escape(name)))
            })
        }
        NetworkCommand::Connect { alias, ip, network, container } => {
            let mut endpoint = json!({ "Aliases": alias });
            if let Some(ip) = ip {
                endpoint["IPAMConfig"] = json!({ "IPv4Address": ip });
            }
            let body = json!({ "Container": container, "EndpointConfig": endpoint });
            api.post(&format!("/networks/{}/connect", escape(&network)), Some(&body))?;
            Ok(0)
        }
        NetworkCommand::Disconnect { force, network, container } => {
            let body = json!({ "Container": container, "Force": force });
            api.post(&format!("/networks/{}/disconnect", escape(&network)), Some(&body))?;
            Ok(0)
        }
        NetworkCommand::Prune { force } => {
            super::volume::prune(api, "networks", "NetworksDeleted", force, &[])
        }
    }
}

fn create(api: &Api, flags: &NetworkCreateFlags) -> Outcome {
    let mut config = json!({});
    for (key, value) in [("Subnet", &flags.subnet), ("Gateway", &flags.gateway), ("IPRange", &flags.ip_range)]
    {
        if let Some(value) = value {
            config[key] = json!(value);
        }
    }
    let pools =
        if config.as_object().is_some_and(serde_json::Map::is_empty) { json!([]) } else { json!([config]) };
    let body = json!({
        "Name": flags.name,
        "Driver": flags.driver,
        "Internal": flags.internal,
        "Labels": pairs(&flags.label),
        "Options": pairs(&flags.opt),
        "IPAM": { "Config": pools },
    });
    let answer = api.post("/networks/create", Some(&body))?;
    output::line(answer["Id"].as_str().unwrap_or_default());
    Ok(0)
}

fn list(api: &Api, flags: &ListFlags) -> Outcome {
    let answer =
        api.get(&format!("/networks{}", query(&[("filters", filters(&flags.filter)?.as_deref())])))?;
    let rows: Vec<Value> = answer
        .as_array()
        .into_iter()
        .flatten()
        .map(|item| {
            let id = item["Id"].as_str().unwrap_or_default();
            json!({
                "ID": if flags.no_trunc { id.to_owned() } else { id.chars().take(12).collect() },
                "Name": item["Name"], "Driver": item["Driver"], "Scope": item["Scope"],
                "Internal": item["Internal"].to_string(), "Labels": item["Labels"],
            })
        })
        .collect();
    print_rows(
        &rows,
        flags,
        &[("NETWORK ID", "ID"), ("NAME", "Name"), ("DRIVER", "Driver"), ("SCOPE", "Scope")],
        "ID",
    )
}

/// A list as a table, by template, or only its keys.
pub fn print_rows(rows: &[Value], flags: &ListFlags, columns: &[(&str, &str)], key: &str) -> Outcome {
    if flags.quiet {
        rows.iter().for_each(|row| output::line(row[key].as_str().unwrap_or_default()));
        return Ok(0);
    }
    if let Some(format) = &flags.format {
        let template = Template::parse(format)?;
        for row in rows {
            output::line(template.render(row)?);
        }
        return Ok(0);
    }
    let heads: Vec<&str> = columns.iter().map(|(head, _)| *head).collect();
    let cells = |row: &Value| {
        columns.iter().map(|(_, key)| row[*key].as_str().unwrap_or_default().to_owned()).collect()
    };
    output::raw(table::render(&heads, &rows.iter().map(cells).collect::<Vec<_>>()).as_bytes());
    Ok(0)
}
