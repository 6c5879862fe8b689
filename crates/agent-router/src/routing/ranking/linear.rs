//! One-against-the-rest linear rows with squared hinge loss, by dual coordinate descent.
//!
//! The method is that of Hsieh et al., "A Dual Coordinate Descent Method for Large-scale Linear
//! SVM" (2008), run for a block of classes at a time: rows of different classes are independent,
//! so a block shares every read of an example and gives the same result as each class alone.

use rustc_hash::FxHashMap;

use super::vocabulary::{Term, Vector};

/// Classes trained together when there are few: a row of a block fills a cache line.
const NARROW: usize = 16;

/// Classes trained together when there are many.
const WIDE: usize = 64;

/// What errors weigh.
#[derive(Clone, Copy, Debug)]
pub(super) struct Penalties {
    /// Of an error on a positive example. Positives are few, so theirs is higher.
    pub(super) positive: f32,
    /// Of an error on a negative example.
    pub(super) negative: f32,
    /// Passes over the examples.
    pub(super) passes: usize,
}

/// An example: its vector and its class, if it belongs to one of those trained.
pub(super) type Example<'a> = (&'a Vector, Option<usize>);

/// Trains `classes` rows and hands each weight to `keep` as (term, class, weight), in a fixed order.
pub(super) fn train(
    examples: &[Example<'_>],
    classes: usize,
    penalties: Penalties,
    mut keep: impl FnMut(u32, usize, f32),
) {
    if classes <= NARROW {
        train_blocks::<NARROW>(examples, classes, penalties, &mut keep);
    } else {
        train_blocks::<WIDE>(examples, classes, penalties, &mut keep);
    }
}

fn train_blocks<const BLOCK: usize>(
    examples: &[Example<'_>],
    classes: usize,
    penalties: Penalties,
    keep: &mut impl FnMut(u32, usize, f32),
) {
    let (local, terms) = renumber(examples);
    for first in (0..classes).step_by(BLOCK) {
        let rows: Vec<[f32; BLOCK]> = train_block(examples, &local, first, terms.len(), penalties);
        for (term, row) in terms.iter().zip(&rows) {
            for (offset, weight) in row.iter().enumerate().take(classes - first) {
                keep(*term, first + offset, *weight);
            }
        }
    }
}

/// Renumbers n-grams densely, in order of first use, so that a small node has small rows.
fn renumber(examples: &[Example<'_>]) -> (Vec<Vec<Term>>, Vec<u32>) {
    let mut numbers: FxHashMap<u32, u32> = FxHashMap::default();
    let mut grams = Vec::new();
    let mut local = Vec::with_capacity(examples.len());
    for (vector, _) in examples {
        let terms = vector.terms.iter().map(|&(gram, weight)| {
            let number = *numbers.entry(gram).or_insert_with(|| {
                grams.push(gram);
                grams.len() as u32 - 1
            });
            (number, weight)
        });
        local.push(terms.collect());
    }
    (local, grams)
}

fn train_block<const BLOCK: usize>(
    examples: &[Example<'_>],
    local: &[Vec<Term>],
    first: usize,
    terms: usize,
    penalties: Penalties,
) -> Vec<[f32; BLOCK]> {
    let mut rows = vec![[0.0; BLOCK]; terms];
    let mut duals = vec![[0.0; BLOCK]; examples.len()];
    let mut order: Vec<usize> = (0..examples.len()).collect();
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..penalties.passes {
        random.shuffle(&mut order);
        for &at in &order {
            let own_terms = &local[at];
            let square: f32 = own_terms.iter().map(|(_, weight)| weight * weight).sum();
            if square > 0.0 {
                let own = examples[at].1.and_then(|class| class.checked_sub(first)).filter(|offset| *offset < BLOCK);
                let steps = steps(&scores(&rows, own_terms), &mut duals[at], own, square, penalties);
                for &(gram, weight) in own_terms {
                    for (value, step) in rows[gram as usize].iter_mut().zip(&steps) {
                        *value += weight * step;
                    }
                }
            }
        }
    }
    rows
}

fn scores<const BLOCK: usize>(rows: &[[f32; BLOCK]], terms: &[Term]) -> [f32; BLOCK] {
    let mut scores = [0.0; BLOCK];
    for &(gram, weight) in terms {
        for (score, value) in scores.iter_mut().zip(&rows[gram as usize]) {
            *score += weight * value;
        }
    }
    scores
}

/// The exact minimum of the dual along this example's coordinate, for each class.
fn steps<const BLOCK: usize>(
    scores: &[f32; BLOCK],
    duals: &mut [f32; BLOCK],
    own: Option<usize>,
    square: f32,
    penalties: Penalties,
) -> [f32; BLOCK] {
    let step = |score: f32, dual: f32, sign: f32, penalty: f32| {
        let diagonal = 0.5 / penalty;
        let gradient = sign * score - 1.0 + diagonal * dual;
        (dual - gradient / (square + diagonal)).max(0.0)
    };
    let mut result = [0.0; BLOCK];
    let before = own.map(|class| duals[class]);
    for ((result, score), dual) in result.iter_mut().zip(scores).zip(duals.iter_mut()) {
        let after = step(*score, *dual, -1.0, penalties.negative);
        *result = *dual - after;
        *dual = after;
    }
    if let (Some(class), Some(before)) = (own, before) {
        let after = step(scores[class], before, 1.0, penalties.positive);
        result[class] = after - before;
        duals[class] = after;
    }
    result
}
