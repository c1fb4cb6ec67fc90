//! What can go wrong in ops itself. What a webhook answers is a recorded state of an alert, not an error here.

use std::path::PathBuf;

#[derive(Debug, thiserror::Error)]
pub(crate) enum OpsError {
    #[error("cannot open the operations database {}", path.display())]
    Open { path: PathBuf, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("cannot {step} in the operations database")]
    Database { step: &'static str, source: rusqlite::Error },
    #[error("cannot start the {name} thread")]
    Thread { name: &'static str, source: std::io::Error },
    #[error("a task of the operations layer ended early")]
    Task { source: tokio::task::JoinError },
    #[error("there is no deploy {id} that runs")]
    NoSuchDeploy { id: i64 },
    #[error("no webhook is set")]
    NoWebhook,
    #[error("the webhook did not take the test message: {why}")]
    TestRefused { why: String },
    #[error("there is no CA certificate yet")]
    NoCertificate { path: PathBuf, source: std::io::Error },
}

impl OpsError {
    pub fn database(step: &'static str) -> impl FnOnce(rusqlite::Error) -> Self {
        move |source| Self::Database { step, source }
    }
}

impl From<OpsError> for naru_types::Error {
    fn from(error: OpsError) -> Self {
        use naru_types::Kind;
        let (kind, hint) = match &error {
            OpsError::Open { .. }
            | OpsError::Database { .. }
            | OpsError::Thread { .. }
            | OpsError::Task { .. } => (Kind::Internal, None),
            OpsError::NoSuchDeploy { .. } => (Kind::NotFound, None),
            OpsError::NoWebhook => (Kind::Conflict, Some("set one first: naru alerts webhook URL")),
            OpsError::TestRefused { .. } => {
                (Kind::Unavailable, Some("check the address and the network, then test again"))
            }
            OpsError::NoCertificate { .. } => {
                (Kind::NotFound, Some("it is made when the first service with a route starts"))
            }
        };
        let face = naru_types::Error::new(kind, error.to_string()).with_source(error);
        match hint {
            Some(hint) => face.with_hint(hint),
            None => face,
        }
    }
}
