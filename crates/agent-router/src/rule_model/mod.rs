//! A model made of rules: deterministic, offline, free.

mod answer;
mod candidate;
mod choose;
mod clause;
mod condition;
mod fill;
mod mood;
mod parameter;
mod plan;
mod request;
mod values;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use agent_core::{
    Call, ChatModel, ChatRequest, Chunk, Entry, Finish, FinishReason, FunctionChoice, FunctionSpec, Level, ModelError,
    ModelInfo, ModelStream, Price, RunContext, Turn, Usage, UserMessage,
};
use async_trait::async_trait;
use jiff::civil::Date;
use serde_json::Value;

use self::clause::{Clause, clauses};
use self::parameter::{Parameter, arguments, parameters};
use self::plan::{Plan, Planner};

/// The input of a function that a text says all of, in one way only. `None` also where it is one text and nothing else.
pub(crate) fn only_reading(spec: &FunctionSpec, text: &str) -> Option<Value> {
    let needed: Vec<_> = parameters(spec.input.as_value(), 0).into_iter().filter(|needed| needed.is_required).collect();
    if needed.iter().all(Parameter::is_whole_text) {
        return None;
    }
    let value = |needed: &Parameter| match needed.is_whole_text() {
        true => Some(Value::from(text)),
        false => <[Value; 1]>::try_from(needed.find_meant(text, None)).ok().map(|[only]| only),
    };
    let values = needed.iter().map(|needed| Some((needed.name.clone(), value(needed)?)));
    let input = arguments(values.collect::<Option<Vec<_>>>()?);
    spec.input.check(&input).is_ok().then_some(input)
}

/// Whether a text points at something that was said before: `and when was that?`.
pub(crate) fn points_back(text: &str) -> bool {
    let chinese = ["它", "那", "这", "呢"];
    chinese.iter().any(|word| text.contains(word)) || clauses(text).iter().any(Clause::points_back)
}

/// Whether a text has a value for a parameter of the function whose values no ordinary words have the form of.
pub(crate) fn names_a_value(spec: &FunctionSpec, text: &str) -> bool {
    let parameters = parameters(spec.input.as_value(), 0);
    parameters.iter().any(|parameter| parameter.has_form() && !parameter.find(text, None).is_empty())
}

/// A model made of rules: it needs no server, no key and no network, and always says the same.
///
/// It splits a request into clauses, finds for each the function whose name, description, parameters and examples share most words
/// with it, fills the arguments from what their schema says (`pattern`, `format`, `enum`, `const`, numbers, dates, quoted text),
/// and calls several functions at once. It asks for a needed argument that is missing, by name; answers from the results and names
/// their sources; and when nothing fits, says what it can do. Functions with a declared effect are called only on a command, never
/// because of a question, a story, a denial or a condition.
///
/// It is the embedded default when no model is configured, and the rule level of a fallback chain: its answers are marked
/// [`Level::Rule`]. It understands English word forms; what it cannot do is reason, translate or chat.
///
/// It reads the first 2,000 words of a request.
///
/// ```
/// use agent_core::{Caller, CallError, Effect, MainAgent, sub_agent};
/// use agent_router::RuleModel;
///
/// #[derive(serde::Deserialize, schemars::JsonSchema)]
/// struct Order {
///     #[schemars(regex(pattern = r"^[A-Z]-\d{4}$"))]
///     order: String,
/// }
///
/// async fn orders(input: Order) -> Result<String, CallError> {
///     Ok(format!("{} was delivered.", input.order))
/// }
///
/// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
/// let orders = sub_agent("orders", "Looks an order up", orders).with_effect(Effect::ReadOnly);
/// let desk = MainAgent::builder("desk", RuleModel::new()).sub_agent(orders).build()?;
/// let outcome = desk.run("Where is my order a-1042?", Caller::new("acme", "ann")?).await?;
/// assert_eq!(outcome.to_string(), "A-1042 was delivered. [orders]");
/// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct RuleModel {
    info: ModelInfo,
    synonyms: Vec<(String, String)>,
    today: Option<Date>,
    /// The planner of the functions that were asked about last: an agent asks about the same ones every time.
    last: Mutex<Option<KnownFunctions>>,
}

/// Functions, and the planner made for them.
type KnownFunctions = (Arc<[FunctionSpec]>, Arc<Planner>);

impl Default for RuleModel {
    fn default() -> Self {
        let info = ModelInfo::new("adjutant", "rules").with_price(Price::FREE).with_level(Level::Rule);
        Self { info, synonyms: Vec::new(), today: None, last: Mutex::default() }
    }
}

impl RuleModel {
    /// A model that knows no synonyms.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The same, taking `words` in a request to mean `meaning` as well: `("parcel", "order")`.
    #[must_use]
    pub fn with_synonym(mut self, words: impl Into<String>, meaning: impl Into<String>) -> Self {
        self.synonyms.push((words.into(), meaning.into()));
        self
    }

    /// The same, knowing what day it is, so that `tomorrow` is a date.
    #[must_use]
    pub fn with_today(mut self, today: Date) -> Self {
        self.today = Some(today);
        self
    }

    fn planner(&self, functions: &Arc<[FunctionSpec]>) -> Arc<Planner> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match &*last {
            Some((known, planner)) if Arc::ptr_eq(known, functions) => planner.clone(),
            _ => {
                let planner = Arc::new(Planner::new(functions, &self.synonyms, self.today));
                *last = Some((functions.clone(), planner.clone()));
                planner
            }
        }
    }

    /// What to say to a request: calls, or a text.
    fn reply(&self, request: &ChatRequest) -> Said {
        // Rules cannot mend an answer: they say the same again, and call nothing a second time.
        let entries = request.conversation.entries();
        let entries = entries.get(..entries.len().saturating_sub(request.repairs)).unwrap_or(entries);
        let Some(asked_at) = entries.iter().rposition(|entry| matches!(entry, Entry::User(_))) else {
            return Said::Text(answer::capabilities(request.functions.iter()));
        };
        let functions = allowed(request);
        let planner = self.planner(&functions);
        let (before, after) = entries.split_at(asked_at);
        let text = after.first().and_then(user_message).map(UserMessage::joined_text).unwrap_or_default();
        let earlier = before.iter().rev().find_map(user_message).map(UserMessage::joined_text);
        let plan = match request.choice {
            FunctionChoice::Required | FunctionChoice::Named(_) => planner.plan_some_call(&text, earlier.as_deref()),
            _ => planner.plan(&text, earlier.as_deref()),
        };
        let turns: Vec<&Turn> =
            after.iter().filter_map(|entry| if let Entry::Agent(turn) = entry { Some(turn) } else { None }).collect();
        if turns.is_empty() && !plan.calls.is_empty() {
            return Said::Calls(
                plan.calls.iter().map(|call| Call::new(call.function.clone(), call.arguments.clone())).collect(),
            );
        }
        let exchanges: Vec<_> = turns.iter().flat_map(|turn| turn.exchanges()).collect();
        if let Some(schema) = &request.answer
            && let Some(value) = exchanges
                .iter()
                .rev()
                .filter_map(|(_, result)| result.value())
                .find(|value| schema.check(value).is_ok())
        {
            return Said::Text(value.to_string());
        }
        Said::Text(words(&planner, &plan, &exchanges))
    }
}

/// What the model says.
enum Said {
    Text(String),
    Calls(Vec<Call>),
}

fn words(planner: &Planner, plan: &Plan, exchanges: &[(&Call, &agent_core::CallResult)]) -> String {
    let mut lines = answer::from_results(exchanges.iter().copied());
    lines.extend(answer::ask(planner, &plan.asks));
    if lines.is_empty() {
        return answer::capabilities(planner.candidates.iter().map(|candidate| &candidate.spec));
    }
    lines.join("\n")
}

/// The functions that this request allows.
fn allowed(request: &ChatRequest) -> Arc<[FunctionSpec]> {
    match &request.choice {
        FunctionChoice::None => Arc::new([]),
        FunctionChoice::Named(name) => {
            request.functions.iter().filter(|function| function.name == *name).cloned().collect()
        }
        _ => request.functions.clone(),
    }
}

fn user_message(entry: &Entry) -> Option<&UserMessage> {
    match entry {
        Entry::User(message) => Some(message),
        _ => None,
    }
}

#[async_trait]
impl ChatModel for RuleModel {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    async fn stream(&self, request: ChatRequest, _: &RunContext) -> Result<ModelStream, ModelError> {
        let mut chunks = vec![Chunk::Usage(Usage::default())];
        match self.reply(&request) {
            Said::Text(text) => {
                chunks.push(Chunk::Text(text));
                chunks.push(Chunk::Finish(Finish::new(FinishReason::Stop)));
            }
            Said::Calls(calls) => {
                for (call, index) in calls.iter().zip(0..) {
                    chunks.push(Chunk::CallStart { index, id: format!("call-{index}"), name: call.name.to_string() });
                    chunks.push(Chunk::CallArguments { index, text: call.arguments.as_text().to_owned() });
                }
                chunks.push(Chunk::Finish(Finish::new(FinishReason::Calls)));
            }
        }
        Ok(Box::pin(futures_util::stream::iter(chunks.into_iter().map(Ok))))
    }
}

impl fmt::Debug for RuleModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RuleModel")
            .field("synonyms", &self.synonyms)
            .field("today", &self.today)
            .finish_non_exhaustive()
    }
}
