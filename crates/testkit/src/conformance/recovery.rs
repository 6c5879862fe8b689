//! The suite for [`Recovery`].

use std::io;

use agent_core::{
    AgentError, ContextError, Conversation, Lease, Limits, ModelError, ModelErrorClass, Recovered, Recovery, Spend,
    Tokens,
};

use super::conversations::conversations;
use super::support::{can_be_answered, context, ends, saved};

/// Checks a [`Recovery`]: `recovery(recovery).await`.
///
/// For every kind of failure that a run asks about, after conversations of every form:
///
/// - It decides, and does not panic.
/// - What it answers can be saved; what a person is asked can be saved too, and an answer can fit it.
/// - It spends nothing: it answers from rules, hands over to a person, or lets the run fail.
///
/// That it calls no effect, a suite cannot see.
///
/// # Panics
///
/// When a rule is broken.
pub async fn recovery(recovery: impl Recovery) {
    let mut conversations = conversations();
    conversations.push(("nothing", Conversation::new()));
    for error in failures() {
        for (name, conversation) in &conversations {
            let what = format!("recovering from `{}` after {name}", error.code());
            it_decides_and_spends_nothing(&recovery, &what, &error, conversation).await;
        }
    }
}

async fn it_decides_and_spends_nothing(
    recovery: &impl Recovery,
    what: &str,
    error: &AgentError,
    conversation: &Conversation,
) {
    let cx = context("acme");
    match ends(what, recovery.recover(error, conversation, &cx)).await {
        Recovered::Answer(answer) => drop(saved(&format!("{what}: the answer"), &answer)),
        Recovered::Ask(kind) => can_be_answered(&format!("{what}: what a person is asked"), &kind),
        _ => {}
    }
    let spent = cx.lease().spent();
    assert!(spent == Spend::ZERO, "{what}: it answers from rules and spends nothing; it spent {spent:?}");
}

/// One failure of each kind that a run asks about.
fn failures() -> Vec<AgentError> {
    let classes = [
        ModelErrorClass::Unavailable,
        ModelErrorClass::Auth,
        ModelErrorClass::ContentPolicy,
        ModelErrorClass::ContextOverflow,
        ModelErrorClass::NeedsHuman,
        ModelErrorClass::AttemptsExhausted,
    ];
    let model = classes.into_iter().map(|class| ModelError::new(class, "the suite says so").into());
    let exceeded = Lease::root(Limits::none().with_tokens(Tokens(1))).charge(Spend::of_tokens(Tokens(2)));
    let others = [
        exceeded.expect_err("two tokens are more than one").into(),
        ContextError::DoesNotFit { needed: Tokens(200), budget: Tokens(100) }.into(),
        ContextError::Overflow { needed: Tokens(200) }.into(),
        ContextError::Failed(io::Error::other("the suite says so").into()).into(),
        AgentError::Denied { reason: "not today".into() },
        AgentError::TurnLimit { turns: 16 },
        AgentError::BadAnswer { attempts: 3, problem: "it is no JSON".into() },
        AgentError::tell("the suite says so"),
        AgentError::internal(io::Error::other("the suite says so")),
    ];
    model.chain(others).collect()
}
