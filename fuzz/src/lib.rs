//! Fuzzing without coverage: generators that know a format, mutations, and properties.
//!
//! # What it is
//! One [`Target`] per kind of input, and a [`run()`] that feeds it with the corpus, then with made inputs.
//!
//! # What it must not do
//! Call itself more than it is: nothing measures which code an input reaches.
//!
//! # Start reading at
//! [`run()`], then a target, say [`targets::unpack`].
//!
//! # Invariants
//! - A seed decides all inputs of a run, whatever the machine.
//! - An input that ends the process (a panic in another thread, a loop) is on disk before.
//!
//! # How it is tested
//! `tests/short.rs` runs each target with a fixed seed, and shows that a planted fault is found.

pub mod mutate;
pub mod random;
mod run;
pub mod targets;

pub use run::{Finding, Limits, Report, cases, run, run_one};

/// One kind of input and what must hold for it.
pub trait Target {
    fn name(&self) -> &'static str;
    /// A new input; of the format, or nearly.
    fn generate(&mut self, random: &mut random::Random) -> Vec<u8>;
    /// Words that mutations put in.
    fn words(&self) -> &'static [&'static [u8]];
    /// Runs the code; `Err` says which property is broken.
    fn check(&mut self, input: &[u8]) -> Result<(), String>;
}
