//! What a request asks for: calls to make, and arguments to ask for.

use std::sync::Arc;

use agent_core::FunctionSpec;
use jiff::civil::Date;
use serde_json::Value;

use super::candidate::Candidate;
use super::clause::{Clause, clauses, without_quotes};
use super::fill::{Filled, Filling};
use super::mood::Mood;
use super::parameter::{Parameter, arguments};
use super::request::Request;
use crate::lexical_index::{LexicalIndex, QueryTerm};

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
    pub(super) index: LexicalIndex,
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
        let mut candidates: Vec<Candidate> = Vec::with_capacity(functions.len());
        for (number, spec) in functions.iter().enumerate() {
            let first_parameter = candidates.iter().map(|candidate| candidate.parameters.len()).sum();
            candidates.push(Candidate::new(number, spec, first_parameter, synonyms, &mut index));
        }
        Self { candidates, today, index }
    }

    /// What `text` asks for, after the user said `earlier`.
    pub(super) fn plan(&self, text: &str, earlier: Option<&str>) -> Plan {
        self.plan_or(text, earlier, false)
    }

    /// The same, where some function has to be called, whatever the request says.
    pub(super) fn plan_some_call(&self, text: &str, earlier: Option<&str>) -> Plan {
        self.plan_or(text, earlier, true)
    }

    fn plan_or(&self, text: &str, earlier: Option<&str>, must_call: bool) -> Plan {
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
        if must_call && plan.calls.is_empty() && plan.asks.is_empty() {
            let filled = self.candidates.iter().map(|candidate| filling.fill(candidate.number, &[0]));
            plan.calls = filled.filter_map(Filled::into_calls).next().unwrap_or_default();
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
                (Some(function), Some(before)) if self.belongs(request, function, clause, before) => {
                    before.clauses.push(number)
                }
                (Some(function), _) => {
                    let is_told = Self::is_told(clause);
                    matches.push(Match { function, clauses: vec![number], is_told });
                }
                (None, Some(before)) => before.clauses.push(number),
                (None, None) => {}
            }
        }
        matches
    }

    /// Whether a clause asks for nothing by itself: it tells something, or names something and no more.
    pub(super) fn is_told(clause: &Clause) -> bool {
        matches!(clause.mood, Mood::Statement | Mood::Conditional)
            || (clause.mood != Mood::Question && clause.is_only_values())
    }

    /// Whether a clause is more of what the clauses before it ask for.
    fn belongs(&self, request: &Request, function: usize, clause: &Clause, before: &Match) -> bool {
        let mut earlier = before.clauses.iter().filter_map(|number| request.clauses.get(*number));
        let is_more = function == before.function && !earlier.any(|earlier| earlier.shares_a_form(clause));
        let is_list_item = clause.mood != Mood::Question && clause.words.len() <= 2 && !clause.has_values();
        is_more || is_list_item
    }

    /// The clauses of a text, each with its values and with what it says besides.
    pub(super) fn read(&self, text: &str) -> Vec<Clause> {
        let mut clauses = clauses(text);
        for clause in &mut clauses {
            let distinct = self.parameters().map(|parameter| match parameter.is_distinct() {
                true => parameter.find_meant(&clause.text, self.today),
                false => Vec::new(),
            });
            clause.values = distinct.collect();
            clause.said = self.index.query_terms(&self.without_values(clause));
        }
        clauses
    }

    fn parameters(&self) -> impl Iterator<Item = &Parameter> {
        self.candidates.iter().flat_map(|candidate| &candidate.parameters)
    }

    /// The text of a clause without quotations and without values that no ordinary word looks like.
    fn without_values(&self, clause: &Clause) -> String {
        let values = self
            .parameters()
            .filter(|parameter| parameter.has_form())
            .flat_map(|parameter| clause.values_of(parameter));
        let texts =
            values.flat_map(|value| value.as_array().map_or_else(|| std::slice::from_ref(value), Vec::as_slice));
        texts.filter_map(Value::as_str).fold(without_quotes(&clause.text), |text, value| without(&text, value))
    }

    /// Whether a clause has a value that no ordinary word looks like.
    pub(super) fn has_formed_values(&self, clause: &Clause) -> bool {
        self.parameters().any(|parameter| parameter.has_form() && !clause.values_of(parameter).is_empty())
    }

    /// Whether a clause says nothing but values and what they are called: `and the order B-2003`.
    pub(super) fn is_values_by_name(&self, clause: &Clause) -> bool {
        let is_name = |term: &QueryTerm| {
            term.forms.iter().any(|(form, _)| self.parameters().any(|parameter| parameter.is_named_by(form)))
        };
        clause.has_values() && clause.said.iter().all(is_name)
    }

    /// Whether all that a clause says is in a function's description.
    pub(super) fn knows_all_words(&self, candidate: &Candidate, clause: &Clause) -> bool {
        self.index.contributions(candidate.number, &clause.said).all(|contribution| contribution > 0.0)
    }

    fn names_something(&self, request: &Request, found: &Match) -> bool {
        found.clauses.iter().filter_map(|number| request.clauses.get(*number)).any(Clause::has_values)
    }
}

/// The text without every place where `value` stands in it, in whatever case.
fn without(text: &str, value: &str) -> String {
    // Lower case may change lengths outside of ASCII, so only ASCII letters are compared.
    let (lower, value) = (text.to_ascii_lowercase(), value.to_ascii_lowercase());
    let mut rest = String::with_capacity(text.len());
    let mut end = 0;
    for (at, found) in lower.match_indices(&value) {
        rest.push_str(&text[end..at]);
        rest.push(' ');
        end = at + found.len();
    }
    rest.push_str(&text[end..]);
    rest
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
