//! What the limiter promises, one case at a time, on a paused clock.
#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::future::Future;
use std::num::{NonZeroU32, NonZeroU64};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use agent_core::{TenantId, Tokens};
use tokio::task::JoinSet;
use tokio::time::{Instant, advance, sleep, timeout};

use super::table::Seen;
use super::{Busy, Limiter, Place, StepLimits};

pub(super) const IDLE: Seen = Seen { running: 0, waiting: 0, granted: 0, buckets_full: true, head_forgotten: false };

pub(super) fn look(limiter: &Limiter) -> Seen {
    limiter.shared.as_ref().unwrap().look()
}

pub(super) fn tenant(number: usize) -> TenantId {
    TenantId::new(format!("tenant-{number}")).unwrap()
}

pub(super) fn at_once(calls: u32) -> StepLimits {
    StepLimits::default().with_concurrency(NonZeroU32::new(calls).unwrap())
}

pub(super) fn requests(a_minute: u32) -> StepLimits {
    StepLimits::default().with_requests_per_minute(NonZeroU32::new(a_minute).unwrap())
}

pub(super) fn tokens(a_minute: u64) -> StepLimits {
    StepLimits::default().with_tokens_per_minute(NonZeroU64::new(a_minute).unwrap())
}

fn patient(limits: StepLimits) -> StepLimits {
    limits.with_queue(10_000).with_longest_wait(Duration::from_secs(3_600))
}

fn poll_once<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// What a call is told without waiting.
fn ask(limiter: &Limiter, used: u64) -> Poll<Result<Place, Busy>> {
    poll_once(pin!(limiter.admit(&tenant(0), Tokens(used), None)))
}

fn admitted(limiter: &Limiter, used: u64) -> Place {
    match ask(limiter, used) {
        Poll::Ready(Ok(place)) => place,
        other => panic!("{other:?}"),
    }
}

fn refused(limiter: &Limiter, used: u64) -> Option<Duration> {
    match ask(limiter, used) {
        Poll::Ready(Err(busy)) => busy.ready_in,
        other => panic!("{other:?}"),
    }
}

/// Makes `calls` that each hold their place for `hold`, all at the same time, and says when each was admitted, in order.
async fn run(limiter: &Limiter, calls: Vec<(usize, u64)>, hold: Duration) -> Vec<(Instant, usize, u64)> {
    let log = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = JoinSet::new();
    for (number, used) in calls {
        let (limiter, log) = (limiter.clone(), Arc::clone(&log));
        tasks.spawn(async move {
            let place = limiter.admit(&tenant(number), Tokens(used), None).await.unwrap();
            log.lock().unwrap().push((Instant::now(), number, used));
            sleep(hold).await;
            drop(place);
        });
    }
    timeout(Duration::from_secs(7_200), tasks.join_all()).await.expect("nothing hangs");
    Arc::into_inner(log).unwrap().into_inner().unwrap()
}

/// Checks that no stretch of time saw more than its worth and the burst.
pub(super) fn check_rate(log: &[(Instant, u64)], a_minute: u64, burst: f64) {
    for (first, (from, _)) in log.iter().enumerate() {
        let mut sum = 0.0;
        for (at, units) in &log[first..] {
            // What is more than a full bucket in one call is a debt that only later calls see.
            let over = (*units as f64 - burst).max(0.0);
            sum += *units as f64;
            let allowed = burst + a_minute as f64 * (*at - *from).as_secs_f64() / 60.0;
            assert!(sum - over <= allowed + 1e-6, "{sum} in {:?}", *at - *from);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn never_more_run_than_may() {
    let limiter = Limiter::new(patient(at_once(7)));
    let (running, most) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for number in 0..1_000 {
        let (limiter, running, most) = (limiter.clone(), Arc::clone(&running), Arc::clone(&most));
        tasks.spawn(async move {
            let _place = limiter.admit(&tenant(number % 5), Tokens(1), None).await.unwrap();
            most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            sleep(Duration::from_millis(10)).await;
            running.fetch_sub(1, Ordering::SeqCst);
        });
    }
    tasks.join_all().await;
    assert_eq!(most.load(Ordering::SeqCst), 7);
    assert_eq!(begun.elapsed(), Duration::from_millis(1_430), "no place stays empty");
    assert_eq!(look(&limiter), IDLE);
}

#[test]
fn threads_lose_no_wake_up() {
    let limiter = Limiter::new(patient(at_once(3)));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_time().build().unwrap();
    let running = Arc::new(AtomicU32::new(0));
    runtime.block_on(async {
        let mut tasks = JoinSet::new();
        for number in 0..2_000_u64 {
            let (limiter, running) = (limiter.clone(), Arc::clone(&running));
            tasks.spawn(async move {
                let patience = if number % 3 == 0 { Duration::from_micros(number) } else { Duration::from_secs(60) };
                let admitted = timeout(patience, limiter.admit(&tenant(number as usize % 5), Tokens(1), None)).await;
                if let Ok(place) = admitted {
                    assert!(running.fetch_add(1, Ordering::SeqCst) < 3);
                    tokio::task::yield_now().await;
                    running.fetch_sub(1, Ordering::SeqCst);
                    drop(place.unwrap());
                }
            });
        }
        timeout(Duration::from_secs(30), tasks.join_all()).await.expect("nothing hangs");
    });
    assert_eq!(look(&limiter), IDLE);
}

#[tokio::test(start_paused = true)]
async fn requests_keep_to_their_rate() {
    let limiter = Limiter::new(patient(requests(120)));
    let log = run(&limiter, (0..500).map(|number| (number % 3, 1)).collect(), Duration::from_millis(1)).await;
    let times: Vec<_> = log.iter().map(|(at, ..)| (*at, 1)).collect();
    check_rate(&times, 120, 12.0);
    let took = times[499].0 - times[0].0;
    assert_eq!(took, Duration::from_secs(244), "12 at once and then two a second");
}

#[tokio::test(start_paused = true)]
async fn tokens_keep_to_their_rate() {
    let limiter = Limiter::new(patient(tokens(6_000)));
    // Some are more than the 600 that the bucket holds.
    let calls = (0..200_u64).map(|number| (number as usize % 3, number * 37 % 900)).collect();
    let log = run(&limiter, calls, Duration::from_millis(1)).await;
    let times: Vec<_> = log.iter().map(|(at, _, used)| (*at, *used)).collect();
    check_rate(&times, 6_000, 600.0);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_more_than_a_full_bucket_leaves_a_debt() {
    let limiter = Limiter::new(tokens(6_000).with_longest_wait(Duration::ZERO));
    drop(admitted(&limiter, 1_600));
    assert_eq!(refused(&limiter, 0), Some(Duration::from_secs(10)), "a debt of 1,000 is paid off first");
    advance(Duration::from_secs(10)).await;
    drop(admitted(&limiter, 0));
    assert_eq!(refused(&limiter, 1_600), Some(Duration::from_secs(6)), "until the bucket is full");
}

#[tokio::test(start_paused = true)]
async fn settling_corrects_the_estimate() {
    let limiter = Limiter::new(tokens(6_000).with_longest_wait(Duration::ZERO));
    admitted(&limiter, 600).settle(Tokens(500));
    let place = admitted(&limiter, 100);
    assert_eq!(refused(&limiter, 1), Some(Duration::from_millis(10)));
    place.settle(Tokens(400));
    assert_eq!(refused(&limiter, 1), Some(Duration::from_millis(3_010)), "300 more than estimated");
    advance(Duration::from_secs(9)).await;
    assert_eq!(look(&limiter), IDLE);
}

#[tokio::test(start_paused = true)]
async fn a_refund_wakes_who_waits_for_a_refill() {
    let limiter = Limiter::new(patient(tokens(6_000)));
    let first = admitted(&limiter, 1_600);
    let begun = Instant::now();
    let waiting = tokio::spawn({
        let limiter = limiter.clone();
        async move { limiter.admit(&tenant(0), Tokens(1), None).await.map(drop) }
    });
    sleep(Duration::from_secs(1)).await;
    first.settle(Tokens(600));
    waiting.await.unwrap().unwrap();
    assert_eq!(begun.elapsed(), Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_tenant_with_many_calls_delays_another_by_one() {
    let limiter = Limiter::new(patient(at_once(1)));
    let calls = std::iter::repeat_n((0, 1), 1_000).chain([(1, 1), (1, 2), (2, 1)]).collect();
    let log = run(&limiter, calls, Duration::from_millis(1)).await;
    let order: Vec<_> = log.iter().take(8).map(|(_, number, used)| (*number, *used)).collect();
    // The first is admitted before the others ask.
    assert_eq!(order, [(0, 1), (0, 1), (1, 1), (2, 1), (0, 1), (1, 2), (0, 1), (0, 1)]);
}

#[tokio::test(start_paused = true)]
async fn a_tenant_that_comes_back_does_not_overtake() {
    let limiter = Limiter::new(patient(at_once(1)));
    let mut place = admitted(&limiter, 1);
    let patient_tenant = tenant(9);
    let mut waiting = pin!(limiter.admit(&patient_tenant, Tokens(1), None));
    assert!(poll_once(waiting.as_mut()).is_pending());
    for _ in 0..2 {
        let other_tenant = tenant(1);
        let mut other = pin!(limiter.admit(&other_tenant, Tokens(1), None));
        assert!(poll_once(other.as_mut()).is_pending());
        drop(place);
        let Poll::Ready(Ok(next)) = poll_once(waiting.as_mut()) else { panic!("it was before the other one") };
        assert!(poll_once(other.as_mut()).is_pending());
        place = next;
        waiting.set(limiter.admit(&patient_tenant, Tokens(1), None));
        assert!(poll_once(waiting.as_mut()).is_pending());
    }
}

#[tokio::test(start_paused = true)]
async fn the_queue_is_bounded() {
    let limiter = Limiter::new(at_once(1).with_queue(2));
    let place = admitted(&limiter, 1);
    let tenants = [tenant(1), tenant(0), tenant(2)];
    let mut waiting = tenants.each_ref().map(|tenant| Box::pin(limiter.admit(tenant, Tokens(1), None)));
    // One of each tenant may wait, and no more.
    assert!(waiting.iter_mut().all(|call| poll_once(call.as_mut()).is_pending()));
    assert_eq!(refused(&limiter, 1), None);
    drop(waiting);
    assert!(ask(&limiter, 1).is_pending());
    drop(place);
    assert_eq!(look(&limiter), IDLE);
}

#[tokio::test(start_paused = true)]
async fn a_wait_ends_in_time() {
    let limiter = Limiter::new(at_once(1));
    let place = admitted(&limiter, 1);
    for (until, waited) in [(None, 1_000), (Some(300), 300), (Some(5_000), 1_000), (Some(0), 0)] {
        let begun = Instant::now();
        let until = until.map(|millis| begun + Duration::from_millis(millis));
        assert_eq!(limiter.admit(&tenant(0), Tokens(1), until).await.unwrap_err(), Busy { ready_in: None });
        assert_eq!(begun.elapsed(), Duration::from_millis(waited));
    }
    drop(place);
    assert_eq!(look(&limiter), IDLE);
}

#[tokio::test(start_paused = true)]
async fn a_wait_that_rates_make_too_long_is_refused_at_once() {
    let limiter = Limiter::new(requests(60).with_longest_wait(Duration::from_secs(2)));
    (0..6).for_each(|_| drop(admitted(&limiter, 1)));
    let callers = [tenant(1), tenant(1)];
    let mut waiting = callers.each_ref().map(|tenant| Box::pin(limiter.admit(tenant, Tokens(1), None)));
    assert!(waiting.iter_mut().all(|call| poll_once(call.as_mut()).is_pending()));
    // Another tenant is before the second of them.
    let soon = Some(Instant::now() + Duration::from_millis(1_999));
    let asked = poll_once(pin!(limiter.admit(&tenant(2), Tokens(1), soon)));
    assert!(matches!(asked, Poll::Ready(Err(Busy { ready_in: Some(wait) })) if wait == Duration::from_secs(2)));
    let asked = poll_once(pin!(limiter.admit(&tenant(1), Tokens(1), None)));
    assert!(matches!(asked, Poll::Ready(Err(Busy { ready_in: Some(wait) })) if wait == Duration::from_secs(3)));
    assert!(ask(&limiter, 1).is_pending());
}

#[tokio::test(start_paused = true)]
async fn the_next_one_wakes_for_a_refill_when_the_head_leaves() {
    let limiter = Limiter::new(patient(requests(60)));
    (0..6).for_each(|_| drop(admitted(&limiter, 1)));
    let begun = Instant::now();
    let head_tenant = tenant(1);
    let mut head = Box::pin(limiter.admit(&head_tenant, Tokens(1), None));
    assert!(poll_once(head.as_mut()).is_pending());
    let next = tokio::spawn({
        let limiter = limiter.clone();
        async move { limiter.admit(&tenant(2), Tokens(1), None).await.map(drop) }
    });
    sleep(Duration::from_millis(500)).await;
    drop(head);
    next.await.unwrap().unwrap();
    assert_eq!(begun.elapsed(), Duration::from_secs(1), "what the head waited for");
}

#[tokio::test(start_paused = true)]
async fn a_dropped_call_leaves_nothing() {
    let limits = at_once(1).with_requests_per_minute(NonZeroU32::new(60).unwrap());
    let limiter = Limiter::new(limits.with_tokens_per_minute(NonZeroU64::new(600).unwrap()));
    let caller = tenant(1);
    // Before it is polled.
    drop(limiter.admit(&caller, Tokens(10), None));
    assert_eq!(look(&limiter), IDLE);
    // While it waits.
    let place = admitted(&limiter, 0);
    advance(Duration::from_secs(1)).await;
    let mut waiting = Box::pin(limiter.admit(&caller, Tokens(10), None));
    assert!(poll_once(waiting.as_mut()).is_pending());
    assert_eq!(look(&limiter), Seen { running: 1, waiting: 1, ..IDLE });
    drop(waiting);
    assert_eq!(look(&limiter), Seen { running: 1, ..IDLE });
    // Once it has a place that it does not know of.
    let mut waiting = Box::pin(limiter.admit(&caller, Tokens(10), None));
    assert!(poll_once(waiting.as_mut()).is_pending());
    drop(place);
    assert_eq!(look(&limiter), Seen { running: 1, granted: 1, buckets_full: false, ..IDLE });
    drop(waiting);
    assert_eq!(look(&limiter), IDLE);
}

#[tokio::test(start_paused = true)]
async fn a_place_given_back_goes_to_the_next() {
    let limiter = Limiter::new(at_once(1));
    let place = admitted(&limiter, 1);
    let callers = [tenant(1), tenant(2)];
    let [mut first, mut second] = callers.each_ref().map(|tenant| Box::pin(limiter.admit(tenant, Tokens(1), None)));
    assert!(poll_once(first.as_mut()).is_pending() && poll_once(second.as_mut()).is_pending());
    drop(place);
    drop(first);
    assert!(matches!(poll_once(second.as_mut()), Poll::Ready(Ok(_))));
    assert_eq!(look(&limiter), IDLE);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_nobody_polls_does_not_block_for_longer_than_its_wait() {
    let limiter = Limiter::new(requests(60).with_concurrency(NonZeroU32::MIN));
    let place = admitted(&limiter, 1);
    let callers = [tenant(1), tenant(2)];
    let mut left = Box::pin(limiter.admit(&callers[0], Tokens(1), None));
    assert!(poll_once(left.as_mut()).is_pending());
    advance(Duration::from_millis(1_001)).await;
    drop(place);
    let next = admitted(&limiter, 1);
    assert_eq!(look(&limiter), Seen { running: 1, buckets_full: false, ..IDLE });
    drop(next);
    assert!(matches!(poll_once(left.as_mut()), Poll::Ready(Err(_))));
}

#[test]
fn without_limits_everybody_goes_ahead() {
    // Without a runtime: there is no timer either.
    let limiter = Limiter::new(StepLimits::default());
    let places: Vec<_> = (0..1_000).map(|_| admitted(&limiter, u64::MAX)).collect();
    assert!(limiter.shared.is_none());
    places.into_iter().for_each(|place| place.settle(Tokens(1)));
}

#[tokio::test(start_paused = true)]
async fn the_largest_values_overflow_nothing() {
    let limits = at_once(u32::MAX).with_tokens_per_minute(NonZeroU64::MAX);
    let limiter = Limiter::new(limits.with_requests_per_minute(NonZeroU32::MAX).with_longest_wait(Duration::MAX));
    let places: Vec<_> = (0..3)
        .map(|_| {
            tokio::spawn({
                let limiter = limiter.clone();
                async move { limiter.admit(&tenant(0), Tokens(u64::MAX), None).await.unwrap().settle(Tokens(u64::MAX)) }
            })
        })
        .collect();
    for place in places {
        place.await.unwrap();
    }
    advance(Duration::from_secs(3_600)).await;
    assert_eq!(look(&limiter), IDLE);
    let slow = Limiter::new(tokens(1).with_longest_wait(Duration::MAX));
    admitted(&slow, 0).settle(Tokens(u64::MAX));
    assert_eq!(refused(&slow, 1), Some(Duration::MAX));
}

#[test]
fn limits_are_read_from_text() {
    let limits: StepLimits = serde_json::from_str(r#"{"concurrency": 2, "tokens_per_minute": 600}"#).unwrap();
    assert_eq!(limits, at_once(2).with_tokens_per_minute(NonZeroU64::new(600).unwrap()));
    assert!(serde_json::from_str::<StepLimits>(r#"{"concurrency": 0}"#).is_err());
    assert!(serde_json::from_str::<StepLimits>(r#"{"concurency": 2}"#).is_err());
}
