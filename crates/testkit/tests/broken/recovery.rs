//! Recoveries that break a rule.

use agent_core::{
    AgentError, ChatRequest, Conversation, PendingKind, Recovered, Recovery, RunContext, async_trait, complete,
};
use serde_json::json;
use testkit::{FnModel, Line, conformance};

/// A recovery that answers from rules when it can: whatever it is told.
struct Recovering<F>(F);

#[async_trait]
impl<F: Fn(&AgentError, &Conversation) -> Recovered + Send + Sync> Recovery for Recovering<F> {
    async fn recover(&self, error: &AgentError, conversation: &Conversation, _: &RunContext) -> Recovered {
        (self.0)(error, conversation)
    }
}

#[tokio::test]
async fn answers_asks_and_fails() {
    let rules = Recovering(|error: &AgentError, conversation: &Conversation| match error {
        AgentError::Model(_) => Recovered::Answer(json!({"entries": conversation.entries().len()})),
        AgentError::Denied { .. } => Recovered::Fail,
        _ => Recovered::Ask(PendingKind::question("What should the answer be?")),
    });
    conformance::recovery(rules).await;
}

#[tokio::test]
#[should_panic(expected = "recovering from `model.unavailable` after nothing panicked: something was said")]
async fn wants_a_message() {
    let echo = Recovering(|_: &AgentError, conversation: &Conversation| {
        let last = conversation.last_user_message().expect("something was said");
        Recovered::Answer(last.joined_text().into())
    });
    conformance::recovery(echo).await;
}

#[tokio::test]
#[should_panic(expected = "recovering from `run.turn_limit` after one message panicked: not a model's failure")]
async fn knows_models_only() {
    let models_only = Recovering(|error: &AgentError, _: &Conversation| match error {
        AgentError::TurnLimit { .. } => panic!("not a model's failure"),
        _ => Recovered::Fail,
    });
    conformance::recovery(models_only).await;
}

#[tokio::test]
#[should_panic(expected = "what a person is asked has a schema that no answer fits")]
async fn asks_what_nobody_can_answer() {
    let kind = PendingKind::Question { question: "Which?".into(), schema: Some(json!({"pattern": "("}).into()) };
    conformance::recovery(Recovering(move |_: &AgentError, _: &Conversation| Recovered::Ask(kind.clone()))).await;
}

/// Asks another model.
struct SecondOpinion(FnModel);

#[async_trait]
impl Recovery for SecondOpinion {
    async fn recover(&self, _: &AgentError, conversation: &Conversation, cx: &RunContext) -> Recovered {
        match complete(&self.0, ChatRequest::new(conversation.clone()), cx).await {
            Ok(reply) => Recovered::Answer(reply.joined_text().into()),
            Err(_) => Recovered::Fail,
        }
    }
}

#[tokio::test]
#[should_panic(expected = "it answers from rules and spends nothing; it spent")]
async fn spends() {
    conformance::recovery(SecondOpinion(FnModel::new(|_| Line::text("Perhaps.")))).await;
}
