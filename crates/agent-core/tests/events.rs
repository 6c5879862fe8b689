//! Events: one stream, the same for every way of running.
// A test that cannot go on panics.
#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::time::Duration;

use agent_core::{AnswerValue, Call, Event, EventKind, MainAgent, Observer, PendingKind, Request, Resume, RunOptions};
use serde_json::json;
use testkit::{
    FnModel, Line, Recorder, RecordingAgent, RecordingTool, ScriptedModel, caller, joined, paused, somebody, story,
};

fn script() -> MainAgent {
    let child_model = FnModel::new(|request| match request.conversation.entries().len() {
        1 => Line::call("look", json!({"n": 1})),
        _ => Line::text("It is in Ulm."),
    });
    let child = MainAgent::builder("child", child_model).tool(RecordingTool::new("look")).build().unwrap();
    let model = ScriptedModel::new([
        Line::silence()
            .then_text("Let me see.")
            .then_call(0, "1", "child", "{\"request\": \"Where?\"}")
            .then_finish(agent_core::FinishReason::Calls),
        Line::text("Your parcel is in Ulm."),
    ]);
    MainAgent::builder("desk", model).sub_agent(child).build().unwrap()
}

const STORY: &[&str] = &[
    "/ started desk",
    "/ turn 0",
    "/ model started",
    "/ Text \"Let me see.\"",
    "/ model finished: tool_calls",
    "/ turn 1",
    "/ model started",
    "/ Text \"Your parcel is in Ulm.\"",
    "/ model finished: stop",
    "/ finished: completed",
    "/0.0 call child {\"request\":\"Where?\"}",
    "/0.0 started child",
    "/0.0 turn 0",
    "/0.0 model started",
    "/0.0 model finished: tool_calls",
    "/0.0 turn 1",
    "/0.0 model started",
    "/0.0 Text \"It is in Ulm.\"",
    "/0.0 model finished: stop",
    "/0.0 finished: completed",
    "/0.0 result of child: \"It is in Ulm.\"",
    "/0.0/0.0 call look {\"n\":1}",
    "/0.0/0.0 result of look: \"ok\"",
];

#[test]
fn inline_spawned_and_slowly_read_runs_give_the_same_events() {
    paused(async {
        let recorder = Recorder::new();
        let options = RunOptions::default().with_observer(recorder.clone());
        script().run(Request::new("Where is it?").with_options(options), caller()).await.unwrap();
        assert_eq!(story(recorder.events()), STORY);

        let mut handle = script().start("Where is it?", caller());
        let mut events = handle.events().unwrap();
        let mut read = Vec::new();
        while let Some(event) = events.next().await {
            read.push(event);
        }
        handle.join().await.unwrap();
        assert_eq!(story(read), STORY);

        let mut handle = script().start("Where is it?", caller());
        let mut events = handle.events().unwrap();
        assert!(handle.events().is_none());
        handle.join().await.unwrap();
        let mut read = Vec::new();
        while let Some(event) = events.next().await {
            read.push(event);
        }
        assert_eq!(read.len(), STORY.len(), "deltas that nobody had read are joined");
        assert_eq!(story(read), STORY);
    });
}

#[test]
fn numbers_have_no_gaps_parents_come_first_and_each_event_has_every_identity() {
    paused(async {
        let recorder = Recorder::new();
        let options = RunOptions::default().with_observer(recorder.clone());
        script().run(Request::new("Where is it?").with_options(options), caller()).await.unwrap();
        let events = recorder.events();
        let mut seen: Vec<agent_core::CallPath> = Vec::new();
        for event in &events {
            let depth = event.path().depth();
            assert!(depth == 0 || seen.iter().any(|path| path.depth() + 1 == depth && event.path().starts_with(path)));
            seen.push(event.path().clone());
        }
        for path in ["/", "/0.0", "/0.0/0.0"] {
            let numbers: Vec<u64> = joined(events.clone())
                .iter()
                .filter(|event| event.path().to_string() == path)
                .map(|event| event.n)
                .collect();
            assert_eq!(numbers, (0..numbers.len() as u64).collect::<Vec<_>>(), "{path}");
        }
        let inner = serde_json::to_value(events.iter().find(|event| event.path().depth() == 2).unwrap()).unwrap();
        for field in [
            "trace_id",
            "tenant_id",
            "user_id",
            "task_id",
            "run_id",
            "main_agent_id",
            "sub_agent_id",
            "sub_agent_version",
            "at",
            "n",
            "path",
            "event",
        ] {
            assert!(inner.get(field).is_some(), "{field} is missing in {inner}");
        }
        assert_eq!((inner["main_agent_id"].as_str(), inner["sub_agent_id"].as_str()), (Some("desk"), Some("child")));
    });
}

#[test]
fn numbers_go_on_over_resumptions() {
    let ask =
        RecordingAgent::new("ask", [("one", PendingKind::question("One?")), ("two", PendingKind::question("Two?"))]);
    let model = FnModel::new(|request| match request.conversation.entries().len() {
        1 => Line::call("ask", json!({})),
        _ => Line::text("Thanks."),
    });
    let desk = MainAgent::builder("desk", model).sub_agent(ask).build().unwrap();
    let recorder = Recorder::new();
    let options = || RunOptions::default().with_observer(recorder.clone());
    paused(async {
        let mut outcome = desk.run(Request::new("Go").with_options(options()), caller()).await.unwrap();
        while let agent_core::RunOutcome::Suspended(waiting) = outcome {
            let resume = Resume::new(waiting.state.clone(), caller()).with_options(options());
            let resume = resume.with_answer(&waiting.state.pending()[0].id, AnswerValue::Value(json!(1)));
            outcome = desk.resume(resume).await.unwrap();
        }
    });
    // `joined` fails on two events of one identity.
    let story = story(recorder.events());
    let root: Vec<&String> = story.iter().filter(|line| line.starts_with("/ ")).collect();
    assert_eq!(root.iter().filter(|line| line.contains("resumed desk")).count(), 2, "{root:#?}");
}

#[test]
fn an_observer_that_panics_changes_nothing() {
    struct Panics;
    impl Observer for Panics {
        fn observe(&self, _: &Event) {
            panic!("observed too much");
        }
    }
    let recorder = Recorder::new();
    let options = RunOptions::default().with_observer(Panics).with_observer(recorder.clone());
    let outcome = paused(script().run(Request::new("Go").with_options(options), caller())).unwrap();
    assert_eq!(outcome.to_string(), "Your parcel is in Ulm.");
    assert_eq!(story(recorder.events()), STORY);
}

#[test]
fn a_stream_that_is_dropped_stops_nothing() {
    paused(async {
        let mut handle = script().start("Where is it?", caller());
        drop(handle.events());
        assert_eq!(handle.join().await.unwrap().to_string(), "Your parcel is in Ulm.");
    });
}

#[test]
fn a_cancelled_stream_ends() {
    let desk = MainAgent::builder("desk", FnModel::new(|_| Line::silence().then_hangs())).build().unwrap();
    paused(async {
        let mut handle = desk.start("Go", caller());
        let mut events = handle.events().unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        drop(handle);
        let mut last = None;
        while let Some(event) = events.next().await {
            last = Some(event.kind);
        }
        assert!(
            matches!(last, Some(EventKind::Failed(ending)) if ending.code.as_ref().unwrap().as_str() == "run.cancelled")
        );
    });
}

#[test]
fn what_waits_and_what_answers_are_events() {
    let refund = RecordingTool::new("refund").needing_approval();
    let model = ScriptedModel::new([Line::calls([Call::new("refund", json!({}))]), Line::text("ok")]);
    let desk = MainAgent::builder("desk", model).tool(refund).build().unwrap();
    let recorder = Recorder::new();
    let options = || RunOptions::default().with_observer(recorder.clone());
    paused(async {
        let waiting =
            desk.run(Request::new("Go").with_options(options()), caller()).await.unwrap().into_suspended().unwrap();
        let resume = Resume::new(waiting.state.clone(), somebody("acme", "sam")).with_options(options());
        desk.resume(resume.with_answer(&waiting.state.pending()[0].id, AnswerValue::Approve)).await.unwrap();
    });
    let story: Vec<String> = story(recorder.events()).into_iter().filter(|line| line.starts_with("/0.0")).collect();
    let expected = [
        "/0.0 policy: Ask refund",
        "/0.0 waits: approval-1 approval",
        "/0.0 answered approval-1 with approve",
        "/0.0 call refund {}",
        "/0.0 result of refund: \"ok\"",
    ];
    assert_eq!(story, expected);
}
