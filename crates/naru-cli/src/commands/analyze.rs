//! `naru image analyze`.

use super::archive::unusable;
use super::image::encode_name;
use crate::client::{Api, query};
use crate::flags::AnalyzeFlags;
use crate::{Outcome, output, table};
use naru_types::{Error, Result};
use naru_wire::analysis::{Analysis, Layer};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Most rows of each list that a person is shown; `--format json` has more of them.
const ROWS_MAX: usize = 8;
/// Most layers that a person is shown: the largest.
const LAYERS_MAX: usize = 24;
/// Longest command of a layer that is shown, in characters.
const COMMAND_CHARS_MAX: usize = 60;

pub fn analyze(api: &Api, flags: &AnalyzeFlags) -> Outcome {
    let sbom = match flags.format.as_str() {
        "spdx-json" => Some("spdx"),
        "cyclonedx-json" => Some("cyclonedx"),
        _ => None,
    };
    let name = encode_name(&flags.image);
    let found = api.get(&format!("/naru/v1/images/{name}/analysis{}", query(&[("sbom", sbom)])))?;
    let wrong = |error| Error::internal("the daemon's analysis can't be read").with_source(error);
    let text = if flags.format == "table" {
        let analysis: Analysis = serde_json::from_value(found).map_err(wrong)?;
        for note in &analysis.notes {
            output::talk(format_args!("note: {}", printable(note)));
        }
        summary(&flags.image, &analysis)
    } else {
        serde_json::to_string_pretty(&found).map_err(wrong)? + "\n"
    };
    match &flags.output {
        None => output::raw(text.as_bytes()),
        Some(path) => save(path, &text)?,
    }
    Ok(0)
}

/// Written beside and renamed, so that a failed command leaves no half document under the wanted name.
fn save(path: &str, text: &str) -> Result<()> {
    let part = format!("{path}.part");
    if let Err(error) = std::fs::write(&part, text) {
        let _ = std::fs::remove_file(&part);
        return Err(unusable(&part, error));
    }
    std::fs::rename(&part, path).map_err(|error| unusable(path, error))
}

fn summary(image: &str, found: &Analysis) -> String {
    let plural = |count: u64, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let mut head = vec![plural(found.layers.len() as u64, "layer"), plural(found.visible_files, "file")];
    if !found.distribution.is_empty() {
        head.insert(0, printable(&found.distribution));
    }
    let waste = &found.waste;
    let wasted = waste.overwritten_bytes.saturating_add(waste.removed_bytes);
    let mut text = format!("{image}: {}\n", head.join(", "));
    let percent = if found.total_bytes == 0 { 0.0 } else { wasted as f64 * 100.0 / found.total_bytes as f64 };
    let _ = writeln!(
        text,
        "{} in layers, {} of it seen by a container, {} ({percent:.0} %) wasted",
        size(found.total_bytes),
        size(found.visible_bytes),
        size(wasted)
    );
    section(&mut text, "", &["LAYER", "SIZE", "WASTED", "FILES", "MADE BY"], layers(&found.layers));
    let files = found.largest_files.iter().filter(|file| file.bytes > 0).take(ROWS_MAX);
    let files = files.map(|file| vec![size(file.bytes), file.layer.to_string(), path(&file.path)]);
    section(&mut text, "Largest files", &["SIZE", "LAYER", "PATH"], files.collect());
    let wasted = waste.files.iter().take(ROWS_MAX).map(|file| {
        let how = if file.is_removed { "removed" } else { "overwritten" };
        vec![
            size(file.bytes),
            file.layer.to_string(),
            format!("{how} by {}", file.hidden_by),
            path(&file.path),
        ]
    });
    section(&mut text, "Wasted", &["SIZE", "LAYER", "HOW", "PATH"], wasted.collect());
    packages(&mut text, found);
    if !found.advice.is_empty() {
        text.push_str("\nAdvice\n");
    }
    for advice in &found.advice {
        let saves = if advice.bytes == 0 { String::new() } else { format!("{}: ", size(advice.bytes)) };
        let _ = writeln!(text, "* {saves}{}", printable(&advice.text));
    }
    text
}

fn layers(layers: &[Layer]) -> Vec<Vec<String>> {
    let mut order: Vec<usize> = (0..layers.len()).collect();
    order.sort_by_key(|at| std::cmp::Reverse(layers[*at].bytes));
    order.truncate(LAYERS_MAX);
    order.sort_unstable();
    let row = |at: usize| {
        let layer = &layers[at];
        let number = (at + 1).to_string();
        vec![
            number,
            size(layer.bytes),
            size(layer.wasted_bytes),
            layer.files.to_string(),
            command(&layer.created_by),
        ]
    };
    let mut rows: Vec<Vec<String>> = order.iter().map(|at| row(*at)).collect();
    if layers.len() > rows.len() {
        let others = format!("and {} smaller layers", layers.len() - rows.len());
        rows.push(vec!["…".into(), String::new(), String::new(), String::new(), others]);
    }
    rows
}

/// The line of a Dockerfile, without what builders put around it.
fn command(created_by: &str) -> String {
    let words = printable(&created_by.split_whitespace().collect::<Vec<_>>().join(" "));
    let plain = words.strip_suffix(" # buildkit").unwrap_or(&words);
    let plain = plain.strip_prefix("/bin/sh -c #(nop) ").unwrap_or(plain);
    let plain = plain.replacen("/bin/sh -c ", if plain.starts_with("RUN ") { "" } else { "RUN " }, 1);
    if plain.chars().count() <= COMMAND_CHARS_MAX {
        return plain;
    }
    plain.chars().take(COMMAND_CHARS_MAX - 1).chain(['…']).collect()
}

fn packages(text: &mut String, found: &Analysis) {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for package in &found.packages {
        *counts.entry(package.ecosystem.name().to_owned()).or_default() += 1;
    }
    if counts.is_empty() {
        return;
    }
    let mut kinds: Vec<(String, usize)> = counts.into_iter().collect();
    kinds.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let kinds: Vec<String> = kinds.into_iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    let _ = writeln!(
        text,
        "\nPackages\n{} (listed by --format spdx-json, cyclonedx-json or json)",
        kinds.join(", ")
    );
}

fn section(text: &mut String, title: &str, heads: &[&str], rows: Vec<Vec<String>>) {
    if rows.is_empty() {
        return;
    }
    text.push('\n');
    if !title.is_empty() {
        text.push_str(title);
        text.push('\n');
    }
    text.push_str(&table::render(heads, &rows));
}

fn path(path: &str) -> String {
    format!("/{}", printable(path))
}

/// Names come from strangers: a terminal gets none of their control characters, nor marks that turn the direction of text.
fn printable(text: &str) -> String {
    let is_odd = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if is_odd(c) { '\u{fffd}' } else { c }).collect()
}

fn size(bytes: u64) -> String {
    table::human_size(i64::try_from(bytes).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use naru_wire::analysis::{Advice, Ecosystem, Package, SizedFile, Waste, WastedFile};

    #[test]
    fn the_summary() {
        let layer = |bytes, created_by: &str| Layer {
            bytes,
            files: 2,
            created_by: created_by.into(),
            ..Layer::default()
        };
        let file = |path: &str| SizedFile { path: path.into(), bytes: 300_000, layer: 1 };
        let package = Package {
            ecosystem: Ecosystem::Npm,
            name: "a".into(),
            version: "1".into(),
            purl: "pkg:npm/a@1".into(),
            license: String::new(),
            locations: Vec::new(),
        };
        let found = Analysis {
            layers: vec![
                layer(400_000, "/bin/sh -c #(nop)  ADD file:1 in / "),
                layer(100, "RUN /bin/sh -c rm\t/big # buildkit"),
            ],
            total_bytes: 400_100,
            visible_bytes: 100_100,
            visible_files: 1,
            largest_files: vec![file("etc/\u{1b}[31mred")],
            waste: Waste {
                removed_bytes: 300_000,
                files: vec![WastedFile {
                    path: "big".into(),
                    bytes: 300_000,
                    layer: 1,
                    hidden_by: 2,
                    is_removed: true,
                }],
                ..Waste::default()
            },
            packages: vec![package],
            advice: vec![Advice { text: "remove it".into(), bytes: 300_000 }],
            distribution: "debian 12".into(),
            ..Analysis::default()
        };
        let expect = "\
app:1: debian 12, 2 layers, 1 file
400kB in layers, 100kB of it seen by a container, 300kB (75 %) wasted

LAYER     SIZE      WASTED    FILES     MADE BY
1         400kB     0B        2         ADD file:1 in /
2         100B      0B        2         RUN rm /big

Largest files
SIZE      LAYER     PATH
300kB     1         /etc/\u{fffd}[31mred

Wasted
SIZE      LAYER     HOW            PATH
300kB     1         removed by 2   /big

Packages
1 npm (listed by --format spdx-json, cyclonedx-json or json)

Advice
* 300kB: remove it
";
        assert_eq!(summary("app:1", &found), expect);
    }

    #[test]
    fn many_layers_and_long_commands() {
        let all: Vec<Layer> = (0..30).map(|bytes| Layer { bytes, ..Layer::default() }).collect();
        let rows = layers(&all);
        assert_eq!((rows.len(), rows[0][0].as_str()), (LAYERS_MAX + 1, "7"));
        assert_eq!(rows[LAYERS_MAX][4], "and 6 smaller layers");
        assert_eq!(command(&"é".repeat(200)).chars().count(), COMMAND_CHARS_MAX);
    }
}
