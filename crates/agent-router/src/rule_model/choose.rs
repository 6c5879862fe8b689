//! The function that a clause asks for.

use super::candidate::{Candidate, WordFit};
use super::clause::Clause;
use super::mood::Mood;
use super::plan::Planner;
use super::request::Request;

/// The least score with which a function is taken.
const THRESHOLD: f32 = 0.5;
/// The same for a question.
const QUESTION_THRESHOLD: f32 = 0.45;
/// What it adds that a clause has a value for one of the function's own forms.
const HAS_VALUE: f32 = 0.6;
/// What it takes away that a clause has such a value and the function has no use for it.
const UNUSED_VALUE: f32 = 0.7;
/// What it takes away that a needed value stands elsewhere in the request.
const VALUE_ELSEWHERE: f32 = 0.1;
/// What it adds that a needed value stands elsewhere and the clause points there: `when was it delivered?`
const POINTED_AT: f32 = 0.3;
/// What it takes away that a needed value stands nowhere.
const NO_VALUE: f32 = 0.3;
/// The same when the clause is about something of the speaker's own: then the value is asked for.
const NO_VALUE_OWN: f32 = 0.05;
/// What a story has to have in common with a function that takes any text, so that it is looked into.
const TOLD_COVERAGE: f32 = 0.75;

/// A function that a clause may ask for.
#[derive(Clone, Copy)]
struct Choice<'a> {
    candidate: &'a Candidate,
    score: f32,
    lacks_value: bool,
}

impl Planner {
    /// The number of the function that a clause asks for.
    pub(super) fn choose(&self, request: &Request, number: usize) -> Option<usize> {
        let clause = request.clauses.get(number)?;
        if self.forbids(clause) {
            // What somebody does not want done is no request for anything else either.
            return None;
        }
        let choices: Vec<Choice<'_>> =
            self.candidates.iter().filter_map(|candidate| self.weigh(request, number, clause, candidate)).collect();
        let best = |fits: &dyn Fn(&Choice<'_>) -> bool| {
            // The first of equals.
            choices.iter().filter(|choice| fits(choice)).rev().max_by(|one, other| one.score.total_cmp(&other.score))
        };
        let mut chosen = best(&|_| true);
        if chosen.is_some_and(|chosen| chosen.lacks_value) && clause.mood == Mood::Question && !clause.is_about_own() {
            // A question about nothing in particular is for a function that can be called, not for one that has to ask.
            chosen = best(&|choice| choice.candidate.takes_any_text()).or(chosen);
        }
        match chosen {
            Some(chosen) => Some(chosen.candidate.number),
            None => self.choose_for_pointer(request, number, clause),
        }
    }

    /// How well a function fits a clause, if well enough.
    fn weigh<'a>(
        &self,
        request: &Request,
        number: usize,
        clause: &Clause,
        candidate: &'a Candidate,
    ) -> Option<Choice<'a>> {
        if candidate.has_effect() && !candidate.is_commanded(clause, &self.index) {
            return None;
        }
        let fit = candidate.word_fit(&self.index, &clause.said);
        if candidate.takes_any_text() && Self::is_told(clause) && fit.coverage < TOLD_COVERAGE {
            return None;
        }
        let (value_fit, lacks_value) = self.value_fit(request, number, clause, candidate, &fit);
        let score = fit.score + value_fit;
        let threshold = if clause.mood == Mood::Question { QUESTION_THRESHOLD } else { THRESHOLD };
        (score >= threshold).then_some(Choice { candidate, score, lacks_value })
    }

    /// What the values in the request add for a function, or take away, and whether it lacks one.
    fn value_fit(
        &self,
        request: &Request,
        number: usize,
        clause: &Clause,
        candidate: &Candidate,
        words: &WordFit,
    ) -> (f32, bool) {
        let missing = if words.is_named && clause.is_about_own() { NO_VALUE_OWN } else { NO_VALUE };
        let points_there = clause.points_back() && words.score > 0.0;
        let (mut fit, mut lacks_value, mut uses_value) = (0.0, false, false);
        for parameter in
            candidate.parameters.iter().filter(|parameter| parameter.is_required && parameter.is_distinct())
        {
            fit += match () {
                () if !request.values(number, parameter).is_empty() => {
                    uses_value = true;
                    HAS_VALUE
                }
                () if request.all_values(parameter).is_empty() => {
                    lacks_value = true;
                    -missing
                }
                () if points_there => POINTED_AT,
                () => -VALUE_ELSEWHERE,
            };
        }
        let is_unused = !uses_value && self.has_formed_values(clause);
        (if is_unused { fit - UNUSED_VALUE } else { fit }, lacks_value)
    }

    /// The function for a question that says nothing but that it is about something said before: `any news on it?`
    fn choose_for_pointer(&self, request: &Request, number: usize, clause: &Clause) -> Option<usize> {
        if clause.mood != Mood::Question || !clause.points_back() || clause.said.len() > 1 {
            return None;
        }
        let knows_all = |candidate: &Candidate| {
            let mut needed = candidate.parameters.iter().filter(|parameter| parameter.is_required).peekable();
            let needs_something = needed.peek().is_some();
            needs_something
                && needed.all(|parameter| parameter.is_distinct() && !request.all_values(parameter).is_empty())
        };
        // What was told before names it, if no value does: `my parcel is late, where is it?`
        let told = || (0..number).rev().find_map(|before| self.choose_told(request, before));
        let reading = self.candidates.iter().filter(|candidate| !candidate.has_effect());
        reading.clone().find(|candidate| knows_all(candidate)).map(|candidate| candidate.number).or_else(told)
    }

    /// The function that a story names, though it does not ask for it.
    fn choose_told(&self, request: &Request, number: usize) -> Option<usize> {
        let clause = request.clauses.get(number).filter(|clause| clause.mood == Mood::Statement)?;
        let named =
            |candidate: &&Candidate| !candidate.has_effect() && candidate.word_fit(&self.index, &clause.said).is_named;
        self.candidates.iter().find(named).map(|candidate| candidate.number)
    }

    /// Whether a clause says that something with an effect is not wanted.
    pub(super) fn forbids(&self, clause: &Clause) -> bool {
        let mut effects = self.candidates.iter().filter(|candidate| candidate.has_effect());
        clause.mood != Mood::Question && effects.any(|candidate| candidate.is_forbidden(clause, &self.index))
    }
}
