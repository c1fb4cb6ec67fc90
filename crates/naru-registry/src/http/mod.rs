//! The specification's HTTP face.

mod access;
mod answer;
mod blobs;
mod body;
mod lists;
mod manifests;
mod patient;
pub(crate) mod range;
pub(crate) mod route;
pub(crate) mod server;
mod uploads;
