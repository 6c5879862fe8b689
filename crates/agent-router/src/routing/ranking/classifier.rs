//! The whole of it: training, ranking, learning, adding, removing.

use serde::{Deserialize, Serialize};

use super::calibrate::{Calibration, Evidence, Probabilities};
use super::hybrid::{Hybrid, Shares};
use super::model::{DOMAIN, Model, Role, Visible};
use super::prepared::Prepared;
use super::text;
use super::vectors::Vectors;

/// An agent as a classifier sees it.
#[derive(Debug, Clone)]
pub(in crate::routing) struct Labelled {
    /// Its id.
    pub(in crate::routing) name: String,
    /// Its domain: agents are told apart within it.
    pub(in crate::routing) domain: String,
    /// Texts about it.
    pub(in crate::routing) described: Vec<String>,
    /// Requests that it should get.
    pub(in crate::routing) examples: Vec<String>,
}

/// An agent of a ranking.
#[derive(Debug, Clone, Copy)]
pub(in crate::routing) struct RankedAgent {
    pub(in crate::routing) class: u32,
    pub(in crate::routing) score: f32,
    /// What the vectors have added to the score.
    pub(in crate::routing) by_vectors: Option<f32>,
}

/// Agents, best first, with the evidence that their scores give.
#[derive(Debug, Clone)]
pub(in crate::routing) struct Ranking {
    pub(in crate::routing) agents: Vec<RankedAgent>,
    evidence: Evidence,
    /// By words and vectors: how much it is like what was refused.
    refused: Option<f32>,
}

/// Tells by n-grams, and by vectors where there are some, which agents a text is for. The same training gives the same bits.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::routing) struct Classifier {
    model: Model,
    calibration: Calibration,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hybrid: Option<Hybrid>,
}

impl Classifier {
    /// Trains on agents, and on requests that are for none of them.
    pub(in crate::routing) fn train(agents: &[Labelled], out_of_scope: &[String], vectors: Option<&Vectors>) -> Self {
        let prepared = Prepared::new(agents, out_of_scope, vectors);
        let shares = vectors.map(|_| Shares::of(prepared.per_agent as f32));
        let held_out = prepared.held_out(shares);
        let calibration = Calibration::fit(&held_out.by_words).unwrap_or_else(Calibration::of_words);
        let hybrid = vectors.zip(shares).map(|(vectors, shares)| Hybrid {
            embedder: vectors.embedder.clone(),
            dense: prepared.dense(|_| true),
            shares,
            calibration: Calibration::fit(&held_out.by_both).unwrap_or_else(|| shares.calibration()),
        });
        Self { model: prepared.model(|_| true), calibration, hybrid }
    }

    /// Ranks the agents for a text: at most `limit`, and only the visible ones, by class. By words, and by the text's vector where it
    /// has one.
    pub(in crate::routing) fn rank(
        &self,
        text: &str,
        values: Option<&[f32]>,
        limit: usize,
        visible: &[bool],
    ) -> Ranking {
        let words = self.model.vocabulary.vector(&text::grams(text));
        let visible = Visible::Only(visible);
        let values = values.filter(|values| self.dimensions() == Some(values.len()));
        if let (Some(hybrid), Some(values)) = (&self.hybrid, values) {
            let (agents, evidence) = hybrid.rank(&self.model, (&words, values), limit, visible);
            let agents = agents.into_iter().map(|(class, score)| {
                let domain = self.domain(class).map_or(0.0, |domain| hybrid.share_of_vectors(values, domain));
                let by_vectors = hybrid.share_of_vectors(values, class) + DOMAIN * domain;
                RankedAgent { class, score, by_vectors: Some(by_vectors) }
            });
            let agents: Vec<RankedAgent> = agents.collect();
            let refused = hybrid.refused(values, agents.first().map(|best| best.class));
            return Ranking { agents, evidence, refused: Some(refused) };
        }
        let (agents, evidence) = self.model.rank(&words, limit, visible);
        let agents = agents.into_iter().map(|(class, score)| RankedAgent { class, score, by_vectors: None });
        Ranking { agents: agents.collect(), evidence, refused: None }
    }

    /// The probabilities that the first one of a ranking is right, and that no agent is.
    pub(in crate::routing) fn probabilities(&self, ranking: &Ranking) -> Probabilities {
        let hybrid = self.hybrid.as_ref().filter(|_| ranking.refused.is_some());
        let calibration = hybrid.map_or(&self.calibration, |hybrid| &hybrid.calibration);
        let Probabilities { right, out_of_scope } = calibration.probabilities(&ranking.evidence);
        let left = 1.0 - f64::from(ranking.refused.unwrap_or(0.0));
        let right = if ranking.agents.is_empty() { 0.0 } else { right * left };
        Probabilities { right, out_of_scope: 1.0 - (1.0 - out_of_scope) * left }
    }

    /// Learns which agent should get the text: `None` for no agent. Touches the n-grams of the text only, and what lies near its vector,
    /// where it has one.
    pub(in crate::routing) fn learn(&mut self, text: &str, values: Option<&[f32]>, right: Option<u32>) {
        let document = text::grams(text);
        self.model.vocabulary.extend(&document);
        let vector = self.model.vocabulary.vector(&document);
        match right {
            Some(class) => self.model.correct(&vector, class),
            None => self.model.refuse(&vector),
        }
        if let (Some(hybrid), Some(values)) = (&mut self.hybrid, values) {
            hybrid.learn(&self.model, (&vector, values), right);
        }
    }

    /// Adds an agent, and says its class. A text that shares no n-gram with its texts is ranked by words as before, to the bit.
    pub(in crate::routing) fn add(&mut self, agent: &Labelled, vectors: &Vectors) -> u32 {
        let texts: Vec<String> = agent.texts().collect();
        let class = self.model.insert(&agent.name, &agent.domain, &texts);
        if let (Some(Hybrid { dense, .. }), Some(domain)) = (&mut self.hybrid, self.model.domain(class)) {
            let own: Vec<&[f32]> = texts.iter().filter_map(|text| vectors.get(text)).collect();
            let neighbours = self.model.members(domain).filter(|member| *member != class).collect::<Vec<_>>();
            let domains = self.model.domains().filter(|other| *other != domain).collect::<Vec<_>>();
            dense.insert(&own, (class, &neighbours), (domain, &domains));
        }
        class
    }

    /// Removes an agent.
    pub(in crate::routing) fn remove(&mut self, class: u32) {
        self.model.delete(class);
        if let Some(Hybrid { dense, .. }) = &mut self.hybrid {
            dense.remove(class);
        }
    }

    /// The embedding model whose vectors it was trained on.
    pub(in crate::routing) fn embedder(&self) -> Option<&str> {
        self.hybrid.as_ref().map(|hybrid| &*hybrid.embedder)
    }

    /// How many values its vectors have, if it has any.
    pub(in crate::routing) fn dimensions(&self) -> Option<usize> {
        self.hybrid.as_ref()?.dense.dimensions()
    }

    /// The same by words alone.
    pub(in crate::routing) fn without_vectors(self) -> Self {
        Self { hybrid: None, ..self }
    }

    /// The agents with their classes.
    pub(in crate::routing) fn agents(&self) -> impl Iterator<Item = (u32, &str)> {
        let classes = self.model.roles.iter().zip(&self.model.classes).zip(0..);
        classes.filter_map(|((role, class), number)| matches!(role, Role::Agent(_)).then_some((number, &*class.name)))
    }

    /// The class of an agent's domain.
    pub(in crate::routing) fn domain(&self, class: u32) -> Option<u32> {
        self.model.domain(class)
    }

    /// How many classes there are.
    pub(in crate::routing) fn classes(&self) -> usize {
        self.model.roles.len()
    }
}

impl Labelled {
    /// Its texts in a fixed order: what describes it, then the examples.
    pub(in crate::routing) fn texts(&self) -> impl Iterator<Item = String> {
        let name = text::split_name(&self.name);
        let described = std::iter::once(name).chain(self.described.iter().cloned());
        described.chain(self.examples.iter().cloned()).filter(|text| !text.trim().is_empty())
    }
}
