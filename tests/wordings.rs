//! Requests to the quickstart's desk, worded by people who had not seen `RuleModel` and wrote down what a person would do.
// A test that cannot go on panics; what it prints is its figures.
#![allow(clippy::expect_used, clippy::print_stdout, clippy::unwrap_used)]

#[path = "../examples/quickstart/desk/mod.rs"]
mod desk;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};

use adjutant::agent_core::MainAgentBuilder;
use adjutant::agent_core::{Event, EventKind, Observer, PendingKind};
use adjutant::{AnswerValue, Caller, MainAgent, Request, Resume, RunOptions, RunOutcome};
use serde_json::Value;

/// What a request led to: calls as `function argument`, headings that were cited, and whether an argument was asked for.
#[derive(Debug, Default, Clone, PartialEq)]
struct Seen {
    calls: BTreeSet<String>,
    text: String,
}

#[derive(Clone, Default)]
struct Calls(Arc<Mutex<Vec<(String, Value)>>>);

impl Observer for Calls {
    fn observe(&self, event: &Event) {
        if let EventKind::CallStarted { function, arguments } = &event.kind {
            self.0.lock().unwrap().push((function.to_string(), serde_json::from_str(arguments).unwrap()));
        }
    }
}

async fn ask(desk: &MainAgent, text: &str) -> Seen {
    let calls = Calls::default();
    let request = Request::new(text).with_options(RunOptions::default().with_observer(calls.clone()));
    let outcome = desk.run(request, Caller::new("acme", "ann").unwrap()).await.unwrap();
    let mut seen = Seen::default();
    if let RunOutcome::Suspended(suspended) = &outcome {
        for pending in suspended.state.pending() {
            let PendingKind::Approval { what, proposed, .. } = &pending.kind else { panic!("{pending:?}") };
            calls.0.lock().unwrap().push((what.to_string(), (**proposed).clone()));
        }
        // What else was asked stands in the answer after the approval; refusing changes nothing.
        let deny = AnswerValue::Deny("a test".into());
        let resume = Resume::new(suspended.state.clone(), Caller::new("acme", "sam").unwrap());
        let resume = suspended
            .state
            .pending()
            .iter()
            .fold(resume, |resume, pending| resume.with_answer(&pending.id, deny.clone()));
        seen.text = desk.resume(resume).await.unwrap().to_string();
    } else {
        seen.text = outcome.to_string();
    }
    for (function, arguments) in calls.0.lock().unwrap().iter() {
        let order = arguments.get("order").and_then(Value::as_str).unwrap_or_default();
        seen.calls.insert(format!("{function} {order}").trim().to_owned());
    }
    seen
}

/// What is wrong with what a request led to, if anything. The second is whether an effect was proposed that nobody asked for.
fn judge(expect: &Value, seen: &Seen) -> (Option<String>, bool) {
    let calls: Vec<&Value> = expect["calls"].as_array().into_iter().flatten().collect();
    let name = |call: &&Value| {
        format!("{} {}", call["function"].as_str().unwrap(), call["arguments"]["order"].as_str().unwrap_or_default())
            .trim()
            .to_owned()
    };
    let expected: BTreeSet<String> = calls.iter().map(name).collect();
    let wrong_effect = seen.calls.iter().any(|call| call.starts_with("refund") && !expected.contains(call));
    if seen.calls != expected {
        return (Some(format!("called {:?}, expected {expected:?}", seen.calls)), wrong_effect);
    }
    for heading in calls.iter().filter_map(|call| call["heading"].as_str()) {
        if !seen.text.contains(heading) {
            return (Some(format!("did not cite {heading:?}: {}", seen.text)), wrong_effect);
        }
    }
    match expect["ask"].as_str() {
        Some(argument) if !seen.text.contains(&format!("`{argument}`")) => {
            (Some(format!("did not ask: {}", seen.text)), wrong_effect)
        }
        None if seen.text.contains("Which is it?") => (Some(format!("asked: {}", seen.text)), wrong_effect),
        _ => (None, wrong_effect),
    }
}

async fn score(file: &str) -> (usize, usize, Vec<String>) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let desk = builder().build().unwrap();
    let lines = std::fs::read_to_string(root.join(file)).unwrap();
    let (mut right, mut effects, mut misses) = (0, 0, Vec::new());
    for line in lines.lines() {
        let wording: Value = serde_json::from_str(line).unwrap();
        let request = wording["request"].as_str().unwrap();
        let (problem, wrong_effect) = judge(&wording["expect"], &ask(&desk, request).await);
        effects += usize::from(wrong_effect);
        match problem {
            None => right += 1,
            Some(problem) => misses.push(format!("{request}\n    {problem}")),
        }
    }
    (right, effects, misses)
}

fn builder() -> MainAgentBuilder {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let ledger = std::env::temp_dir().join("adjutant-wordings-refunds.csv");
    desk::builder(&root.join("examples/quickstart/data"), &ledger).unwrap()
}

#[tokio::test]
async fn a_router_saves_calls_of_the_model() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (routed, all) = (builder().build().unwrap(), builder().without_dispatch().build().unwrap());
    let mut calls = [0, 0];
    for file in ["tests/data/wordings.jsonl", "tests/data/more_wordings.jsonl"] {
        for line in std::fs::read_to_string(root.join(file)).unwrap().lines() {
            let wording: Value = serde_json::from_str(line).unwrap();
            for (desk, calls) in [&routed, &all].into_iter().zip(&mut calls) {
                let request = wording["request"].as_str().unwrap();
                *calls += match desk.run(request, Caller::new("acme", "ann").unwrap()).await.unwrap() {
                    RunOutcome::Completed(report) => report.spent.model_calls,
                    RunOutcome::Suspended(suspended) => suspended.spent.model_calls,
                };
            }
        }
    }
    let [routed, all] = calls;
    println!("{routed} calls of the model, {all} without a router");
    assert!(routed * 10 <= all * 9, "{routed} of {all}");
}

/// At least 80 % right, and never a wrong effect.
async fn check(file: &str) {
    let (right, wrong_effects, misses) = score(file).await;
    let all = right + misses.len();
    println!("{file}: {right} of {all} right, {wrong_effects} wrong effects");
    misses.iter().for_each(|miss| println!("- {miss}"));
    assert_eq!(wrong_effects, 0, "{misses:#?}");
    assert!(right * 5 >= all * 4, "{right} of {all}: {misses:#?}");
}

#[tokio::test]
async fn sixty_wordings_are_understood_and_none_has_a_wrong_effect() {
    check("tests/data/wordings.jsonl").await;
}

#[tokio::test]
async fn a_hundred_and_twenty_more_are_too() {
    check("tests/data/more_wordings.jsonl").await;
}
