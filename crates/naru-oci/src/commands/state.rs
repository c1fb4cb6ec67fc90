//! `state`: one container as JSON. The fields are runc's; the specification asks for a part of them.

use super::{Call, Command, ID, ONE, pretty, print};
use crate::container::Container;
use crate::error::OciError;
use crate::flags::Order;
use crate::status::Status;
use serde::Serialize;
use std::collections::BTreeMap;

pub(super) const STATE: Command = Command {
    name: "state",
    about: "output the state of a container",
    arguments: ID,
    flags: &[],
    order: Order::Anywhere,
    positional: ONE,
    run,
};

/// A container as `state` and `list` show it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Shown<'a> {
    oci_version: &'a str,
    pub id: &'a str,
    pub pid: i32,
    pub status: &'static str,
    pub bundle: &'a str,
    rootfs: &'a str,
    pub created: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
    /// Of the state directory: a user's name, or `#<uid>`; empty for `state`, as in runc.
    pub owner: String,
}

impl<'a> Shown<'a> {
    pub fn new(container: &'a Container, owner: String) -> Self {
        let state = &container.state;
        let status = container.status();
        let pid = match (status, state.init) {
            (Status::Stopped, _) | (_, None) => 0,
            (_, Some(init)) => init.pid,
        };
        Self {
            oci_version: &state.oci_version,
            id: &state.id,
            pid,
            status: status.name(),
            bundle: &state.bundle,
            rootfs: &state.rootfs,
            created: &state.created,
            annotations: &state.annotations,
            owner,
        }
    }
}

fn run(call: &mut Call<'_>) -> Result<u8, OciError> {
    let container = Container::load(call.globals, call.id())?;
    let text = pretty(&Shown::new(&container, String::new()), b"  ")?;
    // Without a newline at the end, as runc.
    print(&text)
}
