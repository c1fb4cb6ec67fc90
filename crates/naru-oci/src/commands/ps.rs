//! `ps`: the processes of a container, as pids in JSON or as the table of `ps -ef`, read from /proc.

use super::{Call, Command, print, print_json};
use crate::container::Container;
use crate::error::OciError;
use crate::flags::{Count, Order, value};
use std::fmt::Write;

pub(super) const PS: Command = Command {
    name: "ps",
    about: "ps displays the processes running inside a container",
    arguments: "<container-id> [-ef]",
    flags: &[value("format", "f", "select one of: table or json (default: \"table\")")],
    order: Order::FlagsFirst,
    positional: Count { min: 1, max: usize::MAX },
    run,
};

const TICKS_PER_SECOND: u64 = 100;

fn run(call: &mut Call<'_>) -> Result<u8, OciError> {
    // containerd gives the format after the id, too.
    let (format, options) = split(call)?;
    let container = Container::load(call.globals, call.id())?;
    let mut pids = match container.cgroup()? {
        Some(cgroup) => cgroup.pids()?,
        None => container.init().map(|(init, _)| vec![init.pid]).into_iter().flatten().collect(),
    };
    pids.sort_unstable();
    match format {
        Some("json") => print_json(&pids),
        None | Some("table") => {
            if let Some(other) = options.iter().find(|option| !matches!(**option, "-ef" | "-e" | "-f")) {
                return Err(OciError::Unsupported {
                    what: format!("the ps option {other:?}"),
                    hint: "there is -ef, or --format json for the pids".into(),
                });
            }
            print(&table(&pids))
        }
        Some(_) => Err(OciError::Refused("invalid format option".into())),
    }
}

fn split<'a>(call: &Call<'a>) -> Result<(Option<&'a str>, Vec<&'a str>), OciError> {
    let mut format = call.args.value("format");
    let mut options = Vec::new();
    let mut words = call.args.positional.iter().copied().skip(1);
    while let Some(word) = words.next() {
        if word == "--format" {
            format = Some(words.next().ok_or_else(|| OciError::MissingValue("-format".into()))?);
        } else if let Some(value) = word.strip_prefix("--format=") {
            format = Some(value);
        } else {
            options.push(word);
        }
    }
    Ok((format, options))
}

fn table(pids: &[i32]) -> String {
    let mut text = String::from("UID          PID    PPID  TTY          TIME CMD\n");
    for row in pids.iter().filter_map(|pid| Row::read(*pid)) {
        let seconds = row.ticks / TICKS_PER_SECOND;
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "{:<8} {:>7} {:>7}  {:<8} {:02}:{:02}:{:02} {}",
            row.uid,
            row.pid,
            row.ppid,
            row.tty,
            seconds / 3600,
            seconds / 60 % 60,
            seconds % 60,
            row.command
        );
    }
    text
}

struct Row {
    uid: u32,
    pid: i32,
    ppid: i32,
    tty: String,
    ticks: u64,
    command: String,
}

impl Row {
    /// `None`: it has ended meanwhile.
    fn read(pid: i32) -> Option<Self> {
        let directory = format!("/proc/{pid}");
        let uid = rustix::fs::stat(directory.as_str()).ok()?.st_uid;
        let stat = String::from_utf8_lossy(&std::fs::read(format!("{directory}/stat")).ok()?).into_owned();
        let (head, tail) = stat.rsplit_once(')')?;
        let name = head.split_once('(')?.1;
        // proc_pid_stat(5) from field 3 on.
        let fields: Vec<&str> = tail.split_ascii_whitespace().collect();
        let number = |field: usize| fields.get(field - 3).and_then(|text| text.parse::<i64>().ok());
        let line = std::fs::read(format!("{directory}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).trim_end_matches('\0').replace('\0', " ");
        Some(Self {
            uid,
            pid,
            ppid: number(4)? as i32,
            tty: tty(number(7)? as u64),
            ticks: (number(14)? + number(15)?) as u64,
            command: if line.is_empty() { format!("[{name}]") } else { line },
        })
    }
}

/// Minor in bits 31 to 20 and 7 to 0, major in 15 to 8.
fn tty(device: u64) -> String {
    const PTS_MAJOR: u64 = 136;
    let (major, minor) = (device >> 8 & 0xff, device & 0xff | device >> 12 & 0xfff00);
    if major == PTS_MAJOR { format!("pts/{minor}") } else { "?".into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_row() {
        let row = Row::read(std::process::id() as i32).unwrap();
        assert!(row.ppid > 0 && !row.command.is_empty());
        assert_eq!((tty(0), tty(136 << 8 | 3)), ("?".to_owned(), "pts/3".to_owned()));
    }
}
