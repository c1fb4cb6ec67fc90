//! The resolver's thread: one epoll over the sockets in all containers and the questions under way.

use super::answer::{self, Decision};
use super::forward::Forward;
use super::tcp;
use super::zone::{View, Zone};
use crate::error::{Context as _, NetError};
use crate::files::EMBEDDED_DNS;
use crate::firewall;
use crate::model::Endpoint;
use naru_kernel::ns;
use naru_types::ContainerId;
use rustix::event::{EventfdFlags, Timespec, epoll};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Instant;

/// Questions under way at once; beyond it SERVFAIL (moby's resolver has the same bound).
const FORWARDS_MAX: usize = 1024;
/// Packets taken from one socket before the others have their turn.
const PACKETS_PER_TURN: usize = 32;
const EVENTS_PER_WAIT: usize = 64;
/// Bytes of the largest UDP message.
const PACKET_BYTES: usize = 65_535;
/// nftables table inside a container's namespace.
const TABLE: &str = "naru-dns";
const WAKE_KEY: u64 = 0;

/// The resolver of one instance. Dropping it ends its thread.
#[derive(Debug)]
pub(crate) struct Resolver {
    shared: Arc<Shared>,
    thread: Option<std::thread::JoinHandle<()>>,
}

/// What the thread, the TCP threads and the public face share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) resolv_conf: PathBuf,
    zone: Zone,
    epoll: OwnedFd,
    wake: OwnedFd,
    stop: AtomicBool,
    next_key: AtomicU64,
    turn: AtomicUsize,
    clients: Mutex<HashMap<ContainerId, Arc<Client>>>,
    sources: Mutex<HashMap<u64, Source>>,
}

/// A container's sockets and point of view.
#[derive(Debug)]
pub(crate) struct Client {
    udp: UdpSocket,
    tcp: TcpListener,
    keys: [u64; 2],
    view: Mutex<(View, bool, Vec<IpAddr>)>,
    streams: Mutex<Vec<TcpStream>>,
}

#[derive(Clone, Debug)]
enum Source {
    Udp(Weak<Client>),
    Tcp(Weak<Client>),
}

/// A question under way and who asked it. The reference is weak: detach must free the sockets at once.
#[derive(Debug)]
struct Pending {
    forward: Forward,
    client: Weak<Client>,
    peer: SocketAddr,
}

impl Resolver {
    /// Starts the thread, in the namespace of the calling one.
    pub(crate) fn start(zone: Zone, resolv_conf: PathBuf) -> Result<Self, NetError> {
        let open = || -> io::Result<Arc<Shared>> {
            let shared = Shared {
                resolv_conf,
                zone,
                epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
                wake: rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
                stop: AtomicBool::new(false),
                next_key: AtomicU64::new(WAKE_KEY + 1),
                turn: AtomicUsize::new(0),
                clients: Mutex::default(),
                sources: Mutex::default(),
            };
            shared.watch(&shared.wake, WAKE_KEY)?;
            Ok(Arc::new(shared))
        };
        let shared = open().step("start the", "resolver")?;
        let worker = std::thread::Builder::new().name("naru-dns".into()).stack_size(256 << 10);
        let its_own = Arc::clone(&shared);
        let thread =
            worker.spawn(move || Loop::new(its_own).run()).step("start the thread of the", "resolver")?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Opens sockets inside `netns` and answers there; a container that is known already only gets its new view.
    pub(crate) fn register(
        &self,
        container: &ContainerId,
        netns: BorrowedFd<'_>,
        endpoints: &[Endpoint],
        external: bool,
        dns: &[IpAddr],
    ) -> Result<(), NetError> {
        let view = (View::of(endpoints), external, dns.to_vec());
        if let Some(client) = lock(&self.shared.clients).get(container) {
            *lock(&client.view) = view;
            return Ok(());
        }
        let sockets = ns::run_in(netns, ns::NEWNET, open_inside)
            .step("enter the namespace of container", container.short())?;
        let (udp, tcp) = sockets?;
        let keys = [self.shared.key(), self.shared.key()];
        let client = Arc::new(Client { udp, tcp, keys, view: Mutex::new(view), streams: Mutex::default() });
        {
            let mut sources = lock(&self.shared.sources);
            sources.insert(keys[0], Source::Udp(Arc::downgrade(&client)));
            sources.insert(keys[1], Source::Tcp(Arc::downgrade(&client)));
        }
        lock(&self.shared.clients).insert(container.clone(), Arc::clone(&client));
        let watched =
            self.shared.watch(&client.udp, keys[0]).and_then(|()| self.shared.watch(&client.tcp, keys[1]));
        watched.step("watch the resolver sockets of container", container.short())
    }

    /// Closes the container's sockets; they would keep its namespace alive.
    pub(crate) fn unregister(&self, container: &ContainerId) {
        let Some(client) = lock(&self.shared.clients).remove(container) else { return };
        lock(&self.shared.sources).retain(|key, _| !client.keys.contains(key));
        // Not registered any more is as good as deleted.
        let _ = epoll::delete(&self.shared.epoll, &client.udp);
        let _ = epoll::delete(&self.shared.epoll, &client.tcp);
        for stream in lock(&client.streams).drain(..) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }
}

impl Drop for Resolver {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        let _ = rustix::io::write(&self.shared.wake, &1u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    pub(crate) fn decide(&self, client: &Client, bytes: &[u8], udp: bool) -> Decision {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let view = lock(&client.view).0.clone();
        answer::decide(&self.zone, &view, bytes, turn, udp)
    }

    fn key(&self) -> u64 {
        self.next_key.fetch_add(1, Ordering::Relaxed)
    }

    fn watch(&self, fd: impl AsFd, key: u64) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, fd, epoll::EventData::new_u64(key), epoll::EventFlags::IN)?)
    }
}

impl Client {
    pub(crate) fn external(&self) -> bool {
        lock(&self.view).1
    }

    pub(crate) fn dns(&self) -> Vec<IpAddr> {
        lock(&self.view).2.clone()
    }

    /// So that detach can end the conversation. Streams that are over are dropped on the way.
    pub(crate) fn remember_stream(&self, stream: &TcpStream) {
        let mut streams = lock(&self.streams);
        streams.retain(|stream| stream.peer_addr().is_ok());
        streams.extend(stream.try_clone());
    }
}

struct Loop {
    shared: Arc<Shared>,
    pending: HashMap<u64, Pending>,
    buffer: Vec<u8>,
}

impl Loop {
    fn new(shared: Arc<Shared>) -> Self {
        Self { shared, pending: HashMap::new(), buffer: vec![0; PACKET_BYTES] }
    }

    fn run(mut self) {
        let mut events = Vec::with_capacity(EVENTS_PER_WAIT);
        while !self.shared.stop.load(Ordering::Relaxed) {
            events.clear();
            let timeout = self.timeout();
            let waited = epoll::wait(
                &self.shared.epoll,
                rustix::buffer::spare_capacity(&mut events),
                timeout.as_ref(),
            );
            if !matches!(waited, Ok(_) | Err(rustix::io::Errno::INTR)) {
                return;
            }
            for event in &events {
                self.handle(event.data.u64());
            }
            self.expire();
        }
    }

    /// Until the next deadline; `None` waits for ever.
    fn timeout(&self) -> Option<Timespec> {
        let next = self.pending.values().map(|pending| pending.forward.deadline).min()?;
        let left = next.saturating_duration_since(Instant::now());
        Some(Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) })
    }

    fn handle(&mut self, key: u64) {
        if self.pending.contains_key(&key) {
            self.upstream(key);
            return;
        }
        let source = lock(&self.shared.sources).get(&key).cloned();
        match source {
            Some(Source::Udp(client)) => {
                if let Some(client) = client.upgrade() {
                    self.questions(&client);
                }
            }
            Some(Source::Tcp(client)) => {
                if let Some(client) = client.upgrade()
                    && let Ok((stream, _)) = client.tcp.accept()
                {
                    tcp::serve(Arc::clone(&self.shared), &client, stream);
                }
            }
            None => {}
        }
    }

    fn questions(&mut self, client: &Arc<Client>) {
        for _ in 0..PACKETS_PER_TURN {
            let Ok((length, peer)) = client.udp.recv_from(&mut self.buffer) else { return };
            let bytes = &self.buffer[..length];
            // A lost answer is repeated by the asker, so a failed send needs no care.
            match self.shared.decide(client, bytes, true) {
                Decision::Silence => {}
                Decision::Answer(answer) => drop(client.udp.send_to(&answer, peer)),
                Decision::Forward(query) => {
                    let bytes = bytes.to_vec();
                    let failure = answer::failure(&query, true);
                    if self.forward(client, peer, query, bytes).is_err() {
                        drop(client.udp.send_to(&failure, peer));
                    }
                }
            }
        }
    }

    fn forward(
        &mut self,
        client: &Arc<Client>,
        peer: SocketAddr,
        query: super::packet::Query,
        bytes: Vec<u8>,
    ) -> io::Result<()> {
        if self.pending.len() >= FORWARDS_MAX {
            return Err(io::ErrorKind::ResourceBusy.into());
        }
        let forward = Forward::start(query, bytes, client.servers(&self.shared.resolv_conf))?;
        let key = self.shared.key();
        self.shared.watch(&forward.socket, key)?;
        self.pending.insert(key, Pending { forward, client: Arc::downgrade(client), peer });
        Ok(())
    }

    fn upstream(&mut self, key: u64) {
        let Some(pending) = self.pending.get(&key) else { return };
        match pending.forward.receive(&mut self.buffer) {
            Ok(None) => {}
            Ok(Some(answer)) => self.finish(key, Some(answer)),
            // Refused (ICMP): the next server, now.
            Err(_) => self.next_server(key),
        }
    }

    fn next_server(&mut self, key: u64) {
        let Some(pending) = self.pending.get_mut(&key) else { return };
        let again = pending.forward.retry().and_then(|()| self.shared.watch(&pending.forward.socket, key));
        if again.is_err() {
            self.finish(key, None);
        }
    }

    fn finish(&mut self, key: u64, answer: Option<Vec<u8>>) {
        let Some(pending) = self.pending.remove(&key) else { return };
        let answer = answer.unwrap_or_else(|| answer::failure(&pending.forward.query, true));
        if let Some(client) = pending.client.upgrade() {
            let _ = client.udp.send_to(&answer, pending.peer);
        }
    }

    fn expire(&mut self) {
        let now = Instant::now();
        let late: Vec<u64> = self
            .pending
            .iter()
            .filter(|(_, pending)| pending.forward.deadline <= now)
            .map(|(key, _)| *key)
            .collect();
        for key in late {
            self.next_server(key);
        }
    }
}

/// On a thread inside the container's namespace.
fn open_inside() -> Result<(UdpSocket, TcpListener), NetError> {
    let open = || -> io::Result<(UdpSocket, TcpListener, u16, u16)> {
        let udp = UdpSocket::bind((EMBEDDED_DNS, 0))?;
        udp.set_nonblocking(true)?;
        let tcp = TcpListener::bind((EMBEDDED_DNS, 0))?;
        tcp.set_nonblocking(true)?;
        let ports = (udp.local_addr()?.port(), tcp.local_addr()?.port());
        Ok((udp, tcp, ports.0, ports.1))
    };
    let (udp, tcp, udp_port, tcp_port) = open().step("open the resolver's sockets at", EMBEDDED_DNS)?;
    firewall::redirect_dns(TABLE, EMBEDDED_DNS, udp_port, tcp_port)?;
    Ok((udp, tcp))
}

/// A panic elsewhere must not take the resolver down.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
