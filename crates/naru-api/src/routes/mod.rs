//! The routes, one module per group. [`table`] is the whole API on one page.

mod absent;
mod analysis;
mod archive;
mod attach;
mod auth;
mod bootstrap;
mod build;
mod build_extras;
mod build_in_place;
mod buildkit;
mod container;
mod container_list;
mod df;
mod events;
mod exec;
mod fixed;
mod image;
mod image_care;
mod image_list;
mod image_remote;
mod image_transfer;
mod info;
mod lifecycle;
mod logs;
mod naru;
mod network;
mod registry_auth;
mod stats;
mod top;
mod volume;
mod wait;

use crate::context::ApiContext;
use crate::web::router::{Route, Router, routes};

pub fn tell_tagged(engine: &naru_engine::Engine, id: &str, name: &str) {
    image::emit(engine, "tag", id, name);
}

pub fn collect_images(engine: &naru_engine::Engine, policy: &naru_image::GcPolicy) -> naru_types::Result<()> {
    image_care::collect(engine, policy, false).map(drop)
}

pub fn table() -> Router<ApiContext> {
    let mut all: Vec<Route<ApiContext>> = fixed::routes();
    all.extend(system());
    all.extend(containers());
    all.extend(images());
    all.extend(networks_and_volumes());
    all.extend(own());
    // Last: it holds patterns that the others narrow.
    all.extend(absent::routes());
    Router::new(all)
}

fn system() -> Vec<Route<ApiContext>> {
    routes![
        GET "/info" => info::info,
        GET "/events" => events::events,
        GET "/system/df" => df::disk_usage,
    ]
}

fn containers() -> Vec<Route<ApiContext>> {
    routes![
        GET "/containers/json" => container_list::list,
        POST "/containers/create" => container::create,
        POST "/containers/prune" => container_list::prune,
        GET "/containers/*/json" => container::inspect,
        POST "/containers/*/start" => lifecycle::start,
        POST "/containers/*/stop" => lifecycle::stop,
        POST "/containers/*/restart" => lifecycle::restart,
        POST "/containers/*/kill" => lifecycle::kill,
        POST "/containers/*/pause" => lifecycle::pause,
        POST "/containers/*/unpause" => lifecycle::unpause,
        POST "/containers/*/rename" => container::rename,
        POST "/containers/*/update" => container::update,
        POST "/containers/*/wait" => wait::wait,
        POST "/containers/*/attach" => attach::attach,
        POST "/containers/*/resize" => lifecycle::resize,
        GET "/containers/*/logs" => logs::logs,
        GET "/containers/*/stats" => stats::stats,
        GET "/containers/*/top" => top::top,
        GET "/containers/*/changes" => container::changes,
        GET "/containers/*/export" => archive::export,
        HEAD "/containers/*/archive" => archive::stat,
        GET "/containers/*/archive" => archive::get,
        PUT "/containers/*/archive" => archive::put,
        POST "/containers/*/exec" => exec::create,
        DELETE "/containers/*" => container::remove,
        POST "/exec/*/start" => exec::start,
        POST "/exec/*/resize" => exec::resize,
        GET "/exec/*/json" => exec::inspect,
        POST "/commit" => container::commit,
    ]
}

fn images() -> Vec<Route<ApiContext>> {
    routes![
        GET "/images/json" => image_list::list,
        POST "/images/create" => image_transfer::create,
        POST "/images/load" => image_transfer::load,
        POST "/images/prune" => image_list::prune,
        GET "/images/get" => image_transfer::save,
        GET "/images/*/get" => image_transfer::save,
        GET "/images/*/json" => image::inspect,
        GET "/distribution/*/json" => image_remote::distribution,
        GET "/images/*/history" => image::history,
        POST "/images/*/push" => image_transfer::push,
        POST "/images/*/tag" => image::tag,
        DELETE "/images/*" => image::remove,
        POST "/auth" => auth::auth,
        POST "/build" => build::build,
        POST "/build/prune" => build::prune,
        POST "/grpc" => buildkit::grpc,
        POST "/session" => buildkit::session,
    ]
}

fn networks_and_volumes() -> Vec<Route<ApiContext>> {
    routes![
        GET "/networks" => network::list,
        GET "/networks/" => network::list,
        POST "/networks/create" => network::create,
        POST "/networks/prune" => network::prune,
        POST "/networks/*/connect" => network::connect,
        POST "/networks/*/disconnect" => network::disconnect,
        GET "/networks/*" => network::inspect,
        DELETE "/networks/*" => network::remove,
        GET "/volumes" => volume::list,
        POST "/volumes/create" => volume::create,
        POST "/volumes/prune" => volume::prune,
        GET "/volumes/*" => volume::inspect,
        DELETE "/volumes/*" => volume::remove,
    ]
}

fn own() -> Vec<Route<ApiContext>> {
    routes![
        POST "/naru/v1/containers" => naru::create_container,
        GET "/naru/v1/images/*/analysis" => analysis::analysis,
        POST "/naru/v1/images/bootstrap" => bootstrap::bootstrap,
        GET "/naru/v1/routes" => naru::routes,
        GET "/naru/v1/deploys" => naru::deploys,
        POST "/naru/v1/deploys" => naru::deploy_started,
        POST "/naru/v1/deploys/*" => naru::deploy_finished,
        GET "/naru/v1/alerts" => naru::alerts,
        GET "/naru/v1/settings" => naru::settings,
        PUT "/naru/v1/settings" => naru::change_settings,
        POST "/naru/v1/webhook/test" => naru::test_webhook,
        GET "/naru/v1/ca.pem" => naru::ca_certificate,
        POST "/naru/v1/images/verify" => image_care::verify,
        POST "/naru/v1/images/gc" => image_care::gc,
        POST "/naru/v1/images/copy" => image_remote::copy,
        GET "/naru/v1/images/manifest" => image_remote::manifest,
        GET "/naru/v1/images/referrers" => image_remote::referrers,
        POST "/naru/v1/shutdown" => naru::shutdown,
    ]
}

/// Routes that need no engine, and two that tests provoke the server with.
#[cfg(test)]
pub fn engineless() -> Router<()> {
    use crate::web::request::Request;
    use crate::web::respond::{self, Response};
    use naru_types::Result;
    use std::sync::Arc;

    #[derive(Default, serde::Deserialize, serde::Serialize)]
    struct Echo {
        name: String,
    }

    async fn echo(_context: Arc<()>, mut request: Request) -> Result<Response> {
        respond::json(&request.json::<Echo>().await?)
    }

    #[allow(clippy::panic)] // that is what it is for
    async fn panics(_context: Arc<()>, _request: Request) -> Result<Response> {
        panic!("on purpose")
    }

    let mut all = fixed::routes();
    all.extend(absent::routes());
    all.extend(routes![POST "/echo" => echo, GET "/panic" => panics]);
    Router::new(all)
}
