//! Which handler a method and a path belong to.
//!
//! A pattern has at most one `*`, which stands for one or more characters, slashes included: names of images contain
//! slashes, and moby's own routes take `.*` too. The first route that fits wins, so the table lists exact paths first.

use crate::web::request::Request;
use crate::web::respond::Response;
use hyper::Method;
use naru_types::Result;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

pub type Answer = Pin<Box<dyn Future<Output = Result<Response>> + Send>>;
pub type Handler<C> = fn(Arc<C>, Request) -> Answer;

pub struct Route<C> {
    pub method: Method,
    pub pattern: &'static str,
    pub handler: Handler<C>,
}

pub struct Router<C> {
    routes: Vec<Route<C>>,
}

/// Turns an `async fn(Arc<C>, Request) -> Result<Response>` into a [`Handler`].
macro_rules! handler {
    ($function:expr) => {
        |context, request| Box::pin($function(context, request))
    };
}
pub(crate) use handler;

/// Rows `METHOD "pattern" => function` as a vector of routes.
macro_rules! routes {
    ($($method:ident $pattern:literal => $function:expr),* $(,)?) => {
        vec![$($crate::web::router::Route {
            method: ::hyper::Method::$method,
            pattern: $pattern,
            handler: $crate::web::router::handler!($function),
        }),*]
    };
}
pub(crate) use routes;

impl<C> Router<C> {
    pub fn new(routes: Vec<Route<C>>) -> Self {
        Self { routes }
    }

    /// The handler and what the pattern's `*` stands for.
    pub fn find(&self, method: &Method, path: &str) -> Option<(Handler<C>, String)> {
        self.routes.iter().filter(|route| route.method == method).find_map(|route| {
            let name = matched(route.pattern, path)?;
            Some((route.handler, name.to_owned()))
        })
    }
}

fn matched<'a>(pattern: &str, path: &'a str) -> Option<&'a str> {
    let Some((before, after)) = pattern.split_once('*') else {
        return (pattern == path).then_some("");
    };
    let name = path.strip_prefix(before)?.strip_suffix(after)?;
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, path, expect) in [
            ("/info", "/info", Some("")),
            ("/info", "/info/", None),
            (
                "/images/*/json",
                "/images/127.0.0.1:5000/x/y@sha256:0/json",
                Some("127.0.0.1:5000/x/y@sha256:0"),
            ),
            ("/images/*/json", "/images//json", None),
            ("/images/*/json", "/images/json", None),
            ("/containers/*", "/containers/x", Some("x")),
        ] {
            assert_eq!(matched(pattern, path), expect, "{pattern} {path}");
        }
    }
}
