//! Sub-Agents that break a rule.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use agent_core::{
    AgentCard, AgentError, AgentState, Begin, CallPath, Effect, FunctionSpec, MainAgent, Outcome, PendingId,
    PendingKind, RunContext, RunId, Schema, Spend, SubAgent, Suspension, Tokens, async_trait,
};
use serde_json::{Value, json};
use testkit::{FnModel, Line, RecordingAgent, RecordingTool, conformance};

/// An agent that asks one question and then completes, of which one part is wrong.
struct Broken {
    card: AgentCard,
    fault: Fault,
    /// What it should keep in its state.
    kept: Mutex<HashMap<RunId, Value>>,
}

#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    /// Waits for something of another run.
    WaitsForAnother,
    /// Gives two waits one id.
    ReusesAnId,
    /// Waits for nothing.
    WaitsForNothing,
    /// Signs its state with another version.
    MisstatesItsVersion,
    /// Takes any state for its own.
    GuessesAtStates,
    /// Keeps its input in itself.
    KeepsItsInput,
    /// Keeps its input in itself until it needs it.
    KeepsItsInputOnce,
    /// Asks the same again and again.
    ForgetsAnswers,
    /// Always asks something new.
    AsksForEver,
    /// Completes with something else than it says.
    ReturnsSomethingElse,
    /// Never settles what it reserved.
    LeavesAReservation,
    /// Goes on in a task of its own.
    GoesOnAlone,
    Panics,
}

impl Broken {
    fn with(fault: Fault) -> Self {
        let function = FunctionSpec::new("clerk", "Asks and answers", Schema::object()).with_output(Schema::object());
        Self { card: AgentCard::new(function), fault, kept: Mutex::default() }
    }

    fn suspend(&self, name: &str, body: Value, cx: &RunContext) -> Outcome {
        let mut state = AgentState::new(&self.card, 1, body);
        let mut pending = vec![cx.pending(name, PendingKind::question("Which order?"))];
        match self.fault {
            Fault::WaitsForAnother => pending[0].id = PendingId::new(RunId::random(), CallPath::root(), name),
            Fault::ReusesAnId => pending.extend(pending.clone()),
            Fault::WaitsForNothing => pending.clear(),
            Fault::MisstatesItsVersion => state.version = "next".try_into().unwrap(),
            _ => {}
        }
        Outcome::Suspended(Suspension::waiting(state, pending))
    }
}

#[async_trait]
impl SubAgent for Broken {
    fn card(&self) -> &AgentCard {
        &self.card
    }

    async fn run(&self, begin: Begin, cx: &RunContext) -> Result<Outcome, AgentError> {
        match self.fault {
            Fault::Panics => panic!("a clerk panicked"),
            Fault::LeavesAReservation => {
                let reserved = Spend::of_tokens(Tokens(10));
                std::mem::forget(cx.reserve(reserved).await?);
            }
            Fault::GoesOnAlone => {
                let cx = cx.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    cx.emit("progress", json!(100));
                });
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            _ => {}
        }
        let (state, answers) = match begin {
            Begin::Start { input } => {
                self.kept.lock().unwrap().insert(cx.run_id(), (*input).clone());
                return Ok(self.suspend("order-1", json!({ "asked": 1 }), cx));
            }
            Begin::Resume { state, answers } => (state, answers),
        };
        if self.fault != Fault::GuessesAtStates {
            state.ensure_fits(&self.card, 1)?;
        }
        let asked = state.body["asked"].as_u64().unwrap_or_default() + 1;
        match self.fault {
            Fault::ForgetsAnswers => Ok(self.suspend("order-1", json!({ "asked": 1 }), cx)),
            Fault::AsksForEver => Ok(self.suspend(&format!("order-{asked}"), json!({ "asked": asked }), cx)),
            Fault::ReturnsSomethingElse => Ok(Outcome::Completed(json!("a text"))),
            Fault::KeepsItsInput | Fault::KeepsItsInputOnce => {
                let mut kept = self.kept.lock().unwrap();
                let input = match self.fault {
                    Fault::KeepsItsInputOnce => kept.remove(&cx.run_id()),
                    _ => kept.get(&cx.run_id()).cloned(),
                };
                input.map(Outcome::Completed).ok_or_else(|| AgentError::tell("the input is gone"))
            }
            _ => Ok(Outcome::Completed(json!({ "answers": answers.len() }))),
        }
    }
}

async fn check(fault: Fault) {
    conformance::sub_agent(Broken::with(fault), json!({"order": "A-1042"})).await;
}

#[tokio::test]
async fn whole() {
    check(Fault::None).await;
}

#[tokio::test]
#[should_panic(expected = "a model can call it: name is \"\"")]
async fn has_no_name() {
    conformance::sub_agent(RecordingAgent::new("", []), json!({})).await;
}

#[tokio::test]
#[should_panic(expected = "an agent ends with an outcome or an error; it panicked or was stopped")]
async fn panics() {
    check(Fault::Panics).await;
}

#[tokio::test]
#[should_panic(expected = "what an agent waits for is of its own run and place")]
async fn waits_for_another() {
    check(Fault::WaitsForAnother).await;
}

#[tokio::test]
#[should_panic(expected = "each thing that is waited for has an id of its own")]
async fn reuses_an_id() {
    check(Fault::ReusesAnId).await;
}

#[tokio::test]
#[should_panic(expected = "a suspended agent waits for something, or can go on")]
async fn waits_for_nothing() {
    check(Fault::WaitsForNothing).await;
}

#[tokio::test]
#[should_panic(expected = "a state is of its card's agent and version; it is of `clerk`, version next")]
async fn misstates_its_version() {
    check(Fault::MisstatesItsVersion).await;
}

#[tokio::test]
#[should_panic(expected = "a state of another version is refused as such; it was resumed: Ok(Completed(")]
async fn guesses_at_states() {
    check(Fault::GuessesAtStates).await;
}

#[tokio::test]
#[should_panic(expected = "an agent keeps nothing but its state; a copy of the state cannot be resumed: call.failed")]
async fn keeps_its_input_once() {
    check(Fault::KeepsItsInputOnce).await;
}

#[tokio::test]
#[should_panic(expected = "an agent keeps nothing but its state; a copy of the state cannot be resumed: call.failed")]
async fn keeps_its_input() {
    // One instance always finds what it kept.
    check(Fault::KeepsItsInput).await;
    conformance::sub_agent_from(|| Broken::with(Fault::KeepsItsInput), json!({"order": "A-1042"})).await;
}

#[tokio::test]
#[should_panic(expected = "what was answered does not come back")]
async fn forgets_answers() {
    check(Fault::ForgetsAnswers).await;
}

#[tokio::test]
#[should_panic(expected = "an agent comes to an end; this one still waits after 64 answers")]
async fn asks_for_ever() {
    check(Fault::AsksForEver).await;
}

#[tokio::test]
#[should_panic(expected = "what it completes with fits the card's output schema")]
async fn returns_something_else() {
    check(Fault::ReturnsSomethingElse).await;
}

#[tokio::test]
#[should_panic(expected = "nothing is left reserved after a life")]
async fn leaves_a_reservation() {
    check(Fault::LeavesAReservation).await;
}

#[tokio::test]
#[should_panic(expected = "dropping stops everything; events and spend went from")]
async fn goes_on_alone() {
    check(Fault::GoesOnAlone).await;
}

/// Does everything again when it is resumed, and does not ask this time.
struct Restarts {
    first: MainAgent,
    again: MainAgent,
}

#[async_trait]
impl SubAgent for Restarts {
    fn card(&self) -> &AgentCard {
        self.first.card()
    }

    async fn run(&self, begin: Begin, cx: &RunContext) -> Result<Outcome, AgentError> {
        match begin {
            Begin::Resume { state, .. } => {
                state.ensure_fits(self.card(), 1)?;
                let input = json!({"request": "Refund A-1042"}).into();
                SubAgent::run(&self.again, Begin::Start { input }, cx).await
            }
            begin => SubAgent::run(&self.first, begin, cx).await,
        }
    }
}

#[tokio::test]
#[should_panic(expected = "what has completed is not run again; `lookup` at /0.0/0.0 is")]
async fn restarts() {
    let desk = |asks: bool| {
        let model = FnModel::new(move |request| match (request.conversation.entries().len(), asks) {
            (1, _) => Line::call("lookup", json!({})),
            (2, true) => Line::call("ask", json!({})),
            _ => Line::text("Done."),
        });
        let lookup = RecordingTool::new("lookup").with_spec(|spec| spec.with_effect(Effect::ReadOnly));
        let ask = RecordingTool::new("ask").waiting(PendingKind::question("Which order?"));
        MainAgent::builder("desk", model).tool(lookup).tool(ask).build().unwrap()
    };
    let agent = Restarts { first: desk(true), again: desk(false) };
    conformance::sub_agent(agent, json!({"request": "Refund A-1042"})).await;
}
