//! `volume …`. Nothing here removes a volume that wasn't named, but `prune`, which asks.

use super::for_each;
use super::network::print_rows;
use crate::client::{Api, escape, filters, query};
use crate::flags::{ListFlags, VolumeCommand};
use crate::request::pairs;
use crate::{Outcome, output, table};
use naru_types::Error;
use serde_json::{Value, json};
use std::io::{BufRead, IsTerminal};

pub fn volume(api: &Api, command: VolumeCommand) -> Outcome {
    match command {
        VolumeCommand::Create { label, opt, driver, name } => {
            let body = json!({ "Name": name.unwrap_or_default(), "Driver": driver, "Labels": pairs(&label), "DriverOpts": pairs(&opt) });
            let answer = api.post("/volumes/create", Some(&body))?;
            output::line(answer["Name"].as_str().unwrap_or_default());
            Ok(0)
        }
        VolumeCommand::Ls(flags) => list(api, &flags),
        VolumeCommand::Rm { force, names } => {
            let parameters = query(&[("force", force.then_some("1"))]);
            for_each(&names, |name| {
                api.delete(&format!("/volumes/{}{parameters}", escape(name)))?;
                output::line(name);
                Ok(())
            })
        }
        VolumeCommand::Inspect { format, names } => super::inspect::show(&names, format.as_deref(), |name| {
            api.get(&format!("/volumes/{}", escape(name)))
        }),
        VolumeCommand::Prune { force, all } => {
            let wanted: &[&str] = if all { &["all=true"] } else { &[] };
            prune(api, "volumes", "VolumesDeleted", force, wanted)
        }
    }
}

fn list(api: &Api, flags: &ListFlags) -> Outcome {
    let answer =
        api.get(&format!("/volumes{}", query(&[("filters", filters(&flags.filter)?.as_deref())])))?;
    let rows: Vec<Value> = answer["Volumes"].as_array().into_iter().flatten().cloned().collect();
    print_rows(&rows, flags, &[("DRIVER", "Driver"), ("VOLUME NAME", "Name")], "Name")
}

pub fn prune(api: &Api, noun: &str, key: &str, force: bool, wanted: &[&str]) -> Outcome {
    if !force && !confirmed(&format!("This removes all unused {noun}. Go on? [y/N] "))? {
        return Ok(0);
    }
    let wanted: Vec<String> = wanted.iter().map(|text| (*text).to_owned()).collect();
    let answer =
        api.post(&format!("/{noun}/prune{}", query(&[("filters", filters(&wanted)?.as_deref())])), None)?;
    for name in answer[key].as_array().into_iter().flatten().filter_map(Value::as_str) {
        output::line(name);
    }
    if let Some(bytes) = answer["SpaceReclaimed"].as_i64() {
        output::line(format_args!("\nTotal reclaimed space: {}", table::human_size(bytes)));
    }
    Ok(0)
}

fn confirmed(question: &str) -> naru_types::Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Err(Error::invalid("refusing to prune without being asked").with_hint("add --force"));
    }
    output::talk(question);
    let mut answer = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut answer)
        .map_err(|error| Error::internal("cannot read the answer").with_source(error))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
