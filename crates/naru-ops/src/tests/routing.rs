//! Labels to table, and the table to a real proxy in this process.

use super::engine::{FakeEngine, view, with_health};
use super::{config_of, open, until};
use crate::routes::compute;
use crate::{Ops, ProxyState};
use naru_engine::{ContainerView, HealthStatus, Status};
use naru_proxy::{Proxy, ProxyConfig};
use std::net::SocketAddr;
use std::sync::Arc;

const HOST: (&str, &str) = ("naru.route.host", "Shop.test");

fn backends(views: &[ContainerView]) -> Vec<String> {
    compute(views).0.routes.iter().flat_map(|route| &route.backends).map(SocketAddr::to_string).collect()
}

#[test]
fn labels_become_routes() {
    let plain = view(1, "a", &[HOST]);
    let pathed = view(
        2,
        "b",
        &[
            HOST,
            ("naru.route.path", "/api/"),
            ("naru.route.port", "81"),
            ("com.docker.compose.service", "api"),
        ],
    );
    let (table, problems) = compute(&[plain, pathed, view(3, "c", &[])]);
    let seen: Vec<_> = table
        .routes
        .iter()
        .map(|r| (r.host.as_str(), r.path_prefix.as_str(), r.backends[0].to_string(), r.service.as_str()))
        .collect();
    assert_eq!(
        seen,
        [
            ("shop.test", "/", "10.0.0.1:8080".to_owned(), "a"),
            ("shop.test", "/api", "10.0.0.2:81".to_owned(), "api"),
        ]
    );
    assert_eq!(problems, Vec::<String>::new());
    table.validate().unwrap();
}

#[test]
fn only_those_that_can_serve_do() {
    let one = |health| with_health(view(1, "a", &[HOST]), health);
    let two = |health| with_health(view(2, "b", &[HOST]), health);
    let (starting, healthy, unhealthy) =
        (HealthStatus::Starting, HealthStatus::Healthy, HealthStatus::Unhealthy);
    assert_eq!(backends(&[one(starting), two(healthy)]), ["10.0.0.2:8080"]);
    assert_eq!(backends(&[one(starting), two(unhealthy)]), ["10.0.0.1:8080"]);
    assert_eq!(backends(&[one(healthy), two(healthy)]), ["10.0.0.1:8080", "10.0.0.2:8080"]);
    for status in [Status::Paused, Status::Restarting] {
        let mut away = view(1, "a", &[HOST]);
        away.state.status = status;
        let (table, _) = compute(&[away]);
        assert_eq!((table.routes.len(), table.routes[0].backends.len()), (1, 0), "known, not ready");
    }
    let mut exited = view(1, "a", &[HOST]);
    exited.state.status = Status::Exited;
    assert!(compute(&[exited]).0.routes.is_empty());
}

#[test]
fn bad_labels_are_told_and_harm_nobody_else() {
    let views = [
        view(1, "wild", &[("naru.route.host", "*.test")]),
        view(2, "port", &[HOST, ("naru.route.port", "http")]),
        view(3, "path", &[HOST, ("naru.route.path", "api")]),
        view(4, "good", &[("naru.route.host", "a.test, b.test")]),
    ];
    let (table, problems) = compute(&views);
    table.validate().unwrap();
    assert_eq!(problems.len(), 3, "{problems:?}");
    assert_eq!(backends(&views), ["10.0.0.4:8080", "10.0.0.4:8080"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_proxy_follows_the_containers() {
    let (dir, engine) = (tempfile::tempdir().unwrap(), Arc::new(FakeEngine::default()));
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let config = ProxyConfig { root: dir.path().into(), run: dir.path().join("run"), http: any, https: any };
    let proxy = Proxy::start(&config).await.unwrap();
    let ops = open(dir.path(), &engine, None).await;
    assert!(ops.ca_certificate_pem().await.unwrap().starts_with("-----BEGIN CERTIFICATE-----"));
    let web = view(1, "web", &[HOST]);
    engine.views.lock().unwrap().push(web.clone());
    engine.happens(&web, "start", &[]);
    let serving = async || {
        let view = ops.routes();
        let served = matches!(view.proxy, ProxyState::Serving { .. }) && view.table.routes.len() == 1;
        served.then_some(view.table)
    };
    until(serving).await;
    engine.views.lock().unwrap()[0].state.status = Status::Exited;
    engine.happens(&web, "die", &[("exitCode", "0")]);
    until(async || ops.routes().table.routes.is_empty().then_some(())).await;
    ops.shutdown().await.unwrap();
    // Nothing is routed any more, so it was told to end.
    proxy.stopped().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_on_other_addresses_is_replaced() {
    let (dir, engine) = (tempfile::tempdir().unwrap(), Arc::new(FakeEngine::default()));
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let config = ProxyConfig { root: dir.path().into(), run: dir.path().join("run"), http: any, https: any };
    let proxy = Proxy::start(&config).await.unwrap();
    engine.views.lock().unwrap().push(view(1, "web", &[HOST]));
    let mut config = config_of(dir.path(), None);
    config.proxy_https = SocketAddr::from(([127, 0, 0, 2], 1));
    let _ops = Ops::open_with(engine.clone(), config).await.unwrap();
    proxy.stopped().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_cannot_start_is_told() {
    let (dir, engine) = (tempfile::tempdir().unwrap(), Arc::new(FakeEngine::default()));
    engine.views.lock().unwrap().push(view(1, "web", &[HOST]));
    let ops = open(dir.path(), &engine, None).await;
    let alert = until(async || ops.recent_alerts(1).await.unwrap().into_iter().next()).await;
    assert_eq!(alert.title, "The proxy does not serve");
    assert!(
        matches!(ops.sync_routes().await.proxy, ProxyState::Failed { error, .. } if error.contains("/nonexistent/naru"))
    );
    assert_eq!(ops.recent_alerts(9).await.unwrap().len(), 1, "once");
}
