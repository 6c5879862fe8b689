//! What a failure says about a model and its credential, for other requests.

use std::num::{NonZeroU32, NonZeroU64};
use std::time::Duration;

use agent_core::{
    ChatModel, ChatRequest, Conversation, Lease, Limits, ModelErrorClass as Class, Restarts, RunContext, Spend, Tokens,
    complete,
};
use agent_router::{
    BreakerSettings, BreakerState, FailureRow, FailureTable, FallbackModel, Mark, PlanStep, RuleModel, StepLimits,
    TargetKey, TargetState, Targets,
};
use futures_util::StreamExt;
use serde_json::json;
use testkit::{caller, paused};
use tokio::time::{Instant, sleep};

use super::upstream::{Deed, Log, Upstream};

const SAYS: Deed = Deed::Says(1, Duration::ZERO);

fn request() -> ChatRequest {
    ChatRequest::new(Conversation::new().say("Hello?"))
}

async fn ask(plan: &FallbackModel) -> String {
    match complete(plan, request(), &RunContext::standalone(caller())).await {
        Ok(reply) => reply.model.clone().unwrap().to_string(),
        Err(error) => error.code().to_string(),
    }
}

fn state(plan: &FallbackModel) -> TargetState {
    plan.targets().states().remove(0)
}

/// A plan of one model, and what reaches it.
fn single(deeds: impl IntoIterator<Item = Deed>, settings: serde_json::Value) -> (FallbackModel, Log) {
    let log = Log::default();
    let targets = Targets::with_seed(serde_json::from_value(settings).unwrap(), 1).unwrap();
    let plan = FallbackModel::builder("plan").step(Upstream::new("north", "first", deeds, &log)).targets(targets);
    (plan.seed(1).build().unwrap(), log)
}

/// What is known of a model whose six calls all fail with this mark.
fn marked(mark: Mark, retry_after: Option<Duration>) -> TargetState {
    paused(async {
        let row = FailureRow::FAIL.with_mark(mark);
        let table = FailureTable::default().with_row(Class::Unavailable, row);
        let log = Log::default();
        let plan = FallbackModel::builder("plan").step(Upstream::new(
            "north",
            "first",
            [Deed::Fails(Class::Unavailable, retry_after)],
            &log,
        ));
        let plan = plan.table(table).build().unwrap();
        for _ in 0..6 {
            let _ = tokio::time::timeout(Duration::from_millis(1), ask(&plan)).await;
        }
        state(&plan)
    })
}

#[test]
fn each_mark_does_what_it_says_and_nothing_else() {
    let seen = |state: TargetState| {
        (state.breaker, state.failures, state.bad_answers, state.cooling_for_ms > 0, state.dead_for_ms > 0)
    };
    let closed = BreakerState::Closed;
    assert_eq!(seen(marked(Mark::None, None)), (closed, 0, 0, false, false));
    assert_eq!(seen(marked(Mark::Quality, None)), (closed, 0, 6, false, false));
    assert_eq!(seen(marked(Mark::Cool, None)), (closed, 0, 0, true, false));
    assert_eq!(seen(marked(Mark::DeadCredential, None)), (closed, 0, 0, false, true));
    // Five failures open it, and it begins anew with none.
    assert_eq!(seen(marked(Mark::Count, None)), (BreakerState::Open, 0, 0, false, false));
    // Sent away for a time, it is not asked before.
    assert_eq!(seen(marked(Mark::Count, Some(Duration::from_secs(3)))), (closed, 1, 0, true, false));
}

#[test]
fn a_cut_after_something_was_read_counts() {
    paused(async {
        let (plan, _) = single([Deed::SaysAndEnds(2)], json!({}));
        let cx = RunContext::standalone(caller());
        let stream = plan.stream(request().with_restarts(Restarts::Forbidden), &cx).await.unwrap();
        assert_eq!(stream.count().await, 3);
        assert_eq!(state(&plan).failures, 1);
    });
}

#[test]
fn cooling_lasts_as_long_as_is_asked_for_up_to_a_bound() {
    let cooling = |settings, asked: Option<u64>| {
        paused(async {
            let (plan, _) = single([Deed::Fails(Class::RateLimited, asked.map(Duration::from_secs))], settings);
            let lease = Lease::root(Limits::none().with_time(Duration::from_millis(1)));
            let _ = complete(&plan, request(), &RunContext::standalone_with(caller(), lease, Vec::new())).await;
            state(&plan).cooling_for_ms
        })
    };
    assert_eq!(cooling(json!({}), None), 1_000);
    assert_eq!(cooling(json!({}), Some(40)), 40_000);
    assert_eq!(cooling(json!({}), Some(365 * 24 * 3_600)), 900_000);
    assert_eq!(cooling(json!({"longest_cooling_ms": 5_000}), Some(40)), 5_000);
}

/// Two calls at once, of which the second one ends after the host has said that all is well.
async fn late(deed: Deed, settle: impl Fn(&Targets)) -> TargetState {
    let (plan, _) = single([deed.clone(), deed], json!({}));
    let first = async {
        let _ =
            tokio::time::timeout(Duration::from_secs(4), complete(&plan, request(), &RunContext::standalone(caller())))
                .await;
    };
    let settling = async {
        sleep(Duration::from_secs(1)).await;
        settle(plan.targets());
    };
    tokio::join!(first, settling);
    state(&plan)
}

#[test]
fn a_call_of_before_says_nothing_about_a_credential_that_was_revived() {
    paused(async {
        let refused = || Deed::FailsAfter(Duration::from_secs(2), Class::Auth);
        assert!(late(refused(), |_| {}).await.dead_for_ms > 0);
        let revived = late(refused(), |targets| assert!(targets.revive("north", "default"))).await;
        assert_eq!(revived.dead_for_ms, 0);
        let limited = || Deed::IsLimited(Duration::from_secs(2), Duration::from_secs(60));
        assert!(late(limited(), |_| {}).await.cooling_for_ms > 0);
        let close = |targets: &Targets| assert!(targets.close(&TargetKey::new("north", "first", "default")));
        assert_eq!(late(limited(), close).await.cooling_for_ms, 0);
    });
}

#[test]
fn a_credential_that_others_were_refused_with_stays_dead_as_long() {
    paused(async {
        let deeds = [
            Deed::FailsAfter(Duration::from_secs(1), Class::Auth),
            Deed::FailsAfter(Duration::from_secs(3), Class::Auth),
        ];
        let (plan, _) = single(deeds, json!({"dead_ms": 10_000}));
        tokio::join!(ask(&plan), ask(&plan));
        // From the last refusal on.
        assert_eq!(state(&plan).dead_for_ms, 10_000);
    });
}

#[test]
fn verdicts_of_before_do_not_close_a_breaker() {
    paused(async {
        let slow = Deed::Says(1, Duration::from_millis(800));
        let deeds = std::iter::once(slow).chain(std::iter::repeat_n(Deed::Fails(Class::Untrusted, None), 6));
        let (plan, _) = single(deeds, json!({}));
        let failing = async {
            sleep(Duration::from_millis(1)).await;
            for _ in 0..5 {
                let cx = RunContext::standalone(caller());
                let _ = tokio::time::timeout(Duration::from_millis(1), complete(&plan, request(), &cx)).await;
            }
            assert_eq!(state(&plan).breaker, BreakerState::Open);
        };
        let (answered, ()) = tokio::join!(ask(&plan), failing);
        // Its answer came after the breaker had opened, to a call from before.
        assert_eq!((answered.as_str(), state(&plan).breaker), ("first", BreakerState::Open));
    });
}

#[test]
fn each_opening_without_a_success_is_longer() {
    paused(async {
        let (plan, log) = single([Deed::Fails(Class::Untrusted, None)], json!({}));
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(60) {
            let cx = RunContext::standalone(caller());
            let _ = tokio::time::timeout(Duration::from_millis(1), complete(&plan, request(), &cx)).await;
            sleep(Duration::from_millis(10)).await;
        }
        let probes: Vec<Instant> = log.sent().iter().skip(4).map(|sent| sent.at).collect();
        let gaps: Vec<u128> = probes.windows(2).map(|pair| pair[1].duration_since(pair[0]).as_millis()).collect();
        let bounds = [2_000, 4_000, 8_000, 15_000, 15_000];
        for (gap, bound) in gaps.iter().zip(bounds) {
            assert!((bound / 2..=bound + 30).contains(gap), "{gaps:?}");
        }
    });
}

#[test]
fn a_reader_that_stops_reading_does_not_hold_the_only_probe_for_ever() {
    paused(async {
        let deeds = std::iter::repeat_n(Deed::Fails(Class::Untrusted, None), 5).chain([Deed::Says(3, Duration::ZERO)]);
        let (plan, _) = single(deeds, json!({"longest_probe_ms": 10_000}));
        for _ in 0..5 {
            let cx = RunContext::standalone(caller());
            let _ = tokio::time::timeout(Duration::from_millis(1), complete(&plan, request(), &cx)).await;
        }
        sleep(Duration::from_secs(3)).await;
        let cx = RunContext::standalone(caller());
        let mut held = plan.stream(request(), &cx).await.unwrap();
        held.next().await.unwrap().unwrap();
        let begun = Instant::now();
        assert_eq!((ask(&plan).await.as_str(), begun.elapsed().as_secs()), ("first", 10));
        assert_eq!(state(&plan).breaker, BreakerState::Closed);
        // The one that was held goes on, and its verdict counts no more.
        assert_eq!(held.count().await, 4);
    });
}

#[test]
fn what_was_not_sent_uses_no_limits() {
    paused(async {
        // One request and a hundred and two tokens at once, and one token in a second.
        let limits = StepLimits::default()
            .with_requests_per_minute(NonZeroU32::new(10).unwrap())
            .with_tokens_per_minute(NonZeroU64::new(1_030).unwrap())
            .with_longest_wait(Duration::ZERO);
        let log = Log::default();
        let first = PlanStep::new(Upstream::new("north", "first", [SAYS], &log)).with_limits(limits);
        let plan = FallbackModel::builder("plan").step(first).step(RuleModel::new()).build().unwrap();
        let poor = Lease::root(Limits::none().with_tokens(Tokens(1)));
        let poor = RunContext::standalone_with(caller(), poor, Vec::new());
        for _ in 0..3 {
            let reply = complete(&plan, request(), &poor).await.unwrap();
            assert_eq!(reply.model.as_deref(), Some("rules"), "there is no budget");
        }
        assert_eq!((ask(&plan).await.as_str(), log.sent().len()), ("first", 1));
        assert_eq!(ask(&plan).await, "rules", "the one request was sent");
    });
}

#[test]
fn a_call_that_lost_its_pass_while_it_waited_for_budget_uses_no_limits() {
    paused(async {
        let limits = StepLimits::default()
            .with_tokens_per_minute(NonZeroU64::new(2_050).unwrap())
            .with_longest_wait(Duration::ZERO);
        let log = Log::default();
        let deeds = [Deed::Fails(Class::RateLimited, Some(Duration::from_secs(10))), SAYS];
        let first = PlanStep::new(Upstream::new("north", "first", deeds, &log)).with_limits(limits);
        let plan = FallbackModel::builder("plan").step(first).step(RuleModel::new()).build().unwrap();
        let lease = Lease::root(Limits::none().with_tokens(Tokens(150)));
        let held = lease.reserve(Spend::of_tokens(Tokens(149))).await.unwrap();
        let waiting = RunContext::standalone_with(caller(), lease, Vec::new());
        let other = async {
            sleep(Duration::from_millis(1)).await;
            // Another one is sent away meanwhile: the first one may not be sent any more.
            assert_eq!(ask(&plan).await, "rules");
            drop(held);
        };
        let (waited, ()) = tokio::join!(complete(&plan, request(), &waiting), other);
        assert_eq!(waited.unwrap().model.as_deref(), Some("rules"));
        assert!(plan.targets().close(&TargetKey::new("north", "first", "default")));
        // Two calls fit at once: were the other one's tokens gone, this one would not.
        assert_eq!(ask(&plan).await, "first");
        assert_eq!(log.sent().len(), 2);
    });
}

#[test]
fn a_forgotten_target_begins_anew_with_other_limits() {
    paused(async {
        let targets = Targets::new(BreakerSettings::default()).unwrap();
        let log = Log::default();
        let plan = |limits: StepLimits| {
            let first = PlanStep::new(Upstream::new("north", "first", [Deed::Fails(Class::Untrusted, None)], &log));
            FallbackModel::builder("plan").step(first.with_limits(limits)).targets(targets.clone()).build()
        };
        let old = plan(StepLimits::default()).unwrap();
        ask(&old).await;
        assert_eq!(state(&old).failures, 1);
        let narrow = StepLimits::default().with_concurrency(NonZeroU32::MIN);
        assert!(plan(narrow).is_err());
        let key = TargetKey::new("north", "first", "default");
        assert!(targets.forget(&key) && !targets.forget(&key));
        let new = plan(narrow).unwrap();
        assert_eq!(state(&new).attempts, 0);
        ask(&old).await;
        assert_eq!((state(&new).attempts, log.sent().len()), (0, 2));
    });
}

#[test]
fn failures_of_before_do_not_count_once_it_is_closed_again() {
    paused(async {
        let slow = Deed::FailsAfter(Duration::from_secs(10), Class::Untrusted);
        let down = std::iter::repeat_n(Deed::Fails(Class::Untrusted, None), 5);
        let (plan, _) = single(std::iter::once(slow).chain(down).chain([SAYS]), json!({}));
        let slow = async {
            let cx = RunContext::standalone(caller());
            let _ = tokio::time::timeout(Duration::from_millis(10_001), complete(&plan, request(), &cx)).await;
        };
        let others = async {
            sleep(Duration::from_millis(1)).await;
            for _ in 0..5 {
                let cx = RunContext::standalone(caller());
                let _ = tokio::time::timeout(Duration::from_millis(1), complete(&plan, request(), &cx)).await;
            }
            sleep(Duration::from_secs(3)).await;
            assert_eq!(ask(&plan).await, "first");
            assert_eq!(state(&plan).breaker, BreakerState::Closed);
        };
        tokio::join!(slow, others);
        let state = state(&plan);
        assert_eq!((state.breaker, state.failures), (BreakerState::Closed, 0));
    });
}
