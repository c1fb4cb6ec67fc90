//! `list`: all containers of a root directory.

use super::state::Shown;
use super::{Call, Command, NONE, print, print_json};
use crate::container::Container;
use crate::error::OciError;
use crate::flags::{Order, flag, value};
use crate::store::check_id;
use std::fmt::Write;
use std::os::unix::fs::MetadataExt;

/// As Go's tabwriter with runc's settings.
const COLUMN_WIDTH_MIN: usize = 12;
const COLUMN_PADDING: usize = 3;

pub(super) const LIST: Command = Command {
    name: "list",
    about: "lists containers started by naru oci with the given root",
    arguments: "",
    flags: &[
        value("format", "f", "select one of: table or json (default: \"table\")"),
        flag("quiet", "q", "display only container IDs"),
    ],
    order: Order::Anywhere,
    positional: NONE,
    run,
};

fn run(call: &mut Call<'_>) -> Result<u8, OciError> {
    let json = match call.args.value("format") {
        None | Some("table") => false,
        Some("json") => true,
        Some(_) => return Err(OciError::Refused("invalid format option".into())),
    };
    let found = containers(call)?;
    if call.args.has("quiet") {
        let ids: Vec<&str> = found.iter().map(|(container, _)| container.state.id.as_str()).collect();
        return if ids.is_empty() { Ok(0) } else { print(&format!("{}\n", ids.join("\n"))) };
    }
    let shown: Vec<Shown<'_>> =
        found.iter().map(|(container, owner)| Shown::new(container, owner.clone())).collect();
    match json {
        false => print(&table(&shown)),
        // Go's nil slice.
        true if shown.is_empty() => print("null\n"),
        true => print_json(&shown),
    }
}

fn containers(call: &mut Call<'_>) -> Result<Vec<(Container, String)>, OciError> {
    let root = &call.globals.root;
    let entries = match std::fs::read_dir(root) {
        Err(cause) if cause.kind() == std::io::ErrorKind::NotFound && !call.globals.root_given => {
            return Ok(Vec::new());
        }
        other => other.map_err(|cause| OciError::file("open", root, cause))?,
    };
    let mut found = Vec::new();
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        let name = entry.file_name();
        // What is no id is being removed.
        let Some(id) = name.to_str().filter(|name| check_id(name).is_ok()) else { continue };
        let Ok(meta) = entry.metadata() else { continue };
        match Container::load(call.globals, id) {
            Ok(container) => found.push((container, owner(meta.uid()))),
            // Being made, or removed, right now.
            Err(OciError::NotExist) => {}
            Err(error) => call.log.warn(&format!("load container {id}: {error}")),
        }
    }
    found.sort_by(|(one, _), (other, _)| one.state.id.cmp(&other.state.id));
    Ok(found)
}

fn owner(uid: u32) -> String {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let number = uid.to_string();
    let name = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == number).then(|| name.to_owned())
    });
    name.unwrap_or_else(|| format!("#{number}"))
}

fn table(shown: &[Shown<'_>]) -> String {
    let head = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned);
    let body = shown.iter().map(|one| {
        let texts = [one.id, &one.pid.to_string(), one.status, one.bundle, one.created, &one.owner];
        texts.map(str::to_owned)
    });
    let rows: Vec<[String; 6]> = std::iter::once(head).chain(body).collect();
    let width = |column: usize| {
        let widest = rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        (widest + COLUMN_PADDING).max(COLUMN_WIDTH_MIN)
    };
    let widths: [usize; 6] = std::array::from_fn(width);
    let mut text = String::new();
    for row in &rows {
        let (last, cells) = row.split_last().map_or(("", &row[..0]), |(last, cells)| (last.as_str(), cells));
        for (cell, width) in cells.iter().zip(widths) {
            // Writing to a String cannot fail.
            let _ = write!(text, "{cell:<width$}");
        }
        text.push_str(last);
        text.push('\n');
    }
    text
}
