//! Filling a function's arguments from a request.

use serde_json::Value;

use super::candidate::Candidate;
use super::clause::{Clause, quoted};
use super::mood::Mood;
use super::parameter::{Parameter, arguments};
use super::plan::{Ask, PlannedCall, Planner};
use super::request::Request;

/// Words behind which a clause goes on about something else: its reason, or something to compare with.
const ASIDES: &[&str] =
    &[" because ", " since ", " as ", " like ", " than ", " instead ", " after ", " before ", " due to "];

/// What became of filling a function.
#[derive(Debug)]
pub(super) enum Filled {
    Calls(Vec<PlannedCall>),
    Ask(Ask),
}

impl Filled {
    /// The calls, if there are some.
    pub(super) fn into_calls(self) -> Option<Vec<PlannedCall>> {
        match self {
            Self::Calls(calls) => Some(calls).filter(|calls| !calls.is_empty()),
            Self::Ask(_) => None,
        }
    }
}

/// Where arguments are found.
pub(super) struct Filling<'a> {
    pub(super) planner: &'a Planner,
    pub(super) request: &'a Request,
    /// What the user said before.
    pub(super) earlier: Option<&'a str>,
}

/// The clauses that ask for a function: the first does, the others belong to it.
struct Asking<'a> {
    number: usize,
    clauses: Vec<&'a Clause>,
    clause: &'a Clause,
}

impl Filling<'_> {
    /// Fills the arguments of a function from the clauses of these numbers: the first asks for it, the others belong to it.
    pub(super) fn fill(&self, function: usize, numbers: &[usize]) -> Filled {
        let clauses: Vec<&Clause> = numbers.iter().filter_map(|number| self.request.clauses.get(*number)).collect();
        let (Some(candidate), Some(number), Some(clause)) =
            (self.planner.candidates.get(function), numbers.first(), clauses.first())
        else {
            return Filled::Calls(Vec::new());
        };
        let asking = Asking { number: *number, clause, clauses: clauses.clone() };
        let required: Vec<&Parameter> = candidate.parameters.iter().filter(|parameter| parameter.is_required).collect();
        // Two parameters of one form share the values in their order: from, to. One alone takes each in a call of its own.
        let shares = required.iter().filter(|parameter| parameter.is_distinct()).count() > 1;
        let mut known: Vec<(String, Value)> = Vec::new();
        let mut many: Option<(String, Vec<Value>)> = None;
        for parameter in &required {
            let mut values = self.required(candidate, parameter, &asking);
            values.retain(|value| !known.iter().any(|(_, taken)| taken == value));
            if values.len() > 1 && parameter.fans_out() && !shares {
                many = Some((parameter.name.clone(), values));
                continue;
            }
            match values.into_iter().next() {
                Some(value) => known.push((parameter.name.clone(), value)),
                None => return Filled::Ask(ask(function, parameter, known)),
            }
        }
        for parameter in candidate.parameters.iter().filter(|parameter| !parameter.is_required) {
            known.extend(self.optional(parameter, &asking).map(|value| (parameter.name.clone(), value)));
        }
        let calls = match many {
            None => vec![arguments(known)],
            Some((name, values)) => values
                .into_iter()
                .map(|value| arguments(known.iter().cloned().chain([(name.clone(), value)])))
                .collect(),
        };
        let call = |arguments: Value| PlannedCall { function: candidate.spec.name.clone(), arguments };
        let (valid, invalid): (Vec<Value>, Vec<Value>) =
            calls.into_iter().partition(|arguments| candidate.spec.input.check(arguments).is_ok());
        match required.first().filter(|_| valid.is_empty() && !invalid.is_empty()) {
            Some(parameter) => Filled::Ask(ask(function, parameter, Vec::new())),
            None => Filled::Calls(valid.into_iter().map(call).collect()),
        }
    }

    /// Values for a needed parameter: from the clause itself, else from around it.
    fn required(&self, candidate: &Candidate, parameter: &Parameter, asking: &Asking<'_>) -> Vec<Value> {
        if parameter.is_whole_text() {
            return vec![Value::from(asking.whole_text())];
        }
        if !parameter.is_distinct() {
            return parameter.find(&asking.joined(), self.planner.today);
        }
        let own = self.own_values(parameter, asking);
        if candidate.has_effect() {
            return self.required_for_effect(candidate, parameter, asking, own);
        }
        if !own.is_empty() {
            return own;
        }
        match self.request.nearest_values(asking.number, parameter) {
            none if none.is_empty() => self.said_earlier(parameter, asking.clause),
            values => values,
        }
    }

    /// Values in the clause itself, else in the first that belongs to it and does not tell something else.
    fn own_values(&self, parameter: &Parameter, asking: &Asking<'_>) -> Vec<Value> {
        let own = self.request.values(asking.number, parameter);
        let more = || {
            let others = asking.clauses.iter().skip(1).filter(|clause| clause.mood != Mood::Statement);
            others.map(|clause| clause.values_of(parameter).to_vec()).find(|values| !values.is_empty())
        };
        if own.is_empty() { more().unwrap_or_default() } else { own }
    }

    /// The same for a call that changes something: what is not clearly meant is not used.
    fn required_for_effect(
        &self,
        candidate: &Candidate,
        parameter: &Parameter,
        asking: &Asking<'_>,
        own: Vec<Value>,
    ) -> Vec<Value> {
        if !own.is_empty() {
            let aside = parameter.find(after_aside(&asking.clause.text).unwrap_or_default(), self.planner.today);
            return own.into_iter().filter(|value| !aside.contains(value)).collect();
        }
        let points_back = asking.clause.points_back() && !asking.clause.means_another();
        if !points_back && (asking.clause.means_another() || !self.planner.knows_all_words(candidate, asking.clause)) {
            // `refund my other lamp` is about something that only its speaker knows.
            return Vec::new();
        }
        let mut meant = self.request.values_just_before(asking.number, parameter);
        if meant.is_empty() || !points_back {
            meant = self.request.all_values(parameter);
        }
        if meant.is_empty() {
            meant = self.said_earlier(parameter, asking.clause);
        }
        if meant.len() == 1 { meant } else { Vec::new() }
    }

    /// Values in what the user said before, for a clause that points there.
    fn said_earlier(&self, parameter: &Parameter, clause: &Clause) -> Vec<Value> {
        let earlier = self.earlier.filter(|_| clause.points_back());
        earlier.map(|earlier| parameter.find(earlier, self.planner.today)).unwrap_or_default()
    }

    /// A value for a parameter that can be left out.
    fn optional(&self, parameter: &Parameter, asking: &Asking<'_>) -> Option<Value> {
        if !parameter.is_whole_text() {
            return parameter.find(&asking.joined(), self.planner.today).into_iter().next();
        }
        let told = || {
            let told = asking.clauses.iter().skip(1).map(|clause| clause.text.as_str()).collect::<Vec<_>>().join(", ");
            (!told.is_empty()).then_some(told)
        };
        let reason = || after_aside(&asking.clause.text).map(|reason| reason.trim().to_owned());
        let text = asking.quoted().map(str::to_owned).or_else(reason).or_else(told);
        text.or_else(|| self.request.story_around(asking.number)).map(Value::from)
    }
}

impl Asking<'_> {
    fn joined(&self) -> String {
        self.clauses.iter().map(|clause| clause.text.as_str()).collect::<Vec<_>>().join(", ")
    }

    fn quoted(&self) -> Option<&str> {
        self.clauses.iter().find_map(|clause| quoted(&clause.text).first().copied())
    }

    fn whole_text(&self) -> String {
        self.quoted().map_or_else(|| self.joined(), str::to_owned)
    }
}

fn ask(function: usize, parameter: &Parameter, known: Vec<(String, Value)>) -> Ask {
    Ask { function, parameter: parameter.name.clone(), description: parameter.description.clone(), known }
}

/// What stands behind the first word that begins an aside.
fn after_aside(text: &str) -> Option<&str> {
    // Lower case may change lengths outside of ASCII, so only ASCII letters are compared.
    let lower = text.to_ascii_lowercase();
    let is_wish = |at: usize| ["'d", "would", " id"].iter().any(|wish| lower[..at].ends_with(wish));
    let places = ASIDES.iter().filter_map(|word| lower.find(word).filter(|at| !is_wish(*at)).map(|at| at + word.len()));
    places.min().and_then(|at| text.get(at..))
}
