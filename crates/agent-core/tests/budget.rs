//! The ledger: nothing is admitted over a ceiling, everything settles once, and nobody waits for ever.
// A test that cannot go on panics.
#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use agent_core::{
    AnswerValue, Call, CallResult, Chunk, Dispatch, Entry, Exceeded, FinishReason, Lease, Limits, MainAgent, MicroUsd,
    ModelInfo, PendingKind, Price, Report, Request, Reservation, Resource, Resume, RunContext, RunOptions, Spend,
    Tokens, Usage, complete,
};
use proptest::prelude::*;
use serde_json::json;
use testkit::{FnModel, Line, RecordingAgent, RecordingTool, ScriptedModel, caller, paused};

fn tokens(count: u64) -> Spend {
    Spend::of_tokens(Tokens(count))
}

fn capped(count: u64) -> Limits {
    Limits::none().with_tokens(Tokens(count))
}

type Waiting = Pin<Box<dyn Future<Output = Result<Reservation, Exceeded>> + Send>>;

fn waiting(lease: &Lease, amount: Spend) -> Waiting {
    let lease = lease.clone();
    Box::pin(async move { lease.reserve(amount).await })
}

fn poll(waiting: &mut Waiting) -> Poll<Result<Reservation, Exceeded>> {
    waiting.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn a_reservation_that_would_fit_later_waits_in_order() {
    let lease = Lease::root(capped(100));
    let Poll::Ready(Ok(held)) = poll(&mut waiting(&lease, tokens(80))) else { panic!() };
    let (mut big, mut small) = (waiting(&lease, tokens(60)), waiting(&lease, tokens(10)));
    assert!(poll(&mut big).is_pending());
    assert!(poll(&mut small).is_pending(), "the later one does not overtake, although it would fit");
    held.settle(tokens(30));
    let (Poll::Ready(Ok(big)), Poll::Ready(Ok(small))) = (poll(&mut big), poll(&mut small)) else { panic!() };
    assert_eq!((lease.reserved(), lease.spent()), (tokens(70), tokens(30)));
    drop((big, small));
    assert_eq!((lease.reserved(), lease.spent()), (Spend::ZERO, tokens(30)));
}

#[test]
fn a_reservation_that_can_never_fit_fails_at_once_and_also_while_it_waits() {
    let lease = Lease::root(capped(100));
    let exceeded = poll(&mut waiting(&lease, tokens(101)));
    let Poll::Ready(Err(exceeded)) = exceeded else { panic!() };
    assert_eq!(exceeded.to_string(), "101 more tokens do not fit: 0 of 100 are spent");
    let Poll::Ready(Ok(held)) = poll(&mut waiting(&lease, tokens(80))) else { panic!() };
    let mut later = waiting(&lease, tokens(60));
    assert!(poll(&mut later).is_pending());
    held.settle(tokens(70));
    let Poll::Ready(Err(exceeded)) = poll(&mut later) else { panic!() };
    assert_eq!((exceeded.resource, exceeded.spent), (Resource::Tokens, 70));
}

#[test]
fn a_waiter_that_is_dropped_lets_the_next_one_in() {
    let lease = Lease::root(capped(100));
    let Poll::Ready(Ok(_held)) = poll(&mut waiting(&lease, tokens(50))) else { panic!() };
    let (mut big, mut small) = (waiting(&lease, tokens(60)), waiting(&lease, tokens(50)));
    assert!(poll(&mut big).is_pending() && poll(&mut small).is_pending());
    drop(big);
    let Poll::Ready(Ok(small)) = poll(&mut small) else { panic!() };
    // Granted, but never polled again: dropping it gives everything back.
    let mut third = waiting(&lease, tokens(40));
    assert!(poll(&mut third).is_pending());
    drop(small);
    drop(third);
    assert_eq!(lease.reserved(), tokens(50));
}

#[test]
fn a_child_is_held_by_its_parents_ceiling_and_strands_nothing() {
    let parent = Lease::root(capped(100));
    let child = parent.child(capped(1_000));
    assert_eq!(child.unspent(Resource::Tokens), Some(100));
    assert!(matches!(poll(&mut waiting(&child, tokens(101))), Poll::Ready(Err(exceeded)) if exceeded.limit == 100));
    let Poll::Ready(Ok(reservation)) = poll(&mut waiting(&child, tokens(90))) else { panic!() };
    reservation.settle(tokens(20));
    drop(child);
    assert_eq!((parent.spent(), parent.unspent(Resource::Tokens)), (tokens(20), Some(80)));
}

#[test]
fn an_overrun_is_recorded_in_full_and_blocks_the_next() {
    let lease = Lease::root(capped(100));
    let Poll::Ready(Ok(reservation)) = poll(&mut waiting(&lease, tokens(90))) else { panic!() };
    reservation.settle(tokens(130));
    assert_eq!(lease.spent(), tokens(130));
    assert!(matches!(poll(&mut waiting(&lease, tokens(1))), Poll::Ready(Err(_))));
    assert!(lease.charge(Spend::tool_call()).is_err());
}

#[derive(Debug, Clone)]
enum Op {
    Reserve { lease: usize, amount: u64 },
    Settle { which: usize, share: u64 },
    Drop { which: usize, observed: u64 },
    GiveUp { which: usize },
    Charge { lease: usize, amount: u64 },
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0..4usize, 1..60u64).prop_map(|(lease, amount)| Op::Reserve { lease, amount }),
        3 => (any::<usize>(), 0..=100u64).prop_map(|(which, share)| Op::Settle { which, share }),
        1 => (any::<usize>(), 0..20u64).prop_map(|(which, observed)| Op::Drop { which, observed }),
        1 => any::<usize>().prop_map(|which| Op::GiveUp { which }),
        1 => (0..4usize, 1..20u64).prop_map(|(lease, amount)| Op::Charge { lease, amount }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    /// On a tree of four leases: what is reserved and spent never passes a ceiling while everybody settles within what he reserved;
    /// the sums of the tree are those of its parts; and when all is settled, nobody waits.
    #[test]
    fn sums_hold_and_nobody_waits_for_ever(ops in proptest::collection::vec(op(), 1..80)) {
        let root = Lease::root(capped(200));
        let left = root.child(capped(120));
        let right = root.child(Limits::none());
        let leaf = left.child(capped(60));
        let leases = [root.clone(), left.clone(), right.clone(), leaf.clone()];
        let ceilings = [200, 120, 200, 60];
        let mut held: Vec<(usize, u64, Reservation)> = Vec::new();
        let mut queue: VecDeque<(usize, u64, Waiting)> = VecDeque::new();
        let mut spent = [0u64; 4];
        // Who pays when a lease does: itself and those above it.
        let above: [&[usize]; 4] = [&[0], &[1, 0], &[2, 0], &[3, 1, 0]];
        let mut pay = |lease: usize, amount: u64| above[lease].iter().for_each(|payer| spent[*payer] += amount);
        for op in ops {
            match op {
                Op::Reserve { lease, amount } => queue.push_back((lease, amount, waiting(&leases[lease], tokens(amount)))),
                Op::Settle { which, share } if !held.is_empty() => {
                    let at = which % held.len();
                    let (lease, amount, reservation) = held.swap_remove(at);
                    pay(lease, amount * share / 100);
                    reservation.settle(tokens(amount * share / 100));
                }
                Op::Drop { which, observed } if !held.is_empty() => {
                    let at = which % held.len();
                    let (lease, amount, mut reservation) = held.swap_remove(at);
                    let observed = observed.min(amount);
                    reservation.observe(tokens(observed));
                    pay(lease, observed);
                    drop(reservation);
                }
                Op::GiveUp { which } if !queue.is_empty() => {
                    let at = which % queue.len();
                    queue.remove(at);
                }
                Op::Charge { lease, amount } => {
                    if leases[lease].charge(tokens(amount)).is_ok() {
                        pay(lease, amount);
                    }
                }
                Op::Settle { .. } | Op::Drop { .. } | Op::GiveUp { .. } => {}
            }
            let polled: Vec<_> = std::mem::take(&mut queue).into_iter().collect();
            for (lease, amount, mut waiting) in polled {
                match poll(&mut waiting) {
                    Poll::Ready(Ok(reservation)) => held.push((lease, amount, reservation)),
                    Poll::Ready(Err(_)) => {}
                    Poll::Pending => queue.push_back((lease, amount, waiting)),
                }
            }
            for (index, lease) in leases.iter().enumerate() {
                prop_assert!(lease.spent().tokens.0 + lease.reserved().tokens.0 <= ceilings[index]);
            }
        }
        while let Some((lease, amount, reservation)) = held.pop() {
            pay(lease, amount);
            reservation.settle(tokens(amount));
            for (lease, amount, mut waiting) in std::mem::take(&mut queue) {
                match poll(&mut waiting) {
                    Poll::Ready(Ok(reservation)) => held.push((lease, amount, reservation)),
                    Poll::Ready(Err(_)) => {}
                    Poll::Pending => queue.push_back((lease, amount, waiting)),
                }
            }
        }
        prop_assert!(queue.is_empty(), "somebody waits although nothing is reserved");
        for (index, lease) in leases.iter().enumerate() {
            prop_assert_eq!(lease.spent().tokens.0, spent[index]);
            prop_assert_eq!(lease.reserved(), Spend::ZERO);
        }
    }
}

#[test]
fn a_thousand_callers_on_one_budget_are_never_admitted_over_it() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
    let lease = Lease::root(capped(5_000));
    runtime.block_on(async {
        let callers = (0..1_000).map(|n| {
            let lease = lease.clone();
            tokio::spawn(async move {
                let Ok(reservation) = lease.reserve(tokens(100)).await else { return };
                assert!(lease.spent().tokens.0 + lease.reserved().tokens.0 <= 5_000);
                tokio::task::yield_now().await;
                reservation.settle(tokens(n % 7));
            })
        });
        for caller in callers.collect::<Vec<_>>() {
            caller.await.unwrap();
        }
    });
    assert_eq!(lease.spent().tokens.0, (0..1_000u64).map(|n| n % 7).sum::<u64>());
}

fn context(limits: Limits) -> (RunContext, Lease) {
    let lease = Lease::root(limits);
    (RunContext::standalone_with(caller(), lease.clone(), Vec::new()), lease)
}

#[test]
fn a_model_call_is_clamped_to_what_is_left_and_settles_at_the_models_own_figures() {
    let model =
        ScriptedModel::new([Line::text("ok").with_usage(Usage::new(Tokens(30), Tokens(12))).expecting(|request| {
            assert_eq!(request.max_output, Some(Tokens(999)), "of 1,000 the request takes one");
        })])
        .with_info(|info| {
            info.with_max_output(Tokens(4_000)).with_price(Price::per_million(MicroUsd(1_000_000), MicroUsd(2_000_000)))
        });
    let (cx, lease) = context(capped(1_000));
    let request = agent_core::ChatRequest::new(agent_core::Conversation::new().say("Hi"));
    paused(complete(&model, request, &cx)).unwrap();
    assert_eq!(lease.spent(), Spend::model_call(Tokens(42)).with_micro_usd(MicroUsd(54)));
    assert_eq!(lease.reserved(), Spend::ZERO);
}

#[test]
fn money_clamps_too() {
    let price = Price::per_million(MicroUsd(1_000_000), MicroUsd(10_000_000));
    let model =
        ScriptedModel::new([Line::text("ok").expecting(|request| assert_eq!(request.max_output, Some(Tokens(99))))])
            .with_info(|info: ModelInfo| info.with_price(price));
    let (cx, _) = context(Limits::none().with_micro_usd(MicroUsd(999)));
    paused(complete(&model, agent_core::ChatRequest::new(agent_core::Conversation::new().say("Hi")), &cx)).unwrap();
}

#[test]
fn a_failure_in_the_stream_charges_what_was_received() {
    let line = Line::silence().then_text(&"word ".repeat(40)).then_fails(agent_core::ModelErrorClass::Stalled);
    let (cx, lease) = context(Limits::none());
    let request = agent_core::ChatRequest::new(agent_core::Conversation::new().say("Hi"));
    paused(complete(&ScriptedModel::new([line]), request, &cx)).unwrap_err();
    assert_eq!((lease.spent().tokens, lease.spent().model_calls), (Tokens(51), 1));
}

#[test]
fn parallel_children_wait_for_each_other_under_one_ceiling_until_the_deadline() {
    let child = |name: &str| {
        let model = FnModel::new(|_| Line::text("ok").after(std::time::Duration::from_secs(1)))
            .with_info(|info| info.with_max_output(Tokens(700)));
        MainAgent::builder(name, model).build().unwrap()
    };
    let calls = ["one", "two", "three"].map(|name| agent_core::Call::new(name, serde_json::json!({"request": "Go"})));
    let model = FnModel::new(move |request| match request.conversation.entries().len() {
        1 => Line::calls(calls.clone()),
        _ => Line::silence().then_text("done").then_finish(FinishReason::Stop),
    })
    .with_info(|info| info.with_max_output(Tokens(100)));
    let desk =
        MainAgent::builder("desk", model).sub_agent(child("one")).sub_agent(child("two")).sub_agent(child("three"));
    let desk = desk.build().unwrap();
    let request = |time: u64| {
        let limits = capped(1_200).with_time(std::time::Duration::from_secs(time));
        Request::new("Go").with_options(RunOptions::default().with_limits(limits))
    };
    paused(async {
        let begun = tokio::time::Instant::now();
        assert_eq!(desk.run(request(60), caller()).await.unwrap().to_string(), "done");
        assert_eq!(begun.elapsed().as_secs(), 3, "one after the other: two at once could pass the ceiling");
        assert_eq!(desk.run(request(2), caller()).await.unwrap_err().code().as_str(), "run.deadline");
    });
}

/// An agent whose model may write more than the run may spend.
fn wordy(name: &str) -> MainAgent {
    let model = FnModel::new(|_| Line::text("brief"))
        .with_info(|_| ModelInfo::new("test", "wordy").with_max_output(Tokens(32_000)).with_price(Price::FREE));
    MainAgent::builder(name, model).build().unwrap()
}

#[test]
fn parallel_children_whose_output_is_clamped_to_what_is_left_are_all_answered() {
    let names = ["a", "b", "c"];
    let model = FnModel::new(move |request| match request.conversation.entries().len() {
        1 => Line::calls(names.map(|name| Call::new(name, json!({"request": "Go"})))),
        _ => Line::text("done"),
    });
    let desk = names.into_iter().fold(MainAgent::builder("desk", model), |desk, name| desk.sub_agent(wordy(name)));
    let desk = desk.limits(capped(20_000)).build().unwrap();
    let report = paused(desk.run("Go", caller())).unwrap().into_report().unwrap();
    assert!(results(&report).iter().all(|result| result.failure().is_none()), "{:?}", results(&report));
    assert_eq!(report.spent.model_calls, 5);
}

fn results(report: &Report) -> Vec<CallResult> {
    let Some(Entry::Agent(turn)) = report.conversation.entries().get(1) else { panic!() };
    turn.results().to_vec()
}

#[test]
fn durable_calls_share_what_is_left_with_the_calls_beside_them() {
    let durable = |name: &str| RecordingAgent::new(name, []).with_card(|card| card.with_dispatch(Dispatch::Durable));
    for limits in [capped(20_000), Limits::none().with_model_calls(9), Limits::none().with_tool_calls(9)] {
        let tool = RecordingTool::new("tool");
        let calls = ["one", "two", "inline", "tool"].map(|name| Call::new(name, json!({"request": "Go"})));
        let model = FnModel::new(move |request| match request.conversation.entries().len() {
            1 => Line::calls(calls.clone()),
            _ => Line::text("done"),
        });
        let desk = MainAgent::builder("desk", model)
            .sub_agent(durable("one"))
            .sub_agent(durable("two"))
            .sub_agent(wordy("inline"))
            .tool(tool.clone())
            .limits(limits)
            .build()
            .unwrap();
        let state = paused(desk.run("Go", caller())).unwrap().into_suspended().unwrap().state;
        assert_eq!((state.pending().len(), tool.inputs().len()), (2, 1), "{limits:?}");
        let mut resume = Resume::new(state.clone(), caller());
        for pending in state.pending() {
            let PendingKind::DurableCall { limits: given, .. } = &pending.kind else { panic!() };
            let bound =
                |limits: &Limits| [Resource::Tokens, Resource::ModelCalls, Resource::ToolCalls].map(|of| limits.of(of));
            for (given, whole) in bound(given).into_iter().zip(bound(&limits)) {
                assert!(
                    given.is_some() == whole.is_some() && given <= whole.map(|whole| whole / 2),
                    "{given:?} {whole:?}"
                );
            }
            let returned =
                AnswerValue::Returned { result: CallResult::done(json!("ok")), spent: Spend::model_call(Tokens(7)) };
            resume = resume.with_answer(&pending.id, returned);
        }
        let report = paused(desk.resume(resume)).unwrap().into_report().unwrap();
        assert!(results(&report).iter().all(|result| result.failure().is_none()), "{:?}", results(&report));
        assert_eq!((report.spent.model_calls, report.spent.tool_calls), (5, 4));
    }
}

#[test]
fn the_call_of_an_agent_is_its_callers_and_not_its_own() {
    let child = MainAgent::builder("child", ScriptedModel::new([Line::text("done")]));
    let child = child.limits(Limits::none().with_tool_calls(0)).build().unwrap();
    let model = ScriptedModel::new([Line::call("child", json!({"request": "Go"})), Line::text("done")]);
    let desk = MainAgent::builder("desk", model).sub_agent(child).build().unwrap();
    let report = paused(desk.run("Go", caller())).unwrap().into_report().unwrap();
    assert!(results(&report)[0].failure().is_none(), "{:?}", results(&report));
}

#[test]
fn an_answer_cut_after_its_first_usage_is_charged_for_what_came() {
    let first = Usage::new(Tokens(10), Tokens(1));
    let line = Line::silence().then(Chunk::Usage(first)).then_text(&"word ".repeat(1_000));
    let desk = MainAgent::builder("desk", ScriptedModel::new([line])).build().unwrap();
    let failure = paused(desk.run("Go", caller())).unwrap_err();
    assert_eq!((failure.code().as_str(), failure.spent.tokens), ("model.cut", Tokens(1_260)));
}

#[test]
fn new_limits_leave_what_was_used_of_the_time() {
    let tool = RecordingTool::new("ask").waiting(PendingKind::question("Well?"));
    let slow = Line::call("ask", json!({})).after(std::time::Duration::from_secs(20));
    let desk = MainAgent::builder("desk", ScriptedModel::new([slow])).tool(tool).build().unwrap();
    paused(async {
        let state = desk.run("Go", caller()).await.unwrap().into_suspended().unwrap().state;
        let longer = Limits::none().with_time(std::time::Duration::from_secs(30));
        let resume = Resume::new(state.clone(), caller()).with_options(RunOptions::default().with_limits(longer));
        let answer = AnswerValue::Value(json!("yes"));
        let failure = desk.resume(resume.with_answer(&state.pending()[0].id, answer)).await.unwrap_err();
        assert_eq!(failure.state.unwrap().time_left(), Some(std::time::Duration::from_secs(10)));
    });
}
