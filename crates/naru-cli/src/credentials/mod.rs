//! Credentials for registries, where docker keeps them: in config.json, or in a credential helper that it
//! names. They travel in headers of the requests that need them; nothing is cached.

mod config;
mod helper;

pub use config::DockerConfig;

use crate::output;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use naru_types::reference::{DEFAULT_DOMAIN, domain_of_address};
use naru_types::{ImageRef, Result};
use naru_wire::image::AuthConfig;
use std::collections::BTreeMap;

/// The key of Docker Hub in config.json and in helpers.
const HUB_KEY: &str = "https://index.docker.io/v1/";

/// The key under which a registry's credentials are kept.
pub fn key_of(address: &str) -> &str {
    match domain_of_address(address) {
        DEFAULT_DOMAIN => HUB_KEY,
        domain => domain,
    }
}

/// `X-Registry-Auth` for this image. Credentials that cannot be had are said and done without, as docker
/// does: the image may be public.
pub fn header_for(image: &ImageRef) -> String {
    let found = DockerConfig::load().and_then(|config| lookup(&config, key_of(image.domain())));
    encode(&found.unwrap_or_else(|error| warn(&error)).unwrap_or_default())
}

/// `X-Registry-Config`: all that is known, by registry, because only the builder knows what it will pull.
pub fn header_for_all() -> String {
    encode(&DockerConfig::load().and_then(|config| all(&config)).unwrap_or_else(|error| warn(&error)))
}

/// What is kept for `key`.
pub fn lookup(config: &DockerConfig, key: &str) -> Result<Option<AuthConfig>> {
    let found = match config.helper_of(key) {
        Some(name) => helper::get(name, key)?,
        None => config.entry(key)?,
    };
    Ok(found.map(|auth| AuthConfig { serveraddress: key.to_owned(), ..auth }))
}

/// Keeps it, in place of what was there. `true`: as plain text in the file.
pub fn keep(config: &mut DockerConfig, key: &str, auth: &AuthConfig) -> Result<bool> {
    let name = config.helper_of(key).map(str::to_owned);
    match &name {
        Some(name) => helper::store(name, key, auth)?,
        None => config.set(key, auth),
    }
    if name.is_some() {
        // docker lists the registry in the file, without a secret, so that `logout` knows of it.
        config.set(key, &AuthConfig::default());
    }
    config.save()?;
    Ok(name.is_none())
}

/// `false`: nothing was kept.
pub fn forget(config: &mut DockerConfig, key: &str) -> Result<bool> {
    let name = config.helper_of(key).map(str::to_owned);
    let mut was_there = config.remove(key);
    if let Some(name) = name
        && helper::get(&name, key)?.is_some()
    {
        helper::erase(&name, key)?;
        was_there = true;
    }
    if was_there {
        config.save()?;
    }
    Ok(was_there)
}

fn all(config: &DockerConfig) -> Result<BTreeMap<String, AuthConfig>> {
    let mut keys = config.keys();
    if let Some(name) = config.default_helper() {
        keys.extend(helper::list(name)?);
    }
    let mut found = BTreeMap::new();
    for key in keys {
        if let Some(auth) = lookup(config, &key)? {
            found.insert(key, auth);
        }
    }
    Ok(found)
}

fn warn<T: Default>(error: &naru_types::Error) -> T {
    output::talk(format_args!("WARNING: going on without credentials: {}", error.chain()));
    T::default()
}

fn encode(value: &impl serde::Serialize) -> String {
    // Maps and structs of texts always become JSON.
    URL_SAFE.encode(serde_json::to_vec(value).unwrap_or_else(|_| b"{}".to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys() {
        assert_eq!(key_of(""), HUB_KEY);
        assert_eq!(key_of("docker.io"), HUB_KEY);
        assert_eq!(key_of("https://r.example:5000/v2/"), "r.example:5000");
        assert_eq!(encode(&AuthConfig::default()), "e30=");
    }
}
