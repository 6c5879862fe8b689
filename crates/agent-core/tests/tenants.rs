//! Two tenants at once: nothing of one reaches the other.
// A test that cannot go on panics.
#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::time::Duration;

use agent_core::{
    AnswerValue, Call, Decision, Limits, MainAgent, Pending, Policy, Request, Resume, RunContext, RunOptions,
    RunOutcome, Tokens, Usage, async_trait,
};
use serde_json::json;
use testkit::{FnModel, Line, Recorder, RecordingTool, paused, somebody};

/// `acme` needs approval for everything, `bolt` for nothing.
struct ByTenant;

#[async_trait]
impl Policy for ByTenant {
    async fn decide(&self, action: agent_core::Action<'_>, cx: &RunContext) -> Decision {
        match action {
            agent_core::Action::Call { approved_by, .. }
                if approved_by.is_empty() && cx.caller().tenant.as_str() == "acme" =>
            {
                Decision::Ask("acme asks".into())
            }
            _ => Decision::Allow,
        }
    }
    fn may_answer(&self, _: &Pending, _: &agent_core::Caller) -> bool {
        true
    }
}

#[test]
fn identity_budget_events_states_and_policy_never_mix() {
    let tool = RecordingTool::new("slow").returning_after(Duration::from_millis(10), json!("ok"));
    let model = FnModel::new(|request| match request.conversation.entries().len() {
        1 => Line::calls((0..3).map(|n| Call::new("slow", json!({"n": n}))))
            .with_usage(Usage::new(Tokens(40), Tokens(10))),
        _ => Line::text("done").with_usage(Usage::new(Tokens(40), Tokens(10))),
    });
    let desk = MainAgent::builder("desk", model).tool(tool.clone()).policy(ByTenant).build().unwrap();
    paused(async {
        let request = |recorder: &Recorder, tokens: u64| {
            let options = RunOptions::default()
                .with_observer(recorder.clone())
                .with_limits(Limits::none().with_tokens(Tokens(tokens)));
            Request::new("Go").with_options(options)
        };
        let recorders: Vec<(Recorder, &str)> =
            (0..40).map(|n| (Recorder::new(), if n % 2 == 0 { "acme" } else { "bolt" })).collect();
        let runs = recorders.iter().enumerate().map(|(n, (recorder, tenant))| {
            // Every fourth run of each tenant has too little budget for its second turn.
            let tokens = if n % 8 < 2 { 60 } else { 50_000 };
            desk.run(request(recorder, tokens), somebody(tenant, &format!("user-{n}")))
        });
        let outcomes = futures_util::future::join_all(runs).await;
        for (n, (outcome, (recorder, tenant))) in outcomes.into_iter().zip(&recorders).enumerate() {
            for event in recorder.events() {
                assert_eq!(event.identity().tenant_id.as_str(), *tenant);
                assert_eq!(event.identity().user_id.as_str(), format!("user-{n}"));
            }
            match (outcome, *tenant, n % 8 < 2) {
                (Ok(RunOutcome::Suspended(waiting)), "acme", _) => {
                    assert_eq!(waiting.state.pending().len(), 3);
                    let resume = |by| {
                        waiting
                            .state
                            .pending()
                            .iter()
                            .fold(Resume::new(waiting.state.clone(), by), |resume, pending| {
                                resume.with_answer(&pending.id, AnswerValue::Approve)
                            })
                    };
                    let refused = desk.resume(resume(somebody("bolt", "eve"))).await.unwrap_err();
                    assert_eq!(refused.code().as_str(), "resume.other_tenant");
                    assert_eq!(refused.to_string(), "the run is of another tenant");
                }
                (Ok(RunOutcome::Completed(report)), "bolt", false) => assert_eq!(report.spent.tokens, Tokens(100)),
                (Err(failure), "bolt", true) => assert_eq!(failure.code().as_str(), "budget.exceeded"),
                (outcome, tenant, small) => panic!("{tenant} {small}: {outcome:?}"),
            }
        }
        assert!(tool.tenants().iter().all(|tenant| tenant == "bolt"), "acme's calls wait");
        assert_eq!(tool.inputs().len(), 20 * 3);
    });
}
