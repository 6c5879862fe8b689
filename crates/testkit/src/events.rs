//! Events that can be compared.

use std::sync::{Arc, Mutex};

use agent_core::{Event, EventKind, Observer};

/// An observer that keeps all events. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Recorder {
    events: Arc<Mutex<Vec<Event>>>,
}

impl Recorder {
    /// A recorder that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// All events so far, as they came.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        self.events.lock().unwrap().clone()
    }
}

impl Observer for Recorder {
    fn observe(&self, event: &Event) {
        self.events.lock().unwrap().push(event.clone());
    }
}

/// The same events with the deltas of each series joined, by path and number: two readers of one run get equal lists, however
/// fast they read.
#[must_use]
pub fn joined(events: impl IntoIterator<Item = Event>) -> Vec<Event> {
    let mut joined: Vec<Event> = Vec::new();
    for event in events {
        let series = joined.iter_mut().find(|earlier| earlier.path() == event.path() && earlier.n == event.n);
        match (series.map(|earlier| &mut earlier.kind), &event.kind) {
            (Some(EventKind::Delta { text, .. }), EventKind::Delta { text: more, offset, .. }) => {
                assert_eq!(text.len(), *offset, "a delta is missing or came twice");
                text.push_str(more);
            }
            (Some(earlier), kind) => panic!("two events of one identity: {earlier:?} and {kind:?}"),
            (None, _) => joined.push(event),
        }
    }
    joined.sort_by(|one, other| (one.path(), one.n).cmp(&(other.path(), other.n)));
    joined
}

/// The events as short lines, `path event`, which are the same in every run of one script.
#[must_use]
pub fn story(events: impl IntoIterator<Item = Event>) -> Vec<String> {
    joined(events).iter().map(|event| format!("{} {}", event.path(), line(&event.kind))).collect()
}

fn line(kind: &EventKind) -> String {
    match kind {
        EventKind::Started { agent, resumed: false } => format!("started {agent}"),
        EventKind::Started { agent, .. } => format!("resumed {agent}"),
        EventKind::Answered { answer } => format!("answered {} with {}", answer.pending.name, answer.value.name()),
        EventKind::TurnStarted { turn } => format!("turn {turn}"),
        EventKind::Fitted { before, after } => format!("fitted: {before} to {after}"),
        EventKind::ModelStarted { step: None, .. } => "model started".to_owned(),
        EventKind::ModelStarted { step: Some(step), .. } => format!("model started: step {step}"),
        EventKind::StepSkipped { step, code } => format!("skipped {step}: {code}"),
        EventKind::Delta { part, text, .. } => format!("{part:?} {text:?}"),
        EventKind::ModelFinished(model) => format!("model finished: {}", model.reply.finish.as_str()),
        EventKind::ModelFailed(model) => format!("model failed: {}", model.code),
        EventKind::Repaired { problem } => format!("repaired: {problem}"),
        EventKind::CallStarted { function, arguments } => format!("call {function} {arguments}"),
        EventKind::CallFinished { function, result } => format!("result of {function}: {}", result.to_model_value()),
        EventKind::PolicyDecided { on, verdict, .. } => format!("policy: {verdict:?} {on}"),
        EventKind::Waiting { pending } => format!("waits: {} {}", pending.id.name, pending.kind.name()),
        EventKind::Recovered { code, fallback_path } => format!("recovered from {code} by {fallback_path}"),
        EventKind::NodeStarted { node, step, ordinal } => format!("node {node}, step {step}, task {ordinal}"),
        EventKind::NodeFinished { node, update } => format!("{node} wrote {update}"),
        EventKind::NodeFailed { node, code } => format!("{node} failed: {code}"),
        EventKind::StateChanged { step, state } => format!("state before step {step}: {state}"),
        EventKind::Custom { name, data } => format!("{name} {data}"),
        EventKind::Suspended(ending) => format!("suspended with {} pending", ending.pending.unwrap_or_default()),
        EventKind::Finished(ending) => format!("finished: {}", ending.result_status.as_str()),
        EventKind::Failed(ending) => {
            format!("failed: {}", ending.code.as_ref().map_or("", agent_core::ErrorCode::as_str))
        }
        _ => "something new".to_owned(),
    }
}
