//! A container's log as an iterator of records, oldest first, rotated files included.
//!
//! `LogReader` ends at the end of what is there; with a [`Stop`] it follows and waits for more until it is told that
//! nothing more comes ([`Stop::finish`]) or that nobody listens any more ([`Stop::cancel`]).
//! Files are named `log` (active), `log.1` (next older), …; the record format is [`naru_types::logrec`].

mod cursor;
mod files;
mod scan;
mod stop;
mod tail;

pub use stop::Stop;

use cursor::Cursor;
use naru_kernel::clock;
use naru_kernel::inotify::{Inotify, Watch};
use naru_types::logrec::Stream;
use naru_types::{Error, Timestamp};
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};

/// What to give of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogQuery {
    pub stdout: bool,
    pub stderr: bool,
    /// Records of this time or later.
    pub since: Option<Timestamp>,
    /// Records of this time or earlier; a follower ends when the clock passes it.
    pub until: Option<Timestamp>,
    /// Only the last so many lines of those that match; a line in several partial records counts once.
    pub tail: Option<u64>,
}

impl Default for LogQuery {
    fn default() -> Self {
        Self { stdout: true, stderr: true, since: None, until: None, tail: None }
    }
}

impl LogQuery {
    fn matches(&self, stream: Stream, at: Timestamp) -> bool {
        let wanted = match stream {
            Stream::Stdout => self.stdout,
            Stream::Stderr => self.stderr,
        };
        wanted && self.since.is_none_or(|since| at >= since) && self.until.is_none_or(|until| at <= until)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogRecord {
    pub stream: Stream,
    /// The line goes on in the next record of the stream.
    pub partial: bool,
    pub at: Timestamp,
    /// With its line feed.
    pub payload: Vec<u8>,
}

#[derive(Debug, thiserror::Error)]
#[error("cannot {step} {}", path.display())]
pub struct LogReadError {
    pub step: &'static str,
    pub path: PathBuf,
    pub source: io::Error,
}

impl From<LogReadError> for Error {
    fn from(error: LogReadError) -> Self {
        Error::internal(error.to_string()).with_source(error)
    }
}

pub struct LogReader {
    /// The active file.
    path: PathBuf,
    query: LogQuery,
    current: Option<Cursor>,
    newer: VecDeque<Cursor>,
    follow: Option<Follow>,
    over: bool,
}

struct Follow {
    inotify: Inotify,
    stop: Stop,
}

impl LogReader {
    /// Reads what is there now. `path` is the active file; a log that was never written to is empty.
    pub fn open(path: &Path, query: LogQuery) -> Result<Self, LogReadError> {
        let files = files::open_all(path)?;
        let mut cursors: VecDeque<Cursor> = match query.tail {
            Some(lines) => tail::last_lines(files, lines, &query)?,
            None => files.into_iter().map(|file| Cursor::new(file, 0)).collect(),
        };
        if let Some(since) = query.since {
            // A file that was last written before has nothing; the newest stays, to be followed.
            while cursors.len() > 1 && cursors.front().is_some_and(|cursor| cursor.last_written() < since) {
                cursors.pop_front();
            }
        }
        let current = cursors.pop_front();
        Ok(Self { path: path.to_owned(), query, current, newer: cursors, follow: None, over: false })
    }

    /// As [`LogReader::open`], and goes on with what is written later, across rotations.
    pub fn follow(path: &Path, query: LogQuery, stop: Stop) -> Result<Self, LogReadError> {
        let dir = path.parent().unwrap_or(Path::new("."));
        let watch = || -> io::Result<Inotify> {
            let inotify = Inotify::new()?;
            inotify.add(dir, Watch::MODIFY | Watch::CREATE | Watch::MOVED_TO)?;
            Ok(inotify)
        };
        // Watched before it is read: nothing falls between.
        let inotify =
            watch().map_err(|source| LogReadError { step: "watch", path: dir.to_owned(), source })?;
        let mut reader = Self::open(path, query)?;
        reader.follow = Some(Follow { inotify, stop });
        Ok(reader)
    }

    fn step(&mut self) -> Result<Option<LogRecord>, LogReadError> {
        loop {
            // Asked before reading: what was written before the container's end is found by the read after it.
            let finishing = self.follow.as_ref().is_none_or(|follow| follow.stop.is_finishing());
            if self.follow.as_ref().is_some_and(|follow| follow.stop.is_cancelled()) {
                return Ok(None);
            }
            if let Some(cursor) = &mut self.current {
                while let Some(record) = cursor.next()? {
                    if self.query.matches(record.stream, record.at) {
                        return Ok(Some(record));
                    }
                }
            }
            if let Some(newer) = self.newer.pop_front() {
                self.current = Some(newer);
                continue;
            }
            if self.follow.is_some() && self.find_newer()? {
                continue;
            }
            if finishing || !self.wait()? {
                return Ok(None);
            }
        }
    }

    /// Whether the file that was read has been rotated away and newer ones are there.
    fn find_newer(&mut self) -> Result<bool, LogReadError> {
        let at = self.current.as_ref().map(Cursor::inode);
        if at.is_some() && files::inode(&self.path)? == at {
            return Ok(false);
        }
        let files = files::open_all(&self.path)?;
        let after = files.iter().position(|file| Some(file.inode) == at).map_or(0, |position| position + 1);
        if let Some(cursor) = &mut self.current
            && after < files.len()
            && cursor.has_more()?
        {
            // Written between our last look and the rotation.
            return Ok(true);
        }
        self.newer.extend(files.into_iter().skip(after).map(|file| Cursor::new(file, 0)));
        Ok(!self.newer.is_empty())
    }

    /// Waits for a change. `false`: the time is over.
    fn wait(&mut self) -> Result<bool, LogReadError> {
        let Some(follow) = &mut self.follow else { return Ok(false) };
        let left = self.query.until.map(|until| until.0.saturating_sub(clock::now().0));
        if left.is_some_and(|left| left <= 0) {
            return Ok(false);
        }
        let failed = |source| LogReadError { step: "wait for changes of", path: self.path.clone(), source };
        follow.stop.wait(&follow.inotify, left).map_err(failed)?;
        Ok(true)
    }
}

impl Iterator for LogReader {
    type Item = Result<LogRecord, LogReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let item = self.step().transpose();
        self.over = !matches!(item, Some(Ok(_)));
        item
    }
}

#[cfg(test)]
mod tests;
