//! DNS over TCP (RFC 1035, section 4.2.2): a short-lived thread per connection, bounded in number and in time.

use super::answer::{self, Decision};
use super::forward;
use super::server::{Client, Shared};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Connections at once, of all containers.
const CONNECTIONS_MAX: usize = 64;
/// Questions over one connection.
const QUESTIONS_MAX: usize = 100;
/// How long a client may be silent, and an upstream may take.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5);

static CONNECTIONS: AtomicUsize = AtomicUsize::new(0);

/// Serves a connection on its own thread; one too many is closed at once.
pub(crate) fn serve(shared: Arc<Shared>, client: &Arc<Client>, stream: TcpStream) {
    if CONNECTIONS.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS_MAX {
        CONNECTIONS.fetch_sub(1, Ordering::Relaxed);
        return;
    }
    // The thread holds no strong reference between questions: detach shuts the stream down and frees the client.
    client.remember_stream(&stream);
    let weak = Arc::downgrade(client);
    let worker = std::thread::Builder::new().name("naru-dns-tcp".into()).stack_size(256 << 10);
    let spawned = worker.spawn(move || {
        // A broken connection is the client's affair.
        let _ = converse(stream, |question| {
            weak.upgrade().and_then(|client| respond(&shared, &client, question))
        });
        CONNECTIONS.fetch_sub(1, Ordering::Relaxed);
    });
    if spawned.is_err() {
        CONNECTIONS.fetch_sub(1, Ordering::Relaxed);
    }
}

fn converse(mut stream: TcpStream, mut respond: impl FnMut(&[u8]) -> Option<Vec<u8>>) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(IDLE_TIMEOUT))?;
    stream.set_write_timeout(Some(IDLE_TIMEOUT))?;
    for _ in 0..QUESTIONS_MAX {
        let question = read_message(&mut stream)?;
        match respond(&question) {
            Some(answer) => write_message(&mut stream, &answer)?,
            None => break,
        }
    }
    Ok(())
}

fn respond(shared: &Shared, client: &Client, question: &[u8]) -> Option<Vec<u8>> {
    match shared.decide(client, question, false) {
        Decision::Answer(bytes) => Some(bytes),
        Decision::Silence => None,
        Decision::Forward(query) => {
            let servers = client.servers(&shared.resolv_conf);
            let answer = servers.iter().find_map(|server| ask(*server, question).ok());
            Some(answer.unwrap_or_else(|| answer::failure(&query, false)))
        }
    }
}

fn ask(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&server, IDLE_TIMEOUT)?;
    stream.set_read_timeout(Some(IDLE_TIMEOUT))?;
    stream.set_write_timeout(Some(IDLE_TIMEOUT))?;
    write_message(&mut stream, question)?;
    read_message(&mut stream)
}

fn read_message(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut bytes = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Length and message in one write, so that they share a segment (RFC 7766, section 8).
fn write_message(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    let length = u16::try_from(bytes.len()).map_err(|_| io::ErrorKind::InvalidData)?;
    stream.write_all(&[&length.to_be_bytes()[..], bytes].concat())
}

impl Client {
    pub(crate) fn servers(&self, resolv_conf: &std::path::Path) -> Vec<SocketAddr> {
        if self.external() { forward::servers(&self.dns(), resolv_conf) } else { Vec::new() }
    }
}
