//! When a request is tried again and how long that waits: what a registry asks for (`Retry-After`,
//! RFC 9110), else an exponential back-off; and a registry's rate limit in words.

use crate::error::ImageError;
use crate::store::now;
use naru_types::Timestamp;
use std::time::Duration;
use ureq::Body;
use ureq::http::{HeaderMap, Response, StatusCode};

/// Tries of one request that failed on the way or was put off (429, 502, 503, 504).
pub const ATTEMPTS_MAX: u32 = 5;
const BACKOFF_FIRST_MS: u64 = 250;
/// Longest wait, in seconds, that a registry may ask for; who asks for more gets no further try, so that
/// the user is told at once.
const RETRY_AFTER_SECS_MAX: u64 = 60;

/// A request is about to wait.
#[derive(Clone, Copy, Debug)]
pub struct Delay {
    pub wait: Duration,
    /// The registry answered 429.
    pub is_rate_limit: bool,
}

/// Where delays are told.
pub type DelayFn<'a> = dyn Fn(Delay) + Sync + 'a;

impl Delay {
    /// Before the next try after failed try number `attempt`; `None`: there is none.
    pub fn after(result: &Result<Response<Body>, ImageError>, attempt: u32) -> Option<Self> {
        let (asked, is_rate_limit) = match result {
            Ok(response) if is_passing(response.status()) => {
                (retry_after(response.headers()), response.status() == StatusCode::TOO_MANY_REQUESTS)
            }
            Err(ImageError::Transport { .. }) => (None, false),
            Ok(_) | Err(_) => return None,
        };
        let wait = asked.unwrap_or_else(|| backoff(attempt));
        let is_worth_it = attempt < ATTEMPTS_MAX && wait <= Duration::from_secs(RETRY_AFTER_SECS_MAX);
        is_worth_it.then_some(Self { wait, is_rate_limit })
    }

    /// Whole seconds, for people; at least one.
    pub fn seconds(&self) -> u64 {
        self.wait.as_millis().div_ceil(1000).max(1) as u64
    }
}

/// Exponential: 250 ms, 500 ms, 1 s, 2 s.
pub fn backoff(attempt: u32) -> Duration {
    Duration::from_millis(BACKOFF_FIRST_MS << (attempt - 1).min(6))
}

/// What is known of a rate limit that was reached: Docker Hub's `ratelimit-limit: 100;w=21600`, and when
/// to come back.
pub fn limit_in_words(registry: &str, headers: &HeaderMap) -> String {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let allowed = text("ratelimit-limit").and_then(|value| {
        let (count, window) = value.split_once(";w=").unwrap_or((value, ""));
        let count: u64 = count.trim().parse().ok()?;
        Some(match window.trim().parse() {
            Ok(seconds) => format!("{registry} allows {count} requests in {}", in_words(seconds)),
            Err(_) => format!("{registry} allows {count} requests"),
        })
    });
    let mut words = allowed.unwrap_or_else(|| format!("a limit of {registry}"));
    if let Some(wait) = retry_after(headers) {
        words.push_str(&format!("; try again in {}", in_words(wait.as_secs().max(1))));
    }
    words
}

fn in_words(seconds: u64) -> String {
    let (number, unit) = match seconds {
        0..120 => (seconds, "second"),
        120..7200 => (seconds.div_ceil(60), "minute"),
        _ => (seconds.div_ceil(3600), "hour"),
    };
    format!("{number} {unit}{}", if number == 1 { "" } else { "s" })
}

fn is_passing(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    )
}

/// Seconds, or the date in the one form that RFC 9110 lets servers send.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("retry-after")?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let at = http_date(text)?.secs();
    Some(Duration::from_secs(u64::try_from(at - now().secs()).unwrap_or(0)))
}

/// `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, IMF-fixdate).
fn http_date(text: &str) -> Option<Timestamp> {
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    let (_, rest) = text.strip_suffix(" GMT")?.split_once(", ")?;
    let mut parts = rest.split(' ');
    let (day, month, year, clock) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let month = MONTHS.find(month).filter(|at| month.len() == 3 && at % 3 == 0)? / 3 + 1;
    Timestamp::parse_rfc3339(&format!("{year}-{month:02}-{day}T{clock}Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn waits() {
        assert_eq!(retry_after(&headers(&[("retry-after", "30")])), Some(Duration::from_secs(30)));
        let past = headers(&[("retry-after", "Sun, 06 Nov 1994 08:49:37 GMT")]);
        assert_eq!(retry_after(&past), Some(Duration::ZERO));
        assert_eq!(http_date("Sun, 06 Nov 1994 08:49:37 GMT").map(Timestamp::secs), Some(784_111_777));
        assert_eq!(retry_after(&headers(&[("retry-after", "soon")])), None);
        assert_eq!(backoff(3), Duration::from_secs(1));
    }

    #[test]
    fn limits() {
        let hub = headers(&[("ratelimit-limit", "100;w=21600"), ("retry-after", "5000")]);
        assert_eq!(
            limit_in_words("registry-1.docker.io", &hub),
            "registry-1.docker.io allows 100 requests in 6 hours; try again in 84 minutes"
        );
        assert_eq!(limit_in_words("r.lan", &HeaderMap::new()), "a limit of r.lan");
    }
}
