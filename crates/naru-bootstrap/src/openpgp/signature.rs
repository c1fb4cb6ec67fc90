//! Version 4 signatures (RFC 9580, section 5.2).

use super::key::{Key, Material};
use super::packet::{Cursor, TAG_SIGNATURE, packets};
use super::{PgpError, Result};
use ring::signature::{
    ED25519, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
    RsaPublicKeyComponents, UnparsedPublicKey,
};

/// Signature types (section 5.2.1).
pub const TYPE_BINARY: u8 = 0x00;
pub const TYPE_TEXT: u8 = 0x01;
pub const TYPE_SUBKEY_BINDING: u8 = 0x18;
pub const TYPE_PRIMARY_BINDING: u8 = 0x19;
pub const TYPE_DIRECT_KEY: u8 = 0x1f;
pub const TYPE_KEY_REVOCATION: u8 = 0x20;
pub const TYPE_SUBKEY_REVOCATION: u8 = 0x28;

const ALGORITHM_EDDSA_LEGACY: u8 = 22;
const ALGORITHM_ED25519: u8 = 27;
/// How far ahead of ours the clock of a signer may be, in seconds.
const CLOCK_SKEW_SECS_MAX: i64 = 3600;
/// Where a hash algorithm's number stands in the table of section 9.5.
const SHA256: u8 = 8;
const SHA384: u8 = 9;
const SHA512: u8 = 10;

#[derive(Clone, Debug)]
pub struct Signature {
    pub kind: u8,
    algorithm: u8,
    hash: u8,
    /// All that is hashed of the signature itself, from the version to the hashed subpackets.
    hashed: Vec<u8>,
    /// Seconds since 1970.
    pub created: i64,
    expires_after: Option<u32>,
    /// Of the key that this signature is about, seconds after its creation.
    pub key_expires_after: Option<u32>,
    pub key_flags: Option<u8>,
    issuer: Option<[u8; 8]>,
    fingerprint: Option<Vec<u8>>,
    /// The body of an embedded signature: the back signature of a signing subkey.
    pub embedded: Option<Vec<u8>>,
    /// A part that must be understood and isn't.
    unknown_critical: bool,
    /// What the algorithm signs with: one number (RSA) or two (EdDSA).
    values: Vec<Vec<u8>>,
}

/// The version 4 signatures among the packets of `bytes`; others are left out.
pub fn signatures(bytes: &[u8]) -> Result<Vec<Signature>> {
    let all = packets(bytes)?;
    let bodies = all.iter().filter(|(tag, body)| *tag == TAG_SIGNATURE && body.first() == Some(&4));
    bodies.map(|(_, body)| Signature::parse(body)).collect()
}

impl Signature {
    pub fn parse(body: &[u8]) -> Result<Self> {
        let mut cursor = Cursor(body);
        if cursor.u8()? != 4 {
            return Err(PgpError::Packet("a signature that is not of version 4"));
        }
        let (kind, algorithm, hash) = (cursor.u8()?, cursor.u8()?, cursor.u8()?);
        let hashed_length = usize::from(cursor.u16()?);
        let hashed_area = cursor.take(hashed_length)?;
        let mut signature = Self {
            kind,
            algorithm,
            hash,
            hashed: body[..6 + hashed_length].to_vec(),
            created: 0,
            expires_after: None,
            key_expires_after: None,
            key_flags: None,
            issuer: None,
            fingerprint: None,
            embedded: None,
            unknown_critical: false,
            values: Vec::new(),
        };
        signature.subpackets(hashed_area, true)?;
        let unhashed_length = usize::from(cursor.u16()?);
        signature.subpackets(cursor.take(unhashed_length)?, false)?;
        // The first two bytes of the hash: a hint that we have no use for.
        cursor.take(2)?;
        signature.values = match algorithm {
            1 | 3 => vec![cursor.mpi()?.to_vec()],
            ALGORITHM_EDDSA_LEGACY => vec![cursor.mpi()?.to_vec(), cursor.mpi()?.to_vec()],
            ALGORITHM_ED25519 => vec![cursor.take(64)?.to_vec()],
            // Never checked: no key here has such an algorithm.
            _ => Vec::new(),
        };
        Ok(signature)
    }

    /// What isn't hashed may only help to find the key: everything else counts when it is protected by the signature.
    fn subpackets(&mut self, area: &[u8], hashed: bool) -> Result<()> {
        let mut cursor = Cursor(area);
        while !cursor.0.is_empty() {
            let length = cursor.length(false)?;
            let mut body = Cursor(cursor.take(length)?);
            let head = body.u8()?;
            let (kind, critical) = (head & 0x7f, head & 0x80 != 0);
            match kind {
                16 => self.issuer = body.0.try_into().ok(),
                33 if body.0.first() == Some(&4) => self.fingerprint = Some(body.0[1..].to_vec()),
                // Proves itself: it is a signature of its own.
                32 => self.embedded = Some(body.0.to_vec()),
                _ if !hashed => {}
                2 => self.created = i64::from(body.u32()?),
                3 => self.expires_after = Some(body.u32()?),
                9 => self.key_expires_after = Some(body.u32()?),
                27 => self.key_flags = Some(body.0.first().copied().unwrap_or(0)),
                // Preferences, notations for people, reasons and the like: they change nothing about who signed what.
                4 | 5 | 7 | 11 | 21..=26 | 28..=31 | 33..=35 | 39 => {}
                _ => self.unknown_critical |= critical,
            }
        }
        Ok(())
    }

    pub fn is_by(&self, key: &Key) -> bool {
        match (&self.fingerprint, &self.issuer) {
            (Some(fingerprint), _) => fingerprint[..] == key.fingerprint[..],
            (None, Some(issuer)) => *issuer == key.id(),
            (None, None) => false,
        }
    }

    pub fn issuer_hex(&self) -> String {
        match (&self.fingerprint, &self.issuer) {
            (Some(fingerprint), _) => naru_types::id::hex(fingerprint).to_uppercase(),
            (None, Some(issuer)) => naru_types::id::hex(issuer).to_uppercase(),
            (None, None) => "an unnamed key".into(),
        }
    }

    /// The check of a document's signature: by this key, over this text, valid now.
    pub fn check(&self, key: &Key, text: &[u8], now: i64) -> Result<()> {
        let rejected = |why| PgpError::Rejected { key: key.fingerprint_hex(), why };
        if self.kind != TYPE_BINARY && self.kind != TYPE_TEXT {
            return Err(rejected("it is not the signature of a document"));
        }
        if self.created > now + CLOCK_SKEW_SECS_MAX {
            return Err(rejected("it was made in the future"));
        }
        if self.expires_after.is_some_and(|after| after != 0 && self.created + i64::from(after) < now) {
            return Err(rejected("it has expired"));
        }
        if self.created < key.created {
            return Err(rejected("it is older than its key"));
        }
        if key.expires.is_some_and(|expires| expires < now) {
            return Err(rejected("its key has expired"));
        }
        self.check_over(key, &[text])
    }

    /// The cryptographic check alone: `parts` in a row, then the signature's own part and its trailer (section 5.2.4).
    pub fn check_over(&self, key: &Key, parts: &[&[u8]]) -> Result<()> {
        let rejected = |why| PgpError::Rejected { key: key.fingerprint_hex(), why };
        if self.unknown_critical {
            return Err(rejected("it has a critical part that naru does not know"));
        }
        let mut message = parts.concat();
        message.extend_from_slice(&self.hashed);
        message.extend_from_slice(&[4, 0xff]);
        message.extend_from_slice(&(self.hashed.len() as u32).to_be_bytes());
        let bad = |_| PgpError::Bad { key: key.fingerprint_hex() };
        match (&key.material, self.algorithm) {
            (Material::Rsa { n, e }, 1 | 3) => {
                let parameters = match self.hash {
                    SHA256 => &RSA_PKCS1_2048_8192_SHA256,
                    SHA384 => &RSA_PKCS1_2048_8192_SHA384,
                    SHA512 => &RSA_PKCS1_2048_8192_SHA512,
                    _ => return Err(rejected("its hash is not SHA-256, SHA-384 or SHA-512")),
                };
                let value = padded(&self.values[0], n.len()).ok_or_else(|| bad(ring::error::Unspecified))?;
                RsaPublicKeyComponents { n, e }.verify(parameters, &message, &value).map_err(bad)
            }
            (Material::Ed25519(point), ALGORITHM_EDDSA_LEGACY | ALGORITHM_ED25519) => {
                let algorithm = match self.hash {
                    SHA256 => &ring::digest::SHA256,
                    SHA384 => &ring::digest::SHA384,
                    SHA512 => &ring::digest::SHA512,
                    _ => return Err(rejected("its hash is not SHA-256, SHA-384 or SHA-512")),
                };
                let digest = ring::digest::digest(algorithm, &message);
                let mut value = Vec::new();
                if self.algorithm == ALGORITHM_ED25519 {
                    value.clone_from(&self.values[0]);
                } else {
                    for half in &self.values {
                        value.extend(padded(half, 32).ok_or_else(|| bad(ring::error::Unspecified))?);
                    }
                }
                UnparsedPublicKey::new(&ED25519, point).verify(digest.as_ref(), &value).map_err(bad)
            }
            _ => Err(rejected("its algorithm is not that of its key")),
        }
    }
}

/// A number with zeros before it, as long as the algorithm wants it.
fn padded(number: &[u8], length: usize) -> Option<Vec<u8>> {
    let zeros = length.checked_sub(number.len())?;
    Some([vec![0; zeros], number.to_vec()].concat())
}
