//! What is trained on, and what is held out of it.

use super::calibrate::{Evidence, Truth};
use super::classifier::Labelled;
use super::dense::{Dense, Embedded};
use super::hybrid::{Hybrid, Shares};
use super::model::{Corpus, Document, Model, Scored, Visible};
use super::text;
use super::update::KEPT;
use super::vectors::Vectors;

/// From how many texts on only one fold is held out.
const MANY: usize = 20_000;

/// A text to train on.
pub(super) struct Sample<'a> {
    document: Document,
    values: Option<&'a [f32]>,
    agent: Option<usize>,
    /// Number of the fold that holds it out; none for names and descriptions.
    turn: Option<usize>,
}

/// Training texts as n-grams, with the numbers of agents and domains.
pub(super) struct Prepared<'a> {
    domains: Vec<String>,
    agents: Vec<(String, usize, Vec<String>)>,
    labelled: Vec<Sample<'a>>,
    /// Examples of an agent, on average.
    pub(super) per_agent: f64,
    outside: usize,
}

/// Held-out decisions.
#[derive(Default)]
pub(super) struct HeldOut {
    pub(super) by_words: Vec<(Evidence, Truth)>,
    pub(super) by_both: Vec<(Evidence, Truth)>,
}

impl<'a> Prepared<'a> {
    pub(super) fn new(agents: &[Labelled], out_of_scope: &[String], vectors: Option<&'a Vectors>) -> Self {
        let values = |text: &str| vectors.and_then(|vectors| vectors.get(text));
        let mut domains: Vec<String> = agents.iter().map(|agent| agent.domain.clone()).collect();
        domains.sort_unstable();
        domains.dedup();
        let mut prepared =
            Self { domains, agents: Vec::new(), labelled: Vec::new(), per_agent: 0.0, outside: out_of_scope.len() };
        let mut ordered: Vec<&Labelled> = agents.iter().collect();
        ordered.sort_by_key(|agent| &agent.domain);
        for (number, agent) in ordered.into_iter().enumerate() {
            let domain = prepared.domains.binary_search(&agent.domain).unwrap_or(0);
            let texts: Vec<String> = agent.texts().collect();
            let examples = agent.examples.iter().filter(|text| !text.trim().is_empty()).count();
            let described = texts.len() - examples;
            for (at, text) in texts.iter().enumerate() {
                let turn = at.checked_sub(described).map(|example| example + number);
                let (document, values) = (text::grams(text), values(text));
                prepared.labelled.push(Sample { document, values, agent: Some(number), turn });
            }
            prepared.per_agent += examples as f64 / agents.len() as f64;
            prepared.agents.push((agent.name.clone(), domain, texts.into_iter().take(KEPT).collect()));
        }
        for (at, text) in out_of_scope.iter().enumerate() {
            let (document, values) = (text::grams(text), values(text));
            prepared.labelled.push(Sample { document, values, agent: None, turn: Some(at) });
        }
        prepared
    }

    pub(super) fn model(&self, keep: impl Fn(&Sample<'_>) -> bool) -> Model {
        let corpus = Corpus { domains: &self.domains, agents: &self.agents };
        let documents: Vec<(&Document, Option<usize>)> = self
            .labelled
            .iter()
            .filter(|labelled| keep(labelled))
            .map(|labelled| (&labelled.document, labelled.agent))
            .collect();
        Model::train(&corpus, &documents)
    }

    pub(super) fn dense(&self, keep: impl Fn(&Sample<'_>) -> bool) -> Dense {
        let corpus = Corpus { domains: &self.domains, agents: &self.agents };
        let kept = self.labelled.iter().filter(|labelled| keep(labelled));
        let embedded: Vec<Embedded<'_>> =
            kept.filter_map(|labelled| Some((labelled.values?, labelled.agent))).collect();
        Dense::train(&corpus, &embedded)
    }

    /// Decisions on texts that were held out. Without out-of-scope examples, each fold leaves
    /// out a tenth of the agents too, and their examples stand in.
    pub(super) fn held_out(&self, shares: Option<Shares>) -> HeldOut {
        let mut held_out = HeldOut::default();
        if self.per_agent < 1.0 {
            return held_out;
        }
        let folds = if self.per_agent >= 20.0 { 2 } else { 5 };
        let left_out =
            |agent: Option<usize>, fold: usize| self.outside == 0 && agent.is_some_and(|agent| agent % 10 == fold);
        // Of many examples, one fold is enough to fit two logistic models.
        let rounds = if self.labelled.len() > MANY { 1 } else { folds };
        for fold in 0..rounds {
            let in_turn = |labelled: &Sample<'_>| labelled.turn.is_some_and(|turn| turn % folds == fold);
            let is_kept = |labelled: &Sample<'_>| !in_turn(labelled) && !left_out(labelled.agent, fold);
            let model = self.model(is_kept);
            let hybrid = shares.map(|shares| Hybrid {
                embedder: String::new(),
                dense: self.dense(is_kept),
                shares,
                calibration: shares.calibration(),
            });
            for labelled in self.labelled.iter().filter(|labelled| in_turn(labelled)) {
                let agent = labelled.agent.filter(|_| !left_out(labelled.agent, fold));
                let expected = agent.map(|agent| (agent + 1 + self.domains.len()) as u32);
                let truth = |ranked: &[Scored]| match expected {
                    None => Truth::OutOfScope,
                    Some(class) if ranked.first().is_some_and(|best| best.0 == class) => Truth::Right,
                    Some(_) => Truth::Wrong,
                };
                let words = model.vocabulary.vector(&labelled.document);
                let (ranked, evidence) = model.rank(&words, 2, Visible::All);
                held_out.by_words.push((evidence, truth(&ranked)));
                if let (Some(hybrid), Some(values)) = (&hybrid, labelled.values) {
                    let (ranked, evidence) = hybrid.rank(&model, (&words, values), 2, Visible::All);
                    held_out.by_both.push((evidence, truth(&ranked)));
                }
            }
        }
        held_out
    }
}
