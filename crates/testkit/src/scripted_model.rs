//! Models without a model: one plays a script, one asks a function.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex};

use agent_core::{ChatModel, ChatRequest, ModelError, ModelErrorClass, ModelInfo, ModelStream, Price, RunContext};
use async_trait::async_trait;
use futures_util::StreamExt;

use crate::line::{Line, Play, failure};
use crate::recording::yield_once;

/// A model that plays a script, line by line, and keeps what it was asked. Clones share both.
#[derive(Clone, Debug)]
pub struct ScriptedModel {
    info: ModelInfo,
    script: Arc<Mutex<Script>>,
}

#[derive(Debug, Default)]
struct Script {
    lines: VecDeque<Line>,
    requests: Vec<ChatRequest>,
}

impl ScriptedModel {
    /// A model that says these lines, then fails with [`ModelErrorClass::BadRequest`].
    #[must_use]
    pub fn new(lines: impl IntoIterator<Item = Line>) -> Self {
        let script = Script { lines: lines.into_iter().collect(), requests: Vec::new() };
        Self { info: free_model("scripted"), script: Arc::new(Mutex::new(script)) }
    }

    /// The same, described like this.
    #[must_use]
    pub fn with_info(mut self, change: impl FnOnce(ModelInfo) -> ModelInfo) -> Self {
        self.info = change(self.info);
        self
    }

    /// What it was asked so far, oldest first.
    #[must_use]
    pub fn requests(&self) -> Vec<ChatRequest> {
        self.script.lock().unwrap().requests.clone()
    }

    /// Checks that the whole script was played.
    ///
    /// # Panics
    ///
    /// When a line is left.
    pub fn assert_played(&self) {
        let left = &self.script.lock().unwrap().lines;
        assert!(left.is_empty(), "{} lines of the script were not played: {left:?}", left.len());
    }
}

#[async_trait]
impl ChatModel for ScriptedModel {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    async fn stream(&self, request: ChatRequest, _: &RunContext) -> Result<ModelStream, ModelError> {
        let line = {
            let mut script = self.script.lock().unwrap();
            let line = script.lines.pop_front();
            script.requests.push(request.clone());
            line
        };
        match line {
            Some(line) => play(line, &request).await,
            None => Err(ModelError::new(ModelErrorClass::BadRequest, "the script is over")),
        }
    }
}

/// A model that asks a function what to say. It keeps nothing, so that many runs can share it.
#[derive(Clone)]
pub struct FnModel {
    info: ModelInfo,
    answer: Arc<dyn Fn(&ChatRequest) -> Line + Send + Sync>,
}

impl FnModel {
    /// A model that says what `answer` returns.
    pub fn new(answer: impl Fn(&ChatRequest) -> Line + Send + Sync + 'static) -> Self {
        Self { info: free_model("function"), answer: Arc::new(answer) }
    }

    /// The same, described like this.
    #[must_use]
    pub fn with_info(mut self, change: impl FnOnce(ModelInfo) -> ModelInfo) -> Self {
        self.info = change(self.info);
        self
    }
}

#[async_trait]
impl ChatModel for FnModel {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    async fn stream(&self, request: ChatRequest, _: &RunContext) -> Result<ModelStream, ModelError> {
        play((self.answer)(&request), &request).await
    }
}

impl fmt::Debug for FnModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FnModel").field("info", &self.info).finish_non_exhaustive()
    }
}

fn free_model(name: &str) -> ModelInfo {
    ModelInfo::new("testkit", name).with_price(Price::FREE)
}

async fn play(line: Line, request: &ChatRequest) -> Result<ModelStream, ModelError> {
    if let Some(check) = &line.expectation {
        check(request);
    }
    if let Some(failure) = line.initial_failure() {
        if let Some(Play::Delay(delay)) = line.plays.first() {
            tokio::time::sleep(*delay).await;
        }
        return Err(failure);
    }
    let plays = futures_util::stream::iter(line.plays).filter_map(|play| async move {
        match play {
            Play::Chunk(chunk) => Some(Ok(chunk)),
            Play::Fail(class) => Some(Err(failure(class))),
            Play::Delay(delay) => {
                tokio::time::sleep(delay).await;
                None
            }
            Play::Yield => {
                yield_once().await;
                None
            }
            Play::Hang => std::future::pending().await,
            Play::Panic => panic!("the script says so"),
        }
    });
    Ok(plays.boxed())
}
