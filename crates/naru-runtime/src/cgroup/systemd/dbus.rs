//! A blocking D-Bus client for the few calls that systemd gets: connect, authenticate, call, wait for a signal.
//!
//! systemd's private socket speaks the same without a bus in between, so that there is no name to ask for; it is there
//! without a bus daemon. Every wait ends at a deadline, and every length is bounded ([`super::wire`]).

use super::wire::{self, ERROR, FIXED_BYTES, Fixed, METHOD_RETURN, Malformed, Message, Method, SIGNAL};
use naru_kernel::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// How long a call may take, and a job of systemd; runc waits as long.
pub(super) const CALL_TIME_MAX: Duration = Duration::from_secs(30);
/// Between attempts to connect to a socket whose queue is full.
const CONNECT_PAUSE: Duration = Duration::from_millis(10);
/// Bytes of a line of the authentication.
const LINE_BYTES_MAX: usize = 512;
/// Signals kept until somebody waits for them.
const SIGNALS_MAX: usize = 4096;

const GREETING: &[u8] = b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n";

const BUS: &str = "org.freedesktop.DBus";
const BUS_PATH: &str = "/org/freedesktop/DBus";

/// A call over D-Bus failed.
#[derive(Debug, thiserror::Error)]
pub enum DbusError {
    #[error("systemd cannot be reached: {0}")]
    NotReached(String),
    #[error("no answer within {} s", CALL_TIME_MAX.as_secs())]
    Timeout,
    #[error("connection lost: {0}")]
    Io(#[source] std::io::Error),
    #[error("authentication refused: {0:?}")]
    Auth(String),
    #[error("the answer is {0}")]
    Malformed(&'static str),
    /// With the name of the error.
    #[error("{message} ({name})")]
    Refused { name: String, message: String },
    #[error("the job ended as {0:?}")]
    Job(String),
}

impl From<Malformed> for DbusError {
    fn from(Malformed(why): Malformed) -> Self {
        Self::Malformed(why)
    }
}

/// Where somebody listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    /// Of a socket file; an abstract name starts with a zero byte.
    pub name: OsString,
    /// A bus wants to be greeted, and hands on only what was asked for.
    pub bus: bool,
}

/// The addresses of the system's manager, or of the user's, best first.
pub(super) fn addresses(user: bool) -> Vec<Address> {
    let file = |name: OsString, bus| Address { name, bus };
    if !user {
        let bus = file("/run/dbus/system_bus_socket".into(), true);
        // Only root may use the private socket.
        let private = rustix::process::geteuid().is_root();
        let private = private.then(|| file("/run/systemd/private".into(), false));
        return private.into_iter().chain([bus]).collect();
    }
    let mut found = Vec::new();
    if let Some(text) = std::env::var_os("DBUS_SESSION_BUS_ADDRESS") {
        found.extend(parse_address(text.as_bytes()).map(|name| file(name, true)));
    }
    if let Some(directory) = std::env::var_os("XDG_RUNTIME_DIR").filter(|text| !text.is_empty()) {
        let below = |end: &str| {
            let mut path = directory.clone();
            path.push(end);
            path
        };
        found.push(file(below("/bus"), true));
        found.push(file(below("/systemd/private"), false));
    }
    found.dedup();
    found
}

/// The first unix socket of `unix:path=…,guid=…;…` (D-Bus specification, "Server Addresses").
fn parse_address(text: &[u8]) -> Option<OsString> {
    let unix = text.split(|byte| *byte == b';').find_map(|address| address.strip_prefix(b"unix:"))?;
    unix.split(|byte| *byte == b',').find_map(|pair| {
        if let Some(path) = pair.strip_prefix(b"path=") {
            return unescape(path);
        }
        let name = unescape(pair.strip_prefix(b"abstract=")?)?;
        Some(OsString::from_vec([b"\0", name.as_bytes()].concat()))
    })
}

/// `%20` is a space.
fn unescape(text: &[u8]) -> Option<OsString> {
    let mut bytes = Vec::new();
    let mut rest = text.iter();
    while let Some(byte) = rest.next() {
        let mut digit = || (*rest.next()? as char).to_digit(16);
        bytes.push(if *byte == b'%' { (digit()? * 16 + digit()?) as u8 } else { *byte });
    }
    Some(OsString::from_vec(bytes))
}

/// One connection.
#[derive(Debug)]
pub(super) struct Connection {
    stream: UnixStream,
    serial: u32,
    bus: bool,
    signals: VecDeque<Message>,
}

impl Connection {
    /// The first address that answers.
    pub fn open(addresses: &[Address]) -> Result<Self, DbusError> {
        let mut failures = Vec::new();
        for Address { name, bus } in addresses {
            let shown = name.to_string_lossy().replace('\0', "@");
            match connect(name).and_then(|stream| Self::over(stream, *bus)) {
                Ok(connection) => return Ok(connection),
                Err(error) => failures.push(format!("{shown}: {error}")),
            }
        }
        if failures.is_empty() {
            failures.push("neither DBUS_SESSION_BUS_ADDRESS nor XDG_RUNTIME_DIR is set".into());
        }
        Err(DbusError::NotReached(failures.join("; ")))
    }

    pub fn over(stream: UnixStream, bus: bool) -> Result<Self, DbusError> {
        let mut connection = Self { stream, serial: 0, bus, signals: VecDeque::new() };
        connection.authenticate()?;
        if bus {
            connection.bus_call("Hello", None)?;
        }
        Ok(connection)
    }

    /// Asks the bus for a signal; a private socket sends all of them.
    pub fn listen_for(&mut self, interface: &str, member: &str) -> Result<(), DbusError> {
        if !self.bus {
            return Ok(());
        }
        self.bus_call("AddMatch", Some(&format!("type='signal',interface='{interface}',member='{member}'")))
    }

    /// Calls and waits for the answer. Signals that come before it are kept.
    pub fn call(&mut self, method: Method<'_>, body: &[u8]) -> Result<Message, DbusError> {
        let deadline = Instant::now() + CALL_TIME_MAX;
        self.serial = self.serial.wrapping_add(1).max(1);
        let serial = self.serial;
        let destination = if self.bus { method.destination } else { "" };
        self.write(&wire::call(serial, Method { destination, ..method }, body), deadline)?;
        loop {
            let message = self.read(deadline)?;
            match message.kind {
                METHOD_RETURN if message.reply_serial == serial => return Ok(message),
                ERROR if message.reply_serial == serial => {
                    let text = message.signature.starts_with('s').then(|| message.body().text().ok());
                    let message_text = text.flatten().unwrap_or("no reason given").to_owned();
                    return Err(DbusError::Refused { name: message.error_name, message: message_text });
                }
                _ => self.keep(message),
            }
        }
    }

    /// The next signal that `pick` wants.
    pub fn wait_signal<T>(&mut self, mut pick: impl FnMut(&Message) -> Option<T>) -> Result<T, DbusError> {
        let deadline = Instant::now() + CALL_TIME_MAX;
        loop {
            while let Some(message) = self.signals.pop_front() {
                if let Some(found) = pick(&message) {
                    return Ok(found);
                }
            }
            let message = self.read(deadline)?;
            self.keep(message);
        }
    }

    fn keep(&mut self, message: Message) {
        if message.kind != SIGNAL {
            return;
        }
        if self.signals.len() == SIGNALS_MAX {
            self.signals.pop_front();
        }
        self.signals.push_back(message);
    }

    fn bus_call(&mut self, member: &str, text: Option<&str>) -> Result<(), DbusError> {
        let signature = if text.is_some() { "s" } else { "" };
        let mut body = wire::Writer::default();
        if let Some(text) = text {
            body.text(text);
        }
        let method = Method { destination: BUS, path: BUS_PATH, interface: BUS, member, signature };
        self.call(method, &body.finish()).map(drop)
    }

    /// SASL EXTERNAL without a user id, as sd-bus does it: the kernel tells the peer who we are, also from inside a user
    /// namespace, where our own number is another one.
    ///
    /// All of it goes out at once, also as sd-bus does it. A BEGIN sent after the OK can reach systemd's private socket
    /// in one read with the first call; sd-bus then has the call in its buffer and waits for more input before it looks
    /// there (`bus_socket_read_auth`): neither side would ever speak again.
    fn authenticate(&mut self) -> Result<(), DbusError> {
        let deadline = Instant::now() + CALL_TIME_MAX;
        self.write(GREETING, deadline)?;
        let mut line = self.read_line(deadline)?;
        if line.trim_end() == "DATA" {
            line = self.read_line(deadline)?;
        }
        if line.starts_with("OK ") { Ok(()) } else { Err(DbusError::Auth(line)) }
    }

    fn read_line(&mut self, deadline: Instant) -> Result<String, DbusError> {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            if line.len() == LINE_BYTES_MAX {
                return Err(DbusError::Malformed("a line that does not end"));
            }
            let mut byte = [0];
            self.read_exact(&mut byte, deadline)?;
            line.push(byte[0]);
        }
        line.truncate(line.len() - 2);
        Ok(String::from_utf8_lossy(&line).into_owned())
    }

    fn read(&mut self, deadline: Instant) -> Result<Message, DbusError> {
        let mut fixed = [0; FIXED_BYTES];
        self.read_exact(&mut fixed, deadline)?;
        let fixed = Fixed::parse(fixed)?;
        let mut rest = vec![0; fixed.rest_len()];
        self.read_exact(&mut rest, deadline)?;
        Ok(Message::parse(fixed, &rest)?)
    }

    /// A peer that sends byte by byte gets no more time for it.
    fn read_exact(&mut self, mut buffer: &mut [u8], deadline: Instant) -> Result<(), DbusError> {
        while !buffer.is_empty() {
            self.stream.set_read_timeout(Some(left(deadline)?)).map_err(DbusError::Io)?;
            match self.stream.read(buffer) {
                Ok(0) => return Err(DbusError::Io(ErrorKind::UnexpectedEof.into())),
                Ok(count) => buffer = buffer.get_mut(count..).unwrap_or_default(),
                Err(error) => retry(error)?,
            }
        }
        Ok(())
    }

    fn write(&mut self, mut bytes: &[u8], deadline: Instant) -> Result<(), DbusError> {
        while !bytes.is_empty() {
            self.stream.set_write_timeout(Some(left(deadline)?)).map_err(DbusError::Io)?;
            match self.stream.write(bytes) {
                Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
                Err(error) => retry(error)?,
            }
        }
        Ok(())
    }
}

fn retry(error: std::io::Error) -> Result<(), DbusError> {
    match error.kind() {
        ErrorKind::Interrupted => Ok(()),
        ErrorKind::WouldBlock | ErrorKind::TimedOut => Err(DbusError::Timeout),
        _ => Err(DbusError::Io(error)),
    }
}

fn left(deadline: Instant) -> Result<Duration, DbusError> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(DbusError::Timeout) } else { Ok(left) }
}

/// connect(2) on a unix socket waits as long as the listener's queue is full, so it is asked not to.
fn connect(name: &OsString) -> Result<UnixStream, DbusError> {
    let failed = |errno: Errno| DbusError::Io(errno.into());
    let address = match name.as_bytes().strip_prefix(b"\0") {
        Some(name) => SocketAddrUnix::new_abstract_name(name),
        None => SocketAddrUnix::new(name.as_os_str()),
    };
    let address = address.map_err(failed)?;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).map_err(failed)?;
    let deadline = Instant::now() + CALL_TIME_MAX;
    loop {
        match rustix::net::connect(&socket, &address) {
            Ok(()) => break,
            Err(Errno::AGAIN | Errno::INTR) => {
                left(deadline)?;
                std::thread::sleep(CONNECT_PAUSE);
            }
            Err(errno) => return Err(failed(errno)),
        }
    }
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false).map_err(DbusError::Io)?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::super::wire::{Writer, tests::message};
    use super::*;

    /// A peer that says `answer` after the authentication, then goes.
    fn peer(greeting: &'static str, answer: Vec<u8>) -> UnixStream {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        std::thread::spawn(move || {
            let _ = theirs.write_all(greeting.as_bytes());
            let _ = theirs.write_all(&answer);
            // Until the other side has gone.
            let _ = theirs.set_read_timeout(Some(CALL_TIME_MAX));
            let mut all = Vec::new();
            if !answer.is_empty() {
                let _ = theirs.shutdown(std::net::Shutdown::Write);
            }
            let _ = theirs.read_to_end(&mut all);
        });
        ours
    }

    const METHOD: Method<'static> =
        Method { destination: "d", path: "/p", interface: "i", member: "M", signature: "" };

    fn ask(answer: Vec<u8>) -> Result<Message, DbusError> {
        Connection::over(peer("DATA\r\nOK 00ff\r\n", answer), false)?.call(METHOD, &[])
    }

    #[test]
    fn answers_and_refusals() {
        let mut body = Writer::default();
        body.text("yes");
        let body = body.finish();
        let other = message(METHOD_RETURN, &[], 9, &[]);
        let answer = [other, message(METHOD_RETURN, &[(8, "g", "s")], 1, &body)].concat();
        assert_eq!(ask(answer).unwrap().body().text(), Ok("yes"));
        let refusal = message(ERROR, &[(4, "s", "a.b.No"), (8, "g", "s")], 1, &body);
        let refused = ask(refusal).unwrap_err();
        assert!(
            matches!(refused, DbusError::Refused { name, message } if name == "a.b.No" && message == "yes")
        );
    }

    /// A peer that answers nothing before it has read the whole greeting.
    #[test]
    fn the_greeting_needs_no_answer() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let peer = std::thread::spawn(move || {
            let mut greeting = vec![0; GREETING.len()];
            theirs.read_exact(&mut greeting).unwrap();
            theirs.write_all(b"DATA\r\nOK x\r\n").unwrap();
            greeting
        });
        assert!(Connection::over(ours, false).is_ok());
        assert!(peer.join().unwrap().ends_with(b"\r\nBEGIN\r\n"));
    }

    #[test]
    fn a_signal_before_the_answer_is_kept() {
        let signal = message(SIGNAL, &[(3, "s", "JobRemoved")], 0, &[]);
        let answer = [signal, message(METHOD_RETURN, &[], 1, &[])].concat();
        let mut connection = Connection::over(peer("OK x\r\n", answer), false).unwrap();
        connection.call(METHOD, &[]).unwrap();
        let member = connection.wait_signal(|signal| Some(signal.member.clone())).unwrap();
        assert_eq!(member, "JobRemoved");
        assert!(matches!(connection.wait_signal(|_| Some(())), Err(DbusError::Io(_))));
    }

    #[test]
    fn peers_that_misbehave() {
        assert!(matches!(ask(b"HTTP/1.1 400 Bad Request\r\n".to_vec()), Err(DbusError::Malformed(_))));
        assert!(matches!(ask(message(METHOD_RETURN, &[], 1, &[])[..20].to_vec()), Err(DbusError::Io(_))));
        let refused = Connection::over(peer("REJECTED EXTERNAL\r\n", Vec::new()), false);
        assert!(matches!(refused, Err(DbusError::Auth(_))));
        let endless: &str = Box::leak("x".repeat(2 * LINE_BYTES_MAX).into_boxed_str());
        assert!(matches!(Connection::over(peer(endless, Vec::new()), false), Err(DbusError::Malformed(_))));
    }

    #[test]
    fn addresses_of_buses() {
        let parsed = |text: &str| parse_address(text.as_bytes());
        assert_eq!(parsed("tcp:host=x;unix:guid=1,path=/a%20b"), Some("/a b".into()));
        assert_eq!(parsed("unix:abstract=n"), Some("\0n".into()));
        assert_eq!(parsed("unix:tmpdir=/t"), None);
        assert_eq!(parsed("unix:path=%4"), None);
    }
}
