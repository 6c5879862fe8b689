//! The trained rows of domains and agents, and the ranking of a request.

use serde::{Deserialize, Serialize};

use super::calibrate::Evidence;
use super::index::{Index, Scoring};
use super::linear::{self, Penalties};
use super::text::Gram;
use super::vocabulary::{Vector, Vocabulary};

/// Weight of the domain's score in the score of its agents.
pub(super) const DOMAIN: f32 = 1.3;

/// Domains whose agents are ranked.
const BEAM: usize = 3;

/// Score of a missing rival: what a class that a request is no example of gets.
pub(super) const NOBODY: f32 = -1.0 - DOMAIN;

/// The class of requests that no agent should get.
pub(super) const OUT_OF_SCOPE: u32 = 0;

/// What errors weigh in training, and how long it takes: more passes change no figure by more than 0.1 points.
pub(super) const PENALTIES: Penalties = Penalties { positive: 6.0, negative: 1.0, passes: 6 };

/// Weights nearer to zero than this are dropped: of those that speak for a class, and of those that speak against it, which are many.
const LEAST_FOR: f32 = 0.03;
const LEAST_AGAINST: f32 = 0.06;

/// The counted n-grams of a text.
pub(super) type Document = Vec<(Gram, u32)>;

/// What a row of the index stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Role {
    /// No agent.
    OutOfScope,
    /// All agents of a domain.
    Domain,
    /// An agent, with the class of its domain.
    Agent(u32),
    /// Removed.
    Vacant,
}

/// What is known of a class besides its row.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Class {
    /// Name, unique among agents and among domains.
    pub(super) name: String,
    /// Some texts of an agent, kept as counterexamples for agents added later.
    pub(super) texts: Vec<String>,
}

/// Agents and documents to train on, by number.
pub(super) struct Corpus<'a> {
    /// Domain names.
    pub(super) domains: &'a [String],
    /// The agents: name, number of the domain, texts to keep.
    pub(super) agents: &'a [(String, usize, Vec<String>)],
}

/// The classes that come into question: what a caller may not use is not scored.
#[derive(Clone, Copy)]
pub(super) enum Visible<'a> {
    /// All.
    All,
    /// Those at whose number there is `true`.
    Only(&'a [bool]),
}

impl Visible<'_> {
    fn has(self, class: u32) -> bool {
        match self {
            Self::All => true,
            Self::Only(visible) => visible.get(class as usize).copied().unwrap_or(false),
        }
    }
}

/// The number of a class and its score.
pub(super) type Scored = (u32, f32);

/// Agents by score.
pub(super) struct Ranked {
    /// Best first.
    pub(super) agents: Vec<Scored>,
    /// The score of the first one's domain.
    pub(super) domain: f32,
    /// The lead of the best domain over the next.
    pub(super) domain_lead: f32,
}

/// Vocabulary, rows and the names of the rows.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Model {
    /// Known n-grams.
    pub(super) vocabulary: Vocabulary,
    /// Weights by n-gram.
    pub(super) index: Index,
    /// Roles of the classes, by number.
    pub(super) roles: Vec<Role>,
    /// The classes, by number.
    pub(super) classes: Vec<Class>,
}

impl Model {
    /// Trains on documents labelled with an agent's number, or `None` for out of scope.
    pub(super) fn train(corpus: &Corpus<'_>, documents: &[(&Document, Option<usize>)]) -> Self {
        let vocabulary =
            Vocabulary::count(documents.iter().map(|(document, _)| document.as_slice()), corpus.agents.len());
        let vectors: Vec<Vector> = documents.iter().map(|(document, _)| vocabulary.vector(document)).collect();
        let mut model = Self { vocabulary, index: Index::default(), roles: Vec::new(), classes: Vec::new() };
        model.declare(corpus);
        model.train_domains(corpus, documents, &vectors);
        for domain in 0..corpus.domains.len() {
            model.train_agents(corpus, documents, &vectors, domain);
        }
        model.index.pack();
        model
    }

    fn train_domains(&mut self, corpus: &Corpus<'_>, documents: &[(&Document, Option<usize>)], vectors: &[Vector]) {
        let domains = corpus.domains.len();
        let outside = documents.iter().any(|(_, agent)| agent.is_none());
        let label = |agent: Option<usize>| agent.and_then(|a| corpus.agents.get(a)).map_or(domains, |agent| agent.1);
        let examples: Vec<linear::Example<'_>> =
            vectors.iter().zip(documents).map(|(v, (_, agent))| (v, Some(label(*agent)))).collect();
        let Self { index, .. } = self;
        linear::train(&examples, domains + usize::from(outside), PENALTIES, |gram, row, weight| {
            let class = if row == domains { OUT_OF_SCOPE } else { row as u32 + 1 };
            if matters(weight) {
                index.add(gram, class, weight);
            }
        });
    }

    fn train_agents(
        &mut self,
        corpus: &Corpus<'_>,
        documents: &[(&Document, Option<usize>)],
        vectors: &[Vector],
        domain: usize,
    ) {
        let mut members = Vec::new();
        let mut rows = vec![None; corpus.agents.len()];
        for (number, _) in corpus.agents.iter().enumerate().filter(|(_, agent)| agent.1 == domain) {
            rows[number] = Some(members.len());
            members.push((number + 1 + corpus.domains.len()) as u32);
        }
        let own = |agent: Option<usize>| agent.and_then(|a| rows.get(a).copied().flatten());
        let examples: Vec<linear::Example<'_>> =
            vectors.iter().zip(documents).filter_map(|(v, (_, agent))| own(*agent).map(|row| (v, Some(row)))).collect();
        let Self { index, .. } = self;
        linear::train(&examples, members.len(), PENALTIES, |gram, row, weight| {
            if matters(weight) {
                index.add(gram, members[row], weight);
            }
        });
    }

    /// Starts scoring a text.
    pub(super) fn score(&self, vector: &Vector) -> Scoring<'_> {
        self.index.score(&vector.terms, self.roles.len())
    }

    /// The best `limit` agents by words, and what the scores say about the first. An agent or domain that shares no n-gram with the
    /// request is none.
    pub(super) fn rank(&self, vector: &Vector, limit: usize, visible: Visible<'_>) -> (Vec<Scored>, Evidence) {
        let mut scoring = self.score(vector);
        let Ranked { agents, domain, domain_lead } =
            self.rank_by(limit, visible, |class| Some(scoring.of(class)).filter(|score| *score != 0.0));
        let best = agents.first().map_or(NOBODY, |scored| scored.1);
        let next = agents.get(1).map_or(NOBODY, |scored| scored.1);
        let (length, terms) = (vector.square().sqrt(), vector.terms.len() as f32);
        let evidence =
            [best, best - next, scoring.of(OUT_OF_SCOPE), vector.known, length, domain, domain_lead, terms.ln_1p()];
        (agents, evidence)
    }

    /// The best `limit` agents by own score plus domain's, best first, ties by class. Only agents of the [`BEAM`] best domains are
    /// ranked: the greedy path is always among them. What has no score is not ranked.
    pub(super) fn rank_by(
        &self,
        limit: usize,
        visible: Visible<'_>,
        mut score: impl FnMut(u32) -> Option<f32>,
    ) -> Ranked {
        let beam = self.beam(visible, &mut score);
        let mut agents = self.candidates(&beam, visible, &mut score);
        let limit = limit.max(2);
        if agents.len() > limit {
            agents.select_nth_unstable_by(limit - 1, best_first);
            agents.truncate(limit);
        }
        agents.sort_unstable_by(best_first);
        let domain_of = |class: u32| beam.iter().find(|scored| Some(scored.0) == self.domain(class));
        let domain = agents.first().and_then(|best| domain_of(best.0)).map_or(-1.0, |domain| domain.1);
        let domain_lead = beam.first().map_or(-1.0, |scored| scored.1) - beam.get(1).map_or(-1.0, |scored| scored.1);
        Ranked { agents, domain, domain_lead }
    }

    fn beam(&self, visible: Visible<'_>, score: &mut impl FnMut(u32) -> Option<f32>) -> Vec<Scored> {
        let mut beam: Vec<Scored> = Vec::with_capacity(BEAM + 1);
        let domains = self.roles.iter().zip(0..).filter(|(role, _)| **role == Role::Domain);
        for (_, domain) in domains.filter(|(_, domain)| visible.has(*domain)) {
            if let Some(score) = score(domain) {
                let place = beam.partition_point(|other| other.1 >= score);
                beam.insert(place, (domain, score));
                beam.truncate(BEAM);
            }
        }
        beam
    }

    fn candidates(
        &self,
        beam: &[Scored],
        visible: Visible<'_>,
        score: &mut impl FnMut(u32) -> Option<f32>,
    ) -> Vec<Scored> {
        let mut candidates = Vec::with_capacity(64);
        for (role, agent) in self.roles.iter().zip(0..) {
            let Role::Agent(domain) = role else { continue };
            if !visible.has(agent) {
                continue;
            }
            let Some((_, domain)) = beam.iter().find(|scored| scored.0 == *domain) else { continue };
            if let Some(own) = score(agent) {
                candidates.push((agent, own + DOMAIN * domain));
            }
        }
        candidates
    }

    /// The class of the domain of an agent's class.
    pub(super) fn domain(&self, class: u32) -> Option<u32> {
        match self.roles.get(class as usize) {
            Some(Role::Agent(domain)) => Some(*domain),
            _ => None,
        }
    }

    /// The classes of the agents of a domain.
    pub(super) fn members(&self, domain: u32) -> impl Iterator<Item = u32> {
        self.roles.iter().zip(0..).filter(move |(role, _)| **role == Role::Agent(domain)).map(|(_, class)| class)
    }

    /// The classes of domains.
    pub(super) fn domains(&self) -> impl Iterator<Item = u32> {
        self.roles.iter().zip(0..).filter(|(role, _)| **role == Role::Domain).map(|(_, class)| class)
    }

    /// The class of the agent or domain called `name`.
    pub(super) fn find(&self, name: &str, is: impl Fn(Role) -> bool) -> Option<u32> {
        let mut known = self.roles.iter().zip(&self.classes).zip(0..);
        known.find(|((role, class), _)| is(**role) && class.name == name).map(|(_, number)| number)
    }

    /// Appends a class with an empty row.
    pub(super) fn push(&mut self, role: Role, class: Class) -> u32 {
        self.roles.push(role);
        self.classes.push(class);
        self.roles.len() as u32 - 1
    }

    fn declare(&mut self, corpus: &Corpus<'_>) {
        self.push(Role::OutOfScope, Class::default());
        for name in corpus.domains {
            self.push(Role::Domain, Class { name: name.clone(), texts: Vec::new() });
        }
        for (name, domain, texts) in corpus.agents {
            self.push(Role::Agent(*domain as u32 + 1), Class { name: name.clone(), texts: texts.clone() });
        }
    }
}

/// Whether a weight of a row is kept.
pub(super) fn matters(weight: f32) -> bool {
    !(-LEAST_AGAINST..=LEAST_FOR).contains(&weight)
}

fn best_first(a: &Scored, b: &Scored) -> std::cmp::Ordering {
    b.1.total_cmp(&a.1).then(a.0.cmp(&b.0))
}
