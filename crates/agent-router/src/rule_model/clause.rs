//! A request in clauses: what is asked, told, wanted, and not wanted.

use serde_json::Value;

use super::mood::{AUXILIARIES, FILLERS, Mood, is_inverted, mood, position_of_wanting};
use super::parameter::Parameter;
use crate::lexical_index::QueryTerm;
use crate::text::words;

/// How much of a request is read. What stands after it is not looked at.
const MAX_WORDS: usize = 2_000;

/// What stands for a word with a digit in it.
const VALUE: &str = "#";

/// A piece of a request that can ask for one thing.
#[derive(Debug, Clone)]
pub(super) struct Clause {
    /// The words as they were written.
    pub(super) text: String,
    /// The words in lower case, quoted ones left out.
    pub(super) words: Vec<String>,
    pub(super) mood: Mood,
    /// The sentence it stands in, from zero.
    pub(super) sentence: usize,
    /// The values in it that have a form of their own, by parameter, as they are not denied. Filled in by the planner.
    pub(super) values: Vec<Vec<Value>>,
    /// What it says besides its values. Filled in by the planner.
    pub(super) said: Vec<QueryTerm>,
}

/// Words that are shortened with a full stop, which ends no sentence then.
const ABBREVIATIONS: &[&str] = &["approx", "e.g", "etc", "i.e", "max", "min", "mr", "mrs", "ms", "nr", "vs"];

/// The clauses of `text`, in order.
pub(super) fn clauses(text: &str) -> Vec<Clause> {
    let text = head(text);
    let mut clauses = Vec::new();
    for (number, (sentence, is_question)) in sentences(text).into_iter().enumerate() {
        let pieces = pieces(sentence);
        let last = pieces.len().saturating_sub(1);
        for (index, piece) in pieces.into_iter().enumerate() {
            let words = spoken_words(&without_quotes(&piece));
            let says_nothing = words.iter().all(|word| FILLERS.contains(&word.as_str()));
            if says_nothing && (!words.is_empty() || !piece.chars().any(char::is_alphanumeric)) {
                continue;
            }
            let ends_in_question_mark = is_question && index == last;
            let mut mood = mood(&words, ends_in_question_mark);
            let goes_on_telling = !ends_in_question_mark
                && clauses.last().is_some_and(|before: &Clause| {
                    before.sentence == number && before.mood == Mood::Statement && !is_inverted(&words)
                });
            // `he took it but doesn't remember the day` asks nothing.
            if goes_on_telling && words.first().is_some_and(|word| AUXILIARIES.contains(&word.as_str())) {
                mood = Mood::Statement;
            }
            clauses.push(Clause { text: piece, words, mood, sentence: number, values: Vec::new(), said: Vec::new() });
        }
    }
    clauses
}

/// The words of `text`, where whatever has a digit is a [`VALUE`]: `A-1042` is no article.
fn spoken_words(text: &str) -> Vec<String> {
    let token = |token: &str| {
        let is_value = token.bytes().any(|byte| byte.is_ascii_digit());
        if is_value { vec![VALUE.to_owned()] } else { words(token) }
    };
    text.split_whitespace().flat_map(token).collect()
}

/// The first part of `text` that is read.
fn head(text: &str) -> &str {
    match text.split_whitespace().nth(MAX_WORDS) {
        // The word's own place in the text.
        Some(word) => &text[..word.as_ptr() as usize - text.as_ptr() as usize],
        None => text,
    }
}

/// Sentences, and whether each ends in a question mark. A full stop within a number or a name ends nothing.
fn sentences(text: &str) -> Vec<(&str, bool)> {
    let mut sentences = Vec::new();
    let mut start = 0;
    let mut characters = text.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        let before_blank = characters.peek().is_none_or(|(_, next)| next.is_whitespace() || "?!.\"')".contains(*next));
        let is_abbreviation = || {
            let word = text[start..at].split_whitespace().next_back().unwrap_or_default();
            ABBREVIATIONS.contains(&word.to_lowercase().as_str())
        };
        let ends = match character {
            '\n' | ';' | '。' | '？' | '！' => true,
            '.' => before_blank && !is_abbreviation(),
            '!' | '?' => before_blank,
            // `parcels: 2` names a value, `three things: ..` begins a list.
            ':' => {
                before_blank
                    && text[at + 1..].split_whitespace().take(3).all(|word| !word.ends_with(['.', '!', '?']))
                    && text[at + 1..].split_whitespace().nth(2).is_some()
            }
            _ => false,
        };
        if ends {
            sentences.push((&text[start..at], matches!(character, '?' | '？')));
            start = at + character.len_utf8();
        }
    }
    sentences.push((&text[start..], false));
    sentences.retain(|(sentence, _)| sentence.chars().any(char::is_alphanumeric));
    sentences
}

/// A sentence at its commas and at the words that join clauses.
fn pieces(sentence: &str) -> Vec<String> {
    let mut pieces: Vec<String> = Vec::new();
    for part in sentence.split([',', '，', '、', '—', '–']) {
        let mut piece: Vec<&str> = Vec::new();
        for word in part.split_whitespace() {
            if matches!(word.to_lowercase().as_str(), "and" | "then" | "also" | "plus" | "but" | "&" | "-") {
                if !piece.is_empty() {
                    pieces.push(piece.join(" "));
                    piece.clear();
                }
                continue;
            }
            piece.push(word);
        }
        pieces.push(piece.join(" "));
    }
    pieces
}

/// The text without what stands in double quotes: that is quoted, not meant.
pub(super) fn without_quotes(text: &str) -> String {
    let parts = text.split(['"', '“', '”']);
    parts.step_by(2).collect::<Vec<_>>().join(" ")
}

/// What stands in double quotes.
pub(super) fn quoted(text: &str) -> Vec<&str> {
    let parts: Vec<&str> = text.split(['"', '“', '”']).collect();
    // An opening quote without its closing one quotes nothing.
    let closed = parts.len() - (parts.len() + 1) % 2;
    parts.into_iter().take(closed).skip(1).step_by(2).map(str::trim).filter(|part| !part.is_empty()).collect()
}

impl Clause {
    /// The values for a parameter.
    pub(super) fn values_of(&self, parameter: &Parameter) -> &[Value] {
        self.values.get(parameter.number).map_or(&[], Vec::as_slice)
    }

    /// Whether it has a value for some parameter.
    pub(super) fn has_values(&self) -> bool {
        self.values.iter().any(|values| !values.is_empty())
    }

    /// Whether it has a value for a parameter that another clause has one for.
    pub(super) fn shares_a_form(&self, other: &Self) -> bool {
        self.values.iter().zip(&other.values).any(|(one, other)| !one.is_empty() && !other.is_empty())
    }

    /// Whether it says nothing but values.
    pub(super) fn is_only_values(&self) -> bool {
        self.has_values() && self.said.is_empty()
    }

    /// Whether the word at `at` is denied: `do not refund`, `no refund`, `without a refund`.
    pub(super) fn is_denied(&self, at: usize) -> bool {
        let before = self.words.iter().take(at).rev().take(4);
        before
            .into_iter()
            .any(|word| matches!(word.as_str(), "dont" | "not" | "no" | "never" | "without" | "wont" | "stop" | "nor"))
    }

    /// How many words stand before the one at `at` that say something.
    pub(super) fn spoken_before(&self, at: usize) -> usize {
        self.words.iter().take(at).filter(|word| !FILLERS.contains(&word.as_str())).count()
    }

    /// Whether it says outright that something is wanted: `please`, `I want`, `could you`.
    pub(super) fn wants(&self) -> bool {
        position_of_wanting(&self.words).is_some()
    }

    /// Whether somebody corrects himself: `sorry, I meant A-1042`.
    pub(super) fn is_correction(&self) -> bool {
        self.words.iter().any(|word| matches!(word.as_str(), "mean" | "meant" | "correction" | "rather"))
    }

    /// Whether it is about something of the speaker's own, or something that was spoken of: `my order`, `this order`.
    pub(super) fn is_about_own(&self) -> bool {
        self.words.iter().any(|word| matches!(word.as_str(), "my" | "mine" | "our" | "ours" | "it" | "this" | "the"))
    }

    /// Whether it says that it is about something else than what was said before.
    pub(super) fn means_another(&self) -> bool {
        self.words.iter().any(|word| matches!(word.as_str(), "other" | "others" | "another" | "different" | "else"))
    }

    /// Whether it points at something said before: `it`, `that one`.
    pub(super) fn points_back(&self) -> bool {
        self.words.iter().any(|word| {
            matches!(
                word.as_str(),
                "it" | "its" | "that" | "this" | "them" | "they" | "those" | "these" | "one" | "both"
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[(&str, Mood)]) {
        let clauses = clauses(text);
        let found: Vec<_> = clauses.iter().map(|clause| (clause.text.as_str(), clause.mood)).collect();
        assert_eq!(found, expected, "{text}");
    }

    #[test]
    fn clauses_are_split_and_their_mood_is_known() {
        use Mood::{Conditional, Fragment, Question, Request, Statement};

        check(
            "Where is it, and how long does it take?",
            &[("Where is it", Question), ("how long does it take", Question)],
        );
        check("Book a room for 4.5 hours.", &[("Book a room for 4.5 hours", Request)]);
        check(
            "Could you book it? The old one was cancelled.",
            &[("Could you book it", Request), ("The old one was cancelled", Statement)],
        );
        check("the status of X and the price of Y", &[("the status of X", Fragment), ("the price of Y", Fragment)]);
        check("Book it if it rains", &[("Book it if it rains", Conditional)]);
        check("can you tell me when it leaves", &[("can you tell me when it leaves", Question)]);
    }

    #[test]
    fn quotes_are_found_in_pairs_only() {
        assert_eq!(quoted("say \"hello there\" and \"bye"), ["hello there"]);
    }
}
