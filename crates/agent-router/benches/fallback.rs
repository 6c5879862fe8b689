//! What a plan of models costs when its first model answers, beside that model alone: CPU time of the thread, paired in one run.
//!
//! `cargo bench -p adjutant-agent-router --bench fallback`. The bound is 5 us a call whose answer comes
//! in one piece; each further piece costs a little more, which is printed.
// A benchmark talks to a terminal.
#![allow(clippy::print_stdout, clippy::expect_used)]

use std::time::Duration;

use agent_core::{
    Caller, ChatModel, ChatRequest, Chunk, Conversation, Finish, Lease, Limits, ModelError, ModelInfo, ModelStream,
    Price, RunContext, Tokens, Usage, async_trait, complete,
};
use agent_router::{FallbackModel, PlanStep, RuleModel, StepLimits};
use futures_util::{StreamExt, stream};
use rustix::time::{ClockId, clock_gettime};

/// Pairs of batches.
const PAIRS: usize = 400;

/// A model that has its answer ready.
#[derive(Clone)]
struct Ready {
    info: ModelInfo,
    pieces: usize,
}

impl Ready {
    fn new(name: &str, pieces: usize) -> Self {
        Self { info: ModelInfo::new("bench", name).with_price(Price::FREE).with_max_output(Tokens(1_000)), pieces }
    }
}

#[async_trait]
impl ChatModel for Ready {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    async fn stream(&self, _: ChatRequest, _: &RunContext) -> Result<ModelStream, ModelError> {
        let words = (0..self.pieces).map(|_| Ok(Chunk::Text("a word or two ".into())));
        let end = [Ok(Chunk::Usage(Usage::new(Tokens(12), Tokens(5)))), Ok(Chunk::Finish(Finish::default()))];
        Ok(stream::iter(words.chain(end)).boxed())
    }
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    println!("{:34} {:>10} {:>10} {:>12}", "", "bare, us", "plan, us", "plan more, us");
    runtime.block_on(async {
        for (name, pieces, batch) in
            [("an answer of one piece", 1, 200), ("of 10 pieces", 10, 100), ("of 1,000 pieces", 1_000, 4)]
        {
            for (with, deadline, limited) in
                [("", false, false), (", a deadline", true, false), (", deadline and limits", true, true)]
            {
                let more = compare(&format!("{name}{with}"), pieces, batch, deadline, limited).await;
                assert!(pieces > 1 || more < 5.0, "more than 5 us");
            }
        }
    });
}

/// Microseconds that the plan takes beyond the model alone.
async fn compare(name: &str, pieces: usize, batch: usize, deadline: bool, limited: bool) -> f64 {
    let limits = Limits::none().with_tokens(Tokens(u64::MAX / 2));
    let limits = if deadline { limits.with_time(Duration::from_secs(3_600)) } else { limits };
    let cx =
        || RunContext::standalone_with(Caller::new("acme", "ann").expect("a caller"), Lease::root(limits), Vec::new());
    let bare = Ready::new("first", pieces);
    let first = PlanStep::new(bare.clone());
    let first = match limited {
        true => first.with_limits(StepLimits::default().with_concurrency(64.try_into().expect("not zero"))),
        false => first,
    };
    let plan = FallbackModel::builder("plan").step(first).step(Ready::new("second", pieces)).step(RuleModel::new());
    let plan = plan.build().expect("a plan");
    let request = ChatRequest::new(Conversation::new().say("How is all?"));
    let (mut of_bare, mut of_plan) = (Vec::new(), Vec::new());
    for _ in 0..PAIRS {
        of_bare.push(time(&bare, &request, &cx(), batch).await);
        of_plan.push(time(&plan, &request, &cx(), batch).await);
    }
    let (bare, plan) = (median(of_bare), median(of_plan));
    println!("{name:34} {bare:10.2} {plan:10.2} {:12.2}", plan - bare);
    plan - bare
}

/// Microseconds of CPU for one call.
async fn time(model: &impl ChatModel, request: &ChatRequest, cx: &RunContext, batch: usize) -> f64 {
    let begun = thread_cpu();
    for _ in 0..batch {
        complete(model, request.clone(), cx).await.expect("an answer");
    }
    (thread_cpu() - begun).as_secs_f64() * 1e6 / batch as f64
}

fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or_default()
}
