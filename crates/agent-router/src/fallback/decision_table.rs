//! Rules as data.

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
    /// Words or phrases of which the message has at least one, in either case, as whole words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub any: Vec<String>,
    /// Words or phrases all of which it has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub all: Vec<String>,
    /// Words or phrases none of which it has.
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
    /// The answer: text, or a value of the agent's answer type.
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
    any: Vec<Regex>,
    all: Vec<Regex>,
    none: Vec<Regex>,
    pattern: Option<Regex>,
}

impl DecisionTable {
    /// A table of these rows.
    ///
    /// # Errors
    ///
    /// [`InvalidValue`] for an empty phrase, and for a pattern that is no regular expression.
    pub fn new(rows: impl IntoIterator<Item = DecisionRow>) -> Result<Self, InvalidValue> {
        let rows = rows.into_iter().zip(1..).map(|(row, number)| Row::new(row, number));
        Ok(Self { rows: rows.collect::<Result<_, _>>()?, otherwise: None })
    }

    /// The same, with an answer for when no row fits.
    #[must_use]
    pub fn with_otherwise(mut self, answer: impl Into<Value>) -> Self {
        self.otherwise = Some(answer.into());
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
        self.rows.iter().find_map(|row| row.answer(asked)).or_else(|| self.otherwise.clone())
    }
}

impl Row {
    fn new(data: DecisionRow, number: usize) -> Result<Self, InvalidValue> {
        let phrases = |field: &str, phrases: &[String]| -> Result<Vec<Regex>, InvalidValue> {
            phrases.iter().map(|phrase| compile_phrase(phrase, &format!("row {number}: {field}"))).collect()
        };
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
        let is_in = |phrase: &Regex| phrase.is_match(asked.message);
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

/// A phrase as a pattern: as whole words where it begins and ends with letters of words that blanks part.
fn compile_phrase(phrase: &str, field: &str) -> Result<Regex, InvalidValue> {
    let words: Vec<String> = phrase.split_whitespace().map(regex::escape).collect();
    if words.is_empty() {
        return Err(InvalidValue::new(field.to_owned(), phrase, "a word or a phrase"));
    }
    let bound = |edge: Option<char>| if edge.is_some_and(|edge| edge.is_ascii_alphanumeric()) { r"\b" } else { "" };
    let (begin, end) = (bound(phrase.trim().chars().next()), bound(phrase.trim().chars().next_back()));
    compile(&format!("(?i){begin}{}{end}", words.join(r"\s+")), phrase, field)
}

fn compile(pattern: &str, given: &str, field: &str) -> Result<Regex, InvalidValue> {
    Regex::new(pattern).map_err(|_| InvalidValue::new(field.to_owned(), given, "a regular expression"))
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
