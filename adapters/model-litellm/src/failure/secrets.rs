//! Keys, to be taken out of what servers say: some repeat them.

use std::sync::Arc;

use secrecy::{ExposeSecret, SecretString};

/// What stands where a key stood.
const HIDDEN: &str = "[secret]";

/// Shorter ones would be found in words that have nothing to do with them, and are no secrets.
const SHORTEST: usize = 4;

/// So much of the beginning of a key is taken out wherever it stands: servers cut what they repeat.
const TELLING: usize = 8;

/// What servers put in the place of the middle of a key.
const MASKS: [char; 3] = ['*', '.', '\u{2026}'];

/// The keys of a gateway, shared by all its calls: the longest first, since one may be part of another.
#[derive(Debug, Clone, Default)]
pub(crate) struct Secrets(Arc<[SecretString]>);

impl Secrets {
    /// `text` without any key, and without what is told of one that is cut or masked.
    pub(super) fn scrub(&self, text: &str) -> String {
        // Whole ones first: a part of one may be the whole of another.
        let whole = self.each().fold(text.to_owned(), |text, key| text.replace(key, HIDDEN));
        self.each().fold(whole, |text, key| hide_parts(&text, key))
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

/// `text` with [`HIDDEN`] in the place of parts of `key`.
fn hide_parts(text: &str, key: &str) -> String {
    let mut hidden = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let length = match part_of(key, rest, hidden.ends_with(MASKS)) {
            Some(length) => {
                hidden.push_str(HIDDEN);
                length
            }
            None => {
                hidden.push(next);
                next.len_utf8()
            }
        };
        rest = rest.get(length..).unwrap_or_default();
    }
    hidden
}

/// How long the part of `key` is that `text` begins with, if that tells something of it. After a mask its end does.
fn part_of(key: &str, text: &str, is_masked: bool) -> Option<usize> {
    let same = key.bytes().zip(text.bytes()).take_while(|(one, other)| one == other).count();
    let same = (0..=same).rev().find(|length| key.is_char_boundary(*length) && text.is_char_boundary(*length))?;
    let is_cut = text.get(same..).is_some_and(|after| after.starts_with(MASKS));
    if same >= TELLING || (same >= SHORTEST && is_cut) {
        return Some(same);
    }
    let ends = (SHORTEST..key.len()).rev().filter_map(|length| key.get(key.len() - length..)).filter(|_| is_masked);
    ends.into_iter().find(|end| text.starts_with(end)).map(str::len)
}

impl FromIterator<SecretString> for Secrets {
    /// Of a value such as `Bearer sk-1234` or `session=1234` the words are secrets by themselves, if they are long enough to be keys.
    /// Each is known as JSON has it, too. White space around a key is none of it.
    fn from_iter<I: IntoIterator<Item = SecretString>>(secrets: I) -> Self {
        let is_between = |character: char| character.is_whitespace() || "=;,\"'".contains(character);
        let words = |secret: SecretString| {
            let all = secret.expose_secret().trim();
            let last = all.split_whitespace().next_back();
            let parts = all.split(is_between).filter(|part| part.len() >= TELLING).chain(last);
            let written = parts.chain([all]).flat_map(|part| {
                let json = serde_json::to_string(part).unwrap_or_default();
                let json = json.trim_matches('"').to_owned();
                [part.to_owned(), json.replace('/', "\\/"), json]
            });
            written.map(SecretString::from).collect::<Vec<_>>()
        };
        let mut secrets: Vec<SecretString> = secrets.into_iter().flat_map(words).collect();
        secrets.sort_by(|one, other| {
            let (one, other) = (one.expose_secret(), other.expose_secret());
            other.len().cmp(&one.len()).then_with(|| one.cmp(other))
        });
        secrets.dedup_by(|one, other| one.expose_secret() == other.expose_secret());
        Self(secrets.into())
    }
}
