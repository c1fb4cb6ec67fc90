//! Every word said to the kernel that `rustix` does not say safely already.
//!
//! # What it is
//! One small module per subject: clone3, mounts, pidfds, namespaces, capabilities, seccomp, sockets that carry
//! file descriptors, inotify, randomness, clocks. All `unsafe` of the workspace is here.
//!
//! # What it must not do
//! No policy: nothing here knows what a container is. No logging, no global state, no threads but the one that
//! [`ns::new_netns`] ends before it returns.
//!
//! # Start reading at
//! [`process`] (how a child is made), then [`mount`] and [`path`].
//!
//! # Invariants
//! Functions that a child may call between clone and execve say so ("child-safe"): they neither allocate nor lock
//! nor panic, and report a bare [`Errno`]. One unsafe operation per block, each with its SAFETY.
//!
//! # How it is tested
//! Beside each module against the running kernel; whole containers in `naru-runtime/tests`.

pub mod caps;
pub mod clock;
pub mod devbpf;
mod entry;
pub mod exec;
pub mod fscontext;
pub mod inherit;
pub mod inotify;
pub mod instance;
pub mod keyring;
pub mod loopback;
pub mod mount;
pub mod mountinfo;
pub mod netlink;
pub mod ns;
pub mod orphans;
pub mod own_exe;
pub mod path;
pub mod pidfd;
pub mod prctl;
pub mod process;
pub mod random;
pub mod rlimit;
pub mod rusage;
pub mod scratch;
pub mod seccomp;
pub mod seccomp_notify;
pub mod signals;
mod sys;
pub mod systemd;
pub mod task;
pub mod tty;
pub mod unix;

pub use rustix::io::Errno;
