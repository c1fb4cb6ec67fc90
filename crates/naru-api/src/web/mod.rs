//! HTTP without Docker's nouns: server, router, requests, responses, hijacking.

pub mod body;
pub mod filters;
pub mod hijack;
pub mod request;
pub mod respond;
pub mod router;
pub mod server;
pub mod version;

#[cfg(test)]
mod tests;
