//! Copies and crashes: what has an effect happens once.
// A test that cannot go on panics.
#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::sync::Arc;

use agent_core::{
    AnswerValue, Begun, CallKey, CallResult, Effect, Journal, JournalError, MainAgent, MemoryJournal, PendingKind,
    Resume, RunState, async_trait,
};
use serde_json::json;
use testkit::{FnModel, Line, RecordingTool, caller, paused, somebody};

/// A desk that asks for approval and then calls `pay`; its second life in a copy does the same.
fn desk(tool: &RecordingTool, journal: Arc<dyn Journal>) -> MainAgent {
    let model = FnModel::new(|request| match request.conversation.entries().len() {
        1 => Line::call("pay", json!({"eur": 5})),
        _ => Line::text(&format!("{:?}", request.conversation.entries().last().unwrap())),
    });
    MainAgent::builder("desk", model).tool(tool.clone()).journal(journal).build().unwrap()
}

fn waiting(desk: &MainAgent) -> RunState {
    paused(desk.run("Pay", caller())).unwrap().into_suspended().unwrap().state
}

fn resume(state: &RunState, value: AnswerValue) -> Resume {
    Resume::new(state.clone(), somebody("acme", "sam")).with_answer(&state.pending()[0].id, value)
}

#[test]
fn a_copied_state_repeats_no_effect() {
    let tool = RecordingTool::new("pay").needing_approval().returning(json!("paid"));
    let desk = desk(&tool, Arc::new(MemoryJournal::new()));
    let state = waiting(&desk);
    let first = paused(desk.resume(resume(&state, AnswerValue::Approve))).unwrap().to_string();
    let second = paused(desk.resume(resume(&state, AnswerValue::Approve))).unwrap().to_string();
    assert_eq!((first, tool.inputs().len()), (second, 1));
    // The copy decided differently: the other call was made, and this one is not.
    let other = resume(&state, AnswerValue::ApproveWith(json!({"eur": 500})));
    let third = paused(desk.resume(other)).unwrap().to_string();
    assert!(third.contains("call.conflict") && tool.inputs().len() == 1, "{third}");
}

#[test]
fn two_copies_at_once_make_one_call() {
    let tool =
        RecordingTool::new("pay").needing_approval().returning_after(std::time::Duration::from_secs(1), json!(1));
    let desk = desk(&tool, Arc::new(MemoryJournal::new()));
    let state = waiting(&desk);
    paused(async {
        let one = desk.resume(resume(&state, AnswerValue::Approve));
        let other = desk.resume(resume(&state, AnswerValue::Approve));
        let (one, other) = futures_util::future::join(one, other).await;
        assert_eq!(tool.inputs().len(), 1);
        // One made the call; the other does not know its outcome and asks.
        let waits = [one.unwrap(), other.unwrap()]
            .into_iter()
            .filter(|outcome| outcome.clone().into_suspended().is_ok())
            .count();
        assert_eq!(waits, 1);
    });
}

/// A journal that has heard of the first beginning of every call, and of no result.
#[derive(Default)]
struct Amnesiac(MemoryJournal);

#[async_trait]
impl Journal for Amnesiac {
    async fn begin(&self, key: &CallKey) -> Result<Begun, JournalError> {
        if key.attempt == 0 {
            self.0.begin(key).await?;
        }
        self.0.begin(key).await
    }
    async fn finish(&self, key: &CallKey, result: &CallResult) -> Result<(), JournalError> {
        self.0.finish(key, result).await
    }
}

#[test]
fn an_unknown_outcome_is_the_tools_to_reconcile_and_else_a_persons() {
    let tool = RecordingTool::new("pay").reconciling(CallResult::done(json!("it was paid")));
    let report = paused(desk(&tool, Arc::new(Amnesiac::default())).run("Pay", caller())).unwrap();
    assert!(report.to_string().contains("it was paid") && tool.inputs().is_empty());

    let cases = [
        (AnswerValue::Value(json!("paid by hand")), "paid by hand", 0, 1),
        // Counted as often as it was begun, as far as anybody knows.
        (AnswerValue::Approve, "ok", 1, 2),
        (AnswerValue::Deny("let it be".into()), "let it be", 0, 1),
    ];
    for (answer, expected, calls, counted) in cases {
        let tool = RecordingTool::new("pay");
        let desk = desk(&tool, Arc::new(Amnesiac::default()));
        let state = waiting(&desk);
        assert!(
            matches!(&state.pending()[0].kind, PendingKind::UnknownOutcome { function, .. } if &**function == "pay")
        );
        let own = Resume::new(state.clone(), caller()).with_answer(&state.pending()[0].id, answer.clone());
        assert_eq!(paused(desk.resume(own)).unwrap_err().code().as_str(), "resume.not_allowed");
        let report = paused(desk.resume(resume(&state, answer))).unwrap().into_report().unwrap();
        assert!(report.text().contains(expected), "{}", report.text());
        assert_eq!((tool.inputs().len(), report.spent.tool_calls), (calls, counted));
    }
}

#[test]
fn a_call_that_may_be_repeated_is_repeated_under_the_same_key() {
    let tool = RecordingTool::new("pay").with_spec(|spec| spec.with_effect(Effect::Idempotent));
    let report = paused(desk(&tool, Arc::new(Amnesiac::default())).run("Pay", caller())).unwrap();
    assert!(report.to_string().contains("\"ok\""));
    assert_eq!(tool.inputs().len(), 1);
    assert!(tool.keys()[0].ends_with("/0.0"));
}

/// A journal whose store is down.
struct Down;

#[async_trait]
impl Journal for Down {
    async fn begin(&self, _: &CallKey) -> Result<Begun, JournalError> {
        Err(JournalError::new(std::io::Error::other("connection refused")))
    }
    async fn finish(&self, _: &CallKey, _: &CallResult) -> Result<(), JournalError> {
        Err(JournalError::new(std::io::Error::other("connection refused")))
    }
}

#[test]
fn without_its_journal_a_run_has_no_effects_and_can_be_tried_again() {
    let tool = RecordingTool::new("pay");
    let failure = paused(desk(&tool, Arc::new(Down)).run("Pay", caller())).unwrap_err();
    assert_eq!((failure.code().as_str(), tool.inputs().len()), ("journal.failed", 0));
    assert!(failure.retryable() && !failure.to_string().contains("refused"));
    let again = Resume::new(failure.state.clone().unwrap(), caller());
    let report = paused(desk(&tool, Arc::new(MemoryJournal::new())).resume(again)).unwrap();
    assert!(report.to_string().contains("ok") && tool.inputs().len() == 1);

    let reading = RecordingTool::new("pay").with_spec(|spec| spec.with_effect(Effect::ReadOnly));
    assert!(paused(desk(&reading, Arc::new(Down)).run("Pay", caller())).is_ok(), "reading needs no journal");
}

#[test]
fn a_fatal_failure_does_not_drop_a_siblings_effect_in_flight() {
    struct DownFor(&'static str, MemoryJournal);
    #[async_trait]
    impl Journal for DownFor {
        async fn begin(&self, key: &CallKey) -> Result<Begun, JournalError> {
            if key.path.to_string() == self.0 { Down.begin(key).await } else { self.1.begin(key).await }
        }
        async fn finish(&self, key: &CallKey, result: &CallResult) -> Result<(), JournalError> {
            self.1.finish(key, result).await
        }
    }
    let slow = RecordingTool::new("slow").returning_after(std::time::Duration::from_secs(1), json!("slow"));
    let model = FnModel::new(|_| Line::calls(["slow", "quick"].map(|name| agent_core::Call::new(name, json!({})))));
    let desk = MainAgent::builder("desk", model)
        .tool(slow.clone())
        .tool(RecordingTool::new("quick"))
        .journal(DownFor("/0.1", MemoryJournal::new()))
        .build()
        .unwrap();
    let failure = paused(desk.run("Go", caller())).unwrap_err();
    assert_eq!((failure.code().as_str(), slow.completed()), ("journal.failed", 1));
    let text = format!("{:?}", failure.conversation);
    assert!(text.contains("\"slow\"") && text.contains("the call was not finished"), "{text}");
}

#[test]
fn the_memory_journal_forgets_whole_runs_the_oldest_first() {
    let journal = MemoryJournal::with_capacity(3);
    let runs = [(); 3].map(|()| agent_core::RunId::random());
    let key = |run: usize, slot: u32| CallKey::new(runs[run], format!("/0.{slot}").parse().unwrap(), "f", &json!({}));
    paused(async {
        for (run, slot) in [(0, 0), (0, 1), (1, 0), (2, 0)] {
            assert_eq!(journal.begin(&key(run, slot)).await.unwrap(), Begun::Fresh);
        }
        for run in [1, 2] {
            assert_eq!(journal.begin(&key(run, 0)).await.unwrap(), Begun::Unknown);
        }
        for slot in [0, 1] {
            assert_eq!(journal.begin(&key(0, slot)).await.unwrap(), Begun::Fresh, "the first run is forgotten");
        }
    });
}

#[test]
fn a_result_in_hand_stands_when_the_journal_fails_to_keep_it() {
    /// Begins everything, and keeps nothing.
    struct Broken;

    #[async_trait]
    impl Journal for Broken {
        async fn begin(&self, _: &CallKey) -> Result<Begun, JournalError> {
            Ok(Begun::Fresh)
        }
        async fn finish(&self, _: &CallKey, _: &CallResult) -> Result<(), JournalError> {
            Err(JournalError::new(std::io::Error::other("disk full")))
        }
    }
    let tool = RecordingTool::new("pay");
    let failure = paused(desk(&tool, Arc::new(Broken)).run("Pay", caller())).unwrap_err();
    assert_eq!(failure.code().as_str(), "journal.failed");
    let resume = Resume::new(failure.state.unwrap(), caller());
    let report = paused(desk(&tool, Arc::new(MemoryJournal::new())).resume(resume)).unwrap().into_report().unwrap();
    assert_eq!((tool.inputs().len(), report.spent.tool_calls), (1, 1));
    assert!(report.text().contains("ok"));
}

#[test]
fn the_memory_journal_keeps_no_more_than_64_mib_of_other_runs() {
    paused(async {
        let journal = MemoryJournal::new();
        let megabyte = CallResult::done(json!("x".repeat(1 << 20)));
        let keys: Vec<CallKey> = (0..100)
            .map(|_| CallKey::new(agent_core::RunId::random(), "/0.0".parse().unwrap(), "f", &json!({})))
            .collect();
        for key in &keys {
            journal.begin(key).await.unwrap();
            journal.finish(key, &megabyte).await.unwrap();
        }
        let mut kept = 0;
        for key in &keys {
            kept += usize::from(matches!(journal.begin(key).await.unwrap(), Begun::Finished(_)));
        }
        assert!((60..=64).contains(&kept), "{kept}");
    });
}
