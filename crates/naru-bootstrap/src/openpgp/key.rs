//! Keyrings: the keys in them that can sign, each with what its own signatures say about its validity.

use super::packet::{Cursor, TAG_PUBLIC_KEY, TAG_PUBLIC_SUBKEY, TAG_SIGNATURE, TAG_USER_ID, packets};
use super::signature::{
    Signature, TYPE_DIRECT_KEY, TYPE_KEY_REVOCATION, TYPE_PRIMARY_BINDING, TYPE_SUBKEY_BINDING,
    TYPE_SUBKEY_REVOCATION,
};
use super::{PgpError, Result, dearmor};

/// The object identifier of Ed25519 in keys of the older form (RFC 9580, section 9.2).
const OID_ED25519: [u8; 9] = [0x2b, 0x06, 0x01, 0x04, 0x01, 0xda, 0x47, 0x0f, 0x01];
/// Key flag: may sign data (section 5.2.3.29).
const FLAG_SIGN: u8 = 0x02;

#[derive(Clone, Debug)]
pub enum Material {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    Ed25519([u8; 32]),
}

/// A key or subkey that may sign.
#[derive(Clone, Debug)]
pub struct Key {
    pub fingerprint: [u8; 20],
    /// Seconds since 1970.
    pub created: i64,
    pub expires: Option<i64>,
    pub material: Material,
    /// The packet's body, framed as signatures hash it (section 5.2.4).
    framed: Vec<u8>,
}

impl Key {
    /// `None` for a key of a version or an algorithm that isn't used here.
    fn parse(body: &[u8]) -> Result<Option<Self>> {
        let mut cursor = Cursor(body);
        if cursor.u8()? != 4 {
            return Ok(None);
        }
        let created = i64::from(cursor.u32()?);
        let material = match cursor.u8()? {
            1 | 3 => Material::Rsa { n: cursor.mpi()?.to_vec(), e: cursor.mpi()?.to_vec() },
            22 => {
                let length = usize::from(cursor.u8()?);
                if cursor.take(length)? != OID_ED25519 {
                    return Ok(None);
                }
                // 0x40 says that the point is in its native form (section 11.2.2).
                match cursor.mpi()? {
                    [0x40, point @ ..] => Material::Ed25519(
                        point
                            .try_into()
                            .map_err(|_| PgpError::Packet("an Ed25519 point of another length"))?,
                    ),
                    _ => return Ok(None),
                }
            }
            27 => Material::Ed25519(
                cursor
                    .take(32)?
                    .try_into()
                    .map_err(|_| PgpError::Packet("an Ed25519 point of another length"))?,
            ),
            _ => return Ok(None),
        };
        let length = u16::try_from(body.len()).map_err(|_| PgpError::Packet("a key that is too long"))?;
        let framed = [&[0x99], &length.to_be_bytes()[..], body].concat();
        let digest = ring::digest::digest(&ring::digest::SHA1_FOR_LEGACY_USE_ONLY, &framed);
        let fingerprint = digest.as_ref().try_into().map_err(|_| PgpError::Packet("no fingerprint"))?;
        Ok(Some(Self { fingerprint, created, expires: None, material, framed }))
    }

    pub fn id(&self) -> [u8; 8] {
        let mut id = [0; 8];
        id.copy_from_slice(&self.fingerprint[12..]);
        id
    }

    pub fn fingerprint_hex(&self) -> String {
        naru_types::id::hex(&self.fingerprint).to_uppercase()
    }

    fn limit(&mut self, after: Option<u32>) {
        if let Some(after) = after.filter(|after| *after != 0) {
            let expires = self.created + i64::from(after);
            self.expires = Some(self.expires.map_or(expires, |known| known.min(expires)));
        }
    }
}

/// The keys that a signature of an archive may come from.
#[derive(Clone, Debug, Default)]
pub struct Keyring(Vec<Key>);

impl Keyring {
    /// From one or more exported keys, binary or armored.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let bytes = dearmor(bytes)?;
        let all = packets(&bytes)?;
        let mut keys = Vec::new();
        let starts: Vec<usize> = (0..all.len()).filter(|at| all[*at].0 == TAG_PUBLIC_KEY).collect();
        for (at, start) in starts.iter().enumerate() {
            let end = starts.get(at + 1).copied().unwrap_or(all.len());
            keys.extend(certificate(&all[*start..end])?);
        }
        if keys.is_empty() { Err(PgpError::EmptyKeyring) } else { Ok(Self(keys)) }
    }

    pub fn find(&self, signature: &Signature) -> Option<&Key> {
        self.0.iter().find(|key| signature.is_by(key))
    }
}

/// One primary key with all that belongs to it: the keys of it that may sign now. A revoked one has none.
fn certificate(parts: &[(u8, &[u8])]) -> Result<Vec<Key>> {
    let Some(mut primary) = Key::parse(parts[0].1)? else { return Ok(Vec::new()) };
    let mut flags: Option<u8> = None;
    let mut newest = i64::MIN;
    let mut user_id: &[u8] = &[];
    let mut expires_after = None;
    let mut subkeys: Vec<(Option<Key>, Vec<Signature>)> = Vec::new();
    for (tag, body) in &parts[1..] {
        match *tag {
            TAG_USER_ID => user_id = body,
            TAG_PUBLIC_SUBKEY => subkeys.push((Key::parse(body)?, Vec::new())),
            TAG_SIGNATURE if body.first() == Some(&4) => {
                let signature = Signature::parse(body)?;
                if let Some((_, of_subkey)) = subkeys.last_mut() {
                    of_subkey.push(signature);
                    continue;
                }
                if !signature.is_by(&primary) {
                    continue;
                }
                let is_valid = |parts: &[&[u8]]| signature.check_over(&primary, parts).is_ok();
                let length = (user_id.len() as u32).to_be_bytes();
                let certifies = match signature.kind {
                    TYPE_KEY_REVOCATION if is_valid(&[&primary.framed]) => return Ok(Vec::new()),
                    TYPE_DIRECT_KEY => is_valid(&[&primary.framed]),
                    0x10..=0x13 => is_valid(&[&primary.framed, &[0xb4], &length, user_id]),
                    _ => false,
                };
                // The newest word of the key about itself counts (section 5.2.3.10).
                if certifies && signature.created >= newest {
                    newest = signature.created;
                    flags = signature.key_flags;
                    expires_after = signature.key_expires_after;
                }
            }
            _ => {}
        }
    }
    if newest == i64::MIN {
        // A key that doesn't say anything valid about itself.
        return Ok(Vec::new());
    }
    primary.limit(expires_after);
    let mut keys: Vec<Key> =
        subkeys.into_iter().filter_map(|(key, said)| bound_subkey(&primary, key?, &said)).collect();
    if flags.is_none_or(|flags| flags & FLAG_SIGN != 0) {
        keys.insert(0, primary);
    }
    Ok(keys)
}

/// The subkey, when the primary key says that it may sign and it agrees (the back signature, section 5.2.3.34).
fn bound_subkey(primary: &Key, mut key: Key, said: &[Signature]) -> Option<Key> {
    let parts: [&[u8]; 2] = [&primary.framed, &key.framed];
    let by_primary =
        |signature: &&Signature| signature.is_by(primary) && signature.check_over(primary, &parts).is_ok();
    let revoked =
        said.iter().filter(|said| said.kind == TYPE_SUBKEY_REVOCATION).any(|said| by_primary(&said));
    let bindings = said.iter().filter(|said| said.kind == TYPE_SUBKEY_BINDING).filter(by_primary);
    let binding = bindings.max_by_key(|said| said.created).filter(|_| !revoked)?;
    if binding.key_flags? & FLAG_SIGN == 0 {
        return None;
    }
    let back = Signature::parse(binding.embedded.as_deref()?).ok()?;
    if back.kind != TYPE_PRIMARY_BINDING || back.check_over(&key, &parts).is_err() {
        return None;
    }
    let after = binding.key_expires_after;
    key.limit(after);
    if let Some(expires) = primary.expires {
        key.expires = Some(key.expires.map_or(expires, |own| own.min(expires)));
    }
    Some(key)
}
