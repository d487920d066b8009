//! A token: long and random, so that its plain hash is enough to know it by.

use super::{Rate, Scopes};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::digest;
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};

/// What tokens begin with, so that one that leaks is known for what it is.
const PREFIX: &str = "stoic_";
/// Longest name.
const LONGEST_NAME: usize = 63;
/// What the audit log calls others than tokens.
const TAKEN: [&str; 5] = [
    super::GIVEN,
    super::OFFLINE,
    "anonymous",
    "gateway",
    "unknown",
];

/// The text of a token. Its `Debug` shows nothing.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// 32 bytes of the system's randomness; none where there is none to be had.
    #[must_use]
    pub fn random() -> Option<Self> {
        let mut bytes = [0; 32];
        SystemRandom::new().fill(&mut bytes).ok()?;
        Some(Self(format!(
            "{PREFIX}{}",
            BASE64_URL_SAFE_NO_PAD.encode(bytes)
        )))
    }

    /// The text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// SHA-256 of a token.
#[must_use]
pub fn hash(text: &str) -> [u8; 32] {
    let mut sum = [0; 32];
    sum.copy_from_slice(digest::digest(&digest::SHA256, text.as_bytes()).as_ref());
    sum
}

/// A token as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenRecord {
    /// Its name.
    pub name: String,
    /// SHA-256 of its text.
    pub hash: [u8; 32],
    /// What it may do.
    pub scopes: Scopes,
    /// When it was made, seconds since the epoch.
    pub created: f64,
    /// When it ends, seconds since the epoch; none: never.
    pub expires: Option<f64>,
    /// How often it may ask; none: as often as it likes.
    pub rate: Option<Rate>,
}

/// A token as it is shown: `GET /v1/tokens`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TokenView {
    /// Its name.
    pub name: String,
    /// What it may do.
    pub scopes: Scopes,
    /// When it was made, seconds since the epoch.
    pub created: f64,
    /// When it ends, seconds since the epoch; absent: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<f64>,
    /// How often it may ask; absent: as often as it likes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// The token itself: in the answer that made it, and never again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
}

impl TokenView {
    /// What may be shown of a record.
    #[must_use]
    pub fn of(record: &TokenRecord) -> Self {
        Self {
            name: record.name.clone(),
            scopes: record.scopes,
            created: record.created,
            expires: record.expires,
            rate: record.rate,
            token: None,
        }
    }
}

/// What `POST /v1/tokens` carries.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewToken {
    /// Its name.
    pub name: String,
    /// What it may do.
    pub scopes: Scopes,
    /// Seconds that it lives; absent: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifetime_s: Option<f64>,
    /// How often it may ask; absent: as often as it likes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
}

impl NewToken {
    /// Makes the token, at this time.
    ///
    /// # Errors
    /// One line that says what cannot be.
    pub fn make(self, now: f64) -> Result<(TokenRecord, Secret), String> {
        check_name(&self.name)?;
        if self.scopes.is_empty() {
            return Err("scopes: at least one of invoke, deploy, admin is needed".to_owned());
        }
        if self
            .lifetime_s
            .is_some_and(|s| !(s.is_finite() && (1.0..=1e10).contains(&s)))
        {
            return Err("lifetime_s: must be a second or more".to_owned());
        }
        let secret = Secret::random().ok_or("the system gives no random bytes")?;
        let record = TokenRecord {
            name: self.name,
            hash: hash(secret.text()),
            scopes: self.scopes,
            created: now,
            expires: self.lifetime_s.map(|seconds| now + seconds),
            rate: self.rate,
        };
        Ok((record, secret))
    }
}

/// Refuses what is no name of a token.
///
/// # Errors
/// One line that says what is.
pub fn check_name(name: &str) -> Result<(), String> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if !name.is_empty()
        && name.len() <= LONGEST_NAME
        && !TAKEN.contains(&name)
        && !name.bytes().all(|b| b == b'.')
        && name.bytes().all(allowed)
    {
        return Ok(());
    }
    let shown: String = name.chars().take(64).collect();
    Err(format!(
        "`{shown}` is no name of a token: letters, digits, `.`, `_` and `-`, at most {LONGEST_NAME}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Scope;

    #[test]
    fn a_new_token_is_random_and_only_its_hash_is_kept() {
        let new = |name: &str| NewToken {
            name: name.to_owned(),
            scopes: Scopes::of(&[Scope::Invoke]),
            lifetime_s: Some(60.0),
            rate: None,
        };
        let (record, secret) = new("a").make(1.0).expect("made");
        let (_, other) = new("a").make(1.0).expect("made");
        assert_ne!(secret.text(), other.text());
        assert_eq!(secret.text().len(), 49);
        assert_eq!(
            (record.hash, record.expires),
            (hash(secret.text()), Some(61.0))
        );
        assert!(!format!("{record:?} {secret:?}").contains(secret.text()));
        for wrong in [
            "",
            "a b",
            "ä",
            "a/b",
            super::super::GIVEN,
            "data-folder",
            &"x".repeat(64),
        ] {
            assert!(new(wrong).make(1.0).is_err(), "{wrong}");
        }
        let none = NewToken {
            scopes: Scopes::default(),
            ..new("a")
        };
        assert!(none.make(1.0).is_err());
    }
}
