//! Containers, as the OCI runtime specification has them, and the keeper that holds them.
//!
//! # What it is
//! [`lower`] turns a `ContainerSpec` into an OCI `config.json`; [`spawn`] and [`exec`] turn that into a running
//! process with one clone3; [`cgroup`] limits, measures, freezes and kills it; [`seccomp`] compiles its filter;
//! [`keeper`] is the process that owns the children.
//!
//! # What it must not do
//! No async, no threads before a clone, no HTTP, no images, no network set-up: a network namespace comes as a
//! descriptor. No external programs but a runtime that the administrator has named ([`external`]).
//!
//! # Start reading at
//! [`request`], then [`plan`] (what the child does, as data) and [`child`] (the loop that does it).
//!
//! # Invariants
//! After clone3 the child only performs a prepared plan: no allocation, no lock, no panic. No path inside a
//! container's root reaches a system call as a string that is resolved from the host's root: targets are descriptors
//! from openat2(RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS) and mounts are attached descriptor to descriptor.
//!
//! Self-protection (CVE-2019-5736, CVE-2024-21626): the child is a clone of the keeper that becomes the container's own
//! program by execve; until then, and for ever in the tiny init of `--init`, it is undumpable, so /proc/<pid>/exe and
//! /proc/<pid>/mem are closed to the container, and every descriptor above 2 is close-on-exec. An image whose program is
//! `/proc/self/exe` does execute the keeper's binary again; the keeper therefore runs from a detached read-only mount
//! (`naru_kernel::own_exe`), through which nobody can write to it.
//!
//! # How it is tested
//! Pure parts beside their code; `tests/` runs real busybox containers as root.

pub mod apparmor;
pub mod capability;
pub mod cgroup;
mod child;
mod compile;
pub mod devices;
mod errors;
pub mod exec;
pub mod external;
pub mod gate;
pub mod hooks;
mod init;
pub mod keeper;
pub mod lower;
mod netdev;
mod notify;
pub mod oci;
mod outside;
mod plan;
mod report;
pub mod request;
pub mod resctrl;
pub mod rootfs;
mod rootless;
pub mod seccomp;
pub mod spawn;
pub mod user;
pub mod userns;
mod worker;

pub use compile::options::known as mount_options;
