//! Reading what containers said.
//!
//! # What it is
//! [`container_log`] reads the log files that the keeper writes: since, until, tail, one stream or both, follow.
//!
//! # What it must not do
//! It knows files and records, no containers: whether one still runs is told to it. It never writes. No async: an
//! iterator that blocks, to be run on a thread of the caller's choice.
//!
//! # Start reading at
//! [`container_log`].
//!
//! # Invariants
//! A record is given as a whole or not at all; a torn tail and a rotation in the middle of reading are normal. What a
//! container writes into its log cannot pass for a record of its own.
//!
//! # How it is tested
//! Beside each module with real files and real inotify, rotation included.

pub mod container_log;
