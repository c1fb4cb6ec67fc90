//! A container's log as a stream: `naru-observe` reads on a blocking thread, this feeds it through a channel.

use crate::container::Container;
use crate::engine::Engine;
use crate::options::LogOptions;
use crate::view::LogRecord;
use naru_observe::container_log::{LogQuery, LogReader, Stop};
use naru_types::{Error, Result};
use std::sync::Arc;
use tokio::sync::mpsc::{Receiver, Sender, channel};

/// Records in flight between the reader and a slow client.
const RECORDS_MAX: usize = 256;

impl Engine {
    /// With `follow` the stream ends when the run ends, at once when none is under way.
    pub async fn logs(&self, r: &str, options: LogOptions) -> Result<Receiver<LogRecord>> {
        let container = self.find(r)?;
        if !container.cell().spec.log.enabled {
            return Err(Error::not_implemented("configured logging driver does not support reading")
                .with_hint("start the container without --log-driver none"));
        }
        if !options.stdout && !options.stderr {
            return Err(Error::invalid("Bad parameters: you must choose at least one stream"));
        }
        let query = LogQuery {
            stdout: options.stdout,
            stderr: options.stderr,
            since: options.since,
            until: options.until,
            tail: options.tail,
        };
        let path = container.paths.log();
        let stop = Stop::new()
            .map_err(|error| Error::internal(format!("cannot follow a log: {error}")).with_source(error))?;
        let follow = options.follow;
        let (watched, ended) = (stop.clone(), Arc::clone(&container));
        let reader = self
            .blocking(move |_| {
                let opened = if follow {
                    LogReader::follow(&path, query, stop)
                } else {
                    LogReader::open(&path, query)
                };
                opened.map_err(Error::from)
            })
            .await?;
        let (sender, records) = channel(RECORDS_MAX);
        if follow {
            tokio::spawn(stop_at_the_end(self.arc(), ended, watched, sender.clone()));
        }
        tokio::task::spawn_blocking(move || pump(reader, &sender));
        Ok(records)
    }
}

/// Everything the process wrote is in the log before its exit is told, so "finish" loses nothing.
async fn stop_at_the_end(
    engine: Arc<Engine>,
    container: Arc<Container>,
    stop: Stop,
    sender: Sender<LogRecord>,
) {
    let mut active = container.active.subscribe();
    tokio::select! {
        _ = active.wait_for(|active| !*active) => stop.finish(),
        () = sender.closed() => stop.cancel(),
        () = engine.closed() => stop.finish(),
    }
}

fn pump(reader: LogReader, sender: &Sender<LogRecord>) {
    for record in reader {
        // A log that cannot be read further ends here: what was read is with the client already.
        let Ok(record) = record else { return };
        let record = LogRecord {
            stream: record.stream,
            partial: record.partial,
            at: record.at,
            payload: record.payload.into(),
        };
        if sender.blocking_send(record).is_err() {
            return;
        }
    }
}
