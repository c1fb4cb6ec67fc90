//! `POST /naru/v1/images/bootstrap`: a base image from a distribution's packages.

use crate::context::ApiContext;
use crate::routes::image::emit;
use crate::routes::image_transfer::{say, streamed};
use crate::web::request::Request;
use crate::web::respond::Response;
use base64::Engine as _;
use naru_bootstrap::Progress;
use naru_types::{Error, ImageRef, Result};
use naru_wire::message::{Message, ProgressDetail};
use naru_wire::naru::Bootstrap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The least that is told of a download at once, in bytes.
const PROGRESS_BYTES: u64 = 1 << 20;

pub async fn bootstrap(context: Arc<ApiContext>, mut request: Request) -> Result<Response> {
    let wanted: Bootstrap = request.json().await?;
    let keyring = match &wanted.keyring {
        Some(text) => {
            let decoded = base64::engine::general_purpose::STANDARD.decode(text);
            Some(decoded.map_err(|error| Error::invalid("the keyring is not base64").with_source(error))?)
        }
        None => None,
    };
    let tag = match wanted.tag.as_str() {
        "" => None,
        name => Some(ImageRef::parse(name)?.with_default_tag()),
    };
    let wanted = naru_bootstrap::Request {
        base: ImageRef::parse(&wanted.base)?,
        tag,
        mirror: wanted.mirror,
        keyring,
        include: wanted.include,
        snapshot: wanted.snapshot,
        cancel: Arc::clone(&request.gone),
    };
    streamed(move |lines| {
        let told = AtomicU64::new(0);
        let tell = |progress: Progress| match progress {
            Progress::Status(text) => say(lines, &Message::status(text)),
            Progress::Packages { current, total } => {
                let before = told.load(Ordering::Relaxed);
                if current >= before + PROGRESS_BYTES || current == total {
                    told.store(current, Ordering::Relaxed);
                    let progress_detail = Some(ProgressDetail { current, total });
                    let id = Some("packages".to_owned());
                    say(lines, &Message { id, progress_detail, ..Message::status("Downloading") });
                }
            }
        };
        let id = context.bootstrapper.bootstrap(&wanted, &tell)?.to_string();
        emit(&context.engine, "import", &id, &id);
        say(lines, &Message::aux(serde_json::json!({ "ID": id })));
        Ok(())
    })
    .await
}
