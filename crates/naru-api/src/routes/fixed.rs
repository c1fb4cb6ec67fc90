//! Routes that need no engine: ping and version.

use crate::web::request::Request;
use crate::web::respond::{self, Response};
use crate::web::router::{Route, routes};
use naru_types::Result;
use naru_types::platform::Platform;
use naru_wire::system::{Component, PlatformName, Version};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The Docker release whose API this is. Clients gate features on `/version` (testcontainers refuses what is below
/// 1.6.0), so naru's own version stands in `Components` and the platform's name tells who answers.
pub const DOCKER_VERSION: &str = "28.2.2";
pub const NARU_VERSION: &str = env!("CARGO_PKG_VERSION");

pub fn routes<C: Send + Sync + 'static>() -> Vec<Route<C>> {
    routes![
        GET "/_ping" => ping,
        HEAD "/_ping" => ping,
        GET "/version" => version,
    ]
}

/// `Builder-Version: 1` sends `docker build` to `POST /build`.
async fn ping<C>(_context: Arc<C>, _request: Request) -> Result<Response> {
    let mut response = respond::text("text/plain; charset=utf-8", "OK");
    let headers = [
        ("builder-version", "1"),
        ("swarm", "inactive"),
        ("cache-control", "no-cache, no-store, must-revalidate"),
        ("pragma", "no-cache"),
    ];
    for (name, value) in headers {
        respond::set_header(&mut response, name, value)?;
    }
    Ok(response)
}

async fn version<C>(_context: Arc<C>, _request: Request) -> Result<Response> {
    respond::json(&version_json())
}

fn version_json() -> Version {
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    let arch = Platform::host().architecture;
    let details = BTreeMap::from([
        ("ApiVersion", naru_wire::API_VERSION.to_owned()),
        ("Arch", arch.clone()),
        ("BuildTime", String::new()),
        ("Experimental", "false".to_owned()),
        ("GitCommit", String::new()),
        ("GoVersion", String::new()),
        ("KernelVersion", kernel.clone()),
        ("MinAPIVersion", naru_wire::API_VERSION_MIN.to_owned()),
        ("Os", "linux".to_owned()),
    ]);
    let details = details.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    let component = |name: &str, version: &str, details| Component {
        name: name.into(),
        version: version.into(),
        details,
    };
    Version {
        platform: PlatformName { name: format!("naru {NARU_VERSION}") },
        components: vec![
            component("Engine", DOCKER_VERSION, details),
            component("naru", NARU_VERSION, BTreeMap::new()),
        ],
        version: DOCKER_VERSION.into(),
        api_version: naru_wire::API_VERSION.into(),
        min_api_version: naru_wire::API_VERSION_MIN.into(),
        os: "linux".into(),
        arch,
        kernel_version: kernel,
        ..Version::default()
    }
}
