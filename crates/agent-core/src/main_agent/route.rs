//! Before the first turn: a router says which Sub-Agents the request is for.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::builder::{Agent, Callable};
use super::call_state::{Progress, Slot};
use super::drive::Next;
use super::state::{LoopState, Open, Work};
use super::step::Stage;
use crate::agent_error::{AgentError, HANDED_BACK};
use crate::conversation::{Conversation, Entry, Replied};
use crate::event::{EventKind, RequestRouted};
use crate::function::{Effect, FunctionSpec};
use crate::message::{Call, CallResult, Reply, UserPart};
use crate::path::CallPosition;
use crate::route::{RouteDecision, RouteRequest, Routed, Router};
use crate::run_context::RunContext;
use crate::schema::Schema;

/// How an agent uses a router.
pub(super) struct Routing {
    pub(super) router: Arc<dyn Router>,
    /// Whether a clear request is dispatched without asking the model.
    pub(super) dispatches: bool,
}

/// The slot of the router in its turn, which no call has.
const ROUTER: u32 = u32::MAX;

/// What is said of an earlier conversation to a Sub-Agent that gets a follow-up, in entries and in bytes.
const MOST_ENTRIES: usize = 4;
const MOST_BYTES: usize = 2_000;

/// Chooses the Sub-Agents that the model sees, and calls them at once where the request is clear.
pub(super) async fn route(
    agent: &Agent,
    routing: &Routing,
    state: &mut LoopState,
    cx: &RunContext,
) -> Result<Option<Next>, AgentError> {
    let conversation = state.work.conversation();
    let Some(message) = conversation.last_user_message().map(|message| message.joined_text()) else {
        state.shown = Some(Arc::new([]));
        return Ok(None);
    };
    let usable: Vec<&FunctionSpec> =
        agent.specs.iter().filter(|spec| routing.lets_use(agent, &spec.name, cx)).collect();
    let in_charge = in_charge(agent, conversation).filter(|name| routing.lets_use(agent, name, cx));
    let request = RouteRequest { in_charge: in_charge.as_deref(), ..RouteRequest::new(&message, &usable) };
    // What models say to the router is no part of the answer: its events have a path of their own.
    let aside = cx.for_work(CallPosition { turn: state.turn, slot: ROUTER }, None);
    let decision = cx.unless_stopped(routing.router.route(request, &aside)).await?;
    let usable: Vec<Arc<str>> = usable.iter().map(|spec| spec.name.clone()).collect();
    let most = agent.bounds.shortlist as usize;
    state.shown = Some(shortlist(&decision, usable, in_charge, most));
    let calls = if routing.dispatches { calls(agent, &decision, &message, state, cx) } else { Vec::new() };
    let (shown, dispatched) = (state.shown.as_ref().map_or(0, |shown| shown.len()), !calls.is_empty());
    cx.emit_kind(|| EventKind::Routed(Box::new(RequestRouted::new(&decision, shown, dispatched))));
    Ok(dispatched.then(|| dispatch(agent, state, calls, cx)).flatten())
}

impl Routing {
    /// Whether this is a Sub-Agent that the caller may use.
    fn lets_use(&self, agent: &Agent, name: &str, cx: &RunContext) -> bool {
        is_sub_agent(agent, name) && self.may_use(name, cx)
    }

    pub(super) fn may_use(&self, name: &str, cx: &RunContext) -> bool {
        self.router.may_use(name, cx.caller())
    }
}

/// The Sub-Agents that the model sees: all where they are few, else the best, the one in charge with them.
fn shortlist(
    decision: &RouteDecision,
    usable: Vec<Arc<str>>,
    in_charge: Option<Arc<str>>,
    most: usize,
) -> Arc<[Arc<str>]> {
    if usable.len() <= most {
        return usable.into();
    }
    let candidates = decision.candidates.iter().map(|candidate| candidate.agent.clone());
    let mut shown: Vec<Arc<str>> = Vec::new();
    let best = decision.agents().map(|routed| routed.agent.clone()).chain(in_charge).chain(candidates);
    for name in best {
        if shown.len() < most && usable.contains(&name) && !shown.contains(&name) {
            shown.push(name);
        }
    }
    if shown.is_empty() {
        // Nothing is known about the request: some are better than none.
        shown.extend(usable.into_iter().take(most));
    }
    shown.into()
}

/// The Sub-Agent that was called last in the turns before the request, and did not hand back.
fn in_charge(agent: &Agent, conversation: &Conversation) -> Option<Arc<str>> {
    let (call, result) = made(conversation.entries()).filter(|(call, _)| is_sub_agent(agent, &call.name)).last()?;
    (!is_handed_back(result)).then(|| call.name.clone())
}

fn is_sub_agent(agent: &Agent, name: &str) -> bool {
    matches!(agent.functions.get(name), Some(Callable::Agent(_)))
}

fn is_handed_back(result: &CallResult) -> bool {
    result.failure().is_some_and(|failure| failure.code.as_str() == HANDED_BACK)
}

/// The calls that a clear request is dispatched with: none where one of them could not be filled, or changes something by itself.
fn calls(agent: &Agent, decision: &RouteDecision, message: &str, state: &LoopState, cx: &RunContext) -> Vec<Call> {
    let conversation = state.work.conversation();
    let call = |routed: &Routed| {
        let spec = agent.functions.get(&routed.agent)?.spec();
        let is_harmless = matches!(spec.effect, Effect::ReadOnly | Effect::Delegated);
        if !is_harmless || !agent.routing.as_ref()?.lets_use(agent, &spec.name, cx) {
            return None;
        }
        let whole = || {
            let text = with_earlier(routed.part.as_deref().unwrap_or(message), conversation);
            Some(Value::Object(Map::from_iter([(only_text(&spec.input)?.to_owned(), Value::String(text))])))
        };
        let arguments = routed.input.clone().or_else(whole)?;
        spec.input.check(&arguments).is_ok().then(|| Call::new(spec.name.clone(), arguments))
    };
    // The model still has to answer, and an attachment is for whoever can see it.
    let is_text = |part: &UserPart| matches!(part, UserPart::Text { .. });
    let fits = conversation.last_user_message().is_some_and(|message| message.parts.iter().all(is_text));
    let routed = if fits && agent.bounds.turns > 1 { decision.clear() } else { &[] };
    routed.iter().map(call).collect::<Option<_>>().unwrap_or_default()
}

/// The field of an input that takes one text and needs nothing else.
fn only_text(input: &Schema) -> Option<&str> {
    let schema = input.as_value();
    let (fields, required) = (schema.get("properties")?.as_object()?, schema.get("required")?.as_array()?);
    let [Value::String(field)] = &required[..] else { return None };
    (fields.get(field)?.get("type")? == "string").then_some(field)
}

/// A request, with what was said before it, which the Sub-Agent does not see otherwise.
fn with_earlier(request: &str, conversation: &Conversation) -> String {
    let entries = conversation.entries();
    let before = entries.get(..entries.len().saturating_sub(1)).unwrap_or_default();
    let said = before.iter().rev().map(|entry| match entry {
        Entry::User(message) => ("user", message.joined_text()),
        Entry::Agent(turn) => ("agent", turn.reply().joined_text()),
    });
    let mut left = MOST_BYTES;
    let mut lines: Vec<String> = Vec::new();
    for (who, text) in said.filter(|(_, text)| !text.trim().is_empty()).take(MOST_ENTRIES) {
        let text = text.get(..text.floor_char_boundary(left)).unwrap_or(&text);
        left -= text.len();
        lines.push(format!("{who}: {text}"));
    }
    if lines.is_empty() {
        return request.to_owned();
    }
    lines.reverse();
    format!("{request}\n\nWhat was said before:\n{}", lines.join("\n"))
}

/// Makes these calls the work of the first turn, as if the model had made them.
fn dispatch(agent: &Agent, state: &mut LoopState, calls: Vec<Call>, cx: &RunContext) -> Option<Next> {
    let conversation = state.work.conversation().clone();
    let Replied::Calls(turn) = conversation.reply(Arc::new(Reply::calls(calls))) else { return None };
    state.turn_begun = true;
    state.attempts_left = agent.bounds.attempts;
    let number = state.turn;
    cx.emit_kind(|| EventKind::TurnStarted { turn: number });
    let slots = turn.results().iter().map(|_| Slot::Ready(Progress::default())).collect();
    state.work = Work::Open(Box::new(Open { turn, slots }));
    Some(Next::Stage(Stage::Act))
}

/// The functions that the model sees: all, or the tools and the Sub-Agents of the short list that did not hand back.
pub(super) fn shown(agent: &Agent, state: &LoopState) -> Arc<[FunctionSpec]> {
    let (Some(_), Some(shown)) = (&agent.routing, &state.shown) else { return agent.specs.clone() };
    let handed_back = handed_back(state);
    let is_over = handed_back.len() >= agent.bounds.hand_backs as usize;
    let is_shown = |spec: &&FunctionSpec| {
        let is_left = || !is_over && shown.contains(&spec.name) && !handed_back.contains(&spec.name);
        !is_sub_agent(agent, &spec.name) || is_left()
    };
    agent.specs.iter().filter(is_shown).cloned().collect()
}

/// The Sub-Agents that handed this run's request back.
fn handed_back(state: &LoopState) -> BTreeSet<Arc<str>> {
    let entries = state.work.conversation().entries();
    let calls = made(entries.get(state.said_before..).unwrap_or_default());
    let handed_back = calls.filter(|(_, result)| is_handed_back(result));
    handed_back.map(|(call, _)| call.name.clone()).collect()
}

/// The calls that were made, with what came of them.
fn made(entries: &[Entry]) -> impl Iterator<Item = (&Call, &CallResult)> {
    let turns = entries.iter().filter_map(|entry| if let Entry::Agent(turn) = entry { Some(turn) } else { None });
    turns.flat_map(|turn| turn.reply().each_call().zip(turn.results()))
}
