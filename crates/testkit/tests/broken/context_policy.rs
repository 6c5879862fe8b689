//! Context policies that break a rule.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use agent_core::{
    ContextError, ContextPolicy, Conversation, Entry, FitRequest, Fitted, PassThrough, RunContext, Tokens, async_trait,
    estimate_tokens,
};
use testkit::conformance;

fn tokens(conversation: &Conversation) -> Tokens {
    estimate_tokens(conversation.size())
}

/// Keeps the last user's message and as many entries after and before it as told, where there is too much. Breaks no rule if at
/// least one is kept.
pub(crate) struct LastMessages {
    pub(crate) kept: usize,
}

#[async_trait]
impl ContextPolicy for LastMessages {
    async fn fit(&self, request: FitRequest<'_>, cx: &RunContext) -> Result<Fitted, ContextError> {
        if let Ok(fitted) = PassThrough.fit(request, cx).await {
            return Ok(fitted);
        }
        let whole = request.conversation;
        let messages = whole.entries().iter().filter(|entry| matches!(entry, Entry::User(_)));
        let kept: Vec<_> = messages.rev().take(self.kept).cloned().collect();
        let kept = Conversation::from_entries(kept.into_iter().rev().collect());
        let needed = tokens(&kept);
        match request.budget {
            Some(budget) if needed > budget => Err(ContextError::DoesNotFit { needed, budget }),
            _ => Ok(Fitted::new(kept, tokens(whole), needed)),
        }
    }
}

/// A policy that does as told with what was asked for.
struct Fitting<F>(F);

#[async_trait]
impl<F: Fn(&FitRequest<'_>) -> Result<Fitted, ContextError> + Send + Sync> ContextPolicy for Fitting<F> {
    async fn fit(&self, request: FitRequest<'_>, _: &RunContext) -> Result<Fitted, ContextError> {
        (self.0)(&request)
    }
}

async fn check(fit: impl Fn(&FitRequest<'_>) -> Result<Fitted, ContextError> + Send + Sync) {
    conformance::context_policy(Fitting(fit)).await;
}

#[tokio::test]
#[should_panic(expected = "the user's last message is in the result, word for word")]
async fn leaves_the_last_message_out() {
    conformance::context_policy(LastMessages { kept: 0 }).await;
}

#[tokio::test]
#[should_panic(expected = "the user's last message is in the result, word for word")]
async fn shortens_the_last_message() {
    check(|request| {
        let text = request.conversation.last_user_message().map(|message| message.joined_text()).unwrap_or_default();
        let short = Conversation::new().say(text.chars().take(12).collect::<String>());
        Ok(Fitted::new(short.clone(), tokens(request.conversation), tokens(&short)))
    })
    .await;
}

#[tokio::test]
#[should_panic(expected = "the result fits; it takes 4 tokens, there is room for 2 tokens")]
async fn is_over_the_budget() {
    check(|request| {
        let whole = tokens(request.conversation);
        Ok(Fitted::new(request.conversation.clone(), whole, whole))
    })
    .await;
}

#[tokio::test]
#[should_panic(expected = "what is unchanged takes as much as before; 4 tokens became 2 tokens")]
async fn counts_as_it_likes() {
    check(|request| {
        let whole = tokens(request.conversation);
        let after = request.budget.unwrap_or(whole).0.min(whole.0);
        Ok(Fitted::new(request.conversation.clone(), whole, Tokens(after)))
    })
    .await;
}

#[tokio::test]
#[should_panic(expected = "the same gives the same")]
async fn takes_turns() {
    let turn = AtomicBool::new(false);
    check(move |request| {
        let whole = tokens(request.conversation);
        let extra = u64::from(turn.fetch_xor(true, Ordering::SeqCst));
        match request.budget {
            Some(budget) if budget < whole => Err(ContextError::DoesNotFit { needed: whole, budget }),
            _ => Ok(Fitted::new(request.conversation.clone(), Tokens(whole.0 + extra), Tokens(whole.0 + extra))),
        }
    })
    .await;
}

#[tokio::test]
#[should_panic(expected = "with room enough it fits; the error is Overflow")]
async fn never_fits() {
    check(|request| Err(ContextError::Overflow { needed: tokens(request.conversation) })).await;
}

#[tokio::test]
#[should_panic(expected = "an error names more tokens than there is room for")]
async fn fails_for_no_reason() {
    check(|request| match request.budget {
        Some(budget) if budget < Tokens(1_000_000) => Err(ContextError::DoesNotFit { needed: Tokens(1), budget }),
        _ => Ok(Fitted::new(request.conversation.clone(), Tokens(1), Tokens(1))),
    })
    .await;
}

#[tokio::test]
#[should_panic(expected = "fitting 10,000 entries held its thread for")]
async fn blocks() {
    let policy = |request: &FitRequest<'_>| {
        let whole = tokens(request.conversation);
        if request.budget.is_some_and(|budget| whole.0 / 2 == budget.0 && whole.0 > 100_000) {
            std::thread::sleep(Duration::from_millis(1_100));
        }
        match request.budget {
            Some(budget) if budget < whole => Err(ContextError::DoesNotFit { needed: whole, budget }),
            _ => Ok(Fitted::new(request.conversation.clone(), whole, whole)),
        }
    };
    check(policy).await;
}
