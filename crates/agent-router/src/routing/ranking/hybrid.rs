//! Words and vectors together.

use serde::{Deserialize, Serialize};

use super::calibrate::{Calibration, Evidence};
use super::dense::Dense;
use super::model::{Model, NOBODY, OUT_OF_SCOPE, Ranked, Scored, Visible};
use super::vocabulary::Vector;

/// The lead that a corrected request's agent should have.
const LEAD: f32 = 0.2;

/// By how much nearer a text lies to what was refused than to its best agent, so that it is refused as well.
const NEARER: f32 = 0.1;

/// What the vectors' scores weigh beside the words'.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Shares {
    row: f32,
    nearest: f32,
}

impl Shares {
    /// What proved best for so many examples an agent: of descriptions alone, no row is worth anything.
    pub(super) fn of(examples: f32) -> Self {
        let row = examples / (examples + 1.0);
        Self { row, nearest: 2.0 + 3.0 * row }
    }

    /// The probabilities before anything was held out.
    pub(super) fn calibration(self) -> Calibration {
        Calibration::of_vectors(self.row + self.nearest)
    }
}

/// What is known of vectors beside what is known of words.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Hybrid {
    /// The embedding model.
    pub(super) embedder: String,
    pub(super) dense: Dense,
    pub(super) shares: Shares,
    pub(super) calibration: Calibration,
}

impl Hybrid {
    /// The best `limit` agents by words and vectors, and what the scores say about the first.
    pub(super) fn rank(
        &self,
        model: &Model,
        (words, values): (&Vector, &[f32]),
        limit: usize,
        visible: Visible<'_>,
    ) -> (Vec<Scored>, Evidence) {
        let mut scoring = model.score(words);
        let mut score = |class: u32| scoring.of(class) + self.share_of_vectors(values, class);
        let Ranked { agents, domain, domain_lead } = model.rank_by(limit, visible, |class| Some(score(class)));
        let best = agents.first().map_or(NOBODY, |scored| scored.1);
        let outside = score(OUT_OF_SCOPE);
        let next = agents.get(1).map_or(NOBODY, |scored| scored.1);
        let nearest =
            |rank: usize| agents.get(rank).map_or(0.0, |scored| self.dense.likeness(values, scored.0).nearest);
        let evidence =
            [best, best - next, outside, words.known, nearest(0), nearest(0) - nearest(1), domain, domain_lead];
        (agents, evidence)
    }

    /// Learns what the words' part, which has learnt already, leaves to be learnt: nothing where the right agent leads.
    pub(super) fn learn(&mut self, model: &Model, (words, values): (&Vector, &[f32]), right: Option<u32>) {
        let Some(agent) = right else {
            self.dense.refuse(values);
            return;
        };
        let (ranked, _) = self.rank(model, (words, values), 2, Visible::All);
        let lead = match &ranked[..] {
            [best, next, ..] if best.0 == agent => best.1 - next.1,
            [best] if best.0 == agent => f32::INFINITY,
            _ => f32::NEG_INFINITY,
        };
        if lead < LEAD {
            let (own, leading) = (model.domain(agent), ranked.first().and_then(|best| model.domain(best.0)));
            self.dense.correct(values, agent, own.filter(|_| own != leading));
        }
    }

    /// How much a text is like one that was refused, and not like its best agent; 0 to 1.
    pub(super) fn refused(&self, values: &[f32], best: Option<u32>) -> f32 {
        let nearest = |class: u32| self.dense.likeness(values, class).nearest;
        let refused = nearest(OUT_OF_SCOPE);
        refused * ((refused - best.map_or(0.0, nearest)) / NEARER).clamp(0.0, 1.0)
    }

    /// What the vectors add to the score of a class.
    pub(super) fn share_of_vectors(&self, values: &[f32], class: u32) -> f32 {
        let likeness = self.dense.likeness(values, class);
        self.shares.row * likeness.row + self.shares.nearest * likeness.nearest
    }
}
