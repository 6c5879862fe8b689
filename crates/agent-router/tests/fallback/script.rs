//! Random scripts of failures, and what came of them.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agent_core::{
    Attempted, Bounds, CallPath, ChatModel, ChatRequest, ContextError, ContextPolicy, Conversation, Event, EventKind,
    Failure, FitRequest, Fitted, Lease, Limits, MainAgent, MicroUsd, ModelErrorClass, PassThrough, Restarts,
    RunContext, RunOptions, RunOutcome, Spend, Tokens, async_trait, complete,
};
use agent_router::{
    Asked, BreakerSettings, FallbackModel, PlanStep, Rules, RulesModel, StepLimits, TableRecovery, TargetKey, Targets,
};
use futures_util::StreamExt;
use proptest::prelude::*;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use testkit::{Recorder, RecordingTool, caller, joined, somebody};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::upstream::{Deed, Log, SECRET, Sent, Upstream, panics};

#[derive(Debug, Clone)]
pub(crate) struct Script {
    pub(crate) steps: Vec<StepScript>,
    pub(crate) rules: Option<RulesScript>,
    pub(crate) human: bool,
    /// Whether the plan's rules and its person are the agent's recovery as well.
    pub(crate) recovery: bool,
    /// Whether another tenant asks the same models all the time.
    pub(crate) others: bool,
    pub(crate) runs: Vec<RunScript>,
    pub(crate) seed: u64,
}

#[derive(Debug, Clone)]
pub(crate) struct StepScript {
    pub(crate) provider: bool,
    pub(crate) credential: bool,
    /// Tokens, where the window is known.
    pub(crate) window: Option<u64>,
    /// Calls at once.
    pub(crate) concurrency: Option<NonZeroU32>,
    pub(crate) deeds: Vec<Deed>,
}

/// What the rules of a plan do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum RulesScript {
    Answer,
    /// Find nothing that fits.
    Silent,
    /// Answer after this time.
    Slow(Duration),
    Hang,
    Panic,
}

#[async_trait]
impl Rules for RulesScript {
    async fn answer(&self, _: &Asked<'_>) -> Option<Value> {
        match self {
            Self::Answer => {}
            Self::Silent => return None,
            Self::Slow(time) => tokio::time::sleep(*time).await,
            Self::Hang => std::future::pending().await,
            Self::Panic => panics(),
        }
        Some("By rule.".into())
    }
}

/// What the agent's context policy does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum FitScript {
    /// What holds when a host brings none.
    Default,
    /// Pretends to shorten each time.
    Shortens,
    Fails,
}

#[async_trait]
impl ContextPolicy for FitScript {
    async fn fit(&self, request: FitRequest<'_>, cx: &RunContext) -> Result<Fitted, ContextError> {
        match self {
            Self::Default => PassThrough.fit(request, cx).await,
            Self::Shortens => Ok(Fitted::new(request.conversation.clone(), Tokens(2), Tokens(1))),
            Self::Fails => Err(ContextError::DoesNotFit { needed: Tokens(2), budget: Tokens(1) }),
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct RunScript {
    pub(crate) attempts: u32,
    pub(crate) time: Option<Duration>,
    pub(crate) restarts: bool,
    pub(crate) cancel_after: Option<Duration>,
    pub(crate) pause_before: Duration,
    pub(crate) micro_usd: Option<u64>,
    /// Whether the answer has to be a sum.
    pub(crate) typed: bool,
    pub(crate) fit: FitScript,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Sum {
    sum: u32,
}

/// All classes that a model may fail with.
pub(crate) const CLASSES: &[ModelErrorClass] = &[
    ModelErrorClass::RateLimited,
    ModelErrorClass::QuotaExhausted,
    ModelErrorClass::Auth,
    ModelErrorClass::Permission,
    ModelErrorClass::Overloaded,
    ModelErrorClass::Unavailable,
    ModelErrorClass::Unreachable,
    ModelErrorClass::Untrusted,
    ModelErrorClass::Redirected,
    ModelErrorClass::FirstTokenTimeout,
    ModelErrorClass::Stalled,
    ModelErrorClass::TimedOut,
    ModelErrorClass::ContextOverflow,
    ModelErrorClass::ContentPolicy,
    ModelErrorClass::BadRequest,
    ModelErrorClass::NotFound,
    ModelErrorClass::Malformed,
    ModelErrorClass::TooLarge,
    ModelErrorClass::Empty,
    ModelErrorClass::Cut,
];

fn class() -> impl Strategy<Value = ModelErrorClass> {
    prop::sample::select(CLASSES)
}

fn deed() -> impl Strategy<Value = Deed> {
    let wait = prop::option::of((0..20_000_u64).prop_map(Duration::from_millis));
    prop_oneof![
        4 => (1..6_u32, 0..400_u64).prop_map(|(words, pause)| Deed::Says(words, Duration::from_millis(pause))),
        1 => Just(Deed::Calls),
        6 => (class(), wait).prop_map(|(class, wait)| Deed::Fails(class, wait)),
        3 => (0..4_u32, class()).prop_map(|(words, class)| Deed::SaysAndFails(words, class)),
        1 => (0..4_u32).prop_map(Deed::SaysAndEnds),
        1 => Just(Deed::CallsAndFails),
        1 => Just(Deed::Hangs),
        1 => (0..3_u32).prop_map(Deed::SaysAndHangs),
        1 => Just(Deed::Blank),
        1 => Just(Deed::ReasonsAndFails),
        1 => Just(Deed::Sums),
        1 => Just(Deed::Panics),
        1 => (0..3_u32).prop_map(Deed::SaysAndPanics),
        1 => Just(Deed::Stops),
    ]
}

fn step() -> impl Strategy<Value = StepScript> {
    let window = prop_oneof![6 => Just(None), 1 => Just(Some(4)), 4 => (5_u64..100_000).prop_map(Some)];
    let concurrency = prop_oneof![3 => Just(None), 1 => Just(Some(NonZeroU32::MIN))];
    (any::<bool>(), any::<bool>(), window, concurrency, prop::collection::vec(deed(), 1..6)).prop_map(
        |(provider, credential, window, concurrency, deeds)| StepScript {
            provider,
            credential,
            window,
            concurrency,
            deeds,
        },
    )
}

fn rules() -> impl Strategy<Value = Option<RulesScript>> {
    prop_oneof![
        4 => Just(None),
        3 => Just(Some(RulesScript::Answer)),
        1 => Just(Some(RulesScript::Silent)),
        1 => (0..20_000_u64).prop_map(|time| Some(RulesScript::Slow(Duration::from_millis(time)))),
        1 => Just(Some(RulesScript::Hang)),
        1 => Just(Some(RulesScript::Panic)),
    ]
}

fn run() -> impl Strategy<Value = RunScript> {
    let millis = |range: std::ops::Range<u64>| range.prop_map(Duration::from_millis);
    let cancel = prop_oneof![4 => Just(None), 1 => millis(0..3_000).prop_map(Some)];
    // Something hangs in many of them: nobody waits for ever.
    let time = prop_oneof![3 => millis(1..30_000), 1 => Just(Duration::from_secs(3_600))];
    let money = prop_oneof![4 => Just(None), 1 => (0_u64..2_000).prop_map(Some)];
    let typed = prop_oneof![3 => Just(false), 1 => Just(true)];
    let fit = prop_oneof![4 => Just(FitScript::Default), 1 => Just(FitScript::Shortens), 1 => Just(FitScript::Fails)];
    (1..7_u32, time, any::<bool>(), cancel, millis(0..8_000), money, typed, fit).prop_map(
        |(attempts, time, restarts, cancel_after, pause_before, micro_usd, typed, fit)| RunScript {
            attempts,
            time: Some(time),
            restarts,
            cancel_after,
            pause_before,
            micro_usd,
            typed,
            fit,
        },
    )
}

pub(crate) fn script() -> impl Strategy<Value = Script> {
    let steps = prop::collection::vec(step(), 1..5);
    let others = prop_oneof![3 => Just(false), 1 => Just(true)];
    let runs = prop::collection::vec(run(), 1..5);
    (steps, rules(), any::<bool>(), any::<bool>(), others, runs, any::<u64>()).prop_map(
        |(steps, rules, human, recovery, others, runs, seed)| Script {
            steps,
            rules,
            human,
            recovery,
            others,
            runs,
            seed,
        },
    )
}

/// What came of one run.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) sent: Vec<Sent>,
    pub(crate) outcome: Result<RunOutcome, Box<Failure>>,
    pub(crate) events: Vec<Event>,
    pub(crate) deadline: Option<Instant>,
    pub(crate) cancelled_at: Option<Instant>,
    pub(crate) ended: Instant,
    /// What was still held open when it was over.
    pub(crate) open: usize,
    /// The numbers of the calls that were made of the tool.
    pub(crate) acted: Vec<usize>,
    /// What a target's state had to forbid, and did not.
    pub(crate) broken: Vec<String>,
}

impl Ran {
    pub(crate) fn attempts(&self) -> Option<Vec<Attempted>> {
        match &self.outcome {
            Ok(RunOutcome::Completed(report)) => Some(report.provenance.attempts.clone()),
            Ok(RunOutcome::Suspended(suspended)) => Some(suspended.attempts.clone()),
            Err(failure) => Some(failure.attempts.clone()),
        }
    }

    pub(crate) fn spent(&self) -> Spend {
        match &self.outcome {
            Ok(RunOutcome::Completed(report)) => report.spent,
            Ok(RunOutcome::Suspended(suspended)) => suspended.spent,
            Err(failure) => failure.spent,
        }
    }

    pub(crate) fn text(&self) -> Option<String> {
        match &self.outcome {
            Ok(RunOutcome::Completed(report)) => Some(report.text().into_owned()),
            _ => None,
        }
    }
}

/// Each cooling time that was seen, by target.
type Cooling = Arc<Mutex<BTreeMap<TargetKey, Instant>>>;

/// The plan of a script, whose models note what reaches them.
fn plan(
    script: &Script,
    log: &Log,
    targets: &Targets,
    cooling: &Cooling,
    broken: &Arc<Mutex<Vec<String>>>,
) -> FallbackModel {
    let mut plan = FallbackModel::builder("plan").targets(targets.clone()).seed(script.seed);
    for (place, step) in script.steps.iter().enumerate() {
        let provider = if step.provider { "north" } else { "south" };
        let (targets, cooling, broken) = (targets.clone(), cooling.clone(), broken.clone());
        let upstream = Upstream::new(provider, &format!("model-{place}"), step.deeds.clone(), log);
        let upstream = upstream.with_info(|info| match step.window {
            Some(window) => info.with_context_window(Tokens(window)),
            None => info,
        });
        let upstream = upstream.watched(move |info| watch(info, &targets, &cooling, &broken));
        let credential = if step.credential { "gold" } else { "lead" };
        let limits = step.concurrency.map(|calls| StepLimits::default().with_concurrency(calls)).unwrap_or_default();
        let step = PlanStep::new(upstream).with_name(format!("model-{place}")).with_credential(credential);
        plan = plan.step(step.with_limits(limits));
    }
    if let Some(rules) = script.rules {
        plan = plan.step(RulesModel::new("rules", rules));
    }
    if script.human {
        plan = plan.human("Please answer in the model's place.");
    }
    plan.build().unwrap()
}

/// A call of the plan by a host's own hand, without an agent.
#[derive(Debug)]
pub(crate) struct Called {
    pub(crate) sent: Vec<Sent>,
    pub(crate) ended: Instant,
    pub(crate) deadline: Option<Instant>,
    pub(crate) cancelled_at: Option<Instant>,
    pub(crate) open: usize,
}

/// Plays the script without an agent: each run is one call, collected or read piece by piece.
pub(crate) async fn call(script: &Script) -> Vec<Called> {
    let (log, targets) = (Log::default(), Targets::with_seed(BreakerSettings::default(), script.seed).unwrap());
    let plan = plan(script, &log, &targets, &Cooling::default(), &Arc::default());
    let mut all = Vec::new();
    for (number, run) in script.runs.iter().enumerate() {
        tokio::time::sleep(run.pause_before).await;
        let before = log.sent().len();
        let mut limits = Limits::none();
        limits.time = run.time;
        limits.micro_usd = run.micro_usd.map(MicroUsd);
        let cx = RunContext::standalone_with(caller(), Lease::root(limits), Vec::new());
        let restarts = if run.restarts { Restarts::Allowed } else { Restarts::Forbidden };
        let request = ChatRequest::new(Conversation::new().say("Say something.")).with_restarts(restarts);
        let cancelled_at = run.cancel_after.map(|after| Instant::now() + after);
        let cancelling = cancelled_at.map(|at| {
            let token = cx.cancellation().clone();
            tokio::spawn(async move {
                tokio::time::sleep_until(at).await;
                token.cancel();
            })
        });
        if number % 2 == 0 {
            let _ = complete(&plan, request, &cx).await;
        } else if let Ok(stream) = plan.stream(request, &cx).await {
            stream.for_each(|_| async {}).await;
        }
        let ended = Instant::now();
        if let Some(cancelling) = cancelling {
            cancelling.abort();
        }
        let sent = log.sent().split_off(before);
        all.push(Called { sent, ended, deadline: cx.deadline(), cancelled_at, open: log.open() });
    }
    all
}

/// What another tenant does meanwhile: it asks models of the same names, with the same limits, again and again.
async fn ask_on(script: Script, targets: Targets) {
    let plan = plan(&script, &Log::default(), &targets, &Cooling::default(), &Arc::default());
    loop {
        let lease = Lease::root(Limits::none().with_time(Duration::from_secs(2)));
        let cx = RunContext::standalone_with(somebody("umbrella", "eve"), lease, Vec::new());
        let request = ChatRequest::new(Conversation::new().say("Say something."));
        let _ = complete(&plan, request.with_restarts(Restarts::Allowed), &cx).await;
        tokio::time::sleep(Duration::from_millis(70)).await;
    }
}

/// Plays the script on a paused clock.
pub(crate) async fn play(script: &Script) -> Vec<Ran> {
    let log = Log::default();
    let targets = Targets::with_seed(BreakerSettings::default(), script.seed).unwrap();
    let broken: Arc<Mutex<Vec<String>>> = Arc::default();
    let cooling = Cooling::default();
    let plan = plan(script, &log, &targets, &cooling, &broken);
    let others = script.others.then(|| tokio::spawn(ask_on(script.clone(), targets.clone())));
    let mut all = Vec::new();
    for run in &script.runs {
        tokio::time::sleep(run.pause_before).await;
        let before = log.sent().len();
        let tool = RecordingTool::new("act");
        let observer = Recorder::new();
        let desk = MainAgent::builder("desk", plan.clone()).tool(tool.clone()).observer(observer.clone());
        let desk = desk.bounds(Bounds::default().with_attempts(run.attempts));
        let desk = if run.restarts { desk } else { desk.without_restarts() }.context_policy(run.fit);
        let desk = if script.recovery { desk.recovery(TableRecovery::of(&plan)) } else { desk };
        let desk = if run.typed { desk.answer::<Sum>() } else { desk }.build().unwrap();
        let mut limits = Limits::none();
        limits.time = run.time;
        limits.micro_usd = run.micro_usd.map(MicroUsd);
        let deadline = run.time.map(|time| Instant::now() + time);
        let token = CancellationToken::new();
        let options = RunOptions::default().with_limits(limits).with_cancellation(token.clone());
        let request = agent_core::Request::new("Say something.").with_options(options);
        let running = desk.run(request, caller());
        let cancelled_at = run.cancel_after.map(|after| Instant::now() + after);
        let cancelling = async {
            match cancelled_at {
                Some(at) => {
                    tokio::time::sleep_until(at).await;
                    token.cancel();
                }
                None => std::future::pending().await,
            }
        };
        let outcome = tokio::select! {
            biased;
            outcome = running => outcome,
            () = async { cancelling.await; std::future::pending::<()>().await } => unreachable!(),
        };
        let ended = Instant::now();
        watch_cooling(&targets, &cooling, &broken);
        let inputs = tool.inputs();
        let acted = inputs.iter().filter_map(|input| input["number"].as_u64()).map(|number| number as usize);
        all.push(Ran {
            sent: log.sent().split_off(before),
            outcome,
            events: joined(observer.events()),
            deadline,
            cancelled_at: cancelled_at.filter(|_| token.is_cancelled()),
            ended,
            open: log.open(),
            acted: acted.collect(),
            broken: std::mem::take(&mut *broken.lock().unwrap()),
        });
    }
    others.inspect(tokio::task::JoinHandle::abort);
    all
}

/// Looks whether a model may be asked that is asked now.
fn watch(info: &agent_core::ModelInfo, targets: &Targets, cooling: &Cooling, broken: &Mutex<Vec<String>>) {
    watch_cooling(targets, cooling, broken);
    let states = targets.states();
    let state = states.iter().find(|state| state.key.model == info.name).unwrap();
    if state.cooling_for_ms > 0 || state.open_for_ms > 0 || state.dead_for_ms > 0 {
        broken.lock().unwrap().push(format!("asked, though {state:?}"));
    }
}

/// Looks whether a cooling time became shorter.
fn watch_cooling(targets: &Targets, cooling: &Cooling, broken: &Mutex<Vec<String>>) {
    let now = Instant::now();
    let mut cooling = cooling.lock().unwrap();
    for state in targets.states() {
        let until = now + Duration::from_millis(state.cooling_for_ms);
        let earlier = cooling.entry(state.key.clone()).or_insert(until);
        // Whole milliseconds are told.
        if *earlier > now + Duration::from_millis(1) && until + Duration::from_millis(1) < *earlier {
            broken.lock().unwrap().push(format!("a shorter cooling time: {state:?}"));
        }
        *earlier = until;
    }
}

/// An event without what differs from run to run.
pub(crate) fn plain(event: &Event) -> (CallPath, u64, String) {
    let kind = match &event.kind {
        EventKind::Waiting { pending } => format!("waiting {} {:?}", pending.id.name, pending.kind),
        kind => format!("{kind:?}"),
    };
    (event.path().clone(), event.n, kind)
}

/// Whether a text discloses what it must not.
pub(crate) fn discloses(text: &str) -> bool {
    let words = ["model-", "north", "south", "gold", "lead"];
    SECRET.split(' ').chain(words).any(|word| text.contains(word))
}
