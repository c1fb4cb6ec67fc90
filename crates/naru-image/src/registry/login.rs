//! Trying credentials at a registry's door, for `POST /auth`: nothing is kept here, the client keeps what
//! it was given (moby's `registry/auth.go`, `loginV2`, whose texts clients see).

use super::auth::{Challenge, Credentials, Secret};
use super::client::transport_error;
use super::endpoint::{self, Endpoint};
use super::token::{TokenRequest, challenge_of};
use crate::error::{ImageError, Result};
use crate::store::Store;
use naru_types::ImageRef;
use naru_types::reference::domain_of_address;
use ureq::http::{self, Method, Response, StatusCode};
use ureq::{Agent, Body};

/// What a registry gave for good credentials.
#[derive(Debug)]
pub struct Login {
    /// To be kept instead of the password.
    pub identity_token: Option<Secret>,
}

impl Store {
    /// Shows the credentials to the registry at `address` (`host[:port]`, or a URL; empty: Docker Hub).
    pub fn log_in(&self, address: &str, credentials: &Credentials) -> naru_types::Result<Login> {
        let domain = domain_of_address(address);
        // The grammar of references says what a host may look like.
        let is_host = ImageRef::parse(&format!("{domain}/x")).is_ok_and(|name| name.domain() == domain);
        if !is_host {
            return Err(ImageError::BadRegistry { address: address.to_owned() }.into());
        }
        let mut last = ImageError::BadRegistry { address: address.to_owned() };
        for endpoint in endpoint::of_registry(domain, &self.inner.config)? {
            match try_at(&self.inner.agents.agent(&endpoint.tls)?, &endpoint, credentials) {
                Ok(login) => return Ok(login),
                // It was the registry that answered: plain HTTP is for when none did.
                Err(error @ (ImageError::Unauthorized { .. } | ImageError::LoginRefused { .. })) => {
                    return Err(error.into());
                }
                Err(error) => last = error,
            }
        }
        Err(last.into())
    }
}

fn try_at(agent: &Agent, endpoint: &Endpoint, credentials: &Credentials) -> Result<Login> {
    let url = format!("{}{}/", endpoint.base, endpoint.api);
    let first = get(agent, &url, None)?;
    let challenge = match first.status() {
        StatusCode::UNAUTHORIZED => challenge_of(&endpoint.base, &first)?,
        _ => None,
    };
    let denied = |detail: &str| ImageError::Unauthorized {
        method: "Get",
        url: url.clone(),
        detail: detail.to_owned(),
    };
    let (answer, identity_token) = match challenge {
        None => (first, None),
        Some(Challenge::Basic) => {
            let basic = credentials.basic().ok_or_else(|| denied("no basic auth credentials"))?;
            (get(agent, &url, Some(&basic))?, None)
        }
        Some(Challenge::Bearer { realm, service, scope }) => {
            let request = TokenRequest {
                agent,
                base: &endpoint.base,
                credentials,
                realm: &realm,
                service: service.as_deref().unwrap_or_default(),
                scope: scope.as_deref(),
                wants_refresh_token: true,
            };
            let tokens = request.fetch().map_err(|error| match error {
                ImageError::Unauthorized { detail, .. } => denied(&detail),
                other => other,
            })?;
            (get(agent, &url, Some(&format!("Bearer {}", tokens.access)))?, tokens.refresh)
        }
    };
    if answer.status() != StatusCode::OK {
        return Err(ImageError::LoginRefused { url, status: answer.status().to_string() });
    }
    Ok(Login { identity_token: identity_token.map(Secret::new) })
}

fn get(agent: &Agent, url: &str, authorization: Option<&str>) -> Result<Response<Body>> {
    let failed = |error: ureq::Error| transport_error(&Method::GET, url, &error);
    let mut builder = http::Request::builder().method(Method::GET).uri(url);
    if let Some(value) = authorization {
        builder = builder.header("Authorization", value);
    }
    let request = builder.body(()).map_err(|error| failed(ureq::Error::Http(error)))?;
    agent.run(request).map_err(failed)
}
