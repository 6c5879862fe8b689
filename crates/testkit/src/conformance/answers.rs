//! Answers to whatever a Sub-Agent waits for.

use agent_core::{AgentCard, Answer, AnswerValue, CallResult, Pending, PendingKind, RunState, Schema, Spend};
use serde_json::{Map, Value, json};

use crate::somebody;

/// What is said to something that is waited for.
pub(super) type Say = fn(&Pending) -> AnswerValue;

/// An answer to the first thing that a run waits for, by a person who has answered nothing else in it.
pub(super) fn answer(card: &AgentCard, state: &RunState, say: Say) -> Option<Answer> {
    let pending = state.pending().first()?;
    let mut person = somebody("acme", &format!("colleague-{}", state.revision()));
    person.roles.clone_from(&card.function.required_roles);
    Some(Answer::new(pending.id.clone(), person, say(pending)))
}

/// No.
pub(super) fn deny(_: &Pending) -> AnswerValue {
    AnswerValue::Deny("the suite says so".to_owned())
}

/// Yes, or a value that fits. No where the suite finds none.
pub(super) fn agree(pending: &Pending) -> AnswerValue {
    match &pending.kind {
        PendingKind::Approval { .. } => AnswerValue::Approve,
        PendingKind::DurableCall { .. } => {
            AnswerValue::Returned { result: CallResult::done(json!("done")), spent: Spend::ZERO }
        }
        kind => {
            let Some(schema) = kind.schema() else { return AnswerValue::Value(json!("yes")) };
            let value = sample(schema);
            let fits = Schema::from_value((**schema).clone()).is_ok_and(|schema| schema.check(&value).is_ok());
            if fits { AnswerValue::Value(value) } else { deny(pending) }
        }
    }
}

/// A value that probably fits `schema`: who uses it checks it.
fn sample(schema: &Value) -> Value {
    let first = |keyword: &str| schema.get(keyword).and_then(Value::as_array).and_then(|values| values.first());
    if let Some(value) = schema.get("const").or_else(|| schema.get("default")) {
        return value.clone();
    }
    if let Some(value) = first("examples").or_else(|| first("enum")) {
        return value.clone();
    }
    if let Some(schema) = first("oneOf").or_else(|| first("anyOf")) {
        return sample(schema);
    }
    let kind = schema.get("type").and_then(|kind| kind.as_str().or_else(|| kind.get(0)?.as_str()));
    match kind {
        Some("object") => object(schema),
        Some("array") => json!([]),
        Some("integer" | "number") => schema.get("minimum").cloned().unwrap_or(json!(1)),
        Some("boolean") => json!(true),
        Some("null") => Value::Null,
        _ => json!("yes"),
    }
}

fn object(schema: &Value) -> Value {
    let required = schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    let field =
        |name: &str| (name.to_owned(), sample(schema.pointer(&format!("/properties/{name}")).unwrap_or(&Value::Null)));
    Value::Object(required.map(field).collect::<Map<_, _>>())
}
