//! A request in clauses: what is asked, told, wanted, and not wanted.

use std::ops::Range;

use serde_json::Value;

use super::condition::{begins_with_condition, condition_at};
use super::mood::{AUXILIARIES, FILLERS, Mood, is_inverted, mood, position_of_wanting};
use super::parameter::Parameter;
use crate::lexical_index::QueryTerm;
use crate::text::words;

/// How much of a request is read. What stands after it is not looked at.
const MAX_WORDS: usize = 2_000;

/// What stands for a word that is a value: one with a digit in it, an address.
pub(super) const VALUE: &str = "#";

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

const ARTICLES: &[&str] = &["a", "an", "the"];

/// Words that are shortened with a full stop, which ends no sentence then.
const ABBREVIATIONS: &[&str] = &["approx", "e.g", "etc", "i.e", "max", "min", "mr", "mrs", "ms", "nr", "vs"];

/// The clauses of `text`, in order.
pub(super) fn clauses(text: &str) -> Vec<Clause> {
    let text = head(text);
    // What is quoted is one word to whatever splits a text.
    let masked = blanked(text, 'q');
    let mut clauses: Vec<Clause> = Vec::new();
    for (number, (sentence, is_question)) in sentences(&masked).into_iter().enumerate() {
        let start = clauses.len();
        let begins_with_then = text[sentence.clone()].trim_start().to_ascii_lowercase().starts_with("then ");
        let pieces = pieces(&masked, sentence);
        let last = pieces.len().saturating_sub(1);
        for (index, piece) in pieces.into_iter().enumerate() {
            let piece = &text[piece];
            let words = spoken_words(&without_quotes(piece));
            let says_nothing = words.iter().all(|word| FILLERS.contains(&word.as_str()));
            if says_nothing && (!words.is_empty() || !piece.chars().any(char::is_alphanumeric)) {
                continue;
            }
            let ends_in_question_mark = is_question && index == last;
            let mut mood = mood(&words, ends_in_question_mark);
            let goes_on_telling = !ends_in_question_mark
                && clauses.get(start..).and_then(<[Clause]>::last).is_some_and(|before| before.mood == Mood::Statement)
                && !is_inverted(&words);
            // `he took it but doesn't remember the day` asks nothing.
            if goes_on_telling && words.first().is_some_and(|word| AUXILIARIES.contains(&word.as_str())) {
                mood = Mood::Statement;
            }
            let text = piece.to_owned();
            clauses.push(Clause { text, words, mood, sentence: number, values: Vec::new(), said: Vec::new() });
        }
        let (earlier, wishes) = clauses.split_at_mut(start);
        put_under_conditions(earlier, wishes);
        // `Is it late? Then refund it.`
        if begins_with_then && earlier.last().is_some_and(Clause::asks_whether) {
            wishes.iter_mut().for_each(Clause::put_under_condition);
        }
    }
    clauses
}

/// Makes wishes conditional that stand in one sentence with a condition, or right before one: `Refund it. Only if it is late.`
fn put_under_conditions(earlier: &mut [Clause], sentence: &mut [Clause]) {
    for at in 0..sentence.len() {
        let (before, rest) = sentence.split_at_mut(at);
        let Some((clause, after)) = rest.split_first_mut().filter(|(clause, _)| condition_at(&clause.words).is_some())
        else {
            continue;
        };
        let begins_with_condition = begins_with_condition(&clause.words);
        if after.iter().any(Clause::is_wish) || !begins_with_condition {
            after.iter_mut().for_each(Clause::put_under_condition);
        } else if before.is_empty() && (clause.words.iter().any(|word| word == "only" || word == "unless")) {
            earlier.iter_mut().rev().take(1).for_each(Clause::put_under_condition);
        } else {
            before.iter_mut().for_each(Clause::put_under_condition);
        }
    }
}

/// The words of `text`, where each value is a [`VALUE`]: `A-1042` is no article.
fn spoken_words(text: &str) -> Vec<String> {
    let token = |token: &str| {
        let is_value = token.bytes().any(|byte| byte.is_ascii_digit()) || token.contains('@') || token.contains("://");
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

/// Where the sentences of `text` stand, and whether each ends in a question mark. A full stop within a number or a name ends nothing.
fn sentences(text: &str) -> Vec<(Range<usize>, bool)> {
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
            _ => false,
        };
        if ends {
            sentences.push((start..at, matches!(character, '?' | '？')));
            start = at + character.len_utf8();
        }
    }
    sentences.push((start..text.len(), false));
    sentences.retain(|(sentence, _)| text[sentence.clone()].chars().any(char::is_alphanumeric));
    sentences
}

/// Where the pieces of a sentence stand: it is split at its commas and at the words that join clauses.
fn pieces(text: &str, sentence: Range<usize>) -> Vec<Range<usize>> {
    let mut pieces: Vec<Range<usize>> = Vec::new();
    let mut piece: Option<Range<usize>> = None;
    let mut start = sentence.start;
    for token in text[sentence].split_inclusive(|c: char| c.is_whitespace() || ",，、—–".contains(c)) {
        let word = token.trim_end_matches(|c: char| c.is_whitespace() || ",，、—–".contains(c));
        let joins = matches!(word.to_lowercase().as_str(), "and" | "then" | "also" | "plus" | "but" | "&" | "-");
        let after = start + token.len();
        if !word.is_empty() && !joins {
            let end = start + word.len();
            piece = Some(piece.map_or(start, |piece| piece.start)..end);
        }
        let ends = joins || token.ends_with([',', '，', '、', '—', '–']) || begins_list(word, &text[after..]);
        if ends {
            pieces.extend(piece.take());
        }
        start = after;
    }
    pieces.extend(piece);
    pieces
}

/// Whether a word's colon is more than that of `parcels: 2`, which names a value: `three things: ..`
fn begins_list(word: &str, rest: &str) -> bool {
    let mut next = rest.split_whitespace().take(3);
    word.ends_with(':') && next.clone().count() == 3 && next.all(|word| !word.ends_with(['.', '!', '?']))
}

/// The text without what is quoted: that is not meant.
pub(super) fn without_quotes(text: &str) -> String {
    blanked(text, ' ')
}

/// What is quoted.
pub(super) fn quoted(text: &str) -> Vec<&str> {
    let inner = quotes(text).into_iter().filter(|quote| quote.is_closed).map(|quote| text[quote.inner].trim());
    inner.filter(|inner| !inner.is_empty()).collect()
}

/// A quotation in a text.
struct Quote {
    /// Where it stands, without its marks.
    inner: Range<usize>,
    is_closed: bool,
}

/// What stands in double quotes, and in single ones that are no apostrophes. A double quote that is not closed quotes all the rest.
fn quotes(text: &str) -> Vec<Quote> {
    let mut quotes: Vec<Quote> = Vec::new();
    // The mark that opened a quote, and where the quote begins.
    let mut open: Option<(bool, usize)> = None;
    let mut before: Option<char> = None;
    let is_letter = |character: Option<char>| character.is_some_and(char::is_alphanumeric);
    for (at, character) in text.char_indices() {
        let after = at + character.len_utf8();
        let is_double = matches!(character, '"' | '“' | '”');
        let is_single = matches!(character, '\'' | '‘' | '’');
        if is_double || is_single {
            let next = text[after..].chars().next();
            match open {
                Some((double, start)) if double == is_double && (is_double || !is_letter(next)) => {
                    quotes.push(Quote { inner: start..at, is_closed: true });
                    open = None;
                }
                // `24"` and `don't` open nothing.
                None if !is_letter(before) && (is_double || is_letter(next)) => open = Some((is_double, after)),
                _ => {}
            }
        }
        before = Some(character);
    }
    if let Some((true, start)) = open {
        quotes.push(Quote { inner: start..text.len(), is_closed: false });
    }
    quotes
}

/// The text with `blank` for all that is quoted, of the same length.
fn blanked(text: &str, blank: char) -> String {
    let mut blanked = String::with_capacity(text.len());
    let mut end = 0;
    for Quote { inner, .. } in quotes(text) {
        blanked.push_str(&text[end..inner.start]);
        blanked.extend(std::iter::repeat_n(blank, inner.len()));
        end = inner.end;
    }
    blanked.push_str(&text[end..]);
    blanked
}

impl Clause {
    /// Whether it wants something or names something, as a wish does.
    fn is_wish(&self) -> bool {
        matches!(self.mood, Mood::Request | Mood::Fragment)
    }

    fn put_under_condition(&mut self) {
        if self.is_wish() {
            self.mood = Mood::Conditional;
        }
    }

    /// Whether it can be answered with yes or no.
    fn asks_whether(&self) -> bool {
        self.mood == Mood::Question && self.words.first().is_some_and(|word| AUXILIARIES.contains(&word.as_str()))
    }

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
        let says_something = |word: &&String| !FILLERS.contains(&word.as_str()) && !ARTICLES.contains(&word.as_str());
        self.words.iter().take(at).filter(says_something).count()
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
                "it" | "its"
                    | "that"
                    | "this"
                    | "them"
                    | "they"
                    | "those"
                    | "these"
                    | "one"
                    | "both"
                    | "him"
                    | "his"
                    | "her"
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
        assert_eq!(quoted("I don't say 'it isn't so', the boys' say: ‘don’t’"), ["it isn't so", "don’t"]);
        assert_eq!(quoted("a 24\" screen"), [""; 0]);
        assert_eq!(without_quotes("a \"b, c\" d"), "a \"    \" d");
    }
}
