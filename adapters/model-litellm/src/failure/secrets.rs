//! Keys, to be taken out of what servers say: some repeat them.

use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};

/// What stands where a key stood.
const HIDDEN: &str = "[secret]";

/// Shorter ones would be found in words that have nothing to do with them, and are no secrets.
const SHORTEST: usize = 4;

/// The keys of a gateway, shared by all its calls.
#[derive(Debug, Clone, Default)]
pub(crate) struct Secrets(Arc<[SecretString]>);

impl Secrets {
    /// `text` without any key.
    pub(crate) fn scrub(&self, text: &str) -> String {
        let keys = self.0.iter().map(ExposeSecret::expose_secret).filter(|key| key.len() >= SHORTEST);
        keys.fold(text.to_owned(), |text, key| text.replace(key, HIDDEN))
    }
}

impl FromIterator<SecretString> for Secrets {
    /// Of a value such as `Bearer sk-1234` the last word is a secret by itself.
    fn from_iter<I: IntoIterator<Item = SecretString>>(secrets: I) -> Self {
        let words = |secret: SecretString| {
            let word = secret.expose_secret().rsplit(' ').next().map(SecretString::from);
            [Some(secret), word].into_iter().flatten()
        };
        Self(secrets.into_iter().flat_map(words).collect())
    }
}
