//! Bearer tokens (Docker's token authentication, distribution's `spec/auth/token` and `spec/auth/oauth`): a
//! password is shown with GET, a refresh token ("identity token") is exchanged with POST.
//!
//! What a 401 asks for is believed only when it comes from the registry that was asked: behind a redirect,
//! a stranger could name a token server of its own and be sent the password.

use super::answer::{ERROR_BYTES_MAX, error_of, read_limited, status_error};
use super::auth::{self, Challenge, Credentials, query_value};
use super::client::{title, transport_error};
use crate::error::{ImageError, Result};
use serde::Deserialize;
use ureq::http::{self, Method, Response, StatusCode, Uri};
use ureq::{Agent, Body, ResponseExt};

/// How naru calls itself to token servers.
const CLIENT_ID: &str = "naru";

/// The challenge of a registry at `base`; `None`: none that is understood.
pub fn challenge_of(base: &str, response: &Response<Body>) -> Result<Option<Challenge>> {
    let asked: Option<Uri> = base.parse().ok();
    let answered = response.get_uri();
    if asked.as_ref().and_then(place_of) != place_of(answered) {
        return Err(ImageError::Unauthorized {
            method: "Get",
            url: base.to_owned(),
            detail: format!(
                "the registry redirects to {}, which asks for a login of its own",
                answered.authority().map_or("another place", |authority| authority.as_str())
            ),
        });
    }
    let headers = response.headers().get_all("www-authenticate");
    Ok(headers.iter().filter_map(|value| value.to_str().ok()).find_map(auth::parse_challenge))
}

/// Host and port of a URL: `https://Host` and `https://host:443` are one place (RFC 3986, 6.2.3).
fn place_of(url: &Uri) -> Option<(String, u16)> {
    let port = match (url.port_u16(), url.scheme_str()) {
        (Some(port), _) => port,
        (None, Some("https")) => 443,
        (None, _) => 80,
    };
    Some((url.host()?.to_ascii_lowercase(), port))
}

pub struct TokenRequest<'a> {
    pub agent: &'a Agent,
    /// Of the registry that sent the challenge.
    pub base: &'a str,
    pub credentials: &'a Credentials,
    pub realm: &'a str,
    pub service: &'a str,
    /// Separated by spaces; `None` where only the credentials are tried.
    pub scope: Option<&'a str>,
    /// Whether a refresh token should come with it, to be kept instead of the password.
    pub wants_refresh_token: bool,
}

pub struct Tokens {
    pub access: String,
    pub refresh: Option<String>,
}

/// A token server's answer; older ones call it `token`, OAuth2 `access_token`.
#[derive(Deserialize)]
struct TokenAnswer {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
    #[serde(default)]
    refresh_token: String,
}

impl TokenRequest<'_> {
    pub fn fetch(&self) -> Result<Tokens> {
        self.check_realm()?;
        let mut response = match self.credentials {
            Credentials::IdentityToken(token) => self.exchange(token.reveal()),
            Credentials::Anonymous | Credentials::Password { .. } | Credentials::RegistryToken(_) => {
                self.ask()
            }
        }?;
        if response.status() == StatusCode::TOO_MANY_REQUESTS {
            return Err(status_error("Get", self.realm, &mut response));
        }
        if !response.status().is_success() {
            let detail = error_of(&mut response)
                .map_or_else(|| "unauthorized: incorrect username or password".to_owned(), |e| e.text());
            return Err(self.denied(detail));
        }
        let body = read_limited(&mut response, ERROR_BYTES_MAX, "the token answer")?;
        let answer: TokenAnswer = serde_json::from_slice(&body).map_err(|source| ImageError::Malformed {
            what: format!("the token answer of {}", self.realm),
            source,
        })?;
        let access = [answer.access_token, answer.token].into_iter().find(|token| !token.is_empty());
        let access = access.ok_or_else(|| self.denied("the answer holds no token".into()))?;
        let refresh = Some(answer.refresh_token).filter(|token| !token.is_empty());
        Ok(Tokens { access, refresh })
    }

    /// A verified registry must not be able to make a password travel in the clear.
    fn check_realm(&self) -> Result<()> {
        let is_secret = !matches!(self.credentials, Credentials::Anonymous | Credentials::RegistryToken(_));
        if is_secret && self.base.starts_with("https://") && !self.realm.starts_with("https://") {
            let what = "the registry asks for the password over an unencrypted connection";
            return Err(self.denied(what.into()));
        }
        Ok(())
    }

    fn exchange(&self, refresh_token: &str) -> Result<Response<Body>> {
        let mut form = format!(
            "grant_type=refresh_token&service={}&client_id={CLIENT_ID}&refresh_token={}",
            query_value(self.service),
            query_value(refresh_token)
        );
        if let Some(scope) = self.scope {
            form.push_str("&scope=");
            form.push_str(&query_value(scope));
        }
        let builder = http::Request::builder()
            .method(Method::POST)
            .uri(self.realm)
            .header("Content-Type", "application/x-www-form-urlencoded");
        let failed = |error: ureq::Error| transport_error(&Method::POST, self.realm, &error);
        let request = builder.body(form.as_bytes()).map_err(|error| failed(ureq::Error::Http(error)))?;
        self.agent.run(request).map_err(failed)
    }

    fn ask(&self) -> Result<Response<Body>> {
        let join = if self.realm.contains('?') { '&' } else { '?' };
        let mut url = format!("{}{join}service={}", self.realm, query_value(self.service));
        for scope in self.scope.into_iter().flat_map(|scopes| scopes.split(' ')) {
            url = format!("{url}&scope={}", query_value(scope));
        }
        if self.wants_refresh_token {
            url = format!("{url}&offline_token=true&client_id={CLIENT_ID}");
        }
        let failed = |error: ureq::Error| transport_error(&Method::GET, self.realm, &error);
        let mut builder = http::Request::builder().method(Method::GET);
        if let Credentials::Password { username, .. } = self.credentials {
            url = format!("{url}&account={}", query_value(username));
        }
        if let Some(basic) = self.credentials.basic() {
            builder = builder.header("Authorization", basic);
        }
        let request = builder.uri(&url).body(()).map_err(|error| failed(ureq::Error::Http(error)))?;
        self.agent.run(request).map_err(failed)
    }

    fn denied(&self, detail: String) -> ImageError {
        let is_exchange = matches!(self.credentials, Credentials::IdentityToken(_));
        let method = if is_exchange { &Method::POST } else { &Method::GET };
        ImageError::Unauthorized { method: title(method), url: self.realm.to_owned(), detail }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        let place = |text: &str| place_of(&text.parse().unwrap());
        assert_eq!(place("https://Host/v2/"), place("https://host:443"));
        assert_eq!(place("http://host"), place("http://host:80/x"));
        assert_ne!(place("https://host"), place("https://host:5000"));
        assert_ne!(place("https://host"), place("https://host.example"));
        assert_eq!(place("/relative"), None);
    }
}
