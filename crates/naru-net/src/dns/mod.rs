//! The embedded resolver: 127.0.0.11 inside containers of user networks.
//!
//! Its sockets are opened inside the container's namespace, on free ports, and a rule there leads port 53 to them, so
//! that an application may still bind 0.0.0.0:53. They are served by one thread out here, and what is not ours is
//! asked of the host's name servers from the host's namespace. A name that a container can see is answered here for
//! every type and never forwarded.

mod answer;
mod forward;
mod packet;
mod server;
mod tcp;
mod zone;

pub(crate) use server::Resolver;
pub(crate) use zone::Zone;
