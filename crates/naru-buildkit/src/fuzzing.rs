//! Doors for the fuzz targets: what a client's bytes reach, with what must hold for it.

use crate::control::SolveRequest;
use crate::filesync::{DATA, Packet, STAT};
use crate::receive::Receiver;
use crate::{bridge, grpc, options};
use bytes::BytesMut;
use naru_build::BuildRequest;
use std::path::Path;

/// A transfer of a directory into `root`, as gRPC's messages. What it holds must be beneath `root`; `Ok(false)`: refused.
pub fn transfer(bytes: &[u8], root: &Path) -> Result<bool, String> {
    let mut held = BytesMut::from(bytes);
    let mut receiver = Receiver::new("context", root).map_err(|error| error.text())?;
    while let Ok(Some(message)) = grpc::split(&mut held) {
        let Ok(packet) = Packet::decode(message) else { return Ok(false) };
        let taken = match (packet.kind, packet.stat) {
            (STAT, Some(stat)) => receiver.entry(stat),
            (DATA, _) => receiver.data(packet.number, &packet.data),
            _ => Ok(()),
        };
        if taken.and_then(|()| receiver.ask()).is_err() {
            return Ok(false);
        }
    }
    Ok(receiver.finish().is_ok())
}

/// The messages with which a client drives a build.
pub fn messages(bytes: &[u8]) {
    // Whatever they hold: no panic.
    if let Ok(request) = SolveRequest::decode(bytes) {
        let _ = request.outputs();
    }
    let _ = bridge::outcome(bytes);
    if let Ok(attributes) = bridge::attributes(bytes) {
        let _ = options::apply(&attributes, &mut BuildRequest::new("/"));
    }
}

/// An error's text as a header, and read from it again.
pub fn header(text: &str) -> String {
    grpc::unescape(&grpc::percent(text))
}
