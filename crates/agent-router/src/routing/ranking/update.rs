//! Changes to a trained model that touch only the n-grams of the texts they come from.

use super::linear;
use super::model::{Class, DOMAIN, Model, OUT_OF_SCOPE, PENALTIES, Role, Scored, Visible, matters};
use super::text;
use super::vocabulary::Vector;

/// Texts kept per agent.
pub(super) const KEPT: usize = 6;

/// Counterexamples a new row is trained against.
const COUNTEREXAMPLES: usize = 256;

/// Lead that a corrected request's agent should have.
const LEAD: f32 = 0.1;

/// Longest step of one correction.
const LONGEST: f32 = 0.1;

/// Share of the way to its target that a score of scope goes in one correction.
const RATE: f32 = 0.5;

impl Model {
    /// Moves the rows of `right` and of its strongest rival, and of their domains if they
    /// differ, until `right` leads (passive-aggressive, Crammer et al. 2006).
    pub(super) fn correct(&mut self, vector: &Vector, right: u32) {
        let square = vector.square();
        let Some(domain) = self.domain(right).filter(|_| square > 0.0) else { return };
        let mut scoring = self.score(vector);
        let own = scoring.of(right) + DOMAIN * scoring.of(domain);
        let outside = scoring.of(OUT_OF_SCOPE);
        let (ranked, _) = self.rank(vector, 2, Visible::All);
        let rival = ranked.into_iter().find(|scored| scored.0 != right).filter(|scored| own - scored.1 < LEAD);
        if let Some((rival, rival_score)) = rival {
            self.separate(vector, right, (rival, rival_score - own));
        }
        if outside > -0.5 {
            self.step(vector, OUT_OF_SCOPE, RATE * (-1.0 - outside) / square);
        }
    }

    fn separate(&mut self, vector: &Vector, right: u32, (rival, excess): Scored) {
        let (Some(domain), Some(other)) = (self.domain(right), self.domain(rival)) else { return };
        let reach = if domain == other { 2.0 } else { 2.0 + 2.0 * DOMAIN * DOMAIN };
        let length = ((excess + LEAD) / (reach * vector.square())).min(LONGEST);
        self.step(vector, right, length);
        self.step(vector, rival, -length);
        if domain != other {
            self.step(vector, domain, DOMAIN * length);
            self.step(vector, other, -DOMAIN * length);
        }
    }

    /// Moves the out-of-scope row up, and the best agent's domain down if it claims the text.
    pub(super) fn refuse(&mut self, vector: &Vector) {
        let square = vector.square();
        if square == 0.0 {
            return;
        }
        let (ranked, _) = self.rank(vector, 1, Visible::All);
        let best = ranked.first().map(|scored| scored.0);
        let claims = [best, best.and_then(|best| self.domain(best))];
        let mut scoring = self.score(vector);
        let outside = scoring.of(OUT_OF_SCOPE);
        let scored = claims.map(|class| class.map(|class| (class, scoring.of(class))));
        self.step(vector, OUT_OF_SCOPE, RATE * (1.0 - outside).max(0.0) / square);
        for (class, score) in scored.into_iter().flatten().filter(|scored| scored.1 > 0.0) {
            self.step(vector, class, -RATE * score / square);
        }
    }

    /// Adds an agent: its own row, its share of the domain's row, and the corrections its
    /// texts call for in rows that claim them.
    pub(super) fn insert(&mut self, name: &str, domain: &str, texts: &[String]) -> u32 {
        let documents: Vec<_> = texts.iter().map(|text| text::grams(text)).collect();
        documents.iter().for_each(|document| self.vocabulary.extend(document));
        let vectors: Vec<Vector> = documents.iter().map(|document| self.vocabulary.vector(document)).collect();
        let domain = self.find(domain, |role| role == Role::Domain).unwrap_or_else(|| {
            let class = self.push(Role::Domain, Class { name: domain.to_owned(), texts: Vec::new() });
            self.fit(&vectors, class, |_| true);
            class
        });
        let kept = texts.iter().take(KEPT).cloned().collect();
        let agent = self.push(Role::Agent(domain), Class { name: name.to_owned(), texts: kept });
        self.fit(&vectors, agent, |other| other == domain);
        for vector in vectors.iter().chain(&vectors) {
            self.claim(vector, domain);
            self.correct(vector, agent);
        }
        agent
    }

    /// Removes the agent's row; its domain keeps its own.
    pub(super) fn delete(&mut self, agent: u32) {
        if let (Some(role), Some(class)) = (self.roles.get_mut(agent as usize), self.classes.get_mut(agent as usize)) {
            *role = Role::Vacant;
            *class = Class::default();
            self.index.remove(agent);
        }
    }

    /// Trains the row of `class` against kept texts of agents in `rival` domains. Only n-grams
    /// of `positives` enter the row, so that the class ranks for no request without them.
    fn fit(&mut self, positives: &[Vector], class: u32, rival: impl Fn(u32) -> bool) {
        let negatives = self.counterexamples(class, rival);
        let positive = positives.iter().map(|vector| (vector, Some(0)));
        let examples: Vec<linear::Example<'_>> =
            positive.chain(negatives.iter().map(|vector| (vector, None))).collect();
        let mut grams: Vec<u32> = positives.iter().flat_map(|vector| vector.terms.iter().map(|term| term.0)).collect();
        grams.sort_unstable();
        let Self { index, .. } = self;
        linear::train(&examples, 1, PENALTIES, |gram, _, weight| {
            if matters(weight) && grams.binary_search(&gram).is_ok() {
                index.add(gram, class, weight);
            }
        });
    }

    fn counterexamples(&self, class: u32, rival: impl Fn(u32) -> bool) -> Vec<Vector> {
        let mut kept: Vec<&String> = Vec::new();
        for ((role, candidate), number) in self.roles.iter().zip(&self.classes).zip(0..) {
            if let Role::Agent(domain) = role
                && number != class
                && rival(*domain)
            {
                kept.extend(&candidate.texts);
            }
        }
        let stride = kept.len().div_ceil(COUNTEREXAMPLES).max(1);
        kept.into_iter().step_by(stride).map(|text| self.vocabulary.vector(&text::grams(text))).collect()
    }

    /// Moves the row of `domain` half of the way to claiming the text.
    fn claim(&mut self, vector: &Vector, domain: u32) {
        let score = self.score(vector).of(domain);
        let square = vector.square();
        if square > 0.0 && score < 0.8 {
            self.step(vector, domain, RATE * (0.8 - score) / square);
        }
    }

    fn step(&mut self, vector: &Vector, class: u32, length: f32) {
        for &(gram, weight) in &vector.terms {
            self.index.add(gram, class, length * weight);
        }
    }
}
