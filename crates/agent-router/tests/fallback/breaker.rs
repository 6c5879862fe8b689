//! Circuit breakers, as requests at once see them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use agent_core::{ChatRequest, Conversation, ModelErrorClass as Class, RunContext, complete};
use agent_router::{BreakerSettings, BreakerState, FallbackModel, Targets};
use proptest::prelude::*;
use testkit::{caller, paused};
use tokio::time::{Instant, sleep};

use super::upstream::{Deed, Log, Upstream};

fn request() -> ChatRequest {
    ChatRequest::new(Conversation::new().say("Hello?"))
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let deed = prop_oneof![
        3 => Just(Deed::Fails(Class::Unavailable, None)),
        1 => Just(Deed::SaysAndFails(1, Class::Cut)),
        1 => (1..200_u64).prop_map(|pause| Deed::Says(2, Duration::from_millis(pause))),
        1 => Just(Deed::SaysAndHangs(0)),
    ];
    prop::collection::vec(deed, 1..60)
}

#[test]
fn invariant_08_an_open_breaker_sends_at_most_one_probe() {
    let cases = std::env::var("ADJUTANT_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(100);
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let tried = runner.run(&(deeds(), any::<u64>(), 2..30_usize), |(deeds, seed, callers)| {
        let problem = paused(play(deeds, seed, callers));
        prop_assert!(problem.is_none(), "{}", problem.unwrap_or_default());
        Ok(())
    });
    tried.unwrap_or_else(|failed| panic!("{failed}"));
}

/// Many callers at once, again and again, of a model that mostly fails.
async fn play(deeds: Vec<Deed>, seed: u64, callers: usize) -> Option<String> {
    let log = Log::default();
    let targets = Targets::with_seed(BreakerSettings::default(), seed).unwrap();
    // The calls that reached the model while its breaker was not closed, by their numbers.
    let probes: Arc<Mutex<Vec<usize>>> = Arc::default();
    let broken: Arc<Mutex<Option<String>>> = Arc::default();
    let (seen, noted, sent, problem) = (targets.clone(), probes.clone(), log.clone(), broken.clone());
    let upstream = Upstream::new("north", "first", deeds, &log).watched(move |_| match seen.states()[0].breaker {
        BreakerState::Closed => {}
        BreakerState::HalfOpen => noted.lock().unwrap().push(sent.sent().len()),
        state => *problem.lock().unwrap() = Some(format!("something reached a model whose breaker is {state:?}")),
    });
    let plan = FallbackModel::builder("plan").step(upstream).targets(targets).seed(seed).build().unwrap();
    for _ in 0..4 {
        let callers = (0..callers).map(|number| {
            let plan = &plan;
            async move {
                sleep(Duration::from_millis(number as u64 * 37 % 500)).await;
                let cx = RunContext::standalone(caller());
                let _ = tokio::time::timeout(Duration::from_secs(4), complete(plan, request(), &cx)).await;
            }
        });
        futures_util::future::join_all(callers).await;
    }
    let (sent, probes) = (log.sent(), probes.lock().unwrap().clone());
    for pair in probes.windows(2) {
        let (one, next) = (&sent[pair[0]], &sent[pair[1]]);
        if one.ended.is_none_or(|ended| next.at < ended) {
            return Some(format!("two probes at once: {one:?} and {next:?}"));
        }
    }
    broken.lock().unwrap().take()
}

#[test]
fn invariant_09_cooling_times_never_shorten() {
    let cases = std::env::var("ADJUTANT_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(100);
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let times = || (0..20_000_u64).prop_map(Duration::from_millis);
    let deeds = prop::collection::vec((times(), times()).prop_map(|(after, wait)| Deed::IsLimited(after, wait)), 2..20);
    let tried = runner.run(&deeds, |deeds| {
        let shorter = paused(cool(deeds));
        prop_assert!(shorter.is_none(), "{}", shorter.unwrap_or_default());
        Ok(())
    });
    tried.unwrap_or_else(|failed| panic!("{failed}"));
}

/// Calls in flight together, each of which makes the model cool off when it ends.
async fn cool(deeds: Vec<Deed>) -> Option<String> {
    let (log, targets, callers) = (Log::default(), Targets::default(), deeds.len());
    let upstream = Upstream::new("north", "first", deeds, &log);
    let plan = FallbackModel::builder("plan").step(upstream).targets(targets.clone()).build().unwrap();
    let calls = futures_util::future::join_all((0..callers).map(|_| async {
        let cx = RunContext::standalone(caller());
        let _ = tokio::time::timeout(Duration::from_secs(45), complete(&plan, request(), &cx)).await;
    }));
    let watching = async {
        let mut latest = Instant::now();
        for _ in 0..4_000 {
            let now = Instant::now();
            let until = now + Duration::from_millis(targets.states()[0].cooling_for_ms);
            // Whole milliseconds are told.
            if latest > now && until + Duration::from_millis(2) < latest {
                return Some(format!("until {until:?} after {latest:?}"));
            }
            latest = latest.max(until);
            sleep(Duration::from_millis(10)).await;
        }
        None
    };
    let (_, shorter) = tokio::join!(calls, watching);
    shorter
}

#[test]
fn a_probe_that_is_given_up_lets_the_next_one_probe() {
    paused(async {
        let log = Log::default();
        let failures = std::iter::repeat_n(Deed::Fails(Class::Unreachable, None), 5);
        let deeds = failures.chain([Deed::Hangs, Deed::Says(1, Duration::ZERO)]);
        let upstream = Upstream::new("north", "first", deeds, &log);
        let plan = FallbackModel::builder("plan").step(upstream).step(agent_router::RuleModel::new()).build().unwrap();
        let ask = async |patience: u64| {
            let cx = RunContext::standalone(caller());
            let asked = tokio::time::timeout(Duration::from_millis(patience), complete(&plan, request(), &cx));
            asked.await.ok().map(|answered| answered.unwrap().model.clone().unwrap().to_string())
        };
        for _ in 0..3 {
            ask(2_000).await;
        }
        assert_eq!((log.sent().len(), ask(100).await.as_deref()), (5, Some("rules")));
        sleep(Duration::from_secs(2)).await;
        assert_eq!(ask(100).await, None, "the probe hangs");
        assert_eq!((ask(100).await.as_deref(), log.sent().len()), (Some("first"), 7));
    });
}

#[test]
fn a_breaker_opens_probes_and_closes() {
    paused(async {
        let log = Log::default();
        let failures = std::iter::repeat_n(Deed::Fails(Class::Unreachable, None), 6);
        let deeds = failures.chain([Deed::Says(1, Duration::ZERO)]);
        let targets = Targets::with_seed(BreakerSettings::default(), 7).unwrap();
        let upstream = Upstream::new("north", "first", deeds, &log);
        let plan = FallbackModel::builder("plan").step(upstream).targets(targets.clone());
        let plan = plan.step(agent_router::RuleModel::new()).seed(7).build().unwrap();
        let state = || targets.states()[0].breaker;
        let ask = async || {
            let cx = RunContext::standalone(caller());
            complete(&plan, request(), &cx).await.unwrap().model.clone().unwrap()
        };
        let begun = Instant::now();
        let mut timeline = vec![(0, state())];
        while begun.elapsed() < Duration::from_secs(20) {
            ask().await;
            if timeline.last().unwrap().1 != state() {
                timeline.push((begun.elapsed().as_secs(), state()));
            }
            sleep(Duration::from_millis(100)).await;
        }
        let states: Vec<BreakerState> = timeline.iter().map(|(_, state)| *state).collect();
        use BreakerState::{Closed, HalfOpen, Open};
        assert!(states.starts_with(&[Closed, Open]) && states.ends_with(&[Closed]), "{timeline:?}");
        assert!(!states.windows(2).any(|pair| pair == [HalfOpen, HalfOpen]), "{timeline:?}");
        // Five failures open it, one probe opens it again for longer, one closes it.
        assert_eq!(log.sent().iter().filter(|sent| !sent.completed).count(), 6);
        let gap = |one: usize| log.sent()[one + 1].at.duration_since(log.sent()[one].at);
        assert!(gap(4) >= Duration::from_secs(1) && gap(5) >= Duration::from_secs(2), "{:?} {:?}", gap(4), gap(5));
    });
}
