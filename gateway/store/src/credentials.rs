//! The key pair that signs requests.

use std::fmt;

use rand::Rng;
use rand::distr::Alphanumeric;

/// An S3 key pair. `Debug` shows the access key and hides the secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    access_key: String,
    secret_key: String,
}

impl Credentials {
    /// A known pair, for instance from the configuration.
    pub fn new(access_key: impl Into<String>, secret_key: impl Into<String>) -> Self {
        Self {
            access_key: access_key.into(),
            secret_key: secret_key.into(),
        }
    }

    /// A new random pair (a secret of 40 letters and digits, 238 bits) for the embedded server.
    /// URLs presigned with it stay valid only as long as the caller keeps it.
    pub fn random() -> Self {
        let text = |length| {
            rand::rng()
                .sample_iter(Alphanumeric)
                .take(length)
                .map(char::from)
                .collect::<String>()
        };
        Self {
            access_key: text(20),
            secret_key: text(40),
        }
    }

    /// The public half.
    pub fn access_key(&self) -> &str {
        &self.access_key
    }

    /// The secret half: to persist, never to show.
    pub fn secret_key(&self) -> &str {
        &self.secret_key
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("access_key", &self.access_key)
            .field("secret_key", &"(hidden)")
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_hides_the_secret_and_random_pairs_differ() {
        let one = Credentials::random();
        let two = Credentials::random();
        assert_ne!(one, two);
        assert_eq!(one.secret_key().len(), 40);
        let shown = format!("{one:?}");
        assert!(shown.contains(one.access_key()));
        assert!(!shown.contains(one.secret_key()));
    }
}
