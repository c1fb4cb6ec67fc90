//! The instructions at work, one file each for those that touch files; [`config`] has the rest.

pub(crate) mod cache_mounts;
pub(crate) mod config;
pub(crate) mod copy;
pub(crate) mod copy_write;
pub(crate) mod from;
pub(crate) mod lent;
pub(crate) mod mounts;
pub(crate) mod run;
pub(crate) mod workdir;
