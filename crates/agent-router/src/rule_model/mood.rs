//! What the speaker does with a clause: asks, wants, names, tells, or wants under a condition.

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

/// Words after which a wish becomes a condition.
const CONDITIONS: &[&str] = &["if", "unless", "provided", "assuming", "incase"];

/// The mood of a clause of these words.
pub(super) fn mood(words: &[String], ends_in_question_mark: bool) -> Mood {
    let is = |list: &[&str], word: &String| list.contains(&word.as_str());
    let wants = position_of_wanting(words);
    let is_conditional =
        words.iter().enumerate().any(|(at, word)| is(CONDITIONS, word) && !asks_whether(words.get(..at)));
    let Some(first) = words.iter().find(|word| !is(FILLERS, word)) else {
        return if ends_in_question_mark { Mood::Question } else { Mood::Fragment };
    };
    if is_conditional {
        let asks = ends_in_question_mark || is(QUESTION_WORDS, first) || is_inverted(words);
        return if asks { Mood::Question } else { Mood::Conditional };
    }
    if first == "no" {
        return Mood::Statement;
    }
    if is(QUESTION_WORDS, first) {
        return Mood::Question;
    }
    if let Some(at) = wants {
        // `can you tell me how ..` asks; `I want a refund for what ..` wants.
        let asks = words
            .windows(2)
            .skip(at)
            .take(6)
            .any(|pair| is(QUESTION_WORDS, &pair[1]) && is(BEFORE_QUESTIONS, &pair[0]));
        return if asks { Mood::Question } else { Mood::Request };
    }
    if is(AUXILIARIES, first) && first != "dont" || ends_in_question_mark {
        return Mood::Question;
    }
    if is_subordinate(first) {
        let asks = words.iter().any(|word| is(QUESTION_WORDS, word));
        return if asks { Mood::Question } else { Mood::Statement };
    }
    let is_finite = |word: &String| is(FINITE, word) || word.len() > 4 && word.ends_with("ed");
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

/// Whether a verb stands before its subject, as in questions: `does it`, `can I`.
pub(super) fn is_inverted(words: &[String]) -> bool {
    words.windows(2).any(|pair| {
        AUXILIARIES.contains(&pair[0].as_str())
            && matches!(pair[1].as_str(), "i" | "it" | "you" | "we" | "they" | "u" | "there")
    })
}

/// Whether the words before an `if` make it a `whether`: `check if`, `tell me if`.
fn asks_whether(before: Option<&[String]>) -> bool {
    let last = before.and_then(<[String]>::last).map(String::as_str);
    matches!(
        last,
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
