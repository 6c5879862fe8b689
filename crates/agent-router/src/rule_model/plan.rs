//! What a request asks for: calls to make, and arguments to ask for.

use std::sync::Arc;

use agent_core::FunctionSpec;
use jiff::civil::Date;
use serde_json::Value;

use super::candidate::{Candidate, WordFit};
use super::clause::{Clause, Mood};
use super::fill::{Filled, Filling};
use super::request::Request;
use super::values::{Parameter, arguments};
use crate::lexical_index::{LexicalIndex, QueryTerm};

/// The least score with which a function is taken.
const THRESHOLD: f32 = 0.55;
/// What it adds that a clause has a value for one of the function's own forms.
const HAS_VALUE: f32 = 0.6;
/// What it takes away that a clause has such a value and the function has no use for it.
const UNUSED_VALUE: f32 = 0.4;
/// What it takes away that a needed value stands elsewhere in the request.
const VALUE_ELSEWHERE: f32 = 0.1;
/// What it adds that a needed value stands elsewhere and the clause points there: `when was it delivered?`
const POINTED_AT: f32 = 0.3;
/// What it takes away that a needed value stands nowhere.
const NO_VALUE: f32 = 0.3;
/// The same when the clause says the function's name, or is about something of the speaker's own: then the value is asked for.
const NO_VALUE_NAMED: f32 = 0.25;
const NO_VALUE_OWN: f32 = 0.05;
/// What a story has to have in common with a function that takes any text, so that it is looked into.
const TOLD_COVERAGE: f32 = 0.5;

/// What a request asks for.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Plan {
    pub(super) calls: Vec<PlannedCall>,
    pub(super) asks: Vec<Ask>,
}

/// A call with all that it needs.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct PlannedCall {
    pub(super) function: Arc<str>,
    pub(super) arguments: Value,
}

/// A needed argument that the request does not have.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Ask {
    /// The function's number.
    pub(super) function: usize,
    pub(super) parameter: String,
    pub(super) description: String,
    /// What is known already.
    pub(super) known: Vec<(String, Value)>,
}

/// Plans for one set of functions.
#[derive(Debug)]
pub(super) struct Planner {
    pub(super) candidates: Vec<Candidate>,
    pub(super) today: Option<Date>,
    index: LexicalIndex,
}

/// A clause that asks for a function.
#[derive(Debug)]
struct Match {
    /// The function's number.
    function: usize,
    /// The clause's number, and those of the clauses that belong to it.
    clauses: Vec<usize>,
    /// The clause only tells something: what it names is looked into if nothing else asks about it.
    is_told: bool,
}

impl Planner {
    pub(super) fn new(functions: &[FunctionSpec], synonyms: &[(String, String)], today: Option<Date>) -> Self {
        let mut index = LexicalIndex::new();
        for (words, meaning) in synonyms {
            index.add_synonym(words, meaning);
        }
        let candidates =
            functions.iter().enumerate().map(|(number, spec)| Candidate::new(number, spec, &mut index)).collect();
        Self { candidates, today, index }
    }

    /// What `text` asks for, after the user said `earlier`.
    pub(super) fn plan(&self, text: &str, earlier: Option<&str>) -> Plan {
        let request = Request::read(text, self);
        let matches = self.matches(&request);
        let is_asking = matches.iter().any(|found| !found.is_told);
        if let Some(earlier) = earlier.filter(|_| !is_asking)
            && let Some(plan) = self.answer_to_ask(text, earlier)
        {
            return plan;
        }
        let filling = Filling { planner: self, request: &request, earlier };
        let mut plan = Plan::default();
        let (told, asked): (Vec<Match>, Vec<Match>) = matches.into_iter().partition(|found| found.is_told);
        for found in asked {
            match filling.fill(found.function, &found.clauses) {
                Filled::Calls(calls) => plan.add_calls(calls),
                Filled::Ask(ask) => plan.add_ask(ask),
            }
        }
        let is_forbidding = request.clauses.iter().any(|clause| self.forbids(clause));
        for found in told {
            // Beside a real question or a ban, a story is looked into only for what it names and nothing else is about.
            if (is_asking || is_forbidding) && !self.names_something(&request, &found) {
                continue;
            }
            if let Filled::Calls(calls) = filling.fill(found.function, &found.clauses) {
                plan.add_calls_about_news(calls);
            }
        }
        plan
    }

    /// The plan for a request that only gives what an earlier one lacked.
    fn answer_to_ask(&self, text: &str, earlier: &str) -> Option<Plan> {
        let ask = self.plan(earlier, None).asks.into_iter().next()?;
        let candidate = self.candidates.get(ask.function)?;
        let parameter = candidate.parameters.iter().find(|parameter| parameter.name == ask.parameter)?;
        let mut values = parameter.find(text, self.today);
        if values.is_empty() && parameter.is_whole_text() {
            values.push(Value::from(text.trim()));
        }
        let arguments = arguments(ask.known.into_iter().chain([(ask.parameter, values.into_iter().next()?)]));
        candidate.spec.input.check(&arguments).ok()?;
        Some(Plan { calls: vec![PlannedCall { function: candidate.spec.name.clone(), arguments }], asks: Vec::new() })
    }

    /// The function that each clause asks for, where one does, with the clauses that belong to it.
    fn matches(&self, request: &Request) -> Vec<Match> {
        let mut matches: Vec<Match> = Vec::new();
        for (number, clause) in request.clauses.iter().enumerate() {
            if request.is_absorbed(number) {
                continue;
            }
            let in_sentence =
                |found: &&mut Match| found.clauses.last().is_some_and(|last| request.is_same_sentence(*last, number));
            let before = matches.last_mut().filter(in_sentence);
            match (self.choose(request, number), before) {
                (Some(function), Some(before)) if self.belongs(function, clause, before.function) => {
                    before.clauses.push(number)
                }
                (Some(function), _) => {
                    let is_told = self.is_told(clause);
                    matches.push(Match { function, clauses: vec![number], is_told });
                }
                (None, Some(before)) => before.clauses.push(number),
                (None, None) => {}
            }
        }
        matches
    }

    /// Whether a clause asks for nothing by itself: it tells something, or names something and no more.
    fn is_told(&self, clause: &Clause) -> bool {
        matches!(clause.mood, Mood::Statement | Mood::Conditional) || self.is_only_values(clause)
    }

    /// Whether a clause is more of what the clause before it asks for.
    fn belongs(&self, function: usize, clause: &Clause, before: usize) -> bool {
        let takes_text = |candidate: &Candidate| !candidate.parameters.iter().any(Parameter::is_distinct);
        let is_same_text = function == before && self.candidates.get(function).is_some_and(takes_text);
        let is_list_item = clause.mood != Mood::Question && clause.words.len() <= 2 && self.count_values(clause) == 0;
        is_same_text || is_list_item
    }

    /// How many values with a form of their own stand in a clause.
    pub(super) fn count_values(&self, clause: &Clause) -> usize {
        let parameters = self.candidates.iter().flat_map(|candidate| &candidate.parameters);
        let distinct = parameters.filter(|parameter| parameter.is_distinct());
        distinct.map(|parameter| parameter.find(&clause.text, self.today).len()).max().unwrap_or(0)
    }

    fn query(&self, clause: &Clause) -> Vec<QueryTerm> {
        self.index.query_terms(&clause.words.join(" "))
    }

    /// Whether a clause says nothing but values.
    fn is_only_values(&self, clause: &Clause) -> bool {
        let values = self.count_values(clause);
        values > 0 && self.query(clause).len() <= values
    }

    /// Whether all that a clause says is in a function's description.
    pub(super) fn knows_all_words(&self, candidate: &Candidate, clause: &Clause) -> bool {
        let query = self.query(clause);
        self.index.contributions(candidate.number, &query).all(|contribution| contribution > 0.0)
    }

    fn names_something(&self, request: &Request, found: &Match) -> bool {
        found
            .clauses
            .iter()
            .filter_map(|number| request.clauses.get(*number))
            .any(|clause| self.count_values(clause) > 0)
    }

    /// Whether a clause says that something with an effect is not wanted.
    fn forbids(&self, clause: &Clause) -> bool {
        let mut effects = self.candidates.iter().filter(|candidate| candidate.has_declared_effect());
        clause.mood != Mood::Question && effects.any(|candidate| candidate.is_forbidden(clause, &self.index))
    }

    /// The function that a clause asks for.
    fn choose(&self, request: &Request, number: usize) -> Option<usize> {
        let clause = request.clauses.get(number)?;
        if self.forbids(clause) {
            // What somebody does not want done is no request for anything else either.
            return None;
        }
        let query = self.query(clause);
        let values = self.count_values(clause);
        let mut best: Option<(usize, f32)> = None;
        for (function, candidate) in self.candidates.iter().enumerate() {
            if candidate.has_declared_effect() && !candidate.is_commanded(clause, &self.index) {
                continue;
            }
            let fit = candidate.word_fit(&self.index, &query, values);
            let takes_text = !candidate.parameters.iter().any(Parameter::is_distinct);
            if takes_text && self.is_told(clause) && fit.coverage < TOLD_COVERAGE {
                continue;
            }
            let score = fit.score + self.value_fit(request, number, candidate, &fit, values > 0);
            if score >= THRESHOLD && best.is_none_or(|(_, so_far)| score > so_far) {
                best = Some((function, score));
            }
        }
        best.map(|(function, _)| function).or_else(|| self.choose_for_pointer(request, clause, &query))
    }

    /// The function for a question that says nothing but that it is about something said before: `any news on it?`
    fn choose_for_pointer(&self, request: &Request, clause: &Clause, query: &[QueryTerm]) -> Option<usize> {
        if clause.mood != Mood::Question || !clause.points_back() || query.len() > 1 {
            return None;
        }
        self.candidates.iter().position(|candidate| {
            let mut needed = candidate.parameters.iter().filter(|parameter| parameter.is_required).peekable();
            let needs_something = needed.peek().is_some();
            let is_known = |parameter: &Parameter| parameter.is_distinct() && !request.all_values(parameter).is_empty();
            !candidate.has_declared_effect() && needs_something && needed.all(is_known)
        })
    }

    /// What the values in the request add for a function, or take away.
    fn value_fit(
        &self,
        request: &Request,
        number: usize,
        candidate: &Candidate,
        words: &WordFit,
        has_values: bool,
    ) -> f32 {
        let clause = request.clauses.get(number);
        let points_back = clause.is_some_and(Clause::points_back);
        let missing = match words.is_named {
            true if clause.is_some_and(Clause::is_about_own) => NO_VALUE_OWN,
            true => NO_VALUE_NAMED,
            false => NO_VALUE,
        };
        let fit_of = |parameter: &Parameter| match () {
            () if !request.values(number, parameter).is_empty() => HAS_VALUE,
            () if request.all_values(parameter).is_empty() => -missing,
            () if points_back && words.score > 0.0 => POINTED_AT,
            () => -VALUE_ELSEWHERE,
        };
        let needed = candidate.parameters.iter().filter(|parameter| parameter.is_required && parameter.is_distinct());
        let fits: Vec<f32> = needed.map(fit_of).collect();
        let is_unused = has_values && !fits.contains(&HAS_VALUE);
        fits.iter().sum::<f32>() - if is_unused { UNUSED_VALUE } else { 0.0 }
    }
}

impl Plan {
    fn add_calls(&mut self, calls: Vec<PlannedCall>) {
        for call in calls {
            if !self.calls.contains(&call) {
                self.calls.push(call);
            }
        }
    }

    /// Adds calls that share no value with those that are there.
    fn add_calls_about_news(&mut self, calls: Vec<PlannedCall>) {
        let values = |call: &PlannedCall| -> Vec<Value> {
            call.arguments.as_object().into_iter().flatten().map(|(_, value)| value.clone()).collect()
        };
        let used: Vec<Value> = self.calls.iter().flat_map(values).collect();
        self.add_calls(
            calls.into_iter().filter(|call| !values(call).iter().any(|value| used.contains(value))).collect(),
        );
    }

    fn add_ask(&mut self, ask: Ask) {
        if !self.asks.iter().any(|earlier| earlier.function == ask.function) {
            self.asks.push(ask);
        }
    }
}
