//! `POST /auth`: whether a registry takes these credentials. The client keeps them, the daemon does not.

use crate::context::ApiContext;
use crate::routes::registry_auth;
use crate::web::request::Request;
use crate::web::respond::{self, Response};
use naru_image::Secret;
use naru_types::{Error, Result};
use naru_wire::image::AuthConfig;
use naru_wire::system::AuthResponse;
use std::sync::Arc;

pub async fn auth(context: Arc<ApiContext>, mut request: Request) -> Result<Response> {
    let config: AuthConfig = request.json().await?;
    let address = config.serveraddress.clone();
    let credentials = registry_auth::from_config(config);
    let login = tokio::task::spawn_blocking(move || context.engine.images().log_in(&address, &credentials))
        .await
        .map_err(|error| Error::internal("the login was broken off").with_source(error))??;
    respond::json(&AuthResponse {
        status: "Login Succeeded".into(),
        identity_token: login.identity_token.as_ref().map_or("", Secret::reveal).to_owned(),
    })
}
