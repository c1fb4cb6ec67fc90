//! HEALTHCHECK.

use crate::dockerfile::flags::Flags;
use crate::dockerfile::instruction::Command;
use crate::dockerfile::parse::command;
use crate::dockerfile::words;
use crate::error::{Position, Result};
use naru_types::image::Healthcheck;
use naru_types::quantity::parse_duration;

/// Docker's smallest interval, timeout and period.
const DURATION_NANOS_MIN: i64 = 1_000_000;

pub(super) fn parse(at: &Position, rest: &str, escape: char) -> Result<Healthcheck> {
    let names = ["interval", "timeout", "start-period", "start-interval", "retries"];
    let (flags, rest) = Flags::take(at, rest, escape, &names, &[])?;
    let duration = |name: &str| match flags.value(at, name)? {
        None => Ok(0),
        Some(text) => parse_duration(&text)
            .ok_or_else(|| at.hinted(format!("invalid duration {text:?} for --{name}"), "write 30s or 1m30s"))
            .and_then(|nanos| match nanos {
                1..DURATION_NANOS_MIN => Err(at.error(format!("Interval {name:?} cannot be less than 1ms"))),
                _ => Ok(nanos),
            }),
    };
    let retries = match flags.value(at, "retries")? {
        None => 0,
        Some(text) => text.parse::<u32>().map(i64::from).map_err(|_| match text.parse::<i64>() {
            Ok(_) => at.error(format!("--retries cannot be negative ({text})")),
            Err(_) => at.error(format!("--retries must be a number, not {text:?}")),
        })?,
    };
    let (kind, check) = words::keyword(rest);
    let test = match kind.to_ascii_uppercase().as_str() {
        "NONE" if check.is_empty() => vec!["NONE".to_owned()],
        "NONE" => return Err(at.error("HEALTHCHECK NONE takes no arguments")),
        "CMD" if check.is_empty() => return Err(at.error("Missing command after HEALTHCHECK CMD")),
        "CMD" => match command(at, check)? {
            Command::Exec(words) => std::iter::once("CMD".to_owned()).chain(words).collect(),
            Command::Shell(line) => vec!["CMD-SHELL".to_owned(), line],
        },
        _ => {
            return Err(at.hinted(
                format!("Unknown type {:?} in HEALTHCHECK (try CMD)", kind.to_ascii_uppercase()),
                "write HEALTHCHECK CMD command, or HEALTHCHECK NONE",
            ));
        }
    };
    Ok(Healthcheck {
        test,
        interval: duration("interval")?,
        timeout: duration("timeout")?,
        start_period: duration("start-period")?,
        start_interval: duration("start-interval")?,
        retries,
    })
}
