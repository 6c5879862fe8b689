//! Values in a text, by their form.

use jiff::civil::Date;
use regex::Regex;
use serde_json::{Number, Value};

use crate::text::{stem, words};

/// The words of a text without the punctuation around them.
pub(super) fn tokens(text: &str) -> impl Iterator<Item = &str> {
    text.split_whitespace()
        .map(|token| token.trim_matches(|c: char| !c.is_alphanumeric() && c != '#'))
        .filter(|token| !token.is_empty())
}

/// Every run of one to three words: patterns may hold blanks.
pub(super) fn spans(text: &str) -> impl Iterator<Item = String> {
    let tokens: Vec<&str> = text
        .split_whitespace()
        .map(|token| token.trim_matches(['.', ',', '!', '?', ';', ':', '"', '\'', '(', ')', '“', '”']))
        .collect();
    let spans: Vec<String> = (0..tokens.len())
        .flat_map(|at| (1..=3).map(move |length| (at, length)))
        .filter_map(|(at, length)| tokens.get(at..at + length).map(|span| span.join(" ")))
        .collect();
    spans.into_iter()
}

/// The value that fits `pattern`, in the case that the pattern wants.
pub(super) fn fit_pattern(pattern: &Regex, span: &str) -> Option<Value> {
    let candidates = [span.to_owned(), span.to_uppercase(), span.to_lowercase()];
    // All of the span, or a pattern without anchors would find itself in ordinary words.
    let fits = |text: &String| pattern.find(text).is_some_and(|found| found.len() == text.len());
    candidates.into_iter().find(fits).map(Value::from)
}

/// The words of a text without inflection.
pub(super) fn stems(text: &str) -> String {
    words(text).iter().map(|word| stem(word)).collect::<Vec<_>>().join(" ")
}

/// The choices that are named in `text`, the longest names first where they overlap.
pub(super) fn choose(choices: &[(Value, Vec<String>)], text: &str) -> Vec<Value> {
    let text = format!(" {} ", stems(text));
    let mut found: Vec<(usize, usize, &Value)> = Vec::new();
    for (value, names) in choices {
        let place = names.iter().filter_map(|name| {
            let name = format!(" {} ", stems(name));
            text.find(&name).map(|at| (at, at + name.len()))
        });
        if let Some((start, end)) = place.max_by_key(|(start, end)| end - start) {
            found.push((start, end, value));
        }
    }
    let is_covered = |(start, end, _): &(usize, usize, &Value)| {
        found.iter().any(|(from, to, _)| from <= start && end <= to && to - from > end - start)
    };
    let mut kept: Vec<_> = found.iter().filter(|place| !is_covered(place)).collect();
    kept.sort_by_key(|(start, ..)| *start);
    kept.into_iter().map(|(.., value)| (*value).clone()).collect()
}

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];

/// Dates: `2026-03-12`, `12 March 2026`, `March 12, 2026`, `12.03.2026`; and, where today is known, `today` and its neighbours.
pub(super) fn dates(text: &str, today: Option<Date>) -> Vec<Date> {
    let tokens: Vec<&str> = tokens(text).collect();
    let relative = |token: &str| {
        let days = match token.to_lowercase().as_str() {
            "today" => 0,
            "tomorrow" => 1,
            "yesterday" => -1,
            _ => return None,
        };
        today?.checked_add(jiff::Span::new().days(days)).ok()
    };
    let at = |index: usize| {
        let token = tokens.get(index)?;
        let one = token.parse().ok().or_else(|| dotted(token)).or_else(|| relative(token));
        one.or_else(|| spelled(token, tokens.get(index + 1)?, tokens.get(index + 2)?))
    };
    (0..tokens.len()).filter_map(at).collect()
}

fn dotted(token: &str) -> Option<Date> {
    let mut parts = token.split('.');
    let (day, month, year) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    if parts.next().is_some() || year < 1000 {
        return None;
    }
    Date::new(year, month, day).ok()
}

fn spelled(one: &str, two: &str, three: &str) -> Option<Date> {
    let month = |name: &str| {
        let name = name.to_lowercase();
        let index = MONTHS.iter().position(|month| name.starts_with(month))?;
        i8::try_from(index + 1).ok()
    };
    let day = |text: &str| text.trim_end_matches(|c: char| c.is_alphabetic()).parse().ok();
    let year: i16 = three.parse().ok().filter(|year| *year >= 1000)?;
    let (month, day) = match month(two) {
        Some(month) => (month, day(one)?),
        None => (month(one)?, day(two)?),
    };
    Date::new(year, month, day).ok()
}

const SPELLED_NUMBERS: [&str; 13] =
    ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"];

pub(super) fn number(token: &str, is_integer: bool) -> Option<Value> {
    let token = token.trim_start_matches('#').to_lowercase();
    if let Some(number) = SPELLED_NUMBERS.iter().position(|name| *name == token) {
        // `one` is a pronoun more often than a number.
        return (token != "one").then(|| Value::from(number));
    }
    if let Ok(integer) = token.parse::<i64>() {
        return Some(Value::from(integer));
    }
    if is_integer {
        return None;
    }
    token
        .parse::<f64>()
        .ok()
        .filter(|_| token.starts_with(|c: char| c.is_ascii_digit()))
        .and_then(Number::from_f64)
        .map(Value::Number)
}

pub(super) fn is_email(token: &str) -> bool {
    let Some((name, domain)) = token.split_once('@') else { return false };
    !name.is_empty() && domain.contains('.') && !domain.contains('@')
}

pub(super) fn is_uuid(token: &str) -> bool {
    let lengths: Vec<usize> = token.split('-').map(str::len).collect();
    lengths == [8, 4, 4, 4, 12] && token.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
}

/// The run of capitalised words at the beginning of `tokens`.
pub(super) fn capitalised<'a>(tokens: impl Iterator<Item = &'a str>) -> Option<String> {
    let name: Vec<&str> = tokens.take_while(|token| token.starts_with(char::is_uppercase)).collect();
    (!name.is_empty()).then(|| name.join(" "))
}
