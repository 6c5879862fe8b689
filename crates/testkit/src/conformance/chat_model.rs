//! The suite for [`ChatModel`].

use std::sync::Arc;
use std::time::Duration;

use agent_core::{
    ChatModel, ChatRequest, Chunk, Collector, Conversation, Lease, Limits, ModelError, Reply, RunContext,
};
use futures_util::StreamExt;
use tokio::time::timeout;

use super::conversations::{conversations, lookup};
use super::support::{GRACE, abandon, at_once, brief, context, ends};
use crate::caller;

/// An answer of more chunks than this counts as one that does not end.
const MOST_CHUNKS: usize = 100_000;

/// Two tenants, each with a word that the other one must not see.
const SECRETS: [(&str, &str); 2] = [("acme", "ZEBRA-4711"), ("globex", "WALRUS-0815")];

/// Checks a [`ChatModel`]: `chat_model(model).await`.
///
/// - An answer ends with one [`Chunk::Finish`] or one error, and nothing comes after that. Its chunks make a whole reply.
/// - Every conversation is answered: with and without functions and instructions, with calls whose labels are empty or equal and
///   whose arguments are no JSON, with failed results, refusals and reasoning of other providers.
/// - Calls run at once, for different tenants, and nothing of one reaches another.
/// - The future and the stream can be dropped at every await and after every chunk, and later calls are answered.
/// - Nothing waits past `cx.deadline()`.
/// - [`ChatModel::info`] always says the same.
///
/// The suite makes at most 50 calls, which the model has to answer: a script needs as many lines.
///
/// # Panics
///
/// When a rule is broken.
pub async fn chat_model(model: impl ChatModel + 'static) {
    let model: Arc<dyn ChatModel> = Arc::new(model);
    let info = model.info().clone();
    an_answer_ends_once(&*model).await;
    every_conversation_is_answered(&*model).await;
    calls_at_once_stay_apart(&model).await;
    a_dropped_call_leaves_nothing_behind(&*model).await;
    nothing_waits_past_the_deadline(&*model).await;
    assert!(*model.info() == info, "`info` always says the same; it said {info:?} and then {:?}", model.info());
}

async fn an_answer_ends_once(model: &dyn ChatModel) {
    answered(model, "a plain request", hello(), &context("acme")).await;
}

async fn every_conversation_is_answered(model: &dyn ChatModel) {
    for (name, conversation) in conversations() {
        let request = ChatRequest::new(conversation).with_instructions("Be brief.").with_functions([lookup()]);
        answered(model, &format!("a request with {name}"), request, &context("acme")).await;
    }
    for (name, conversation) in conversations() {
        let what = format!("a request with {name}, without functions and instructions");
        answered(model, &what, ChatRequest::new(conversation), &context("acme")).await;
    }
}

async fn calls_at_once_stay_apart(model: &Arc<dyn ChatModel>) {
    let calls = SECRETS.iter().cycle().take(8).map(|(tenant, secret)| {
        let (model, cx) = (model.clone(), context(tenant));
        let request = ChatRequest::new(Conversation::new().say(format!("Repeat this word: {secret}")));
        async move { (*secret, answered(&*model, "one of several requests at once", request, &cx).await) }
    });
    for (own, reply) in at_once("several requests at once", calls).await {
        let said = format!("{reply:?}");
        let stray = SECRETS.iter().find(|(_, secret)| *secret != own && said.contains(secret));
        assert!(
            stray.is_none(),
            "nothing of one tenant's call reaches another; asked for {own}, it said {}",
            brief(&reply)
        );
    }
}

async fn a_dropped_call_leaves_nothing_behind(model: &dyn ChatModel) {
    for awaits in 1..=8 {
        let cx = context("acme");
        if !abandon("a dropped request", awaits, read(model, hello(), &cx)).await {
            break;
        }
    }
    for chunks in 0..=3 {
        let cx = context("acme");
        let some =
            async { Ok::<_, ModelError>(model.stream(hello(), &cx).await?.take(chunks).collect::<Vec<_>>().await) };
        // What came is of no interest here; whole answers are checked elsewhere.
        let _ = ends("a request whose stream is dropped", some).await;
    }
    answered(model, "a request after dropped ones", hello(), &context("acme")).await;
}

async fn nothing_waits_past_the_deadline(model: &dyn ChatModel) {
    for time in [Duration::ZERO, Duration::from_millis(100)] {
        let lease = Lease::root(Limits::none().with_time(time));
        let cx = RunContext::standalone_with(caller(), lease, Vec::new());
        let in_time = timeout(time + GRACE, read(model, hello(), &cx)).await;
        assert!(
            in_time.is_ok(),
            "nothing waits past `cx.deadline()`; with {time:?} left it went on for {GRACE:?} more"
        );
    }
}

fn hello() -> ChatRequest {
    ChatRequest::new(Conversation::new().say("Say hello."))
}

/// The whole answer to a request that has to be answered.
async fn answered(model: &dyn ChatModel, what: &str, request: ChatRequest, cx: &RunContext) -> Reply {
    let chunks = ends(what, read(model, request, cx)).await;
    let end = chunks.iter().position(is_end);
    let Some(end) = end else { panic!("{what}: the stream ends with `Chunk::Finish` or an error; it just ended") };
    if let [last, stray, ..] = &chunks[end..] {
        panic!("{what}: nothing comes after {}; {} did", brief(last), brief(stray));
    }
    let mut collector = Collector::default();
    let collected = chunks.into_iter().try_for_each(|chunk| collector.push(chunk?));
    let reply = collected.and_then(|()| collector.finish());
    reply.unwrap_or_else(|error| panic!("{what} has to be answered; it failed: {error} ({error:?})")).0
}

/// Everything that comes of a request, up to one item after the end.
async fn read(model: &dyn ChatModel, request: ChatRequest, cx: &RunContext) -> Vec<Result<Chunk, ModelError>> {
    let mut stream = match model.stream(request, cx).await {
        Ok(stream) => stream,
        Err(error) => return vec![Err(error)],
    };
    let mut chunks = Vec::new();
    let mut ended = false;
    while chunks.len() < MOST_CHUNKS {
        let Some(chunk) = stream.next().await else { break };
        let stray = ended;
        ended = ended || is_end(&chunk);
        chunks.push(chunk);
        if stray {
            break;
        }
    }
    chunks
}

fn is_end(chunk: &Result<Chunk, ModelError>) -> bool {
    matches!(chunk, Ok(Chunk::Finish(_)) | Err(_))
}
