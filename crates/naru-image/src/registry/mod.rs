//! Talking to registries (OCI distribution-spec, Docker Registry HTTP API V2).
//!
//! [`client`] opens a [`client::Session`] with one registry for one repository, [`auth`] gets past its
//! door with the tokens of [`token`], [`login`] tries credentials, [`manifest`] reads what it serves,
//! [`download`] reads a blob through dropped connections, [`upload`] brings one there, [`referrers`] lists
//! what points to a manifest, [`patience`] says when to try again. [`endpoint`] says where all of that is,
//! by what [`hosts`] and [`tls`] read.

pub(crate) mod agents;
pub(crate) mod answer;
pub mod auth;
pub(crate) mod client;
pub(crate) mod download;
pub(crate) mod endpoint;
pub(crate) mod hosts;
pub mod login;
pub(crate) mod manifest;
pub(crate) mod patience;
pub(crate) mod referrers;
pub(crate) mod tls;
pub(crate) mod token;
pub(crate) mod upload;
