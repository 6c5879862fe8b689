//! Ranking short texts by the words that they share with a query.

use std::collections::{HashMap, HashSet};

use crate::text::{stem, terms, words};

/// How soon a repeated term stops counting: BM25's `k1`.
const SATURATION: f32 = 1.2;

/// How much long documents are held back: BM25's `b`. Low, because a long list of examples is no reason to rank lower.
const LENGTH: f32 = 0.3;

/// What a term counts that is only nearly one of the index's: a typing error.
const NEARLY: f32 = 0.8;

/// The least that a term counts that every document has.
const COMMON: f32 = 0.1;

/// An index of short texts, ranked by BM25 over weighted fields (Robertson and Zaragoza, *The Probabilistic Relevance Framework*,
/// 2009, section 3.6), with inflections removed, typing errors forgiven, and synonyms that its owner gives.
///
/// Scores are comparable within one query: each term of the query adds at most 1.
///
/// ```
/// use agent_router::LexicalIndex;
///
/// let mut index = LexicalIndex::new();
/// index.add([(2.0, "Returns"), (1.0, "You may return an item within 30 days.")]);
/// index.add([(2.0, "Shipping"), (1.0, "Delivery takes 2 to 4 working days.")]);
/// let best = index.rank("how long can I wiat before returning it").first().map(|hit| hit.0);
/// assert_eq!(best, Some(0));
/// ```
#[derive(Debug, Clone, Default)]
pub struct LexicalIndex {
    documents: Vec<Document>,
    /// In how many documents a term is.
    frequency: HashMap<String, u32>,
    length: f32,
    /// Terms that, standing in a query together, mean other terms as well.
    synonyms: Vec<(Vec<String>, Vec<String>)>,
}

#[derive(Debug, Clone, Default)]
struct Document {
    /// Weighted counts.
    terms: HashMap<String, f32>,
    length: f32,
}

/// A term of a query, as the index knows it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct QueryTerm {
    /// The terms that it may stand for: itself, what it is nearly, and its synonyms.
    pub(crate) forms: Vec<(String, f32)>,
}

impl LexicalIndex {
    /// An index of nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes `words`, all together, to mean `meaning` as well, in queries: `("parcel", "order")`, `("send back", "return")`.
    pub fn add_synonym(&mut self, words: &str, meaning: &str) {
        self.synonyms.push((terms_of_all(words), terms_of_all(meaning)));
    }

    /// Adds a document of weighted fields. Documents are numbered from zero.
    pub fn add<'a>(&mut self, fields: impl IntoIterator<Item = (f32, &'a str)>) {
        let mut document = Document::default();
        for (weight, text) in fields {
            for term in terms(text) {
                document.length += 1.0;
                *document.terms.entry(term).or_default() += weight;
            }
        }
        for term in document.terms.keys() {
            *self.frequency.entry(term.clone()).or_default() += 1;
        }
        self.length += document.length;
        self.documents.push(document);
    }

    /// Documents that share something with `query`, best first, with their scores. Equal ones stand in the order of their numbers.
    #[must_use]
    pub fn rank(&self, query: &str) -> Vec<(usize, f32)> {
        let terms = self.query_terms(query);
        let scores = (0..self.documents.len()).map(|number| (number, self.score(number, &terms)));
        let mut hits: Vec<_> = scores.filter(|(_, score)| *score > 0.0).collect();
        hits.sort_by(|one, other| other.1.total_cmp(&one.1));
        hits
    }

    /// The distinct terms of `query`, as this index knows them.
    pub(crate) fn query_terms(&self, query: &str) -> Vec<QueryTerm> {
        let mut seen = HashSet::new();
        let all = terms_of_all(query);
        let content: Vec<String> = terms(query).into_iter().filter(|term| seen.insert(term.clone())).collect();
        let mut terms: Vec<QueryTerm> = content.into_iter().map(|term| self.query_term(term)).collect();
        for (words, meaning) in &self.synonyms {
            if !words.iter().all(|word| all.contains(word)) {
                continue;
            }
            let forms = meaning.iter().map(|form| (form.clone(), 1.0));
            match terms.iter_mut().find(|term| term.forms.iter().any(|(form, _)| words.contains(form))) {
                Some(term) => term.forms.extend(forms),
                None => terms.push(QueryTerm { forms: forms.collect() }),
            }
        }
        terms
    }

    fn query_term(&self, term: String) -> QueryTerm {
        let is_known =
            self.frequency.contains_key(&term) || self.synonyms.iter().any(|(words, _)| words.contains(&term));
        let near = if is_known { None } else { self.nearest(&term) };
        let forms = [(term, 1.0)].into_iter().chain(near.map(|near| (near, NEARLY))).collect();
        QueryTerm { forms }
    }

    /// The one term that `typed` is a typing error of.
    fn nearest(&self, typed: &str) -> Option<String> {
        let near = self.frequency.keys().filter_map(|term| is_slip(typed, term).map(|distance| (distance, term)));
        near.min().map(|(_, term)| term.clone())
    }

    /// What each term of a query adds for a document: between 0 and 1.
    pub(crate) fn contributions<'a>(&'a self, number: usize, query: &'a [QueryTerm]) -> impl Iterator<Item = f32> + 'a {
        let document = self.documents.get(number);
        query.iter().map(move |term| document.map_or(0.0, |document| self.contribution(document, term)))
    }

    fn contribution(&self, document: &Document, term: &QueryTerm) -> f32 {
        let average = self.length / self.documents.len().max(1) as f32;
        let held_back = SATURATION * (1.0 - LENGTH + LENGTH * document.length / average.max(1.0));
        let of_form = |(form, quality): &(String, f32)| {
            let count = document.terms.get(form)?;
            Some(quality * self.rarity(form) * count / (count + held_back))
        };
        term.forms.iter().filter_map(of_form).fold(0.0, f32::max)
    }

    pub(crate) fn score(&self, number: usize, query: &[QueryTerm]) -> f32 {
        self.contributions(number, query).sum()
    }

    /// Inverse document frequency, from [`COMMON`] for a term that all documents have to 1 for a term of one.
    fn rarity(&self, term: &str) -> f32 {
        let documents = self.documents.len() as f32;
        let idf = |frequency: f32| (1.0 + (documents - frequency + 0.5) / (frequency + 0.5)).ln();
        let frequency = self.frequency.get(term).copied().unwrap_or(1) as f32;
        // The root, because among a handful of documents a shared term says more than among millions.
        (idf(frequency) / idf(1.0)).sqrt().max(COMMON)
    }
}

/// The stems of all words of `text`, of those too that say little by themselves: `send back`.
fn terms_of_all(text: &str) -> Vec<String> {
    words(text).iter().map(|word| stem(word)).collect()
}

/// How far `typed` is from `term`, if it is near enough for a slip of the finger.
fn is_slip(typed: &str, term: &str) -> Option<usize> {
    let (typed_length, length) = (typed.chars().count(), term.chars().count());
    let allowed = match length {
        0..=4 => return None,
        5..=7 => 1,
        _ => 2,
    };
    if typed_length < 4 || typed_length.abs_diff(length) > allowed || typed.chars().next() != term.chars().next() {
        return None;
    }
    let distance = strsim::osa_distance(typed, term);
    (distance <= allowed).then_some(distance)
}
