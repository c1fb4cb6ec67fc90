//! Sessions: connections on which the client is the server, and through which its files are fetched.

use crate::error::{Error, Result};
use crate::grpc::{Messages, OutBody, Writer};
use crate::wire::Out;
use bytes::Bytes;
use hyper::Request;
use hyper::client::conn::http2;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioExecutor;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;

/// How long a build waits for the session that it names; the client opens both at once.
const SESSION_WAIT_MAX: Duration = Duration::from_secs(5);
/// Open sessions at once.
const SESSIONS_MAX: usize = 256;

/// What the upgrade request said of the session.
#[derive(Clone, Debug)]
pub struct SessionHead {
    /// `X-Docker-Expose-Session-Uuid`.
    pub id: String,
    /// `X-Docker-Expose-Session-Grpc-Method`: what the client serves.
    pub methods: Vec<String>,
}

/// One client's services.
#[derive(Clone)]
pub struct Session {
    calls: http2::SendRequest<OutBody>,
    methods: Arc<Vec<String>>,
}

impl Session {
    /// Does the client say that it has this method?
    pub fn serves(&self, method: &str) -> bool {
        self.methods.iter().any(|known| known == method)
    }

    /// Starts a call: what is sent, and what comes back.
    pub async fn call(&mut self, method: &str, metadata: &[(&str, &str)]) -> Result<(Writer, Messages)> {
        let (writer, body) = OutBody::new();
        Ok((writer, self.send(method, metadata, body).await?))
    }

    /// A call of one message and one answer.
    pub async fn unary(&mut self, method: &str, message: &Out) -> Result<Bytes> {
        let (writer, body) = OutBody::new();
        // The queue has room for it; dropped, the writer ends the request.
        writer.send(&message.0).await?;
        drop(writer);
        self.send(method, &[], body).await?.only().await
    }

    async fn send(&mut self, method: &str, metadata: &[(&str, &str)], body: OutBody) -> Result<Messages> {
        if !self.serves(method) {
            return Err(Error::NoMethod { method: method.to_owned() });
        }
        let mut request = Request::new(body);
        *request.method_mut() = hyper::Method::POST;
        *request.uri_mut() = format!("http://localhost{method}")
            .parse()
            .map_err(|_| Error::Malformed { what: "a method's name" })?;
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(hyper::header::TE, HeaderValue::from_static("trailers"));
        for (name, value) in metadata {
            let name = HeaderName::from_bytes(name.as_bytes());
            let value = HeaderValue::from_str(value);
            let (Ok(name), Ok(value)) = (name, value) else {
                return Err(Error::Malformed { what: "a name that no header can carry" });
            };
            headers.append(name, value);
        }
        let response = self.calls.send_request(request).await?;
        crate::grpc::ended(Some(response.headers()))?;
        Ok(Messages::new(response.into_body()))
    }
}

#[derive(Default)]
pub struct Sessions {
    open: Mutex<BTreeMap<String, Session>>,
    changed: Notify,
}

impl Sessions {
    /// Holds the session open until the client closes it.
    pub async fn serve(&self, upgraded: Upgraded, head: SessionHead) -> Result<()> {
        let (calls, connection) = http2::handshake(TokioExecutor::new(), upgraded).await?;
        let session = Session { calls, methods: Arc::new(head.methods) };
        {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            if open.len() >= SESSIONS_MAX || open.contains_key(&head.id) {
                return Err(Error::NoSession { id: head.id });
            }
            open.insert(head.id.clone(), session);
        }
        self.changed.notify_waiters();
        let ended = connection.await;
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&head.id);
        Ok(ended?)
    }

    pub async fn find(&self, id: &str) -> Result<Session> {
        let wait = async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                let found = self.open.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned();
                if let Some(session) = found {
                    return session;
                }
                changed.await;
            }
        };
        let found = tokio::time::timeout(SESSION_WAIT_MAX, wait).await;
        found.map_err(|_| Error::NoSession { id: id.to_owned() })
    }
}
