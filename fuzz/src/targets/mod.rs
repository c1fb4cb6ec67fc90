//! The targets, one file each.

mod auth;
mod dockerfile;
mod expand;
mod ignore;
mod layer;
mod manifest;
mod reference;
mod registry;
mod tar;
mod tar_input;
mod transfer;
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
        Box::new(dockerfile::Dockerfiles),
        Box::new(expand::Expansion),
        Box::new(ignore::IgnoreRules),
    ];
    if rustix::process::geteuid().is_root() {
        all.push(Box::new(unpack::Unpack::default()));
        all.push(Box::new(layer::Layer::default()));
        all.push(Box::new(transfer::Transfer::default()));
    }
    all
}
