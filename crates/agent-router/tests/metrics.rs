//! What a plan of models tells as metrics. Alone in its file: the subscriber has to see every event first.
#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agent_core::{MainAgent, ModelErrorClass as Class};
use agent_router::{BreakerSettings, FallbackModel, RuleModel, Targets};
use testkit::{Line, ScriptedModel, caller, paused};
use tracing::field::{Field, Visit};
use tracing_subscriber::layer::{Context, SubscriberExt};

type Fields = BTreeMap<String, String>;

/// Keeps the metrics' events.
#[derive(Clone, Default)]
struct Metrics(Arc<Mutex<Vec<Fields>>>);

struct Reader<'a>(&'a mut Fields);

impl Visit for Reader<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}").trim_matches('"').to_owned());
    }
}

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Metrics {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() == "adjutant::metrics" {
            let mut fields = Fields::new();
            event.record(&mut Reader(&mut fields));
            self.0.lock().unwrap().push(fields);
        }
    }
}

#[test]
fn attempts_skips_and_breakers_are_metrics() {
    let metrics = Metrics::default();
    let subscriber = tracing_subscriber::registry().with(metrics.clone());
    let targets = Targets::with_seed(BreakerSettings::default(), 1).unwrap();
    tracing::subscriber::with_default(subscriber, || {
        paused(async {
            let failures = std::iter::repeat_n(Line::fails(Class::Unreachable), 5);
            let first = ScriptedModel::new(failures.chain(std::iter::repeat_n(Line::text("Yes."), 30)));
            let plan = FallbackModel::builder("plan")
                .step(first)
                .step(RuleModel::new())
                .targets(targets.clone())
                .build()
                .unwrap();
            let desk = MainAgent::builder("desk", plan).build().unwrap();
            for _ in 0..30 {
                desk.run("Hello?", caller()).await.unwrap();
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
        });
    });
    let told = metrics.0.lock().unwrap().clone();
    assert!(told.iter().all(|fields| fields["provider"] == "testkit" && fields["credential"] == "default"));
    let count = |metric: &str, label: &str, value: &str| {
        told.iter().filter(|fields| fields.contains_key(metric) && fields[label] == value).count() as u64
    };
    let state = &targets.states()[0];
    assert!(!told.is_empty());
    let attempts = "monotonic_counter.adjutant.model.attempts";
    assert_eq!(count(attempts, "outcome", "model.unreachable"), 5);
    assert_eq!(5 + count(attempts, "outcome", "answered"), state.attempts);
    assert_eq!(count("monotonic_counter.adjutant.model.skips", "reason", "step.open"), state.skips);
    let changes = told.iter().filter(|fields| fields.contains_key("monotonic_counter.adjutant.breaker.changes"));
    let states: Vec<&str> = changes.map(|fields| &*fields["state"]).collect();
    assert_eq!(states, ["open", "half_open", "closed"]);
}
