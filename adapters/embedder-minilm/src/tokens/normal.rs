//! Texts as BERT's uncased models read them: what `BertNormalizer` and `BertPreTokenizer` of Hugging Face's tokenizers do.

use unicode_categories::UnicodeCategories;
use unicode_normalization::UnicodeNormalization;

/// The characters of a text in lower case, without accents and controls, with spaces around Chinese ones.
pub(super) fn characters(text: &str) -> impl Iterator<Item = char> {
    text.chars()
        .filter(|character| !is_dropped(*character))
        .flat_map(|character| {
            let around = is_chinese(character).then_some(' ');
            around.into_iter().chain([character]).chain(around)
        })
        .nfd()
        .filter(|character| !character.is_mark_nonspacing())
        .flat_map(char::to_lowercase)
}

/// Whether a character is a word of its own.
pub(super) fn is_punctuation(character: char) -> bool {
    character.is_ascii_punctuation() || character.is_punctuation()
}

/// Controls, formats and what is for private use, but for three that part words.
fn is_dropped(character: char) -> bool {
    match character {
        '\t' | '\n' | '\r' => false,
        _ => character == char::REPLACEMENT_CHARACTER || character.is_other(),
    }
}

/// Whether a character is in one of the blocks that BERT takes for Chinese, which are written without spaces. Not kana or hangul.
fn is_chinese(character: char) -> bool {
    matches!(
        u32::from(character),
        0x4E00..=0x9FFF
            | 0x3400..=0x4DBF
            | 0x20000..=0x2A6DF
            | 0x2A700..=0x2B73F
            | 0x2B740..=0x2B81F
            // Unicode's block begins at 2B820; Hugging Face's tokenizers have it so.
            | 0x2B920..=0x2CEAF
            | 0xF900..=0xFAFF
            | 0x2F800..=0x2FA1F
    )
}
