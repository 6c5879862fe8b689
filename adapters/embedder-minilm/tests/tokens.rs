//! Texts as word pieces. `minilm.rs` compares those of the real vocabulary with Hugging Face's.
#![allow(clippy::unwrap_used)]

mod support;

use agent_core::Embedder;
use support::Tiny;

/// Compares the pieces between `[CLS]` and `[SEP]`, and the share of them that is unknown.
#[track_caller]
fn check(text: &str, expected: &str) {
    let tiny = Tiny::new();
    let embedder = tiny.load().unwrap();
    let pieces: Vec<&str> = tiny.vocabulary.lines().collect();
    let ids = embedder.token_ids(text);
    let found: Vec<&str> = ids.iter().map(|id| pieces[*id as usize]).collect();
    let (first, last) = (found.first().unwrap(), found.last().unwrap());
    assert_eq!((*first, *last), ("[CLS]", "[SEP]"));
    let found = &found[1..found.len() - 1];
    assert_eq!(found.join(" "), expected);
    let unknown = found.iter().filter(|piece| **piece == "[UNK]").count();
    let share = if found.is_empty() { 0.0 } else { unknown as f32 / found.len() as f32 };
    assert_eq!(embedder.unknown_share(text), Some(share));
}

#[test]
fn words_are_taken_apart_by_the_longest_piece() {
    check("", "");
    check("Where is my ORDER?", "where is my order ?");
    check("unaffable", "un ##aff ##able");
    check("orders", "order ##s");
    check("un-able", "un [UNK] a ##b ##l ##e");
    check("(un,is)!", "( un , is [UNK] !");
}

#[test]
fn accents_go_and_chinese_stands_apart() {
    check("Café cafe\u{301} CAFÉ", "cafe cafe cafe");
    check("¿Straße", "¿ [UNK]");
    check("my我的order", "my [UNK] [UNK] order");
    check("İs is\u{307}", "is is");
}

#[test]
fn spaces_part_and_controls_vanish() {
    check("\twhere\nis\r\nmy\u{a0}order\u{3000}", "where is my order");
    check("my\u{b}or\u{c}der\u{85}", "my ##o ##r ##d ##e ##r");
    check("wh\u{0}e\u{200b}r\u{fffd}e\u{7} \u{e000}", "where");
}

#[test]
fn a_part_that_is_unknown_makes_the_word_unknown() {
    check("where🦀 is", "[UNK] is");
    check("🦀", "[UNK]");
    let (longest, longer) = ("x".repeat(100), "x".repeat(101));
    check(&longest, &format!("x{}", " ##x".repeat(99)));
    check(&format!("{longer} is"), "[UNK] is");
}

#[test]
fn texts_cannot_write_tokens_of_the_model() {
    check("[SEP]", "[UNK] s ##e ##p [UNK]");
    check("[CLS]", "[UNK] c ##l ##s [UNK]");
}

#[test]
fn what_is_beyond_the_window_is_not_read() {
    check(&"is ".repeat(1_000), &["is"; 254].join(" "));
    check(&format!("{}unaffable", "is ".repeat(253)), &format!("{}un", "is ".repeat(253)));
    let endless = "🦀 ".repeat(1_000_000) + "is";
    check(&endless, &["[UNK]"; 254].join(" "));
}
