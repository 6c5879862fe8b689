//! Random scripts: nobody is over the limits, nobody hangs, nothing leaks.
#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::future::Future;
use std::num::{NonZeroU32, NonZeroU64};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use agent_core::Tokens;
use proptest::prelude::*;
use tokio::runtime::{Builder, Runtime};
use tokio::task::{JoinSet, yield_now};
use tokio::time::{Instant, advance, sleep, timeout};

use super::tests::{IDLE, check_rate, look, tenant};
use super::{Busy, Limiter, Place, StepLimits};

fn paused() -> Runtime {
    Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

fn any_limits() -> impl Strategy<Value = StepLimits> {
    let concurrency = prop::option::of(1_u32..4);
    let requests = prop::option::of(1_u32..600);
    let tokens = prop::option::of(1_u64..6_000);
    (concurrency, requests, tokens, 0_u32..12, 0_u64..3_000)
        .prop_map(|(concurrency, requests, tokens, queue, wait)| StepLimits {
            concurrency: concurrency.and_then(NonZeroU32::new),
            requests_per_minute: requests.and_then(NonZeroU32::new),
            tokens_per_minute: tokens.and_then(NonZeroU64::new),
            queue,
            longest_wait_ms: wait,
        })
        .prop_filter("nothing is limited", |limits| !limits.are_none())
}

fn burst(a_minute: u64) -> f64 {
    (a_minute as f64 / 10.0).max(1.0)
}

/// How many tenants there are.
const TENANTS: usize = 4;

/// A call made by a task of its own.
#[derive(Debug, Clone)]
struct Call {
    starts: u64,
    tenant: usize,
    tokens: u64,
    hold: u64,
    cancel: Option<u64>,
}

fn any_call() -> impl Strategy<Value = Call> {
    (0_u64..2_000, 0..TENANTS, 0_u64..400, 0_u64..500, prop::option::of(0_u64..1_500))
        .prop_map(|(starts, tenant, tokens, hold, cancel)| Call { starts, tenant, tokens, hold, cancel })
}

async fn make_calls(limits: StepLimits, calls: Vec<Call>) {
    let limiter = Limiter::new(limits);
    let running = Arc::new(AtomicU32::new(0));
    let log = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = JoinSet::new();
    for call in calls {
        let (limiter, running, log) = (limiter.clone(), Arc::clone(&running), Arc::clone(&log));
        tasks.spawn(async move {
            sleep(Duration::from_millis(call.starts)).await;
            let begun = Instant::now();
            let caller = tenant(call.tenant);
            let patience = Duration::from_millis(call.cancel.unwrap_or(u64::MAX / 2));
            let Ok(asked) = timeout(patience, limiter.admit(&caller, Tokens(call.tokens), None)).await else { return };
            assert!(begun.elapsed() <= Duration::from_millis(limits.longest_wait_ms));
            let Ok(place) = asked else { return };
            log.lock().unwrap().push((Instant::now(), call.tokens));
            let others = running.fetch_add(1, Ordering::SeqCst);
            assert!(limits.concurrency.is_none_or(|most| others < most.get()));
            sleep(Duration::from_millis(call.hold)).await;
            running.fetch_sub(1, Ordering::SeqCst);
            drop(place);
        });
    }
    timeout(Duration::from_secs(3_600), tasks.join_all()).await.expect("nothing hangs");
    let log = Arc::into_inner(log).unwrap().into_inner().unwrap();
    if let Some(rate) = limits.requests_per_minute {
        let times: Vec<_> = log.iter().map(|(at, _)| (*at, 1)).collect();
        check_rate(&times, rate.get().into(), burst(rate.get().into()));
    }
    if let Some(rate) = limits.tokens_per_minute {
        check_rate(&log, rate.get(), burst(rate.get()));
    }
    advance(Duration::from_secs(1_000_000)).await;
    assert_eq!(look(&limiter), IDLE);
}

/// A step of a script whose calls are polled by hand. Numbers choose among what there is.
#[derive(Debug, Clone)]
enum Step {
    Ask {
        tenant: usize,
        tokens: u64,
        within: Option<u64>,
    },
    /// Polls a call, be it woken or not.
    Poll(usize),
    PollWoken,
    Drop(usize),
    End {
        place: usize,
        used: Option<u64>,
    },
    Advance(u64),
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..TENANTS, 0_u64..400, prop::option::of(0_u64..2_000))
            .prop_map(|(tenant, tokens, within)| Step::Ask { tenant, tokens, within }),
        2 => any::<usize>().prop_map(Step::Poll),
        2 => Just(Step::PollWoken),
        2 => any::<usize>().prop_map(Step::Drop),
        4 => (any::<usize>(), prop::option::of(0_u64..800)).prop_map(|(place, used)| Step::End { place, used }),
        3 => (1_u64..1_500).prop_map(Step::Advance),
    ]
}

#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

struct Asking {
    call: Pin<Box<dyn Future<Output = Result<Place, Busy>>>>,
    woken: Arc<Flag>,
}

struct Script {
    limits: StepLimits,
    limiter: Limiter,
    asking: Vec<Asking>,
    places: Vec<Place>,
}

impl Script {
    fn poll(&mut self, index: usize) {
        let asking = &mut self.asking[index];
        asking.woken.0.store(false, Ordering::SeqCst);
        let waker = Waker::from(Arc::clone(&asking.woken));
        if let Poll::Ready(verdict) = asking.call.as_mut().poll(&mut Context::from_waker(&waker)) {
            self.places.extend(verdict);
            drop(self.asking.swap_remove(index));
        }
    }

    /// Does what a runtime does: polls whoever is woken, until nobody is. Nobody may be left who could go ahead.
    async fn poll_woken(&mut self) {
        yield_now().await;
        while let Some(index) = self.asking.iter().position(|asking| asking.woken.0.load(Ordering::SeqCst)) {
            self.poll(index);
            yield_now().await;
        }
        let seen = look(&self.limiter);
        assert_eq!((seen.granted, seen.head_forgotten), (0, false), "{seen:?}");
        assert_eq!(seen.waiting, self.asking.len());
    }

    async fn take(&mut self, step: Step) {
        match step {
            Step::Ask { tenant: number, tokens, within } => {
                let limiter = self.limiter.clone();
                let until = within.map(|millis| Instant::now() + Duration::from_millis(millis));
                let call = async move { limiter.admit(&tenant(number), Tokens(tokens), until).await };
                self.asking.push(Asking { call: Box::pin(call), woken: Arc::default() });
                self.poll(self.asking.len() - 1);
            }
            Step::Poll(index) if !self.asking.is_empty() => self.poll(index % self.asking.len()),
            Step::Drop(index) if !self.asking.is_empty() => {
                drop(self.asking.swap_remove(index % self.asking.len()));
            }
            Step::End { place, used } if !self.places.is_empty() => {
                let place = self.places.swap_remove(place % self.places.len());
                match used {
                    Some(used) => place.settle(Tokens(used)),
                    None => drop(place),
                }
            }
            Step::PollWoken => self.poll_woken().await,
            Step::Advance(millis) => advance(Duration::from_millis(millis)).await,
            Step::Poll(_) | Step::Drop(_) | Step::End { .. } => {}
        }
        let seen = look(&self.limiter);
        assert_eq!(seen.running as usize, self.places.len() + seen.granted);
        assert!(self.limits.concurrency.is_none_or(|most| seen.running <= most.get()));
        // One of each tenant may wait beyond the queue.
        let beyond = if self.limits.queue > 0 { TENANTS } else { 0 };
        assert!(seen.waiting <= self.limits.queue as usize + beyond);
    }

    async fn finish(&mut self) {
        for _ in 0..=self.limits.longest_wait_ms / 10 + 1 {
            self.poll_woken().await;
            self.places.pop();
            advance(Duration::from_millis(10)).await;
        }
        self.poll_woken().await;
        assert!(self.asking.is_empty(), "everybody is admitted or refused");
        self.places.clear();
        advance(Duration::from_secs(1_000_000)).await;
        assert_eq!(look(&self.limiter), IDLE);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn tasks(limits in any_limits(), calls in prop::collection::vec(any_call(), 0..40)) {
        paused().block_on(make_calls(limits, calls));
    }

    #[test]
    fn calls_polled_by_hand(limits in any_limits(), steps in prop::collection::vec(any_step(), 0..60)) {
        paused().block_on(async {
            let limiter = Limiter::new(limits);
            let mut script = Script { limits, limiter, asking: Vec::new(), places: Vec::new() };
            for step in steps {
                script.take(step).await;
            }
            script.finish().await;
        });
    }
}
