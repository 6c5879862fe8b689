//! Embedders that break a rule.

use std::sync::Mutex;
use std::time::Duration;

use agent_core::{Embedder, Embeddings, ModelError, ModelErrorClass, ModelInfo, RunContext, async_trait};
use testkit::{HashEmbedder, conformance};

/// An embedder with a fault.
struct Broken {
    sound: HashEmbedder,
    fault: Fault,
    last: Mutex<Vec<String>>,
}

#[derive(PartialEq)]
enum Fault {
    TurnsTheOrder,
    LeavesTheLastOut,
    TakesFewAtOnce,
    AnswersWhoeverAskedLast,
    SaysTheSameOfAll,
    Sleeps,
}

#[async_trait]
impl Embedder for Broken {
    fn info(&self) -> &ModelInfo {
        self.sound.info()
    }

    async fn embed(&self, texts: &[&str], _: &RunContext) -> Result<Embeddings, ModelError> {
        *self.last.lock().unwrap() = texts.iter().map(|text| (*text).to_owned()).collect();
        tokio::task::yield_now().await;
        let mut texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        match self.fault {
            Fault::TurnsTheOrder if texts.len() > 100 => texts.reverse(),
            Fault::LeavesTheLastOut if texts.len() > 1 => drop(texts.pop()),
            Fault::TakesFewAtOnce if texts.len() > 128 => {
                return Err(ModelError::new(ModelErrorClass::BadRequest, "at most 128 texts"));
            }
            Fault::AnswersWhoeverAskedLast => texts.clone_from(&self.last.lock().unwrap()),
            Fault::SaysTheSameOfAll => texts.fill("the same".to_owned()),
            Fault::Sleeps => tokio::time::sleep(Duration::from_secs(30)).await,
            _ => {}
        }
        Ok(Embeddings::from_vectors(texts.iter().map(|text| self.sound.vector(text))).unwrap())
    }
}

async fn check(fault: Fault) {
    conformance::embedder(Broken { sound: HashEmbedder::new(512), fault, last: Mutex::default() }).await;
}

#[tokio::test]
#[should_panic(expected = "text 0 of 300 has the vector that it has alone")]
async fn turns_the_order() {
    check(Fault::TurnsTheOrder).await;
}

#[tokio::test]
#[should_panic(expected = "several texts: each text gets one vector; 6 texts got 5")]
async fn leaves_the_last_out() {
    check(Fault::LeavesTheLastOut).await;
}

#[tokio::test]
#[should_panic(expected = "many texts has to be embedded; it failed")]
async fn takes_few_at_once() {
    check(Fault::TakesFewAtOnce).await;
}

#[tokio::test]
#[should_panic(expected = "in one of several calls at once has the vector that it has alone")]
async fn answers_whoever_asked_last() {
    check(Fault::AnswersWhoeverAskedLast).await;
}

#[tokio::test]
#[should_panic(expected = "different texts have different vectors")]
async fn says_the_same_of_all() {
    check(Fault::SaysTheSameOfAll).await;
}

#[tokio::test(start_paused = true)]
#[should_panic(expected = "nothing waits past `cx.deadline()`; with 0ns left")]
async fn waits_past_the_deadline() {
    check(Fault::Sleeps).await;
}
