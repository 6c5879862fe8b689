//! Conversations of every form.

use agent_core::{
    Call, CallResult, Conversation, ErrorCode, FinishReason, FunctionSpec, Opaque, Reasoning, Replied, Reply,
    ReplyPart, Schema,
};
use serde_json::json;

/// A conversation with what is special about it.
pub(super) type Named = (&'static str, Conversation);

/// The function that is called in the conversations.
pub(super) fn lookup() -> FunctionSpec {
    let input = json!({"type": "object", "properties": {"order": {"type": "string"}}, "required": ["order"]});
    FunctionSpec::new("lookup", "Looks an order up", Schema::from_value(input).expect("a valid schema"))
}

/// Conversations that a model can go on with: they end with a user's message or with results.
pub(super) fn conversations() -> Vec<Named> {
    let dialogue =
        after_reply(Conversation::new().say("Good morning."), Reply::text("Good morning. How can I help?"), &[])
            .say("Where is A-1042?");
    let refusal = Reply::of([ReplyPart::Refusal { text: "I cannot say that.".into() }]);
    vec![
        ("one message", Conversation::new().say("Where is A-1042?")),
        ("a dialogue", dialogue.clone()),
        ("other scripts", Conversation::new().say("注文 A-1042 はどこですか？ 🦀 Grüße\n\t\"\\")),
        ("two messages in a row", dialogue.clone().say("It is urgent.")),
        ("the same message twice", dialogue.clone().say("Where is A-1042?")),
        ("a refusal", after_reply(dialogue.clone(), refusal, &[]).say("Why not?")),
        ("results at the end", with_calls(dialogue.clone())),
        ("a message after results", with_calls(dialogue.clone()).say("And B-7?")),
        ("several turns with equal labels", with_calls(with_calls(dialogue))),
    ]
}

/// The conversation after a turn with everything that calls may look like: equal labels, no labels, arguments that are no JSON.
fn with_calls(conversation: Conversation) -> Conversation {
    let call = |order: &str| Call::new("lookup", json!({ "order": order }));
    let calls = [
        call("A-1042").with_label("call_1"),
        call("A-1043").with_label("call_1"),
        call("A-1044"),
        call("A-1045"),
        Call::from_text("lookup", r#"{"order": "A-10"#).with_label("call_2"),
    ];
    let results = [
        CallResult::done(json!({"state": "shipped", "parcels": [1, 2]})),
        CallResult::failed(ErrorCode::new("call.failed"), "there is no order A-1043"),
        CallResult::done(json!(null)),
        CallResult::done(json!("")),
        CallResult::failed(ErrorCode::new("call.malformed_arguments"), "the arguments are no JSON"),
    ];
    let thoughts = Reasoning::new("They want to know where it is.").with_opaque(Opaque::new(*b"\x00signature\xff"));
    let said = [ReplyPart::Reasoning(thoughts), ReplyPart::Text { text: "One moment.".into() }];
    let mut reply = Reply::of(said.into_iter().chain(calls.map(ReplyPart::Call)));
    reply.finish = FinishReason::Calls;
    after_reply(conversation, reply, &results)
}

/// A dialogue of as many entries, the last one a user's.
pub(super) fn long_dialogue(entries: usize) -> Conversation {
    let exchange = |conversation: Conversation, index: usize| {
        let asked = conversation.say(format!("Question {index}: where is order A-{index}, which I sent a while ago?"));
        after_reply(asked, Reply::text(format!("Answer {index}: it left the warehouse and is on its way to you.")), &[])
    };
    (0..entries / 2).fold(Conversation::new(), exchange).say("And the very last one?")
}

/// The conversation after `reply`, whose calls get `results`.
pub(super) fn after_reply(conversation: Conversation, reply: Reply, results: &[CallResult]) -> Conversation {
    match conversation.reply(reply.into()) {
        Replied::Final(conversation) => conversation,
        Replied::Calls(mut turn) => {
            for (slot, result) in results.iter().enumerate() {
                turn.settle(slot, result.clone()).expect("a result for each call");
            }
            turn.close().expect("a result for each call")
        }
    }
}
