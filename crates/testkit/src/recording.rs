//! Functions that record their calls.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use agent_core::{
    AgentCard, AgentError, AgentState, Approval, Begin, CallError, CallResult, Effect, FunctionSpec, Outcome,
    PendingKind, RunContext, Schema, SubAgent, Suspension, Tool, ToolOutput,
};
use async_trait::async_trait;
use serde_json::{Value, json};

/// A tool that records its calls and behaves as told. Clones share the record.
#[derive(Clone, Debug)]
pub struct RecordingTool {
    spec: FunctionSpec,
    behaviour: Behaviour,
    calls: Arc<Mutex<Vec<Recorded>>>,
    reconciled: Option<CallResult>,
}

/// One call of a [`RecordingTool`].
#[derive(Clone, Debug)]
struct Recorded {
    input: Value,
    key: String,
    tenant: String,
    completed: bool,
}

#[derive(Clone, Debug)]
enum Behaviour {
    Return(Value),
    Tell(String),
    Break,
    Panic,
    Hang,
    Delay(Duration, Value),
    /// Yields to the executor that many times before it returns.
    Yield(u32, Value),
    Wait(PendingKind),
}

impl RecordingTool {
    /// A tool of this name that takes any object and returns `"ok"`. It has an effect.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let spec = FunctionSpec::new(name, format!("Records calls of {name}"), Schema::object())
            .with_effect(Effect::AtMostOnce);
        Self { spec, behaviour: Behaviour::Return(json!("ok")), calls: Arc::default(), reconciled: None }
    }

    /// The same, described like this.
    #[must_use]
    pub fn with_spec(mut self, change: impl FnOnce(FunctionSpec) -> FunctionSpec) -> Self {
        self.spec = change(self.spec);
        self
    }

    /// The same, with a hint that a person has to approve each call.
    #[must_use]
    pub fn needing_approval(self) -> Self {
        self.with_spec(|spec| spec.with_approval(Approval::Needed))
    }

    /// The same, returning this.
    #[must_use]
    pub fn returning(self, value: Value) -> Self {
        self.behaving(Behaviour::Return(value))
    }

    /// The same, failing with words for the model.
    #[must_use]
    pub fn telling(self, message: &str) -> Self {
        self.behaving(Behaviour::Tell(message.to_owned()))
    }

    /// The same, failing with an internal error.
    #[must_use]
    pub fn breaking(self) -> Self {
        self.behaving(Behaviour::Break)
    }

    /// The same, panicking.
    #[must_use]
    pub fn panicking(self) -> Self {
        self.behaving(Behaviour::Panic)
    }

    /// The same, never returning.
    #[must_use]
    pub fn hanging(self) -> Self {
        self.behaving(Behaviour::Hang)
    }

    /// The same, returning this after a while.
    #[must_use]
    pub fn returning_after(self, delay: Duration, value: Value) -> Self {
        self.behaving(Behaviour::Delay(delay, value))
    }

    /// The same, returning this after it was polled that often, without any clock.
    #[must_use]
    pub fn returning_after_polls(self, polls: u32, value: Value) -> Self {
        self.behaving(Behaviour::Yield(polls, value))
    }

    /// The same, waiting for an answer of this kind.
    #[must_use]
    pub fn waiting(self, kind: PendingKind) -> Self {
        self.behaving(Behaviour::Wait(kind))
    }

    /// The same, knowing what became of calls with an unknown outcome.
    #[must_use]
    pub fn reconciling(mut self, result: CallResult) -> Self {
        self.reconciled = Some(result);
        self
    }

    fn behaving(mut self, behaviour: Behaviour) -> Self {
        self.behaviour = behaviour;
        self
    }

    /// The inputs of all calls that began.
    #[must_use]
    pub fn inputs(&self) -> Vec<Value> {
        self.recorded(|call| call.input.clone())
    }

    /// The idempotency keys of all calls that began.
    #[must_use]
    pub fn keys(&self) -> Vec<String> {
        self.recorded(|call| call.key.clone())
    }

    /// The tenants of all calls that began.
    #[must_use]
    pub fn tenants(&self) -> Vec<String> {
        self.recorded(|call| call.tenant.clone())
    }

    /// How many calls were not dropped before their end.
    #[must_use]
    pub fn completed(&self) -> usize {
        self.calls.lock().unwrap().iter().filter(|call| call.completed).count()
    }

    fn recorded<T>(&self, of: impl Fn(&Recorded) -> T) -> Vec<T> {
        self.calls.lock().unwrap().iter().map(of).collect()
    }
}

#[async_trait]
impl Tool for RecordingTool {
    fn spec(&self) -> &FunctionSpec {
        &self.spec
    }

    async fn call(&self, input: &Value, cx: &RunContext) -> Result<ToolOutput, CallError> {
        let place = {
            let mut calls = self.calls.lock().unwrap();
            let (key, tenant) = (cx.idempotency_key(), cx.caller().tenant.to_string());
            calls.push(Recorded { input: input.clone(), key, tenant, completed: false });
            calls.len() - 1
        };
        let output = match self.behaviour.clone() {
            Behaviour::Return(value) => Ok(ToolOutput::Done(value)),
            Behaviour::Tell(message) => Err(CallError::Tell(message)),
            Behaviour::Break => Err(std::io::Error::other("db-7.internal:5432 refused the password hunter2").into()),
            Behaviour::Panic => panic!("a recording tool was told to panic"),
            Behaviour::Hang => std::future::pending().await,
            Behaviour::Delay(delay, value) => {
                tokio::time::sleep(delay).await;
                Ok(ToolOutput::Done(value))
            }
            Behaviour::Yield(polls, value) => {
                for _ in 0..polls {
                    yield_once().await;
                }
                Ok(ToolOutput::Done(value))
            }
            Behaviour::Wait(kind) => Ok(ToolOutput::Waits(kind)),
        };
        if let Some(call) = self.calls.lock().unwrap().get_mut(place) {
            call.completed = true;
        }
        output
    }

    async fn reconcile(&self, _: &Value, _: &RunContext) -> Option<CallResult> {
        self.reconciled.clone()
    }
}

/// Is pending once and wakes at once, on any executor.
pub async fn yield_once() {
    let mut yielded = false;
    std::future::poll_fn(|task| {
        if std::mem::replace(&mut yielded, true) {
            return std::task::Poll::Ready(());
        }
        task.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}

/// A user-written Sub-Agent that waits for each of its questions at once and completes with all answers, by name. Clones share the
/// record of its lives.
#[derive(Clone, Debug)]
pub struct RecordingAgent {
    card: AgentCard,
    questions: Vec<(String, PendingKind)>,
    lives: Arc<Mutex<Vec<Value>>>,
}

impl RecordingAgent {
    /// An agent of this name that takes any object and asks these questions.
    #[must_use]
    pub fn new(name: &str, questions: impl IntoIterator<Item = (&'static str, PendingKind)>) -> Self {
        let function = FunctionSpec::new(name, format!("Asks what {name} needs to know"), Schema::object())
            .with_effect(Effect::AtMostOnce);
        let questions = questions.into_iter().map(|(name, kind)| (name.to_owned(), kind)).collect();
        Self { card: AgentCard::new(function), questions, lives: Arc::default() }
    }

    /// The same, described like this.
    #[must_use]
    pub fn with_card(mut self, change: impl FnOnce(AgentCard) -> AgentCard) -> Self {
        self.card = change(self.card);
        self
    }

    /// What it was begun or resumed with, oldest first: its input, or the names of what was answered.
    #[must_use]
    pub fn lives(&self) -> Vec<Value> {
        self.lives.lock().unwrap().clone()
    }
}

#[async_trait]
impl SubAgent for RecordingAgent {
    fn card(&self) -> &AgentCard {
        &self.card
    }

    async fn run(&self, begin: Begin, cx: &RunContext) -> Result<Outcome, AgentError> {
        let mut known = match begin {
            Begin::Start { input } => {
                self.lives.lock().unwrap().push((*input).clone());
                serde_json::Map::new()
            }
            Begin::Resume { state, answers } => {
                state.ensure_fits(&self.card, 1)?;
                let names: Vec<&str> = answers.iter().map(|answer| &*answer.pending.name).collect();
                self.lives.lock().unwrap().push(json!(names));
                let mut known = state.body.as_object().cloned().unwrap_or_default();
                for answer in answers {
                    let value = answer.value.into_result().to_model_value();
                    known.insert(answer.pending.name.to_string(), (*value).clone());
                }
                known
            }
        };
        let open = self.questions.iter().filter(|(name, _)| !known.contains_key(name));
        let pending: Vec<_> = open.map(|(name, kind)| cx.pending(name.as_str(), kind.clone())).collect();
        if pending.is_empty() {
            return Ok(Outcome::Completed(Value::Object(std::mem::take(&mut known))));
        }
        let state = AgentState::new(&self.card, 1, Value::Object(known));
        Ok(Outcome::Suspended(Suspension::waiting(state, pending)))
    }
}
