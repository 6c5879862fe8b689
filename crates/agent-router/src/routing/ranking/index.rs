//! The rows of all classes, stored by n-gram: scoring touches only what a request contains.

use serde::{Deserialize, Serialize};

use super::packed::Packed;
use super::vocabulary::Term;

/// Weight of an n-gram in the row of a class.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Posting(u32, f32);

/// The weights of one n-gram: by class in order, or one for every class from the first.
#[derive(Clone, Debug)]
enum List {
    Few(Vec<Posting>),
    Most(Vec<f32>),
}

/// Classes scored together where most have a weight.
const CHUNK: usize = 8;

/// An inverted index from n-grams to the classes that weigh them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub(super) struct Index {
    lists: Vec<List>,
}

/// The lists, one after the other.
#[derive(Serialize, Deserialize)]
struct Stored {
    /// How many weights each has; of those that have one for every class, with the highest bit set.
    lengths: Packed<u32>,
    /// The classes of the weights of the others.
    classes: Packed<u32>,
    weights: Packed<f32>,
}

const EVERY_CLASS: u32 = 1 << 31;

impl From<Index> for Stored {
    fn from(index: Index) -> Self {
        let (mut lengths, mut classes, mut weights) = (Vec::new(), Vec::new(), Vec::new());
        for list in &index.lists {
            match list {
                List::Few(postings) => {
                    lengths.push(postings.len() as u32);
                    classes.extend(postings.iter().map(|posting| posting.0));
                    weights.extend(postings.iter().map(|posting| posting.1));
                }
                List::Most(values) => {
                    lengths.push(values.len() as u32 | EVERY_CLASS);
                    weights.extend_from_slice(values);
                }
            }
        }
        Self { lengths: Packed(lengths), classes: Packed(classes), weights: Packed(weights) }
    }
}

impl TryFrom<Stored> for Index {
    type Error = &'static str;

    fn try_from(Stored { lengths, classes, weights }: Stored) -> Result<Self, Self::Error> {
        let (mut classes, mut weights) = (&classes.0[..], &weights.0[..]);
        let mut lists = Vec::with_capacity(lengths.0.len());
        for length in lengths.0 {
            let own = weights.split_off(..(length & !EVERY_CLASS) as usize).ok_or("there are too few weights")?;
            lists.push(if length & EVERY_CLASS != 0 {
                List::Most(own.to_vec())
            } else {
                let of_classes = classes.split_off(..own.len()).ok_or("there are too few classes")?;
                List::Few(of_classes.iter().zip(own).map(|(class, weight)| Posting(*class, *weight)).collect())
            });
        }
        match (classes, weights) {
            ([], []) => Ok(Self { lists }),
            _ => Err("there are too many weights"),
        }
    }
}

impl Index {
    /// Starts scoring `classes` classes; [`Scoring::of`] finishes those that are asked for.
    pub(super) fn score(&self, terms: &[Term], classes: usize) -> Scoring<'_> {
        let chunks = classes.div_ceil(CHUNK);
        let mut scoring = Scoring {
            scores: vec![[0.0; CHUNK]; chunks],
            done: vec![false; chunks],
            rows: Vec::with_capacity(terms.len()),
        };
        for &(gram, weight) in terms {
            match self.lists.get(gram as usize) {
                Some(List::Few(postings)) => {
                    postings.iter().for_each(|Posting(class, value)| scoring.add(*class, weight * value))
                }
                Some(List::Most(values)) => scoring.rows.push((weight, values.as_chunks().0)),
                None => {}
            }
        }
        scoring
    }

    /// Adds `step` to the weight of `gram` in the row of `class`.
    pub(super) fn add(&mut self, gram: u32, class: u32, step: f32) {
        let at = gram as usize;
        if at >= self.lists.len() {
            self.lists.resize(at + 1, List::Few(Vec::new()));
        }
        match &mut self.lists[at] {
            List::Few(postings) => match postings.binary_search_by_key(&class, |posting| posting.0) {
                Ok(found) => postings[found].1 += step,
                Err(place) => postings.insert(place, Posting(class, step)),
            },
            List::Most(values) => {
                let length = values.len().max((class as usize + 1).next_multiple_of(CHUNK));
                values.resize(length, 0.0);
                values[class as usize] += step;
            }
        }
    }

    /// Removes the row of a class.
    pub(super) fn remove(&mut self, class: u32) {
        for list in &mut self.lists {
            match list {
                List::Few(postings) => {
                    if let Ok(found) = postings.binary_search_by_key(&class, |posting| posting.0) {
                        postings.remove(found);
                    }
                }
                List::Most(values) => values.iter_mut().skip(class as usize).take(1).for_each(|value| *value = 0.0),
            }
        }
    }

    /// Chooses the faster form of each list and lays the lists out in order.
    pub(super) fn pack(&mut self) {
        for list in &mut self.lists {
            let List::Few(postings) = list else { continue };
            let length = postings.last().map_or(0, |posting| posting.0 as usize + 1);
            if postings.len() * 3 > length {
                let mut values = vec![0.0; length.next_multiple_of(CHUNK)];
                postings.iter().for_each(|posting| values[posting.0 as usize] = posting.1);
                *list = List::Most(values);
            }
        }
        self.lists = self.lists.clone();
    }
}

/// Scores in the making: short lists are summed up, long ones wait until a class is asked for.
pub(super) struct Scoring<'a> {
    scores: Vec<[f32; CHUNK]>,
    done: Vec<bool>,
    rows: Vec<(f32, &'a [[f32; CHUNK]])>,
}

impl Scoring<'_> {
    /// The score of `class`. Exactly zero means: shares no n-gram with the row.
    pub(super) fn of(&mut self, class: u32) -> f32 {
        let (chunk, offset) = (class as usize / CHUNK, class as usize % CHUNK);
        let (Some(scores), Some(done)) = (self.scores.get_mut(chunk), self.done.get_mut(chunk)) else { return 0.0 };
        if !*done {
            let mut sum = *scores;
            for (weight, values) in &self.rows {
                if let Some(values) = values.get(chunk) {
                    sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += weight * value);
                }
            }
            (*scores, *done) = (sum, true);
        }
        scores[offset]
    }

    fn add(&mut self, class: u32, step: f32) {
        if let Some(scores) = self.scores.get_mut(class as usize / CHUNK) {
            scores[class as usize % CHUNK] += step;
        }
    }
}
