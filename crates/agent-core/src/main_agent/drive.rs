//! The loop itself: one step after the other, until the agent is done or has to wait.

use std::sync::Arc;

use serde_json::Value;

use super::builder::Agent;
use super::conclude::ensure_fits;
use super::state::{Concluded, Draft, LoopState, Wait, Work};
use super::step::{Flow, Stage, StepView};
use super::{act, admit, conclude, fit, route, think};
use crate::agent_error::AgentError;
use crate::event::EventKind;
use crate::message::{CallResult, Reply};
use crate::model::{ModelError, ModelErrorClass};
use crate::pending::{Answer, AnswerValue, PendingKind};
use crate::provenance::{Level, Provenance};
use crate::recovery::Recovered;
use crate::run_context::RunContext;
use crate::run_state::ResumeError;

/// How a stretch of the loop ends, unless it fails.
#[derive(Debug)]
pub(super) enum Ended {
    /// With a result.
    Concluded(Concluded),
    /// It waits, or was drained.
    Suspended,
}

/// What follows a step of the loop.
#[derive(Debug)]
pub(super) enum Next {
    /// The next row of the table.
    Row,
    /// The first row of this stage.
    Stage(Stage),
    /// The run is suspended: the state says what for.
    Suspend,
}

/// One life of an agent, from its start or from a saved state with answers, until it is done or has to wait.
pub(super) async fn live(
    agent: &Agent,
    state: &mut LoopState,
    revived: Option<Vec<Answer>>,
    cx: &RunContext,
) -> Result<Ended, AgentError> {
    let resumed = revived.is_some();
    cx.emit_kind(|| EventKind::Started { agent: agent.card.id().clone(), resumed });
    let answers = revived.unwrap_or_default();
    state.take_answers(answers, cx.path()).map_err(|pending| ResumeError::NotPending { pending })?;
    // A person's answer in the agent's place is the last resort.
    let is_last_resort = state.wait.as_ref().is_some_and(|wait| wait.for_recovery);
    let may_be_recovered = !is_last_resort && state.concluded.is_none() && agent.recovery.needs_time();
    if may_be_recovered && let Some(in_time) = cx.without_last_part() {
        // Boxed, as most agents have no such recovery, and many runs are held here.
        return Box::pin(live_in_time(agent, state, in_time, cx)).await;
    }
    let driven = drive(agent, state, cx).await;
    if is_last_resort { driven } else { or_recovered(agent, state, driven, cx).await }
}

/// The same in less time: the last part of it is the recovery's.
async fn live_in_time(
    agent: &Agent,
    state: &mut LoopState,
    in_time: RunContext,
    cx: &RunContext,
) -> Result<Ended, AgentError> {
    match in_time.within_deadline(drive(agent, state, &in_time)).await.unwrap_or_else(Err) {
        Err(AgentError::Deadline) if state.concluded.is_none() => {
            cx.ensure_may_go_on()?;
            in_time.end();
            // What was in flight may have had an effect.
            state.stop(cx, agent.bounds.attempts);
            let late = ModelError::new(ModelErrorClass::TimedOut, "the agent's work was not done in time").into();
            match recover(agent, state, late, cx).await {
                // Nobody has an answer.
                Err(AgentError::Model(error)) if error.class == ModelErrorClass::TimedOut => Err(AgentError::Deadline),
                ended => ended,
            }
        }
        driven => or_recovered(agent, state, driven, cx).await,
    }
}

/// What the agent ended with, or, where it failed, what its recovery makes of that.
async fn or_recovered(
    agent: &Agent,
    state: &mut LoopState,
    driven: Result<Ended, AgentError>,
    cx: &RunContext,
) -> Result<Ended, AgentError> {
    match driven {
        Err(failed) if can_recover(&failed) && state.concluded.is_none() => {
            Box::pin(recover(agent, state, failed, cx)).await
        }
        ended => ended,
    }
}

/// Asks whether another level answers in the agent's place. Its answer is checked by the policy as the model's would be.
async fn recover(
    agent: &Agent,
    state: &mut LoopState,
    failed: AgentError,
    cx: &RunContext,
) -> Result<Ended, AgentError> {
    let recovered = (*agent.recovery).recover(&failed, state.work.conversation(), cx).await;
    let recovered = match (recovered, &failed) {
        // A chain of models that ends with a person.
        (Recovered::Fail, AgentError::Model(error)) if error.class == ModelErrorClass::NeedsHuman => {
            Recovered::Ask(PendingKind::question(&*error.message))
        }
        (recovered, _) => recovered,
    };
    match recovered {
        Recovered::Fail => Err(failed),
        Recovered::Answer(output) => {
            let provenance = fallen_back(agent, state, Level::Rule);
            tell_recovered(cx, &failed, &provenance);
            fall_back_to(agent, state, output, provenance);
            drive(agent, state, cx).await
        }
        Recovered::Ask(kind) => {
            tell_recovered(cx, &failed, &fallen_back(agent, state, Level::Human));
            wait_for(state, RECOVERY, kind, cx);
            Ok(Ended::Suspended)
        }
    }
}

/// The name of what a recovery asks a person.
const RECOVERY: &str = "recovery";

/// Where an answer comes from that is not the agent's model's.
fn fallen_back(agent: &Agent, state: &LoopState, level: Level) -> Provenance {
    let mut provenance = Provenance::after(&state.attempts, level);
    if state.attempts.is_empty() {
        // Nothing was asked that could be: the level that did not come to it.
        provenance.levels.insert(0, agent.model.info().level);
    }
    provenance
}

fn tell_recovered(cx: &RunContext, failed: &AgentError, provenance: &Provenance) {
    cx.emit_kind(|| EventKind::Recovered {
        code: Box::new(failed.code()),
        fallback_path: provenance.fallback_path().into(),
    });
}

/// Whether another level could still answer: not when the run has to stop, and not when its state or its host is at fault.
fn can_recover(error: &AgentError) -> bool {
    match error {
        AgentError::Model(_)
        | AgentError::Budget(_)
        | AgentError::Context(_)
        | AgentError::Denied { .. }
        | AgentError::TurnLimit { .. }
        | AgentError::BadAnswer { .. }
        | AgentError::Graph(_)
        | AgentError::Failed(_)
        | AgentError::Internal(_) => true,
        AgentError::Invalid(_)
        | AgentError::Journal(_)
        | AgentError::State(_)
        | AgentError::Resume(_)
        | AgentError::Panicked
        | AgentError::Cancelled
        | AgentError::Deadline => false,
    }
}

async fn drive(agent: &Agent, state: &mut LoopState, cx: &RunContext) -> Result<Ended, AgentError> {
    loop {
        // A run whose parts are always ready gives nobody else a chance to stop it.
        cx.ensure_may_go_on()?;
        if let Some(wait) = &state.wait {
            let Some(answer) = wait.answer.clone() else { return Ok(Ended::Suspended) };
            if !Box::pin(step_answered(agent, state, answer, cx)).await? {
                return Ok(Ended::Suspended);
            }
        }
        let Some(row) = agent.table.row(state.at) else { return done(state) };
        if cx.run().is_draining() {
            return Ok(Ended::Suspended);
        }
        let next = match (&row.host, row.stage) {
            (Some(step), _) => {
                let flow = step.run(&mut StepView { state }, cx).await?;
                follow(agent, state, flow, step.name(), cx)?
            }
            (None, Stage::Admit) => admit::admit(state, cx).await?,
            (None, Stage::Fit) => {
                let dispatched = match &agent.routing {
                    Some(routing) if state.turn == 0 && state.shown.is_none() => {
                        Box::pin(route::route(agent, routing, state, cx)).await?
                    }
                    _ => None,
                };
                match dispatched {
                    Some(next) => next,
                    None => fit::fit(agent, state, cx).await?,
                }
            }
            // Boxed, as its future is large and mostly not there.
            (None, Stage::Think) => Box::pin(think::think(agent, state, cx)).await?,
            (None, Stage::Act) => act::act(agent, state, cx).await?,
            (None, Stage::Conclude) => conclude::conclude(agent, state, cx).await?,
        };
        if !go_on(agent, state, next) {
            return Ok(Ended::Suspended);
        }
    }
}

/// Moves to the next step. `false` when the run is suspended instead.
fn go_on(agent: &Agent, state: &mut LoopState, next: Next) -> bool {
    state.at = match next {
        Next::Suspend => return false,
        Next::Row => agent.table.after(state.at, &state.work),
        Next::Stage(stage) => agent.table.start_of(stage),
    };
    state.approved_by.clear();
    true
}

fn done(state: &mut LoopState) -> Result<Ended, AgentError> {
    let mut concluded =
        state.concluded.take().ok_or_else(|| AgentError::internal("the loop ended without a result"))?;
    concluded.provenance.attempts = std::mem::take(&mut state.attempts);
    Ok(Ended::Concluded(concluded))
}

/// Does what a host's step asked for.
fn follow(agent: &Agent, state: &mut LoopState, flow: Flow, step: &str, cx: &RunContext) -> Result<Next, AgentError> {
    match flow {
        Flow::Continue => Ok(Next::Row),
        Flow::Wait(kind) => {
            wait_for(state, step, kind, cx);
            Ok(Next::Suspend)
        }
        Flow::Conclude(_) if state.concluded.is_some() => {
            Err(AgentError::tell(format!("the step `{step}` concludes after the answer was taken; it belongs before")))
        }
        Flow::Conclude(output) => {
            ensure_fits(agent, &output)?;
            let provenance = fallen_back(agent, state, Level::Rule);
            draft(state, output, provenance);
            // Within the stage, the steps before this one have run.
            let is_there = agent.table.stage(state.at) == Some(Stage::Conclude);
            Ok(if is_there { Next::Row } else { Next::Stage(Stage::Conclude) })
        }
    }
}

/// Puts an answer in the place of the model's, to be checked. What was open is closed.
fn draft(state: &mut LoopState, output: Value, provenance: Provenance) {
    state.settle_unknown();
    let conversation = std::mem::take(&mut state.work).into_conversation(&CallResult::not_made());
    let reply = Reply::text(text_of(&output)).into();
    state.work = Work::Draft(Box::new(Draft { conversation, reply, replaced: Some(output), provenance }));
}

/// Goes on with another level's answer, wherever the agent was.
fn fall_back_to(agent: &Agent, state: &mut LoopState, output: Value, provenance: Provenance) {
    draft(state, output, provenance);
    state.at = agent.table.own(Stage::Conclude);
    state.approved_by.clear();
    state.wait = None;
}

/// Notes that the run waits for this.
pub(super) fn wait_for(state: &mut LoopState, name: &str, kind: PendingKind, cx: &RunContext) {
    state.waits += 1;
    let pending = cx.pending(format!("{name}-{}", state.waits), kind);
    cx.emit_kind(|| EventKind::Waiting { pending: pending.clone().into() });
    state.wait = Some(Box::new(Wait { pending, for_recovery: name == RECOVERY, answer: None }));
}

/// Goes on with the step that waited. `false` when it waits for something else now.
async fn step_answered(
    agent: &Agent,
    state: &mut LoopState,
    answer: Answer,
    cx: &RunContext,
) -> Result<bool, AgentError> {
    cx.emit_kind(|| EventKind::Answered { answer: answer.clone().into() });
    if state.wait.as_ref().is_some_and(|wait| wait.for_recovery) {
        recovery_answered(agent, state, answer)?;
        return Ok(true);
    }
    let row = agent.table.row(state.at);
    let Some(step) = row.and_then(|row| row.host.as_ref()) else {
        state.wait = None;
        match row.map(|row| row.stage) {
            Some(Stage::Admit) => admit::answered(state, answer)?,
            Some(Stage::Conclude) => conclude::answered(agent, state, answer)?,
            // These wait in slots, never themselves.
            Some(Stage::Fit | Stage::Think | Stage::Act) | None => {}
        }
        return Ok(true);
    };
    let flow = step.answered(answer, &mut StepView { state }, cx).await?;
    state.wait = None;
    let next = follow(agent, state, flow, step.name(), cx)?;
    Ok(go_on(agent, state, next))
}

/// Takes a person's answer in place of the agent's.
fn recovery_answered(agent: &Agent, state: &mut LoopState, answer: Answer) -> Result<(), AgentError> {
    let mut provenance = fallen_back(agent, state, Level::Human);
    let kind = state.wait.as_ref().map(|wait| &wait.pending.kind);
    let output = match (answer.value, kind) {
        (AnswerValue::Deny(reason), _) => return Err(AgentError::Denied { reason }),
        (AnswerValue::Approve, Some(PendingKind::Approval { proposed, .. })) => {
            let last = provenance.levels.len().saturating_sub(1);
            provenance.levels.insert(last, Level::Rule);
            (**proposed).clone()
        }
        (value, _) => Arc::unwrap_or_clone(value.into_result().to_model_value()),
    };
    fall_back_to(agent, state, output, provenance);
    Ok(())
}

/// An answer as the text that stands in the conversation.
pub(super) fn text_of(output: &Value) -> String {
    match output {
        Value::String(text) => text.clone(),
        value => value.to_string(),
    }
}
