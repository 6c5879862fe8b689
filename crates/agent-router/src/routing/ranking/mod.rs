//! Which agents a text is for: ranked, with probabilities.
//!
//! A request becomes a sparse unit vector of word and character n-grams (`text`, `vocabulary`). Every domain and every agent has one
//! linear row, trained one against the rest by dual coordinate descent (`linear`) and kept in one inverted index (`index`). An agent's
//! score is its own plus its domain's (`model`). Of an embedding model's vectors, each has a row and what it has seen (`dense`), whose
//! scores are added to the words' (`hybrid`). Two logistic models (`calibrate`), fitted on held-out folds (`prepared`), turn scores into
//! probabilities. `Classifier` puts it all together, and `update` changes it without training anew.

mod calibrate;
mod classifier;
mod dense;
mod hybrid;
mod index;
mod linear;
mod model;
mod packed;
mod prepared;
mod text;
mod update;
mod vectors;
mod vocabulary;

pub(super) use classifier::{Classifier, Labelled, Ranking};
pub(super) use vectors::Vectors;
