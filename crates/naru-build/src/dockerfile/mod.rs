//! The Dockerfile language: text → logical lines ([`source`]) → words ([`words`]) → typed instructions
//! ([`instruction`], [`parse`]). Variables are expanded later, by [`expand`], when their values are known.

pub(crate) mod chmod;
pub(crate) mod copy;
pub(crate) mod expand;
#[cfg(test)]
mod expand_tests;
pub(crate) mod expose;
pub(crate) mod flags;
pub(crate) mod healthcheck;
#[cfg(test)]
mod hostile_tests;
pub(crate) mod instruction;
pub(crate) mod mount;
pub(crate) mod parse;
#[cfg(test)]
mod parse_tests;
pub(crate) mod run;
pub(crate) mod shell_pattern;
pub(crate) mod source;
pub(crate) mod words;
