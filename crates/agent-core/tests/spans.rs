//! Spans: OpenTelemetry's GenAI names, every identity, and no payload.
// A test that cannot go on panics.
#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use agent_core::{Limits, MainAgent, Profile, Request, RunOptions, Tokens, Usage};
use serde_json::json;
use testkit::{FnModel, Line, RecordingTool, caller};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

type Fields = BTreeMap<String, String>;

/// Keeps name and fields of every span.
#[derive(Clone, Default)]
struct Spans(Arc<Mutex<Vec<(Id, String, Fields)>>>);

struct Reader<'a>(&'a mut Fields);

impl Visit for Reader<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}").trim_matches('"').to_owned());
    }
}

impl<S: tracing::Subscriber + for<'a> LookupSpan<'a>> tracing_subscriber::Layer<S> for Spans {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, _: Context<'_, S>) {
        let mut fields = Fields::new();
        attributes.record(&mut Reader(&mut fields));
        self.0.lock().unwrap().push((id.clone(), attributes.metadata().name().to_owned(), fields));
    }
    fn on_record(&self, id: &Id, values: &Record<'_>, _: Context<'_, S>) {
        let mut spans = self.0.lock().unwrap();
        let span = spans.iter_mut().rev().find(|(other, ..)| other == id).unwrap();
        values.record(&mut Reader(&mut span.2));
    }
}

#[test]
fn spans_follow_the_genai_conventions_and_carry_every_identity() {
    let child = MainAgent::builder("child", FnModel::new(|_| Line::text("SECRET-3"))).build().unwrap();
    let model = FnModel::new(|request| match request.conversation.entries().len() {
        1 => Line::calls([
            agent_core::Call::new("t", json!({"secret": "SECRET-1"})),
            agent_core::Call::new("child", json!({"request": "SECRET-2"})),
        ])
        .with_usage(Usage::new(Tokens(7), Tokens(3))),
        _ => Line::text("SECRET-4"),
    });
    let profile = Profile::default()
        .with_prompt_version("p7")
        .with_memory_profile_id("m1")
        .with_knowledge_space_ids(["k1", "k2"]);
    let desk = MainAgent::builder("desk", model)
        .tool(RecordingTool::new("t").breaking())
        .sub_agent(child)
        .profile(profile)
        .build()
        .unwrap();
    let spans = Spans::default();
    let subscriber = tracing_subscriber::registry().with(spans.clone());
    tracing::subscriber::with_default(subscriber, || {
        let options = RunOptions::default().with_limits(Limits::none());
        testkit::paused(desk.run(Request::new("SECRET-0").with_options(options), caller())).unwrap();
    });
    let spans = spans.0.lock().unwrap().clone();
    let names: Vec<String> = spans.iter().map(|(_, _, fields)| fields["otel.name"].clone()).collect();
    let expected = [
        "invoke_agent desk",
        "chat function",
        "execute_tool t",
        "invoke_agent child",
        "chat function",
        "chat function",
    ];
    assert_eq!(names, expected);
    for (_, name, fields) in &spans {
        for field in [
            "trace_id",
            "tenant_id",
            "task_id",
            "run_id",
            "main_agent_id",
            "prompt_version",
            "memory_profile_id",
            "knowledge_space_ids",
            "path",
            "gen_ai.operation.name",
        ] {
            assert!(fields.contains_key(field), "{name} has no {field}: {fields:?}");
        }
        assert!(!format!("{fields:?}").contains("SECRET"), "{fields:?}");
        assert!(!format!("{fields:?}").contains("hunter2"), "{fields:?}");
    }
    let field = |index: usize, field: &str| spans[index].2.get(field).cloned().unwrap_or_default();
    assert_eq!((field(0, "result_status"), field(0, "fallback_path")), ("completed".into(), "model".into()));
    assert_eq!(
        (field(1, "gen_ai.usage.input_tokens"), field(1, "gen_ai.request.model")),
        ("7".into(), "function".into())
    );
    assert_eq!((field(2, "gen_ai.tool.name"), field(2, "error.type")), ("t".into(), "call.internal".into()));
    assert_eq!((field(3, "sub_agent_id"), field(3, "sub_agent_version")), ("child".into(), "0".into()));
    assert_eq!(field(0, "sub_agent_id"), "", "the Main Agent is no Sub-Agent");
}
