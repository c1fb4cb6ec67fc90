//! `history`: the steps that made an image.

use super::image::encode_name;
use super::ps::now_secs;
use crate::client::Api;
use crate::flags::HistoryFlags;
use crate::template::Template;
use crate::{Outcome, output, table};
use naru_types::Timestamp;
use serde_json::{Value, json};

/// Characters of a command in the table, as Docker shows it.
const CREATED_BY_LEN_MAX: usize = 45;

pub fn history(api: &Api, flags: &HistoryFlags) -> Outcome {
    let steps = api.get(&format!("/images/{}/history", encode_name(&flags.image)))?;
    let rows: Vec<Value> =
        steps.as_array().into_iter().flatten().map(|step| row(step, flags.no_trunc)).collect();
    if flags.quiet {
        rows.iter().filter_map(|row| row["ID"].as_str()).for_each(output::line);
        return Ok(0);
    }
    if let Some(format) = &flags.format {
        let template = Template::parse(format)?;
        for row in &rows {
            output::line(template.render(row)?);
        }
        return Ok(0);
    }
    let keys = ["ID", "CreatedSince", "CreatedBy", "Size", "Comment"];
    let cells =
        |row: &Value| keys.iter().map(|key| row[*key].as_str().unwrap_or_default().to_owned()).collect();
    let heads = ["IMAGE", "CREATED", "CREATED BY", "SIZE", "COMMENT"];
    output::raw(table::render(&heads, &rows.iter().map(cells).collect::<Vec<_>>()).as_bytes());
    Ok(0)
}

fn row(step: &Value, no_trunc: bool) -> Value {
    let text = |key: &str| step[key].as_str().unwrap_or_default();
    let (id, created) = (text("Id"), step["Created"].as_i64().unwrap_or(0));
    let short = || id.trim_start_matches("sha256:").chars().take(12).collect();
    json!({
        "ID": if no_trunc { id.to_owned() } else { short() },
        "CreatedAt": Timestamp::from_parts(created, 0).to_string(),
        "CreatedSince": format!("{} ago", table::human_duration(now_secs() - created)),
        "CreatedBy": if no_trunc { text("CreatedBy").to_owned() } else { cut(text("CreatedBy")) },
        "Size": table::human_size(step["Size"].as_i64().unwrap_or(0)),
        "Comment": text("Comment"),
    })
}

/// On one line, and short enough for it.
fn cut(command: &str) -> String {
    let line = command.replace(['\n', '\t'], " ");
    if line.chars().count() <= CREATED_BY_LEN_MAX {
        return line;
    }
    line.chars().take(CREATED_BY_LEN_MAX - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_commands_are_cut_to_a_line() {
        assert_eq!(cut("RUN a\n\tb"), "RUN a  b");
        let long = cut(&"ä".repeat(100));
        assert_eq!((long.chars().count(), long.ends_with('…')), (CREATED_BY_LEN_MAX, true));
        let shown = row(&json!({"Id": "<missing>", "Created": 0, "CreatedBy": "x", "Size": 1500}), false);
        assert_eq!((shown["ID"].as_str(), shown["Size"].as_str()), (Some("<missing>"), Some("1.5kB")));
    }
}
