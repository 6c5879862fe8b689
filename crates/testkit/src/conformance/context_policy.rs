//! The suite for [`ContextPolicy`].

use agent_core::{
    Attachment, ContextError, ContextPolicy, Conversation, Entry, FitRequest, Fitted, Tokens, UserMessage,
    estimate_tokens,
};

use super::conversations::{conversations, long_dialogue};
use super::support::{blocks_nothing, brief, context, ends, saved};

/// More room than any of the suite's conversations needs.
const ROOMY: Tokens = Tokens(1_000_000_000);

/// Checks a [`ContextPolicy`]: `context_policy(policy).await`.
///
/// For conversations of every form and of 10,000 entries, for budgets from none at all to nothing left, and after overflows:
///
/// - The result is a valid conversation that is not over the budget, or a typed error. An unchanged conversation takes as many
///   tokens after as before.
/// - With room enough, or no known budget, it fits; an error names more tokens than there is room for.
/// - The last message of the user is in it, word for word.
/// - The same conversation and budget give the same result.
/// - Fitting holds its thread only briefly.
///
/// # Panics
///
/// When a rule is broken.
pub async fn context_policy(policy: impl ContextPolicy) {
    let picture =
        UserMessage::text("What is this?").with_attachment(Attachment::uri("image/png", "https://example.com/a.png"));
    let (long, mut conversations) = (long_dialogue(10_000), conversations());
    conversations.push(("nothing", Conversation::new()));
    conversations.push(("an attachment", Conversation::new().say("Hello.").say(picture)));
    conversations.push(("a message of 100 KB", Conversation::new().say("Hello.").say("word ".repeat(20_000))));
    conversations.push(("10,000 entries", long.clone()));
    fitting_blocks_nothing(&policy, &long).await;
    for (name, conversation) in &conversations {
        let size = estimate_tokens(conversation.size());
        let half = Tokens(size.0 / 2);
        for budget in [None, Some(ROOMY), Some(size), Some(half), Some(Tokens(10)), Some(Tokens::ZERO)] {
            for overflows in [0, 1, 3] {
                let request = FitRequest::new(conversation, budget).with_overflows(overflows);
                let what = format!("fitting {name} into {budget:?} after {overflows} overflows");
                check(&policy, &what, request).await;
            }
        }
    }
}

async fn check(policy: &impl ContextPolicy, what: &str, request: FitRequest<'_>) {
    let result = fit(policy, what, request).await;
    match &result {
        Ok(fitted) => {
            the_result_is_valid(what, fitted);
            the_result_fits(what, request, fitted);
            the_last_message_is_in_it(what, request, fitted);
        }
        Err(error) => an_error_has_a_reason(what, request, error),
    }
    the_same_gives_the_same(what, &result, &fit(policy, what, request).await);
}

fn the_result_is_valid(what: &str, fitted: &Fitted) {
    saved(&format!("{what}: the result"), &fitted.conversation);
}

fn the_result_fits(what: &str, request: FitRequest<'_>, fitted: &Fitted) {
    let Fitted { before, after, .. } = fitted;
    if let Some(budget) = request.budget {
        assert!(*after <= budget, "{what}: the result fits; it takes {after}, there is room for {budget}");
    }
    let unchanged = fitted.conversation == *request.conversation;
    assert!(
        !unchanged || before == after,
        "{what}: what is unchanged takes as much as before; {before} became {after}"
    );
}

fn the_last_message_is_in_it(what: &str, request: FitRequest<'_>, fitted: &Fitted) {
    let Some(last) = request.conversation.last_user_message() else { return };
    let is_last = |entry: &Entry| matches!(entry, Entry::User(message) if message == last);
    let kept = fitted.conversation.entries().iter().any(is_last);
    assert!(kept, "{what}: the user's last message is in the result, word for word; {} is not", brief(last));
}

fn an_error_has_a_reason(what: &str, request: FitRequest<'_>, error: &ContextError) {
    let has_room = request.budget.is_none_or(|budget| budget == ROOMY);
    assert!(!has_room || request.overflows > 0, "{what}: with room enough it fits; the error is {error:?}");
    if let ContextError::DoesNotFit { needed, budget } = error {
        assert!(needed > budget, "{what}: an error names more tokens than there is room for; it is {error:?}");
        assert!(request.budget == Some(*budget), "{what}: an error names the room there is; it is {error:?}");
    }
}

fn the_same_gives_the_same(what: &str, one: &Result<Fitted, ContextError>, other: &Result<Fitted, ContextError>) {
    let same = match (one, other) {
        (Ok(one), Ok(other)) => one == other,
        (Err(one), Err(other)) => one.code() == other.code() && one.to_string() == other.to_string(),
        _ => false,
    };
    assert!(same, "{what}: the same gives the same; it gave {} and then {}", brief(one), brief(other));
}

async fn fitting_blocks_nothing(policy: &impl ContextPolicy, conversation: &Conversation) {
    let cx = context("acme");
    let budget = Tokens(estimate_tokens(conversation.size()).0 / 2);
    blocks_nothing("fitting 10,000 entries", || policy.fit(FitRequest::new(conversation, Some(budget)), &cx)).await;
}

async fn fit(policy: &impl ContextPolicy, what: &str, request: FitRequest<'_>) -> Result<Fitted, ContextError> {
    let cx = context("acme");
    ends(what, policy.fit(request, &cx)).await
}
