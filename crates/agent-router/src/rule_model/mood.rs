//! What the speaker does with a clause: asks, wants, names, tells, or wants under a condition.

use super::condition::condition_at;

/// What the speaker does with a clause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mood {
    /// Asks something.
    Question,
    /// Wants something done: `refund A-1042`, `could you ..`, `I'd like ..`.
    Request,
    /// Names something without a verb: `the status of A-1042`.
    Fragment,
    /// Tells something.
    Statement,
    /// Wants something under a condition, which rules cannot judge.
    Conditional,
}

const QUESTION_WORDS: &[&str] =
    &["how", "what", "whats", "when", "where", "wheres", "which", "who", "whos", "whose", "why"];

pub(super) const AUXILIARIES: &[&str] = &[
    "am", "are", "arent", "can", "cant", "could", "did", "didnt", "do", "does", "doesnt", "dont", "had", "hadnt",
    "has", "hasnt", "have", "havent", "is", "isnt", "may", "might", "must", "shall", "should", "was", "wasnt", "were",
    "werent", "will", "wont", "would",
];

/// Words that say nothing at the beginning of a clause.
pub(super) const FILLERS: &[&str] = &[
    "actually",
    "afternoon",
    "also",
    "and",
    "anyway",
    "but",
    "dear",
    "evening",
    "first",
    "finally",
    "good",
    "hello",
    "hey",
    "hi",
    "just",
    "kindly",
    "lastly",
    "morning",
    "next",
    "now",
    "ok",
    "okay",
    "oh",
    "please",
    "pls",
    "plus",
    "second",
    "so",
    "sorry",
    "thanks",
    "then",
    "there",
    "third",
    "well",
    "yes",
];

/// Words with which somebody begins to tell something.
const TELLERS: &[&str] = &[
    "a", "all", "an", "both", "everyone", "he", "her", "his", "i", "id", "ill", "im", "it", "its", "ive", "many",
    "mine", "my", "nobody", "one", "our", "she", "some", "somebody", "someone", "that", "thats", "the", "their",
    "they", "theyre", "this", "two", "we", "were", "weve", "you", "your", "youre", "youve",
];

/// Words that make a telling of what begins like one. Regular pasts are known by their ending.
const FINITE: &[&str] = &[
    "am", "are", "arent", "bought", "broke", "came", "did", "didnt", "does", "doesnt", "fell", "found", "got", "had",
    "has", "hasnt", "have", "havent", "im", "is", "isnt", "ive", "keeps", "made", "said", "says", "sent", "took",
    "was", "wasnt", "went", "were", "werent", "will", "wont",
];

/// What somebody says who wants something, as words in a row.
const WANTING: &[&[&str]] = &[
    &["i", "want"],
    &["i", "need"],
    &["i", "wanna"],
    &["i", "demand"],
    &["i", "request"],
    &["i", "would", "like"],
    &["id", "like"],
    &["we", "want"],
    &["we", "need"],
    &["wed", "like"],
    &["can", "you"],
    &["could", "you"],
    &["would", "you"],
    &["will", "you"],
    &["can", "u"],
    &["could", "u"],
    &["can", "i", "get"],
    &["can", "i", "have"],
    &["could", "i", "get"],
    &["could", "i", "have"],
    &["may", "i", "have"],
    &["go", "ahead"],
    &["give", "me"],
    &["get", "me"],
    &["please"],
    &["pls"],
    &["plz"],
    &["kindly"],
];

/// Words behind which a question follows: `tell me how`, `find out when`.
const BEFORE_QUESTIONS: &[&str] = &[
    "ask",
    "check",
    "explain",
    "find",
    "hear",
    "know",
    "learn",
    "me",
    "out",
    "say",
    "see",
    "show",
    "sure",
    "tell",
    "understand",
    "up",
    "us",
    "wonder",
    "wondering",
];

/// The mood of a clause of these words.
pub(super) fn mood(words: &[String], ends_in_question_mark: bool) -> Mood {
    let is = |list: &[&str], word: &String| list.contains(&word.as_str());
    let Some(first) = words.iter().find(|word| !is(FILLERS, word)) else {
        return if ends_in_question_mark { Mood::Question } else { Mood::Fragment };
    };
    if let Some(at) = condition_at(words) {
        let asks = ends_in_question_mark || is_inverted(words) || asks_within(words);
        let asks = asks || is(QUESTION_WORDS, first) && words.get(at) != Some(first);
        return if asks { Mood::Question } else { Mood::Conditional };
    }
    if first == "no" {
        return Mood::Statement;
    }
    if is(QUESTION_WORDS, first) {
        return Mood::Question;
    }
    if let Some(at) = position_of_wanting(words) {
        // `can you tell me how ..` asks; `I want a refund for what ..` wants.
        let near = words.get(at..words.len().min(at + 7)).unwrap_or_default();
        return if asks_within(near) { Mood::Question } else { Mood::Request };
    }
    if is(AUXILIARIES, first) && first != "dont" || ends_in_question_mark {
        return Mood::Question;
    }
    if is_subordinate(first) {
        let asks = words.iter().any(|word| is(QUESTION_WORDS, word));
        return if asks { Mood::Question } else { Mood::Statement };
    }
    let is_finite = |word: &String| is(FINITE, word) || is_past(word);
    if is(TELLERS, first) {
        return if words.iter().any(is_finite) { Mood::Statement } else { Mood::Fragment };
    }
    // `A-1042 was ..` tells; a name of two words is the longest that this sees.
    let is_told = |word: &String| is(AUXILIARIES, word) && is_finite(word);
    if words.iter().take(4).skip(1).any(is_told) || words.iter().take(3).skip(1).any(|word| is(FINITE, word)) {
        return Mood::Statement;
    }
    if words.iter().any(|word| is(QUESTION_WORDS, word)) {
        return Mood::Question;
    }
    Mood::Request
}

/// Whether a word looks like a regular past or participle.
pub(super) fn is_past(word: &str) -> bool {
    word.len() > 4 && word.ends_with("ed")
}

/// Whether there is a question behind a word for asking: `tell me how ..`
fn asks_within(words: &[String]) -> bool {
    words.windows(2).any(|pair| is_before_question(&pair[0]) && QUESTION_WORDS.contains(&pair[1].as_str()))
}

pub(super) fn is_before_question(word: &str) -> bool {
    BEFORE_QUESTIONS.contains(&word)
}

/// Whether a verb stands before its subject, as in questions: `does it`, `can I`.
pub(super) fn is_inverted(words: &[String]) -> bool {
    words.windows(2).any(|pair| {
        AUXILIARIES.contains(&pair[0].as_str())
            && matches!(pair[1].as_str(), "i" | "it" | "you" | "we" | "they" | "u" | "there")
    })
}

fn is_subordinate(word: &str) -> bool {
    matches!(word, "after" | "although" | "as" | "because" | "before" | "once" | "since" | "though" | "until" | "while")
}

pub(super) fn position_of_wanting(words: &[String]) -> Option<usize> {
    // `I only want`, `could you kindly`: what stands between changes nothing.
    let words: Vec<&String> =
        words.iter().filter(|word| !matches!(word.as_str(), "only" | "just" | "really" | "also" | "now")).collect();
    (0..words.len()).find(|at| {
        WANTING.iter().any(|phrase| {
            let here = words.iter().skip(*at).take(phrase.len());
            here.len() == phrase.len() && here.zip(*phrase).all(|(word, wanted)| *word == wanted)
        })
    })
}
