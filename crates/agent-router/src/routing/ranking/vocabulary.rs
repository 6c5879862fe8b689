//! N-gram numbers and their weights, and the vector of a text.

use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use super::packed::Packed;
use super::text::{self, Gram, KINDS};

/// Share of the vector's squared length that each kind of n-gram may take: words, pairs,
/// characters.
const SHARES: [f32; KINDS] = [0.25, 0.20, 0.55];

/// Everyday English request phrases. Their n-grams say little about who should answer, which
/// a handful of descriptions cannot show by itself.
const BACKGROUND: &str = include_str!("background.txt");

/// No memory holds so many n-grams.
const KIND_AT: u32 = 30;

/// A term of a vector: the number of an n-gram and its weight.
pub(super) type Term = (u32, f32);

/// A text as a sparse vector.
#[derive(Clone, Debug, Default)]
pub(super) struct Vector {
    /// Known n-grams, ordered by hash. Unknown ones count towards the length, so that a text
    /// full of them is short here.
    pub(super) terms: Vec<Term>,
    /// Share of the n-grams, by weight, that are known; 0 to 1.
    pub(super) known: f32,
}

impl Vector {
    /// Squared length of the known part; at most 1.
    pub(super) fn square(&self) -> f32 {
        self.terms.iter().map(|(_, weight)| weight * weight).sum()
    }
}

/// Known n-grams with their inverse document frequencies, frozen when first counted: a later
/// n-gram changes the vector of no text without it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(from = "Stored", into = "Stored")]
pub(super) struct Vocabulary {
    known: FxHashMap<Gram, Term>,
    rarest: f32,
}

impl Vocabulary {
    /// Counts `documents`, texts of `classes` classes. The fewer the documents per class, the
    /// more the rarity of an n-gram has to tell, so the power of the weights falls from 2 (one
    /// description each) to 0.4 (many examples).
    pub(super) fn count<'a>(documents: impl Iterator<Item = &'a [(Gram, u32)]>, classes: usize) -> Self {
        let mut frequencies: FxHashMap<Gram, f32> = FxHashMap::default();
        let mut total = 0.0f32;
        for document in documents {
            total += 1.0;
            for (gram, _) in document {
                *frequencies.entry(*gram).or_default() += 1.0;
            }
        }
        let background = background();
        let mut ordered: Vec<(Gram, f32)> = frequencies.into_iter().collect();
        // The most frequent first: what most requests read then lies together in memory.
        ordered.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let power = 0.4 + 1.6 / (total / classes.max(1) as f32).max(1.0).sqrt();
        let weigh = |frequency: f32| (1.0 + ((1.0 + 2.0 * total) / (1.0 + frequency)).ln()).powf(power);
        let everyday = |gram: &Gram| total * background.get(gram).copied().unwrap_or(0.0);
        let known = ordered.iter().zip(0..).map(|((gram, own), number)| (*gram, (number, weigh(own + everyday(gram)))));
        Self { known: known.collect(), rarest: weigh(1.0) }
    }

    /// Adds the n-grams of `document` that are new, as the rarest.
    pub(super) fn extend(&mut self, document: &[(Gram, u32)]) {
        for (gram, _) in document {
            let next = self.known.len() as u32;
            self.known.entry(*gram).or_insert((next, self.rarest));
        }
    }

    /// The vector of counted n-grams; its length is 1 when all are known.
    pub(super) fn vector(&self, document: &[(Gram, u32)]) -> Vector {
        let mut squares = [0.0f32; KINDS];
        // Until the lengths are known, the kind stands in the two highest bits of each number.
        let mut terms: Vec<Term> = Vec::with_capacity(document.len());
        let (mut known, mut total) = (0.0f32, 0.0f32);
        for &(gram, count) in document {
            let found = self.known.get(&gram).copied();
            let frequency = if count == 1 { 1.0 } else { 1.0 + (count as f32).ln() };
            let weight = frequency * found.map_or(self.rarest, |(_, rarity)| rarity);
            let kind = text::kind(gram);
            squares[kind] += weight * weight;
            total += weight;
            if let Some((number, _)) = found {
                known += weight;
                terms.push((number | (kind as u32) << KIND_AT, weight));
            }
        }
        let scales: [f32; KINDS] = std::array::from_fn(|k| (SHARES[k] / squares[k].max(f32::MIN_POSITIVE)).sqrt());
        for (number, weight) in &mut terms {
            *weight *= scales[(*number >> KIND_AT) as usize];
            *number &= (1 << KIND_AT) - 1;
        }
        Vector { terms, known: known / total.max(f32::MIN_POSITIVE) }
    }
}

/// Share of the background phrases that hold an n-gram.
fn background() -> FxHashMap<Gram, f32> {
    let mut shares: FxHashMap<Gram, f32> = FxHashMap::default();
    let phrases = BACKGROUND.lines().count().max(1) as f32;
    for line in BACKGROUND.lines() {
        for (gram, _) in text::grams(line) {
            *shares.entry(gram).or_default() += 1.0 / phrases;
        }
    }
    shares
}

#[derive(Serialize, Deserialize)]
struct Stored {
    grams: Packed<Gram>,
    weights: Packed<f32>,
    rarest: f32,
}

impl From<Vocabulary> for Stored {
    fn from(vocabulary: Vocabulary) -> Self {
        let mut ordered: Vec<(Gram, Term)> = vocabulary.known.into_iter().collect();
        ordered.sort_unstable_by_key(|(_, (number, _))| *number);
        let (grams, terms): (Vec<Gram>, Vec<Term>) = ordered.into_iter().unzip();
        let weights = terms.into_iter().map(|(_, weight)| weight).collect();
        Self { grams: Packed(grams), weights: Packed(weights), rarest: vocabulary.rarest }
    }
}

impl From<Stored> for Vocabulary {
    fn from(stored: Stored) -> Self {
        let terms = (0..).zip(stored.weights.0);
        Self { known: stored.grams.0.into_iter().zip(terms).collect(), rarest: stored.rarest }
    }
}
