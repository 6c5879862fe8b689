//! Keys, to be taken out of what servers say: some repeat them.

use std::cmp::Reverse;
use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};

/// What stands where a key stood.
const HIDDEN: &str = "[secret]";

/// Shorter ones would be found in words that have nothing to do with them, and are no secrets.
const SHORTEST: usize = 4;

/// The keys of a gateway, shared by all its calls: the longest first, since one may be part of another.
#[derive(Debug, Clone, Default)]
pub(crate) struct Secrets(Arc<[SecretString]>);

impl Secrets {
    /// `text` without any key.
    pub(super) fn scrub(&self, text: &str) -> String {
        self.each().fold(text.to_owned(), |text, key| text.replace(key, HIDDEN))
    }

    /// `text`, whose end may be missing, without any key, and without the beginning of one at its end.
    pub(super) fn scrub_cut(&self, text: &str) -> String {
        let mut text = self.scrub(text);
        // Of the last character only some bytes may have come.
        let end = text.trim_end_matches(char::REPLACEMENT_CHARACTER).len();
        text.truncate(end);
        let beginning = |key: &str| {
            let beginnings = (SHORTEST..key.len()).rev().filter_map(|length| key.get(..length));
            beginnings.into_iter().find(|beginning| text.ends_with(beginning)).map(str::len)
        };
        if let Some(length) = self.each().filter_map(beginning).max() {
            text.truncate(text.len() - length);
            text.push_str(HIDDEN);
        }
        text
    }

    fn each(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(ExposeSecret::expose_secret).filter(|key| key.len() >= SHORTEST)
    }
}

impl FromIterator<SecretString> for Secrets {
    /// Of a value such as `Bearer sk-1234` the last word is a secret by itself. White space around a key is none of it.
    fn from_iter<I: IntoIterator<Item = SecretString>>(secrets: I) -> Self {
        let words = |secret: SecretString| {
            let all = secret.expose_secret().trim();
            let last = all.split_whitespace().next_back().filter(|last| *last != all);
            [Some(all), last].map(|word| word.map(SecretString::from)).into_iter().flatten()
        };
        let mut secrets: Vec<SecretString> = secrets.into_iter().flat_map(words).collect();
        secrets.sort_by_key(|secret| Reverse(secret.expose_secret().len()));
        Self(secrets.into())
    }
}
