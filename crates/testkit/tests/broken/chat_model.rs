//! Models that break a rule.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use agent_core::{
    ChatModel, ChatRequest, Chunk, Entry, Finish, ModelError, ModelErrorClass, ModelInfo, ModelStream, RunContext,
    async_trait,
};
use testkit::{FnModel, Line, ScriptedModel, conformance};

#[tokio::test]
#[should_panic(expected = "nothing comes after Ok(Finish")]
async fn speaks_after_the_end() {
    let model = FnModel::new(|_| Line::text("Hello.").then(Chunk::Text("And another thing".into())));
    conformance::chat_model(model).await;
}

#[tokio::test]
#[should_panic(expected = "nothing comes after Err(ModelError")]
async fn speaks_after_an_error() {
    let model = FnModel::new(|_| Line::silence().then_text("Hel").then_fails(ModelErrorClass::Cut).then_text("lo."));
    conformance::chat_model(model).await;
}

#[tokio::test]
#[should_panic(expected = "the stream ends with `Chunk::Finish` or an error; it just ended")]
async fn ends_without_an_end() {
    conformance::chat_model(FnModel::new(|_| Line::silence().then_text("Hello."))).await;
}

#[tokio::test]
#[should_panic(
    expected = "a plain request has to be answered; it failed: the model gave no answer: a call began twice"
)]
async fn begins_a_call_twice() {
    let line = || Line::silence().then_call(0, "1", "lookup", "{}").then_call(0, "1", "lookup", "{}");
    conformance::chat_model(FnModel::new(move |_| line().then_finish(Default::default()))).await;
}

#[tokio::test]
#[should_panic(expected = "has to be answered; it failed: the model gave no answer: the script is over")]
async fn has_too_short_a_script() {
    conformance::chat_model(ScriptedModel::new([Line::text("Hello.")])).await;
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "a plain request did not end within 60s")]
async fn never_ends() {
    conformance::chat_model(FnModel::new(|_| Line::silence().then_text("Hel").then_hangs())).await;
}

#[tokio::test]
#[should_panic(expected = "a request with results at the end panicked: labels are unique")]
async fn pairs_by_label() {
    let model = FnModel::new(|request| {
        if let Some(Entry::Agent(turn)) = request.conversation.entries().last() {
            let calls: Vec<_> = turn.reply().each_call().collect();
            let is_first = |label: &str| calls.iter().filter(|call| &*call.label == label).count() == 1;
            assert!(calls.iter().all(|call| is_first(&call.label)), "labels are unique");
        }
        Line::text("Hello.")
    });
    conformance::chat_model(model).await;
}

#[tokio::test]
#[should_panic(expected = "a request with results at the end has to be answered")]
async fn refuses_malformed_arguments() {
    let model = FnModel::new(|request| {
        let is_malformed = |entry: &Entry| match entry {
            Entry::Agent(turn) => turn.reply().each_call().any(|call| call.arguments.parse().is_err()),
            _ => false,
        };
        match request.conversation.entries().iter().any(is_malformed) {
            true => Line::fails(ModelErrorClass::BadRequest),
            false => Line::text("Hello."),
        }
    });
    conformance::chat_model(model).await;
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "nothing waits past `cx.deadline()`; with 0ns left")]
async fn waits_past_the_deadline() {
    conformance::chat_model(FnModel::new(|_| Line::text("Hello.").after(Duration::from_secs(30)))).await;
}

/// A model that keeps something of its calls.
struct Broken {
    info: ModelInfo,
    fault: Fault,
    last: Mutex<String>,
    busy: AtomicBool,
}

#[derive(PartialEq)]
enum Fault {
    /// Answers whoever asked last.
    SharesTheQuestion,
    /// Takes one call at a time and does not notice when that is dropped.
    StaysBusy,
}

impl Broken {
    fn with(fault: Fault) -> Self {
        let info = ModelInfo::new("testkit", "broken");
        Self { info, fault, last: Mutex::default(), busy: AtomicBool::default() }
    }
}

#[async_trait]
impl ChatModel for Broken {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    async fn stream(&self, request: ChatRequest, cx: &RunContext) -> Result<ModelStream, ModelError> {
        let asked = request.conversation.last_user_message().map(|message| message.joined_text()).unwrap_or_default();
        let is_dropped = self.fault == Fault::StaysBusy && self.busy.swap(true, Ordering::SeqCst);
        if is_dropped && cx.caller().tenant.as_str() == "acme" && asked.contains("hello") {
            return Err(ModelError::new(ModelErrorClass::Overloaded, "one call at a time"));
        }
        self.last.lock().unwrap().clone_from(&asked);
        tokio::task::yield_now().await;
        self.busy.store(false, Ordering::SeqCst);
        let said = match self.fault {
            Fault::SharesTheQuestion => self.last.lock().unwrap().clone(),
            Fault::StaysBusy => asked,
        };
        let chunks = [Ok(Chunk::Text(said)), Ok(Chunk::Finish(Finish::default()))];
        Ok(Box::pin(futures_util::stream::iter(chunks)))
    }
}

#[tokio::test]
#[should_panic(expected = "nothing of one tenant's call reaches another")]
async fn shares_the_question() {
    conformance::chat_model(Broken::with(Fault::SharesTheQuestion)).await;
}

#[tokio::test]
#[should_panic(expected = "a request after dropped ones has to be answered; it failed")]
async fn stays_busy() {
    conformance::chat_model(Broken::with(Fault::StaysBusy)).await;
}
