//! `image analyze`.

use super::image::encode_name;
use crate::client::{Api, query};
use crate::flags::AnalyzeFlags;
use crate::{Outcome, output, table};
use naru_types::{Error, Result};
use serde_json::Value;
use std::collections::BTreeMap;

/// Most rows of each table that a person is shown; `--format json` has them all.
const ROWS_MAX: usize = 10;

pub fn analyze(api: &Api, flags: &AnalyzeFlags) -> Outcome {
    let name = encode_name(&flags.image);
    let found =
        api.get(&format!("/naru/v1/images/{name}/analysis{}", query(&[("sbom", flags.sbom.as_deref())])))?;
    if flags.sbom.is_some() || flags.format.is_some() {
        let text = serde_json::to_string_pretty(&found)
            .map_err(|error| Error::internal("cannot write the answer").with_source(error))?;
        output::line(text);
        return Ok(0);
    }
    show(&flags.image, &found)?;
    Ok(0)
}

fn show(image: &str, found: &Value) -> Result<()> {
    let (total, visible) = (size(&found["total_bytes"]), size(&found["visible_bytes"]));
    let distribution =
        found["distribution"].as_str().filter(|text| !text.is_empty()).unwrap_or("no known distribution");
    output::line(format_args!("{image}: {total} in layers, {visible} visible, {distribution}"));
    let numbered = |(number, layer): (usize, &Value)| {
        let made = text(&layer["created_by"]).chars().take(60).collect();
        vec![
            (number + 1).to_string(),
            size(&layer["bytes"]),
            size(&layer["wasted_bytes"]),
            layer["files"].to_string(),
            made,
        ]
    };
    section(
        "LAYERS",
        &["LAYER", "SIZE", "WASTED", "FILES", "MADE BY"],
        list(&found["layers"]).iter().enumerate().map(numbered),
    );
    let sized = |item: &Value| vec![size(&item["bytes"]), format!("/{}", text(&item["path"]))];
    section(
        "LARGEST FILES",
        &["SIZE", "PATH"],
        list(&found["largest_files"]).iter().take(ROWS_MAX).map(sized),
    );
    section(
        "LARGEST DIRECTORIES",
        &["SIZE", "PATH"],
        list(&found["largest_directories"]).iter().take(ROWS_MAX).map(sized),
    );
    let wasted = |file: &Value| {
        let how = if file["is_removed"] == true { "removed" } else { "overwritten" };
        let path = format!("/{}", text(&file["path"]));
        vec![size(&file["bytes"]), file["layer"].to_string(), format!("{how} by {}", file["hidden_by"]), path]
    };
    section(
        "WASTE",
        &["SIZE", "LAYER", "HOW", "PATH"],
        list(&found["waste"]["files"]).iter().take(ROWS_MAX).map(wasted),
    );
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for package in list(&found["packages"]) {
        *counts.entry(text(&package["ecosystem"])).or_default() += 1;
    }
    section(
        "PACKAGES",
        &["KIND", "COUNT"],
        counts.iter().map(|(kind, count)| vec![(*kind).to_owned(), count.to_string()]),
    );
    let advice = |advice: &Value| vec![size(&advice["bytes"]), text(&advice["text"]).to_owned()];
    section("ADVICE", &["SAVES", "HOW"], list(&found["advice"]).iter().map(advice));
    for note in list(&found["notes"]) {
        output::talk(format_args!("note: {}", text(note)));
    }
    Ok(())
}

fn section(title: &str, heads: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    let rows: Vec<Vec<String>> = rows.collect();
    if !rows.is_empty() {
        output::line(format_args!("\n{title}"));
        output::raw(table::render(heads, &rows).as_bytes());
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn size(value: &Value) -> String {
    table::human_size(value.as_i64().unwrap_or(0))
}
