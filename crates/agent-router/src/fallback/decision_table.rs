//! Rules as data.

use std::borrow::Cow;

use agent_core::{InvalidValue, TenantId};
use async_trait::async_trait;
use regex::{Captures, Regex};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::rules::{Asked, Rules};

/// Rules as data: rows, of which the first one answers whose conditions all hold.
///
/// ```
/// use agent_router::DecisionTable;
///
/// let table: DecisionTable = serde_json::from_str(r#"{
///     "rows": [
///         {"any": ["refund", "money back"], "pattern": "(?<order>[A-Z]-\\d{4})", "answer": "A refund of {order} takes five days."},
///         {"any": ["open", "opening hours"], "tenants": ["acme"], "answer": "We open at nine."}
///     ],
///     "otherwise": "Please call us."
/// }"#)?;
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(try_from = "Document", into = "Document")]
pub struct DecisionTable {
    rows: Vec<Row>,
    otherwise: Option<Value>,
}

/// A row of a [`DecisionTable`]: conditions, which all have to hold, and an answer. A condition that is left out holds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct DecisionRow {
    /// Words or phrases of which the message has at least one.
    ///
    /// They are whole words: `open` is not in `reopen`, nor `über` in `darüber`. What is no letter, digit or underscore ends a word, so
    /// that `c++` is in `C++20`. In scripts without blanks between words, and in Korean, they may stand anywhere in a text.
    ///
    /// Case does not matter, character by character: `ärger` is `ÄRGER`, and `straße` is not `STRASSE`. Nor does it matter which blanks
    /// part the words of a phrase. Texts are compared in the Unicode normal form that they have, which is NFC for most input.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub any: Vec<String>,
    /// Words or phrases all of which it has, as in `any`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub all: Vec<String>,
    /// Words or phrases none of which it has, as in `any`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub none: Vec<String>,
    /// A regular expression that matches somewhere in it. What its named groups found takes the place of their names in the texts of
    /// the answer: `{order}`, or nothing for a group that took no part. Other braces stay as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern: Option<String>,
    /// The tenants for whom it holds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tenants: Vec<TenantId>,
    /// The failures after which it holds, as stable codes: `model.rate_limited`. With these, it holds in a recovery only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
    /// The answer: text, or a value of the agent's answer type. Where it is a text that is blank once it is filled, the row does not
    /// hold.
    pub answer: Value,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    rows: Vec<DecisionRow>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    otherwise: Option<Value>,
}

/// A row with its conditions compiled.
#[derive(Debug, Clone)]
struct Row {
    data: DecisionRow,
    any: Vec<Phrase>,
    all: Vec<Phrase>,
    none: Vec<Phrase>,
    pattern: Option<Regex>,
}

/// A word or a phrase, as it is looked for in messages.
#[derive(Debug, Clone)]
pub(crate) struct Phrase {
    words: Regex,
    /// Matches two characters of one word.
    one_word: Regex,
}

/// Two characters of one word. Left out are Thai, Lao, Tibetan, Burmese, Khmer, Chinese and Japanese, which have no blanks between
/// words, Korean, whose words take endings, and what makes a picture of the character before it.
const ONE_WORD: &str = concat!(
    r"^[\w--[",
    r"\x{0E00}-\x{0FFF}\x{1000}-\x{109F}\x{1100}-\x{11FF}\x{1780}-\x{17FF}\x{20E3}\x{2E80}-\x{9FFF}\x{A960}-\x{A97F}",
    r"\x{AC00}-\x{D7FF}\x{F900}-\x{FAFF}\x{FE0F}\x{FF66}-\x{FFDC}\x{1B000}-\x{1B16F}\x{20000}-\x{3FFFF}",
    r"]]{2}$"
);

impl DecisionTable {
    /// A table of these rows.
    ///
    /// # Errors
    ///
    /// [`InvalidValue`] for a blank phrase, for a pattern that is no regular expression or too large a one, and for an answer that is a
    /// blank text.
    pub fn new(rows: impl IntoIterator<Item = DecisionRow>) -> Result<Self, InvalidValue> {
        let one_word = compile(ONE_WORD, ONE_WORD, "words")?;
        let rows = rows.into_iter().zip(1..).map(|(row, number)| Row::new(row, number, &one_word));
        Ok(Self { rows: rows.collect::<Result<_, _>>()?, otherwise: None })
    }

    /// The same, with an answer for when no row fits. A blank text is none.
    #[must_use]
    pub fn with_otherwise(mut self, answer: impl Into<Value>) -> Self {
        self.otherwise = Some(answer.into()).filter(|answer| !is_blank(answer));
        self
    }
}

impl DecisionRow {
    /// A row that always gives this answer.
    pub fn new(answer: impl Into<Value>) -> Self {
        Self { answer: answer.into(), ..Self::default() }
    }

    /// The same, for messages with one of these words or phrases.
    #[must_use]
    pub fn with_any<'a>(mut self, phrases: impl IntoIterator<Item = &'a str>) -> Self {
        self.any = phrases.into_iter().map(str::to_owned).collect();
        self
    }

    /// The same, for messages that match this regular expression.
    #[must_use]
    pub fn with_pattern(mut self, pattern: impl Into<String>) -> Self {
        self.pattern = Some(pattern.into());
        self
    }
}

impl TryFrom<Document> for DecisionTable {
    type Error = InvalidValue;

    fn try_from(document: Document) -> Result<Self, InvalidValue> {
        if let Some(otherwise) = &document.otherwise {
            ensure_answers(otherwise, "otherwise".into())?;
        }
        Ok(Self { otherwise: document.otherwise, ..Self::new(document.rows)? })
    }
}

impl From<DecisionTable> for Document {
    fn from(table: DecisionTable) -> Self {
        Self { rows: table.rows.into_iter().map(|row| row.data).collect(), otherwise: table.otherwise }
    }
}

#[async_trait]
impl Rules for DecisionTable {
    async fn answer(&self, asked: &Asked<'_>) -> Option<Value> {
        let mut answers = self.rows.iter().filter_map(|row| row.answer(asked)).chain(self.otherwise.iter().cloned());
        answers.find(|answer| !is_blank(answer))
    }
}

impl Row {
    fn new(data: DecisionRow, number: usize, one_word: &Regex) -> Result<Self, InvalidValue> {
        let phrases = |field: &str, phrases: &[String]| -> Result<Vec<Phrase>, InvalidValue> {
            phrases.iter().map(|phrase| Phrase::new(phrase, one_word, &format!("row {number}: {field}"))).collect()
        };
        ensure_answers(&data.answer, format!("row {number}: answer"))?;
        let pattern =
            data.pattern.as_deref().map(|pattern| compile(pattern, pattern, &format!("row {number}: pattern")));
        Ok(Self {
            any: phrases("any", &data.any)?,
            all: phrases("all", &data.all)?,
            none: phrases("none", &data.none)?,
            pattern: pattern.transpose()?,
            data,
        })
    }

    fn answer(&self, asked: &Asked<'_>) -> Option<Value> {
        let DecisionRow { tenants, causes, answer, .. } = &self.data;
        let is_in = |phrase: &Phrase| phrase.is_in(asked.message);
        let holds = (tenants.is_empty() || tenants.contains(asked.tenant))
            && (causes.is_empty()
                || asked.cause.is_some_and(|cause| causes.iter().any(|known| known == cause.as_str())))
            && (self.any.is_empty() || self.any.iter().any(is_in))
            && self.all.iter().all(is_in)
            && !self.none.iter().any(is_in);
        if !holds {
            return None;
        }
        match &self.pattern {
            None => Some(answer.clone()),
            Some(pattern) => pattern.captures(asked.message).map(|found| fill(answer, pattern, &found)),
        }
    }
}

impl Phrase {
    /// These phrases, as they are looked for.
    pub(crate) fn compile(phrases: &[String], field: &str) -> Result<Vec<Self>, InvalidValue> {
        if phrases.is_empty() {
            return Ok(Vec::new());
        }
        let one_word = compile(ONE_WORD, ONE_WORD, "words")?;
        phrases.iter().map(|phrase| Self::new(phrase, &one_word, field)).collect()
    }

    fn new(phrase: &str, one_word: &Regex, field: &str) -> Result<Self, InvalidValue> {
        let words: Vec<String> = phrase.split_whitespace().map(regex::escape).collect();
        if words.is_empty() {
            return Err(InvalidValue::new(field.to_owned(), phrase, "a word or a phrase"));
        }
        let words = compile(&format!("(?i){}", words.join(r"\s+")), phrase, field)?;
        Ok(Self { words, one_word: one_word.clone() })
    }

    /// Whether the message has it, and not as a part of other words.
    pub(crate) fn is_in(&self, message: &str) -> bool {
        let mut from = 0;
        while let Some(found) = self.words.find_at(message, from) {
            if !self.parts_a_word(message, found.start()) && !self.parts_a_word(message, found.end()) {
                return true;
            }
            // The next place may begin within this one.
            from = message.ceil_char_boundary(found.start() + 1);
        }
        false
    }

    /// Whether the characters on both sides of this place belong to one word.
    fn parts_a_word(&self, message: &str, at: usize) -> bool {
        let Some((before, after)) = message.split_at_checked(at) else { return false };
        let (Some(last), Some(first)) = (before.chars().next_back(), after.chars().next()) else { return false };
        let both = message.get(at - last.len_utf8()..at + first.len_utf8());
        both.is_some_and(|both| self.one_word.is_match(both))
    }
}

fn compile(pattern: &str, given: &str, field: &str) -> Result<Regex, InvalidValue> {
    Regex::new(pattern).map_err(|error| {
        let expected = match error {
            regex::Error::CompiledTooBig(most) => {
                format!("a smaller one: of at most {most} bytes when it is compiled").into()
            }
            _ => Cow::Borrowed("a regular expression"),
        };
        InvalidValue::new(field.to_owned(), given, expected)
    })
}

fn ensure_answers(answer: &Value, field: String) -> Result<(), InvalidValue> {
    match answer {
        Value::String(text) if is_blank(answer) => {
            Err(InvalidValue::new(field, text, "a value, or a text that is not blank"))
        }
        _ => Ok(()),
    }
}

fn is_blank(answer: &Value) -> bool {
    answer.as_str().is_some_and(|text| text.trim().is_empty())
}

/// The answer with what the pattern's groups found, in all of its texts.
fn fill(answer: &Value, pattern: &Regex, found: &Captures<'_>) -> Value {
    match answer {
        Value::String(text) => fill_text(text, pattern, found).into(),
        Value::Array(items) => items.iter().map(|item| fill(item, pattern, found)).collect(),
        Value::Object(fields) => {
            fields.iter().map(|(name, field)| (name.clone(), fill(field, pattern, found))).collect()
        }
        other => other.clone(),
    }
}

/// The text with what the groups found in the place of their names. It is gone through once: what was found is not looked at again,
/// since a user wrote it.
fn fill_text(text: &str, pattern: &Regex, found: &Captures<'_>) -> String {
    let is_group = |name: &str| pattern.capture_names().flatten().any(|group| group == name);
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, opened)) = rest.split_once('{') {
        filled.push_str(before);
        // No group's name has a brace in it.
        let name = opened.split(['{', '}']).next().unwrap_or_default();
        rest = match opened.strip_prefix(name).and_then(|after| after.strip_prefix('}')) {
            Some(after) if is_group(name) => {
                filled.push_str(found.name(name).map_or("", |group| group.as_str()));
                after
            }
            _ => {
                filled.push('{');
                opened
            }
        };
    }
    filled + rest
}
