//! Time: whose share of it is whose, what is waited for, and what stops a request.

use std::num::NonZeroU32;
use std::time::Duration;

use agent_core::{
    AgentError, ChatModel, ChatRequest, Conversation, Lease, Limits, MainAgent, ModelErrorClass as Class, ModelStream,
    Request, Restarts, RunContext, RunOptions, RunOutcome, Spend, Tokens, complete,
};
use agent_router::{
    DecisionRow, DecisionTable, FallbackBuilder, FallbackModel, PlanStep, RulesModel, StepLimits, Targets, Waits, rules,
};
use futures_util::StreamExt;
use serde_json::json;
use testkit::{caller, paused, somebody};
use tokio::time::{Instant, sleep};

use super::upstream::{Deed, Log, Upstream};

const SAYS: Deed = Deed::Says(1, Duration::ZERO);

fn step(name: &str, deeds: impl IntoIterator<Item = Deed>) -> PlanStep {
    PlanStep::new(Upstream::new("north", name, deeds, &Log::default())).with_credential(name)
}

fn plan(steps: impl IntoIterator<Item = PlanStep>) -> FallbackBuilder {
    steps.into_iter().fold(FallbackModel::builder("plan").seed(1), FallbackBuilder::step)
}

fn closed() -> RulesModel {
    RulesModel::new("rules", DecisionTable::new([DecisionRow::new("By rule.")]).unwrap())
}

/// What comes of a run that has 20 seconds, and after how many milliseconds.
fn run(plan: FallbackBuilder, restarts: Restarts) -> (String, u128) {
    paused(async {
        let begun = Instant::now();
        let desk = MainAgent::builder("desk", plan.build().unwrap());
        let desk = desk.limits(Limits::none().with_time(Duration::from_secs(20)));
        let desk = if restarts == Restarts::Allowed { desk } else { desk.without_restarts() }.build().unwrap();
        let said = match desk.run("Hello?", caller()).await {
            Ok(RunOutcome::Completed(report)) => report.provenance.step.unwrap().to_string(),
            Ok(RunOutcome::Suspended(_)) => "waits".to_owned(),
            Err(failure) => failure.code().to_string(),
        };
        (said, begun.elapsed().as_millis())
    })
}

#[track_caller]
fn check(plan: FallbackBuilder, expected: (&str, u128)) {
    let (said, took) = run(plan, Restarts::Allowed);
    assert_eq!((&*said, took), expected);
}

#[test]
fn a_model_that_hangs_leaves_time_for_rules_and_a_person() {
    let hangs = || step("hangs", [Deed::Hangs]);
    check(plan([hangs()]).step(closed()), ("rules", 18_000));
    check(plan([hangs()]).human("Please."), ("waits", 18_000));
    check(plan([hangs()]).step(closed()).human("Please."), ("rules", 18_000));
    // Half for the first one.
    check(plan([hangs(), step("too", [Deed::Hangs])]).human("Please."), ("waits", 18_000));
    // Nobody else is there.
    check(plan([hangs()]), ("run.deadline", 20_000));
    // It goes on writing for longer than there is time.
    let endless = || step("endless", [Deed::Says(1_000, Duration::from_millis(100))]);
    check(plan([endless()]).human("Please."), ("waits", 18_000));
    check(plan([endless()]), ("run.deadline", 20_000));
    // It stops in the middle: rules may not follow then, a person may.
    let stops = || step("stops", [Deed::SaysAndHangs(1)]);
    check(plan([stops()]).human("Please."), ("waits", 18_000));
    assert_eq!(run(plan([stops()]).human("Please."), Restarts::Forbidden), ("waits".to_owned(), 18_000));
    check(plan([stops()]).step(closed()), ("run.deadline", 20_000));
}

#[test]
fn a_model_that_stops_in_the_middle_leaves_time_for_another_one() {
    let stops = || step("stops", [Deed::SaysAndHangs(1)]);
    // Its word came after ten milliseconds.
    check(plan([stops(), step("second", [SAYS])]), ("second", 10_005));
    let forbidden = run(plan([stops(), step("second", [SAYS])]), Restarts::Forbidden);
    assert_eq!(forbidden, ("run.deadline".to_owned(), 20_000));
    // One that is slow and goes on is not given up.
    let slow = step("slow", [Deed::Says(15, Duration::from_secs(1))]);
    check(plan([slow, step("second", [SAYS])]), ("slow", 15_000));
}

#[test]
fn no_time_is_kept_for_models_that_cannot_be_asked() {
    // The second one's credential is dead: the first one has all of the time, and is not blamed for being slow.
    paused(async {
        let targets = Targets::default();
        let slow = step("slow", [Deed::Says(1, Duration::from_secs(15))]);
        let dead = step("dead", [Deed::Fails(Class::Auth, None)]);
        let alone = plan([step("dead", [Deed::Fails(Class::Auth, None)])]).targets(targets.clone()).build().unwrap();
        let _ = complete(&alone, request(), &RunContext::standalone(caller())).await;
        let desk = MainAgent::builder("desk", plan([slow, dead]).targets(targets.clone()).build().unwrap());
        let desk = desk.limits(Limits::none().with_time(Duration::from_secs(20))).build().unwrap();
        let report = desk.run("Hello?", caller()).await.unwrap().into_report().unwrap();
        assert_eq!(report.provenance.step.as_deref(), Some("slow"));
        assert_eq!(targets.states().iter().map(|state| state.failures).sum::<usize>(), 0);
    });
    let slow = || step("slow", [Deed::Says(1, Duration::from_secs(15))]);
    let tiny = Upstream::new("north", "tiny", [SAYS], &Log::default());
    let tiny = PlanStep::new(tiny.with_info(|info| info.with_context_window(Tokens(2))));
    check(plan([slow(), tiny]), ("slow", 15_000));
    check(plan([slow(), step("second", [SAYS])]), ("second", 10_000));
}

#[test]
fn a_short_share_of_time_says_nothing_about_a_model_and_a_long_one_does() {
    let failures = |seconds: u64| {
        paused(async {
            let targets = Targets::default();
            let plan = plan([step("hangs", [Deed::Hangs]), step("second", [SAYS])]).targets(targets.clone());
            let desk = MainAgent::builder("desk", plan.build().unwrap());
            let desk = desk.limits(Limits::none().with_time(Duration::from_secs(seconds))).build().unwrap();
            desk.run("Hello?", caller()).await.unwrap();
            targets.states().iter().map(|state| state.failures).sum::<usize>()
        })
    };
    assert_eq!((failures(8), failures(20)), (0, 1));
}

fn request() -> ChatRequest {
    ChatRequest::new(Conversation::new().say("Hello?"))
}

#[test]
fn a_busy_step_is_not_waited_for_while_another_one_is_free() {
    paused(async {
        let limits =
            StepLimits::default().with_concurrency(NonZeroU32::MIN).with_longest_wait(Duration::from_secs(600));
        let busy = step("busy", [Deed::Says(1, Duration::from_secs(300))]).with_limits(limits);
        let both = plan([busy.clone(), step("free", [SAYS])]).build().unwrap();
        let ask = async || {
            let begun = Instant::now();
            let reply = complete(&both, request(), &RunContext::standalone(caller())).await.unwrap();
            (reply.model.clone().unwrap().to_string(), begun.elapsed().as_secs())
        };
        let (first, second) = tokio::join!(ask(), ask());
        assert_eq!((first, second), (("busy".to_owned(), 300), ("free".to_owned(), 2)));
        // Nothing else is there: it is waited for, and a person still has time.
        let alone = plan([busy]).human("Please.").build().unwrap();
        let in_time = RunContext::standalone_with(
            caller(),
            Lease::root(Limits::none().with_time(Duration::from_secs(100))),
            Vec::new(),
        );
        let begun = Instant::now();
        let first = RunContext::standalone(somebody("umbrella", "eve"));
        let holds = complete(&alone, request(), &first);
        let waits = async {
            sleep(Duration::from_millis(1)).await;
            let failed = complete(&alone, request(), &in_time).await.unwrap_err();
            (failed.code().to_string(), begun.elapsed().as_secs())
        };
        let waited = tokio::select! { _ = holds => unreachable!(), waited = waits => waited };
        assert_eq!(waited, ("model.needs_human".to_owned(), 95));
    });
}

/// Asks with a context of a host's own, cancels it after 50 milliseconds, and says how it ended and when.
async fn cancelled(model: &dyn ChatModel, cx: &RunContext) -> (String, u128) {
    let begun = Instant::now();
    let token = cx.cancellation().clone();
    tokio::spawn(async move {
        sleep(Duration::from_millis(50)).await;
        token.cancel();
    });
    let ended = tokio::time::timeout(Duration::from_secs(3_600), complete(model, request(), cx)).await;
    let ended = ended.map_or("never".to_owned(), |ended| match ended {
        Ok(_) => "answered".to_owned(),
        Err(error) => error.code().to_string(),
    });
    (ended, begun.elapsed().as_millis())
}

#[test]
fn invariant_11_whatever_is_waited_for_is_given_up_when_a_context_is_cancelled() {
    let stopped = || ("run.cancelled".to_owned(), 50);
    let cx = || RunContext::standalone(caller());
    for deed in [Deed::Hangs, Deed::SaysAndHangs(0), Deed::SaysAndHangs(2)] {
        paused(async {
            let log = Log::default();
            let plain = Upstream::new("north", "first", [deed.clone()], &log);
            assert_eq!(cancelled(&plain, &cx()).await, stopped(), "{deed:?} of a plain model");
            let plan = plan([PlanStep::new(plain), step("second", [SAYS])]).build().unwrap();
            assert_eq!(cancelled(&plan, &cx()).await, stopped(), "{deed:?}");
            assert_eq!((log.open(), log.sent().len()), (0, 2));
        });
    }
    paused(async {
        // Backoff.
        let limited = Deed::Fails(Class::RateLimited, Some(Duration::from_secs(30)));
        assert_eq!(cancelled(&plan([step("limited", [limited])]).build().unwrap(), &cx()).await, stopped());
        // A place within limits.
        let limits =
            StepLimits::default().with_concurrency(NonZeroU32::MIN).with_longest_wait(Duration::from_secs(600));
        let narrow = plan([step("narrow", [Deed::Hangs]).with_limits(limits)]).build().unwrap();
        let first = RunContext::standalone(caller());
        let ended = tokio::select! {
            _ = complete(&narrow, request(), &first) => unreachable!(),
            ended = async { sleep(Duration::from_millis(1)).await; cancelled(&narrow, &cx()).await } => ended,
        };
        assert_eq!(ended, stopped());
        // Budget that somebody else holds.
        let lease = Lease::root(Limits::none().with_tokens(Tokens(150)));
        let held = lease.reserve(Spend::of_tokens(Tokens(149))).await.unwrap();
        let poor = || RunContext::standalone_with(caller(), lease.clone(), Vec::new());
        assert_eq!(cancelled(&plan([step("dear", [SAYS])]).build().unwrap(), &poor()).await, stopped());
        let plain = Upstream::new("north", "plain", [SAYS], &Log::default());
        assert_eq!(cancelled(&plain, &poor()).await, stopped());
        drop(held);
        // Rules that wait for something.
        struct Slow;
        #[agent_core::async_trait]
        impl agent_router::Rules for Slow {
            async fn answer(&self, _: &agent_router::Asked<'_>) -> Option<serde_json::Value> {
                std::future::pending().await
            }
        }
        let slow = plan([PlanStep::new(RulesModel::new("slow", Slow))]).build().unwrap();
        assert_eq!(cancelled(&slow, &cx()).await, stopped());
        // A context that was cancelled before.
        let before = cx();
        before.cancellation().cancel();
        let log = Log::default();
        let first = plan([PlanStep::new(Upstream::new("north", "first", [SAYS], &log))]).build().unwrap();
        assert!(matches!(complete(&first, request(), &before).await, Err(AgentError::Cancelled)));
        assert_eq!(log.sent().len(), 0);
    });
}

#[test]
fn a_stream_that_is_always_ready_can_be_stopped() {
    struct Endless(agent_core::ModelInfo);
    #[agent_core::async_trait]
    impl ChatModel for Endless {
        fn info(&self) -> &agent_core::ModelInfo {
            &self.0
        }
        async fn stream(&self, _: ChatRequest, _: &RunContext) -> Result<ModelStream, agent_core::ModelError> {
            Ok(futures_util::stream::repeat_with(|| Ok(agent_core::Chunk::Text("so ".into()))).boxed())
        }
    }
    // Time is not paused: another thread cancels.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        let endless = || Endless(agent_core::ModelInfo::new("wild", "endless"));
        let plan = plan([PlanStep::new(endless())]).build().unwrap();
        for model in [&endless() as &dyn ChatModel, &plan] {
            let cx = RunContext::standalone(caller());
            let token = cx.cancellation().clone();
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(30));
                token.cancel();
            });
            assert!(matches!(complete(model, request(), &cx).await, Err(AgentError::Cancelled)));
        }
    });
}

#[test]
fn invariant_02_a_context_of_a_hosts_own_keeps_its_deadline() {
    for deed in [Deed::Hangs, Deed::SaysAndHangs(2), Deed::Fails(Class::RateLimited, Some(Duration::from_secs(3)))] {
        paused(async {
            let lease = Lease::root(Limits::none().with_time(Duration::from_secs(2)));
            let begun = Instant::now();
            let cx = RunContext::standalone_with(caller(), lease, Vec::new());
            let log = Log::default();
            let plan = plan([PlanStep::new(Upstream::new("north", "first", [deed.clone()], &log))]).build().unwrap();
            let stream = plan.stream(request(), &cx).await;
            let class = match stream {
                Err(error) => error.class,
                Ok(stream) => stream.filter_map(|read| async { read.err() }).boxed().next().await.unwrap().class,
            };
            let expected = if matches!(deed, Deed::Fails(..)) { (Class::RateLimited, 0) } else { (Class::Stopped, 2) };
            assert_eq!((class, begun.elapsed().as_secs()), expected, "{deed:?}");
            assert_eq!((log.open(), log.sent().len()), (0, 1));
        });
    }
}

#[test]
fn waits_are_random_double_and_follow_what_a_provider_asks_for() {
    /// When the calls of one request came, in milliseconds after the one before.
    fn gaps(seed: u64, waits: serde_json::Value, deed: Deed) -> Vec<u64> {
        paused(async {
            let log = Log::default();
            let row = agent_router::FailureRow::FAIL.with_again(4, agent_router::Wait::Backoff);
            let table = agent_router::FailureTable::default().with_row(Class::Unavailable, row);
            let waits: Waits = serde_json::from_value(waits).unwrap();
            let plan = FallbackModel::builder("plan").step(Upstream::new("north", "first", [deed], &log));
            let targets = Targets::new(serde_json::from_value(json!({"minimum_calls": 20})).unwrap()).unwrap();
            let plan = plan.table(table).waits(waits).seed(seed).targets(targets).build().unwrap();
            let _ = complete(&plan, request(), &RunContext::standalone(caller())).await;
            let sent = log.sent();
            sent.windows(2).map(|pair| pair[1].at.duration_since(pair[0].at).as_millis() as u64).collect()
        })
    }
    let waits = json!({"backoff_ms": 1_000, "longest_backoff_ms": 4_000, "patience_ms": 60_000});
    let unavailable = |wait: Option<u64>| Deed::Fails(Class::Unavailable, wait.map(Duration::from_secs));
    let many: Vec<Vec<u64>> = (0..200).map(|seed| gaps(seed, waits.clone(), unavailable(None))).collect();
    for (turn, bound) in [1_000, 2_000, 4_000, 4_000].into_iter().enumerate() {
        let of_turn: Vec<u64> = many.iter().map(|gaps| gaps[turn]).collect();
        let (least, most) = (*of_turn.iter().min().unwrap(), *of_turn.iter().max().unwrap());
        assert!(most <= bound + 1 && most > bound * 9 / 10 && least < bound / 10, "{turn}: {least} to {most}");
    }
    // After what the provider asks for, and not at the same instant; also when that is nothing.
    for (asked, bound) in [(0, 1_001), (7, 8_001)] {
        let first: std::collections::BTreeSet<u64> =
            (0..50).map(|seed| gaps(seed, waits.clone(), unavailable(Some(asked)))[0]).collect();
        assert!(first.len() > 20 && first.iter().all(|gap| (asked * 1_000..=bound).contains(gap)), "{first:?}");
    }
    // The same seed waits the same.
    assert_eq!(gaps(7, waits.clone(), unavailable(None)), gaps(7, waits, unavailable(None)));
}

#[test]
fn those_who_wait_for_the_same_come_back_one_after_the_other() {
    paused(async {
        let log = Log::default();
        let limited = Deed::Fails(Class::RateLimited, Some(Duration::from_secs(5)));
        let deeds = std::iter::once(limited).chain([SAYS]);
        let plan = plan([PlanStep::new(Upstream::new("north", "first", deeds, &log))]).build().unwrap();
        let ask = async |_| {
            sleep(Duration::from_millis(1)).await;
            complete(&plan, request(), &RunContext::standalone(caller())).await.unwrap();
        };
        let cx = RunContext::standalone(caller());
        let _ = tokio::join!(complete(&plan, request(), &cx), futures_util::future::join_all((0..40).map(ask)));
        let instants: std::collections::BTreeSet<Instant> = log.sent().iter().skip(1).map(|sent| sent.at).collect();
        assert!(instants.len() > 20, "{} instants for 40 calls", instants.len());
    });
}

#[test]
fn a_seed_holds_for_breakers_too() {
    let timeline = |seed: u64| {
        paused(async {
            let log = Log::default();
            let first = Upstream::new("north", "first", [Deed::Fails(Class::Unreachable, None)], &log);
            let plan = FallbackModel::builder("plan").step(first).seed(seed).build().unwrap();
            let begun = Instant::now();
            for _ in 0..100 {
                let cx = RunContext::standalone(caller());
                let _ = tokio::time::timeout(Duration::from_millis(300), complete(&plan, request(), &cx)).await;
                sleep(Duration::from_millis(50)).await;
            }
            log.sent().iter().map(|sent| sent.at.duration_since(begun)).collect::<Vec<_>>()
        })
    };
    assert_eq!(timeline(3), timeline(3));
    assert_ne!(timeline(3), timeline(4));
}

#[test]
fn a_run_that_is_cancelled_by_its_options_says_so() {
    paused(async {
        let plan = plan([step("hangs", [Deed::Hangs]), step("second", [SAYS])]).build().unwrap();
        let desk = MainAgent::builder("desk", plan).build().unwrap();
        let token = tokio_util::sync::CancellationToken::new();
        let options = RunOptions::default().with_cancellation(token.clone());
        let request = Request::new("Hello?").with_options(options);
        let (ran, ()) = tokio::join!(desk.run(request, caller()), async {
            sleep(Duration::from_millis(50)).await;
            token.cancel();
        });
        assert_eq!(ran.unwrap_err().code().as_str(), "run.cancelled");
    });
}

#[test]
fn budget_that_others_hold_leaves_time_for_rules_and_a_person() {
    paused(async {
        let limits = Limits::none().with_tokens(Tokens(150)).with_time(Duration::from_secs(20));
        let lease = Lease::root(limits);
        let held = lease.reserve(Spend::of_tokens(Tokens(149))).await.unwrap();
        let asked = async |plan: FallbackBuilder| {
            let begun = Instant::now();
            let cx = RunContext::standalone_with(caller(), lease.clone(), Vec::new());
            let failed = complete(&plan.build().unwrap(), request(), &cx).await;
            let said =
                failed.map_or_else(|error| error.code().to_string(), |reply| reply.model.clone().unwrap().to_string());
            (said, (begun.elapsed() + Duration::from_millis(500)).as_secs())
        };
        let dear = || plan([step("dear", [SAYS]), step("second", [SAYS])]);
        assert_eq!(asked(dear().step(closed())).await, ("rules".to_owned(), 18));
        assert_eq!(asked(dear().human("Please.")).await, ("model.needs_human".to_owned(), 18));
        assert_eq!(asked(dear()).await, ("model.not_now".to_owned(), 20));
        drop(held);
    });
}

#[test]
fn rules_that_wait_too_long_leave_time_for_a_person() {
    struct Slow;
    #[agent_core::async_trait]
    impl agent_router::Rules for Slow {
        async fn answer(&self, _: &agent_router::Asked<'_>) -> Option<serde_json::Value> {
            std::future::pending().await
        }
    }
    check(plan([PlanStep::new(RulesModel::new("slow", Slow))]).human("Please."), ("waits", 18_000));
    let quick = RulesModel::new("quick", rules(|_| Some("By rule.".into())));
    check(plan([PlanStep::new(RulesModel::new("slow", Slow)), PlanStep::new(quick)]), ("quick", 18_000));
}
