//! `naru registry`: a registry of naru's own, and the care of it. It needs no daemon.

use clap::{Parser, Subcommand, ValueEnum};
use naru_registry::{
    GRACE_DEFAULT, GcOptions, Pattern, RepositoryName, Rights, ServeOptions, Store, TlsFiles,
};
use naru_types::{Error, Result};
use std::ffi::OsString;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

const ROOT_DEFAULT: &str = "/var/lib/naru/registry";
const LISTEN_DEFAULT: &str = "127.0.0.1:5000";

#[derive(Debug, Parser)]
#[command(name = "naru registry", about = "A container registry of naru's own")]
struct RegistryFlags {
    /// Where the registry keeps everything
    #[arg(long, global = true, default_value = ROOT_DEFAULT)]
    root: PathBuf,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Serve images over HTTP, or HTTPS with a certificate
    Serve(ServeFlags),
    /// Tokens: who may pull, push and delete what
    #[command(subcommand)]
    Token(TokenVerb),
    /// Give a repository a quota of its own, or "none" to go by the server's
    Quota {
        repository: String,
        /// Bytes, or a number with k, m, g or t
        size: String,
    },
    /// Delete what no manifest needs; also beside a running server
    Gc {
        /// Keep what was pushed or asked for within so many seconds
        #[arg(long, value_name = "SECONDS", default_value_t = GRACE_DEFAULT.as_secs())]
        grace: u64,
        /// Also delete manifests that no tag reaches
        #[arg(long)]
        untagged: bool,
    },
    /// List repositories with their tags and sizes
    Ls,
}

#[derive(Debug, clap::Args)]
struct ServeFlags {
    #[arg(long, default_value = LISTEN_DEFAULT)]
    listen: SocketAddr,
    /// PEM file with the certificate and its chain
    #[arg(long, requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// PEM file with the certificate's key
    #[arg(long, requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Allow tags, manifests and blobs to be deleted, by tokens with that right
    #[arg(long)]
    delete: bool,
    /// Bytes that a repository may hold, or a number with k, m, g or t
    #[arg(long, value_name = "SIZE")]
    quota: Option<String>,
    /// What clients without a token may do
    #[arg(long, value_enum, default_value_t = Anonymous::None)]
    anonymous: Anonymous,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Anonymous {
    None,
    Pull,
    Push,
}

#[derive(Debug, Subcommand)]
enum TokenVerb {
    /// Make a token and print it, this once
    Create {
        /// A repository, all below one as team/*, or *
        #[arg(default_value = "*")]
        repositories: String,
        /// Of pull, push and delete; the latter two imply pull
        #[arg(long, default_value = "pull")]
        allow: String,
    },
    /// List tokens, without their secrets
    List,
    /// End a token
    Revoke { id: String },
}

pub fn run(args: &[OsString]) -> Result<std::result::Result<(), clap::Error>> {
    let flags = match RegistryFlags::try_parse_from(args) {
        Ok(flags) => flags,
        Err(error) => return Ok(Err(error)),
    };
    let open = |quota| Ok::<_, Error>(Store::open(&flags.root, quota)?);
    match flags.verb {
        Verb::Serve(serve_flags) => {
            let quota = serve_flags.quota.as_deref().map(size_bytes).transpose()?;
            serve(open(quota)?, serve_flags)?;
        }
        Verb::Token(verb) => token(&open(None)?, verb)?,
        Verb::Quota { repository, size } => {
            let name = RepositoryName::parse(&repository)
                .ok_or_else(|| Error::invalid(format!("invalid repository name {repository:?}")))?;
            let quota = if size == "none" { None } else { Some(size_bytes(&size)?) };
            open(None)?.set_quota(&name, quota)?;
        }
        Verb::Gc { grace, untagged } => {
            let options = GcOptions { grace: Duration::from_secs(grace), untagged };
            let gone = open(None)?.collect_garbage(options)?;
            say(&format!("{} manifests, {} blobs, {} bytes deleted", gone.manifests, gone.files, gone.bytes));
        }
        Verb::Ls => list(&open(None)?)?,
    }
    Ok(Ok(()))
}

fn serve(store: Store, flags: ServeFlags) -> Result<()> {
    let tls = flags.tls_cert.zip(flags.tls_key).map(|(certificates, key)| TlsFiles { certificates, key });
    if tls.is_none() && !flags.listen.ip().is_loopback() {
        log("without --tls-cert, tokens and images cross the network in the clear: put a TLS proxy in front");
    }
    let options = ServeOptions {
        delete: flags.delete,
        anonymous: match flags.anonymous {
            Anonymous::None => Rights::default(),
            Anonymous::Pull => Rights::PULL,
            // Deleting is only for who was given a token for it.
            Anonymous::Push => Rights::PUSH,
        },
        tls,
        log: Box::new(log),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Error::internal("can't start the server").with_source(error))?;
    runtime.block_on(async {
        let refused =
            |error| Error::unavailable(format!("can't listen on {}", flags.listen)).with_source(error);
        let listener = tokio::net::TcpListener::bind(flags.listen).await.map_err(refused)?;
        if let Ok(address) = listener.local_addr() {
            log(&format!("serving on {address}"));
        }
        Ok(naru_registry::serve(listener, Arc::new(store), options, told_to_end()).await?)
    })
}

/// SIGTERM or SIGINT.
async fn told_to_end() {
    use tokio::signal::unix::{SignalKind, signal};
    // Without a handler the signal's default still ends the process.
    let (Ok(mut terminate), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

fn token(store: &Store, verb: TokenVerb) -> Result<()> {
    match verb {
        TokenVerb::Create { repositories, allow } => {
            let pattern = Pattern::parse(&repositories).ok_or_else(|| {
                Error::invalid(format!("invalid repositories {repositories:?}"))
                    .with_hint("one name, all below one as team/*, or *")
            })?;
            let rights = Rights::parse(&allow).ok_or_else(|| {
                Error::invalid(format!("--allow takes pull, push and delete, not {allow:?}"))
            })?;
            let (token, secret) = store.create_token(&pattern, rights)?;
            log(&format!("token {} for {pattern}: {rights}; this is shown once", token.id));
            say(secret.reveal());
        }
        TokenVerb::List => {
            for token in store.tokens()? {
                say(&format!("{}\t{}\t{}", token.id, token.pattern, token.rights));
            }
        }
        TokenVerb::Revoke { id } => store.revoke_token(&id)?,
    }
    Ok(())
}

fn list(store: &Store) -> Result<()> {
    for repository in store.report()? {
        let quota = repository.quota_bytes.map_or(String::new(), |bytes| format!(" of {bytes}"));
        let tags = if repository.tags.is_empty() { "<none>".into() } else { repository.tags.join(",") };
        let size = repository.size_bytes;
        say(&format!("{}\t{} manifests\t{size}{quota} bytes\t{tags}", repository.name, repository.manifests));
    }
    Ok(())
}

fn size_bytes(text: &str) -> Result<u64> {
    let invalid =
        || Error::invalid(format!("invalid size {text:?}")).with_hint("as 500m, 10g or a number of bytes");
    let bytes = naru_types::quantity::parse_bytes(text).ok_or_else(invalid)?;
    u64::try_from(bytes).map_err(|_| invalid())
}

/// A standard output that is gone is nobody's problem.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

fn log(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "naru registry: {line}");
}
