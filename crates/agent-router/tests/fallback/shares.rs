//! Who gets how much of what there is: of a run's time, of places within limits, and who decides when several steps fail.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agent_core::{
    Bounds, ChatModel, ChatRequest, Chunk, ContextError, ContextPolicy, Conversation, FitRequest, Fitted, Lease,
    Limits, MainAgent, ModelError, ModelErrorClass as Class, ModelInfo, ModelStream, Restarts, RunContext, RunOutcome,
    Spend, Tokens, complete,
};
use agent_router::{
    Asked, FailureRow, FailureTable, FallbackBuilder, FallbackModel, NextStep, PlanStep, Rules, RulesModel,
    RunFailureClass, StepLimits, Targets, rules,
};
use async_trait::async_trait;
use futures_util::StreamExt;
use serde_json::Value;
use testkit::{FnModel, Line, caller, paused, somebody};
use tokio::time::{Instant, sleep};

use super::upstream::{Deed, Log, Upstream};

const SAYS: Deed = Deed::Says(1, Duration::ZERO);

#[derive(serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
struct Sum {
    sum: u32,
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn upstream(name: &str, deeds: impl IntoIterator<Item = Deed>) -> Upstream {
    Upstream::new("north", name, deeds, &Log::default())
}

fn step(name: &str, deeds: impl IntoIterator<Item = Deed>) -> PlanStep {
    PlanStep::new(upstream(name, deeds)).with_credential(name)
}

fn fails(name: &str, class: Class) -> PlanStep {
    step(name, [Deed::Fails(class, None)])
}

/// A model with a window of so many tokens.
fn sized(name: &str, window: u64, deed: Deed) -> PlanStep {
    PlanStep::new(upstream(name, [deed]).with_info(|info| info.with_context_window(Tokens(window))))
        .with_credential(name)
}

fn plan(steps: impl IntoIterator<Item = PlanStep>) -> FallbackBuilder {
    steps.into_iter().fold(FallbackModel::builder("plan").seed(1), FallbackBuilder::step)
}

/// Rules that look something up for so long.
struct Slow(Duration, Option<&'static str>);

#[async_trait]
impl Rules for Slow {
    async fn answer(&self, _: &Asked<'_>) -> Option<Value> {
        sleep(self.0).await;
        self.1.map(Value::from)
    }
}

fn closed() -> RulesModel {
    RulesModel::new("rules", rules(|_| Some("By rule.".into())))
}

fn request() -> ChatRequest {
    ChatRequest::new(Conversation::new().say("Hello?"))
}

fn in_time(time: Duration) -> RunContext {
    RunContext::standalone_with(caller(), Lease::root(Limits::none().with_time(time)), Vec::new())
}

/// Which model answered, or the code of the failure.
async fn ask(plan: &FallbackModel, cx: &RunContext) -> String {
    match complete(plan, request().with_restarts(Restarts::Allowed), cx).await {
        Ok(reply) => reply.model.clone().unwrap().to_string(),
        Err(error) => error.code().to_string(),
    }
}

/// What comes of a run of this plan, and after how many milliseconds.
#[track_caller]
fn check(plan: FallbackBuilder, time: Duration, expected: (&str, u128)) {
    let (said, took) = paused(async {
        let begun = Instant::now();
        let desk = MainAgent::builder("desk", plan.build().unwrap()).limits(Limits::none().with_time(time));
        (end(&desk.build().unwrap()).await, begun.elapsed().as_millis())
    });
    assert_eq!((&*said, took), expected);
}

/// The step that answered, `waits`, or the code of the failure.
async fn end(desk: &MainAgent) -> String {
    match desk.run("Hello?", caller()).await {
        Ok(RunOutcome::Completed(report)) => report.provenance.step.unwrap().to_string(),
        Ok(RunOutcome::Suspended(_)) => "waits".to_owned(),
        Err(failure) => failure.code().to_string(),
    }
}

fn failures(targets: &Targets) -> usize {
    targets.states().iter().map(|state| state.failures).sum()
}

#[test]
fn waiting_for_a_step_leaves_half_of_the_time_to_another_one() {
    // For its place within limits.
    paused(async {
        let one = StepLimits::default().with_concurrency(NonZeroU32::MIN);
        let both = plan([step("busy", [Deed::Hangs]).with_limits(one), step("free", [SAYS])]).build().unwrap();
        let (holder, cx) = (RunContext::standalone(caller()), in_time(millis(1_000)));
        let begun = Instant::now();
        let asked = tokio::select! {
            _ = complete(&both, request(), &holder) => unreachable!(),
            asked = async { sleep(millis(1)).await; ask(&both, &cx).await } => asked,
        };
        assert_eq!((&*asked, begun.elapsed().as_millis()), ("free", 501));
    });
    // Until it may be asked again.
    let limited = || step("limited", [Deed::Fails(Class::RateLimited, Some(millis(900)))]);
    check(plan([limited(), step("free", [SAYS])]), millis(1_000), ("free", 0));
    check(plan([limited()]).human("Please."), millis(1_000), ("waits", 0));
}

#[test]
fn rules_that_look_something_up_have_some_of_the_time_that_is_kept() {
    let slow = |time, says| RulesModel::new("slow", Slow(millis(time), says));
    let hangs = || step("hangs", [Deed::Hangs]);
    let time = Duration::from_secs(20);
    check(plan([hangs()]).step(slow(500, Some("Found."))).human("Please."), time, ("slow", 18_500));
    // Half of it for each, and the person comes last.
    check(plan([hangs()]).step(slow(5_000, None)).human("Please."), time, ("waits", 19_000));
    check(plan([hangs()]).step(slow(5_000, None)).step(closed()), time, ("rules", 19_000));
}

#[test]
fn a_stream_that_goes_on_as_before_is_not_given_up_near_the_end() {
    paused(async {
        let targets = Targets::default();
        let slow = step("slow", [Deed::Says(13, millis(1_500))]);
        let both = plan([slow, step("second", [SAYS])]).targets(targets.clone()).build().unwrap();
        assert_eq!(ask(&both, &in_time(Duration::from_secs(20))).await, "slow");
        assert_eq!(failures(&targets), 0);
        // It writes until the end of its time: it is not to blame for what it was asked.
        let endless = step("endless", [Deed::Says(1_000, millis(100))]);
        let alone = plan([endless]).targets(targets.clone()).human("Please.").build().unwrap();
        assert_eq!(ask(&alone, &in_time(Duration::from_secs(100))).await, "model.needs_human");
        assert_eq!(failures(&targets), 0);
        // It stops.
        let stops = step("stops", [Deed::SaysAndHangs(2)]);
        let alone = plan([stops]).targets(targets.clone()).human("Please.").build().unwrap();
        assert_eq!(ask(&alone, &in_time(Duration::from_secs(100))).await, "model.needs_human");
        assert_eq!(failures(&targets), 1);
    });
}

#[test]
fn a_reader_that_pauses_is_not_the_models_fault() {
    let read = |first: PlanStep| {
        paused(async {
            let targets = Targets::default();
            let both = plan([first, step("second", [SAYS])]).targets(targets.clone()).build().unwrap();
            let cx = in_time(Duration::from_secs(20));
            let mut stream = both.stream(request().with_restarts(Restarts::Allowed), &cx).await.unwrap();
            let mut read = vec![stream.next().await.unwrap()];
            sleep(Duration::from_secs(15)).await;
            read.extend(stream.collect::<Vec<_>>().await);
            let restarts = read.iter().filter(|read| matches!(read, Ok(Chunk::Restart { .. }))).count();
            (restarts, read.iter().filter(|read| read.is_err()).count(), failures(&targets))
        })
    };
    let slow = || step("slow", [Deed::Says(3, millis(10))]);
    assert_eq!(read(slow()), (0, 0, 0));
    // Its own time is over for both of them.
    assert_eq!(read(slow().with_time(Duration::from_secs(9))), (1, 0, 0));
}

#[test]
fn a_place_is_not_held_while_its_run_waits_for_budget() {
    paused(async {
        let one = StepLimits::default().with_concurrency(NonZeroU32::MIN);
        let narrow = plan([step("narrow", [SAYS]).with_limits(one)]).build().unwrap();
        let lease = Lease::root(Limits::none().with_tokens(Tokens(150)));
        let held = lease.reserve(Spend::of_tokens(Tokens(149))).await.unwrap();
        let poor = RunContext::standalone_with(caller(), lease.clone(), Vec::new());
        let rich = RunContext::standalone(somebody("umbrella", "eve"));
        let begun = Instant::now();
        let waits = ask(&narrow, &poor);
        let others = async {
            sleep(millis(5)).await;
            let other = (ask(&narrow, &rich).await, begun.elapsed().as_millis());
            sleep(millis(100)).await;
            drop(held);
            other
        };
        let (first, other) = tokio::join!(waits, others);
        assert_eq!((&*first, &*other.0, other.1), ("narrow", "narrow", 5));
    });
}

#[test]
fn a_step_that_is_left_out_decides_as_one_that_is_asked() {
    let check = |steps: [PlanStep; 2], expected: &str| {
        paused(async {
            let targets = Targets::default();
            for human in [false, true] {
                let desk = |human: bool| {
                    let plan = plan(steps.clone()).targets(targets.clone()).step(closed());
                    let plan = if human { plan.human("Please.") } else { plan };
                    MainAgent::builder("desk", plan.build().unwrap()).build().unwrap()
                };
                // The first time it is asked, the second time its credential is dead.
                for _ in 0..2 {
                    assert_eq!(end(&desk(human)).await, expected);
                }
            }
        });
    };
    check([fails("gone", Class::NotFound), fails("dead", Class::Auth)], "rules");
    check([fails("dead", Class::Auth), fails("gone", Class::NotFound)], "model.not_found");
}

#[test]
fn a_conversation_that_is_too_long_for_one_model_is_shortened_whatever_comes_first() {
    // It cools off for longer than is waited.
    let cooling = || step("cooling", [Deed::Fails(Class::RateLimited, Some(Duration::from_secs(600)))]);
    let tiny = || sized("tiny", 4, SAYS);
    for steps in [[cooling(), tiny()], [tiny(), cooling()]] {
        paused(async {
            let plan = plan(steps).build().unwrap();
            let cx = RunContext::standalone(caller());
            assert_eq!(ask(&plan, &cx).await, "model.rate_limited");
            assert_eq!(ask(&plan, &cx).await, "model.context_overflow");
        });
    }
}

/// Leaves out all but the last message once it was too long.
#[derive(Default)]
struct Shortening {
    budgets: Mutex<Vec<Option<Tokens>>>,
}

#[async_trait]
impl ContextPolicy for Shortening {
    async fn fit(&self, request: FitRequest<'_>, _: &RunContext) -> Result<Fitted, ContextError> {
        self.budgets.lock().unwrap().push(request.budget);
        let last = request.conversation.last_user_message().map(|message| message.joined_text()).unwrap_or_default();
        let conversation = match request.overflows {
            0 => request.conversation.clone(),
            _ => Conversation::new().say(last),
        };
        Ok(Fitted::new(conversation, Tokens(100), Tokens(10)))
    }
}

/// Finds that nothing can be left out.
struct Unfit;

#[async_trait]
impl ContextPolicy for Unfit {
    async fn fit(&self, _: FitRequest<'_>, _: &RunContext) -> Result<Fitted, ContextError> {
        Err(ContextError::DoesNotFit { needed: Tokens(9), budget: Tokens(1) })
    }
}

#[test]
fn one_attempt_is_enough_for_a_conversation_that_has_to_be_shortened_first() {
    let long = || agent_core::Request::new("Hello?").with_conversation(Conversation::new().say("word ".repeat(2_000)));
    let run = |steps: [PlanStep; 2]| {
        paused(async {
            let desk = MainAgent::builder("desk", plan(steps).build().unwrap()).context_policy(Shortening::default());
            let desk = desk.bounds(Bounds::default().with_attempts(1)).build().unwrap();
            match desk.run(long(), caller()).await {
                Ok(outcome) => outcome.into_report().unwrap().provenance.step.unwrap().to_string(),
                Err(failure) => failure.code().to_string(),
            }
        })
    };
    let tiny = || sized("tiny", 500, SAYS);
    let small = || sized("small", 400, SAYS);
    assert_eq!(run([tiny(), small()]), "tiny");
}

#[test]
fn the_room_for_a_conversation_is_less_the_answers_schema() {
    let budget = |typed: bool| {
        paused(async {
            let policy = Arc::new(Shortening::default());
            let model = FnModel::new(|_| Line::text(r#"{"sum": 7}"#))
                .with_info(|info| info.with_context_window(Tokens(4_000)).with_max_output(Tokens(100)));
            let desk = MainAgent::builder("desk", model).context_policy(policy.clone());
            let request = "How much?";
            if typed {
                desk.answer::<Sum>().build().unwrap().run(request, caller()).await.unwrap();
            } else {
                desk.build().unwrap().run(request, caller()).await.unwrap();
            }
            let budgets = policy.budgets.lock().unwrap();
            budgets[0].unwrap()
        })
    };
    let (plain, typed) = (budget(false), budget(true));
    let sum = ChatRequest::new(Conversation::new()).with_answer(agent_core::Schema::of::<Sum>());
    assert_eq!(plain.minus(typed), sum.estimate_input());
}

#[test]
fn the_table_decides_who_answers_a_conversation_that_cannot_be_made_to_fit() {
    let run = |row: FailureRow| {
        paused(async {
            let table = FailureTable::default().with_row(RunFailureClass::Context, row);
            let plan = plan([step("first", [SAYS])]).step(closed()).human("Please.").table(table).build().unwrap();
            end(&MainAgent::builder("desk", plan).context_policy(Unfit).build().unwrap()).await
        })
    };
    assert_eq!(run(FailureRow::FAIL.with_rules().with_human()), "rules");
    assert_eq!(run(FailureRow::FAIL.with_human()), "waits");
    assert_eq!(run(FailureRow::FAIL), "context.does_not_fit");
    // The one that models say.
    let run = |row: FailureRow| {
        paused(async {
            let table = FailureTable::default().with_row(Class::ContextOverflow, row);
            let long = fails("first", Class::ContextOverflow);
            let plan = plan([long]).step(closed()).human("Please.").table(table).build().unwrap();
            let desk = MainAgent::builder("desk", plan).context_policy(Shortening::default());
            end(&desk.build().unwrap()).await
        })
    };
    let row = FailureRow::FAIL.with_next(NextStep::LargerWindow);
    assert_eq!(run(row.with_rules().with_human()), "rules");
    assert_eq!(run(row.with_human()), "waits");
    assert_eq!(run(row), "model.context_overflow");
}

#[test]
fn no_model_is_asked_what_cannot_be_made_to_fit() {
    paused(async {
        let log = Log::default();
        let first = PlanStep::new(Upstream::new("north", "first", [SAYS], &log));
        for code in [Class::ContextOverflow.code(), agent_core::ErrorCode::new("context.does_not_fit")] {
            let mut request = request();
            request.unfit = Some(code);
            let cx = RunContext::standalone(caller());
            let asked = async |plan: FallbackBuilder| complete(&plan.build().unwrap(), request.clone(), &cx).await;
            let reply = asked(plan([first.clone()]).step(closed())).await.unwrap();
            assert_eq!(reply.model.as_deref(), Some("rules"));
            assert!(asked(plan([first.clone()])).await.is_err());
        }
        assert_eq!(log.sent().len(), 0);
    });
}

#[test]
fn an_answer_that_does_not_fit_is_told_though_another_step_was_left_out() {
    paused(async {
        let plan = plan([step("bad", [SAYS]), fails("dead", Class::Auth)]).build().unwrap();
        let desk = MainAgent::builder("desk", plan).answer::<Sum>().build().unwrap();
        assert_eq!(end(&desk).await, "model.auth");
        assert_eq!(end(&desk).await, "run.bad_answer");
    });
}

#[test]
fn an_answer_that_does_not_fit_counts_once() {
    paused(async {
        let asked = Mutex::new(0);
        let model = FnModel::new(move |_| {
            let mut asked = asked.lock().unwrap();
            *asked += 1;
            match *asked {
                1 => Line::text("no sum"),
                2 | 3 => Line::fails(Class::ContextOverflow),
                _ => Line::text(r#"{"sum": 7}"#),
            }
        });
        let targets = Targets::default();
        let plan = plan([PlanStep::new(model)]).targets(targets.clone()).build().unwrap();
        let desk = MainAgent::builder("desk", plan).context_policy(Shortening::default()).answer::<Sum>();
        let desk = desk.bounds(Bounds::default().with_attempts(9)).build().unwrap();
        desk.run("How much?", caller()).await.unwrap().into_report().unwrap();
        assert_eq!(targets.states()[0].bad_answers, 1);
    });
}

#[test]
fn a_person_follows_many_rules_whose_answers_do_not_fit() {
    paused(async {
        let many = (0..40).map(|place| PlanStep::new(closed()).with_name(format!("rules-{place}")));
        let plan = plan(many).human("Please.").build().unwrap();
        let desk = MainAgent::builder("desk", plan).answer::<Sum>().build().unwrap();
        assert!(desk.run("How much?", caller()).await.unwrap().into_suspended().is_ok());
    });
}

/// A model that says by itself that it was stopped.
struct Stops(ModelInfo, bool);

#[async_trait]
impl ChatModel for Stops {
    fn info(&self) -> &ModelInfo {
        &self.0
    }

    async fn stream(&self, _: ChatRequest, _: &RunContext) -> Result<ModelStream, ModelError> {
        let stopped = || ModelError::new(Class::Stopped, "somebody stopped it");
        match self.1 {
            true => Err(stopped()),
            false => Ok(futures_util::stream::iter([Err(stopped())]).boxed()),
        }
    }
}

#[test]
fn a_model_that_stops_by_itself_is_gone_past() {
    for at_once in [true, false] {
        let stops = || PlanStep::new(Stops(ModelInfo::new("wild", "stops"), at_once));
        let waits: agent_router::Waits = serde_json::from_value(serde_json::json!({"backoff_ms": 0})).unwrap();
        let time = Duration::from_secs(20);
        check(plan([stops(), step("second", [SAYS])]).waits(waits), time, ("second", 0));
        check(plan([stops()]).waits(waits).human("Please."), time, ("waits", 0));
    }
}

#[test]
fn reasoning_that_was_shown_is_a_beginning() {
    paused(async {
        let line = || Line::silence().then(Chunk::Reasoning("Well.".into())).then_fails(Class::Malformed);
        let lines: Vec<Line> = (0..3).map(|_| line()).collect();
        let desk = MainAgent::builder("desk", testkit::ScriptedModel::new(lines)).without_restarts().build().unwrap();
        let failure = desk.run("Hello?", caller()).await.unwrap_err();
        let calls: u32 = failure.attempts.iter().map(|attempt| attempt.calls).sum();
        assert_eq!((failure.code().as_str(), calls), ("model.cut", 1));
    });
}
