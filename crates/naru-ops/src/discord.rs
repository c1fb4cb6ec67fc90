//! One POST to a Discord webhook, and what its answer means (Discord's "Rate Limits" and "Execute Webhook").

use crate::webhook::WebhookUrl;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use ureq::http::{HeaderMap, StatusCode};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body};

/// Longest whole exchange, in seconds.
const EXCHANGE_SECS_MAX: u64 = 15;
/// What is read of an answer, in bytes.
const ANSWER_LEN_MAX: u64 = 16 * 1024;
/// What is kept of an answer for people, in characters.
const QUOTE_LEN_MAX: usize = 200;
/// A wait that the receiver asks for is kept, up to so many seconds.
const WAIT_SECS_MAX: f64 = 3600.0;
/// When a 429 does not say how long, in seconds.
const WAIT_SECS_DEFAULT: f64 = 5.0;

#[derive(Debug, PartialEq)]
pub(crate) enum Verdict {
    /// Delivered; the next one may go after so long.
    Taken { pause: Duration },
    /// Rate limited: nothing may be sent for so long.
    Wait { pause: Duration },
    /// Perhaps later.
    Retry { error: String },
    /// This message never; `webhook_gone`: and no other one either.
    Refused { error: String, webhook_gone: bool },
}

pub(crate) struct Poster {
    agent: Agent,
    /// Without the environment's proxy, for a receiver on this machine.
    direct: Agent,
}

impl Poster {
    pub fn new() -> Self {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        // A host without certificates can still post to loopback; to others the handshake fails and says why.
        let native = rustls_native_certs::load_native_certs().certs;
        let roots = native
            .iter()
            .map(|certificate| Certificate::from_der(certificate).to_owned())
            .collect::<Vec<_>>();
        let tls = TlsConfig::builder()
            .unversioned_rustls_crypto_provider(provider)
            .root_certs(RootCerts::new_with_certs(&roots))
            .build();
        let common = || {
            Agent::config_builder()
                .tls_config(tls.clone())
                .timeout_global(Some(Duration::from_secs(EXCHANGE_SECS_MAX)))
                .max_redirects(0)
                .http_status_as_error(false)
                .user_agent("naru")
        };
        Self { agent: common().build().into(), direct: common().proxy(None).build().into() }
    }

    /// Blocks. No text that comes back holds the webhook's address.
    pub fn post(&self, url: &WebhookUrl, message: &Value) -> Verdict {
        let agent = if url.is_loopback() { &self.direct } else { &self.agent };
        let sent = agent.post(url.reveal()).content_type("application/json").send(message.to_string());
        match sent {
            Ok(response) => judge(url, response),
            Err(error) => Verdict::Retry { error: hide(&error.to_string(), url) },
        }
    }
}

fn judge(url: &WebhookUrl, response: ureq::http::Response<Body>) -> Verdict {
    let (parts, mut body) = response.into_parts();
    let text = body.with_config().limit(ANSWER_LEN_MAX).read_to_string().unwrap_or_default();
    let said: String = hide(&text, url).chars().filter(|c| !c.is_control()).take(QUOTE_LEN_MAX).collect();
    let error = format!("{}: {said}", parts.status);
    match parts.status {
        status if status.is_success() => Verdict::Taken { pause: pause_after_success(&parts.headers) },
        StatusCode::TOO_MANY_REQUESTS => Verdict::Wait { pause: pause_of_429(&parts.headers, &text) },
        StatusCode::REQUEST_TIMEOUT => Verdict::Retry { error },
        status if status.is_server_error() => Verdict::Retry { error },
        status => {
            let gone =
                [StatusCode::UNAUTHORIZED, StatusCode::FORBIDDEN, StatusCode::NOT_FOUND, StatusCode::GONE];
            Verdict::Refused { error, webhook_gone: gone.contains(&status) }
        }
    }
}

fn number(headers: &HeaderMap, name: &str) -> Option<f64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

fn seconds(secs: f64) -> Duration {
    Duration::try_from_secs_f64(secs.clamp(0.0, WAIT_SECS_MAX)).unwrap_or_default()
}

/// The bucket is empty: do not run into the 429.
fn pause_after_success(headers: &HeaderMap) -> Duration {
    let empty = number(headers, "x-ratelimit-remaining").is_some_and(|left| left < 1.0);
    let reset = number(headers, "x-ratelimit-reset-after").filter(|_| empty);
    seconds(reset.unwrap_or(0.0))
}

/// The longest of the waits it names, since sending too early counts against the sender.
fn pause_of_429(headers: &HeaderMap, body: &str) -> Duration {
    let in_body = serde_json::from_str::<Value>(body).ok().and_then(|body| body.get("retry_after")?.as_f64());
    let named = [in_body, number(headers, "retry-after"), number(headers, "x-ratelimit-reset-after")];
    let longest = named
        .into_iter()
        .flatten()
        .filter(|secs| secs.is_finite())
        .fold(None, |longest: Option<f64>, secs| Some(longest.map_or(secs, |longest| longest.max(secs))));
    seconds(longest.unwrap_or(WAIT_SECS_DEFAULT))
}

fn hide(text: &str, url: &WebhookUrl) -> String {
    let address = url.reveal();
    let path = address
        .split_once("://")
        .and_then(|(_, rest)| rest.find('/').map(|at| &rest[at..]))
        .unwrap_or_default();
    let text = text.replace(address, "****");
    let token = path.rsplit('/').next().unwrap_or_default();
    // The last segment is the token; a very short one would blank out innocent text and is no secret.
    if token.len() >= 8 { text.replace(token, "****") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&str, &str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(n, v)| {
                (n.parse::<ureq::http::HeaderName>().unwrap(), ureq::http::HeaderValue::from_str(v).unwrap())
            })
            .collect()
    }

    #[test]
    fn waits() {
        let ms = |duration: Duration| duration.as_millis();
        assert_eq!(ms(pause_of_429(&headers(&[("retry-after", "1")]), r#"{"retry_after": 1.25}"#)), 1250);
        assert_eq!(ms(pause_of_429(&headers(&[("retry-after", "3")]), "<html>")), 3000);
        assert_eq!(ms(pause_of_429(&headers(&[]), r#"{"retry_after": -4}"#)), 0);
        assert_eq!(ms(pause_of_429(&headers(&[("retry-after", "nan")]), "")), 5000);
        assert_eq!(ms(pause_of_429(&headers(&[("retry-after", "9e99")]), "")), 3_600_000);
        let empty = headers(&[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset-after", "0.5")]);
        assert_eq!(ms(pause_after_success(&empty)), 500);
    }

    #[test]
    fn the_token_is_hidden() {
        let url = WebhookUrl::parse("https://discord.test/api/webhooks/1/secret-token").unwrap();
        for text in [
            "bad uri: https://discord.test/api/webhooks/1/secret-token",
            "no route /api/webhooks/1/secret-token",
        ] {
            assert!(!hide(text, &url).contains("secret-token"), "{text}");
        }
    }
}
