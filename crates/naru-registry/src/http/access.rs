//! Whether a request may do what it asks.

use crate::http::answer::Refusal;
use crate::http::server::Shared;
use crate::name::RepositoryName;
use crate::token::{Right, Rights, Token, secret_of};
use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use std::sync::Arc;

#[derive(Clone, Debug)]
pub(crate) enum Access {
    Anonymous(Rights),
    Token(Token),
}

impl Access {
    /// Credentials that are wrong are refused even where none are needed: who sends them relies on them.
    pub async fn of(shared: &Arc<Shared>, headers: &HeaderMap) -> Result<Self, Refusal> {
        let Some(header) = headers.get(AUTHORIZATION) else {
            return Ok(Self::Anonymous(shared.options.anonymous));
        };
        let secret = header.to_str().ok().and_then(secret_of).ok_or_else(Refusal::unauthorized)?;
        let believing = Arc::clone(shared);
        let found = shared.blocking(move || believing.believed.check(&believing.store, &secret)).await?;
        found.map(Self::Token).ok_or_else(Refusal::unauthorized)
    }

    pub fn allows(&self, repository: &str, right: Right) -> bool {
        match self {
            Self::Anonymous(rights) => rights.has(right),
            Self::Token(token) => token.pattern.fits(repository) && token.rights.has(right),
        }
    }

    /// A repository that the client may not see is refused as one that isn't there.
    pub fn demand(&self, repository: &RepositoryName, right: Right) -> Result<(), Refusal> {
        if self.allows(repository.as_str(), right) {
            return Ok(());
        }
        Err(match self {
            Self::Anonymous(_) => Refusal::unauthorized(),
            Self::Token(_) => Refusal::denied(),
        })
    }

    /// `GET /v2/` is how a client asks whether it has to log in.
    pub fn demand_any(&self) -> Result<(), Refusal> {
        match self {
            Self::Anonymous(rights) if !rights.push => Err(Refusal::unauthorized()),
            Self::Anonymous(_) | Self::Token(_) => Ok(()),
        }
    }

    /// Whether there is anything that the client may see in the catalog.
    pub fn can_list(&self) -> bool {
        match self {
            Self::Anonymous(rights) => rights.pull,
            Self::Token(_) => true,
        }
    }
}
