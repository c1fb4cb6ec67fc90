//! Who may do what: tokens for repositories. A token is shown once, when it is made; kept is its hash.
//!
//! A plain SHA-256 is enough to keep: the secret has 256 random bits, which no dictionary holds.

use crate::database::{locked, now};
use crate::error::{RegistryError, Result};
use crate::name::RepositoryName;
use crate::store::Store;
use base64::Engine as _;
use naru_types::id::hex;
use rusqlite::{OptionalExtension, params};
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::fmt;
use std::sync::Mutex;
use std::time::{Duration, Instant};

const ID_BYTES: usize = 6;
const SECRET_BYTES: usize = 32;
const PREFIX: &str = "naru_";
/// How long a token is believed without another look at the database; a revoked one ends within it.
const BELIEVED_MAX: Duration = Duration::from_secs(2);
/// Tokens that are believed at once.
const BELIEVED_TOKENS_MAX: usize = 1024;

/// What a token allows; each implies reading, which every client does before it writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    Pull,
    Push,
    Delete,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    pub pull: bool,
    pub push: bool,
    pub delete: bool,
}

impl Rights {
    pub const PULL: Self = Self { pull: true, push: false, delete: false };
    pub const PUSH: Self = Self { pull: true, push: true, delete: false };

    /// From `pull,push,delete`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut rights = Self::PULL;
        for word in text.split(',') {
            match word.trim() {
                "pull" => {}
                "push" => rights.push = true,
                "delete" => rights.delete = true,
                _ => return None,
            }
        }
        Some(rights)
    }

    pub fn has(self, right: Right) -> bool {
        match right {
            Right::Pull => self.pull,
            Right::Push => self.push,
            Right::Delete => self.delete,
        }
    }
}

impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = [(self.pull, "pull"), (self.push, "push"), (self.delete, "delete")];
        let words: Vec<&str> = words.iter().filter(|(has, _)| *has).map(|(_, word)| *word).collect();
        f.write_str(&words.join(","))
    }
}

/// Which repositories: one by name, all below `team/*`, or `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(String);

impl Pattern {
    pub fn parse(text: &str) -> Option<Self> {
        let name = text.strip_suffix("/*").unwrap_or(text);
        (text == "*" || RepositoryName::parse(name).is_some()).then(|| Self(text.to_owned()))
    }

    pub fn fits(&self, repository: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some(prefix) => repository.starts_with(prefix),
            None => self.0 == repository,
        }
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[derive(Clone, Debug)]
pub struct Token {
    pub id: String,
    pub pattern: Pattern,
    pub rights: Rights,
    /// Seconds since 1970.
    pub created: i64,
}

/// Shown once; never printed by accident.
pub struct Secret(String);

impl Secret {
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("****")
    }
}

impl Store {
    pub fn create_token(&self, pattern: &Pattern, rights: Rights) -> Result<(Token, Secret)> {
        let id = hex(&random::<ID_BYTES>()?);
        let secret = format!("{PREFIX}{id}_{}", hex(&random::<SECRET_BYTES>()?));
        let token = Token { id, pattern: pattern.clone(), rights, created: now() };
        self.database.write("add a token", |change| {
            change.execute(
                "INSERT INTO tokens (id, hash, pattern, allows, created) VALUES (?1, ?2, ?3, ?4, ?5)",
                params![token.id, hash(&secret), pattern.0, rights.to_string(), token.created],
            )?;
            Ok(())
        })?;
        Ok((token, Secret(secret)))
    }

    pub fn tokens(&self) -> Result<Vec<Token>> {
        self.database.read("list the tokens", |connection| {
            let mut statement =
                connection.prepare("SELECT id, pattern, allows, created FROM tokens ORDER BY created, id")?;
            let found = statement.query_map([], |row| read_token(row, 0))?;
            Ok(found.collect::<rusqlite::Result<Vec<_>>>()?)
        })
    }

    pub fn revoke_token(&self, id: &str) -> Result<()> {
        let gone = self.database.write("revoke a token", |change| {
            Ok(change.execute("DELETE FROM tokens WHERE id = ?1", [id])?)
        })?;
        if gone > 0 { Ok(()) } else { Err(RegistryError::NoSuchToken { id: id.to_owned() }) }
    }

    fn find_token(&self, secret: &str) -> Result<Option<Token>> {
        let Some((id, _)) = secret.strip_prefix(PREFIX).and_then(|rest| rest.split_once('_')) else {
            return Ok(None);
        };
        let found = self.database.read("look for a token", |connection| {
            let mut statement = connection
                .prepare_cached("SELECT hash, id, pattern, allows, created FROM tokens WHERE id = ?1")?;
            let found = statement.query_row([id], |row| Ok((row.get::<_, Vec<u8>>(0)?, read_token(row, 1)?)));
            Ok(found.optional()?)
        })?;
        Ok(found.filter(|(kept, _)| is_equal(kept, &hash(secret))).map(|(_, token)| token))
    }
}

/// Tokens that were right a moment ago, by the hash of what was sent.
#[derive(Default)]
pub(crate) struct Believed(Mutex<HashMap<Vec<u8>, (Token, Instant)>>);

impl Believed {
    pub fn check(&self, store: &Store, secret: &str) -> Result<Option<Token>> {
        let key = hash(secret);
        if let Some((token, seen)) = locked(&self.0).get(&key)
            && seen.elapsed() < BELIEVED_MAX
        {
            return Ok(Some(token.clone()));
        }
        let found = store.find_token(secret)?;
        let mut believed = locked(&self.0);
        if believed.len() >= BELIEVED_TOKENS_MAX {
            believed.retain(|_, (_, seen)| seen.elapsed() < BELIEVED_MAX);
        }
        if let Some(token) = &found
            && believed.len() < BELIEVED_TOKENS_MAX
        {
            believed.insert(key, (token.clone(), Instant::now()));
        }
        Ok(found)
    }
}

/// The secret in an `Authorization` header: the password of Basic (`docker login`; any user name), or Bearer.
pub(crate) fn secret_of(header: &str) -> Option<String> {
    let (scheme, value) = header.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(value.trim().to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = base64::engine::general_purpose::STANDARD.decode(value.trim()).ok()?;
    let text = String::from_utf8(decoded).ok()?;
    text.split_once(':').map(|(_, password)| password.to_owned())
}

fn read_token(row: &rusqlite::Row<'_>, first: usize) -> rusqlite::Result<Token> {
    let allows: String = row.get(first + 2)?;
    Ok(Token {
        id: row.get(first)?,
        pattern: Pattern(row.get(first + 1)?),
        rights: Rights::parse(&allows).unwrap_or_default(),
        created: row.get(first + 3)?,
    })
}

fn hash(secret: &str) -> Vec<u8> {
    Sha256::digest(secret.as_bytes()).to_vec()
}

/// In a time that doesn't tell where the two differ.
fn is_equal(a: &[u8], b: &[u8]) -> bool {
    let difference = a.iter().zip(b).fold(0, |sum, (a, b)| std::hint::black_box(sum | (a ^ b)));
    a.len() == b.len() && difference == 0
}

pub(crate) fn random<const BYTES: usize>() -> Result<[u8; BYTES]> {
    naru_kernel::random::bytes().map_err(|source| RegistryError::Random { source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, repository, expected) in [
            ("*", "a/b", true),
            ("team/*", "team/a/b", true),
            ("team/*", "team", false),
            ("team/*", "teams/a", false),
            ("a/b", "a/b", true),
            ("a/b", "a/bc", false),
        ] {
            assert_eq!(Pattern::parse(pattern).unwrap().fits(repository), expected, "{pattern} {repository}");
        }
        for bad in ["", "a*", "**", "../*", "A", "/*"] {
            assert!(Pattern::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn only_the_whole_secret_is_right() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), None).unwrap();
        let (token, secret) = store.create_token(&Pattern::parse("a").unwrap(), Rights::PUSH).unwrap();
        let secret = secret.reveal().to_owned();
        assert_eq!(store.find_token(&secret).unwrap().unwrap().id, token.id);
        let mut wrong = secret.clone();
        wrong.pop();
        for wrong in [wrong, format!("{secret}0"), format!("naru_{}_", token.id), String::new()] {
            assert!(store.find_token(&wrong).unwrap().is_none(), "{wrong}");
        }
        assert_eq!(secret_of("Basic YTpiOmM="), Some("b:c".into()));
        assert_eq!(secret_of("bearer x"), Some("x".into()));
        assert_eq!(secret_of("Basic !"), None);
        store.revoke_token(&token.id).unwrap();
        assert!(store.find_token(&secret).unwrap().is_none());
    }
}
