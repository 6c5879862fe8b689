//! What callers do to each other: in queues, with budgets, by what they say of a model; and what becomes of slow readers.

use std::future::Future;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agent_core::{
    Bounds, ChatModel, ChatRequest, Chunk, ContextError, ContextPolicy, Conversation, FitRequest, Fitted, Lease,
    Limits, MainAgent, MicroUsd, ModelError, ModelErrorClass as Class, ModelInfo, ModelStream, Observer, Resume,
    RunContext, RunOptions, RunOutcome, RunState, Spend, async_trait, complete,
};
use agent_router::{
    FailureRow, FailureTable, FallbackBuilder, FallbackModel, NextStep, PlanStep, RulesModel, StepLimits, Targets,
    rules,
};
use futures_util::{StreamExt, stream};
use testkit::{FnModel, Line, caller, paused, somebody};
use tokio::time::{Instant, sleep};

use super::upstream::{Deed, Log, Upstream};

const SAYS: Deed = Deed::Says(1, Duration::ZERO);

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn step(name: &str, deeds: impl IntoIterator<Item = Deed>) -> PlanStep {
    PlanStep::new(Upstream::new("north", name, deeds, &Log::default())).with_credential(name)
}

fn plan(steps: impl IntoIterator<Item = PlanStep>) -> FallbackBuilder {
    steps.into_iter().fold(FallbackModel::builder("plan").seed(1), FallbackBuilder::step)
}

fn closed() -> RulesModel {
    RulesModel::new("rules", rules(|_| Some("By rule.".into())))
}

fn request() -> ChatRequest {
    ChatRequest::new(Conversation::new().say("Hello?")).with_restarts(agent_core::Restarts::Allowed)
}

fn within(tenant: &str, time: Duration) -> RunContext {
    let lease = Lease::root(Limits::none().with_time(time));
    RunContext::standalone_with(somebody(tenant, "ann"), lease, Vec::new())
}

/// Which model answered, or the code of the failure.
async fn ask(plan: &FallbackModel, cx: &RunContext) -> String {
    match complete(plan, request(), cx).await {
        Ok(reply) => reply.model.clone().unwrap().to_string(),
        Err(error) => error.code().to_string(),
    }
}

/// So many callers that ask again and again.
fn crowd(plan: &FallbackModel, callers: usize, tenant: impl Fn(usize) -> String) {
    for number in 0..callers {
        let (plan, tenant) = (plan.clone(), tenant(number));
        tokio::spawn(async move {
            loop {
                let _ = complete(&plan, request(), &RunContext::standalone(somebody(&tenant, "ann"))).await;
            }
        });
    }
}

#[test]
fn a_tenant_that_fills_the_queue_leaves_others_their_turn() {
    paused(async {
        let limits = StepLimits::default().with_concurrency(NonZeroU32::MIN).with_queue(4);
        let narrow = plan([step("narrow", [Deed::Says(1, Duration::from_millis(100))]).with_limits(limits)]);
        let narrow = narrow.build().unwrap();
        crowd(&narrow, 20, |_| "greedy".to_owned());
        sleep(secs(1)).await;
        for _ in 0..10 {
            let begun = Instant::now();
            assert_eq!(ask(&narrow, &within("small", secs(10))).await, "narrow");
            assert!(begun.elapsed() <= Duration::from_millis(301), "{:?}", begun.elapsed());
        }
    });
}

#[test]
fn every_tenant_has_its_turn_however_many_there_are() {
    paused(async {
        let limits = StepLimits::default().with_concurrency(NonZeroU32::MIN).with_queue(4).with_longest_wait(secs(20));
        let narrow = plan([step("narrow", [Deed::Says(1, Duration::from_millis(100))]).with_limits(limits)]);
        let narrow = narrow.build().unwrap();
        crowd(&narrow, 40, |number| format!("tenant-{}", number % 8));
        sleep(secs(1)).await;
        for _ in 0..5 {
            let begun = Instant::now();
            assert_eq!(ask(&narrow, &within("small", secs(30))).await, "narrow");
            assert!(begun.elapsed() <= Duration::from_millis(1_101), "{:?}", begun.elapsed());
        }
    });
}

#[test]
fn waits_for_other_things_have_an_end_after_one_for_budget() {
    paused(async {
        let limited = |name| step(name, [Deed::Fails(Class::RateLimited, Some(secs(800)))]);
        let both = plan([limited("a"), limited("b")]).build().unwrap();
        let lease = Lease::root(Limits::none().with_micro_usd(MicroUsd(1_000)));
        let held = lease.reserve(Spend::ZERO.with_micro_usd(MicroUsd(999))).await.unwrap();
        let cx = RunContext::standalone_with(caller(), lease.clone(), vec![]);
        let begun = Instant::now();
        let settling = async {
            sleep(secs(3)).await;
            held.settle(Spend::ZERO);
        };
        let (said, ()) = tokio::join!(ask(&both, &cx), settling);
        assert!(said == "model.rate_limited" && begun.elapsed() < secs(65), "{said} after {:?}", begun.elapsed());
    });
}

#[test]
fn a_reader_that_looked_once_and_went_away_says_nothing_bad() {
    paused(async {
        let targets = Targets::default();
        let slow = step("slow", [Deed::Says(5, Duration::from_millis(100))]);
        let plan = plan([slow.with_time(secs(9)), step("second", [SAYS])]).targets(targets.clone()).build().unwrap();
        for number in 0..6 {
            let cx = within("acme", secs(60));
            let mut stream = plan.stream(request(), &cx).await.unwrap();
            stream.next().await.unwrap().unwrap();
            assert!(futures_util::FutureExt::now_or_never(stream.next()).is_none());
            sleep(secs(12)).await;
            // It is let go, or read on after its time.
            if number % 2 == 0 {
                let _ = stream.next().await;
            }
        }
        assert_eq!(failures(&targets, "slow"), 0);
    });
}

#[test]
fn a_model_that_was_heard_a_moment_ago_is_not_silent() {
    paused(async {
        let targets = Targets::default();
        let deeds = (0..40).map(|number| if number % 2 == 0 { Deed::Hangs } else { SAYS });
        let moody = plan([step("moody", deeds)]).targets(targets.clone()).build().unwrap();
        for _ in 0..6 {
            let (patient, hasty) = (within("acme", secs(60)), within("acme", secs(60)));
            let gives_up = tokio::time::timeout(Duration::from_millis(5_500), ask(&moody, &patient));
            let others = async {
                sleep(Duration::from_millis(4_400)).await;
                ask(&moody, &hasty).await
            };
            let (gave_up, said) = tokio::join!(gives_up, others);
            assert_eq!((gave_up.is_err(), &*said), (true, "moody"));
        }
        assert_eq!(failures(&targets, "moody"), 0);
    });
}

#[test]
fn budget_that_others_hold_is_not_waited_for_while_somebody_needs_none() {
    let free = || PlanStep::new(FnModel::new(|_| Line::text("free"))).with_name("free").with_credential("free");
    let asked = |plan: FallbackBuilder, time: Option<Duration>| {
        paused(async {
            let mut limits = Limits::none().with_micro_usd(MicroUsd(1_000));
            limits.time = time;
            let lease = Lease::root(limits);
            let _held = lease.reserve(Spend::ZERO.with_micro_usd(MicroUsd(999))).await.unwrap();
            let begun = Instant::now();
            let said = ask(&plan.build().unwrap(), &RunContext::standalone_with(caller(), lease.clone(), vec![])).await;
            (said, begun.elapsed().as_secs())
        })
    };
    let paid = || step("paid", [SAYS]);
    assert_eq!(asked(plan([paid(), free()]).human("Please."), Some(secs(100))), ("function".into(), 2));
    assert_eq!(asked(plan([paid(), free()]), None), ("function".into(), 2));
    // Rules and a person are waited for a minute with.
    assert_eq!(asked(plan([paid()]).step(closed()), None), ("rules".into(), 60));
    assert_eq!(asked(plan([paid()]).human("Please."), None), ("model.needs_human".into(), 60));
}

#[test]
fn who_has_little_time_says_nothing_bad_of_a_slow_model() {
    paused(async {
        let slow = || step("slow", [Deed::Says(1, secs(8))]);
        let both = plan([slow(), step("second", [SAYS])]).build().unwrap();
        assert_eq!(ask(&both, &within("patient", secs(60))).await, "slow");
        for _ in 0..3 {
            let calls = (0..6).map(|_| async { ask(&both, &within("hasty", secs(12))).await });
            let said = futures_util::future::join_all(calls).await;
            assert!(said.iter().all(|said| said == "second"), "{said:?}");
        }
        assert_eq!(ask(&both, &within("patient", secs(60))).await, "slow");
    });
}

fn failures(targets: &Targets, model: &str) -> usize {
    targets.states().iter().filter(|state| &*state.key.model == model).map(|state| state.failures).sum()
}

#[test]
fn a_model_that_hangs_is_marked_however_little_time_each_caller_has() {
    // At the run's end, where nobody else is there to ask.
    paused(async {
        let targets = Targets::default();
        let alone = plan([step("hangs", [Deed::Hangs])]).targets(targets.clone()).build().unwrap();
        let cx = within("acme", secs(20));
        let begun = Instant::now();
        let calls = (0..4).map(|_| ask(&alone, &cx));
        futures_util::future::join_all(calls).await;
        assert_eq!((failures(&targets, "hangs"), begun.elapsed().as_secs()), (4, 20));
        // One that a caller lets go after long, and another one after a moment.
        let _ = tokio::time::timeout(secs(10), ask(&alone, &within("acme", secs(60)))).await;
        assert!(targets.states()[0].open_for_ms > 0);
    });
    // By shares that are each too short.
    paused(async {
        let both = plan([step("hangs", [Deed::Hangs]), step("second", [SAYS])]).build().unwrap();
        let begun = Instant::now();
        for _ in 0..50 {
            assert_eq!(ask(&both, &within("acme", secs(9))).await, "second");
        }
        assert!(begun.elapsed() < secs(60), "{:?}", begun.elapsed());
    });
    // One that answered meanwhile is not.
    paused(async {
        let targets = Targets::default();
        let deeds = [Deed::Hangs, SAYS, Deed::Hangs, SAYS, Deed::Hangs, SAYS];
        let both = plan([step("moody", deeds), step("second", [SAYS])]).targets(targets.clone()).build().unwrap();
        for _ in 0..6 {
            ask(&both, &within("acme", secs(9))).await;
        }
        assert_eq!(failures(&targets, "moody"), 0);
    });
}

#[test]
fn callers_that_need_a_place_and_budget_do_not_chase_each_other() {
    // Five callers, budget for one, one place at the second model, of whom one is cancelled.
    paused(async {
        let polls = Arc::new(Mutex::new(0_u32));
        let one = StepLimits::default().with_concurrency(NonZeroU32::MIN).with_queue(2);
        let fails = step("fails", [Deed::FailsAfter(secs(1), Class::NotFound)]);
        let both = plan([fails, step("second", [Deed::Says(1, secs(2))]).with_limits(one)]).build().unwrap();
        let lease = Lease::root(Limits::none().with_micro_usd(MicroUsd(321)).with_time(secs(30)));
        let calls = (0..5).map(|_| {
            let (cx, polls, both) =
                (RunContext::standalone_with(caller(), lease.clone(), vec![]), polls.clone(), both.clone());
            let mut asking = Box::pin(async move { ask(&both, &cx).await });
            std::future::poll_fn(move |task| {
                *polls.lock().unwrap() += 1;
                assert!(*polls.lock().unwrap() < 5_000, "they chase each other");
                asking.as_mut().poll(task)
            })
        });
        let said = futures_util::future::join_all(calls).await;
        assert!(said.iter().any(|said| said == "second"), "{said:?}");
    });
}

#[test]
fn steps_that_are_left_out_are_followed_by_those_that_the_table_names() {
    let cooling = || step("cooling", [Deed::Fails(Class::RateLimited, Some(secs(600)))]);
    let second = |asked: &FallbackModel| paused_twice(asked);
    let table = FailureTable::default().change(Class::NotNow, |row| row.next = NextStep::Never);
    assert_eq!(second(&plan([cooling(), step("second", [SAYS])]).table(table).build().unwrap()), "model.not_now");
    assert_eq!(second(&plan([cooling(), step("second", [SAYS])]).build().unwrap()), "second");
    let tiny = Upstream::new("north", "tiny", [SAYS], &Log::default());
    let tiny = || PlanStep::new(tiny.clone().with_info(|info| info.with_context_window(agent_core::Tokens(4))));
    let table = FailureTable::default().change(Class::ContextOverflow, |row| row.next = NextStep::Never);
    let both = plan([tiny(), step("second", [SAYS])]).table(table).build().unwrap();
    assert_eq!(second(&both), "model.context_overflow");
    assert_eq!(second(&plan([tiny(), step("second", [SAYS])]).build().unwrap()), "second");
}

/// What comes of the second of two requests.
fn paused_twice(plan: &FallbackModel) -> String {
    paused(async {
        let cx = RunContext::standalone(caller());
        ask(plan, &cx).await;
        ask(plan, &cx).await
    })
}

/// Pretends to shorten.
struct Shortens;

#[async_trait]
impl ContextPolicy for Shortens {
    async fn fit(&self, request: FitRequest<'_>, _: &RunContext) -> Result<Fitted, ContextError> {
        Ok(Fitted::new(request.conversation.clone(), agent_core::Tokens(2), agent_core::Tokens(1)))
    }
}

/// Drains a run at its so many-th failure of a model.
struct Drains(tokio_util::sync::CancellationToken, Mutex<u32>);

impl Observer for Drains {
    fn observe(&self, event: &agent_core::Event) {
        if let agent_core::EventKind::ModelFailed(_) = &event.kind {
            let mut left = self.1.lock().unwrap();
            *left -= 1;
            if *left == 0 {
                self.0.cancel();
            }
        }
    }
}

#[test]
fn the_end_is_the_same_with_and_without_a_pause() {
    let run = |drain_at: Option<u32>| {
        paused(async {
            let table =
                FailureTable::default().change(Class::ContextOverflow, |row| (row.rules, row.human) = (false, false));
            let long = step("long", [Deed::Fails(Class::ContextOverflow, None)]);
            let plan = plan([long]).step(closed()).table(table).build().unwrap();
            let desk = MainAgent::builder("desk", plan).context_policy(Shortens).build().unwrap();
            let token = tokio_util::sync::CancellationToken::new();
            let options = drain_at.map(|at| {
                let drains = Drains(token.clone(), Mutex::new(at));
                RunOptions::default().with_observer(drains).with_drain(token.clone())
            });
            let request = agent_core::Request::new("Hello?").with_options(options.unwrap_or_default());
            let mut ended = desk.run(request, caller()).await;
            if let Ok(RunOutcome::Suspended(suspended)) = ended {
                let state: RunState = testkit::elsewhere(&suspended.state);
                ended = desk.resume(Resume::new(state, caller())).await;
            }
            ended.map(|outcome| outcome.to_string()).map_err(|failure| failure.code().to_string())
        })
    };
    for drain_at in [None, Some(1), Some(2), Some(3)] {
        assert_eq!(run(drain_at), Err("model.context_overflow".to_owned()), "{drain_at:?}");
    }
}

/// Always has more to say.
struct Endless(ModelInfo);

#[async_trait]
impl ChatModel for Endless {
    fn info(&self) -> &ModelInfo {
        &self.0
    }

    async fn stream(&self, _: ChatRequest, _: &RunContext) -> Result<ModelStream, ModelError> {
        Ok(stream::repeat_with(|| Ok(Chunk::Text("so ".into()))).boxed())
    }
}

#[test]
fn a_slow_reader_is_told_when_the_time_is_over() {
    let endless = || PlanStep::new(Endless(ModelInfo::new("wild", "endless")));
    let read = |step: PlanStep, cancel: bool| {
        paused(async {
            let cx = within("acme", secs(5));
            let plan = plan([step]).build().unwrap();
            let mut stream = plan.stream(request(), &cx).await.unwrap();
            for second in 0..20_u64 {
                sleep(secs(1)).await;
                if cancel && second == 1 {
                    cx.cancellation().cancel();
                }
                if let Err(error) = stream.next().await.unwrap() {
                    return (error.class, second + 1);
                }
            }
            panic!("it goes on for ever")
        })
    };
    assert_eq!(read(endless(), false), (Class::Stopped, 5));
    assert_eq!(read(endless().with_time(secs(3)), false), (Class::TimedOut, 3));
    assert_eq!(read(endless(), true), (Class::Stopped, 2));
}

#[test]
fn a_silent_model_is_judged_by_the_row_that_it_fails_with() {
    let check = |table: FailureTable, steps: [PlanStep; 2], expected: (&str, u64)| {
        let (said, took) = paused(async {
            let begun = Instant::now();
            let plan = plan(steps).table(table).build().unwrap();
            (ask(&plan, &within("acme", secs(20))).await, begun.elapsed().as_secs())
        });
        assert_eq!((&*said, took), expected);
    };
    let never = |class, next| FailureTable::default().change(class, |row: &mut FailureRow| row.next = next);
    let hangs = || step("hangs", [Deed::Hangs]);
    let slow = || step("slow", [Deed::Says(1, secs(12))]);
    let second = || step("second", [SAYS]);
    check(never(Class::TimedOut, NextStep::Never), [hangs(), second()], ("second", 10));
    check(never(Class::FirstTokenTimeout, NextStep::Never), [slow(), second()], ("slow", 12));
    // The other one shares its credential, and could not follow.
    let other = never(Class::FirstTokenTimeout, NextStep::OtherCredential);
    check(other, [slow().with_credential("one"), second().with_credential("one")], ("slow", 12));
}

#[test]
fn rules_before_the_models_take_none_of_their_attempts() {
    #[derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
    struct Sum {
        sum: u32,
    }
    paused(async {
        let sum = PlanStep::new(FnModel::new(|_| Line::text(r#"{"sum": 7}"#))).with_name("sum");
        let plan = FallbackModel::builder("plan").step(closed()).step(sum).build().unwrap();
        let desk = MainAgent::builder("desk", plan).answer::<Sum>().bounds(Bounds::default().with_attempts(1));
        let report = desk.build().unwrap().run("How much?", caller()).await.unwrap().into_report().unwrap();
        assert_eq!(report.provenance.step.as_deref(), Some("sum"));
    });
}

/// A stream that panics when it is let go.
struct PanicsOnDrop;

impl Drop for PanicsOnDrop {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            super::upstream::panics()
        }
    }
}

struct Fragile(ModelInfo);

#[async_trait]
impl ChatModel for Fragile {
    fn info(&self) -> &ModelInfo {
        &self.0
    }

    async fn stream(&self, _: ChatRequest, _: &RunContext) -> Result<ModelStream, ModelError> {
        let guard = PanicsOnDrop;
        Ok(stream::iter([Err(ModelError::new(Class::Unavailable, "down"))]).inspect(move |_| _ = &guard).boxed())
    }
}

#[test]
fn a_stream_that_panics_when_it_is_let_go_is_gone_past() {
    paused(async {
        let fragile = PlanStep::new(Fragile(ModelInfo::new("wild", "fragile"))).with_credential("wild");
        let both = plan([fragile, step("second", [SAYS])]).build().unwrap();
        assert_eq!(ask(&both, &RunContext::standalone(caller())).await, "second");
    });
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let refused = |plan: FallbackBuilder| plan.build().unwrap_err().to_string();
    let named = |name: &str| FallbackModel::builder(name).step(step("a", [SAYS]));
    assert_eq!(refused(named(" ")), "name is \" \", expected a text that is not blank");
    assert_eq!(refused(named("plan").human(" ")), "human is \" \", expected a text that is not blank");
    let zero = |step: PlanStep| refused(plan([step]));
    let expected = "a: first_token is \"0\", expected a time in which something can come";
    assert_eq!(zero(step("a", [SAYS]).with_first_token(Duration::ZERO)), expected);
    assert!(zero(step("a", [SAYS]).with_time(Duration::ZERO)).starts_with("a: time"));
    let unknown = serde_json::from_str::<FailureTable>(r#"{"rate_limitd": {}}"#).unwrap_err().to_string();
    assert!(unknown.starts_with("there is no class of failures `rate_limitd`"), "{unknown}");
}
