//! What can go wrong while the proxy starts or is spoken to. What goes wrong with one request is an HTTP
//! status and a line in the access log, not an error here.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    #[error("cannot {step} {}", path.display())]
    Disk { step: &'static str, path: PathBuf, source: io::Error },
    #[error("another proxy already serves {}", run.display())]
    AlreadyRunning { run: PathBuf },
    #[error("cannot listen on {address}: the port is already used by {owner}")]
    PortTaken { address: SocketAddr, owner: String },
    #[error("cannot listen on {address}: not permitted")]
    PortForbidden { address: SocketAddr },
    #[error("cannot listen on {address}")]
    Listen { address: SocketAddr, source: io::Error },
    #[error("cannot start the proxy's threads")]
    Runtime { source: io::Error },
    #[error("cannot {step}")]
    Certificate { step: &'static str, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("route {host}{path_prefix}: {why}")]
    BadRoute { host: String, path_prefix: String, why: &'static str },
    #[error("{count} routes are more than the {max} that a table may have")]
    TooManyRoutes { count: usize, max: usize },
    #[error("no proxy answers at {}", socket.display())]
    NotRunning { socket: PathBuf, source: io::Error },
    #[error("the conversation with the proxy at {} broke off while {step}", socket.display())]
    Conversation { step: &'static str, socket: PathBuf, source: io::Error },
    #[error("the proxy refused: {message}")]
    Refused { message: String },
    #[error("cannot start {}", exe.display())]
    Spawn { exe: PathBuf, source: io::Error },
    #[error("the proxy ended at once ({status}): {said}")]
    DiedAtStart { status: String, said: String },
    #[error("the proxy did not open {} within {seconds} s", socket.display())]
    NoSocket { socket: PathBuf, seconds: u64 },
}

impl ProxyError {
    pub(crate) fn disk(step: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Disk { step, path, source }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::PortTaken { .. } => {
                "stop that program, or start the daemon with other ports: --proxy-https 0.0.0.0:8443 --proxy-http 0.0.0.0:8080".into()
            }
            Self::PortForbidden { address } => {
                format!("ports below 1024 need root or CAP_NET_BIND_SERVICE; or choose another port than {}", address.port())
            }
            Self::AlreadyRunning { run } => format!("use another --run than {}", run.display()),
            Self::DiedAtStart { .. } | Self::NoSocket { .. } => "read proxy/proxy.log below the root directory".into(),
            _ => return None,
        })
    }
}

impl From<ProxyError> for naru_types::Error {
    fn from(error: ProxyError) -> Self {
        use naru_types::Kind;
        let kind = match &error {
            ProxyError::PortTaken { .. } | ProxyError::AlreadyRunning { .. } => Kind::Conflict,
            ProxyError::PortForbidden { .. } => Kind::Forbidden,
            ProxyError::BadRoute { .. } | ProxyError::TooManyRoutes { .. } => Kind::InvalidInput,
            ProxyError::NotRunning { .. } | ProxyError::DiedAtStart { .. } | ProxyError::NoSocket { .. } => {
                Kind::Unavailable
            }
            ProxyError::Disk { .. }
            | ProxyError::Listen { .. }
            | ProxyError::Runtime { .. }
            | ProxyError::Certificate { .. }
            | ProxyError::Conversation { .. }
            | ProxyError::Refused { .. }
            | ProxyError::Spawn { .. } => Kind::Internal,
        };
        let hint = error.hint();
        let face = naru_types::Error::new(kind, error.to_string()).with_source(error);
        match hint {
            Some(hint) => face.with_hint(hint),
            None => face,
        }
    }
}
