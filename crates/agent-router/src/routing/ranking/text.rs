//! Text to n-grams: Unicode normalisation, tokens, word and character n-grams.

use unicode_normalization::UnicodeNormalization;

/// Longest character n-gram.
const LONGEST: usize = 4;

/// Kinds of n-gram; each is normalised on its own, so that none drowns the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// One word.
    Word = 0,
    /// Two words, adjacent or with one between them.
    Pair = 1,
    /// One to four characters, across word boundaries.
    Character = 2,
}

/// Number of [`Kind`]s.
pub(super) const KINDS: usize = 3;

/// A hashed n-gram; the two low bits hold its [`Kind`].
pub(super) type Gram = u64;

/// The index of the kind of `gram`, below [`KINDS`].
pub(super) fn kind(gram: Gram) -> usize {
    ((gram & 3) as usize).min(KINDS - 1)
}

/// The distinct n-grams of `text` with their counts, ordered by hash.
pub(super) fn grams(text: &str) -> Vec<(Gram, u32)> {
    let tokens = Tokens::read(text);
    let mut all = Vec::with_capacity(tokens.line.len() * (LONGEST + 1) + 16);
    tokens.words(&mut all);
    tokens.characters(&mut all);
    all.sort_unstable();
    let mut counted: Vec<(Gram, u32)> = Vec::with_capacity(all.len());
    for gram in all {
        match counted.last_mut() {
            Some((last, count)) if *last == gram => *count += 1,
            _ => counted.push((gram, 1)),
        }
    }
    counted
}

/// Splits an identifier into words: `TaxCalculator_v2` becomes `Tax Calculator v2`.
pub(super) fn split_name(name: &str) -> String {
    let mut words = String::with_capacity(name.len() + 8);
    let mut characters = name.chars().peekable();
    let mut before = ' ';
    while let Some(c) = characters.next() {
        let next_is_lower = characters.peek().is_some_and(|n| n.is_lowercase());
        let starts_word = before.is_lowercase() || (before.is_uppercase() && next_is_lower);
        if c.is_uppercase() && starts_word {
            words.push(' ');
        }
        words.push(if c.is_alphanumeric() { c } else { ' ' });
        before = c;
    }
    words
}

/// Normalised text: words separated by single spaces, with a space at both ends. Chinese,
/// Japanese and Korean characters are words of their own with no space between them.
struct Tokens {
    line: Vec<char>,
    words: Vec<u64>,
}

impl Tokens {
    fn read(text: &str) -> Self {
        let mut tokens =
            Self { line: Vec::with_capacity(text.len() + 2), words: Vec::with_capacity(text.len() / 4 + 1) };
        tokens.line.push(' ');
        let mut word = None;
        if text.is_ascii() {
            text.bytes().for_each(|b| tokens.push(char::from(b.to_ascii_lowercase()), &mut word));
        } else {
            text.nfkc().flat_map(char::to_lowercase).for_each(|c| tokens.push(c, &mut word));
        }
        tokens.end_word(&mut word);
        if tokens.line.last() != Some(&' ') {
            tokens.line.push(' ');
        }
        tokens
    }

    fn push(&mut self, c: char, word: &mut Option<u64>) {
        if is_ideograph(c) {
            self.end_word(word);
            self.words.push(mix(SEED, c as u64));
            self.line.push(c);
        } else if c.is_alphanumeric() {
            if word.is_none() && self.line.last().is_some_and(|last| *last != ' ') {
                self.line.push(' ');
            }
            *word = Some(mix(word.unwrap_or(SEED), c as u64));
            self.line.push(c);
        } else if c != '\'' && c != '\u{2019}' {
            self.end_word(word);
            if self.line.last() != Some(&' ') {
                self.line.push(' ');
            }
        }
    }

    fn end_word(&mut self, word: &mut Option<u64>) {
        self.words.extend(word.take());
    }

    fn words(&self, out: &mut Vec<Gram>) {
        let mut before = (SEED, SEED);
        for &word in &self.words {
            out.push(tag(mix(1, word), Kind::Word));
            out.push(tag(mix(mix(2, before.1), word), Kind::Pair));
            if before.0 != SEED {
                out.push(tag(mix(mix(3, before.0), word), Kind::Pair));
            }
            before = (before.1, word);
        }
        out.push(tag(mix(mix(2, before.1), SEED), Kind::Pair));
    }

    fn characters(&self, out: &mut Vec<Gram>) {
        for start in 0..self.line.len() {
            let mut hash = SEED;
            for &c in self.line.iter().skip(start).take(LONGEST) {
                let is_space = hash == SEED && c == ' ';
                hash = mix(hash, c as u64);
                if !is_space {
                    out.push(tag(hash, Kind::Character));
                }
            }
        }
    }
}

const SEED: u64 = 0x51_7c_c1_b7_27_22_0a_95;

fn mix(hash: u64, value: u64) -> u64 {
    let product = (hash.rotate_left(5) ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    product ^ (product >> 29)
}

fn tag(hash: u64, kind: Kind) -> Gram {
    (hash & !3) | kind as u64
}

fn is_ideograph(c: char) -> bool {
    matches!(c as u32, 0x3040..=0x30ff | 0x3400..=0x4dbf | 0x4e00..=0x9fff | 0xac00..=0xd7af | 0xf900..=0xfaff | 0x2_0000..=0x2_fa1f)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_split_into_words() {
        let check = |name: &str, expected: &str| assert_eq!(split_name(name), expected);
        check("TaxCalculator_v2", "Tax Calculator v2");
        check("AIAgentHub", "AI Agent Hub");
        check("card-arrival", "card arrival");
    }

    #[test]
    fn equivalent_texts_have_equal_grams() {
        let check = |a: &str, b: &str| assert_eq!(grams(a), grams(b));
        check("ＡＢＣ  def!", "abc def");
        check("Don't", "dont");
        check("查询，余额", "查询 余额");
    }

    #[test]
    fn ideographs_share_grams_without_segmentation() {
        let shared = |a: &str, b: &str| grams(a).iter().filter(|x| grams(b).iter().any(|y| x.0 == y.0)).count();
        assert!(shared("查询账户余额", "我的余额是多少") >= 3);
    }
}
