//! Plans of fallbacks through a real LiteLLM, in front of the testkit's upstream: `cargo xtask integration litellm`.
//!
//! What is counted is what reached the upstream: LiteLLM neither repeats nor falls back by itself, so that each attempt that a run
//! tells of is one request, in the same order.
#![allow(clippy::expect_used, clippy::unwrap_used)]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use agent_core::{
    Attempted, Bounds, ContextError, ContextPolicy, Conversation, Failure, FitRequest, Fitted, Level, Limits,
    MainAgent, MainAgentBuilder, Provenance, RunContext, RunOutcome, Tokens, async_trait,
};
use agent_router::{FallbackBuilder, FallbackModel, PlanStep, RuleModel};
use model_litellm::{Gateway, Timeouts};
use testkit::{Answer, Completion, FaultUpstream, UpstreamRequest, caller};

use support::proxy::{config, upstream};

const ASKED: &str = "How is all?";
const ANSWER: &str = "You said: How is all?";
const SECOND: &str = "model by fault/echo";

fn gateway() -> Gateway {
    let timeouts = Timeouts::default()
        .with_first_token(Duration::from_secs(4))
        .with_between_tokens(Duration::from_secs(2))
        .with_total(Duration::from_secs(8));
    Gateway::new(config().with_timeouts(timeouts)).unwrap()
}

/// A step of this model, with a credential of its own.
fn step(model: &str) -> PlanStep {
    PlanStep::new(gateway().model(model)).with_credential(model)
}

fn sized(model: &str, window: u64) -> PlanStep {
    PlanStep::new(gateway().model(model).with_info(|info| info.with_context_window(Tokens(window))))
        .with_credential(model)
}

/// A plan of this model, and of one that answers.
fn before_echo(first: impl Into<PlanStep>) -> FallbackBuilder {
    FallbackModel::builder("plan").step(first).step(step("fault/echo"))
}

/// What goes wrong, and what comes of it.
struct Case {
    name: &'static str,
    plan: FallbackBuilder,
    agent: fn(MainAgentBuilder) -> MainAgentBuilder,
    /// What the upstream answers first, whatever it is asked.
    script: Vec<Answer>,
    /// The code of the failure, or the levels and the step of the answer.
    end: &'static str,
    answer: &'static str,
    /// The models of the attempts that the run tells of, in order.
    attempts: &'static str,
    /// The models that the upstream was asked for, where that differs.
    upstream: Option<&'static str>,
}

/// A case that ends with an answer of [`ANSWER`], or without one.
fn case(name: &'static str, plan: FallbackBuilder, end: &'static str, attempts: &'static str) -> Case {
    Case { name, plan, agent: |agent| agent, script: Vec::new(), end, answer: ANSWER, attempts, upstream: None }
}

impl Case {
    fn with_agent(mut self, agent: fn(MainAgentBuilder) -> MainAgentBuilder) -> Self {
        self.agent = agent;
        self
    }

    fn with_script(mut self, script: impl IntoIterator<Item = Answer>) -> Self {
        self.script = script.into_iter().collect();
        self
    }

    fn with_answer(mut self, answer: &'static str) -> Self {
        self.answer = answer;
        self
    }

    /// The proxy keeps some attempts to itself.
    fn with_upstream(mut self, models: &'static str) -> Self {
        self.upstream = Some(models);
        self
    }
}

/// Keeps nothing of a conversation that was too long.
struct Shortens;

#[async_trait]
impl ContextPolicy for Shortens {
    async fn fit(&self, request: FitRequest<'_>, _: &RunContext) -> Result<Fitted, ContextError> {
        let fitted = match request.overflows {
            0 => request.conversation.clone(),
            _ => Conversation::new().say("In short?"),
        };
        Ok(Fitted::new(fitted, Tokens(100), Tokens(50)))
    }
}

fn down() -> Vec<Case> {
    let both = || FallbackModel::builder("plan").step(step("fault/server-error")).step(step("fault/unavailable"));
    vec![
        case("500", before_echo(step("fault/server-error")), SECOND, "server-error server-error echo"),
        case("502 as a page", before_echo(step("fault/bad-gateway")), SECOND, "bad-gateway bad-gateway echo"),
        case("503", before_echo(step("fault/unavailable")), SECOND, "unavailable unavailable echo"),
        case("529", before_echo(step("fault/overloaded")), SECOND, "overloaded overloaded echo"),
        case("closed without an answer", before_echo(step("fault/closed")), SECOND, "closed closed echo"),
        case("reset without an answer", before_echo(step("fault/reset")), SECOND, "reset reset echo"),
        case("nobody listens", before_echo(step("closed/port")), SECOND, "closed/port closed/port echo")
            .with_upstream("echo"),
        case("both are down", both(), "model.overloaded", "server-error server-error unavailable"),
        case("both, 4 attempts", both(), "model.overloaded", "server-error server-error unavailable unavailable")
            .with_agent(|agent| agent.bounds(Bounds::default().with_attempts(4))),
        case("both, 1 attempt", both(), "model.unavailable", "server-error")
            .with_agent(|agent| agent.bounds(Bounds::default().with_attempts(1))),
        case("both, then a person", both().human("?"), "suspended", "server-error server-error unavailable"),
        case(
            "both, then rules",
            both().step(RuleModel::new()),
            "model>rule by rules",
            "server-error server-error unavailable",
        )
        .with_answer("*"),
    ]
}

fn slow() -> Vec<Case> {
    let brief = Answer::error(429, "requests", "rate_limit_exceeded", "Too many").with_header("retry-after", "1");
    let patient = step("fault/silent").with_first_token(Duration::from_secs(1));
    vec![
        case("429, retry after 7 s", before_echo(step("fault/rate-limited")), SECOND, "rate-limited echo"),
        case("429, until 2100", before_echo(step("fault/rate-limited-until")), SECOND, "rate-limited-until echo"),
        case("429, retry after 1 s", before_echo(step("fault/brief")), "model by fault/brief", "brief brief")
            .with_script([brief]),
        case("silent, the adapter's 4 s", before_echo(step("fault/silent")), SECOND, "silent echo"),
        case("silent, half of the run's 5 s", before_echo(step("fault/silent")), SECOND, "silent echo")
            .with_agent(|agent| agent.limits(Limits::none().with_time(Duration::from_secs(5)))),
        case("silent, the step's 1 s", before_echo(patient), SECOND, "silent echo"),
        case(
            "silent, alone in 2 s",
            FallbackModel::builder("plan").step(step("fault/silent")),
            "model.first_token_timeout",
            "silent",
        )
        .with_agent(|agent| agent.limits(Limits::none().with_time(Duration::from_secs(2)))),
    ]
}

/// An answer that is there for long enough to be passed on, and then closed. When both come at once, LiteLLM passes the beginning on
/// or does not.
fn closes_after(answer: Completion) -> Answer {
    let events = answer.with_usage(None).events("one");
    let open = events.split_last().map(|(_, open)| open).unwrap_or_default();
    open.iter().fold(Answer::stream(), Answer::then_event).then_wait(Duration::from_millis(300)).then_close()
}

fn cut() -> Vec<Case> {
    let firm = |agent: MainAgentBuilder| agent.without_restarts();
    let text = || [closes_after(Completion::text("All is"))];
    let call = [closes_after(Completion::text("").with_call("call_1", "lookup", "{\"order\": \"A-1042\"}"))];
    let early = "fault/ends-without-finish";
    vec![
        case("closed in the stream", before_echo(step("fault/one")), SECOND, "one echo").with_script(text()),
        case("closed in a call", before_echo(step("fault/one")), SECOND, "one echo").with_script(call),
        case("reset in the stream", before_echo(step("fault/reset-in-body")), SECOND, "reset-in-body echo"),
        case("error in the stream", before_echo(step("fault/error-in-stream")), SECOND, "error-in-stream echo"),
        case(
            "429 in the stream",
            before_echo(step("fault/rate-limited-in-stream")),
            SECOND,
            "rate-limited-in-stream echo",
        ),
        case("stalls in the stream", before_echo(step("fault/stalls")), SECOND, "stalls echo"),
        case("closed, no restarts", before_echo(step("fault/one")), "model.unavailable", "one")
            .with_script(text())
            .with_agent(firm),
        case("error, no restarts", before_echo(step("fault/error-in-stream")), "model.unavailable", "error-in-stream")
            .with_agent(firm),
        case("stalls, no restarts", before_echo(step("fault/stalls")), "model.stalled", "stalls").with_agent(firm),
        // LiteLLM ends it with `stop`: nobody behind it can tell.
        case("ends early", before_echo(step(early)), "model by fault/ends-without-finish", "ends-without-finish")
            .with_answer("All is"),
    ]
}

fn refused() -> Vec<Case> {
    let long = "fault/context-length";
    let too_long = || {
        Answer::error(
            400,
            "invalid_request_error",
            "context_length_exceeded",
            "This model's maximum context length is 8 tokens.",
        )
    };
    let person = |model: &str| before_echo(step(model)).human("Please look at this.");
    let shared = |model: &str| {
        let step = |name: &str| PlanStep::new(gateway().model(name)).with_credential("ours");
        FallbackModel::builder("plan").step(step(model)).step(step("fault/echo"))
    };
    let wrong = Gateway::new(config().with_api_key("sk-wrong")).unwrap();
    let wrong = PlanStep::new(wrong.model("fault/one")).with_credential("wrong");
    vec![
        case("too long, windows unknown", before_echo(step(long)), "context.does_not_fit", "context-length"),
        case(
            "too long, a larger window",
            FallbackModel::builder("plan").step(sized(long, 8_000)).step(sized("fault/echo", 64_000)),
            SECOND,
            "context-length echo",
        ),
        case(
            "too long, the same window",
            FallbackModel::builder("plan").step(sized(long, 8_000)).step(sized("fault/echo", 8_000)),
            "context.does_not_fit",
            "context-length",
        ),
        case("too long, it is shortened", before_echo(step("fault/one")), "model by fault/one", "one one")
            .with_script([too_long()])
            .with_agent(|agent| agent.context_policy(Shortens))
            .with_answer("You said: In short?"),
        case("content policy", before_echo(step("fault/content-policy")), "model.content_policy", "content-policy"),
        case(
            "content filter of Azure",
            before_echo(step("fault/content-filter-azure")),
            "model.content_policy",
            "content-filter-azure",
        ),
        case("filtered with 200", before_echo(step("fault/filtered")), "model.content_policy", "filtered"),
        case("content policy, a person", person("fault/content-policy"), "suspended", "content-policy"),
        case("filtered with 200, a person", person("fault/filtered"), "suspended", "filtered"),
        case("wrong key", before_echo(step("fault/wrong-key")), SECOND, "wrong-key echo"),
        case("wrong key, of both", shared("fault/wrong-key"), "model.auth", "wrong-key"),
        case("wrong key of the proxy", before_echo(wrong), SECOND, "one echo").with_upstream("echo"),
        case("no permission", before_echo(step("fault/forbidden")), SECOND, "forbidden echo"),
        case("no quota", before_echo(step("fault/quota")), SECOND, "quota echo"),
        case("no quota, of both", shared("fault/quota"), "model.quota_exhausted", "quota"),
        case("no such model", before_echo(step("fault/no-model")), SECOND, "no-model echo"),
        case("bad request", before_echo(step("fault/bad-request")), "model.bad_request", "bad-request"),
        case("bad request, a person", person("fault/bad-request"), "model.bad_request", "bad-request"),
        case("blank", before_echo(step("fault/blank")), SECOND, "blank blank echo"),
        case("no choices", before_echo(step("fault/no-choices")), SECOND, "no-choices no-choices echo"),
    ]
}

/// How a run ended.
struct Seen {
    end: String,
    answer: Option<String>,
    attempts: Vec<Attempted>,
    spent_calls: u32,
}

impl Seen {
    fn of(ended: Result<RunOutcome, Box<Failure>>) -> Self {
        match ended {
            Ok(RunOutcome::Completed(report)) => {
                let Provenance { step, attempts, .. } = &report.provenance;
                Self {
                    end: format!("{} by {}", report.provenance.fallback_path(), step.as_deref().unwrap_or_default()),
                    answer: Some(report.text().into_owned()),
                    attempts: attempts.clone(),
                    spent_calls: report.spent.model_calls,
                }
            }
            // What was tried is told by the report that comes of it.
            Ok(RunOutcome::Suspended(suspended)) => Self {
                end: "suspended".into(),
                answer: None,
                attempts: Vec::new(),
                spent_calls: suspended.spent.model_calls,
            },
            Err(failure) => Self {
                end: failure.code().to_string(),
                answer: None,
                attempts: failure.attempts.clone(),
                spent_calls: failure.spent.model_calls,
            },
        }
    }

    /// The models that were asked, as the upstream names them, one for each call.
    fn models(&self) -> Vec<&str> {
        let of_models = self.attempts.iter().filter(|attempt| attempt.level == Level::Model);
        let names = of_models.map(|attempt| (upstreams_name(&attempt.model), attempt.calls));
        names.flat_map(|(name, calls)| std::iter::repeat_n(name, calls as usize)).collect()
    }
}

fn upstreams_name(model: &Arc<str>) -> &str {
    model.strip_prefix("fault/").unwrap_or(model)
}

fn models(upstream: &FaultUpstream) -> String {
    upstream.take_requests().iter().map(UpstreamRequest::model).collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn each_failure_goes_the_way_of_the_table_through_the_proxy() {
    let (upstream, _turn) = upstream().await;
    let cases = [down(), slow(), cut(), refused()].into_iter().flatten();
    let (mut wrong, mut held) = (Vec::new(), 0);
    println!("{:30} {:36} {:36} {:>8} {:>10} {:>7}", "scenario", "expected", "seen", "upstream", "provenance", "ms");
    for case in cases {
        upstream.script(case.script.clone());
        let agent = MainAgent::builder("desk", case.plan.build().unwrap());
        let agent = (case.agent)(agent).build().unwrap();
        let began = Instant::now();
        let seen = Seen::of(agent.run(ASKED, caller()).await);
        let took = began.elapsed().as_millis();
        let reached = models(&upstream);
        let calls = (reached.split_whitespace().count(), seen.models().len());
        println!(
            "{:30} {:36} {:36} {:8} {:>10} {took:7}",
            case.name,
            case.end,
            seen.end,
            calls.0,
            match &*seen.end {
                "suspended" => format!("({})", seen.spent_calls),
                _ => calls.1.to_string(),
            }
        );
        let mut check = |what: &str, seen: &str, expected: &str| {
            if seen != expected {
                wrong.push(format!("{}: {what}: seen {seen:?}, expected {expected:?}", case.name));
            }
        };
        check("end", &seen.end, case.end);
        check("upstream", &reached, case.upstream.unwrap_or(case.attempts));
        check("calls charged", &seen.spent_calls.to_string(), &case.attempts.split_whitespace().count().to_string());
        if seen.end != "suspended" {
            check("attempts", &seen.models().join(" "), case.attempts);
        }
        match (&seen.answer, case.answer) {
            (None, _) | (Some(_), "*") => {}
            (Some(answer), expected) => check("answer", answer, expected),
        }
        held += 1;
    }
    println!("{held} scenarios");
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[tokio::test]
async fn what_one_run_learns_the_next_one_knows() {
    let (upstream, _turn) = upstream().await;
    for (first, runs, first_run, last_run) in [
        // It cools off for the 7 seconds that it asks for.
        ("fault/rate-limited", 2, "rate-limited echo", "echo"),
        // The credential is dead.
        ("fault/wrong-key", 2, "wrong-key echo", "echo"),
        // The fifth failure opens the breaker.
        ("fault/server-error", 4, "server-error server-error echo", "echo"),
    ] {
        let plan = before_echo(step(first)).build().unwrap();
        let agent = MainAgent::builder("desk", plan.clone()).build().unwrap();
        let mut asked = Vec::new();
        for _ in 0..runs {
            let report = agent.run(ASKED, caller()).await.unwrap().into_report().unwrap();
            assert_eq!(report.text(), ANSWER);
            asked.push(models(&upstream));
        }
        println!("{runs} runs, first {first}: {}", asked.join(" | "));
        assert_eq!((asked[0].as_str(), asked[runs - 1].as_str()), (first_run, last_run));
    }
}
