//! Lexical routing: from a request to ranked agents by n-grams alone.
//!
//! A request becomes a sparse unit vector of word and character n-grams (`text`, `vocabulary`). Every domain and every agent has one
//! linear row, trained one against the rest by dual coordinate descent (`linear`) and kept in one inverted index (`index`). An agent's
//! score is its own plus its domains'; two logistic models (`calibrate`), fitted on held-out folds, turn scores into probabilities.
//! `Classifier` puts them together, and `update` changes it without training anew.

mod calibrate;
mod classifier;
mod dense;
mod hybrid;
mod index;
mod linear;
mod model;
mod packed;
mod text;
mod update;
mod vocabulary;

pub(super) use classifier::{Classifier, Labelled, Ranking, Vectors};
