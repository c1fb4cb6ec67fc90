//! `images`, `pull`, `push`, `tag`, `rmi`.

use super::for_each;
use crate::client::{Api, Body, encode, filters, query};
use crate::flags::{ImagesFlags, PullFlags, PushFlags, RmiFlags};
use crate::template::Template;
use crate::{Outcome, credentials, output, table};
use naru_types::{ImageRef, Result, Timestamp};
use serde_json::{Value, json};

pub fn images(api: &Api, flags: &ImagesFlags) -> Outcome {
    let mut wanted = flags.filter.clone();
    wanted.extend(flags.repository.iter().map(|name| format!("reference={name}")));
    let parameters = query(&[("all", flags.all.then_some("1")), ("filters", filters(&wanted)?.as_deref())]);
    let list = api.get(&format!("/images/json{parameters}"))?;
    let rows: Vec<Value> =
        list.as_array().into_iter().flatten().flat_map(|item| rows(item, flags.no_trunc)).collect();
    if flags.quiet {
        let mut ids: Vec<&str> = rows.iter().filter_map(|row| row["ID"].as_str()).collect();
        ids.dedup();
        ids.iter().for_each(output::line);
        return Ok(0);
    }
    if let Some(format) = &flags.format {
        let template = Template::parse(format)?;
        for row in &rows {
            output::line(template.render(row)?);
        }
        return Ok(0);
    }
    let (heads, keys): (Vec<&str>, Vec<&str>) = if flags.digests {
        (
            vec!["REPOSITORY", "TAG", "DIGEST", "IMAGE ID", "CREATED", "SIZE"],
            vec!["Repository", "Tag", "Digest", "ID", "CreatedSince", "Size"],
        )
    } else {
        (
            vec!["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"],
            vec!["Repository", "Tag", "ID", "CreatedSince", "Size"],
        )
    };
    let cells =
        |row: &Value| keys.iter().map(|key| row[*key].as_str().unwrap_or_default().to_owned()).collect();
    output::raw(table::render(&heads, &rows.iter().map(cells).collect::<Vec<_>>()).as_bytes());
    Ok(0)
}

/// One row per tag; an image without one is `<none>`.
fn rows(item: &Value, no_trunc: bool) -> Vec<Value> {
    let id = item["Id"].as_str().unwrap_or_default();
    let short: String = id.trim_start_matches("sha256:").chars().take(12).collect();
    let created = item["Created"].as_i64().unwrap_or(0);
    let digest = item["RepoDigests"]
        .as_array()
        .and_then(|list| list.first())
        .and_then(Value::as_str)
        .and_then(|text| text.split_once('@'))
        .map_or("<none>", |(_, digest)| digest);
    let names: Vec<&str> =
        item["RepoTags"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let names = if names.is_empty() { vec!["<none>:<none>"] } else { names };
    names
        .into_iter()
        .map(|name| {
            let (repository, tag) = name.rsplit_once(':').unwrap_or((name, "<none>"));
            json!({
                "Repository": repository,
                "Tag": tag,
                "ID": if no_trunc { id } else { &short },
                "Digest": digest,
                "CreatedAt": Timestamp::from_parts(created, 0).to_string(),
                "CreatedSince": format!("{} ago", table::human_duration(super::ps::now_secs() - created)),
                "Size": table::human_size(item["Size"].as_i64().unwrap_or(0)),
                "Containers": "N/A",
            })
        })
        .collect()
}

pub fn pull(api: &Api, flags: &PullFlags) -> Outcome {
    pull_with_progress(api, &flags.image, flags.platform.as_deref(), flags.quiet)?;
    output::line(ImageRef::parse(&flags.image)?.with_default_tag());
    Ok(0)
}

/// Pulls and shows the progress on stderr; `quiet` shows only what went wrong.
pub fn pull_with_progress(api: &Api, image: &str, platform: Option<&str>, quiet: bool) -> Result<()> {
    let reference = ImageRef::parse(image)?.with_default_tag();
    let tag = reference.digest().map(ToString::to_string).or_else(|| reference.tag().map(str::to_owned));
    let parameters = query(&[
        ("fromImage", Some(&reference.repository())),
        ("tag", tag.as_deref()),
        ("platform", platform),
    ]);
    let header = credentials::header_for(&reference);
    let path = format!("/images/create{parameters}");
    let response = api.stream_with("POST", &path, Body::Empty, &[("X-Registry-Auth", &header)])?;
    crate::output::progress(response, quiet)
}

pub fn push(api: &Api, flags: &PushFlags) -> Outcome {
    let reference = ImageRef::parse(&flags.image)?.with_default_tag();
    let path = format!(
        "/images/{}/push{}",
        encode_name(&reference.familiar_repository()),
        query(&[("tag", reference.tag())])
    );
    let header = credentials::header_for(&reference);
    let response = api.stream_with("POST", &path, Body::Empty, &[("X-Registry-Auth", &header)])?;
    crate::output::progress(response, flags.quiet)?;
    output::line(reference);
    Ok(0)
}

pub fn tag(api: &Api, source: &str, target: &str) -> Outcome {
    let target = ImageRef::parse(target)?.with_default_tag();
    let parameters = query(&[("repo", Some(&target.familiar_repository())), ("tag", target.tag())]);
    api.post(&format!("/images/{}/tag{parameters}", encode_name(source)), None)?;
    Ok(0)
}

pub fn remove(api: &Api, flags: &RmiFlags) -> Outcome {
    let parameters = query(&[("force", flags.force.then_some("1"))]);
    for_each(&flags.images, |name| {
        let answer = api.delete(&format!("/images/{}{parameters}", encode_name(name)))?;
        for item in answer.as_array().into_iter().flatten() {
            for (key, value) in item.as_object().into_iter().flatten() {
                output::line(format_args!("{key}: {}", value.as_str().unwrap_or_default()));
            }
        }
        Ok(())
    })
}

/// An image name in a path: slashes stay, they are part of the route.
pub fn encode_name(name: &str) -> String {
    name.split('/').map(encode).collect::<Vec<_>>().join("/")
}
