//! What the proxy answers by itself: short pages without a byte from the request in them.

use bytes::Bytes;
use hyper::StatusCode;

/// Why a request went no further. Each has one status and one sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    BadRequestLine,
    BadHeader,
    LineEnding,
    ObsoleteFolding,
    Host,
    HostMismatch,
    ContentLength,
    TransferEncoding,
    BothFramings,
    Body,
    TargetTooLong,
    HeadTooLarge,
    Method,
    Misdirected,
    UnknownHost,
    UnknownPath,
    NotReady,
    Busy,
    Unreachable,
    Broken,
    Silent,
}

impl Refusal {
    /// What the gate may refuse, so that a number can travel from it to the service and back.
    pub const BY_GATE: [Self; 12] = [
        Self::BadRequestLine,
        Self::BadHeader,
        Self::LineEnding,
        Self::ObsoleteFolding,
        Self::Host,
        Self::HostMismatch,
        Self::ContentLength,
        Self::TransferEncoding,
        Self::BothFramings,
        Self::TargetTooLong,
        Self::HeadTooLarge,
        Self::Method,
    ];

    pub fn status(self) -> StatusCode {
        match self {
            Self::BadRequestLine
            | Self::BadHeader
            | Self::LineEnding
            | Self::ObsoleteFolding
            | Self::Host
            | Self::HostMismatch
            | Self::ContentLength
            | Self::TransferEncoding
            | Self::BothFramings
            | Self::Body => StatusCode::BAD_REQUEST,
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Method => StatusCode::NOT_IMPLEMENTED,
            Self::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Self::UnknownHost | Self::UnknownPath => StatusCode::NOT_FOUND,
            Self::NotReady | Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Self::Unreachable | Self::Broken => StatusCode::BAD_GATEWAY,
            Self::Silent => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    pub fn sentence(self) -> &'static str {
        match self {
            Self::BadRequestLine => "The request line is malformed.",
            Self::BadHeader => "A header field is malformed.",
            Self::LineEnding => "A line does not end with CR LF.",
            Self::ObsoleteFolding => "A header field goes on in the next line.",
            Self::Host => "There must be exactly one valid Host.",
            Self::HostMismatch => "The host in the request line and the Host header differ.",
            Self::ContentLength => "Content-Length must be one plain number.",
            Self::TransferEncoding => "Transfer-Encoding must be one field that says chunked.",
            Self::BothFramings => "Content-Length and Transfer-Encoding exclude each other.",
            Self::Body => "The request body is malformed or incomplete.",
            Self::TargetTooLong => "The address is too long.",
            Self::HeadTooLarge => "The header is too large.",
            Self::Method => "This method is not supported.",
            Self::Misdirected => "This connection was opened for another host.",
            Self::UnknownHost => "No service is registered for this host.",
            Self::UnknownPath => "No service is registered for this path.",
            Self::NotReady => "The service is not ready. Try again in a moment.",
            Self::Busy => "The service has too much to do. Try again in a moment.",
            Self::Unreachable => "The service does not accept connections.",
            Self::Broken => "The service broke off before it answered.",
            Self::Silent => "The service did not answer in time.",
        }
    }

    /// Whether the connection cannot be used any more, because nobody knows where the next request begins.
    pub fn closes(self) -> bool {
        self.status() == StatusCode::BAD_REQUEST || Self::BY_GATE.contains(&self)
    }

    pub fn page(self) -> Bytes {
        let (status, sentence) = (self.status(), self.sentence());
        Bytes::from(format!(
            "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{status}</title>\
             <body style=\"font-family:sans-serif;margin:4em auto;max-width:36em\"><h1>{status}</h1><p>{sentence}</p>\n"
        ))
    }
}
