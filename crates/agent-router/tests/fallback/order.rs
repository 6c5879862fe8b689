//! Which step is asked next: attempts that are few, answers that did not fit, steps that cannot be asked.

use std::time::Duration;

use agent_core::{
    AnswerValue, AttemptEnd, Bounds, ChatModel, ChatRequest, Chunk, Conversation, MainAgent, ModelErrorClass as Class,
    PendingKind, Resume, RunContext, RunOutcome, Tokens, complete,
};
use agent_router::{
    BreakerSettings, FailureRow, FailureTable, FallbackBuilder, FallbackModel, NextStep, PlanStep, RulesModel,
    RunFailureClass, Targets, Wait, rules,
};
use serde_json::{Value, json};
use testkit::{FnModel, Line, caller, paused, somebody};

use super::upstream::{Deed, Log, Upstream};

const SAYS: Deed = Deed::Says(1, Duration::ZERO);

fn fails(class: Class) -> Deed {
    Deed::Fails(class, None)
}

#[derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
struct Sum {
    sum: u32,
}

/// A model whose answers are no sums.
fn bad(name: &str) -> PlanStep {
    answering(name, "no sum")
}

/// A model whose answers are sums.
fn good(name: &str) -> PlanStep {
    answering(name, r#"{"sum": 7}"#)
}

fn answering(name: &str, text: &'static str) -> PlanStep {
    let model = FnModel::new(move |_| Line::text(text)).with_info(|mut info| {
        info.name = name.into();
        info
    });
    PlanStep::new(model)
}

fn down(name: &str) -> PlanStep {
    PlanStep::new(Upstream::new("north", name, [fails(Class::Unavailable)], &Log::default()))
}

fn plan(steps: impl IntoIterator<Item = PlanStep>) -> FallbackBuilder {
    steps.into_iter().fold(FallbackModel::builder("plan").seed(1), FallbackBuilder::step)
}

/// What comes of a run that needs a sum, and the steps that were asked, with how often: `first first good`.
async fn sum(plan: FallbackBuilder, attempts: u32) -> (String, String) {
    let desk = MainAgent::builder("desk", plan.build().unwrap()).answer::<Sum>();
    let desk = desk.bounds(Bounds::default().with_attempts(attempts)).build().unwrap();
    let (said, attempts) = match desk.run("How much?", caller()).await {
        Ok(RunOutcome::Completed(report)) => (report.output.to_string(), report.provenance.attempts),
        Ok(RunOutcome::Suspended(suspended)) => ("waits".to_owned(), suspended.attempts),
        Err(failure) => (failure.code().to_string(), failure.attempts),
    };
    let each = attempts.iter().flat_map(|attempt| {
        std::iter::repeat_n(attempt.step.as_deref().unwrap_or("-").to_owned(), attempt.calls as usize)
    });
    (said, each.collect::<Vec<_>>().join(" "))
}

#[track_caller]
fn check(plan: FallbackBuilder, attempts: u32, expected: (&str, &str)) {
    let (said, asked) = paused(sum(plan, attempts));
    assert_eq!((&*said, &*asked), expected);
}

const SEVEN: &str = r#"{"sum":7}"#;

#[test]
fn few_attempts_go_to_models_that_were_not_asked_yet() {
    check(plan([down("a"), down("b"), good("c")]), 3, (SEVEN, "a b c"));
    check(plan([down("a"), down("b"), good("c")]), 4, (SEVEN, "a a b c"));
    check(plan([down("a"), good("b")]), 1, ("model.unavailable", "a"));
    check(plan([down("a"), down("b")]), 5, ("model.unavailable", "a a b b"));
    // One that cannot be asked takes no attempt away from another one.
    let tiny = FnModel::new(|_| Line::text("")).with_info(|mut info| {
        info.name = "tiny".into();
        info.with_context_window(Tokens(2))
    });
    check(plan([down("a"), PlanStep::new(tiny)]), 2, ("model.unavailable", "a a"));
}

#[test]
fn an_answer_that_does_not_fit_is_held_against_who_gave_it() {
    let counted = |steps: [PlanStep; 3], attempts: u32| {
        let targets = Targets::default();
        let asked = paused(sum(plan(steps).targets(targets.clone()), attempts)).1;
        let bad: Vec<(String, u64)> =
            targets.states().iter().map(|state| (state.key.model.to_string(), state.bad_answers)).collect();
        let bad: Vec<String> =
            bad.iter().filter(|(_, bad)| *bad > 0).map(|(model, bad)| format!("{model}: {bad}")).collect();
        (asked, bad.join(", "))
    };
    // The first one is down; the second one repairs, and the third one follows.
    let held = counted([down("a"), bad("b"), good("c")], 6);
    assert_eq!(held, ("a a b b c".to_owned(), "b: 2".to_owned()));
    let held = counted([bad("a"), bad("b"), good("c")], 6);
    assert_eq!(held, ("a a b b c".to_owned(), "a: 2, b: 2".to_owned()));
    // Too few for repairs.
    let held = counted([bad("a"), bad("b"), good("c")], 3);
    assert_eq!(held, ("a b c".to_owned(), "a: 1, b: 1".to_owned()));
}

fn by_rule(name: &str, answer: impl Fn() -> Option<Value> + Send + Sync + 'static) -> PlanStep {
    PlanStep::new(RulesModel::new(name, rules(move |_| answer())))
}

#[test]
fn rules_and_a_person_answer_when_bad_answers_took_all_attempts() {
    let three = || by_rule("rules", || Some(json!({"sum": 3})));
    check(plan([bad("a"), bad("b"), three()]), 3, (r#"{"sum":3}"#, "a a b rules"));
    check(plan([bad("a"), three()]), 1, (r#"{"sum":3}"#, "a rules"));
    check(plan([bad("a"), bad("b")]).human("Please."), 2, ("waits", "a b"));
    // Rules whose answers do not fit either, one after the other, and no more than once each.
    let wrong = |name: &str| by_rule(name, || Some("wrong".into()));
    check(plan([bad("a"), wrong("x"), wrong("y"), three()]), 1, (r#"{"sum":3}"#, "a x y rules"));
    check(plan([bad("a"), wrong("x"), wrong("y")]), 1, ("run.bad_answer", "a x y"));
    check(plan([wrong("x")]), 3, ("run.bad_answer", "x"));
    check(plan([bad("a")]), 3, ("run.bad_answer", "a a a"));
    // The table says that rules may not.
    let table = FailureTable::default().change(RunFailureClass::BadAnswer, |row| row.rules = false);
    check(plan([bad("a"), three()]).table(table), 2, ("run.bad_answer", "a a"));
    let table = FailureTable::default().change(RunFailureClass::BadAnswer, |row| row.human = false);
    check(plan([bad("a")]).human("Please.").table(table), 2, ("run.bad_answer", "a a"));
}

#[test]
fn the_table_says_who_may_follow_a_bad_answer() {
    let never = FailureTable::default().change(RunFailureClass::BadAnswer, |row| row.next = NextStep::Never);
    check(plan([bad("a"), good("b")]).table(never), 5, ("run.bad_answer", "a a a a a"));
    let once = FailureTable::default().change(RunFailureClass::BadAnswer, |row| row.again.times = 0);
    check(plan([bad("a"), good("b")]).table(once), 5, (SEVEN, "a b"));
}

#[test]
fn a_repair_goes_on_where_the_run_was_when_it_is_resumed_elsewhere() {
    paused(async {
        // The person's part comes between the bad answer and the repair of another turn: who gave it is saved.
        let plan = plan([bad("a"), bad("b")]).human("Please.").build().unwrap();
        let desk = MainAgent::builder("desk", plan).answer::<Sum>();
        let desk = desk.bounds(Bounds::default().with_attempts(2)).build().unwrap();
        let suspended = desk.run("How much?", caller()).await.unwrap().into_suspended().unwrap();
        let state = testkit::elsewhere(&suspended.state);
        let pending = state.pending()[0].clone();
        assert!(matches!(&pending.kind, PendingKind::Question { question, .. } if &**question == "Please."));
        let resume = Resume::new(state, somebody("acme", "sam"));
        let answered = desk.resume(resume.with_answer(&pending.id, AnswerValue::Value(json!({"sum": 9})))).await;
        let report = answered.unwrap().into_report().unwrap();
        assert_eq!((report.answer::<Sum>().unwrap().sum, &*report.provenance.fallback_path()), (9, "model>human"));
    });
}

/// A plain text that is asked of a plan.
async fn ask(plan: &FallbackModel) -> String {
    let cx = RunContext::standalone(caller());
    match complete(plan, ChatRequest::new(Conversation::new().say("Hello?")), &cx).await {
        Ok(reply) => reply.model.clone().unwrap().to_string(),
        Err(error) => error.code().to_string(),
    }
}

#[test]
fn a_step_that_is_too_small_hides_no_failure() {
    paused(async {
        let tiny = || {
            let tiny = Upstream::new("north", "tiny", [SAYS], &Log::default());
            PlanStep::new(tiny.with_info(|info| info.with_context_window(Tokens(2))))
        };
        assert_eq!(ask(&plan([down("a"), tiny()]).build().unwrap()).await, "model.unavailable");
        assert_eq!(ask(&plan([tiny(), down("a")]).build().unwrap()).await, "model.unavailable");
        assert_eq!(ask(&plan([down("a"), tiny()]).human("Please.").build().unwrap()).await, "model.needs_human");
        let rules = by_rule("rules", || Some("By rule.".into()));
        assert_eq!(ask(&plan([down("a"), tiny(), rules]).build().unwrap()).await, "rules");
        assert_eq!(ask(&plan([tiny()]).build().unwrap()).await, "model.context_overflow");
        // A window that holds the question and no answer.
        let narrow = Upstream::new("north", "narrow", [SAYS], &Log::default());
        let narrow = narrow.with_info(|info| info.with_context_window(Tokens(20)));
        assert_eq!(ask(&plan([PlanStep::new(narrow)]).build().unwrap()).await, "model.context_overflow");
    });
}

#[test]
fn a_window_is_known_when_all_are() {
    let with = |name: &str, window: Option<u64>| {
        let upstream = Upstream::new("north", name, [SAYS], &Log::default());
        PlanStep::new(upstream.with_info(|info| match window {
            Some(window) => info.with_context_window(Tokens(window)),
            None => info,
        }))
    };
    let window = |one, other| plan([with("a", one), with("b", other)]).build().unwrap().info().context_window;
    assert_eq!(window(Some(4_000), Some(8_000)), Some(Tokens(8_000)));
    assert_eq!(window(Some(4_000), None), None);
}

#[test]
fn a_model_that_reads_no_pictures_is_left_out_when_there_is_one() {
    paused(async {
        let blind = Upstream::new("north", "blind", [SAYS], &Log::default()).with_info(|info| {
            let mut capabilities = agent_core::Capabilities::default();
            capabilities.images = Some(false);
            info.with_capabilities(capabilities)
        });
        let seeing = Upstream::new("north", "seeing", [SAYS], &Log::default());
        let plan = plan([PlanStep::new(blind), PlanStep::new(seeing)]).build().unwrap();
        assert_eq!(ask(&plan).await, "blind");
        let picture =
            serde_json::from_value(json!({"media_type": "image/png", "source": {"uri": "https://a.example/b.png"}}));
        let message = agent_core::UserMessage::text("What is this?").with_attachment(picture.unwrap());
        let request = ChatRequest::new(Conversation::new().say(message));
        let reply = complete(&plan, request, &RunContext::standalone(caller())).await.unwrap();
        assert_eq!(reply.model.as_deref(), Some("seeing"));
    });
}

#[test]
fn rules_that_have_no_answer_take_no_attempt() {
    paused(async {
        let log = Log::default();
        let first = Upstream::new("north", "first", [SAYS], &log);
        let plan = plan([by_rule("x", || None), by_rule("y", || None), PlanStep::new(first)]).build().unwrap();
        let desk = MainAgent::builder("desk", plan).bounds(Bounds::default().with_attempts(1)).build().unwrap();
        let report = desk.run("Hello?", caller()).await.unwrap().into_report().unwrap();
        assert_eq!(report.provenance.step.as_deref(), Some("first"));
    });
}

#[test]
fn an_answer_by_rules_names_no_model() {
    paused(async {
        let plan = plan([down("a"), by_rule("rules", || Some("By rule.".into()))]).build().unwrap();
        let desk = MainAgent::builder("desk", plan).build().unwrap();
        let report = desk.run("Hello?", caller()).await.unwrap().into_report().unwrap();
        assert_eq!((report.provenance.model.as_deref(), report.provenance.step.as_deref()), (None, Some("rules")));
    });
}

#[test]
fn a_plan_of_a_person_alone_asks_him() {
    paused(async {
        let desk = MainAgent::builder("desk", plan([]).human("Please.").build().unwrap()).build().unwrap();
        let suspended = desk.run("Hello?", caller()).await.unwrap().into_suspended().unwrap();
        assert_eq!(suspended.state.pending().len(), 1);
    });
}

#[test]
fn a_person_answers_after_a_cut_that_nobody_can_take_back() {
    paused(async {
        let step = || {
            let cut = Upstream::new("north", "first", [Deed::SaysAndEnds(2)], &Log::default());
            let other = Upstream::new("north", "second", [SAYS], &Log::default());
            plan([PlanStep::new(cut), PlanStep::new(other)])
        };
        let run = async |plan: FallbackBuilder| {
            let desk = MainAgent::builder("desk", plan.build().unwrap()).without_restarts().build().unwrap();
            match desk.run("Hello?", caller()).await {
                Ok(outcome) => outcome.into_suspended().map_or("completed".to_owned(), |_| "waits".to_owned()),
                Err(failure) => failure.code().to_string(),
            }
        };
        assert_eq!(run(step().human("Please.")).await, "waits");
        assert_eq!(run(step()).await, "model.cut");
        let table = FailureTable::default().change(RunFailureClass::AfterCommit, |row| row.human = false);
        assert_eq!(run(step().human("Please.").table(table)).await, "model.cut");
    });
}

#[test]
fn a_failure_that_lets_nobody_follow_does_so_after_a_beginning_was_read_as_well() {
    paused(async {
        let cut = Upstream::new("north", "first", [Deed::SaysAndFails(2, Class::ContentPolicy)], &Log::default());
        let targets = Targets::default();
        let plan = plan([PlanStep::new(cut), good("b")]).targets(targets.clone()).build().unwrap();
        let desk = MainAgent::builder("desk", plan).build().unwrap();
        let failure = desk.run("Hello?", caller()).await.unwrap_err();
        assert_eq!(failure.code().as_str(), "model.content_policy");
        let failed = targets.states().into_iter().find(|state| &*state.key.model == "first").unwrap();
        assert_eq!(failed.failures, 0, "the request was at fault");
    });
}

#[test]
fn next_steps_are_those_that_the_table_names() {
    let log = || Log::default();
    let first = |next| {
        let table = FailureTable::default().with_row(Class::Unavailable, FailureRow::FAIL.with_next(next));
        let first = Upstream::new("north", "first", [fails(Class::Unavailable)], &log());
        plan([PlanStep::new(first.with_info(|info| info.with_context_window(Tokens(4_000)))).with_credential("ours")])
            .table(table)
    };
    let price = |micro: u64| agent_core::Price::per_million(agent_core::MicroUsd(micro), agent_core::MicroUsd(micro));
    let model = |provider: &str, name: &str| Upstream::new(provider, name, [SAYS], &log());
    let asked = |plan: FallbackBuilder| paused(async { ask(&plan.build().unwrap()).await });
    let same = || PlanStep::new(model("north", "same")).with_credential("ours");
    assert_eq!(asked(first(NextStep::OtherCredential).step(same())), "model.unavailable");
    let other = PlanStep::new(model("north", "other")).with_credential("theirs");
    assert_eq!(asked(first(NextStep::OtherCredential).step(same()).step(other)), "other");
    let elsewhere = PlanStep::new(model("south", "elsewhere")).with_credential("ours");
    assert_eq!(asked(first(NextStep::OtherCredential).step(same()).step(elsewhere)), "elsewhere");
    let dear = model("south", "dear").with_info(|info| info.with_price(price(9_000_000)));
    let cheap = model("south", "cheap").with_info(|info| info.with_price(price(1_000)));
    assert_eq!(asked(first(NextStep::Cheaper).step(dear.clone())), "model.unavailable");
    assert_eq!(asked(first(NextStep::Cheaper).step(dear).step(cheap)), "cheap");
    let small = model("south", "small").with_info(|info| info.with_context_window(Tokens(3_000)));
    let large = model("south", "large").with_info(|info| info.with_context_window(Tokens(5_000)));
    assert_eq!(asked(first(NextStep::LargerWindow).step(small.clone())), "model.unavailable");
    assert_eq!(asked(first(NextStep::LargerWindow).step(small).step(large)), "large");
}

#[test]
fn steps_that_may_not_follow_stay_out_while_the_failed_one_is_asked_again() {
    paused(async {
        let log = Log::default();
        let row = FailureRow::FAIL.with_again(1, Wait::Backoff);
        let table = FailureTable::default().with_row(Class::Unavailable, row);
        let first = Upstream::new(
            "north",
            "first",
            [Deed::Fails(Class::Unavailable, Some(Duration::from_secs(30))), SAYS],
            &log,
        );
        let second = Upstream::new("south", "second", [SAYS], &log);
        let plan = plan([PlanStep::new(first), PlanStep::new(second)]).table(table).build().unwrap();
        // It is longer than patience lasts, and yet nobody else may answer.
        assert_eq!(ask(&plan).await, "first");
        assert_eq!(log.sent().len(), 2);
    });
}

#[test]
fn steps_that_fail_at_once_for_ever_can_be_stopped() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let row = FailureRow::FAIL.with_again(u32::MAX, Wait::No);
        let table = FailureTable::default().with_row(Class::Unavailable, row);
        let plan =
            plan([PlanStep::new(FnModel::new(|_| Line::fails(Class::Unavailable)))]).table(table).build().unwrap();
        let begun = std::time::Instant::now();
        let asked = tokio::time::timeout(Duration::from_millis(50), ask(&plan)).await;
        assert!(asked.is_err() && begun.elapsed() < Duration::from_secs(5));
    });
}

#[test]
fn settings_with_which_a_breaker_never_opens_are_refused() {
    let refused = |settings: Value| {
        let settings: BreakerSettings = serde_json::from_value(settings).unwrap();
        Targets::new(settings).unwrap_err().to_string()
    };
    assert_eq!(refused(json!({"minimum_calls": 21})), "minimum_calls is \"21\", expected at least 1, at most `window`");
    assert_eq!(refused(json!({"window_ms": 0})), "window_ms is \"0\", expected at least 1");
    assert_eq!(refused(json!({"window": 0})), "window is \"0\", expected at least 1");
    assert_eq!(refused(json!({"failures_percent": 101})), "failures_percent is \"101\", expected 1 to 100");
    assert!(refused(json!({"failures_percent": 0})).starts_with("failures_percent"));
}

#[test]
fn a_model_that_panics_is_gone_past() {
    paused(async {
        let targets = Targets::default();
        let opening = FnModel::new(|_| panic!("when it is asked")).with_info(|mut info| {
            info.name = "opening".into();
            info
        });
        let reading = FnModel::new(|_| Line::silence().then_text("I am").then_panics());
        let steps = [PlanStep::new(opening), PlanStep::new(reading).with_name("reading"), good("c")];
        let plan = plan(steps).targets(targets.clone()).build().unwrap();
        let desk = MainAgent::builder("desk", plan).build().unwrap();
        let report = desk.run("Hello?", caller()).await.unwrap().into_report().unwrap();
        let ends: Vec<AttemptEnd> = report.provenance.attempts.iter().map(|attempt| attempt.end).collect();
        let panicked = AttemptEnd::Failed(Class::Panicked);
        assert_eq!(ends, [panicked, panicked, AttemptEnd::Answered]);
        assert_eq!(targets.states().iter().map(|state| state.failures).sum::<usize>(), 2);
        // In a stream, after something was read.
        let reading = FnModel::new(|_| Line::silence().then_text("I am").then_panics());
        let plan = super::order::plan([PlanStep::new(reading)]).build().unwrap();
        let request = ChatRequest::new(Conversation::new().say("Hello?"));
        let stream = plan.stream(request, &RunContext::standalone(caller())).await.unwrap();
        let read: Vec<_> = futures_util::StreamExt::collect(stream).await;
        assert!(
            matches!(&read[..], [.., Ok(Chunk::Text(_)), Err(error)] if error.class == Class::Panicked),
            "{read:?}"
        );
    });
}

#[test]
fn nothing_follows_a_beginning_that_nobody_can_take_back() {
    paused(async {
        // What the agent itself would ask again: a plan's failure, and a single model's.
        for class in [Class::ContextOverflow, Class::Malformed, Class::Empty] {
            let first = || Upstream::new("north", "first", [Deed::SaysAndFails(1, class)], &Log::default());
            let in_plan = plan([PlanStep::new(first())]).step(RulesModel::new("rules", rules(|_| Some("x".into()))));
            let in_plan = MainAgent::builder("desk", in_plan.build().unwrap());
            for desk in [in_plan, MainAgent::builder("desk", first())] {
                let failure = desk.without_restarts().build().unwrap().run("Hello?", caller()).await.unwrap_err();
                let calls: u32 = failure.attempts.iter().map(|attempt| attempt.calls).sum();
                assert_eq!((failure.code().as_str(), calls), ("model.cut", 1), "{class:?}");
            }
        }
    });
}

#[test]
fn a_person_answers_when_one_model_is_too_small_and_the_other_one_cannot_be_asked() {
    paused(async {
        let sized = |name: &str, window: u64, deed: Deed| {
            let upstream = Upstream::new("north", name, [deed], &Log::default());
            PlanStep::new(upstream.with_info(|info| info.with_context_window(Tokens(window)))).with_credential(name)
        };
        let tiny = sized("tiny", 4, SAYS);
        let dead = sized("dead", 4_000, fails(Class::QuotaExhausted));
        let desk = |plan: FallbackBuilder| MainAgent::builder("desk", plan.build().unwrap()).build().unwrap();
        let waiting = desk(plan([tiny.clone(), dead.clone()]).human("Please."));
        for _ in 0..2 {
            assert!(waiting.run("Hello?", caller()).await.unwrap().into_suspended().is_ok());
        }
        let failing = desk(plan([tiny, dead]));
        assert_eq!(failing.run("Hello?", caller()).await.unwrap_err().code().as_str(), "model.quota_exhausted");
        assert_eq!(failing.run("Hello?", caller()).await.unwrap_err().code().as_str(), "context.does_not_fit");
    });
}
