//! What a router knows, and what follows from it.

use std::collections::{BTreeMap, HashMap};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use agent_core::{
    Caller, InvalidValue, RouteCandidate, RouteDecision, RouteOutcome, RouteRequest, RouteStage, RouteThresholds,
    Routed, StageTrace,
};
use rustc_hash::{FxHashMap, FxHashSet, FxHasher};

use super::card::{LifeCycle, RouteCard};
use super::doubts::doubts;
use super::parts::{is_long, parts};
use super::ranking::{Classifier, Ranking};
use super::snapshot::extended;
use super::stage::Embedded;
use super::thresholds::Judged;
use crate::fallback::Phrase;
use crate::rule_model::{only_reading, points_back};

/// How many agents a decision names.
const CANDIDATES: usize = 10;

/// How many agents an ambiguous request may be for.
const MOST_MEANT: usize = 3;

/// How sure each part of a request has to be, so that it is taken apart.
const SURE_PART: f64 = 0.8;

/// From which probability on a request is for nobody, though an agent is in charge.
const CHANGED: f64 = 0.8;

/// Requests of more parts are texts.
const MOST_PARTS: usize = 5;

/// What a router knows.
pub(super) struct Known {
    pub(super) digest: Arc<str>,
    pub(super) classifier: Classifier,
    /// By class.
    pub(super) cards: Vec<Option<Entry>>,
    pub(super) classes: FxHashMap<Arc<str>, u32>,
    /// By domain; the one of no domain is everybody's.
    pub(super) thresholds: BTreeMap<String, RouteThresholds>,
}

/// A card with its triggers compiled.
#[derive(Clone)]
pub(super) struct Entry {
    pub(super) card: Arc<RouteCard>,
    domain: Arc<str>,
    triggers: Arc<[Phrase]>,
    /// Its examples, as hashes of their letters.
    examples: Arc<FxHashSet<u64>>,
    /// A hash of all that it is told apart by.
    content: u64,
}

impl Entry {
    pub(super) fn new(card: RouteCard) -> Result<Self, InvalidValue> {
        let triggers = Phrase::compile(&card.triggers, &format!("{}: triggers", card.name))?;
        let examples = card.examples.iter().map(|example| letters(example)).collect::<FxHashSet<u64>>();
        let mut hasher = FxHasher::default();
        (&card.description, &card.examples, &card.tools).hash(&mut hasher);
        let content = hasher.finish();
        let domain = card.domain.join("/").into();
        Ok(Self { card: Arc::new(card), domain, triggers: triggers.into(), examples: examples.into(), content })
    }

    /// Whether nothing but the name tells them apart.
    fn is_twin_of(&self, other: &Self) -> bool {
        let (card, other_card) = (&self.card, &other.card);
        self.content == other.content
            && (&card.description, &card.examples, &card.tools)
                == (&other_card.description, &other_card.examples, &other_card.tools)
    }
}

/// A hash of a text's letters, in either case.
fn letters(text: &str) -> u64 {
    let mut hasher = FxHasher::default();
    text.chars().filter(|letter| letter.is_alphanumeric()).flat_map(char::to_lowercase).for_each(|letter| {
        hasher.write_u32(u32::from(letter));
    });
    hasher.finish()
}

impl Known {
    /// Puts the cards to their classes.
    pub(super) fn place(&mut self, cards: Vec<RouteCard>) -> Result<(), InvalidValue> {
        let classes: HashMap<String, u32> =
            self.classifier.agents().map(|(class, name)| (name.to_owned(), class)).collect();
        if classes.len() != cards.len() {
            return Err(InvalidValue::new("cards", cards.len(), "as many as there are classes"));
        }
        for card in cards {
            let class = *classes.get(&*card.name).ok_or_else(|| unknown(&card.name))?;
            self.classes.insert(card.name.clone(), class);
            self.put(class, Entry::new(card)?);
        }
        Ok(())
    }

    pub(super) fn put(&mut self, class: u32, known: Entry) {
        let place = class as usize;
        if self.cards.len() <= place {
            self.cards.resize(place + 1, None);
        }
        if let Some(of_class) = self.cards.get_mut(place) {
            *of_class = Some(known);
        }
    }

    pub(super) fn clear(&mut self, class: u32) {
        if let Some(of_class) = self.cards.get_mut(class as usize) {
            *of_class = None;
        }
    }

    pub(super) fn card(&self, class: u32) -> Option<&Entry> {
        self.cards.get(class as usize)?.as_ref()
    }

    pub(super) fn class(&self, name: &str) -> Result<u32, InvalidValue> {
        self.classes.get(name).copied().ok_or_else(|| unknown(name))
    }

    pub(super) fn decide(&self, message: &str, embedded: &Embedded, caller: &Caller) -> RouteDecision {
        self.decide_among(message, embedded, &|card| card.is_for(caller))
    }

    /// The texts whose vectors a decision needs: the message, and its parts. None if rules decide, or if there is nobody to choose.
    pub(super) fn texts<'a>(&self, message: &'a str, may_get: &dyn Fn(&RouteCard) -> bool) -> Vec<&'a str> {
        let (visible, count) = self.visible(may_get);
        if count == 0 || message.trim().is_empty() || !self.triggered(message, &visible).is_empty() {
            return Vec::new();
        }
        let parts = parts(message);
        let several = if (2..=MOST_PARTS).contains(&parts.len()) { parts } else { Vec::new() };
        std::iter::once(message).chain(several).collect()
    }

    /// Decides for a run: among its agents, with the one in charge staying so until a request is for another one.
    pub(super) fn route(
        &self,
        message: &str,
        embedded: &Embedded,
        request: &RouteRequest<'_>,
        caller: &Caller,
    ) -> RouteDecision {
        let mut decision = self.decide_among(message, embedded, &among(request, caller));
        if let Some(in_charge) = request.in_charge {
            self.stay(&mut decision, in_charge, message);
        }
        decision.doubts = doubts(&decision, message, request.agents);
        if let RouteOutcome::Route { agents } = &mut decision.outcome {
            for routed in agents {
                let spec = request.agents.iter().find(|spec| spec.name == routed.agent);
                routed.input = spec.and_then(|spec| only_reading(spec, routed.part.as_deref().unwrap_or(message)));
            }
        }
        decision
    }

    /// Leaves a request to the agent in charge that is for no other one: "and the second one?".
    fn stay(&self, decision: &mut RouteDecision, in_charge: &str, message: &str) {
        let is_for_another = match &decision.outcome {
            RouteOutcome::Route { .. } => true,
            // Whoever changes the subject says more than a word or two, and does not speak of "it".
            _ => decision.out_of_scope >= CHANGED && is_long(message) && !points_back(message),
        };
        let Some(place) = decision.candidates.iter().position(|candidate| *candidate.agent == *in_charge) else {
            return;
        };
        if is_for_another {
            return;
        }
        let candidate = decision.candidates.remove(place);
        decision.outcome =
            RouteOutcome::Route { agents: vec![Routed::new(candidate.agent.clone(), candidate.probability)] };
        decision.candidates.insert(0, candidate);
        decision.stages.push(StageTrace::new(RouteStage::Rules, format!("stays with {in_charge}")));
    }

    fn decide_among(&self, message: &str, embedded: &Embedded, may_get: &dyn Fn(&RouteCard) -> bool) -> RouteDecision {
        let (visible, count) = self.visible(may_get);
        let triggered = self.triggered(message, &visible);
        let ranking = self.classifier.rank(message, embedded.vectors.get(message), CANDIDATES, &visible);
        let probabilities = self.classifier.probabilities(&ranking);
        let mut candidates = self.candidates(&ranking, probabilities.right, probabilities.out_of_scope);
        let known = ranking.agents.len();
        let mut stages = vec![
            StageTrace::new(RouteStage::Rules, format!("{} triggered", triggered.len())),
            StageTrace::new(RouteStage::Lexical, format!("{known} ranked")),
        ];
        stages.extend(embedded.trace.clone());
        let best = candidates.first().map_or("", |best| &*best.domain);
        let thresholds = self.thresholds_of(best);
        let outcome = if triggered.is_empty() {
            let several = self.several(message, embedded, &visible);
            if let Some(several) = &several {
                let result = format!("{} parts, each for another agent", several.len());
                stages.push(StageTrace::new(RouteStage::Lexical, result));
            }
            match several {
                Some(agents) => RouteOutcome::Route { agents },
                None => self.outcome(&candidates, probabilities.out_of_scope, thresholds, message),
            }
        } else {
            self.put_first(&triggered, &mut candidates);
            match &triggered[..] {
                [one] => RouteOutcome::Route { agents: self.routed(&[*one], 1.0) },
                several => self.ambiguous(self.routed(several, 1.0 / several.len() as f64), message),
            }
        };
        let out_of_scope = if triggered.is_empty() { probabilities.out_of_scope } else { 0.0 };
        let mut decision = RouteDecision::new(outcome, self.digest.clone());
        decision.candidates = candidates;
        decision.out_of_scope = out_of_scope;
        decision.stages = stages;
        decision.thresholds = thresholds;
        decision.visible = count;
        decision
    }

    /// Decides, with nothing hidden, about a request whose agent is known; by class, `None` for nobody.
    pub(super) fn judge(&self, message: &str, embedded: &Embedded, agent: Option<u32>) -> Judged {
        let (visible, _) = self.visible(&|card| card.state == LifeCycle::Active);
        let ranking = self.classifier.rank(message, embedded.vectors.get(message), 2, &visible);
        let probabilities = self.classifier.probabilities(&ranking);
        let best = ranking.agents.first().map(|best| best.class);
        Judged {
            domain: best.and_then(|best| self.card(best)).map_or_else(String::new, |best| (*best.domain).to_owned()),
            right: (probabilities.right, best.is_some() && best == agent),
            out_of_scope: (probabilities.out_of_scope, agent.is_none()),
        }
    }

    /// Takes thresholds that were learnt, or set, in the place of those of their domains.
    pub(super) fn adopt(&mut self, thresholds: BTreeMap<String, RouteThresholds>) {
        self.digest = extended(&self.digest, &("thresholds", &thresholds));
        self.thresholds.extend(thresholds);
    }

    /// The agents that may get a request, by class with their domains, and how many they are.
    fn visible(&self, may_get: &dyn Fn(&RouteCard) -> bool) -> (Vec<bool>, usize) {
        let mut visible = vec![false; self.classifier.classes().max(1)];
        // What is out of scope is no agent's.
        if let Some(nobody) = visible.first_mut() {
            *nobody = true;
        }
        let mut count = 0;
        for (class, known) in (0..).zip(&self.cards) {
            if !known.as_ref().is_some_and(|known| may_get(&known.card)) {
                continue;
            }
            count += 1;
            for seen in [Some(class), self.classifier.domain(class)].into_iter().flatten() {
                if let Some(seen) = visible.get_mut(seen as usize) {
                    *seen = true;
                }
            }
        }
        (visible, count)
    }

    /// The classes of the agents whose triggers the message has.
    fn triggered(&self, message: &str, visible: &[bool]) -> Vec<u32> {
        let seen = (0..).zip(&self.cards).zip(visible.iter().copied());
        let of_cards = seen.filter_map(|((class, known), seen)| Some((class, known.as_ref().filter(|_| seen)?)));
        let triggered = of_cards.filter(|(_, known)| known.triggers.iter().any(|phrase| phrase.is_in(message)));
        triggered.map(|(class, _)| class).collect()
    }

    /// The agents of a ranking with their probabilities: what the best one leaves is the others', by their scores.
    fn candidates(&self, ranking: &Ranking, right: f64, out_of_scope: f64) -> Vec<RouteCandidate> {
        let best = ranking.agents.first().map_or(0.0, |best| best.score);
        let weigh = |score: f32| f64::from(2.0 * (score - best)).exp();
        let others: f64 = ranking.agents.iter().skip(1).map(|other| weigh(other.score)).sum();
        let left = (1.0 - right - out_of_scope).max(0.0);
        let agents = ranking.agents.iter().enumerate();
        let candidates = agents.filter_map(|(rank, ranked)| {
            let known = self.card(ranked.class)?;
            let probability = if rank == 0 { right } else { (left * weigh(ranked.score) / others).min(right) };
            let mut candidate = RouteCandidate::new(known.card.name.clone(), known.domain.clone(), probability);
            candidate.scores.insert(RouteStage::Lexical, ranked.score - ranked.by_vectors.unwrap_or(0.0));
            candidate.scores.extend(ranked.by_vectors.map(|score| (RouteStage::Embedding, score)));
            Some(candidate)
        });
        candidates.collect()
    }

    /// Puts the agents that rules chose before the others.
    fn put_first(&self, triggered: &[u32], candidates: &mut Vec<RouteCandidate>) {
        for candidate in candidates.iter_mut() {
            candidate.probability = 0.0;
        }
        for class in triggered.iter().rev() {
            let Some(known) = self.card(*class) else { continue };
            let place = candidates.iter().position(|candidate| candidate.agent == known.card.name);
            let mut candidate = place
                .map(|place| candidates.remove(place))
                .unwrap_or_else(|| RouteCandidate::new(known.card.name.clone(), known.domain.clone(), 0.0));
            candidate.probability = 1.0 / triggered.len() as f64;
            candidate.scores.insert(RouteStage::Rules, 1.0);
            candidates.insert(0, candidate);
        }
    }

    fn routed(&self, classes: &[u32], probability: f64) -> Vec<Routed> {
        let cards = classes.iter().filter_map(|class| self.card(*class));
        cards.map(|known| Routed::new(known.card.name.clone(), probability)).collect()
    }

    fn outcome(
        &self,
        candidates: &[RouteCandidate],
        out_of_scope: f64,
        thresholds: RouteThresholds,
        message: &str,
    ) -> RouteOutcome {
        let Some(best) = candidates.first() else { return RouteOutcome::OutOfScope };
        let routed = |candidate: &RouteCandidate| Routed::new(candidate.agent.clone(), candidate.probability);
        let equals = self.equals(candidates, message);
        if equals.len() > 1 {
            return self.ambiguous(equals.into_iter().map(routed).collect(), message);
        }
        if best.probability >= thresholds.route {
            return RouteOutcome::Route { agents: vec![routed(best)] };
        }
        if out_of_scope >= thresholds.out_of_scope {
            return RouteOutcome::OutOfScope;
        }
        self.ambiguous(candidates.iter().map(routed).collect(), message)
    }

    /// The candidates that cannot be told apart by what they were made of: the best one's twins, or those with this very example.
    fn equals<'a>(&self, candidates: &'a [RouteCandidate], message: &str) -> Vec<&'a RouteCandidate> {
        let entry = |candidate: &RouteCandidate| self.card(*self.classes.get(&candidate.agent)?);
        let hash = letters(message);
        let has_it = |candidate: &&RouteCandidate| entry(candidate).is_some_and(|entry| entry.examples.contains(&hash));
        let with_example: Vec<_> = candidates.iter().filter(has_it).collect();
        if with_example.len() > 1 {
            return with_example;
        }
        let Some(best) = candidates.first().and_then(entry) else { return Vec::new() };
        candidates.iter().filter(|other| entry(other).is_some_and(|other| other.is_twin_of(best))).collect()
    }

    fn ambiguous(&self, mut agents: Vec<Routed>, message: &str) -> RouteOutcome {
        agents.truncate(MOST_MEANT);
        let described = agents.iter().filter_map(|routed| self.card(*self.classes.get(&routed.agent)?));
        let described = described.map(|known| match known.card.description.trim() {
            "" => &*known.card.name,
            description => description.trim_end_matches(['.', '。']),
        });
        let described = described.collect::<Vec<_>>();
        let is_chinese = message.chars().any(|letter| matches!(letter, '\u{3400}'..='\u{9fff}'));
        let question = if is_chinese {
            format!("您指的是哪一项：{}？", described.join("；"))
        } else {
            format!("Which of these do you mean: {}?", described.join("; or: "))
        };
        RouteOutcome::Ambiguous { agents, question }
    }

    /// The agents of the parts of a message, if each part is surely for one, and not all for the same.
    fn several(&self, message: &str, embedded: &Embedded, visible: &[bool]) -> Option<Vec<Routed>> {
        let parts = parts(message);
        if !(2..=MOST_PARTS).contains(&parts.len()) {
            return None;
        }
        let mut agents: Vec<Routed> = Vec::new();
        for part in parts {
            let ranking = self.classifier.rank(part, embedded.vectors.get(part), 2, visible);
            let probability = self.classifier.probabilities(&ranking).right;
            let best = self.card(ranking.agents.first()?.class)?;
            if probability < SURE_PART.max(self.thresholds_of(&best.domain).route) {
                return None;
            }
            match agents.iter_mut().find(|routed| routed.agent == best.card.name) {
                Some(known) => known.part = known.part.take().map(|known| format!("{known}. {part}")),
                None => agents.push(Routed::new(best.card.name.clone(), probability).with_part(part)),
            }
        }
        (agents.len() > 1).then_some(agents)
    }

    /// The thresholds of a domain: its own, or those of the domain around it.
    fn thresholds_of(&self, domain: &str) -> RouteThresholds {
        let mut within = domain;
        loop {
            if let Some(thresholds) = self.thresholds.get(within) {
                return *thresholds;
            }
            match within.rsplit_once('/') {
                Some((around, _)) => within = around,
                None if within.is_empty() => return RouteThresholds::default(),
                None => within = "",
            }
        }
    }
}

/// Whether an agent is one of a request's, and its caller's.
pub(super) fn among(request: &RouteRequest<'_>, caller: &Caller) -> impl Fn(&RouteCard) -> bool {
    let agents: FxHashSet<&str> = request.agents.iter().map(|agent| &*agent.name).collect();
    move |card| agents.contains(&*card.name) && card.is_for(caller)
}

fn unknown(name: &str) -> InvalidValue {
    InvalidValue::new("agent", name, "an agent of the router")
}
