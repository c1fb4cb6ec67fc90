//! Credentials in headers: `X-Registry-Auth` for one registry, `X-Registry-Config` for all that a build may need.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use naru_image::{Credentials, Secret};
use naru_types::ImageRef;
use naru_types::reference::domain_of_address;
use naru_wire::image::AuthConfig;
use std::collections::BTreeMap;

/// The URL alphabet, padded or not: clients do both.
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, lenient());
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, lenient());

const fn lenient() -> GeneralPurposeConfig {
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent)
}

fn decode(text: &str) -> Option<Vec<u8>> {
    URL_SAFE.decode(text).or_else(|_| STANDARD.decode(text)).ok()
}

/// A header that cannot be read counts as absent, as in dockerd: a pull without credentials may well succeed.
pub fn credentials(header: &str) -> Credentials {
    let parsed = decode(header).and_then(|json| serde_json::from_slice::<AuthConfig>(&json).ok());
    parsed.map(from_config).unwrap_or_default()
}

/// What a client says of itself: a token goes before a password.
pub fn from_config(config: AuthConfig) -> Credentials {
    if !config.registrytoken.is_empty() {
        return Credentials::RegistryToken(Secret::new(config.registrytoken));
    }
    if !config.identitytoken.is_empty() {
        return Credentials::IdentityToken(Secret::new(config.identitytoken));
    }
    if !config.username.is_empty() {
        return Credentials::Password { username: config.username, password: Secret::new(config.password) };
    }
    let pair = decode(&config.auth).and_then(|bytes| String::from_utf8(bytes).ok());
    match pair.as_deref().and_then(|pair| pair.split_once(':')) {
        Some((username, password)) => Credentials::Password {
            username: username.to_owned(),
            password: Secret::new(password.trim_end_matches('\0')),
        },
        None => Credentials::Anonymous,
    }
}

/// Credentials by registry, for a build.
#[derive(Default)]
pub struct Registries(BTreeMap<String, Credentials>);

impl Registries {
    pub fn from_header(header: &str) -> Self {
        let parsed: Option<BTreeMap<String, AuthConfig>> =
            decode(header).and_then(|json| serde_json::from_slice(&json).ok());
        let entries = parsed.unwrap_or_default().into_iter();
        Self(
            entries
                .map(|(address, config)| (domain_of_address(&address).to_owned(), from_config(config)))
                .collect(),
        )
    }

    pub fn of(&self, image: &ImageRef) -> Credentials {
        self.0.get(image.domain()).cloned().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers() {
        assert_eq!(credentials("e30="), Credentials::Anonymous);
        assert_eq!(credentials("not base64!"), Credentials::Anonymous);
        let expect = Credentials::Password { username: "u".into(), password: Secret::new("p") };
        let plain = URL_SAFE.encode(br#"{"username":"u","password":"p"}"#);
        assert_eq!(credentials(plain.trim_end_matches('=')), expect);
        let joined = URL_SAFE.encode(format!(r#"{{"auth":"{}"}}"#, STANDARD.encode("u:p")));
        assert_eq!(credentials(&joined), expect);
    }

    #[test]
    fn by_registry() {
        let header = URL_SAFE
            .encode(br#"{"https://index.docker.io/v1/":{"username":"u"},"r:5000":{"identitytoken":"t"}}"#);
        let registries = Registries::from_header(&header);
        let of = |name| registries.of(&ImageRef::parse(name).unwrap());
        assert!(matches!(of("nginx"), Credentials::Password { .. }));
        assert!(matches!(of("r:5000/x"), Credentials::IdentityToken(_)));
        assert_eq!(of("other.io/x"), Credentials::Anonymous);
    }
}
