//! The failure table: what follows each kind of failure, as data.

use std::collections::BTreeMap;
use std::fmt;

use agent_core::{AgentError, ModelErrorClass};
use serde::de::value::StrDeserializer;
use serde::de::{Error, IntoDeserializer};
use serde::{Deserialize, Deserializer, Serialize};

/// What follows each kind of failure, as data: a host can print it, change rows, and keep it in its configuration.
///
/// A document has the rows that differ from the default table, which holds for all others. A row is a whole one: what it leaves out is
/// "no". [`change`](Self::change) changes a part of one.
///
/// ```
/// use agent_core::ModelErrorClass;
/// use agent_router::{FailureTable, NextStep};
///
/// let table: FailureTable = serde_json::from_str(
///     r#"{
///         "content_policy": {"next": "any", "human": true},
///         "unavailable": {
///             "again": {"times": 3, "wait": "backoff"}, "next": "any", "rules": true, "human": true, "mark": "count"
///         }
///     }"#,
/// )?;
/// assert_eq!(table.row(ModelErrorClass::ContentPolicy).next, NextStep::Any);
/// assert_eq!(table.row(ModelErrorClass::Unavailable).again.times, 3);
/// assert_eq!(table.row(ModelErrorClass::Auth), FailureTable::default().row(ModelErrorClass::Auth));
/// println!("{table}");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "BTreeMap<FailureClass, FailureRow>", into = "BTreeMap<FailureClass, FailureRow>")]
pub struct FailureTable {
    rows: BTreeMap<FailureClass, FailureRow>,
}

/// What follows one kind of failure.
///
/// As configuration, what is left out is "no": `{}` fails at once, whatever else there would be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct FailureRow {
    /// Whether the same step is asked again.
    pub again: Again,
    /// Which other models may be asked after that.
    pub next: NextStep,
    /// Whether rules may answer: in their place among the steps, when those before them cannot.
    pub rules: bool,
    /// Whether a person may be asked when nothing else is left.
    pub human: bool,
    /// What it says about the model and its credential, for other requests too.
    pub mark: Mark,
}

/// How often the same step is asked again, within the attempts of the turn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct Again {
    /// How often, for one request.
    pub times: u32,
    /// After which time.
    pub wait: Wait,
}

/// How long is waited before the same step is asked again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Wait {
    /// Not at all.
    #[default]
    No,
    /// What the provider asks for, if it asks, and then a random time up to a bound that doubles with each time (full jitter).
    Backoff,
}

/// Which other models may be asked after a failure.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum NextStep {
    /// None.
    #[default]
    Never,
    /// Any.
    Any,
    /// Those of another provider, or with another credential.
    OtherCredential,
    /// Those whose window is known to be larger; any known one where the failed model's is not, which was too small.
    LargerWindow,
    /// Those whose price is known to be lower.
    Cheaper,
}

/// What a failure says about a model and its credential.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Mark {
    /// Nothing: it answered, and the request was at fault.
    #[default]
    None,
    /// The circuit breaker counts it.
    Count,
    /// The model cools off until the time that the provider asks for.
    Cool,
    /// The credential is dead.
    DeadCredential,
    /// The model's answers are bad. They are counted, and open no breaker: it is alive.
    Quality,
}

/// A kind of failure: a model's, or a run's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum FailureClass {
    /// A model failed.
    Model(ModelErrorClass),
    /// An agent failed with what its models said.
    Run(RunFailureClass),
}

/// The kinds of failure that are not one model's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RunFailureClass {
    /// A model failed after its answer had begun, whatever the failure. Where the failure's own row has no next model, this has none
    /// either.
    AfterCommit,
    /// An answer did not fit its schema.
    BadAnswer,
    /// The agent went on calling functions for too long.
    TurnLimit,
    /// The conversation cannot be made to fit.
    Context,
    /// A policy or a person refused.
    Denied,
    /// An agent, a graph or a host's code failed by itself.
    Failed,
}

impl FailureTable {
    /// What follows a failure of this kind.
    #[must_use]
    pub fn row(&self, class: impl Into<FailureClass>) -> FailureRow {
        self.rows.get(&class.into()).copied().unwrap_or_default()
    }

    /// The same with another row.
    #[must_use]
    pub fn with_row(mut self, class: impl Into<FailureClass>, row: FailureRow) -> Self {
        self.rows.insert(class.into(), row);
        self
    }

    /// The same with a changed row.
    #[must_use]
    pub fn change(mut self, class: impl Into<FailureClass>, change: impl FnOnce(&mut FailureRow)) -> Self {
        change(self.rows.entry(class.into()).or_default());
        self
    }

    /// The rows, by class.
    pub fn rows(&self) -> impl Iterator<Item = (FailureClass, FailureRow)> + '_ {
        self.rows.iter().map(|(class, row)| (*class, *row))
    }
}

impl FailureRow {
    /// Fails at once.
    pub const FAIL: Self =
        Self { again: Again::NEVER, next: NextStep::Never, rules: false, human: false, mark: Mark::None };

    /// The same, asking the same step again.
    #[must_use]
    pub const fn with_again(mut self, times: u32, wait: Wait) -> Self {
        self.again = Again { times, wait };
        self
    }

    /// The same, asking these models next.
    #[must_use]
    pub const fn with_next(mut self, next: NextStep) -> Self {
        self.next = next;
        self
    }

    /// The same, where rules may answer.
    #[must_use]
    pub const fn with_rules(mut self) -> Self {
        self.rules = true;
        self
    }

    /// The same, where a person may be asked.
    #[must_use]
    pub const fn with_human(mut self) -> Self {
        self.human = true;
        self
    }

    /// The same, marking the model.
    #[must_use]
    pub const fn with_mark(mut self, mark: Mark) -> Self {
        self.mark = mark;
        self
    }
}

impl Again {
    /// Never.
    pub const NEVER: Self = Self { times: 0, wait: Wait::No };
}

/// By the word of the class.
impl<'de> Deserialize<'de> for FailureClass {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = String::deserialize(deserializer)?;
        let read = || -> StrDeserializer<'_, D::Error> { word.as_str().into_deserializer() };
        let of_model = ModelErrorClass::deserialize(read()).map(Self::Model);
        let class = of_model.or_else(|_| RunFailureClass::deserialize(read()).map(Self::Run));
        class.map_err(|_| D::Error::custom(format!("there is no class of failures `{word}`")))
    }
}

impl From<ModelErrorClass> for FailureClass {
    fn from(class: ModelErrorClass) -> Self {
        Self::Model(class)
    }
}

impl From<RunFailureClass> for FailureClass {
    fn from(class: RunFailureClass) -> Self {
        Self::Run(class)
    }
}

impl FailureClass {
    /// The kind of an agent's failure.
    #[must_use]
    pub fn of(error: &AgentError) -> Self {
        Self::Run(match error {
            AgentError::Model(error) => return Self::Model(error.class),
            AgentError::Cancelled | AgentError::Deadline => return Self::Model(ModelErrorClass::Stopped),
            AgentError::Budget(_) => return Self::Model(ModelErrorClass::BudgetExceeded),
            AgentError::BadAnswer { .. } => RunFailureClass::BadAnswer,
            AgentError::TurnLimit { .. } => RunFailureClass::TurnLimit,
            AgentError::Context(_) => RunFailureClass::Context,
            AgentError::Denied { .. } => RunFailureClass::Denied,
            _ => RunFailureClass::Failed,
        })
    }
}

impl Default for FailureTable {
    fn default() -> Self {
        use ModelErrorClass as M;
        use RunFailureClass as R;
        let answered = FailureRow::FAIL.with_rules().with_human();
        let onward = answered.with_next(NextStep::Any);
        let down = onward.with_mark(Mark::Count);
        let briefly_down = down.with_again(1, Wait::Backoff);
        let dead = answered.with_next(NextStep::OtherCredential).with_mark(Mark::DeadCredential);
        let poor = onward.with_mark(Mark::Quality);
        let garbled = poor.with_again(1, Wait::No);
        let of_models = [
            (M::RateLimited, onward.with_again(2, Wait::Backoff).with_mark(Mark::Cool)),
            (M::QuotaExhausted, dead),
            (M::Auth, dead),
            (M::Permission, dead),
            (M::Overloaded, briefly_down),
            (M::Unavailable, briefly_down),
            (M::Unreachable, briefly_down),
            (M::Untrusted, down),
            (M::Redirected, down),
            (M::FirstTokenTimeout, down),
            (M::Stalled, down),
            (M::TimedOut, down),
            (M::Cut, briefly_down),
            (M::ContextOverflow, answered.with_next(NextStep::LargerWindow)),
            (M::ContentPolicy, FailureRow::FAIL.with_human()),
            (M::BadRequest, FailureRow::FAIL),
            (M::NotFound, FailureRow::FAIL.with_next(NextStep::Any)),
            (M::Malformed, garbled),
            (M::Empty, garbled),
            (M::Panicked, down),
            (M::TooLarge, poor),
            (M::NeedsHuman, FailureRow::FAIL.with_human()),
            (M::AttemptsExhausted, answered),
            (M::Unpriced, onward),
            (M::BudgetExceeded, answered.with_next(NextStep::Cheaper)),
            (M::NotNow, onward),
            (M::Stopped, FailureRow::FAIL),
        ];
        let of_runs = [
            (R::AfterCommit, FailureRow::FAIL.with_next(NextStep::Any).with_human().with_mark(Mark::Count)),
            (R::BadAnswer, garbled),
            (R::TurnLimit, answered),
            (R::Context, answered),
            (R::Denied, FailureRow::FAIL),
            (R::Failed, FailureRow::FAIL),
        ];
        let of_models = of_models.into_iter().map(|(class, row)| (FailureClass::Model(class), row));
        let of_runs = of_runs.into_iter().map(|(class, row)| (FailureClass::Run(class), row));
        Self { rows: of_models.chain(of_runs).collect() }
    }
}

/// The default table with these rows in the place of its own.
impl From<BTreeMap<FailureClass, FailureRow>> for FailureTable {
    fn from(rows: BTreeMap<FailureClass, FailureRow>) -> Self {
        let mut table = Self::default();
        table.rows.extend(rows);
        table
    }
}

impl From<FailureTable> for BTreeMap<FailureClass, FailureRow> {
    fn from(table: FailureTable) -> Self {
        table.rows
    }
}

/// The table as text, one row a line.
impl fmt::Display for FailureTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:20} {:16} {:17} {:6} {:6} mark", "class", "again", "next", "rules", "human")?;
        for (class, row) in self.rows() {
            let again = match row.again {
                Again { times: 0, .. } => "no".to_owned(),
                Again { times, wait: Wait::No } => format!("{times}"),
                Again { times, wait } => format!("{times}, {}", word(wait)),
            };
            let [rules, human] = [row.rules, row.human].map(|yes| if yes { "yes" } else { "no" });
            let (class, next, mark) = (word(class), word(row.next), word(row.mark));
            writeln!(f, "{class:20} {again:16} {next:17} {rules:6} {human:6} {mark}")?;
        }
        Ok(())
    }
}

/// A unit variant as it is written in the table's document.
fn word(value: impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}
