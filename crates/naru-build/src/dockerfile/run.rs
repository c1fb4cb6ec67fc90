//! RUN and its `--mount`s.

use crate::dockerfile::flags::Flags;
use crate::dockerfile::instruction::{Command, Run, RunMount, RunMountKind, Sharing};
use crate::dockerfile::parse::command;
use crate::dockerfile::source::{LogicalLine, heredoc_start};
use crate::dockerfile::words;
use crate::error::{Position, Result};
use crate::runner::StepNetwork;
use naru_types::quantity::parse_bytes;
use naru_types::suggest::nearest;

const REFUSED: [(&str, &str); 2] = [
    (
        "security",
        "privileged build steps are not there yet; run such a command in a container with --privileged",
    ),
    ("device", "devices in build steps are not there yet"),
];

pub(super) fn parse(line: &LogicalLine, rest: &str, escape: char) -> Result<Run> {
    let at = &line.at;
    let (flags, rest) = Flags::take(at, rest, &["mount", "network"], &REFUSED)?;
    if rest.is_empty() {
        return Err(at.error("RUN requires at least one argument"));
    }
    let mounts = flags.values(at, "mount")?.iter().map(|text| mount(at, text)).collect::<Result<_>>()?;
    let network = match flags.value(at, "network")?.as_deref() {
        None | Some("default") => None,
        Some("none") => Some(StepNetwork::None),
        Some("host") => Some(StepNetwork::Host),
        Some(other) => {
            return Err(at.hinted(format!("unsupported network mode {other:?}"), "use default, none or host"));
        }
    };
    let mut run = Run { command: command(rest), script: None, mounts, network };
    if let Some(first) = line.heredocs.first() {
        let alone = words::split_quoted(rest, escape).len() == 1 && heredoc_start(rest).is_some();
        if alone && first.content.starts_with("#!") {
            run.script = Some(first.clone());
        } else if alone {
            let content = if first.chomp { cut_tabs(&first.content) } else { first.content.clone() };
            run.command = Command::Shell(content);
        } else {
            // The shell reads the heredocs itself.
            let bodies = line.heredocs.iter().map(|heredoc| format!("\n{}{}", heredoc.content, heredoc.name));
            run.command = Command::Shell(rest.to_owned() + &bodies.collect::<String>());
        }
    }
    Ok(run)
}

/// What `<<-` does to a heredoc's content.
pub(crate) fn cut_tabs(content: &str) -> String {
    content.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect()
}

#[derive(Default)]
struct MountKeys {
    kind: Option<String>,
    target: Option<String>,
    source: Option<String>,
    from: Option<String>,
    id: Option<String>,
    sharing: Option<String>,
    size: Option<String>,
    mode: Option<String>,
    uid: Option<String>,
    gid: Option<String>,
    read_only: Option<bool>,
}

fn mount(at: &Position, text: &str) -> Result<RunMount> {
    let keys = mount_keys(at, text)?;
    let kind = keys.kind.as_deref().unwrap_or("bind");
    if matches!(kind, "secret" | "ssh") {
        let hint = "secrets in build steps are not there yet; a multi-stage build keeps a build argument out of the final image";
        return Err(at.unsupported(format!("--mount=type={kind} is not supported"), hint));
    }
    let target = keys.target.clone().ok_or_else(|| at.hinted("--mount has no target", "add target=/path"))?;
    if target.contains('$') {
        return Err(at.unsupported("variables in --mount are not supported", "write the path itself"));
    }
    let number = |text: &Option<String>, name: &str| {
        let parsed = text.as_deref().map_or(Some(0), |text| text.parse::<u32>().ok());
        parsed.ok_or_else(|| at.error(format!("invalid {name} in --mount")))
    };
    let kind = match kind {
        "cache" => {
            if keys.from.is_some() || keys.source.is_some() {
                let hint = "the cache starts empty; fill it in a RUN";
                return Err(at.unsupported("from= and source= of a cache mount are not supported", hint));
            }
            RunMountKind::Cache {
                id: keys.id.clone().unwrap_or_else(|| target.clone()),
                sharing: sharing(at, keys.sharing.as_deref())?,
                read_only: keys.read_only.unwrap_or(false),
                mode: octal(at, keys.mode.as_deref().unwrap_or("0755"))?,
                uid: number(&keys.uid, "uid")?,
                gid: number(&keys.gid, "gid")?,
            }
        }
        "tmpfs" => {
            let size = match &keys.size {
                None => None,
                Some(text) => Some(
                    parse_bytes(text).ok_or_else(|| at.error(format!("invalid size {text:?} in --mount")))?,
                ),
            };
            RunMountKind::Tmpfs { size }
        }
        "bind" if keys.read_only == Some(false) => {
            return Err(
                at.unsupported("a writable bind mount is not supported", "copy the files with COPY instead")
            );
        }
        "bind" => RunMountKind::Bind {
            from: keys.from.clone(),
            source: keys.source.clone().unwrap_or_else(|| "/".into()),
        },
        other => {
            return Err(at.hinted(format!("unsupported mount type {other:?}"), "use cache, bind or tmpfs"));
        }
    };
    Ok(RunMount { target, kind })
}

fn mount_keys(at: &Position, text: &str) -> Result<MountKeys> {
    const KEYS: [&str; 16] = [
        "type",
        "target",
        "dst",
        "destination",
        "source",
        "src",
        "from",
        "id",
        "sharing",
        "size",
        "mode",
        "uid",
        "gid",
        "ro",
        "readonly",
        "rw",
    ];
    let mut keys = MountKeys::default();
    for field in text.split(',') {
        let (name, value) = field.split_once('=').unwrap_or((field, ""));
        let value = value.trim_matches('"').to_owned();
        let flag = matches!(value.as_str(), "" | "true" | "1");
        match name.trim_matches('"').to_ascii_lowercase().as_str() {
            "type" => keys.kind = Some(value),
            "target" | "dst" | "destination" => keys.target = Some(value),
            "source" | "src" => keys.source = Some(value),
            "from" => keys.from = Some(value),
            "id" => keys.id = Some(value),
            "sharing" => keys.sharing = Some(value),
            "size" => keys.size = Some(value),
            "mode" => keys.mode = Some(value),
            "uid" => keys.uid = Some(value),
            "gid" => keys.gid = Some(value),
            "ro" | "readonly" => keys.read_only = Some(flag),
            "rw" | "readwrite" => keys.read_only = Some(!flag),
            // Only a secret can be missing, and secrets are refused below.
            "required" | "env" if text.contains("type=secret") || text.contains("type=ssh") => {}
            unknown => {
                let message = format!("unexpected key {unknown:?} in --mount");
                return Err(match nearest(unknown, KEYS) {
                    Some(meant) => at.hinted(message, format!("did you mean {meant}?")),
                    None => at.hinted(message, format!("known: {}", KEYS.join(", "))),
                });
            }
        }
    }
    Ok(keys)
}

fn sharing(at: &Position, text: Option<&str>) -> Result<Sharing> {
    match text {
        None | Some("shared") => Ok(Sharing::Shared),
        Some("locked") => Ok(Sharing::Locked),
        Some("private") => Ok(Sharing::Private),
        Some(other) => {
            Err(at.hinted(format!("unsupported sharing value {other:?}"), "use shared, locked or private"))
        }
    }
}

/// File permissions in octal.
pub(crate) fn octal(at: &Position, text: &str) -> Result<u32> {
    u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777).ok_or_else(|| {
        at.unsupported(
            format!("invalid mode {text:?}"),
            "write the mode in octal, such as 755 or 0644; symbolic modes are not supported",
        )
    })
}
