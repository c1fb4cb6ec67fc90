//! `checkpoint` and `restore`: what CRIU is for.

use super::{Call, Command, ID, ONE};
use crate::container::Container;
use crate::criu;
use crate::error::OciError;
use crate::flags::Order;

pub(super) const CHECKPOINT: Command = Command {
    name: "checkpoint",
    about: "checkpoint a running container",
    arguments: ID,
    flags: criu::CHECKPOINT_FLAGS,
    order: Order::Anywhere,
    positional: ONE,
    run: checkpoint,
};

pub(super) const RESTORE: Command = Command {
    name: "restore",
    about: "restore a container from a previous checkpoint",
    arguments: ID,
    flags: criu::RESTORE_FLAGS,
    order: Order::Anywhere,
    positional: ONE,
    run: restore,
};

fn checkpoint(call: &mut Call<'_>) -> Result<u8, OciError> {
    let container = Container::load(call.globals, call.id())?;
    container.init()?;
    Err(criu::missing("checkpoint", call.globals))
}

fn restore(call: &mut Call<'_>) -> Result<u8, OciError> {
    Err(criu::missing("restore", call.globals))
}
