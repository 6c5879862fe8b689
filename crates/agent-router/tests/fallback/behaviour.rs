//! What a plan does, case by case.

use std::num::NonZeroU32;
use std::time::Duration;

use agent_core::{
    AnswerValue, Bounds, ChatModel, ChatRequest, Chunk, Conversation, Failure, Lease, Limits, MainAgent, MicroUsd,
    ModelErrorClass as Class, Report, Request, Restarts, Resume, RunContext, RunOptions, RunOutcome, Tokens,
};
use agent_router::{
    BreakerSettings, DecisionRow, DecisionTable, FailureRow, FailureTable, FallbackBuilder, FallbackModel, NextStep,
    PlanStep, RuleModel, RulesModel, RunFailureClass, StepLimits, TableRecovery, TargetKey, Targets, Wait, rules,
};
use futures_util::StreamExt;
use testkit::{Line, Recorder, RecordingTool, ScriptedModel, caller, conformance, paused, somebody, story};
use tokio::time::Instant;

use super::upstream::{Deed, Log, Upstream};

const SAYS: Deed = Deed::Says(2, Duration::ZERO);

fn fails(class: Class) -> Deed {
    Deed::Fails(class, None)
}

fn limited(seconds: u64) -> Deed {
    Deed::Fails(Class::RateLimited, Some(Duration::from_secs(seconds)))
}

/// A plan of `first` and `second`, and what reaches them.
fn pair(first: impl IntoIterator<Item = Deed>, second: impl IntoIterator<Item = Deed>) -> (FallbackBuilder, Log) {
    let log = Log::default();
    let (first, second) =
        (Upstream::new("north", "first", first, &log), Upstream::new("south", "second", second, &log));
    (FallbackModel::builder("plan").step(first).step(second).seed(1), log)
}

fn single(deeds: impl IntoIterator<Item = Deed>) -> (FallbackBuilder, Log) {
    let log = Log::default();
    (FallbackModel::builder("plan").step(Upstream::new("north", "first", deeds, &log)).seed(1), log)
}

/// What an agent with this plan says, or the code of its failure; which steps were asked; how many milliseconds that took.
fn run(plan: FallbackBuilder, log: &Log, time: Option<u64>) -> (String, String, u128) {
    paused(async {
        let begun = Instant::now();
        let mut limits = Limits::none();
        limits.time = time.map(Duration::from_secs);
        let desk = MainAgent::builder("desk", plan.build().unwrap()).limits(limits).build().unwrap();
        let said = match desk.run("Hello?", caller()).await {
            Ok(RunOutcome::Completed(report)) => report.provenance.fallback_path(),
            Ok(RunOutcome::Suspended(suspended)) => format!("{}", RunOutcome::Suspended(suspended)),
            Err(failure) => failure.code().to_string(),
        };
        (said, asked(log), begun.elapsed().as_millis())
    })
}

fn asked(log: &Log) -> String {
    log.sent().iter().map(|sent| &*sent.step).collect::<Vec<_>>().join(" ")
}

#[track_caller]
fn check((plan, log): (FallbackBuilder, Log), expected: (&str, &str)) {
    let (said, asked, _) = run(plan, &log, Some(60));
    assert_eq!((&*said, &*asked), expected);
}

#[test]
fn each_class_goes_the_way_of_the_table() {
    let again_then_next = ("model", "first first second");
    let next = ("model", "first second");
    let ways = [
        (Class::QuotaExhausted, next),
        (Class::Auth, next),
        (Class::Permission, next),
        (Class::Overloaded, again_then_next),
        (Class::Unavailable, again_then_next),
        (Class::Unreachable, again_then_next),
        (Class::Untrusted, next),
        (Class::Redirected, next),
        (Class::FirstTokenTimeout, next),
        (Class::Stalled, next),
        (Class::TimedOut, next),
        (Class::ContentPolicy, ("model.content_policy", "first")),
        (Class::BadRequest, ("model.bad_request", "first")),
        (Class::NotFound, next),
        (Class::Malformed, again_then_next),
        (Class::Empty, again_then_next),
        (Class::TooLarge, next),
        (Class::Cut, again_then_next),
        // Both windows are unknown: nothing says that the other is larger. The agent cannot shorten it.
        (Class::ContextOverflow, ("context.does_not_fit", "first")),
    ];
    for (class, expected) in ways {
        let (plan, log) = pair([fails(class)], [SAYS]);
        let (said, asked, _) = run(plan, &log, Some(60));
        assert_eq!((&*said, &*asked), expected, "{class:?}");
    }
}

#[test]
fn a_short_wait_is_waited_and_a_long_one_is_not_while_another_can_answer() {
    let (plan, log) = pair([limited(1), SAYS], [SAYS]);
    let (said, asked, took) = run(plan, &log, Some(60));
    assert_eq!((&*said, &*asked), ("model", "first first"));
    assert!((1_000..=1_250).contains(&took), "{took}");
    let (plan, log) = pair([limited(30), SAYS], [SAYS]);
    assert_eq!(run(plan, &log, Some(60)), ("model".into(), "first second".into(), 0));
}

#[test]
fn an_open_breaker_is_not_waited_for_while_another_can_answer() {
    paused(async {
        let (plan, log) = pair([fails(Class::Unavailable)], [SAYS]);
        let desk = MainAgent::builder("desk", plan.build().unwrap()).build().unwrap();
        for _ in 0..2 {
            desk.run("Hello?", caller()).await.unwrap();
        }
        let begun = Instant::now();
        // Its first failure is the fifth, which opens the breaker for a second or more.
        desk.run("Hello?", caller()).await.unwrap();
        assert_eq!(asked(&log), "first first second first first second first second");
        assert!(begun.elapsed() <= Duration::from_millis(250), "{:?}", begun.elapsed());
    });
}

#[test]
fn a_long_wait_is_waited_when_nothing_else_can_answer_and_it_fits() {
    let (plan, log) = single([limited(30), SAYS]);
    let (said, asked, took) = run(plan, &log, Some(60));
    assert_eq!((&*said, &*asked), ("model", "first first"));
    assert!((30_000..=30_250).contains(&took), "{took}");
    // It cannot end before the deadline: not begun.
    let (plan, log) = single([limited(30), SAYS]);
    assert_eq!(run(plan, &log, Some(20)), ("model.rate_limited".into(), "first".into(), 0));
    // It is longer than anything is waited for.
    let (plan, log) = single([limited(3_600), SAYS]);
    assert_eq!(run(plan, &log, Some(7_200)), ("model.rate_limited".into(), "first".into(), 0));
}

#[test]
fn a_cooling_step_is_left_out_of_other_requests_too() {
    paused(async {
        let (plan, log) = pair([limited(30), SAYS], [SAYS]);
        let desk = MainAgent::builder("desk", plan.build().unwrap()).build().unwrap();
        for _ in 0..3 {
            desk.run("Hello?", caller()).await.unwrap();
        }
        assert_eq!(asked(&log), "first second second second");
        tokio::time::sleep(Duration::from_secs(30)).await;
        desk.run("Hello?", caller()).await.unwrap();
        assert_eq!(asked(&log), "first second second second first");
    });
}

#[test]
fn a_dead_credential_is_dead_for_all_models_of_its_provider_until_it_is_revived() {
    paused(async {
        let log = Log::default();
        let step = |provider: &str, name: &str, deeds: &[Deed]| {
            PlanStep::new(Upstream::new(provider, name, deeds.to_vec(), &log))
        };
        let plan = FallbackModel::builder("plan")
            .step(step("north", "large", &[fails(Class::Auth), SAYS]).with_credential("ours"))
            .step(step("north", "small", &[SAYS]).with_credential("ours"))
            .step(step("north", "spare", &[SAYS]).with_credential("other"));
        let plan = plan.build().unwrap();
        let desk = MainAgent::builder("desk", plan.clone()).build().unwrap();
        desk.run("Hello?", caller()).await.unwrap();
        desk.run("Hello?", caller()).await.unwrap();
        assert_eq!(asked(&log), "large spare spare");
        assert!(plan.targets().states().iter().any(|state| state.dead_for_ms > 0));
        assert!(plan.targets().revive("north", "ours"));
        assert!(!plan.targets().revive("north", "unknown"));
        desk.run("Hello?", caller()).await.unwrap();
        assert_eq!(asked(&log), "large spare spare large");
        // Dead again, it revives by itself.
    });
}

#[test]
fn a_dead_credential_revives_after_its_time_by_one_probe() {
    paused(async {
        let (plan, log) = single([fails(Class::QuotaExhausted), fails(Class::QuotaExhausted), SAYS]);
        let desk = MainAgent::builder("desk", plan.build().unwrap()).build().unwrap();
        for _ in 0..3 {
            desk.run("Hello?", caller()).await.unwrap_err();
        }
        assert_eq!(asked(&log), "first");
        tokio::time::sleep(Duration::from_secs(300)).await;
        desk.run("Hello?", caller()).await.unwrap_err();
        desk.run("Hello?", caller()).await.unwrap_err();
        assert_eq!(asked(&log), "first first");
        tokio::time::sleep(Duration::from_secs(300)).await;
        desk.run("Hello?", caller()).await.unwrap();
    });
}

#[test]
fn a_step_whose_window_is_too_small_is_left_out() {
    let log = Log::default();
    let upstream = |name: &str, window: u64, deed: Deed| {
        Upstream::new("north", name, [deed], &log).with_info(|info| info.with_context_window(Tokens(window)))
    };
    let plan = || FallbackModel::builder("plan").step(upstream("tiny", 2, SAYS));
    assert_eq!(run(plan(), &log, None).0, "context.does_not_fit");
    let plan =
        plan().step(upstream("small", 3_000, fails(Class::ContextOverflow))).step(upstream("other", 3_000, SAYS));
    let plan = plan.step(upstream("large", 4_000, SAYS));
    assert_eq!(run(plan, &log, None), ("model".into(), "small large".into(), 0));
}

#[test]
fn a_conversation_that_is_too_long_is_shortened_before_rules_answer() {
    paused(async {
        let log = Log::default();
        let plan = FallbackModel::builder("plan").step(Upstream::new(
            "north",
            "first",
            [fails(Class::ContextOverflow), SAYS],
            &log,
        ));
        let plan = plan.step(RulesModel::new("rules", rules(|_| Some("By rule.".into())))).build().unwrap();
        let desk = MainAgent::builder("desk", plan.clone()).context_policy(Shortening).build().unwrap();
        let report = desk.run("Hello?", caller()).await.unwrap().into_report().unwrap();
        assert_eq!((report.provenance.fallback_path().as_str(), &*asked(&log)), ("model", "first first"));
    });
}

#[test]
fn a_conversation_that_cannot_be_shortened_is_answered_by_rules_or_a_person_all_the_same() {
    paused(async {
        let plan = || {
            let first = Upstream::new("north", "first", [fails(Class::ContextOverflow)], &Log::default());
            FallbackModel::builder("plan").step(first)
        };
        let desk = |plan: FallbackBuilder| MainAgent::builder("desk", plan.build().unwrap()).build().unwrap();
        let failure = desk(plan()).run("Hello?", caller()).await.unwrap_err();
        assert_eq!(failure.code().as_str(), "context.does_not_fit");
        let by_rule = plan().step(RulesModel::new("rules", rules(|_| Some("By rule.".into()))));
        let report = desk(by_rule).run("Hello?", caller()).await.unwrap().into_report().unwrap();
        assert_eq!((&*report.text(), report.provenance.fallback_path().as_str()), ("By rule.", "model>rule"));
        let suspended = desk(plan().human("Please answer.")).run("Hello?", caller()).await.unwrap();
        assert!(suspended.into_suspended().is_ok());
        // Its window is known, so that nobody is asked before.
        let tiny = Upstream::new("north", "tiny", [SAYS], &Log::default())
            .with_info(|info| info.with_context_window(Tokens(2)));
        let known = FallbackModel::builder("plan")
            .step(tiny)
            .step(RulesModel::new("rules", rules(|_| Some("By rule.".into()))));
        let report = desk(known).run("Hello?", caller()).await.unwrap().into_report().unwrap();
        assert_eq!(report.text(), "By rule.");
    });
}

#[test]
fn a_conversation_that_stays_too_long_is_not_fitted_for_ever() {
    paused(async {
        let log = Log::default();
        let tiny = Upstream::new("north", "tiny", [SAYS], &log).with_info(|info| info.with_context_window(Tokens(2)));
        let plan = FallbackModel::builder("plan").step(tiny).build().unwrap();
        let desk = MainAgent::builder("desk", plan).context_policy(Shortening).build().unwrap();
        let failure = desk.run("Hello?", caller()).await.unwrap_err();
        assert_eq!((failure.code().as_str(), log.sent().len()), ("model.context_overflow", 0));
    });
}

/// Finds room when the model asks for it.
struct Shortening;

#[agent_core::async_trait]
impl agent_core::ContextPolicy for Shortening {
    async fn fit(
        &self,
        request: agent_core::FitRequest<'_>,
        _: &RunContext,
    ) -> Result<agent_core::Fitted, agent_core::ContextError> {
        let (before, after) = (Tokens(2), Tokens(2).minus(Tokens(request.overflows.into())));
        Ok(agent_core::Fitted::new(request.conversation.clone(), before, after))
    }
}

#[test]
fn a_model_that_cannot_call_functions_is_left_out_when_there_are_some() {
    paused(async {
        let (_, log) = single([]);
        let mute = Upstream::new("north", "mute", [SAYS], &log).with_info(|info| {
            let mut capabilities = agent_core::Capabilities::default();
            capabilities.functions = Some(false);
            info.with_capabilities(capabilities)
        });
        let plan = FallbackModel::builder("plan").step(mute).step(Upstream::new("south", "able", [SAYS], &log));
        let desk = MainAgent::builder("desk", plan.build().unwrap()).tool(RecordingTool::new("act")).build().unwrap();
        desk.run("Hello?", caller()).await.unwrap();
        assert_eq!(asked(&log), "able");
    });
}

#[test]
fn a_silent_model_gets_half_of_the_time_when_another_one_is_left() {
    let (plan, log) = pair([Deed::Hangs], [SAYS]);
    assert_eq!(run(plan, &log, Some(20)), ("model".into(), "first second".into(), 10_000));
    // The last one gets all of it.
    let (plan, log) = single([Deed::Hangs]);
    assert_eq!(run(plan, &log, Some(20)), ("run.deadline".into(), "first".into(), 20_000));
    let log = Log::default();
    let silent =
        PlanStep::new(Upstream::new("north", "first", [Deed::Hangs], &log)).with_first_token(Duration::from_secs(2));
    let plan = FallbackModel::builder("plan").step(silent).step(Upstream::new("north", "second", [SAYS], &log));
    assert_eq!(run(plan, &log, None), ("model".into(), "first second".into(), 2_000));
    let log = Log::default();
    let endless = Deed::Says(1_000, Duration::from_millis(100));
    let slow = PlanStep::new(Upstream::new("north", "first", [endless], &log)).with_time(Duration::from_secs(3));
    let plan = FallbackModel::builder("plan").step(slow).step(Upstream::new("north", "second", [SAYS], &log));
    assert_eq!(run(plan, &log, None), ("model".into(), "first second".into(), 3_000));
}

#[test]
fn an_answer_that_was_cut_begins_anew_where_that_is_allowed() {
    paused(async {
        let observer = Recorder::new();
        let (plan, _) = pair([Deed::SaysAndFails(2, Class::Unavailable)], [SAYS]);
        let desk = MainAgent::builder("desk", plan.build().unwrap()).observer(observer.clone()).build().unwrap();
        let report = desk.run("Hello?", caller()).await.unwrap().into_report().unwrap();
        assert_eq!(report.text(), "<1:0> <1:1> ");
        let told = story(observer.events()).join("\n");
        let expected = "/ started desk\n/ turn 0\n/ model started: step first\n/ Text \"<0:0> <0:1> \"\n/ model failed: model.unavailable\n\
                        / model started: step second\n/ Text \"<1:0> <1:1> \"\n/ model finished: stop\n";
        assert!(told.starts_with(expected), "{told}");

        let (plan, log) = pair([Deed::SaysAndFails(2, Class::Unavailable)], [SAYS]);
        let desk = MainAgent::builder("desk", plan.build().unwrap()).without_restarts().build().unwrap();
        let failure = desk.run("Hello?", caller()).await.unwrap_err();
        assert_eq!((failure.code().as_str(), &*asked(&log)), ("model.unavailable", "first"));
    });
}

#[test]
fn a_reader_of_the_stream_hears_which_attempt_is_void() {
    paused(async {
        let read = async |restarts: Restarts| {
            let (plan, _) = pair([Deed::SaysAndEnds(1)], [SAYS]);
            let request = ChatRequest::new(Conversation::new().say("Hello?")).with_restarts(restarts);
            let cx = RunContext::standalone(caller());
            let stream = plan.build().unwrap().stream(request, &cx).await.unwrap();
            let read = stream.map(|chunk| match chunk {
                Ok(Chunk::Text(text)) => text,
                Ok(Chunk::Restart { attempt }) => format!("[{attempt} is void] "),
                Ok(Chunk::Finish(finish)) => format!("[end: {}]", finish.model.unwrap()),
                Ok(_) => String::new(),
                Err(error) => format!("[{}]", error.code()),
            });
            read.collect::<String>().await
        };
        assert_eq!(read(Restarts::Allowed).await, "<0:0> [0 is void] <1:0> <1:1> [end: second]");
        assert_eq!(read(Restarts::Forbidden).await, "<0:0> [model.cut]");
    });
}

#[test]
fn what_nobody_has_read_is_no_commitment() {
    check(pair([Deed::SaysAndEnds(0)], [SAYS]), ("model", "first first second"));
    check(pair([Deed::Blank, SAYS], [SAYS]), ("model", "first first"));
    // Reasoning was read.
    check(pair([Deed::ReasonsAndFails], [SAYS]), ("model", "first second"));
}

#[test]
fn rules_answer_when_attempts_and_budget_are_gone() {
    paused(async {
        let (plan, log) = pair([fails(Class::Unavailable)], [fails(Class::Unavailable)]);
        let plan = plan.step(RuleModel::new()).build().unwrap();
        let desk = MainAgent::builder("desk", plan).bounds(Bounds::default().with_attempts(2)).build().unwrap();
        let report = desk.run("Hello?", caller()).await.unwrap().into_report().unwrap();
        assert_eq!((report.provenance.fallback_path().as_str(), &*asked(&log)), ("model>rule", "first second"));
        assert_eq!(report.spent.model_calls, 2);

        let (plan, log) = pair([SAYS], [SAYS]);
        let plan = plan.step(RuleModel::new()).build().unwrap();
        let poor = Limits::none().with_micro_usd(MicroUsd(1));
        let desk = MainAgent::builder("desk", plan).limits(poor).build().unwrap();
        let report = desk.run("Hello?", caller()).await.unwrap().into_report().unwrap();
        assert_eq!((report.provenance.fallback_path().as_str(), &*asked(&log)), ("rule", ""));
        let (plan, _) = pair([SAYS], [SAYS]);
        let desk = MainAgent::builder("desk", plan.build().unwrap()).limits(poor).build().unwrap();
        assert_eq!(desk.run("Hello?", caller()).await.unwrap_err().code().as_str(), "budget.exceeded");
    });
}

#[test]
fn rules_that_do_not_fit_are_gone_past() {
    paused(async {
        let never = RulesModel::new("never", rules(|_| None));
        let table = DecisionTable::new([DecisionRow::new("Hello {who}.").with_pattern("I am (?<who>[a-z]+)")]).unwrap();
        let plan = |deed: Deed| {
            let plan = single([deed]).0.step(never.clone()).step(RulesModel::new("table", table.clone()));
            MainAgent::builder("desk", plan.build().unwrap()).build().unwrap()
        };
        let report = plan(fails(Class::Auth)).run("I am ann", caller()).await.unwrap().into_report().unwrap();
        assert_eq!((&*report.text(), report.provenance.step.as_deref()), ("Hello ann.", Some("table")));
        let failure = plan(fails(Class::Auth)).run("Hello?", caller()).await.unwrap_err();
        assert_eq!(failure.code().as_str(), "model.auth");
        // Rules may not answer a request that is wrong.
        let failure = plan(fails(Class::BadRequest)).run("I am ann", caller()).await.unwrap_err();
        assert_eq!(failure.code().as_str(), "model.bad_request");
    });
}

#[test]
fn a_plan_that_ends_with_a_person_suspends_the_run() {
    paused(async {
        let (plan, _) = pair([fails(Class::Unavailable)], [fails(Class::Unavailable)]);
        let desk = MainAgent::builder("desk", plan.human("Please answer Ann.").build().unwrap()).build().unwrap();
        let answer = async |value: AnswerValue| {
            let suspended = desk.run("Hello?", caller()).await.unwrap().into_suspended().unwrap();
            let pending = suspended.state.pending()[0].clone();
            let resume = Resume::new(suspended.state, somebody("acme", "sam")).with_answer(&pending.id, value);
            desk.resume(resume).await
        };
        let report = answer(AnswerValue::Value("Hello, Ann.".into())).await.unwrap().into_report().unwrap();
        assert_eq!((&*report.text(), report.provenance.fallback_path().as_str()), ("Hello, Ann.", "model>human"));
        assert!(report.provenance.model_calls() >= 2);
        let failure = answer(AnswerValue::Deny("not now".into())).await.unwrap_err();
        assert_eq!(failure.code().as_str(), "policy.denied");
    });
}

#[test]
fn a_person_takes_changes_or_refuses_what_rules_propose() {
    paused(async {
        let closed = DecisionTable::new([DecisionRow::new("We open at nine.")]).unwrap();
        let recovery = TableRecovery::new().with_rules(closed).with_review();
        let (plan, _) = single([fails(Class::Unavailable)]);
        let desk = MainAgent::builder("desk", plan.build().unwrap()).recovery(recovery).build().unwrap();
        let answer = async |value: AnswerValue| {
            let suspended = desk.run("When do you open?", caller()).await.unwrap().into_suspended().unwrap();
            let pending = suspended.state.pending()[0].clone();
            let state = testkit::elsewhere(&suspended.state);
            desk.resume(Resume::new(state, somebody("acme", "sam")).with_answer(&pending.id, value)).await
        };
        let way = |report: Report| (report.text().into_owned(), report.provenance.fallback_path());
        let taken = answer(AnswerValue::Approve).await.unwrap().into_report().unwrap();
        assert_eq!(way(taken), ("We open at nine.".into(), "model>rule>human".into()));
        let changed = answer(AnswerValue::ApproveWith("At ten.".into())).await.unwrap().into_report().unwrap();
        assert_eq!(way(changed), ("At ten.".into(), "model>human".into()));
        let refused = answer(AnswerValue::Deny("wrong".into())).await.unwrap_err();
        assert_eq!(refused.code().as_str(), "policy.denied");
    });
}

#[derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
struct Sum {
    sum: u32,
}

#[test]
fn answers_that_do_not_fit_go_to_the_next_model_and_then_to_rules() {
    paused(async {
        let log = Log::default();
        let bad = |name: &str| Upstream::new("north", name, [SAYS], &log);
        let right = ScriptedModel::new([Line::text(r#"{"sum": 7}"#)]);
        let plan = FallbackModel::builder("plan").step(bad("first")).step(bad("second")).step(right);
        let plan = plan.build().unwrap();
        let desk = MainAgent::builder("desk", plan.clone()).answer::<Sum>();
        let desk = desk.bounds(Bounds::default().with_attempts(5)).build().unwrap();
        let report = desk.run("How much?", caller()).await.unwrap().into_report().unwrap();
        assert_eq!(report.answer::<Sum>().unwrap().sum, 7);
        assert_eq!(asked(&log), "first first second second");
        let bad_answers: Vec<u64> = plan.targets().states().iter().map(|state| state.bad_answers).collect();
        assert_eq!(bad_answers, [2, 2, 0]);

        let log = Log::default();
        let plan = FallbackModel::builder("plan").step(Upstream::new("north", "first", [SAYS], &log)).build().unwrap();
        let recovery = TableRecovery::new().with_rules(rules(|asked| {
            (asked.cause?.as_str() == "run.bad_answer").then(|| serde_json::json!({"sum": 3}))
        }));
        let desk = MainAgent::builder("desk", plan).answer::<Sum>().recovery(recovery).build().unwrap();
        let report = desk.run("How much?", caller()).await.unwrap().into_report().unwrap();
        assert_eq!(
            (report.answer::<Sum>().unwrap().sum, report.provenance.fallback_path().as_str()),
            (3, "model>rule")
        );
    });
}

#[test]
fn rules_whose_answers_do_not_fit_are_not_asked_for_ever() {
    paused(async {
        let plan = FallbackModel::builder("plan").step(RulesModel::new("rules", rules(|_| Some("no sum".into()))));
        let desk = MainAgent::builder("desk", plan.build().unwrap()).answer::<Sum>().build().unwrap();
        assert_eq!(desk.run("How much?", caller()).await.unwrap_err().code().as_str(), "run.bad_answer");
    });
}

#[test]
fn what_a_content_policy_stopped_is_not_asked_again_because_something_else_was_too_small() {
    paused(async {
        let log = Log::default();
        let tiny = Upstream::new("north", "tiny", [SAYS], &log).with_info(|info| info.with_context_window(Tokens(2)));
        let plan = FallbackModel::builder("plan").step(tiny);
        let plan = plan.step(Upstream::new("south", "large", [fails(Class::ContentPolicy)], &log)).build().unwrap();
        let desk = MainAgent::builder("desk", plan).context_policy(Shortening).build().unwrap();
        let failure = desk.run("Hello?", caller()).await.unwrap_err();
        assert_eq!((failure.code().as_str(), &*asked(&log)), ("model.content_policy", "large"));
    });
}

#[test]
fn a_probe_does_not_wait_for_the_budget_of_its_run() {
    paused(async {
        let log = Log::default();
        let deeds = std::iter::repeat_n(fails(Class::Unreachable), 5).chain([SAYS]);
        let plan = FallbackModel::builder("plan").step(Upstream::new("north", "first", deeds, &log)).build().unwrap();
        let request = || ChatRequest::new(Conversation::new().say("Hello?"));
        for _ in 0..3 {
            let cx = RunContext::standalone(caller());
            let _ = tokio::time::timeout(Duration::from_millis(500), agent_core::complete(&plan, request(), &cx)).await;
        }
        assert_eq!(log.sent().len(), 5);
        tokio::time::sleep(Duration::from_secs(3)).await;
        // The first one's run has no budget until another call of it settles, in an hour.
        let lease = Lease::root(Limits::none().with_tokens(Tokens(150)));
        let held = lease.reserve(agent_core::Spend::of_tokens(Tokens(149))).await.unwrap();
        let poor = RunContext::standalone_with(caller(), lease, Vec::new());
        let waiting = agent_core::complete(&plan, request(), &poor);
        let other = async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            let cx = RunContext::standalone(somebody("umbrella", "eve"));
            let answered =
                tokio::time::timeout(Duration::from_secs(1), agent_core::complete(&plan, request(), &cx)).await;
            assert!(answered.is_ok_and(|answered| answered.is_ok()));
            drop(held);
        };
        let (waited, ()) = tokio::join!(waiting, other);
        waited.unwrap();
    });
}

#[test]
fn limits_of_a_step_send_others_on() {
    paused(async {
        let log = Log::default();
        let slow = Deed::Says(1, Duration::from_secs(5));
        let limits = StepLimits::default().with_concurrency(NonZeroU32::MIN).with_longest_wait(Duration::from_secs(1));
        let narrow = PlanStep::new(Upstream::new("north", "narrow", [slow], &log)).with_limits(limits);
        let plan = FallbackModel::builder("plan").step(narrow).step(Upstream::new("south", "wide", [SAYS], &log));
        let desk = MainAgent::builder("desk", plan.build().unwrap()).build().unwrap();
        let (one, other) = tokio::join!(desk.run("Hello?", caller()), desk.run("Hello?", somebody("umbrella", "eve")));
        let step = |ran: Result<RunOutcome, Box<Failure>>| ran.unwrap().into_report().unwrap().provenance.step.unwrap();
        assert_eq!((&*step(one), &*step(other)), ("narrow", "wide"));
    });
}

#[test]
fn an_overrun_is_recorded_and_blocks_the_next_call() {
    paused(async {
        let (plan, log) = single([SAYS]);
        let plan = plan.build().unwrap();
        // Ten are reserved, and the provider says twelve.
        let lease = Lease::root(Limits::none().with_tokens(Tokens(10)));
        let cx = RunContext::standalone_with(caller(), lease.clone(), Vec::new());
        let request = ChatRequest::new(Conversation::new().say("Hello?"));
        agent_core::complete(&plan, request.clone(), &cx).await.unwrap();
        assert_eq!(lease.spent().tokens, Tokens(12));
        let refused = agent_core::complete(&plan, request, &cx).await.unwrap_err();
        assert_eq!((refused.code().as_str(), log.sent().len()), ("budget.exceeded", 1));
    });
}

#[test]
fn changes_of_the_table_hold() {
    let open = FailureTable::default()
        .change(Class::ContentPolicy, |row| row.next = NextStep::Any)
        .with_row(Class::Unavailable, FailureRow::FAIL.with_again(3, Wait::Backoff));
    let (plan, log) = pair([fails(Class::ContentPolicy)], [SAYS]);
    check((plan.table(open.clone()), log), ("model", "first second"));
    let log = Log::default();
    let deeds = [fails(Class::Unavailable), fails(Class::Unavailable), SAYS];
    let plan = FallbackModel::builder("plan").step(Upstream::new("north", "first", deeds, &log)).table(open.clone());
    check((plan, log), ("model", "first first first"));
    let text = serde_json::to_string(&open).unwrap();
    assert_eq!(serde_json::from_str::<FailureTable>(&text).unwrap(), open);
    let cut = FailureTable::default().with_row(RunFailureClass::AfterCommit, FailureRow::FAIL);
    let (plan, log) = pair([Deed::SaysAndEnds(1)], [SAYS]);
    check((plan.table(cut), log), ("model.cut", "first"));
}

#[test]
fn wrong_plans_are_refused() {
    let log = Log::default();
    let model = |name: &str| Upstream::new("north", name, [SAYS], &log);
    let refused = |plan: FallbackBuilder| plan.build().unwrap_err().to_string();
    let plan = || FallbackModel::builder("plan");
    assert_eq!(refused(plan()), "steps is \"0\", expected at least one, or a person");
    assert!(refused(plan().step(model("a")).step(model("a"))).contains("a name that no other step of the plan has"));
    let inner = plan().step(model("a")).build().unwrap();
    assert!(refused(plan().step(inner)).contains("the steps of another plan belong into this one"));
    assert!(refused(plan().step(PlanStep::new(model("a")).with_credential(" "))).contains("credential"));
    let limits = StepLimits::default().with_concurrency(NonZeroU32::MIN);
    let targets = Targets::default();
    plan().step(model("a")).targets(targets.clone()).build().unwrap();
    let other = plan().step(PlanStep::new(model("a")).with_limits(limits)).targets(targets);
    assert!(refused(other).contains("the same limits as another step"));
    assert!(serde_json::from_str::<FailureTable>(r#"{"unavailable": {"agian": {}}}"#).is_err());
    assert!(serde_json::from_str::<FailureTable>(r#"{"no_such_class": {}}"#).is_err());
}

#[test]
fn a_host_closes_a_breaker_by_hand() {
    paused(async {
        let (plan, log) = single([limited(3_000), SAYS]);
        let targets = Targets::new(BreakerSettings::default()).unwrap();
        let plan = plan.targets(targets.clone()).build().unwrap();
        let desk = MainAgent::builder("desk", plan).build().unwrap();
        desk.run("Hello?", caller()).await.unwrap_err();
        let key: TargetKey = targets.states()[0].key.clone();
        assert!(targets.close(&key));
        desk.run("Hello?", caller()).await.unwrap();
        assert_eq!(asked(&log), "first first");
    });
}

#[test]
fn a_run_that_is_dropped_in_a_wait_costs_nothing_more() {
    paused(async {
        let (plan, log) = single([limited(30), SAYS]);
        let desk = MainAgent::builder("desk", plan.build().unwrap()).build().unwrap();
        let request = Request::new("Hello?").with_options(RunOptions::default());
        let dropped = tokio::time::timeout(Duration::from_secs(5), desk.run(request, caller())).await;
        assert!(dropped.is_err());
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!((asked(&log).as_str(), log.open()), ("first", 0));
    });
}

#[tokio::test]
async fn a_plan_is_a_model() {
    let failing = testkit::FnModel::new(|_| Line::fails(Class::NotFound));
    let answering = testkit::FnModel::new(|_| Line::text("All is well.")).with_info(|mut info| {
        info.name = "answering".into();
        info
    });
    let plan = FallbackModel::builder("plan").step(failing).step(answering).build().unwrap();
    conformance::chat_model(plan).await;
}
