//! Sessions: connections on which the client is the server, and through which its files are fetched.

use crate::error::{Error, Result};
use crate::grpc::{Messages, OutBody, Writer};
use crate::waiting::Waiting;
use crate::wire::Out;
use bytes::Bytes;
use hyper::Request;
use hyper::client::conn::http2;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper_util::rt::TokioExecutor;
use std::sync::Arc;

/// Methods that one session may say it serves.
const METHODS_MAX: usize = 256;
/// Open sessions at once.
const SESSIONS_MAX: usize = 256;

/// What the upgrade request said of the session.
#[derive(Clone, Debug)]
pub struct SessionHead {
    /// `X-Docker-Expose-Session-Uuid`.
    pub id: String,
    /// `X-Docker-Expose-Session-Grpc-Method`: what the client serves.
    pub methods: Vec<String>,
    /// `X-Docker-Expose-Session-Sharedkey`: the same for builds of the same directories by the same client.
    pub shared_key: String,
}

impl SessionHead {
    /// `None`: there is no id.
    pub fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let id = headers.get("x-docker-expose-session-uuid")?.to_str().ok()?.to_owned();
        let methods = headers.get_all("x-docker-expose-session-grpc-method").iter().take(METHODS_MAX);
        let methods = methods.filter_map(|method| method.to_str().ok()).map(str::to_owned).collect();
        let shared_key = headers.get("x-docker-expose-session-sharedkey").and_then(|key| key.to_str().ok());
        let shared_key = shared_key.unwrap_or_default().to_owned();
        (!id.is_empty()).then_some(Self { id, methods, shared_key })
    }
}

/// One client's services.
#[derive(Clone)]
pub struct Session {
    calls: http2::SendRequest<OutBody>,
    methods: Arc<Vec<String>>,
    shared_key: Arc<str>,
}

impl Session {
    /// Does the client say that it has this method?
    pub fn serves(&self, method: &str) -> bool {
        self.methods.iter().any(|known| known == method)
    }

    /// Empty: the client says none.
    pub fn shared_key(&self) -> &str {
        &self.shared_key
    }

    /// Starts a call: what is sent, and what comes back. The latter waits for the client's first word.
    pub fn begin(
        &mut self,
        method: &str,
        metadata: &[(&str, &str)],
    ) -> Result<(Writer, impl Future<Output = Result<Messages>> + Send + use<>)> {
        let (writer, body) = OutBody::new();
        let response = self.calls.send_request(self.request(method, metadata, body)?);
        let answer = async move {
            let response = response.await?;
            crate::grpc::ended(Some(response.headers()))?;
            Ok(Messages::new(response.into_body()))
        };
        Ok((writer, answer))
    }

    /// As [`Session::begin`], of a client that speaks first.
    pub async fn call(&mut self, method: &str, metadata: &[(&str, &str)]) -> Result<(Writer, Messages)> {
        let (writer, answer) = self.begin(method, metadata)?;
        Ok((writer, answer.await?))
    }

    /// A call of one message and one answer.
    pub async fn unary(&mut self, method: &str, message: &Out) -> Result<Bytes> {
        let (writer, answer) = self.begin(method, &[])?;
        // The queue has room for it; dropped, the writer ends the request.
        writer.send(&message.0).await?;
        drop(writer);
        answer.await?.only().await
    }

    fn request(&self, method: &str, metadata: &[(&str, &str)], body: OutBody) -> Result<Request<OutBody>> {
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
        Ok(request)
    }
}

pub struct Sessions(Waiting<Session>);

impl Default for Sessions {
    fn default() -> Self {
        Self(Waiting::new(SESSIONS_MAX))
    }
}

impl Sessions {
    /// Holds the session open until the client closes it.
    pub async fn serve<I>(&self, io: I, head: SessionHead) -> Result<()>
    where
        I: hyper::rt::Read + hyper::rt::Write + Send + Unpin + 'static,
    {
        let (calls, connection) = http2::handshake(TokioExecutor::new(), io).await?;
        let session = Session { calls, methods: Arc::new(head.methods), shared_key: head.shared_key.into() };
        if !self.0.open(&head.id, session) {
            return Err(Error::NoSession { id: head.id });
        }
        // Also when this is dropped half-way.
        let _open = Open { sessions: &self.0, id: &head.id };
        Ok(connection.await?)
    }

    pub async fn find(&self, id: &str) -> Result<Session> {
        self.0.find(id).await.ok_or_else(|| Error::NoSession { id: id.to_owned() })
    }
}

struct Open<'a> {
    sessions: &'a Waiting<Session>,
    id: &'a str,
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.sessions.close(self.id);
    }
}
