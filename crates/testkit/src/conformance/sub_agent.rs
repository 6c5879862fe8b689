//! The suite for [`SubAgent`].

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use agent_core::{
    AgentCard, AgentError, AgentVersion, Answer, Begin, EventKind, Outcome, Pending, PendingKind, RunContext, Spend,
    SubAgent, Suspension,
};
use serde_json::Value;

use super::answers::{Say, agree, answer, deny};
use super::host::{Host, Life, Lived, Make};
use super::support::{abandon, brief, can_be_answered, ends, saved};
use crate::{Recorder, caller, somebody};

/// How many answers an agent may need until it is done.
const MOST_LIVES: usize = 64;

/// How long a suite listens for work that goes on after it was dropped.
const SILENCE: Duration = Duration::from_millis(100);

/// Checks a [`SubAgent`] with an input that it takes: `sub_agent(agent, json!({"order": "A-1042"})).await`.
///
/// The suite calls the agent in runs of a Main Agent and answers what it waits for, one thing at a time: in one run everything is
/// approved, in another one denied. It answers as people who have the roles that the card requires, and follows a run as far as
/// these may answer.
///
/// - A model can call it: the card's name and schemas are valid. The card always says the same.
/// - A life ends with an outcome or an [`AgentError`], and not by a panic. Nothing is left reserved of its budget.
/// - What it completes with fits the card's output schema.
/// - What it waits for is of its own run and at its own place or below, each under an id of its own, on behalf of the run's
///   caller, and an answer can fit it.
/// - Its state is of its card's agent and version. State and pendings come back equal from JSON.
/// - It comes to an end after at most 64 answers. What was answered does not come back; what has completed is not run again.
/// - It keeps nothing but its state: a copy of a state can be resumed too, and other runs in between change nothing.
/// - A state of another version is refused with [`AgentError::State`], unless [`SubAgent::migrate`] brings it over.
/// - Dropping the future at any await stops everything that it began.
///
/// That every model is called through [`complete`](agent_core::complete), a suite cannot see.
///
/// # Panics
///
/// When a rule is broken, or when `input` does not fit the card's schema.
pub async fn sub_agent(agent: impl SubAgent + 'static, input: Value) {
    let agent: Arc<dyn SubAgent> = Arc::new(agent);
    check(Arc::new(move || agent.clone()), input).await;
}

/// Checks a [`SubAgent`] as [`sub_agent`] does, and resumes it by instances that it was not begun by, as another process would.
///
/// # Panics
///
/// When a rule is broken, or when `input` does not fit the card's schema.
pub async fn sub_agent_from<A: SubAgent + 'static>(make: impl Fn() -> A + Send + Sync + 'static, input: Value) {
    check(Arc::new(move || -> Arc<dyn SubAgent> { Arc::new(make()) }), input).await;
}

async fn check(make: Make, input: Value) {
    let fits = make().card().function.input.check(&input);
    fits.unwrap_or_else(|violation| panic!("the input that is given to the suite fits the card: {violation}"));
    let host = Host::new(make, input);
    for say in [agree, deny] {
        it_comes_to_an_end(&host, say).await;
    }
    a_copy_can_be_resumed(&host).await;
    another_version_is_refused(&host).await;
    dropping_stops_everything(&host).await;
    let card = host.agent().card().clone();
    assert!(card == host.card, "`card` always says the same; it said {:?} and then {card:?}", host.card);
}

async fn it_comes_to_an_end(host: &Host, say: Say) {
    let recorder = Recorder::new();
    let Lived { mut life, mut state } = host.begin(caller(), &recorder).await;
    for _ in 0..MOST_LIVES {
        a_life_keeps_the_rules(&host.card, &life, &recorder);
        // Another run in between: an agent that keeps something of its last life would take that for its own.
        host.begin(somebody("globex", "ben"), &Recorder::new()).await;
        let Some(suspended) = state.take() else { return what_completed_is_not_run_again(&recorder) };
        let answer = answer(&host.card, &suspended, say);
        host.renew();
        let Ok(lived) = host.resume(&suspended, answer.clone(), &recorder).await else { return };
        if let (Some(answer), Some(Ok(Outcome::Suspended(suspension)))) = (answer, &lived.life.ended) {
            let again = suspension.pending.iter().any(|pending| pending.id == answer.pending);
            assert!(!again, "what was answered does not come back; {} does", answer.pending);
        }
        Lived { life, state } = lived;
    }
    panic!("an agent comes to an end; this one still waits after {MOST_LIVES} answers");
}

fn a_life_keeps_the_rules(card: &AgentCard, life: &Life, recorder: &Recorder) {
    match &life.ended {
        Some(Ok(Outcome::Completed(value))) => {
            let fits = card.function.output.as_ref().map_or(Ok(()), |schema| schema.check(value));
            fits.unwrap_or_else(|violation| {
                panic!("what it completes with fits the card's output schema: {violation}")
            });
        }
        Some(Ok(Outcome::Suspended(suspension))) => {
            a_suspension_is_its_own(card, &life.cx, suspension);
        }
        _ => {}
    }
    let reserved = life.cx.lease().reserved();
    let is_free = reserved == Spend::ZERO || waits_for_a_durable_call(recorder);
    assert!(is_free, "nothing is left reserved after a life; {reserved:?} is");
}

fn a_suspension_is_its_own(card: &AgentCard, cx: &RunContext, suspension: &Suspension) {
    let Suspension { state, pending, runnable, .. } = suspension;
    let (agent, version) = (&state.agent, &state.version);
    assert!(state.is_of(card), "a state is of its card's agent and version; it is of `{agent}`, version {version}");
    assert!(*runnable || !pending.is_empty(), "a suspended agent waits for something, or can go on");
    saved("a suspension", suspension);
    let mut ids = HashSet::new();
    for Pending { id, agents, requested_by, kind, .. } in pending {
        let is_inside = id.run == cx.run_id() && id.path.starts_with(cx.path()) && agents.starts_with(cx.agents());
        assert!(is_inside, "what an agent waits for is of its own run and place; {id} is not, the place is {cx:?}");
        assert!(requested_by == cx.caller(), "what is waited for is on behalf of the run's caller; {id} is not");
        assert!(ids.insert(id), "each thing that is waited for has an id of its own; {id} comes twice");
        can_be_answered(&format!("what is waited for at {id}"), kind);
    }
}

fn what_completed_is_not_run_again(recorder: &Recorder) {
    let mut completed = HashSet::new();
    for event in recorder.events() {
        match event.kind {
            EventKind::CallFinished { .. } => drop(completed.insert(event.path().clone())),
            EventKind::CallStarted { ref function, .. } => {
                let path = event.path().clone();
                assert!(!completed.contains(&path), "what has completed is not run again; `{function}` at {path} is");
            }
            _ => {}
        }
    }
}

async fn a_copy_can_be_resumed(host: &Host) {
    let recorder = Recorder::new();
    let Some(state) = host.begin(caller(), &recorder).await.state else { return };
    let answer = answer(&host.card, &state, agree);
    let Ok(first) = host.resume(&state, answer.clone(), &recorder).await else { return };
    host.renew();
    let Ok(copy) = host.resume(&state, answer, &recorder).await else { return };
    if let (Some(Ok(_)), Some(Err(code))) = (first.life.ended, copy.life.ended) {
        panic!("an agent keeps nothing but its state; a copy of the state cannot be resumed: {code}");
    }
}

async fn another_version_is_refused(host: &Host) {
    let Life { cx, ended } = host.begin(caller(), &Recorder::new()).await.life;
    let Some(Ok(Outcome::Suspended(Suspension { mut state, pending, .. }))) = ended else { return };
    state.version = AgentVersion::new("conformance-other").expect("a valid version");
    let agent = host.agent();
    match agent.migrate(state.clone()) {
        Ok(migrated) => {
            let version = &migrated.version;
            assert!(migrated.is_of(&host.card), "a migrated state is of the card's version; it is of {version}");
        }
        Err(_) => {
            let answers = pending.first().map(|pending| Answer::new(pending.id.clone(), caller(), agree(pending)));
            let begin = Begin::Resume { state, answers: answers.into_iter().collect() };
            let resumed = ends("an agent that is resumed", agent.run(begin, &cx)).await;
            let is_refused = matches!(resumed, Err(AgentError::State(_)));
            assert!(is_refused, "a state of another version is refused as such; it was resumed: {}", brief(&resumed));
        }
    }
}

/// Whether budget was set aside, which is held as long as anybody has the run's context: the suite has it.
fn waits_for_a_durable_call(recorder: &Recorder) -> bool {
    let is_durable = |pending: &Pending| matches!(pending.kind, PendingKind::DurableCall { .. });
    recorder.events().iter().any(|event| matches!(&event.kind, EventKind::Waiting { pending } if is_durable(pending)))
}

async fn dropping_stops_everything(host: &Host) {
    for awaits in 1..=16 {
        let recorder = Recorder::new();
        let has_more = abandon("a dropped run", awaits, host.run(caller(), &recorder)).await;
        // A drop before the agent was called is none of its own.
        let Some(Life { cx, .. }) = host.last_life() else { continue };
        let at_once = (recorder.events().len(), cx.lease().spent());
        let reserved = cx.lease().reserved();
        let is_free = reserved == Spend::ZERO || waits_for_a_durable_call(&recorder);
        assert!(is_free, "dropping stops everything; {reserved:?} is still reserved");
        tokio::time::sleep(SILENCE).await;
        let later = (recorder.events().len(), cx.lease().spent());
        assert!(at_once == later, "dropping stops everything; events and spend went from {at_once:?} to {later:?}");
        if !has_more {
            break;
        }
    }
    let recorder = Recorder::new();
    let after = host.begin(caller(), &recorder).await.life;
    a_life_keeps_the_rules(&host.card, &after, &recorder);
}
