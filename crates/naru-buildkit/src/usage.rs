//! Control.DiskUsage, Prune and the history: the build cache as one record, since naru's steps share their layers.

use crate::error::{Error, Result};
use crate::grpc::Writer;
use crate::server::Shared;
use crate::wire::{Out, fields};
use naru_build::PrunedCache;
use std::sync::Arc;

/// DiskUsageResponse.
pub async fn disk_usage(shared: Arc<Shared>, message: &[u8]) -> Result<Out> {
    fields(message, |field, value| match field {
        1 if !value.bytes()?.is_empty() => unsupported("a filter of the build cache", "leave --filter out"),
        2 if value.number()? != 0 => unsupported("an age of the build cache", "leave --filter out"),
        _ => Ok(()),
    })?;
    let usage = blocking(move || shared.builder.cache_usage()).await?;
    Ok(if usage.entries == 0 { Out::default() } else { Out::default().message(1, &record(usage)) })
}

/// Control.Prune: everything that no running build uses; what was freed comes as one record.
pub async fn prune(shared: Arc<Shared>, message: bytes::Bytes, writer: Writer) {
    let outcome = async {
        fields(&message, |field, value| match field {
            1 if !value.bytes()?.is_empty() => {
                unsupported("a filter of the build cache", "leave --filter out: the whole cache goes")
            }
            3..=6 if value.number()? != 0 => {
                unsupported("pruning to an age or a size", "leave it out: the whole cache goes")
            }
            _ => Ok(()),
        })?;
        let freed = blocking(move || shared.builder.prune()).await?;
        if freed != PrunedCache::default() {
            writer.send(&record(freed).0).await?;
        }
        Ok(())
    };
    let outcome = outcome.await;
    writer.finish(outcome).await;
}

/// UsageRecord.
fn record(usage: PrunedCache) -> Out {
    let words = format!("the results of {} steps, and cache mounts", usage.entries);
    let record = Out::default().text(1, "build-cache").number(4, usage.bytes).text(9, &words);
    record.text(10, "regular")
}

async fn blocking(
    work: impl FnOnce() -> naru_types::Result<PrunedCache> + Send + 'static,
) -> Result<PrunedCache> {
    Ok(tokio::task::spawn_blocking(work).await.map_err(|_| Error::Broken)??)
}

fn unsupported(what: &str, hint: &'static str) -> Result<()> {
    Err(Error::Unsupported { what: what.to_owned(), hint })
}
