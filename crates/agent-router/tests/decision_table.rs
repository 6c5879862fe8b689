//! Rules as data: which rows hold, and what they answer.
// A test that cannot go on panics.
#![allow(clippy::expect_used, clippy::unwrap_used)]

use agent_core::Conversation;
use agent_router::{Asked, DecisionRow, DecisionTable, Rules};
use serde_json::{Value, json};
use testkit::{caller, paused};

fn answer(table: &DecisionTable, message: &str) -> Option<Value> {
    let conversation = Conversation::new().say(message);
    paused(table.answer(&Asked::new(message, &conversation, &caller().tenant)))
}

/// What a row with this pattern and answer says to `message`.
fn check_filled(pattern: &str, template: impl Into<Value>, message: &str, expected: impl Into<Value>) {
    let table = DecisionTable::new([DecisionRow::new(template).with_pattern(pattern)]).unwrap();
    assert_eq!(answer(&table, message), Some(expected.into()), "{pattern} on {message}");
}

#[test]
fn what_a_group_found_is_not_filled_again() {
    let pattern = r"(?s)(?<who>.+) wants (?<order>.+)";
    check_filled(pattern, "{who}: {order}", "{order} wants A-1", "{order}: A-1");
    check_filled(pattern, "{order} for {who}", "Ann wants {who}", "{who} for Ann");
    check_filled(pattern, "{who}{order}", "{order wants }", "{order}");
    check_filled(pattern, "{{who}}", "order wants A-1", "{order}");
    check_filled(
        pattern,
        json!([{"who": "{who}"}, "{order}"]),
        "{order} wants {who}",
        json!([{"who": "{order}"}, "{who}"]),
    );
}

#[test]
fn names_are_filled_wherever_they_stand_and_nothing_else_is() {
    let pattern = r"(?<order>[A-Z]-\d+)(?: of (?<who>\w+))?";
    check_filled(pattern, "{order}, {order}", "A-1", "A-1, A-1");
    check_filled(pattern, "{order} of {who}.", "A-1", "A-1 of .");
    check_filled(pattern, "{{order}}", "A-1", "{A-1}");
    check_filled(pattern, "{{order} }", "A-1", "{A-1 }");
    check_filled(pattern, "{other} { order } {} {order", "A-1", "{other} { order } {} {order");
    check_filled(pattern, "} {\u{e4}{order}\u{e4}", "A-1", "} {\u{e4}A-1\u{e4}");
    check_filled(
        pattern,
        json!({"{order}": ["{order}", 1, null, {"who": "{who}"}]}),
        "A-1 of ann",
        json!({"{order}": ["A-1", 1, null, {"who": "ann"}]}),
    );
    check_filled("refund", "{order}", "refund", "{order}");
    check_filled(r"(?<größe>\d+)", "{größe} cm", "40", "40 cm");
}
