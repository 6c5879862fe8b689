//! Rules as data: which rows hold, and what they answer.
// A test that cannot go on panics.
#![allow(clippy::expect_used, clippy::unwrap_used)]

use agent_core::Conversation;
use agent_router::{Asked, DecisionRow, DecisionTable, Rules};
use proptest::prelude::*;
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
    check_filled(pattern, "} {ä{order}ä", "A-1", "} {äA-1ä");
    check_filled(
        pattern,
        json!({"{order}": ["{order}", 1, null, {"who": "{who}"}]}),
        "A-1 of ann",
        json!({"{order}": ["A-1", 1, null, {"who": "ann"}]}),
    );
    check_filled("refund", "{order}", "refund", "{order}");
    check_filled(r"(?<größe>\d+)", "{größe} cm", "40", "40 cm");
}

/// Whether rows that ask for these phrases hold for these messages.
fn check_holds(cases: &[(&str, &str, bool)]) {
    for (phrase, message, expected) in cases {
        let table = DecisionTable::new([DecisionRow::new("yes").with_any([*phrase])]).unwrap();
        assert_eq!(answer(&table, message).is_some(), *expected, "{phrase:?} in {message:?}");
    }
}

#[test]
fn phrases_are_whole_words_in_every_script_that_has_blanks() {
    check_holds(&[
        ("refund", "A refund, please", true),
        ("refund", "refunds", false),
        ("refund", "prerefund", false),
        ("über", "Ich bin darüber hinweg", false),
        ("über", "Über das Wetter", true),
        ("über", "darüber und über", true),
        ("ß", "groß", false),
        ("spaß", "spaßig", false),
        ("spaß", "Viel Spaß!", true),
        ("art", "äart artä", false),
        ("кот", "который", false),
        ("кот", "скот", false),
        ("кот", "мой кот.", true),
        ("हिन", "हिन्दी", false),
        ("हिन्दी", "हिन्दी में", true),
        ("سلام", "سلامت", false),
        // Where one place does not do, the next one is looked at, also within the first.
        ("aa", "aaa aa", true),
        ("a a", "ba a a", true),
    ]);
}

#[test]
fn phrases_of_scripts_without_blanks_stand_anywhere() {
    check_holds(&[
        ("退款", "我要退款吗", true),
        ("退款", "我要退货吗", false),
        ("𠮷野", "在𠮷野家", true),
        ("返金", "返金してください", true),
        ("キャンセル", "予約をキャンセルしたい", true),
        ("คืนเงิน", "ขอคืนเงินด้วย", true),
        ("ပြန်အမ်း", "ငွေပြန်အမ်းပါ", true),
        ("សង", "សូមសងប្រាក់", true),
        // Korean has blanks, and endings.
        ("환불", "환불을 원해요", true),
        // Other words end where such a script begins.
        ("vip", "我是VIP吗", true),
        ("vip", "我是VIPs吗", false),
        ("vip客户", "我是VIP客户吗", true),
        ("vip客户", "MVIP客户", false),
        ("30", "第30天", true),
        ("30", "第130天", false),
    ]);
}

#[test]
fn words_end_where_punctuation_begins() {
    check_holds(&[
        ("c++", "I like C++.", true),
        ("c++", "C++20", true),
        ("c++", "objc++", false),
        (".net", "ASP.NET", true),
        (".net", "the .network", false),
        ("open", "open_hours", false),
        ("_id", "user_id", false),
        ("_id", "the _id", true),
        ("v2", "v2.1", true),
        ("v2", "v21", false),
        ("٣", "٣٣", false),
        ("refund", "⚠\u{fe0f}refund", true),
        (" money  back ", "Money\n\u{a0}back", true),
        ("money back", "money-back", false),
    ]);
}

#[test]
fn case_does_not_matter_and_accents_belong_to_their_letter() {
    check_holds(&[
        ("ärger", "ÄRGER!", true),
        ("ÄRGER", "so ein ärger", true),
        ("КОТ", "кот", true),
        ("λόγος", "ΛΌΓΟΣ", true),
        ("ΛΌΓΟΣ", "λόγος", true),
        ("ß", "ẞ", true),
        // One character is compared with one.
        ("straße", "STRASSE", false),
        ("cafe", "un cafe\u{301}", false),
        ("cafe\u{301}", "un cafe\u{301}!", true),
        ("cafe\u{301}", "des cafe\u{301}s", false),
        ("caf\u{e9}", "un cafe\u{301}", false),
    ]);
}

#[test]
fn a_blank_text_is_no_answer() {
    let row = |answer: &str, pattern: &str| DecisionRow::new(answer).with_pattern(pattern);
    let pattern = "refund(?: of (?<order>.+))?";
    let table = DecisionTable::new([row("{order}", pattern), row("Which order?", "refund")]).unwrap();
    let table = table.with_otherwise(" ");
    assert_eq!(answer(&table, "refund of A-1"), Some("A-1".into()));
    assert_eq!(answer(&table, "refund"), Some("Which order?".into()));
    assert_eq!(answer(&table, "Hello?"), None);
    // What is kept of it can be read again.
    let read: DecisionTable = serde_json::from_value(serde_json::to_value(&table).unwrap()).unwrap();
    assert_eq!(answer(&read, "refund"), Some("Which order?".into()));
    let values = DecisionTable::new([DecisionRow::new(json!([]))]).unwrap();
    assert_eq!(answer(&values, "Hello?"), Some(json!([])));
}

/// How a table with this document is refused.
fn check_refused(document: Value, expected: &str) {
    let error = serde_json::from_value::<DecisionTable>(document).unwrap_err().to_string();
    assert_eq!(error, expected);
}

#[test]
fn what_could_never_answer_is_refused_with_its_place() {
    let rows = |row: Value| json!({"rows": [{"answer": "yes"}, row]});
    check_refused(
        rows(json!({"any": ["open", " "], "answer": "yes"})),
        r#"row 2: any is " ", expected a word or a phrase"#,
    );
    check_refused(rows(json!({"none": [""], "answer": "yes"})), r#"row 2: none is "", expected a word or a phrase"#);
    check_refused(
        rows(json!({"answer": "\n"})),
        r#"row 2: answer is "\n", expected a value, or a text that is not blank"#,
    );
    check_refused(
        json!({"rows": [], "otherwise": ""}),
        r#"otherwise is "", expected a value, or a text that is not blank"#,
    );
    let with_pattern = |pattern: &str| rows(json!({"pattern": pattern, "answer": "yes"}));
    check_refused(with_pattern("("), r#"row 2: pattern is "(", expected a regular expression"#);
    let twice = "(?<one>a)|(?<one>b)";
    check_refused(with_pattern(twice), &format!("row 2: pattern is {twice:?}, expected a regular expression"));
    check_refused(
        with_pattern(r"\w{999}"),
        r#"row 2: pattern is "\\w{999}", expected a smaller one: of at most 10485760 bytes when it is compiled"#,
    );
    let long = "ä".repeat(200_000);
    let shown = long.chars().take(80).collect::<String>();
    check_refused(
        rows(json!({"any": [long], "answer": "yes"})),
        &format!(r#"row 2: any is "{shown}…", expected a smaller one: of at most 10485760 bytes when it is compiled"#),
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_stands_between_blanks_is_found(phrase in r"\PC*\S\PC*", before in r"\PC*", after in r"\PC*") {
        check_holds(&[(&phrase, &format!("{before} {phrase}\n{after}"), true)]);
    }
}
