//! What is printed, kept and exported.

use std::time::Duration;

use agent_core::{MainAgent, ModelErrorClass as Class};
use agent_router::{
    Again, BreakerSettings, DecisionRow, DecisionTable, FailureTable, FallbackModel, RuleModel, StepLimits, Waits,
};
use testkit::{Recorder, caller, paused};

use super::upstream::{Deed, Log, Upstream};

#[test]
fn the_failure_table_as_text() {
    insta::assert_snapshot!(FailureTable::default());
}

#[test]
fn the_failure_table_as_a_document() {
    insta::assert_json_snapshot!(FailureTable::default());
    let text = serde_json::to_string(&FailureTable::default()).unwrap();
    assert_eq!(serde_json::from_str::<FailureTable>(&text).unwrap(), FailureTable::default());
    assert_eq!(serde_json::from_str::<FailureTable>("{}").unwrap(), FailureTable::default());
    assert_eq!(serde_json::from_str::<Again>("{}").unwrap(), Again::NEVER);
}

#[test]
fn settings_as_documents() {
    let row = DecisionRow::new("A refund of {order} takes five days.")
        .with_any(["refund"])
        .with_pattern("(?<order>[A-Z]-\\d+)");
    let table = DecisionTable::new([row]).unwrap().with_otherwise("Please call us.");
    insta::assert_json_snapshot!(serde_json::json!({
        "breaker": BreakerSettings::default(),
        "waits": Waits::default(),
        "limits": StepLimits::default(),
        "rules": table,
    }));
}

#[test]
fn events_of_a_fallback_as_json_lines() {
    let lines = paused(async {
        let log = Log::default();
        let observer = Recorder::new();
        let first =
            Upstream::new("north", "first", [Deed::Fails(Class::RateLimited, Some(Duration::from_secs(90)))], &log);
        let second = Upstream::new("south", "second", [Deed::SaysAndEnds(1)], &log);
        let plan = FallbackModel::builder("plan").step(first).step(second).step(RuleModel::new()).build().unwrap();
        let desk = MainAgent::builder("desk", plan).observer(observer.clone()).build().unwrap();
        let _ = desk.run("Hello?", caller()).await;
        let events = observer.events();
        let lines = events.iter().map(|event| {
            let mut value = serde_json::to_value(event).unwrap();
            let fields = value.as_object_mut().unwrap();
            for field in ["at", "run_id", "task_id", "trace_id", "tenant_id", "user_id", "main_agent_id"] {
                fields.remove(field);
            }
            value.to_string()
        });
        lines.collect::<Vec<_>>().join("\n")
    });
    insta::assert_snapshot!(lines);
}
