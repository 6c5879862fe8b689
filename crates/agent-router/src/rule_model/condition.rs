//! Conditions: rules cannot judge whether one holds, so nothing is changed because of a wish under one.

use super::clause::VALUE;
use super::mood::{FILLERS, is_before_question, is_past};

/// What makes a condition, as words in a row.
const CONDITIONS: &[&[&str]] = &[
    &["if"],
    &["unless"],
    &["otherwise"],
    &["incase"],
    &["in", "case"],
    &["in", "that", "case"],
    &["in", "the", "event"],
    &["as", "long", "as"],
    &["as", "soon", "as"],
    &["on", "condition"],
    &["depending"],
];

/// Words that make one with a clause of their own behind them: `once it is back`, but `once a week`.
const CONJUNCTIONS: &[&str] =
    &["after", "assuming", "once", "provided", "providing", "supposing", "till", "until", "when", "whenever"];

/// Words with which a clause's subject begins.
const PRONOUNS: &[&str] = &[
    "everybody",
    "everyone",
    "everything",
    "he",
    "i",
    "it",
    "its",
    "ive",
    "she",
    "somebody",
    "someone",
    "that",
    "they",
    "theyre",
    "theyve",
    "we",
    "weve",
    "you",
    "youre",
    "youve",
];
const DETERMINERS: &[&str] = &["her", "his", "my", "our", "the", "their", "these", "this", "those", "your"];

/// Words of a past that is told, in which nothing is open any more.
const PAST: &[&str] = &[
    "bought", "broke", "came", "did", "didnt", "fell", "found", "got", "had", "made", "sent", "took", "was", "wasnt",
    "went", "were", "werent",
];

/// Words with which a participle is no past: `once it is delivered`.
const PERFECT: &[&str] = &[
    "are", "arent", "be", "been", "gets", "has", "hasnt", "have", "havent", "is", "isnt", "its", "ive", "theyre",
    "theyve", "weve", "youve",
];

/// Where in a clause of these words a condition begins.
pub(super) fn condition_at(words: &[String]) -> Option<usize> {
    let start = words.iter().position(|word| !FILLERS.contains(&word.as_str()))?;
    (start..words.len()).find(|at| {
        let (before, here) = words.split_at(*at);
        let is_first = *at == start;
        let asks = before.last().is_some_and(|word| is_before_question(word));
        match here {
            _ if CONDITIONS.iter().any(|phrase| begins_with(here, phrase)) => {
                !asks_whether(before.last()) && !begins_with(here, &["as", "soon", "as", "possible"])
            }
            [conjunction, rest @ ..] if CONJUNCTIONS.contains(&conjunction.as_str()) => {
                !asks && is_open(conjunction, rest)
            }
            // `should it be late, ..`, `wait until ..`
            [first, second, ..] if is_first && first == "should" => second != "i",
            [first, _, ..] => is_first && matches!(first.as_str(), "wait" | "hold"),
            _ => false,
        }
    })
}

/// Whether a clause says nothing before its condition.
pub(super) fn begins_with_condition(words: &[String]) -> bool {
    let said_before = |at| words.iter().take(at).filter(|word| !FILLERS.contains(&word.as_str()) && *word != "only");
    condition_at(words).is_some_and(|at| said_before(at).next().is_none())
}

/// Whether the words behind a conjunction say what has not come yet.
fn is_open(conjunction: &str, rest: &[String]) -> bool {
    let is = |list: &[&str], word: &String| list.contains(&word.as_str());
    let is_told = rest.iter().any(|word| is(PAST, word))
        || rest.iter().skip(1).any(|word| is_past(word)) && !rest.iter().any(|word| is(PERFECT, word));
    let is_clause = match rest {
        // `after that` counts, `provided that` does not.
        [that, ..] if that == "that" && conjunction == "after" => false,
        [value, verb, ..] if value == VALUE => {
            is(PERFECT, verb) || verb.ends_with('s') && !matches!(conjunction, "after" | "till" | "until")
        }
        [participle, ..] if is_past(participle) => true,
        [subject, _, ..] if is(PRONOUNS, subject) => true,
        [subject, _, _, ..] => is(DETERMINERS, subject),
        _ => false,
    };
    is_clause && !is_told
}

/// Whether the word before an `if` makes it a `whether`: `check if`, `tell me if`.
fn asks_whether(before: Option<&String>) -> bool {
    let before = before.map(String::as_str);
    matches!(
        before,
        Some(
            "ask"
                | "check"
                | "know"
                | "look"
                | "me"
                | "out"
                | "see"
                | "sure"
                | "us"
                | "verify"
                | "wonder"
                | "wondering"
        )
    )
}

fn begins_with(words: &[String], phrase: &[&str]) -> bool {
    words.len() >= phrase.len() && words.iter().zip(phrase).all(|(word, part)| word == part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::words;

    #[test]
    fn what_is_open_is_a_condition_and_what_is_told_is_none() {
        let open = [
            "if it is late",
            "refund it once it is back",
            "refund it when the parcel arrives",
            "once returned",
            "should it be lost",
            "wait for my mail",
            "until my manager agrees",
            "as soon as you can see it",
        ];
        let closed = [
            "let me know if it is late",
            "tell me when it arrives",
            "when does it arrive",
            "it broke when I opened it",
            "after it came",
            "once a week",
            "after two days",
            "after that",
            "as soon as possible",
            "should i return it",
            "wait",
        ];
        for text in open {
            assert!(condition_at(&words(text)).is_some(), "{text}");
        }
        for text in closed {
            assert_eq!(condition_at(&words(text)), None, "{text}");
        }
    }
}
