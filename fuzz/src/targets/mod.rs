//! The targets, one file each.

mod auth;
mod layer;
mod manifest;
mod reference;
mod registry;
mod tar;
mod tar_input;
pub mod unpack;

use crate::Target;

/// Those that touch a file system leave themselves out where they can't (no root).
pub fn all() -> Vec<Box<dyn Target>> {
    let mut all: Vec<Box<dyn Target>> = vec![
        Box::new(tar::Tar),
        Box::new(manifest::Manifests),
        Box::new(reference::References),
        Box::new(auth::Auth),
        Box::new(registry::Registry),
    ];
    if rustix::process::geteuid().is_root() {
        all.push(Box::new(unpack::Unpack::default()));
        all.push(Box::new(layer::Layer::default()));
    }
    all
}
