//! `GET /containers/{id}/top`. There is no ps to run: the columns are made from /proc by the engine, and the usual
//! arguments of ps choose among them.

use crate::context::ApiContext;
use crate::web::request::Request;
use crate::web::respond::{self, Response};
use naru_engine::ProcessRow;
use naru_kernel::clock;
use naru_types::{Error, Result, Timestamp};
use naru_wire::inspect::Top;
use std::sync::Arc;

pub async fn top(context: Arc<ApiContext>, request: Request) -> Result<Response> {
    let columns = columns(request.query.text("ps_args"))?;
    let rows = context.engine.top(&request.name).await?;
    let now = clock::now();
    let line = |row: &ProcessRow| columns.iter().map(|column| (column.cell)(row, now)).collect();
    respond::json(&Top {
        processes: rows.iter().map(line).collect(),
        titles: columns.iter().map(|column| column.title.to_owned()).collect(),
    })
}

#[derive(Clone, Copy)]
struct Column {
    /// As `ps -o` names it.
    name: &'static str,
    title: &'static str,
    cell: fn(&ProcessRow, Timestamp) -> String,
}

const COLUMNS: [Column; 15] = [
    Column { name: "uid", title: "UID", cell: |row, _| row.uid.to_string() },
    Column { name: "user", title: "USER", cell: |row, _| row.user.clone() },
    Column { name: "pid", title: "PID", cell: |row, _| row.pid.to_string() },
    Column { name: "ppid", title: "PPID", cell: |row, _| row.ppid.to_string() },
    Column { name: "c", title: "C", cell: |row, _| row.cpu_percent.to_string() },
    Column { name: "pcpu", title: "%CPU", cell: |row, _| format!("{}.0", row.cpu_percent) },
    Column { name: "rss", title: "RSS", cell: |row, _| (row.rss_bytes / 1024).to_string() },
    Column { name: "stime", title: "STIME", cell: |row, now| start_time(row.started_at, now) },
    Column { name: "tty", title: "TTY", cell: |row, _| row.tty.clone() },
    Column { name: "time", title: "TIME", cell: |row, _| clock_time(row.cpu_secs) },
    Column { name: "comm", title: "COMMAND", cell: |row, _| row.comm.clone() },
    Column { name: "cmd", title: "CMD", cell: |row, _| row.command.clone() },
    Column { name: "args", title: "COMMAND", cell: |row, _| row.command.clone() },
    Column { name: "command", title: "COMMAND", cell: |row, _| row.command.clone() },
    Column { name: "%cpu", title: "%CPU", cell: |row, _| format!("{}.0", row.cpu_percent) },
];

fn columns(ps_args: &str) -> Result<Vec<Column>> {
    let words: Vec<&str> = ps_args.split_whitespace().collect();
    match words[..] {
        [] | ["-ef" | "-Af"] => {
            // `UID` of a full listing holds the user's name.
            let mut full = named("user,pid,ppid,c,stime,tty,time,cmd")?;
            full[0].title = "UID";
            Ok(full)
        }
        ["aux" | "-aux" | "axu"] => named("user,pid,%cpu,rss,tty,stime,time,command"),
        ["-o" | "o" | "-eo" | "-Ao", list] => named(list),
        _ => Err(Error::not_implemented(format!("ps arguments {ps_args:?} are not supported by naru"))
            .with_hint("use -ef, aux, or -o with uid,user,pid,ppid,c,pcpu,rss,stime,tty,time,cmd,args")),
    }
}

fn named(list: &str) -> Result<Vec<Column>> {
    let find = |name: &str| {
        let found = COLUMNS.iter().find(|column| column.name.eq_ignore_ascii_case(name)).copied();
        found.ok_or_else(|| Error::invalid(format!("ps: unknown column {name:?}")))
    };
    list.split(',').map(find).collect()
}

fn clock_time(secs: u64) -> String {
    format!("{:02}:{:02}:{:02}", secs / 3600, secs / 60 % 60, secs % 60)
}

/// The time of day within a day, the date before that (UTC).
fn start_time(at: Timestamp, now: Timestamp) -> String {
    const DAY_SECS: i64 = 86_400;
    let text = at.rfc3339_fixed();
    if now.secs() - at.secs() < DAY_SECS { text[11..16].to_owned() } else { text[..10].to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_of_a_full_listing() {
        let titles: Vec<_> = columns("").unwrap().iter().map(|column| column.title).collect();
        assert_eq!(titles, ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]);
        assert!(columns("-o pid,nope").is_err());
        assert!(columns("--forest").is_err());
        assert_eq!(clock_time(3725), "01:02:05");
    }
}
