//! The reader against real files, written as the keeper writes them.

use super::*;
use naru_types::logrec::Header;
use std::fs::OpenOptions;
use std::io::Write;
use std::sync::mpsc;

fn record(stream: Stream, partial: bool, at: i64, payload: &str) -> Vec<u8> {
    let header = Header { len: payload.len() as u32, stream, partial, at: Timestamp(at) };
    [&header.encode()[..], payload.as_bytes()].concat()
}

fn append(path: &Path, bytes: &[u8]) {
    OpenOptions::new().append(true).create(true).open(path).unwrap().write_all(bytes).unwrap();
}

fn out(at: i64, text: &str) -> Vec<u8> {
    record(Stream::Stdout, false, at, text)
}

fn read(path: &Path, query: LogQuery) -> String {
    let records = LogReader::open(path, query).unwrap();
    records.map(|record| String::from_utf8(record.unwrap().payload).unwrap()).collect()
}

#[test]
fn filters_and_tail() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    assert_eq!(read(&log, LogQuery::default()), "");
    append(&dir.path().join("log.1"), &[out(1, "a\n"), record(Stream::Stderr, false, 2, "B\n")].concat());
    append(
        &log,
        &[record(Stream::Stdout, true, 3, "c"), record(Stream::Stdout, false, 4, "d\n"), out(5, "e\n")]
            .concat(),
    );
    append(&log, &out(6, "torn away\n")[..20]);
    let all = LogQuery::default();
    for (query, expect) in [
        (all, "a\nB\ncd\ne\n"),
        (LogQuery { stderr: false, ..all }, "a\ncd\ne\n"),
        (LogQuery { stdout: false, ..all }, "B\n"),
        (LogQuery { since: Some(Timestamp(4)), ..all }, "d\ne\n"),
        (LogQuery { until: Some(Timestamp(2)), ..all }, "a\nB\n"),
        (LogQuery { tail: Some(0), ..all }, ""),
        (LogQuery { tail: Some(1), ..all }, "e\n"),
        (LogQuery { tail: Some(2), ..all }, "cd\ne\n"),
        (LogQuery { tail: Some(3), ..all }, "B\ncd\ne\n"),
        (LogQuery { tail: Some(3), stderr: false, ..all }, "a\ncd\ne\n"),
        (LogQuery { tail: Some(1), until: Some(Timestamp(2)), ..all }, "B\n"),
        (LogQuery { tail: Some(99), ..all }, "a\nB\ncd\ne\n"),
    ] {
        assert_eq!(read(&log, query), expect, "{query:?}");
    }
}

/// Forged headers that form a chain of their own beside the true one: no block out of the middle can tell them apart.
#[test]
fn tail_of_a_forged_log() {
    const PAYLOAD_LEN: usize = 8 * 1024;
    const RECORDS: usize = 1300;
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let forged =
        Header { len: PAYLOAD_LEN as u32, stream: Stream::Stdout, partial: false, at: Timestamp(1) }.encode();
    let mut bytes = Vec::new();
    for number in 0..RECORDS {
        let text = format!("{number:0>width$}\n", width = PAYLOAD_LEN - forged.len() - 1);
        let header =
            Header { len: PAYLOAD_LEN as u32, stream: Stream::Stdout, partial: false, at: Timestamp(2) };
        bytes.extend([&header.encode()[..], &forged[..], text.as_bytes()].concat());
    }
    append(&log, &bytes);
    let query = LogQuery { tail: Some(3), ..LogQuery::default() };
    let records: Vec<_> = LogReader::open(&log, query).unwrap().map(Result::unwrap).collect();
    assert_eq!(records.len(), 3);
    assert!(records.iter().all(|record| record.at == Timestamp(2) && record.payload.len() == PAYLOAD_LEN));
    assert!(records[2].payload.ends_with(b"1299\n"));
}

#[test]
fn tail_of_a_large_file() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let mut content = Vec::new();
    for n in 0..100_000i64 {
        content.extend(out(n, &format!("line {n}\n")));
    }
    append(&log, &content);
    for lines in [1usize, 10, 9_999, 60_000, 100_000, 200_000] {
        let text = read(&log, LogQuery { tail: Some(lines as u64), ..LogQuery::default() });
        let first = 100_000usize.saturating_sub(lines);
        assert_eq!(text.lines().count(), lines.min(100_000));
        assert_eq!(text.lines().next().unwrap(), format!("line {first}"));
    }
}

#[test]
fn following_sees_every_record_across_rotations() {
    const LINES: i64 = 20_000;
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    append(&log, &out(0, "0\n"));
    let stop = Stop::new().unwrap();
    let (seen, receiver) = mpsc::channel();
    let reader = LogReader::follow(&log, LogQuery::default(), stop.clone()).unwrap();
    let thread = std::thread::spawn(move || {
        for record in reader {
            seen.send(String::from_utf8(record.unwrap().payload).unwrap()).unwrap();
        }
    });
    assert_eq!(receiver.recv().unwrap(), "0\n");
    let name = |n: u32| dir.path().join(format!("log.{n}"));
    let mut expect = 1;
    for n in 1..LINES {
        if n % 1000 == 0 {
            // Three files are kept; the follower may be up to two behind, so it is waited for before the third.
            while expect < n {
                assert_eq!(receiver.recv().unwrap(), format!("{expect}\n"));
                expect += 1;
            }
            let _ = std::fs::rename(name(1), name(2));
            std::fs::rename(&log, name(1)).unwrap();
        }
        append(&log, &out(n, &format!("{n}\n")));
    }
    stop.finish();
    for n in expect..LINES {
        assert_eq!(receiver.recv().unwrap(), format!("{n}\n"));
    }
    assert!(receiver.recv().is_err());
    thread.join().unwrap();
}

#[test]
fn a_follower_ends_when_told() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    for end in [Stop::finish, Stop::cancel] {
        let stop = Stop::new().unwrap();
        let mut reader =
            LogReader::follow(&log, LogQuery { tail: Some(0), ..LogQuery::default() }, stop.clone()).unwrap();
        let thread = std::thread::spawn(move || reader.next().is_none());
        end(&stop);
        assert!(thread.join().unwrap());
    }
    let past = LogQuery { until: Some(Timestamp(clock::now().0 + 20_000_000)), ..LogQuery::default() };
    assert_eq!(LogReader::follow(&log, past, Stop::new().unwrap()).unwrap().count(), 0);
}

#[test]
fn a_writer_that_cut_its_tail_is_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    append(&log, &[out(1, "one\n"), out(2, "two is longer\n")].concat());
    let stop = Stop::new().unwrap();
    let mut reader = LogReader::follow(&log, LogQuery::default(), stop.clone()).unwrap();
    let mut next = || String::from_utf8(reader.next().unwrap().unwrap().payload).unwrap();
    assert_eq!((next().as_str(), next().as_str()), ("one\n", "two is longer\n"));
    OpenOptions::new().write(true).open(&log).unwrap().set_len(out(1, "one\n").len() as u64).unwrap();
    append(&log, &[out(3, "three, and longer than two was\n"), out(4, "four\n")].concat());
    assert_eq!(next(), "four\n");
}
