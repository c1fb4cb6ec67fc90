//! The routing table: what the daemon sends, and the compiled form that a request is looked up in.
//!
//! A host matches exactly; below it the longest path prefix wins, and a prefix ends at a segment border:
//! `/api` matches `/api` and `/api/x`, not `/apix`.

use crate::error::ProxyError;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Most routes in a table.
pub const ROUTES_MAX: usize = 4096;
/// Most backends of one route.
pub const BACKENDS_MAX: usize = 256;
/// Longest path prefix in bytes.
pub const PATH_PREFIX_LEN_MAX: usize = 1024;
/// Longest host name in bytes (RFC 1035, section 2.3.4).
const HOST_LEN_MAX: usize = 253;
/// Longest label of a host name in bytes (the same section).
const LABEL_LEN_MAX: usize = 63;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteTable {
    pub routes: Vec<Route>,
}

/// A route without backends is known but answers 503: its service is there, and not ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Lower case, no port, no trailing dot, no wildcard.
    pub host: String,
    /// Starts with `/`.
    #[serde(default = "root_prefix")]
    pub path_prefix: String,
    pub backends: Vec<SocketAddr>,
    /// For the access log only.
    #[serde(default)]
    pub service: String,
}

fn root_prefix() -> String {
    "/".into()
}

impl RouteTable {
    /// Refuses a table as a whole, naming the first route that is wrong.
    pub fn validate(&self) -> Result<(), ProxyError> {
        if self.routes.len() > ROUTES_MAX {
            return Err(ProxyError::TooManyRoutes { count: self.routes.len(), max: ROUTES_MAX });
        }
        let mut seen = BTreeSet::new();
        for route in &self.routes {
            let wrong = route.problem().or_else(|| {
                let fresh = seen.insert((route.host.as_str(), trim_prefix(&route.path_prefix)));
                (!fresh).then_some("the same host and path occur twice")
            });
            if let Some(why) = wrong {
                let (host, path_prefix) = (route.host.clone(), route.path_prefix.clone());
                return Err(ProxyError::BadRoute { host, path_prefix, why });
            }
        }
        Ok(())
    }
}

impl Route {
    fn problem(&self) -> Option<&'static str> {
        host_problem(&self.host)
            .or_else(|| path_prefix_problem(&self.path_prefix))
            .or_else(|| (self.backends.len() > BACKENDS_MAX).then_some("more than 256 backends"))
    }
}

/// Why `host` cannot be routed; `None` when it can.
pub fn host_problem(host: &str) -> Option<&'static str> {
    if host.is_empty() || host.len() > HOST_LEN_MAX {
        return Some("a host is 1 to 253 characters long");
    }
    if host.contains('*') {
        return Some("wildcard hosts are not supported; name each host");
    }
    if host.bytes().any(|b| b.is_ascii_uppercase()) {
        return Some("a host is written in lower case");
    }
    if host.parse::<std::net::IpAddr>().is_ok() {
        return Some("an address is no host name; TLS needs a name");
    }
    let sound_label = |label: &str| {
        (1..=LABEL_LEN_MAX).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    (!host.split('.').all(sound_label))
        .then_some("a host consists of letters, digits, '-' and '.'; write other scripts in punycode")
}

/// Why `prefix` cannot be routed; `None` when it can.
pub fn path_prefix_problem(prefix: &str) -> Option<&'static str> {
    if !prefix.starts_with('/') || prefix.len() > PATH_PREFIX_LEN_MAX {
        return Some("a path starts with '/' and is at most 1024 characters long");
    }
    let plain = prefix.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'?' | b'#'));
    (!plain).then_some("a path has no spaces, '?', '#' or control characters")
}

fn trim_prefix(prefix: &str) -> &str {
    prefix.trim_end_matches('/')
}

/// The table as requests use it.
#[derive(Debug, Default)]
pub(crate) struct Compiled {
    pub source: RouteTable,
    pub generation: u64,
    /// Longest prefix first, below each host.
    hosts: HashMap<String, Vec<Arc<CompiledRoute>>>,
}

#[derive(Debug)]
pub(crate) struct CompiledRoute {
    /// Without its trailing slash; empty for `/`.
    prefix: String,
    pub backends: Vec<SocketAddr>,
    pub service: String,
    turn: AtomicUsize,
}

impl Compiled {
    pub fn new(source: RouteTable, generation: u64) -> Result<Self, ProxyError> {
        source.validate()?;
        let mut hosts: HashMap<String, Vec<Arc<CompiledRoute>>> = HashMap::new();
        for route in &source.routes {
            hosts.entry(route.host.clone()).or_default().push(Arc::new(CompiledRoute {
                prefix: trim_prefix(&route.path_prefix).to_owned(),
                backends: route.backends.clone(),
                service: route.service.clone(),
                turn: AtomicUsize::new(0),
            }));
        }
        for routes in hosts.values_mut() {
            routes.sort_by_key(|route| std::cmp::Reverse(route.prefix.len()));
        }
        Ok(Self { source, generation, hosts })
    }

    pub fn knows_host(&self, host: &str) -> bool {
        self.hosts.contains_key(host)
    }

    pub fn route(&self, host: &str, path: &str) -> Option<&Arc<CompiledRoute>> {
        self.hosts.get(host)?.iter().find(|route| {
            path.strip_prefix(route.prefix.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }

    pub fn backends(&self) -> impl Iterator<Item = SocketAddr> {
        self.source.routes.iter().flat_map(|route| route.backends.iter().copied())
    }
}

impl CompiledRoute {
    /// Every backend once, starting with the one whose turn it is.
    pub fn in_turn(&self) -> impl Iterator<Item = SocketAddr> {
        let start = self.turn.fetch_add(1, Ordering::Relaxed);
        let count = self.backends.len();
        (0..count).map(move |step| self.backends[(start.wrapping_add(step)) % count])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(host: &str, path_prefix: &str, service: &str) -> Route {
        let backends = vec![SocketAddr::from(([127, 0, 0, 1], 1))];
        Route { host: host.into(), path_prefix: path_prefix.into(), backends, service: service.into() }
    }

    #[test]
    fn longest_prefix_on_segment_borders() {
        let routes = vec![
            route("a.test", "/", "root"),
            route("a.test", "/api/", "api"),
            route("a.test", "/api/v2", "v2"),
        ];
        let table = Compiled::new(RouteTable { routes }, 1).unwrap();
        let service = |host: &str, path: &str| table.route(host, path).map(|route| route.service.clone());
        for (path, expect) in [
            ("/", "root"),
            ("/apix", "root"),
            ("/api", "api"),
            ("/api/", "api"),
            ("/api/v2x", "api"),
            ("/api/v2", "v2"),
            ("/api/v2/x", "v2"),
        ] {
            assert_eq!(service("a.test", path).as_deref(), Some(expect), "{path}");
        }
        assert_eq!(service("b.test", "/"), None);
    }

    #[test]
    fn bad_routes_are_named() {
        for (host, path) in [
            ("*.test", "/"),
            ("A.test", "/"),
            ("", "/"),
            ("a..b", "/"),
            ("1.2.3.4", "/"),
            ("a.test", "x"),
            ("a.test", "/a b"),
            ("-a", "/"),
        ] {
            let table = RouteTable { routes: vec![route(host, path, "s")] };
            assert!(matches!(table.validate(), Err(ProxyError::BadRoute { .. })), "{host}{path}");
        }
        let twice = RouteTable { routes: vec![route("a", "/x", "s"), route("a", "/x/", "t")] };
        assert!(matches!(twice.validate(), Err(ProxyError::BadRoute { .. })));
    }

    #[test]
    fn turns_go_round() {
        let mut one = route("a", "/", "s");
        one.backends = (1..=3).map(|port| SocketAddr::from(([127, 0, 0, 1], port))).collect();
        let table = Compiled::new(RouteTable { routes: vec![one] }, 1).unwrap();
        let first = |()| table.route("a", "/").unwrap().in_turn().next().unwrap().port();
        assert_eq!([(); 4].map(first), [1, 2, 3, 1]);
    }
}
