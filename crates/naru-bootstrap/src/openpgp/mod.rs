//! OpenPGP signatures (RFC 9580, RFC 4880), as far as archives of distributions use them, and no further.
//!
//! Read: version 4 keys and signatures with RSA and Ed25519, over SHA-256, SHA-384 or SHA-512; cleartext documents (`InRelease`)
//! and detached signatures (`Release.gpg`). Not read: older keys, SHA-1, DSA, encryption, the web of trust. A whole OpenPGP library
//! would bring more code than the rest of this crate together; what is here checks with ring, as our TLS does.
//!
//! What the keyring holds is trusted because the administrator put it there. A subkey still has to be bound to its primary key
//! by a signature, and neither may be expired or revoked.

mod armor;
mod cleartext;
mod key;
mod packet;
mod signature;

pub use armor::dearmor;
pub use cleartext::Cleartext;
pub use key::Keyring;
pub use signature::{Signature, signatures};

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PgpError {
    #[error("a packet is cut off or malformed: {0}")]
    Packet(&'static str),
    #[error("the ASCII armor is malformed: {0}")]
    Armor(&'static str),
    #[error("the signed document is malformed: {0}")]
    Cleartext(&'static str),
    #[error("there is no signature")]
    NoSignature,
    #[error("the keyring holds no key that can sign")]
    EmptyKeyring,
    #[error("no key of the keyring made a signature here (it was signed by {})", issuers.join(", "))]
    UnknownKey { issuers: Vec<String> },
    #[error("the signature of key {key} is BAD: what it signed was changed")]
    Bad { key: String },
    #[error("the signature of key {key} cannot be accepted: {why}")]
    Rejected { key: String, why: &'static str },
}

pub type Result<T> = std::result::Result<T, PgpError>;

/// Checks that `text` was signed by at least one key of the keyring, as of `now` (seconds since 1970), and by none of them wrongly.
/// Gives the fingerprints of the keys whose signatures are good.
///
/// A bad signature refuses the document even beside a good one: gpgv, on which apt relies, does so too.
pub fn verify(keyring: &Keyring, text: &[u8], found: &[Signature], now: i64) -> Result<Vec<String>> {
    if found.is_empty() {
        return Err(PgpError::NoSignature);
    }
    let mut good = Vec::new();
    let mut rejected = None;
    for signature in found {
        let Some(key) = keyring.find(signature) else { continue };
        match signature.check(key, text, now) {
            Ok(()) => good.push(key.fingerprint_hex()),
            Err(bad @ PgpError::Bad { .. }) => return Err(bad),
            Err(other) => rejected = Some(other),
        }
    }
    match (good.is_empty(), rejected) {
        (false, _) => Ok(good),
        (true, Some(error)) => Err(error),
        (true, None) => {
            Err(PgpError::UnknownKey { issuers: found.iter().map(Signature::issuer_hex).collect() })
        }
    }
}
