//! The word pieces that a model knows.

use rustc_hash::FxHashMap;

use crate::error::LoadError;

/// The ids of the pieces: those that begin a word, and those that go on with one (`##` in the file).
pub(super) struct Vocabulary {
    first: FxHashMap<Box<str>, u32>,
    next: FxHashMap<Box<str>, u32>,
    /// Bytes of the longest piece: nothing longer is looked up.
    longest: usize,
    entries: usize,
    pub(super) unknown: u32,
    pub(super) begin: u32,
    pub(super) end: u32,
}

impl Vocabulary {
    /// Reads a `vocab.txt`: a piece a line, whose number is its id.
    pub(super) fn parse(text: &str) -> Result<Self, LoadError> {
        let (mut first, mut next) = (FxHashMap::default(), FxHashMap::default());
        let mut entries = 0;
        let mut longest = 0;
        for (line, id) in text.lines().zip(0..) {
            let (pieces, piece) = match line.strip_prefix("##") {
                Some(piece) if !piece.is_empty() => (&mut next, piece),
                _ => (&mut first, line),
            };
            pieces.insert(piece.into(), id);
            longest = longest.max(piece.len());
            entries += 1;
        }
        let special = |token: &'static str| first.get(token).copied().ok_or(LoadError::MissingToken { token });
        let (unknown, begin, end) = (special("[UNK]")?, special("[CLS]")?, special("[SEP]")?);
        Ok(Self { first, next, longest, entries, unknown, begin, end })
    }

    /// How many entries there are; ids are smaller.
    pub(super) fn len(&self) -> usize {
        self.entries
    }

    /// The longest piece that `rest` of a word begins with, and what remains after it.
    pub(super) fn longest_piece<'a>(&self, rest: &'a str, begins_word: bool) -> Option<(u32, &'a str)> {
        let pieces = if begins_word { &self.first } else { &self.next };
        let most = rest.floor_char_boundary(self.longest);
        (1..=most).rev().filter(|end| rest.is_char_boundary(*end)).find_map(|end| {
            let (piece, rest) = rest.split_at(end);
            Some((*pieces.get(piece)?, rest))
        })
    }
}
