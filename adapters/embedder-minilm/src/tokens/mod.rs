//! From texts to ids of word pieces, as Hugging Face's `BertTokenizer` for uncased models does it.

mod normal;
mod vocabulary;

use self::normal::{characters, is_punctuation};
use self::vocabulary::Vocabulary;
use crate::error::LoadError;

/// Characters of the longest word that is taken apart: longer ones are unknown as a whole.
const LONGEST_WORD: usize = 100;

/// Makes ids of texts.
pub(crate) struct Tokenizer {
    vocabulary: Vocabulary,
    /// The most ids of one text.
    window: usize,
}

impl Tokenizer {
    /// A tokenizer with the pieces of a `vocab.txt`, for a model with so many words that reads so many tokens of a text.
    pub(crate) fn new(vocabulary: &str, words: usize, window: usize) -> Result<Self, LoadError> {
        let vocabulary = Vocabulary::parse(vocabulary)?;
        if vocabulary.len() > words {
            return Err(LoadError::VocabularySize { found: vocabulary.len(), expected: words });
        }
        Ok(Self { vocabulary, window })
    }

    /// The ids of a text: at least two, at most the window.
    pub(crate) fn ids(&self, text: &str) -> Vec<u32> {
        let most = self.window.saturating_sub(2);
        let mut ids = vec![self.vocabulary.begin];
        for_words(text, |word| {
            self.add_pieces(word, &mut ids);
            ids.len() <= most
        });
        ids.truncate(1 + most);
        ids.push(self.vocabulary.end);
        ids
    }

    /// The share of the tokens between the first and the last that are unknown; 0 when there are none.
    pub(crate) fn unknown_share(&self, text: &str) -> f32 {
        let ids = self.ids(text);
        let tokens = ids.len() - 2;
        let unknown = ids.iter().filter(|id| **id == self.vocabulary.unknown).count();
        if tokens == 0 { 0.0 } else { unknown as f32 / tokens as f32 }
    }

    fn add_pieces(&self, word: Word<'_>, ids: &mut Vec<u32>) {
        let known = ids.len();
        let mut rest = word.text;
        while !rest.is_empty() {
            let piece = self.vocabulary.longest_piece(rest, rest.len() == word.text.len());
            let Some((id, after)) = piece.filter(|_| !word.is_too_long) else {
                // A word of which a part is unknown is unknown.
                ids.truncate(known);
                ids.push(self.vocabulary.unknown);
                return;
            };
            ids.push(id);
            rest = after;
        }
    }
}

/// A word, or a character of punctuation.
struct Word<'a> {
    /// No more of it than is needed to see that it is too long.
    text: &'a str,
    is_too_long: bool,
}

/// Hands the words of a text to `take` until that says `false`: a text is not read beyond the window.
fn for_words(text: &str, mut take: impl FnMut(Word<'_>) -> bool) {
    let mut word = String::new();
    let mut length = 0_usize;
    // The space ends the last word.
    for character in characters(text).chain([' ']) {
        let is_apart = is_punctuation(character);
        if !is_apart && !character.is_whitespace() {
            length += 1;
            if length <= LONGEST_WORD {
                word.push(character);
            }
            continue;
        }
        if length > 0 && !take(Word { text: &word, is_too_long: length > LONGEST_WORD }) {
            return;
        }
        word.clear();
        length = 0;
        if is_apart && !take(Word { text: character.encode_utf8(&mut [0; 4]), is_too_long: false }) {
            return;
        }
    }
}
