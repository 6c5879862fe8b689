//! Policies that break a rule.

use std::sync::atomic::{AtomicU32, Ordering};

use agent_core::{Action, Caller, Decision, Pending, Policy, RunContext, async_trait};
use serde_json::{Value, json};
use testkit::conformance;

/// A policy that does to calls what it is told. Everybody may answer.
struct Deciding<F>(F);

#[async_trait]
impl<F: Fn(&Value, &[Caller]) -> Decision + Send + Sync> Policy for Deciding<F> {
    async fn decide(&self, action: Action<'_>, _: &RunContext) -> Decision {
        match action {
            Action::Call { arguments, approved_by, .. } => (self.0)(arguments, approved_by),
            _ => Decision::Allow,
        }
    }

    fn may_answer(&self, _: &Pending, _: &Caller) -> bool {
        true
    }
}

async fn check(decide: impl Fn(&Value, &[Caller]) -> Decision + Send + Sync + 'static) {
    conformance::policy(Deciding(decide), []).await;
}

#[tokio::test]
async fn fills_in_what_is_missing() {
    check(|arguments, approved_by| match approved_by {
        [_, _, ..] if arguments.get("reason").is_some() => Decision::Allow,
        [_, _, ..] => Decision::Replace(json!({"order": "A-1042", "reason": "none given"})),
        _ => Decision::Ask("two people have to agree".into()),
    })
    .await;
}

#[tokio::test]
#[should_panic(expected = "deciding changes nothing")]
async fn counts_questions() {
    let asked = AtomicU32::new(0);
    check(move |_, _| match asked.fetch_add(1, Ordering::SeqCst) {
        0..3 => Decision::Allow,
        _ => Decision::Deny("that is enough for today".into()),
    })
    .await;
}

#[tokio::test]
#[should_panic(expected = "replaced arguments fit the schema of `lookup`")]
async fn replaces_by_what_does_not_fit() {
    check(|_, _| Decision::Replace(json!({"order": 7}))).await;
}

#[tokio::test]
#[should_panic(expected = "it decides once it replaced something; it goes on replacing")]
async fn replaces_for_ever() {
    check(|arguments, _| Decision::Replace(json!({"order": format!("{}!", arguments["order"])}))).await;
}

#[tokio::test]
#[should_panic(expected = "it decides once people agreed; after 8 of them it still asks about")]
async fn asks_for_ever() {
    check(|_, _| Decision::Ask("just to be sure".into())).await;
}

#[tokio::test]
#[should_panic(expected = "deciding panicked: nobody expected a colleague")]
async fn panics_after_an_approval() {
    check(|_, approved_by| match approved_by {
        [] => Decision::Ask("somebody has to agree".into()),
        _ => panic!("nobody expected a colleague"),
    })
    .await;
}
