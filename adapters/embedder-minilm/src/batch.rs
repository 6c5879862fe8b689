//! Which texts go through the model together.

/// Tokens of a batch above which the processor gains nothing from more.
const MOST: usize = 512;

/// Tokens below which a batch costs more than it saves.
const LEAST: usize = 96;

/// Texts that go through the model together.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Batch {
    /// Where in the list of all texts each of them stands.
    pub(crate) places: Vec<usize>,
    /// The ids of their tokens.
    pub(crate) texts: Vec<Vec<u32>>,
}

/// Parts all texts into batches: enough of them for all `threads`, unless they would be too small for that. Texts are not padded, so any
/// may be together.
pub(crate) fn plan(texts: Vec<Vec<u32>>, threads: usize) -> Vec<Batch> {
    let tokens: usize = texts.iter().map(Vec::len).sum();
    let room = tokens.div_ceil(threads.max(1)).clamp(LEAST, MOST);
    let mut batches = Vec::new();
    let (mut batch, mut filled) = (Batch::default(), 0);
    for (place, ids) in texts.into_iter().enumerate() {
        if filled > 0 && filled + ids.len() > room {
            batches.push(std::mem::take(&mut batch));
            filled = 0;
        }
        filled += ids.len();
        batch.places.push(place);
        batch.texts.push(ids);
    }
    if filled > 0 {
        batches.push(batch);
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plans texts of these lengths and compares which of them are together.
    fn check(lengths: &[usize], threads: usize, expected: &[&[usize]]) {
        let texts = lengths.iter().map(|length| vec![0; *length]).collect();
        let batches = plan(texts, threads);
        let places: Vec<&[usize]> = batches.iter().map(|batch| &*batch.places).collect();
        assert_eq!(places, expected);
        let planned = batches.iter().flat_map(|batch| batch.texts.iter().map(Vec::len));
        assert!(planned.eq(lengths.iter().copied()));
    }

    #[test]
    fn batches_are_neither_large_nor_small() {
        check(&[], 2, &[]);
        check(&[10, 20, 30], 2, &[&[0, 1, 2]]);
        check(&[50, 50, 50, 50], 2, &[&[0, 1], &[2, 3]]);
        check(&[200, 200, 200], 1, &[&[0, 1], &[2]]);
        check(&[256, 256, 256], 8, &[&[0], &[1], &[2]]);
    }
}
