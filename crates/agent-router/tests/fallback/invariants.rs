//! What always holds, on random scripts of failures.
//!
//! 100 scripts for each by default; `ADJUTANT_CASES` sets another number: `cargo xtask soak fallback` plays 10,000.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agent_core::{
    AttemptEnd, ChatRequest, Conversation, EventKind, Lease, Level, Limits, MicroUsd, ModelErrorClass, PendingKind,
    Restarts, RunContext, RunOutcome, Spend, Tokens, complete,
};
use agent_router::{FailureClass, FailureTable, FallbackModel, NextStep, PlanStep, RunFailureClass};
use proptest::prelude::*;
use testkit::{caller, paused};

use super::script::{Called, Ran, Script, call, discloses, plain, play, script};
use super::upstream::{Log, Upstream};

fn cases() -> u32 {
    std::env::var("ADJUTANT_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(100)
}

/// Plays random scripts, and looks at each run.
fn always(check: impl Fn(&Script, usize, &Ran) -> Result<(), TestCaseError>) {
    let config = ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let tried = runner.run(&script(), |script| {
        let played = paused(play(&script));
        played.iter().enumerate().try_for_each(|(number, ran)| check(&script, number, ran))
    });
    tried.unwrap_or_else(|failed| panic!("{}", brief(&failed.to_string())));
}

fn brief(text: &str) -> String {
    text.chars().take(3_000).collect()
}

/// The model-level attempts, one each.
fn asked(ran: &Ran) -> Option<Vec<(String, AttemptEnd)>> {
    let of_models = ran.attempts()?.into_iter().filter(|attempt| attempt.level == Level::Model);
    let each = of_models.flat_map(|attempt| {
        let step = attempt.step.as_deref().unwrap_or("none").to_owned();
        std::iter::repeat_n((step, attempt.end), attempt.calls as usize)
    });
    Some(each.collect())
}

/// The steps that were asked in each turn, as the events tell.
fn turns(ran: &Ran) -> Vec<Vec<String>> {
    let mut turns = Vec::new();
    for event in &ran.events {
        match &event.kind {
            EventKind::TurnStarted { .. } => turns.push(Vec::new()),
            EventKind::ModelStarted { step: Some(step), .. } => turns.last_mut().unwrap().push(step.to_string()),
            _ => {}
        }
    }
    turns
}

#[test]
fn invariant_01_attempts_never_exceed_the_attempt_budget() {
    always(|script, number, ran| {
        for turn in turns(ran) {
            let models = turn.iter().filter(|step| *step != "rules").count();
            prop_assert!(models <= script.runs[number].attempts as usize, "{turn:?}");
        }
        Ok(())
    });
}

#[test]
fn invariant_02_nothing_is_sent_after_the_deadline() {
    always(|_, _, ran| {
        for sent in &ran.sent {
            prop_assert!(ran.deadline.is_none_or(|deadline| sent.at < deadline), "{sent:?} after {:?}", ran.deadline);
        }
        Ok(())
    });
}

#[test]
fn invariant_03_a_thousand_callers_never_pass_one_budget() {
    let config = ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    // A thousand are as much work as all the others together.
    let callers = prop_oneof![40 => 1..50_usize, 1 => Just(1_000)];
    let budget = (1..20_u64, 1..40_u64);
    let tried = runner.run(&(script(), callers, budget), |(script, callers, (tokens, micro_usd))| {
        let each = callers as u64;
        let problem = paused(share(&script, callers, tokens * each, micro_usd * each));
        prop_assert!(problem.is_none(), "{}", problem.unwrap_or_default());
        Ok(())
    });
    tried.unwrap_or_else(|failed| panic!("{}", brief(&failed.to_string())));
}

/// So many callers at once, on one lease.
async fn share(script: &Script, callers: usize, tokens: u64, micro_usd: u64) -> Option<String> {
    let log = Log::default();
    let lease = Lease::root(Limits::none().with_tokens(Tokens(tokens)).with_micro_usd(MicroUsd(micro_usd)));
    let broken: Arc<Mutex<Option<String>>> = Arc::default();
    let mut plan = FallbackModel::builder("plan").seed(script.seed);
    for (place, step) in script.steps.iter().enumerate() {
        let (lease, broken) = (lease.clone(), broken.clone());
        let upstream =
            Upstream::new("north", &format!("model-{place}"), step.deeds.iter().cloned().cycle().take(500), &log);
        let upstream = upstream.watched(move |_| {
            let all = lease.spent().plus(lease.reserved());
            if all.tokens.0 > tokens || all.micro_usd.0 > micro_usd {
                *broken.lock().unwrap() = Some(format!("{all:?} of {tokens} tokens and {micro_usd} micro-USD"));
            }
        });
        plan = plan.step(PlanStep::new(upstream).with_credential(format!("{place}")));
    }
    let plan = plan.build().unwrap();
    let request = ChatRequest::new(Conversation::new().say("Hello?")).with_restarts(Restarts::Allowed);
    let cx = RunContext::standalone_with(caller(), lease.clone(), Vec::new());
    let call = || tokio::time::timeout(Duration::from_secs(30), complete(&plan, request.clone(), &cx));
    futures_util::future::join_all((0..callers).map(|_| call())).await;
    if lease.reserved() != Spend::ZERO {
        return Some(format!("still reserved: {:?}", lease.reserved()));
    }
    if lease.spent().model_calls as usize != log.sent().len() {
        return Some(format!("{} calls, {:?}", log.sent().len(), lease.spent()));
    }
    broken.lock().unwrap().take()
}

#[test]
fn invariant_04_each_attempt_is_settled_exactly_once() {
    always(|_, _, ran| {
        let Some(attempts) = ran.attempts() else { return Ok(()) };
        let of_models = || attempts.iter().filter(|attempt| attempt.level == Level::Model);
        let calls: u32 = of_models().map(|attempt| attempt.calls).sum();
        let tokens: u64 = of_models().map(|attempt| attempt.tokens.0).sum();
        let micro_usd: u64 = of_models().map(|attempt| attempt.micro_usd.0).sum();
        let spent = ran.spent();
        prop_assert_eq!((calls, tokens, micro_usd), (spent.model_calls, spent.tokens.0, spent.micro_usd.0));
        prop_assert_eq!(calls as usize, ran.sent.len());
        Ok(())
    });
}

#[test]
fn invariant_05_no_text_of_two_attempts_is_ever_joined() {
    let sources = |text: &str| -> BTreeSet<String> {
        let words = text.split_whitespace().filter_map(|word| word.strip_prefix('<')?.split_once(':'));
        words.map(|(number, _)| number.to_owned()).collect()
    };
    always(|script, number, ran| {
        if let Some(text) = ran.text() {
            prop_assert!(sources(&text).len() <= 1, "{text}");
        }
        // What is read along: void at each failure.
        let mut shown = String::new();
        for event in &ran.events {
            match &event.kind {
                EventKind::ModelStarted { .. } => {
                    // Where nobody can take back what was read, nothing follows it.
                    prop_assert!(shown.is_empty() || script.runs[number].restarts, "{shown} and then another attempt");
                    shown.clear();
                }
                EventKind::Delta { text, .. } => shown.push_str(text),
                EventKind::ModelFinished(finished) => {
                    let said = finished.reply.joined_text();
                    prop_assert_eq!(sources(&shown), sources(&said));
                    shown.clear();
                }
                _ => {}
            }
            prop_assert!(sources(&shown).len() <= 1, "{shown}");
        }
        Ok(())
    });
}

#[test]
fn invariant_06_a_call_from_an_unfinished_stream_never_runs() {
    always(|_, _, ran| {
        for number in &ran.acted {
            let sent = ran.sent.iter().find(|sent| sent.number == *number);
            prop_assert!(sent.is_some_and(|sent| sent.completed), "{sent:?}");
        }
        Ok(())
    });
}

#[test]
fn invariant_07_classes_without_a_next_step_never_reach_one() {
    let table = FailureTable::default();
    always(|_, _, ran| {
        let Some(asked) = asked(ran) else { return Ok(()) };
        for pair in asked.windows(2) {
            let ((step, end), (next, _)) = (&pair[0], &pair[1]);
            if let AttemptEnd::Failed(class) = end {
                let row = table.row(*class);
                prop_assert!(row.next != NextStep::Never || next == step, "{class:?} of {step}, then {next}");
            }
        }
        Ok(())
    });
}

#[test]
fn invariant_10_a_cooling_or_too_small_step_is_skipped() {
    always(|script, _, ran| {
        prop_assert!(ran.broken.is_empty(), "{:?}", ran.broken);
        for sent in &ran.sent {
            let place: usize = sent.step.strip_prefix("model-").unwrap().parse().unwrap();
            let window = script.steps[place].window;
            prop_assert!(window.is_none_or(|window| sent.input.0 < window), "{sent:?} in {window:?}");
        }
        Ok(())
    });
}

#[test]
fn invariant_11_cancellation_stops_all_steps_at_once() {
    always(|_, _, ran| {
        prop_assert_eq!(ran.open, 0, "held open after the run");
        if let Some(at) = ran.cancelled_at {
            prop_assert!(ran.sent.iter().all(|sent| sent.at <= at), "{:?} after {at:?}", ran.sent);
        }
        Ok(())
    });
}

#[test]
fn invariant_12_provenance_equals_what_was_really_called() {
    always(|_, _, ran| {
        let Some(asked) = asked(ran) else { return Ok(()) };
        let really: Vec<&str> = ran.sent.iter().map(|sent| &*sent.step).collect();
        let told: Vec<&str> = asked.iter().map(|(step, _)| &**step).collect();
        prop_assert_eq!(told, really);
        for ((_, end), sent) in asked.iter().zip(&ran.sent) {
            prop_assert!(*end != AttemptEnd::Answered || sent.completed, "{end:?} {sent:?}");
        }
        if let Ok(RunOutcome::Completed(report)) = &ran.outcome {
            let recovered = ran.events.iter().any(|event| matches!(event.kind, EventKind::Recovered { .. }));
            if recovered {
                prop_assert_eq!(report.provenance.level(), Level::Rule);
                return Ok(());
            }
            let last = report.provenance.attempts.last().unwrap();
            prop_assert_eq!(&report.provenance.step, &last.step);
            prop_assert_eq!(report.provenance.level(), last.level);
        }
        Ok(())
    });
}

#[test]
fn invariant_13_errors_disclose_nothing() {
    always(|_, _, ran| {
        match &ran.outcome {
            Err(failure) => prop_assert!(!discloses(&failure.to_string()), "{failure}"),
            Ok(RunOutcome::Suspended(suspended)) => {
                for pending in suspended.state.pending() {
                    let PendingKind::Question { question, .. } = &pending.kind else { continue };
                    prop_assert!(!discloses(question), "{question}");
                }
            }
            Ok(RunOutcome::Completed(_)) => {}
        }
        Ok(())
    });
}

#[test]
fn invariant_14_the_same_script_and_seed_give_the_same_events() {
    let config = ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let tried = runner.run(&script(), |script| {
        let told = || -> Vec<Vec<_>> {
            let played = paused(play(&script));
            played.iter().map(|ran| ran.events.iter().map(plain).collect()).collect()
        };
        prop_assert_eq!(told(), told());
        Ok(())
    });
    tried.unwrap_or_else(|failed| panic!("{}", brief(&failed.to_string())));
}

#[test]
fn every_run_ends_in_time() {
    always(|_, _, ran| {
        prop_assert!(ran.deadline.is_none_or(|deadline| ran.ended <= deadline + TICK), "{:?}", ran.outcome);
        Ok(())
    });
}

/// What timers are exact to.
const TICK: Duration = Duration::from_millis(2);

#[test]
fn a_run_whose_plan_ends_with_a_person_is_never_lost() {
    let table = FailureTable::default();
    always(|script, number, ran| {
        let is_short = script.runs[number].time.is_some_and(|time| time < Duration::from_millis(100));
        if !script.human || is_short || ran.cancelled_at.is_some() {
            return Ok(());
        }
        let Err(failure) = &ran.outcome else { return Ok(()) };
        prop_assert!(failure.code().as_str() != "run.deadline", "{failure:?}");
        let class = FailureClass::of(&failure.error);
        if class == FailureClass::Run(RunFailureClass::TurnLimit) && !script.recovery {
            // How many turns an agent takes is not the plan's.
            return Ok(());
        }
        prop_assert!(!table.row(class).human, "{failure:?}");
        // It was a model that said so last, not one of those before it.
        let last = failure.attempts.iter().rfind(|attempt| attempt.level == Level::Model);
        let said = last.map(|attempt| {
            FailureClass::from(match attempt.end {
                AttemptEnd::Failed(class) => class,
                _ => ModelErrorClass::Stopped,
            })
        });
        prop_assert_eq!(said, Some(class), "{:?}", failure);
        Ok(())
    });
}

/// Plays random scripts without an agent, which would stop a plan by dropping it, and looks at each call.
fn always_called(check: impl Fn(&Called) -> Result<(), TestCaseError>) {
    let config = ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let tried = runner.run(&script(), |script| paused(call(&script)).iter().try_for_each(&check));
    tried.unwrap_or_else(|failed| panic!("{}", brief(&failed.to_string())));
}

#[test]
fn invariant_02_nothing_is_sent_after_the_deadline_without_an_agent() {
    always_called(|called| {
        if let Some(deadline) = called.deadline {
            prop_assert!(called.sent.iter().all(|sent| sent.at < deadline), "{called:?}");
            prop_assert!(called.ended <= deadline + TICK, "{called:?}");
        }
        Ok(())
    });
}

#[test]
fn invariant_11_cancellation_stops_all_steps_at_once_without_an_agent() {
    always_called(|called| {
        prop_assert_eq!(called.open, 0);
        if let Some(at) = called.cancelled_at {
            prop_assert!(called.sent.iter().all(|sent| sent.at <= at), "{called:?}");
            prop_assert!(called.ended <= at + TICK, "{called:?}");
        }
        Ok(())
    });
}
