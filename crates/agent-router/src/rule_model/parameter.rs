//! A function's parameters, and their values in a text by what the schema says of them.

use jiff::civil::Date;
use regex::Regex;
use serde_json::{Map, Value};

use super::clause::quoted;
use super::values::{capitalised, choose, dates, fit_pattern, is_email, is_uuid, number, spans, stems, tokens};
use crate::text::{stem, terms, words};

/// One parameter of a function: what its schema says.
#[derive(Debug, Clone)]
pub(super) struct Parameter {
    /// Its number among the parameters of all functions.
    pub(super) number: usize,
    pub(super) name: String,
    pub(super) description: String,
    pub(super) is_required: bool,
    kind: Kind,
    is_list: bool,
}

/// What values a parameter takes.
#[derive(Debug, Clone)]
enum Kind {
    /// Text of a form of its own.
    Pattern(Regex),
    /// One of these, with the words that mean it.
    Choice(Vec<(Value, Vec<String>)>),
    Date,
    Email,
    Uri,
    Uuid,
    Number {
        is_integer: bool,
    },
    Flag,
    /// Any text: a whole clause, or a name in it.
    Text,
    /// Always this.
    Constant(Value),
    /// Something that no rule finds.
    Opaque,
}

/// Names of parameters that want a whole clause, not a name in it.
const WHOLE: &[&str] = &[
    "question",
    "query",
    "request",
    "text",
    "message",
    "prompt",
    "content",
    "description",
    "input",
    "task",
    "reason",
    "comment",
    "note",
    "notes",
    "details",
    "problem",
    "issue",
    "body",
    "summary",
    "topic",
    "complaint",
    "feedback",
];

/// Words that a wanted name stands behind: `in Lisbon`, `for Ann`.
const BEFORE_NAMES: &[&str] = &["in", "for", "to", "at", "from", "of", "about", "with", "by", "on"];

/// The parameters in the schema of a function's input, numbered from `first`.
pub(super) fn parameters(schema: &Value, first: usize) -> Vec<Parameter> {
    let required: Vec<&str> =
        schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    let properties = schema.get("properties").and_then(Value::as_object);
    let parameter = |((name, schema), number): ((&String, &Value), usize)| {
        let list_of = schema.get("items").filter(|_| type_of(schema) == "array");
        Parameter {
            number,
            name: name.clone(),
            description: schema.get("description").and_then(Value::as_str).unwrap_or_default().to_owned(),
            is_required: required.contains(&name.as_str()),
            kind: kind_of(list_of.unwrap_or(schema)),
            is_list: list_of.is_some(),
        }
    };
    properties.into_iter().flatten().zip(first..).map(parameter).collect()
}

/// The schema's type, without the `null` of an optional one.
fn type_of(schema: &Value) -> &str {
    match schema.get("type") {
        Some(Value::String(name)) => name,
        Some(Value::Array(names)) => {
            names.iter().filter_map(Value::as_str).find(|name| *name != "null").unwrap_or("null")
        }
        _ => "",
    }
}

fn kind_of(schema: &Value) -> Kind {
    if let Some(constant) = schema.get("const") {
        return Kind::Constant(constant.clone());
    }
    if let Some(choices) = choices_of(schema) {
        return Kind::Choice(choices);
    }
    let pattern = schema.get("pattern").and_then(Value::as_str).and_then(|pattern| Regex::new(pattern).ok());
    match (type_of(schema), pattern, schema.get("format").and_then(Value::as_str)) {
        ("string", Some(pattern), _) => Kind::Pattern(pattern),
        ("string", None, Some("date")) => Kind::Date,
        ("string", None, Some("email")) => Kind::Email,
        ("string", None, Some("uri" | "url")) => Kind::Uri,
        ("string", None, Some("uuid")) => Kind::Uuid,
        ("string", None, None) => Kind::Text,
        ("integer", ..) => Kind::Number { is_integer: true },
        ("number", ..) => Kind::Number { is_integer: false },
        ("boolean", ..) => Kind::Flag,
        _ => Kind::Opaque,
    }
}

/// The values of `enum`, or of the `const`s in a `oneOf` or `anyOf`, with the words that mean each.
fn choices_of(schema: &Value) -> Option<Vec<(Value, Vec<String>)>> {
    let named = |value: &Value, description: &str| {
        let name = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let spoken = words(&split_camel(&name)).join(" ");
        let mut names = vec![spoken];
        names.extend(
            description.split(['.', ',', ';', '\n']).map(|part| words(part).join(" ")).filter(|part| !part.is_empty()),
        );
        (value.clone(), names)
    };
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        return Some(values.iter().filter(|value| !value.is_null()).map(|value| named(value, "")).collect());
    }
    let variants = schema.get("oneOf").or_else(|| schema.get("anyOf"))?.as_array()?;
    let choices = variants.iter().filter(|variant| type_of(variant) != "null").map(|variant| {
        let description = variant.get("description").and_then(Value::as_str).unwrap_or_default();
        match (variant.get("const"), variant.get("enum").and_then(Value::as_array)) {
            (Some(value), _) => Some(vec![named(value, description)]),
            (None, Some(values)) => Some(values.iter().map(|value| named(value, "")).collect()),
            (None, None) => None,
        }
    });
    choices.collect::<Option<Vec<_>>>().map(|choices| choices.into_iter().flatten().collect())
}

/// `NextDay` and `next_day` are `Next Day`.
fn split_camel(name: &str) -> String {
    let mut spoken = String::new();
    for character in name.chars() {
        if character.is_uppercase() {
            spoken.push(' ');
        }
        spoken.push(if character == '_' || character == '-' { ' ' } else { character });
    }
    spoken
}

impl Parameter {
    /// Lets choices go by other names too, each with what it means.
    pub(super) fn add_synonyms(&mut self, synonyms: &[(String, String)]) {
        let Kind::Choice(choices) = &mut self.kind else { return };
        for (_, names) in choices {
            let more = synonyms.iter().filter(|(_, meaning)| names.iter().any(|name| stems(name) == stems(meaning)));
            let more: Vec<String> = more.map(|(words, _)| words.clone()).collect();
            names.extend(more);
        }
    }

    /// Whether its values can be told from the words around them.
    pub(super) fn is_distinct(&self) -> bool {
        !matches!(self.kind, Kind::Text | Kind::Flag | Kind::Opaque | Kind::Constant(_) | Kind::Number { .. })
    }

    /// Whether its values have a form that no ordinary word has.
    pub(super) fn has_form(&self) -> bool {
        matches!(self.kind, Kind::Pattern(_) | Kind::Email | Kind::Uri | Kind::Uuid)
    }

    /// Whether a stem is one of its name's or its description's, of one whose values have a form.
    pub(super) fn is_named_by(&self, stem: &str) -> bool {
        self.is_distinct()
            && terms(&format!("{} {}", split_camel(&self.name), self.description)).iter().any(|term| term == stem)
    }

    /// Whether it takes a clause as it is.
    pub(super) fn is_whole_text(&self) -> bool {
        matches!(self.kind, Kind::Text)
            && words(&split_camel(&self.name)).iter().any(|word| WHOLE.contains(&word.as_str()))
    }

    /// Whether a request that names several values means several calls.
    pub(super) fn fans_out(&self) -> bool {
        self.is_distinct() && !self.is_list
    }

    /// The values that `text` has for it, in order, without repetition.
    pub(super) fn find(&self, text: &str, today: Option<Date>) -> Vec<Value> {
        let mut values: Vec<Value> = Vec::new();
        for value in self.find_all(text, today) {
            if !values.contains(&value) {
                values.push(value);
            }
        }
        if self.is_list && !values.is_empty() {
            return vec![Value::Array(values)];
        }
        values
    }

    /// The same without those that are denied: `not A-1041`.
    pub(super) fn find_meant(&self, text: &str, today: Option<Date>) -> Vec<Value> {
        let lower = text.to_lowercase();
        let is_denied = |value: &Value| {
            let at = value.as_str().and_then(|value| lower.find(&value.to_lowercase()));
            let before = at.and_then(|at| lower.get(..at)).and_then(|before| before.split_whitespace().next_back());
            matches!(before, Some("not" | "isn't" | "wasn't" | "except"))
        };
        self.find(text, today).into_iter().filter(|value| !is_denied(value)).collect()
    }

    fn find_all(&self, text: &str, today: Option<Date>) -> Vec<Value> {
        match &self.kind {
            Kind::Pattern(pattern) => spans(text).filter_map(|span| fit_pattern(pattern, &span)).collect(),
            Kind::Choice(choices) => choose(choices, text),
            Kind::Date => dates(text, today).iter().map(|date| Value::from(date.to_string())).collect(),
            Kind::Email => tokens(text).filter(|token| is_email(token)).map(Value::from).collect(),
            Kind::Uri => tokens(text).filter(|token| token.contains("://")).map(Value::from).collect(),
            Kind::Uuid => tokens(text).filter(|token| is_uuid(token)).map(Value::from).collect(),
            Kind::Number { is_integer } => self.numbers(text, *is_integer),
            Kind::Flag => self.flag(text).into_iter().map(Value::from).collect(),
            Kind::Text if self.is_whole_text() => quoted(text).into_iter().map(Value::from).collect(),
            Kind::Text => self.named_text(text).into_iter().map(Value::from).collect(),
            Kind::Constant(value) => vec![value.clone()],
            Kind::Opaque => Vec::new(),
        }
    }

    /// A number that stands by the parameter's name, or the only one there is.
    fn numbers(&self, text: &str, is_integer: bool) -> Vec<Value> {
        let tokens: Vec<&str> = tokens(text).collect();
        let number = |token: &&str| number(token, is_integer);
        let named = tokens.iter().position(|token| self.is_called(token)).and_then(|at| {
            tokens
                .iter()
                .skip(at + 1)
                .take(3)
                .find_map(number)
                .or_else(|| tokens.iter().take(at).rev().take(2).find_map(number))
        });
        let all: Vec<Value> = tokens.iter().filter_map(number).collect();
        match (named, all.as_slice()) {
            (Some(named), _) => vec![named],
            (None, [only]) => vec![only.clone()],
            (None, _) => Vec::new(),
        }
    }

    fn flag(&self, text: &str) -> Option<bool> {
        let words = words(text);
        let at = words.iter().position(|word| self.is_called(word))?;
        let denied =
            words.iter().take(at).rev().take(3).any(|word| matches!(word.as_str(), "no" | "not" | "without" | "dont"));
        Some(!denied)
    }

    /// A quoted text, what stands behind the parameter's name, or a capitalised name behind a preposition.
    fn named_text(&self, text: &str) -> Option<String> {
        if let Some(quoted) = quoted(text).first() {
            return Some((*quoted).to_owned());
        }
        let tokens: Vec<&str> = tokens(text).collect();
        if let Some(at) = tokens.iter().position(|token| self.is_called(token)) {
            let rest = tokens
                .iter()
                .skip(at + 1)
                .skip_while(|token| matches!(**token, "is" | "=" | ":" | "of" | "named" | "called"));
            let name = capitalised(rest.copied());
            if name.is_some() {
                return name;
            }
        }
        let prepositions =
            tokens.iter().enumerate().filter(|(_, token)| BEFORE_NAMES.contains(&token.to_lowercase().as_str()));
        prepositions.into_iter().find_map(|(at, _)| capitalised(tokens.iter().skip(at + 1).copied()))
    }

    fn is_called(&self, word: &str) -> bool {
        let word = stem(&word.to_lowercase());
        words(&split_camel(&self.name)).iter().any(|name| stem(name) == word)
    }
}

/// Arguments with these values, where a list takes all of them.
pub(super) fn arguments(values: impl IntoIterator<Item = (String, Value)>) -> Value {
    Value::Object(values.into_iter().collect::<Map<_, _>>())
}
