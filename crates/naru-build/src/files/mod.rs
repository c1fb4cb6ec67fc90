//! Trees of files: the context and its `.dockerignore`, the view of an image, and the writing of layers.
//! Everything is reached by descriptor from a root; no symbolic link leads out of one.

pub(crate) mod archive;
pub(crate) mod at;
pub(crate) mod download;
pub(crate) mod filter;
pub(crate) mod mount_points;
pub(crate) mod resolve;
pub(crate) mod source;
pub(crate) mod users;
pub(crate) mod view;
pub(crate) mod write;
#[cfg(test)]
mod write_tests;
