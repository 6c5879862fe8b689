//! Models that fail as they are told, and note what really reached them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use agent_core::{
    ChatModel, ChatRequest, Chunk, Finish, FinishReason, MicroUsd, ModelError, ModelErrorClass, ModelInfo, ModelStream,
    Price, RunContext, Tokens, Usage,
};
use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use tokio::time::{Instant, sleep};

/// What no error may disclose.
pub(crate) const SECRET: &str = "http://10.7.7.7:4000/v1 sk-secret-4242";

/// What a model does when it is asked.
#[derive(Debug, Clone)]
pub(crate) enum Deed {
    /// Answers in so many words, each after this time.
    Says(u32, Duration),
    /// Calls the tool `act`.
    Calls,
    /// Fails before anything came.
    Fails(ModelErrorClass, Option<Duration>),
    /// Fails after this time.
    FailsAfter(Duration, ModelErrorClass),
    /// Is rate-limited after this time, for this time.
    IsLimited(Duration, Duration),
    /// Says so many words, and fails.
    SaysAndFails(u32, ModelErrorClass),
    /// Says so many words, and the stream ends.
    SaysAndEnds(u32),
    /// Begins a call and fails.
    CallsAndFails,
    /// Never answers.
    Hangs,
    /// Says so many words, and nothing more.
    SaysAndHangs(u32),
    /// Says nothing, completely.
    Blank,
    /// Only reasons, and fails.
    ReasonsAndFails,
    /// Answers with a sum, which is what a typed run needs.
    Sums,
    /// Panics before anything came.
    Panics,
    /// Says so many words, and panics.
    SaysAndPanics(u32),
    /// Says of itself that it was stopped.
    Stops,
}

/// Panics without a word on the terminal.
pub(crate) fn panics() -> ! {
    std::panic::resume_unwind(Box::new("a bug of the host"))
}

/// One call that reached a model.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) step: String,
    /// Its number among all calls, which stands in every word that came of it.
    pub(crate) number: usize,
    pub(crate) at: Instant,
    pub(crate) input: Tokens,
    /// Whether its stream came to a complete end.
    pub(crate) completed: bool,
    /// When it was let go.
    pub(crate) ended: Option<Instant>,
}

/// What reached all models.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<Sent>>>);

impl Log {
    pub(crate) fn sent(&self) -> Vec<Sent> {
        self.0.lock().unwrap().clone()
    }

    pub(crate) fn open(&self) -> usize {
        self.sent().iter().filter(|sent| sent.ended.is_none()).count()
    }

    fn begin(&self, step: &str, input: Tokens) -> Opened {
        let mut all = self.0.lock().unwrap();
        let number = all.len();
        all.push(Sent { step: step.to_owned(), number, at: Instant::now(), input, completed: false, ended: None });
        Opened { log: self.clone(), number }
    }
}

/// A call that is held open until this is dropped.
struct Opened {
    log: Log,
    number: usize,
}

impl Opened {
    fn complete(&self) {
        self.log.0.lock().unwrap()[self.number].completed = true;
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.log.0.lock().unwrap()[self.number].ended = Some(Instant::now());
    }
}

type Watch = Arc<dyn Fn(&ModelInfo) + Send + Sync>;

/// A model that does one deed after the other, and the last one for ever.
#[derive(Clone)]
pub(crate) struct Upstream {
    info: ModelInfo,
    deeds: Arc<Mutex<Vec<Deed>>>,
    log: Log,
    watch: Option<Watch>,
}

impl Upstream {
    pub(crate) fn new(provider: &str, name: &str, deeds: impl IntoIterator<Item = Deed>, log: &Log) -> Self {
        let price = Price::per_million(MicroUsd(1_000_000), MicroUsd(2_000_000));
        let mut deeds: Vec<Deed> = deeds.into_iter().collect();
        deeds.reverse();
        let info = ModelInfo::new(provider, name).with_price(price).with_max_output(Tokens(100));
        Self { info, deeds: Arc::new(Mutex::new(deeds)), log: log.clone(), watch: None }
    }

    pub(crate) fn with_info(mut self, change: impl FnOnce(ModelInfo) -> ModelInfo) -> Self {
        self.info = change(self.info);
        self
    }

    /// Calls `watch` whenever something reaches it.
    pub(crate) fn watched(mut self, watch: impl Fn(&ModelInfo) + Send + Sync + 'static) -> Self {
        self.watch = Some(Arc::new(watch));
        self
    }

    fn next(&self) -> Deed {
        let mut deeds = self.deeds.lock().unwrap();
        if deeds.len() > 1 { deeds.pop().unwrap() } else { deeds.last().unwrap().clone() }
    }
}

#[async_trait]
impl ChatModel for Upstream {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    async fn stream(&self, request: ChatRequest, _: &RunContext) -> Result<ModelStream, ModelError> {
        if let Some(watch) = &self.watch {
            watch(&self.info);
        }
        let opened = self.log.begin(&self.info.name, request.estimate_input());
        let number = opened.number;
        let words = move |count: u32, pause: Duration| {
            (0..count).map(move |word| Play::Chunk(Chunk::Text(format!("<{number}:{word}> ")), pause))
        };
        let end = |reason| {
            [
                Play::Chunk(Chunk::Usage(Usage::new(Tokens(7), Tokens(5))), Duration::ZERO),
                Play::Chunk(Chunk::Finish(Finish::new(reason)), Duration::ZERO),
            ]
        };
        let call = |complete: bool| {
            let arguments =
                if complete { format!("{{\"number\":{number}}}") } else { format!("{{\"number\":{number}") };
            [
                Play::Chunk(Chunk::CallStart { index: 0, id: String::new(), name: "act".into() }, Duration::ZERO),
                Play::Chunk(Chunk::CallArguments { index: 0, text: arguments }, Duration::ZERO),
            ]
        };
        let plays: Vec<Play> = match self.next() {
            Deed::Says(count, pause) => words(count, pause).chain(end(FinishReason::Stop)).collect(),
            Deed::Calls => call(true).into_iter().chain(end(FinishReason::Calls)).collect(),
            Deed::Fails(class, retry_after) => {
                tokio::task::yield_now().await;
                return Err(failure(class, retry_after));
            }
            Deed::FailsAfter(after, class) => {
                sleep(after).await;
                return Err(failure(class, None));
            }
            Deed::IsLimited(after, wait) => {
                sleep(after).await;
                return Err(failure(ModelErrorClass::RateLimited, Some(wait)));
            }
            Deed::SaysAndFails(count, class) => {
                words(count, Duration::from_millis(10)).chain([Play::Fail(class)]).collect()
            }
            Deed::SaysAndEnds(count) => words(count, Duration::from_millis(10)).collect(),
            Deed::CallsAndFails => call(false).into_iter().chain([Play::Fail(ModelErrorClass::Unavailable)]).collect(),
            Deed::Hangs => std::future::pending().await,
            Deed::SaysAndHangs(count) => words(count, Duration::from_millis(10)).chain([Play::Hang]).collect(),
            Deed::Blank => end(FinishReason::Stop).into_iter().collect(),
            Deed::Sums => {
                let sum = Chunk::Text(format!(r#"{{"sum": {number}}}"#));
                [Play::Chunk(sum, Duration::ZERO)].into_iter().chain(end(FinishReason::Stop)).collect()
            }
            Deed::Panics => panics(),
            Deed::SaysAndPanics(count) => words(count, Duration::from_millis(10)).chain([Play::Panic]).collect(),
            Deed::Stops => return Err(failure(ModelErrorClass::Stopped, None)),
            Deed::ReasonsAndFails => {
                let reasoning = Chunk::Reasoning(format!("<{number}:0> "));
                vec![Play::Chunk(reasoning, Duration::ZERO), Play::Fail(ModelErrorClass::Cut)]
            }
        };
        let plays = stream::iter(plays).then(move |play| {
            // Held by the stream, so that dropping it is seen.
            let opened = &opened;
            if let Play::Chunk(Chunk::Finish(_), _) = &play {
                opened.complete();
            }
            async move {
                match play {
                    Play::Chunk(chunk, pause) => {
                        if pause > Duration::ZERO {
                            sleep(pause).await;
                        }
                        Ok(chunk)
                    }
                    Play::Fail(class) => Err(failure(class, None)),
                    Play::Hang => std::future::pending().await,
                    Play::Panic => panics(),
                }
            }
        });
        Ok(plays.boxed())
    }
}

enum Play {
    Chunk(Chunk, Duration),
    Fail(ModelErrorClass),
    Hang,
    Panic,
}

fn failure(class: ModelErrorClass, retry_after: Option<Duration>) -> ModelError {
    let error = ModelError::new(class, "the upstream failed").with_source(SECRET);
    match retry_after {
        Some(wait) => error.with_retry_after(wait),
        None => error,
    }
}
