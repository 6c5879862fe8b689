//! A function as the planner sees it, and how well a clause asks for it.

use std::collections::HashSet;

use agent_core::{Approval, Effect, FunctionSpec};

use super::clause::Clause;
use super::mood::Mood;
use super::parameter::{Parameter, parameters};
use crate::lexical_index::{LexicalIndex, QueryTerm};
use crate::text::{terms, words};

/// How much a word counts by where it stands in a function's description.
const NAME: f32 = 3.0;
const EXAMPLE: f32 = 1.0;
const DESCRIPTION: f32 = 1.0;
const PARAMETER: f32 = 0.5;

/// What a clause gains when all that it says is known to the function.
const COVERAGE: f32 = 0.3;

/// What a clause gains that says the function's name.
const NAMED: f32 = 0.35;

/// How far into a command its verb may stand: `go ahead and book` has three words before it.
const COMMAND: usize = 3;

/// A function, with its parameters and the words that name it.
#[derive(Debug)]
pub(super) struct Candidate {
    /// Its number among the functions, and in the index.
    pub(super) number: usize,
    pub(super) spec: FunctionSpec,
    pub(super) parameters: Vec<Parameter>,
    /// Terms of its name.
    name_terms: HashSet<String>,
    /// Terms of its name and examples: what a request for it would say, not only what is said about it.
    own_terms: HashSet<String>,
}

/// How the words of a clause fit a function.
#[derive(Debug, Clone, Copy)]
pub(super) struct WordFit {
    pub(super) score: f32,
    /// The part of what the clause says that the function knows.
    pub(super) coverage: f32,
    /// Whether the clause says the function's name.
    pub(super) is_named: bool,
}

impl Candidate {
    pub(super) fn new(
        number: usize,
        spec: &FunctionSpec,
        first_parameter: usize,
        synonyms: &[(String, String)],
        index: &mut LexicalIndex,
    ) -> Self {
        let mut parameters = parameters(spec.input.as_value(), first_parameter);
        for parameter in &mut parameters {
            parameter.add_synonyms(synonyms);
        }
        let name = spec.name.replace(['_', '-'], " ");
        let mut fields = vec![(NAME, name.as_str()), (DESCRIPTION, &spec.description)];
        fields.extend(spec.examples.iter().map(|example| (EXAMPLE, example.as_str())));
        let spoken: Vec<String> =
            parameters.iter().map(|parameter| format!("{} {}", parameter.name, parameter.description)).collect();
        fields.extend(spoken.iter().map(|text| (PARAMETER, text.as_str())));
        index.add(fields);
        let name_terms: HashSet<String> = terms(&name).into_iter().collect();
        let own_terms =
            name_terms.iter().cloned().chain(spec.examples.iter().flat_map(|example| terms(example))).collect();
        Self { number, spec: spec.clone(), parameters, name_terms, own_terms }
    }

    /// Whether a call changes something, so that it takes more than a few words in common to make one.
    pub(super) fn has_effect(&self) -> bool {
        match self.spec.effect {
            Effect::Idempotent | Effect::AtMostOnce => true,
            Effect::Unspecified if sounds_like_a_change(&self.spec) => true,
            _ => self.spec.approval == Approval::Needed,
        }
    }

    /// Whether it takes a request as it is, so that it never has to ask for anything.
    pub(super) fn takes_any_text(&self) -> bool {
        !self.parameters.iter().any(Parameter::is_distinct)
    }

    /// How well the words of a clause fit that are no values.
    pub(super) fn word_fit(&self, index: &LexicalIndex, query: &[QueryTerm]) -> WordFit {
        let contributions: Vec<f32> = index.contributions(self.number, query).collect();
        let known = contributions.iter().filter(|contribution| **contribution > 0.0).count();
        let is_named = has_any(query, &self.name_terms);
        if known == 0 {
            return WordFit { score: 0.0, coverage: 0.0, is_named };
        }
        let coverage = known as f32 / query.len() as f32;
        // One word in common among many others says less than one alone.
        let score = contributions.iter().sum::<f32>() * (0.5 + 0.5 * coverage) + COVERAGE * coverage;
        WordFit { score: if is_named { score + NAMED } else { score }, coverage, is_named }
    }

    /// Whether a clause commands this function: rules change nothing because of a question, a story, or a wish under a condition.
    pub(super) fn is_commanded(&self, clause: &Clause, index: &LexicalIndex) -> bool {
        if clause.mood != Mood::Request && clause.mood != Mood::Fragment {
            return false;
        }
        let Some(at) = clause.words.iter().position(|word| self.is_own(word, index)) else { return false };
        let is_early = clause.spoken_before(at) <= COMMAND;
        let is_bare = clause.mood == Mood::Fragment && clause.spoken_before(at) > 0 && !clause.wants();
        (clause.wants() || is_early) && !is_bare
    }

    /// Whether a clause forbids this function: `do not refund`, `no refund`.
    pub(super) fn is_forbidden(&self, clause: &Clause, index: &LexicalIndex) -> bool {
        clause.words.iter().enumerate().any(|(at, word)| self.is_own(word, index) && clause.is_denied(at))
    }

    fn is_own(&self, word: &str, index: &LexicalIndex) -> bool {
        has_any(&index.query_terms(word), &self.own_terms)
    }
}

/// Verbs of functions that change something, for those of which nobody said whether they do.
const CHANGES: &[&str] = &[
    "activate",
    "add",
    "approve",
    "assign",
    "block",
    "book",
    "buy",
    "cancel",
    "change",
    "charge",
    "close",
    "create",
    "credit",
    "deactivate",
    "delete",
    "deploy",
    "disable",
    "edit",
    "enable",
    "erase",
    "grant",
    "insert",
    "install",
    "lock",
    "move",
    "notify",
    "order",
    "pay",
    "post",
    "publish",
    "purchase",
    "rebook",
    "refund",
    "register",
    "reimburse",
    "reject",
    "release",
    "remove",
    "rename",
    "renew",
    "replace",
    "reschedule",
    "reset",
    "restart",
    "revoke",
    "schedule",
    "sell",
    "send",
    "ship",
    "submit",
    "subscribe",
    "suspend",
    "terminate",
    "transfer",
    "unlock",
    "unsubscribe",
    "update",
    "upgrade",
    "upload",
    "withdraw",
];

/// Whether the description begins with a verb of change: `Refunds an order`, `Cancel a booking`.
fn sounds_like_a_change(spec: &FunctionSpec) -> bool {
    let Some(verb) = words(&spec.description).into_iter().next() else { return false };
    let stems = [Some(&*verb), verb.strip_suffix('s'), verb.strip_suffix("es")];
    stems.into_iter().flatten().any(|verb| CHANGES.contains(&verb))
}

fn has_any(query: &[QueryTerm], terms: &HashSet<String>) -> bool {
    query.iter().any(|term| term.forms.iter().any(|(form, _)| terms.contains(form)))
}
