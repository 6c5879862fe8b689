//! The whole of it: training, ranking, learning, adding, removing.

use serde::{Deserialize, Serialize};

use super::calibrate::{Calibration, Evidence, Probabilities, Truth};
use super::model::{Corpus, Document, Model, Role, Visible};
use super::text;
use super::update::KEPT;

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

/// Agents by class, best first, with the evidence that their scores give.
#[derive(Debug, Clone)]
pub(in crate::routing) struct Ranking {
    pub(in crate::routing) agents: Vec<(u32, f32)>,
    evidence: Evidence,
}

/// Tells by n-grams which agents a text is for. The same training gives the same bits.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::routing) struct Classifier {
    model: Model,
    calibration: Calibration,
}

impl Classifier {
    /// Trains on agents, and on requests that are for none of them.
    pub(in crate::routing) fn train(agents: &[Labelled], out_of_scope: &[String]) -> Self {
        let prepared = Prepared::new(agents, out_of_scope);
        let calibration = Calibration::fit(&prepared.held_out());
        Self { model: prepared.model(|_| true), calibration }
    }

    /// Ranks the agents for a text: at most `limit`, and only the visible ones, by class.
    pub(in crate::routing) fn rank(&self, text: &str, limit: usize, visible: &[bool]) -> Ranking {
        let vector = self.model.vocabulary.vector(&text::grams(text));
        let (agents, evidence) = self.model.rank(&vector, limit, Visible::Only(visible));
        Ranking { agents, evidence }
    }

    /// The probabilities that the first one of a ranking is right, and that no agent is.
    pub(in crate::routing) fn probabilities(&self, ranking: &Ranking) -> Probabilities {
        let found = self.calibration.probabilities(&ranking.evidence);
        if ranking.agents.is_empty() { Probabilities { right: 0.0, ..found } } else { found }
    }

    /// Learns which agent should get the text: `None` for no agent. Touches the n-grams of the text only.
    pub(in crate::routing) fn learn(&mut self, text: &str, right: Option<u32>) {
        let document = text::grams(text);
        self.model.vocabulary.extend(&document);
        let vector = self.model.vocabulary.vector(&document);
        match right {
            Some(class) => self.model.correct(&vector, class),
            None => self.model.refuse(&vector),
        }
    }

    /// Adds an agent, and says its class. A text that shares no n-gram with its texts is ranked as before, to the bit.
    pub(in crate::routing) fn add(&mut self, agent: &Labelled) -> u32 {
        let texts: Vec<String> = agent.texts().collect();
        self.model.insert(&agent.name, &agent.domain, &texts)
    }

    /// Removes an agent.
    pub(in crate::routing) fn remove(&mut self, class: u32) {
        self.model.delete(class);
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
    fn texts(&self) -> impl Iterator<Item = String> {
        let name = text::split_name(&self.name);
        let described = std::iter::once(name).chain(self.described.iter().cloned());
        described.chain(self.examples.iter().cloned()).filter(|text| !text.trim().is_empty())
    }
}

/// From how many texts on only one fold is held out.
const MANY: usize = 20_000;

/// A text to train on.
struct Sample {
    document: Document,
    agent: Option<usize>,
    /// Number of the fold that holds it out; none for names and descriptions.
    turn: Option<usize>,
}

/// Training texts as n-grams, with the numbers of agents and domains.
struct Prepared {
    domains: Vec<String>,
    agents: Vec<(String, usize, Vec<String>)>,
    labelled: Vec<Sample>,
    per_agent: f64,
    outside: usize,
}

impl Prepared {
    fn new(agents: &[Labelled], out_of_scope: &[String]) -> Self {
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
                prepared.labelled.push(Sample { document: text::grams(text), agent: Some(number), turn });
            }
            prepared.per_agent += examples as f64 / agents.len() as f64;
            prepared.agents.push((agent.name.clone(), domain, texts.into_iter().take(KEPT).collect()));
        }
        for (at, text) in out_of_scope.iter().enumerate() {
            prepared.labelled.push(Sample { document: text::grams(text), agent: None, turn: Some(at) });
        }
        prepared
    }

    fn model(&self, keep: impl Fn(&Sample) -> bool) -> Model {
        let corpus = Corpus { domains: &self.domains, agents: &self.agents };
        let documents: Vec<(&Document, Option<usize>)> = self
            .labelled
            .iter()
            .filter(|labelled| keep(labelled))
            .map(|labelled| (&labelled.document, labelled.agent))
            .collect();
        Model::train(&corpus, &documents)
    }

    /// Decisions on texts that were held out. Without out-of-scope examples, each fold leaves
    /// out a tenth of the agents too, and their examples stand in.
    fn held_out(&self) -> Vec<(Evidence, Truth)> {
        if self.per_agent < 1.0 {
            return Vec::new();
        }
        let folds = if self.per_agent >= 20.0 { 2 } else { 5 };
        let left_out =
            |agent: Option<usize>, fold: usize| self.outside == 0 && agent.is_some_and(|agent| agent % 10 == fold);
        // Of many examples, one fold is enough to fit two logistic models.
        let rounds = if self.labelled.len() > MANY { 1 } else { folds };
        let mut rows = Vec::new();
        for fold in 0..rounds {
            let in_turn = |labelled: &Sample| labelled.turn.is_some_and(|turn| turn % folds == fold);
            let model = self.model(|labelled| !in_turn(labelled) && !left_out(labelled.agent, fold));
            for labelled in self.labelled.iter().filter(|labelled| in_turn(labelled)) {
                let (ranked, evidence) = model.rank(&model.vocabulary.vector(&labelled.document), 2, Visible::All);
                let agent = labelled.agent.filter(|_| !left_out(labelled.agent, fold));
                let expected = agent.map(|agent| (agent + 1 + self.domains.len()) as u32);
                let truth = match expected {
                    None => Truth::OutOfScope,
                    Some(class) if ranked.first().is_some_and(|best| best.0 == class) => Truth::Right,
                    Some(_) => Truth::Wrong,
                };
                rows.push((evidence, truth));
            }
        }
        rows
    }
}
