//! A plan where hosts put it: below other agents, in tools, behind models of their own; and models that misbehave.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use agent_core::{
    AttemptEnd, Begin, Bounds, CallError, ChatModel, ChatRequest, Chunk, Conversation, EventKind, Finish, FunctionSpec,
    Lease, Level, Limits, MainAgent, ModelError, ModelErrorClass as Class, ModelInfo, ModelStream, RunContext, Spend,
    SubAgent, Tokens, Tool, ToolOutput, async_trait, complete,
};
use agent_router::{BreakerSettings, FallbackModel, PlanStep, RuleModel, RulesModel, Targets, Waits, rules};
use futures_util::StreamExt;
use serde_json::{Value, json};
use testkit::{FnModel, Line, Recorder, RecordingTool, ScriptedModel, caller, paused, somebody};

use super::upstream::{Deed, Log, Upstream};

fn failing_then(log: &Log) -> FallbackModel {
    let first = Upstream::new("north", "first", [Deed::Fails(Class::Auth, None)], log);
    let second = Upstream::new("south", "second", [Deed::Says(2, Duration::ZERO)], log);
    FallbackModel::builder("plan").step(first).step(second).build().unwrap()
}

fn steps(attempts: &[agent_core::Attempted]) -> Vec<(String, AttemptEnd)> {
    attempts.iter().map(|attempt| (attempt.step.as_deref().unwrap_or("-").to_owned(), attempt.end)).collect()
}

#[test]
fn a_plan_below_another_agent_is_charged_to_the_run_and_told_at_its_place() {
    paused(async {
        let log = Log::default();
        let inner = MainAgent::builder("inner", failing_then(&log)).build().unwrap();
        let outer = ScriptedModel::new([Line::call("inner", json!({"request": "Go"})), Line::text("Done.")]);
        let observer = Recorder::new();
        let desk = MainAgent::builder("desk", outer).sub_agent(inner).observer(observer.clone()).build().unwrap();
        let report = desk.run("Go", caller()).await.unwrap().into_report().unwrap();
        assert_eq!((report.spent.model_calls, report.provenance.model_calls()), (4, 2));
        let events = observer.events();
        let inner = events.iter().find_map(|event| match &event.kind {
            EventKind::Finished(ending) if !event.path().to_string().eq("/") => ending.provenance.clone(),
            _ => None,
        });
        let expected =
            [("first".to_owned(), AttemptEnd::Failed(Class::Auth)), ("second".to_owned(), AttemptEnd::Answered)];
        assert_eq!(steps(&inner.unwrap().attempts), expected);
    });
}

/// A host's own model around a plan.
struct Wrapper(FallbackModel, AtomicUsize);

#[async_trait]
impl ChatModel for Wrapper {
    fn info(&self) -> &ModelInfo {
        self.0.info()
    }

    async fn stream(&self, request: ChatRequest, cx: &RunContext) -> Result<ModelStream, ModelError> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.stream(request, cx).await
    }
}

#[test]
fn a_model_around_a_plan_is_metered_once() {
    paused(async {
        let log = Log::default();
        let desk = MainAgent::builder("desk", Wrapper(failing_then(&log), AtomicUsize::new(0))).build().unwrap();
        let report = desk.run("Go", caller()).await.unwrap().into_report().unwrap();
        assert_eq!((report.spent.model_calls, report.provenance.model_calls(), log.sent().len()), (2, 2, 2));
    });
}

/// A tool that asks a plan by itself.
struct Asks(FallbackModel, FunctionSpec);

#[async_trait]
impl Tool for Asks {
    fn spec(&self) -> &FunctionSpec {
        &self.1
    }

    async fn call(&self, _: &Value, cx: &RunContext) -> Result<ToolOutput, CallError> {
        let request = ChatRequest::new(Conversation::new().say("Well?"));
        let reply = complete(&self.0, request, cx).await.map_err(|error| CallError::tell(error.to_string()))?;
        Ok(ToolOutput::Done(reply.joined_text().into()))
    }
}

#[test]
fn a_tool_asks_a_plan_within_the_runs_budget_and_not_its_attempts() {
    paused(async {
        let log = Log::default();
        let spec = RecordingTool::new("asks").spec().clone();
        let model = ScriptedModel::new([Line::call("asks", json!({})), Line::text("Done.")]);
        let desk = MainAgent::builder("desk", model).tool(Asks(failing_then(&log), spec));
        let desk = desk.bounds(Bounds::default().with_attempts(1)).build().unwrap();
        let report = desk.run("Go", caller()).await.unwrap().into_report().unwrap();
        // Two of the tool, two of the agent.
        assert_eq!((report.spent.model_calls, report.provenance.model_calls(), log.sent().len()), (4, 2, 2));
        assert_eq!(report.spent.micro_usd.0, 17, "what the second model says it used");
    });
}

#[test]
fn a_run_without_attempts_asks_nothing_but_rules() {
    paused(async {
        let log = Log::default();
        let none = Bounds::default().with_attempts(0);
        let desk = MainAgent::builder("desk", failing_then(&log)).bounds(none);
        match desk.build() {
            Ok(desk) => {
                let failure = desk.run("Go", caller()).await.unwrap_err();
                assert_eq!((failure.code().as_str(), log.sent().len()), ("model.attempts_exhausted", 0));
            }
            Err(refused) => assert!(refused.to_string().contains("attempts"), "{refused}"),
        }
    });
}

/// A model that does as it likes.
struct Wild(ModelInfo, fn() -> ModelStream);

impl Wild {
    fn new(chunks: fn() -> ModelStream) -> Self {
        Self(ModelInfo::new("wild", "wild"), chunks)
    }
}

#[async_trait]
impl ChatModel for Wild {
    fn info(&self) -> &ModelInfo {
        &self.0
    }

    async fn stream(&self, _: ChatRequest, _: &RunContext) -> Result<ModelStream, ModelError> {
        Ok((self.1)())
    }
}

fn ending_with(chunks: Vec<Chunk>) -> ModelStream {
    futures_util::stream::iter(chunks.into_iter().map(Ok)).boxed()
}

/// What comes of a wild model before one that answers `Calm.`
async fn tame(chunks: fn() -> ModelStream) -> Result<(String, Vec<(String, AttemptEnd)>), String> {
    let calm = FnModel::new(|_| Line::text("Calm."));
    let plan =
        FallbackModel::builder("plan").step(Wild::new(chunks)).step(PlanStep::new(calm).with_name("calm")).seed(1);
    let desk =
        MainAgent::builder("desk", plan.build().unwrap()).limits(Limits::none().with_time(Duration::from_secs(60)));
    let ran = desk.build().unwrap().run("Go", caller()).await;
    let report = ran.map_err(|failure| failure.code().to_string())?.into_report().unwrap();
    let text: String = report.text().chars().take(20).collect();
    Ok((text, steps(&report.provenance.attempts)))
}

#[test]
fn wild_models_are_gone_past() {
    let failed = |class: Class, times: usize| {
        let mut expected = vec![("wild".to_owned(), AttemptEnd::Failed(class)); times];
        expected.push(("calm".to_owned(), AttemptEnd::Answered));
        Ok(("Calm.".to_owned(), expected))
    };
    let answered = |text: &str| Ok((text.to_owned(), vec![("wild".to_owned(), AttemptEnd::Answered)]));
    paused(async {
        // Two ends: the second one is not looked at.
        let twice = || {
            ending_with(vec![
                Chunk::Text("A".into()),
                Chunk::Finish(Finish::default()),
                Chunk::Finish(Finish::default()),
            ])
        };
        assert_eq!(tame(twice).await, answered("A"));
        // Arguments of a call that did not begin.
        let lost = || ending_with(vec![Chunk::CallArguments { index: 3, text: "{}".into() }]);
        assert_eq!(tame(lost).await, failed(Class::Malformed, 2));
        // A call that begins twice, after the first one was heard of: not asked again.
        let double = || {
            let call = || Chunk::CallStart { index: 0, id: String::new(), name: "act".into() };
            ending_with(vec![call(), call()])
        };
        assert_eq!(tame(double).await, failed(Class::Malformed, 1));
        // It restarts by itself, which nobody allowed.
        let restarts = || {
            ending_with(vec![
                Chunk::Text("A".into()),
                Chunk::Restart { attempt: 0 },
                Chunk::Text("B".into()),
                Chunk::Finish(Finish::default()),
            ])
        };
        assert_eq!(tame(restarts).await, failed(Class::Malformed, 1));
        // Nothing, for ever, as fast as it can.
        let nothing = || futures_util::stream::repeat_with(|| Ok::<_, ModelError>(Chunk::Text(String::new()))).boxed();
        assert_eq!(tame(nothing).await.map(|(text, _)| text), Ok("Calm.".to_owned()));
        let blanks = || futures_util::stream::repeat_with(|| Ok(Chunk::Text("    ".repeat(64)))).boxed();
        assert_eq!(tame(blanks).await.map(|(text, _)| text), Ok("Calm.".to_owned()));
        // A million characters are an answer.
        let long = || ending_with(vec![Chunk::Text("x".repeat(1_000_000)), Chunk::Finish(Finish::default())]);
        assert_eq!(tame(long).await, answered(&"x".repeat(20)));
    });
}

#[test]
fn a_model_that_panics_leaves_nothing_held() {
    paused(async {
        let targets = Targets::default();
        let panics = FnModel::new(|_| Line::silence().then_panics());
        let limits = agent_router::StepLimits::default().with_concurrency(std::num::NonZeroU32::MIN);
        let plan =
            FallbackModel::builder("plan").step(PlanStep::new(panics).with_limits(limits)).targets(targets.clone());
        let desk = MainAgent::builder("desk", plan.build().unwrap()).build().unwrap();
        for _ in 0..3 {
            assert_eq!(desk.run("Go", caller()).await.unwrap_err().code().as_str(), "model.panicked");
        }
        let state = &targets.states()[0];
        assert_eq!((state.attempts, state.failures), (3, 3), "the one place was free each time");
        let plan = FallbackModel::builder("plan").step(RulesModel::new("rules", rules(|_| panic!("a rule"))));
        let desk = MainAgent::builder("desk", plan.build().unwrap()).build().unwrap();
        assert_eq!(desk.run("Go", caller()).await.unwrap_err().code().as_str(), "model.panicked");
    });
}

#[test]
fn odd_settings_do_no_harm() {
    let zeros: BreakerSettings = serde_json::from_value(json!({
        "window": 1, "window_ms": 1, "minimum_calls": 1, "failures_percent": 1, "open_ms": 0, "longest_open_ms": 0,
        "cooling_ms": 0, "longest_cooling_ms": 0, "longest_probe_ms": 1, "dead_ms": 0
    }))
    .unwrap();
    let most: BreakerSettings = serde_json::from_value(json!({
        "window": usize::MAX, "window_ms": u64::MAX, "minimum_calls": 1, "failures_percent": 100, "open_ms": u64::MAX,
        "longest_open_ms": u64::MAX, "cooling_ms": u64::MAX, "longest_cooling_ms": u64::MAX, "longest_probe_ms": u64::MAX,
        "dead_ms": u64::MAX
    }))
    .unwrap();
    let waits = |figure: u64| -> Waits {
        serde_json::from_value(json!({
            "backoff_ms": figure, "longest_backoff_ms": figure, "patience_ms": figure, "longest_ms": figure
        }))
        .unwrap()
    };
    for (settings, waits) in [(zeros, waits(0)), (most, waits(u64::MAX)), (zeros, waits(u64::MAX)), (most, waits(0))] {
        paused(async {
            let log = Log::default();
            let classes = [Class::Unavailable, Class::RateLimited, Class::Auth, Class::Cut];
            let deeds = classes.map(|class| Deed::Fails(class, None));
            let longest = [
                Deed::Fails(Class::RateLimited, Some(Duration::MAX)),
                Deed::Fails(Class::Unavailable, Some(Duration::MAX)),
            ];
            let first = Upstream::new("north", "first", deeds.into_iter().chain(longest), &log);
            let plan = FallbackModel::builder("plan").step(first).step(RuleModel::new()).waits(waits);
            let plan = plan.targets(Targets::new(settings).unwrap()).build().unwrap();
            let desk = MainAgent::builder("desk", plan).limits(Limits::none().with_time(Duration::from_secs(20)));
            let desk = desk.bounds(Bounds::default().with_attempts(20)).build().unwrap();
            for _ in 0..8 {
                let report = desk.run("Hello?", caller()).await.unwrap().into_report().unwrap();
                assert_eq!(report.provenance.level(), Level::Rule);
            }
        });
    }
}

#[test]
fn two_tenants_at_once_stay_apart() {
    paused(async {
        let echo = FnModel::new(|request| {
            let said = request.conversation.last_user_message().unwrap().joined_text();
            Line::text(&said).after(Duration::from_millis(50))
        });
        let down = Upstream::new("north", "down", [Deed::SaysAndEnds(1)], &Log::default());
        let plan =
            FallbackModel::builder("plan").step(down).step(PlanStep::new(echo).with_name("echo")).build().unwrap();
        let desk = MainAgent::builder("desk", plan).build().unwrap();
        let runs = (0..50).map(|number| {
            let desk = desk.clone();
            async move {
                let words = format!("secret of tenant {number}");
                let outcome = desk.run(words.as_str(), somebody(&format!("tenant-{number}"), "ann")).await.unwrap();
                assert_eq!(outcome.into_report().unwrap().text(), words);
            }
        });
        futures_util::future::join_all(runs).await;
    });
}

/// A budget, a place and a probe are free again wherever a call is dropped.
#[test]
fn a_call_dropped_at_any_poll_leaves_nothing_held() {
    paused(async {
        for polls in 0..40 {
            let log = Log::default();
            let limits = agent_router::StepLimits::default().with_concurrency(std::num::NonZeroU32::MIN).with_queue(0);
            let first = Upstream::new("north", "first", [Deed::SaysAndEnds(1), Deed::Says(3, Duration::ZERO)], &log);
            let second = Upstream::new("south", "second", [Deed::Says(2, Duration::ZERO)], &log);
            let plan = FallbackModel::builder("plan")
                .step(PlanStep::new(first).with_limits(limits))
                .step(PlanStep::new(second).with_limits(limits));
            let plan = plan.build().unwrap();
            let lease = Lease::root(Limits::none().with_tokens(Tokens(10_000)));
            let cx = RunContext::standalone_with(caller(), lease.clone(), Vec::new());
            let request =
                || ChatRequest::new(Conversation::new().say("Go")).with_restarts(agent_core::Restarts::Allowed);
            let mut call = Box::pin(complete(&plan, request(), &cx));
            for _ in 0..polls {
                if futures_util::poll!(&mut call).is_ready() {
                    break;
                }
                tokio::time::advance(Duration::from_millis(5)).await;
            }
            drop(call);
            assert_eq!((lease.reserved(), log.open()), (Spend::ZERO, 0), "after {polls} polls");
            assert_eq!(lease.spent().model_calls as usize, log.sent().len(), "after {polls} polls");
            let steps: usize = cx.attempts().take_made().iter().map(|attempt| attempt.calls as usize).sum();
            assert_eq!(steps, log.sent().len());
            complete(&plan, request(), &cx).await.unwrap();
        }
    });
}

#[test]
fn a_plan_within_a_sub_agent_of_a_hosts_own_has_the_runs_context() {
    struct Own(agent_core::AgentCard, Arc<FallbackModel>);

    #[async_trait]
    impl SubAgent for Own {
        fn card(&self) -> &agent_core::AgentCard {
            &self.0
        }

        async fn run(&self, _: Begin, cx: &RunContext) -> Result<agent_core::Outcome, agent_core::AgentError> {
            let request = ChatRequest::new(Conversation::new().say("Well?"));
            let reply = complete(&*self.1, request, cx).await?;
            Ok(agent_core::Outcome::Completed(reply.joined_text().into()))
        }
    }

    paused(async {
        let log = Log::default();
        let card = testkit::RecordingAgent::new("own", []);
        let own = Own(SubAgent::card(&card).clone(), Arc::new(failing_then(&log)));
        let model = ScriptedModel::new([Line::call("own", json!({})), Line::text("Done.")]);
        let desk = MainAgent::builder("desk", model).sub_agent(own).build().unwrap();
        let report = desk.run("Go", caller()).await.unwrap().into_report().unwrap();
        assert_eq!((report.spent.model_calls, log.sent().len()), (4, 2));
    });
}
