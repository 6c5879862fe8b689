//! A request, read once: its clauses, and the values that they name.

use std::collections::HashMap;

use serde_json::Value;

use super::clause::Clause;
use super::mood::Mood;
use super::parameter::Parameter;
use super::plan::Planner;

/// A request, read once.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) clauses: Vec<Clause>,
    /// For a clause whose values stand corrected: the clause that has the right ones.
    corrected_by: HashMap<usize, usize>,
    /// For a clause that only has values for the clause before it: that clause.
    absorbed_by: HashMap<usize, usize>,
}

impl Request {
    pub(super) fn read(text: &str, planner: &Planner) -> Self {
        let mut request =
            Self { clauses: planner.read(text), corrected_by: HashMap::new(), absorbed_by: HashMap::new() };
        let mut last_with_values = None;
        for (number, clause) in request.clauses.iter().enumerate().filter(|(_, clause)| clause.has_values()) {
            let before = last_with_values.and_then(|before: usize| Some((before, request.clauses.get(before)?)));
            match before.filter(|(_, before)| before.shares_a_form(clause)) {
                Some((before, _)) if clause.is_correction() => {
                    request.corrected_by.insert(before, number);
                    request.absorbed_by.insert(number, before);
                }
                Some((before, _)) if request.is_same_sentence(before, number) && adds_values(clause, planner) => {
                    request.absorbed_by.insert(number, before);
                }
                _ => last_with_values = Some(number),
            }
        }
        request
    }

    /// Whether a clause says nothing but values for another one.
    pub(super) fn is_absorbed(&self, number: usize) -> bool {
        self.absorbed_by.contains_key(&number)
    }

    pub(super) fn is_same_sentence(&self, one: usize, other: usize) -> bool {
        let sentence = |number: usize| self.clauses.get(number).map(|clause| clause.sentence);
        sentence(one) == sentence(other)
    }

    /// The values for a parameter in a clause and in those that belong to it, but not what is denied or corrected.
    pub(super) fn values(&self, number: usize, parameter: &Parameter) -> Vec<Value> {
        let values_in = |number: usize| {
            let clause = self.clauses.get(number);
            clause.map(|clause| clause.values_of(parameter).to_vec()).unwrap_or_default()
        };
        if let Some(right) = self.corrected_by.get(&number) {
            return values_in(*right);
        }
        let absorbed = self.absorbed_by.iter().filter(|(_, before)| **before == number).map(|(number, _)| *number);
        let mut numbers: Vec<usize> = absorbed.chain([number]).collect();
        numbers.sort_unstable();
        distinct(numbers.into_iter().flat_map(values_in))
    }

    /// The values for a parameter in the whole request.
    pub(super) fn all_values(&self, parameter: &Parameter) -> Vec<Value> {
        let own = (0..self.clauses.len()).filter(|number| !self.is_absorbed(*number));
        distinct(own.flat_map(|number| self.values(number, parameter)))
    }

    /// The values for a parameter that stand nearest to a clause: before it, else after it.
    pub(super) fn nearest_values(&self, number: usize, parameter: &Parameter) -> Vec<Value> {
        let order = (0..number).rev().chain(number + 1..self.clauses.len());
        order.map(|other| self.values(other, parameter)).find(|values| !values.is_empty()).unwrap_or_default()
    }

    /// The values for a parameter in the part of the sentence before a clause.
    pub(super) fn values_just_before(&self, number: usize, parameter: &Parameter) -> Vec<Value> {
        let before = (0..number).rev().take_while(|other| self.is_same_sentence(*other, number));
        before.map(|other| self.values(other, parameter)).find(|values| !values.is_empty()).unwrap_or_default()
    }

    /// What is told right after a clause, or right before it.
    pub(super) fn story_around(&self, number: usize) -> Option<String> {
        let is_told = |clause: &&Clause| clause.mood == Mood::Statement;
        let after = self.clauses.get(number + 1).filter(is_told);
        let before = || number.checked_sub(1).and_then(|before| self.clauses.get(before)).filter(is_told);
        after.or_else(before).map(|clause| clause.text.clone())
    }
}

/// Whether a clause only adds values to the one before it.
fn adds_values(clause: &Clause, planner: &Planner) -> bool {
    !matches!(clause.mood, Mood::Question | Mood::Statement) && planner.is_values_by_name(clause)
}

/// Values without repetition. Lists become one list.
fn distinct(values: impl Iterator<Item = Value>) -> Vec<Value> {
    let mut distinct: Vec<Value> = Vec::new();
    for value in values {
        if let (Some(Value::Array(all)), Value::Array(more)) = (distinct.first_mut(), &value) {
            all.extend(more.iter().cloned());
        } else if !distinct.contains(&value) {
            distinct.push(value);
        }
    }
    distinct
}
