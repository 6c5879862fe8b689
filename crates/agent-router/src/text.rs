//! Words of a text: lower case, without inflection, without words that every text has.

/// Words that say nothing about what a text is about.
const STOP_WORDS: &[&str] = &[
    "a",
    "able",
    "about",
    "actually",
    "after",
    "again",
    "all",
    "already",
    "also",
    "always",
    "am",
    "an",
    "and",
    "any",
    "anyway",
    "are",
    "as",
    "at",
    "be",
    "because",
    "been",
    "before",
    "being",
    "both",
    "but",
    "by",
    "can",
    "cannot",
    "could",
    "did",
    "do",
    "does",
    "doing",
    "done",
    "each",
    "either",
    "else",
    "even",
    "ever",
    "every",
    "few",
    "for",
    "from",
    "general",
    "generally",
    "get",
    "give",
    "given",
    "go",
    "going",
    "got",
    "had",
    "has",
    "have",
    "having",
    "he",
    "hello",
    "help",
    "her",
    "here",
    "hey",
    "hi",
    "him",
    "his",
    "how",
    "i",
    "id",
    "if",
    "ill",
    "im",
    "in",
    "into",
    "is",
    "it",
    "its",
    "ive",
    "just",
    "kindly",
    "know",
    "last",
    "let",
    "like",
    "long",
    "may",
    "me",
    "might",
    "mine",
    "more",
    "most",
    "much",
    "must",
    "my",
    "need",
    "no",
    "normally",
    "not",
    "now",
    "of",
    "off",
    "often",
    "ok",
    "okay",
    "on",
    "once",
    "one",
    "ones",
    "only",
    "or",
    "other",
    "our",
    "out",
    "over",
    "own",
    "please",
    "pls",
    "quick",
    "really",
    "right",
    "same",
    "say",
    "she",
    "should",
    "since",
    "so",
    "some",
    "something",
    "sorry",
    "still",
    "such",
    "sure",
    "take",
    "taken",
    "takes",
    "tell",
    "than",
    "thank",
    "thanks",
    "that",
    "thats",
    "the",
    "their",
    "them",
    "then",
    "there",
    "these",
    "they",
    "thing",
    "things",
    "this",
    "those",
    "though",
    "through",
    "to",
    "today",
    "too",
    "took",
    "u",
    "until",
    "up",
    "upon",
    "us",
    "usually",
    "very",
    "want",
    "was",
    "we",
    "well",
    "were",
    "what",
    "whats",
    "when",
    "where",
    "whether",
    "which",
    "while",
    "who",
    "whom",
    "whose",
    "why",
    "will",
    "wish",
    "with",
    "would",
    "yes",
    "yet",
    "you",
    "your",
    "yours",
];

/// The words of `text` in lower case, in order. Apostrophes vanish: `don't` is `dont`. Han characters are words by themselves.
pub(crate) fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    for character in text.chars() {
        if is_han(character) {
            flush(&mut word, &mut words);
            words.push(character.to_string());
        } else if character.is_alphanumeric() {
            word.extend(character.to_lowercase());
        } else if !matches!(character, '\'' | '’') {
            flush(&mut word, &mut words);
        }
    }
    flush(&mut word, &mut words);
    words
}

fn flush(word: &mut String, words: &mut Vec<String>) {
    if !word.is_empty() {
        words.push(std::mem::take(word));
    }
}

fn is_han(character: char) -> bool {
    matches!(character, '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}')
}

/// The stems of the words that say what `text` is about, in order.
pub(crate) fn terms(text: &str) -> Vec<String> {
    words(text).iter().filter(|word| is_content(word)).map(|word| stem(word)).collect()
}

/// Whether a word says something about what its text is about.
pub(crate) fn is_content(word: &str) -> bool {
    STOP_WORDS.binary_search(&word).is_err() && (word.len() > 1 || !word.is_ascii())
}

/// A word without its inflection. Not always a word: `deliveries`, `delivery` and `delivered` all become `deliver`.
pub(crate) fn stem(word: &str) -> String {
    let word = strip_plural(word);
    // `carried` is `carry`.
    let word = word.strip_suffix("ied").filter(|root| root.len() >= 2).map_or(word.clone(), |root| format!("{root}y"));
    let stem = ["ments", "ment", "ing", "ed", "ly"]
        .iter()
        .find_map(|suffix| word.strip_suffix(suffix).filter(|stem| has_vowel(stem)));
    let stem = match stem {
        Some(stem) if stem.len() >= 3 => undouble(stem),
        _ => &word,
    };
    let stem = stem.strip_suffix("ery").map_or_else(|| stem.to_owned(), |root| format!("{root}er"));
    match stem.strip_suffix('e') {
        Some(root) if root.len() >= 3 => root.to_owned(),
        _ => stem,
    }
}

fn strip_plural(word: &str) -> String {
    if let Some(root) = word.strip_suffix("ies").filter(|root| root.len() >= 2) {
        return format!("{root}y");
    }
    let is_sibilant = |root: &&str| ["ss", "sh", "ch", "x", "z"].iter().any(|end| root.ends_with(end));
    if let Some(root) = word.strip_suffix("es").filter(is_sibilant) {
        return root.to_owned();
    }
    match word.strip_suffix('s') {
        Some(root) if root.len() >= 3 && !root.ends_with('s') && !root.ends_with('u') && !root.ends_with('i') => {
            root.to_owned()
        }
        _ => word.to_owned(),
    }
}

fn has_vowel(stem: &str) -> bool {
    stem.bytes().any(|byte| b"aeiouy".contains(&byte))
}

/// `shipp` of `shipping` becomes `ship`.
fn undouble(stem: &str) -> &str {
    let mut ends = stem.chars();
    match (ends.next_back(), ends.next_back()) {
        (Some(one), Some(other)) if one == other && one.is_ascii() && !"aeioulsz".contains(one) => {
            stem.strip_suffix(one).unwrap_or(stem)
        }
        _ => stem,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stop_words_are_sorted_for_binary_search() {
        assert!(STOP_WORDS.is_sorted());
    }

    #[test]
    fn inflections_share_a_stem() {
        let families = [
            &["deliver", "delivers", "delivered", "delivery", "deliveries", "delivering"][..],
            &["ship", "ships", "shipped", "shipping", "shipment", "shipments"],
            &["refund", "refunds", "refunded", "refunding"],
            &["cancel", "cancelled", "cancelling", "cancels"],
            &["change", "changes", "changed", "changing"],
            &["carry", "carries", "carried", "carrying"],
            &["policy", "policies"],
            &["address", "addresses"],
            &["box", "boxes"],
        ];
        for family in families {
            let stems: Vec<String> = family.iter().map(|word| stem(word).trim_end_matches('l').to_owned()).collect();
            assert!(stems.iter().all(|stem| *stem == stems[0]), "{family:?} -> {stems:?}");
        }
    }

    #[test]
    fn every_script_has_stems() {
        for word in ["aッed", "ぁed", "ุุed", "éeing", "ßßing", "ed", "ing"] {
            assert!(word.starts_with(stem(word).trim_end_matches('e')), "{word} -> {}", stem(word));
        }
    }

    #[test]
    fn words_survive_apostrophes_and_scripts() {
        assert_eq!(words("Don't, it’s B-2001!"), ["dont", "its", "b", "2001"]);
        assert_eq!(words("退款 ok"), ["退", "款", "ok"]);
    }
}
