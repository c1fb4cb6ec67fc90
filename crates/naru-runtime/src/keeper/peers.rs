//! The daemons that are connected: usually one, two while one takes over from another.
//!
//! The keeper never waits for a daemon. One that does not read loses its connection once its socket is full; it connects
//! again and lists, and so misses nothing.

use super::journal::Journal;
use super::poller::{Interest, Key, Poller, Source, Watched};
use super::protocol::{Envelope, Event, FdRole, FromKeeper, Request};
use super::state::{Kept, PeerState};
use super::wire::{self, Patience, Received, WireError};
use naru_kernel::unix;
use rustix::net::sockopt;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Most connections at once.
const PEERS_MAX: usize = 16;
/// Bytes that may wait in the socket for a daemon that is busy: thousands of events.
const SEND_BUFFER_BYTES: usize = 4 << 20;

#[derive(Default)]
pub(super) struct Peers {
    peers: BTreeMap<Key, Peer>,
    buffer: Vec<u8>,
}

struct Peer {
    socket: Watched,
    /// Versions were agreed upon; before that nothing is done for it.
    greeted: bool,
}

/// What a readable connection gave.
pub(super) enum Incoming {
    Request(Box<Envelope<Request>>, wire::Fds),
    /// Not understood; the peer is told so.
    Garbage(WireError),
    /// Nothing more for now.
    Nothing,
    /// The peer has gone, and its connection is closed.
    Gone,
}

impl Peers {
    pub fn accept(&mut self, listener: BorrowedFd<'_>, poller: &mut Poller, journal: &mut Journal) {
        let socket = match unix::accept(listener) {
            Ok(socket) => socket,
            Err(error) => return journal.write(format_args!("cannot accept a connection: {error}")),
        };
        if self.peers.len() >= PEERS_MAX {
            return journal.write(format_args!("refused a connection: {PEERS_MAX} are open"));
        }
        self.insert(socket, false, poller);
    }

    /// `None`: it cannot be watched and was closed.
    pub fn insert(&mut self, socket: OwnedFd, greeted: bool, poller: &mut Poller) -> Option<Key> {
        // Root may pass the host's limit; anybody else lives with it.
        if sockopt::set_socket_send_buffer_size_force(&socket, SEND_BUFFER_BYTES).is_err() {
            let _ = sockopt::set_socket_send_buffer_size(&socket, SEND_BUFFER_BYTES);
        }
        let key = poller.fresh_key();
        let mut watched = poller.adopt(socket, Source::Connection(key));
        if poller.set(&mut watched, Interest::IN).is_err() {
            drop(poller.release(watched));
            return None;
        }
        self.peers.insert(key, Peer { socket: watched, greeted });
        Some(key)
    }

    pub fn greet(&mut self, key: Key) {
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.greeted = true;
        }
    }

    pub fn is_greeted(&self, key: Key) -> bool {
        self.peers.get(&key).is_some_and(|peer| peer.greeted)
    }

    pub fn save<'a>(&'a self, asked: (Key, u64), kept: &mut Kept<'a>) -> Vec<PeerState> {
        let save = |(key, peer): (&Key, &'a Peer)| PeerState {
            socket: kept.fd(peer.socket.as_fd()),
            greeted: peer.greeted,
            upgrade_seq: (*key == asked.0).then_some(asked.1),
        };
        self.peers.iter().map(save).collect()
    }

    /// Takes one message; closes the connection when its peer has gone.
    pub fn receive(&mut self, key: Key, poller: &mut Poller) -> Incoming {
        let Some(peer) = self.peers.get(&key) else { return Incoming::Nothing };
        match wire::receive(peer.socket.as_fd(), Patience::Never, &mut self.buffer) {
            Ok(Received::Message(envelope, fds)) => Incoming::Request(Box::new(envelope), fds),
            Err(WireError::Receive(error)) if error.kind() == io::ErrorKind::WouldBlock => Incoming::Nothing,
            // A packet that was too long or carried too many descriptors has been taken away with the error.
            Err(WireError::Receive(error)) if is_oversize(&error) => {
                Incoming::Garbage(WireError::Receive(error))
            }
            Ok(Received::Closed) | Err(WireError::Receive(_)) => {
                self.close(key, poller);
                Incoming::Gone
            }
            Err(error) => Incoming::Garbage(error),
        }
    }

    pub fn send(
        &mut self,
        key: Key,
        seq: u64,
        message: &FromKeeper,
        fds: &[(FdRole, BorrowedFd<'_>)],
        poller: &mut Poller,
    ) {
        let Some(peer) = self.peers.get(&key) else { return };
        if wire::send(peer.socket.as_fd(), Patience::Never, seq, message, fds).is_err() {
            self.close(key, poller);
        }
    }

    pub fn broadcast(&mut self, event: &Event, poller: &mut Poller) {
        let message = FromKeeper::Event(event.clone());
        let keys: Vec<Key> = self.peers.keys().copied().collect();
        for key in keys {
            self.send(key, 0, &message, &[], poller);
        }
    }

    /// Gives back the receive buffer's memory, which a daemon that has gone silent does not need.
    pub fn trim(&mut self) {
        self.buffer = Vec::new();
    }

    fn close(&mut self, key: Key, poller: &mut Poller) {
        if let Some(peer) = self.peers.remove(&key) {
            drop(poller.release(peer.socket));
        }
    }
}

fn is_oversize(error: &io::Error) -> bool {
    [naru_kernel::Errno::MSGSIZE, naru_kernel::Errno::TOOMANYREFS]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}
