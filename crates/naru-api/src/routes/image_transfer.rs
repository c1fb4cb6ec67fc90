//! Images coming in and going out: pull, import, push, load, save.
//!
//! The work blocks, so it runs on its own thread and tells its progress through a channel. The status of the answer
//! is decided by the first thing it says: an error before any progress is a real status, one after it is the last line
//! of the stream (as in moby, whose writer commits the head with the first write).

use crate::context::ApiContext;
use crate::routes::container::reference;
use crate::routes::image::emit;
use crate::routes::registry_auth;
use crate::web::body::{PIECES_MAX, PieceWriter, ResponseBody};
use crate::web::request::Request;
use crate::web::respond::{self, JSON, Response};
use bytes::Bytes;
use hyper::StatusCode;
use naru_image::import::ImportOptions;
use naru_image::save::ArchiveForm;
use naru_image::{Progress, PullOptions, PushOptions};
use naru_kernel::clock;
use naru_types::platform::Platform;
use naru_types::{Error, ImageRef, Result};
use naru_wire::message::{Message, ProgressDetail};
use std::io;
use std::sync::Arc;
use tokio::sync::mpsc::{Sender, channel};

/// Where a worker says what it does. Sending fails when the client has gone, which the worker learns by its cancel flag.
pub type Lines = Sender<io::Result<Bytes>>;

/// Says one line from a thread that may block.
pub fn say(lines: &Lines, message: &Message) {
    if let Ok(line) = respond::to_line(message) {
        // A client that has gone sets the cancel flag; the worker stops there.
        let _ = lines.blocking_send(Ok(line.into()));
    }
}

/// Runs `work` on a thread of its own and answers with its lines.
pub async fn streamed(work: impl FnOnce(&Lines) -> Result<()> + Send + 'static) -> Result<Response> {
    let (lines, mut said) = channel(PIECES_MAX);
    let (outer, pieces) = channel::<io::Result<Bytes>>(PIECES_MAX);
    let worker = tokio::task::spawn_blocking(move || work(&lines));
    let first = said.recv().await;
    let outcome = async move {
        match worker.await {
            Ok(outcome) => outcome,
            Err(error) => Err(Error::internal("a bug in naru: blocking work panicked").with_source(error)),
        }
    };
    let Some(first) = first else {
        // Nothing was said: the outcome is the answer.
        outcome.await?;
        return Ok(respond::with_type(StatusCode::OK, JSON, ResponseBody::empty()));
    };
    tokio::spawn(async move {
        let mut next = Some(first);
        while let Some(piece) = next {
            if outer.send(piece).await.is_err() {
                return;
            }
            next = said.recv().await;
        }
        if let Err(error) = outcome.await {
            // The client may have gone.
            let _ = respond::send_line(&outer, &respond::error_line(&error)).await;
        }
    });
    Ok(respond::with_type(StatusCode::OK, JSON, ResponseBody::stream(pieces)))
}

/// Docker's message for one step of progress.
pub fn message(progress: &Progress) -> Message {
    let detail = match progress {
        Progress::Layer { .. } => {
            let (current, total) = progress.detail().unwrap_or_default();
            Some(ProgressDetail { current, total })
        }
        _ => None,
    };
    let bar = progress.detail().map(|(current, total)| bar(current, total));
    Message {
        id: progress.id().map(str::to_owned),
        progress_detail: detail,
        progress: bar,
        ..Message::status(progress.status())
    }
}

/// The text that clients print when they do not draw themselves (moby `JSONProgress.String`).
fn bar(current: u64, total: u64) -> String {
    if total == 0 {
        return format!("{current}B");
    }
    let filled = (current.min(total) * 50 / total) as usize;
    let head = if filled < 50 { ">" } else { "" };
    format!("[{}{head}{}]  {current}B/{total}B", "=".repeat(filled), " ".repeat(50 - filled - head.len()))
}

pub async fn create(context: Arc<ApiContext>, request: Request) -> Result<Response> {
    match (request.query.text("fromImage"), request.query.text("fromSrc")) {
        ("", "") => Err(Error::invalid("no image to create: fromImage or fromSrc is needed")),
        ("", _) => import(context, request).await,
        (image, _) => {
            let image = image.to_owned();
            pull(context, request, &image).await
        }
    }
}

async fn pull(context: Arc<ApiContext>, request: Request, image: &str) -> Result<Response> {
    let reference = pull_reference(image, request.query.text("tag"))?;
    let platform = parse_platform(request.query.text("platform"))?;
    let credentials = registry_auth::credentials(request.header("x-registry-auth"));
    let cancel = Arc::clone(&request.gone);
    streamed(move |lines| {
        let progress = |step: Progress| say(lines, &message(&step));
        let options = PullOptions { credentials, platform, progress: &progress, cancel: &cancel };
        context.engine.images().pull(&reference, &options)?;
        emit(&context.engine, "pull", &reference.familiar(), &reference.familiar_repository());
        Ok(())
    })
    .await
}

/// The tag parameter may be a digest; without one the image's own tag counts, then `latest`.
fn pull_reference(image: &str, tag: &str) -> Result<ImageRef> {
    let text = match tag {
        "" => image.to_owned(),
        digest if digest.contains(':') => format!("{image}@{digest}"),
        tag => return ImageRef::parse(image)?.with_tag(tag),
    };
    Ok(ImageRef::parse(&text)?.with_default_tag())
}

pub fn parse_platform(text: &str) -> Result<Option<Platform>> {
    if text.is_empty() {
        return Ok(None);
    }
    let invalid =
        || Error::invalid(format!("{text:?}: invalid platform")).with_hint("write it as linux/amd64");
    Platform::parse(text).map(Some).ok_or_else(invalid)
}

async fn import(context: Arc<ApiContext>, mut request: Request) -> Result<Response> {
    let source = request.query.text("fromSrc").to_owned();
    if source != "-" {
        return Err(Error::not_implemented(format!(
            "importing from a URL ({source}) is not supported by naru"
        ))
        .with_hint("download it and pipe it: curl URL | docker import - NAME"));
    }
    let mut config = naru_types::image::RunConfig::default();
    for line in request.query.all("changes").flat_map(str::lines).filter(|line| !line.trim().is_empty()) {
        naru_types::change::apply(&mut config, line.trim())?;
    }
    let tag = reference(request.query.text("repo"), request.query.text("tag"))?;
    let message =
        Some(request.query.text("message")).filter(|text| !text.is_empty()).unwrap_or("Imported from -");
    let options = ImportOptions {
        config,
        message: Some(message.to_owned()),
        platform: parse_platform(request.query.text("platform"))?,
        tag,
        now: clock::now(),
    };
    let mut reader = request.reader();
    streamed(move |lines| {
        let image = context.engine.images().import(&mut reader, options)?;
        let id = image.id.to_string();
        say(lines, &Message::status(id.clone()));
        emit(&context.engine, "import", &id, &id);
        Ok(())
    })
    .await
}

pub async fn push(context: Arc<ApiContext>, request: Request) -> Result<Response> {
    let base = ImageRef::parse(&request.name)?;
    let tag = request.query.text("tag").to_owned();
    let credentials = registry_auth::credentials(request.header("x-registry-auth"));
    let cancel = Arc::clone(&request.gone);
    streamed(move |lines| {
        let store = context.engine.images();
        let progress = |step: Progress| say(lines, &message(&step));
        for reference in push_references(store, &base, &tag)? {
            let options =
                PushOptions { credentials: credentials.clone(), progress: &progress, cancel: &cancel };
            let pushed = store.push(&reference, &options)?;
            let aux = serde_json::json!({
                "Tag": reference.tag_or_latest(), "Digest": pushed.digest.to_string(), "Size": pushed.size,
            });
            say(lines, &Message { progress_detail: Some(ProgressDetail::default()), ..Message::aux(aux) });
            emit(&context.engine, "push", &reference.familiar(), &reference.familiar_repository());
        }
        Ok(())
    })
    .await
}

/// One tag, or every tag of the repository when none is named.
fn push_references(store: &naru_image::Store, base: &ImageRef, tag: &str) -> Result<Vec<ImageRef>> {
    if !tag.is_empty() {
        return Ok(vec![base.with_tag(tag)?]);
    }
    if base.tag().is_some() {
        return Ok(vec![base.clone()]);
    }
    let images = store.list()?;
    let names =
        images.iter().flat_map(|image| &image.repo_tags).filter_map(|name| ImageRef::parse(name).ok());
    let all: Vec<ImageRef> = names.filter(|name| name.repository() == base.repository()).collect();
    if all.is_empty() {
        let name = base.familiar_repository();
        return Err(Error::not_found(format!("An image does not exist locally with the tag: {name}")));
    }
    Ok(all)
}

/// As in moby's `postImagesLoad`, the status is 200 whatever comes: what goes wrong is a line of the stream,
/// which is where clients look for it.
pub async fn load(context: Arc<ApiContext>, mut request: Request) -> Result<Response> {
    let quiet = request.query.flag("quiet");
    let mut reader = request.reader();
    streamed(move |lines| {
        if let Err(error) = load_images(&context, &mut reader, lines, quiet) {
            say(lines, &respond::error_line(&error));
        }
        Ok(())
    })
    .await
}

fn load_images(context: &ApiContext, reader: &mut dyn io::Read, lines: &Lines, quiet: bool) -> Result<()> {
    let progress = |step: Progress| {
        if !quiet {
            say(lines, &message(&step));
        }
    };
    for image in context.engine.images().load(reader, &progress)? {
        for tag in &image.tags {
            say(lines, &Message::stream(format!("Loaded image: {tag}\n")));
        }
        let id = image.id.to_string();
        if image.tags.is_empty() {
            say(lines, &Message::stream(format!("Loaded image ID: {id}\n")));
        }
        emit(&context.engine, "load", &id, &id);
    }
    Ok(())
}

pub async fn save(context: Arc<ApiContext>, request: Request) -> Result<Response> {
    let names: Vec<String> = match request.name.as_str() {
        "" => request.query.all("names").map(str::to_owned).collect(),
        name => vec![name.to_owned()],
    };
    if names.is_empty() {
        return Err(Error::invalid("no image was named to be saved"));
    }
    // naru's own; dockerd knows one form only.
    let form = match request.query.text("format") {
        "" | "docker" => ArchiveForm::Docker,
        "oci" => ArchiveForm::Oci,
        other => return Err(Error::invalid(format!("unknown format {other:?}: docker or oci"))),
    };
    let ids = names.iter().map(|name| Ok(context.engine.images().get(name)?.id.to_string()));
    let ids: Vec<String> = ids.collect::<Result<_>>()?;
    let (sender, response) = respond::stream("application/x-tar");
    tokio::task::spawn_blocking(move || {
        let mut out = io::BufWriter::with_capacity(SAVE_BUFFER_BYTES, PieceWriter(sender.clone()));
        let saved = context.engine.images().save_as(form, &names, &mut out);
        let flushed = io::Write::flush(&mut out);
        match (saved, flushed) {
            (Ok(()), Ok(())) => ids.iter().for_each(|id| emit(&context.engine, "save", id, id)),
            // Broken off, so that the client does not take half an archive for a whole one.
            (Err(error), _) => drop(sender.blocking_send(Err(io::Error::other(error.chain())))),
            (_, Err(error)) => drop(sender.blocking_send(Err(error))),
        }
    });
    Ok(response)
}

/// Size of the pieces of a saved archive, in bytes.
const SAVE_BUFFER_BYTES: usize = 64 * 1024;
