//! What `RuleModel` does with a request, for functions of every kind of parameter.
// A test that cannot go on panics.
#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::time::{Duration, Instant};

use agent_core::{
    Approval, CallResult, ChatModel, ChatRequest, Conversation, Effect, Entry, FunctionChoice, FunctionSpec, Level,
    Replied, Reply, RunContext, Schema, collect,
};
use agent_router::RuleModel;
use proptest::prelude::*;
use schemars::JsonSchema;
use serde_json::{Value, json};
use testkit::{caller, paused};

#[derive(JsonSchema)]
#[allow(dead_code)]
struct Order {
    /// The order's number.
    #[schemars(regex(pattern = r"^[A-Z]-\d{4}$"))]
    order: String,
}

#[derive(JsonSchema)]
#[allow(dead_code)]
struct Refund {
    #[schemars(regex(pattern = r"^[A-Z]-\d{4}$"))]
    order: String,
    reason: Option<String>,
}

#[derive(JsonSchema)]
#[allow(dead_code)]
struct Question {
    question: String,
}

/// How a parcel travels.
#[derive(JsonSchema)]
#[allow(dead_code)]
enum Carrier {
    /// By lorry.
    Standard,
    /// By plane.
    Express,
}

#[derive(JsonSchema)]
#[allow(dead_code)]
struct Booking {
    city: String,
    carrier: Carrier,
    #[schemars(extend("format" = "date"))]
    on: String,
    /// How many parcels.
    parcels: u32,
    fragile: Option<bool>,
}

#[derive(JsonSchema)]
#[allow(dead_code)]
struct Invite {
    address: Vec<Email>,
}

#[derive(JsonSchema)]
#[schemars(extend("format" = "email"))]
#[allow(dead_code)]
struct Email(String);

fn spec<T: JsonSchema>(name: &str, description: &str) -> FunctionSpec {
    FunctionSpec::new(name, description, Schema::of::<T>()).with_effect(Effect::ReadOnly)
}

fn desk() -> Vec<FunctionSpec> {
    vec![
        spec::<Order>("orders", "Looks an order up: status and delivery").with_example("Where is my order?"),
        spec::<Question>("policy", "Answers questions about returns, shipping and warranty"),
        spec::<Refund>("refund", "Refunds an order").with_effect(Effect::AtMostOnce).with_approval(Approval::Needed),
        spec::<Booking>("book_transport", "Books the transport of parcels to a city"),
        spec::<Invite>("invite", "Invites people by mail"),
    ]
}

fn ask(conversation: Conversation) -> Reply {
    let request = ChatRequest::new(conversation).with_functions(desk());
    let model = RuleModel::new();
    paused(async {
        let stream = model.stream(request, &RunContext::standalone(caller())).await.unwrap();
        collect(stream).await.unwrap().0
    })
}

fn calls(text: &str) -> Vec<(String, Value)> {
    let reply = ask(Conversation::new().say(text));
    reply.each_call().map(|call| (call.name.to_string(), call.arguments.parse().unwrap())).collect()
}

fn check(text: &str, expected: &[(&str, Value)]) {
    let expected: Vec<_> = expected.iter().map(|(name, arguments)| ((*name).to_owned(), arguments.clone())).collect();
    assert_eq!(calls(text), expected, "{text}");
}

#[test]
fn arguments_are_found_by_what_their_schema_says() {
    check("Where is order a-1042?", &[("orders", json!({"order": "A-1042"}))]);
    check(
        "Book a transport of 3 parcels to New York by express on 12 March 2027, fragile",
        &[(
            "book_transport",
            json!({"city": "New York", "carrier": "Express", "on": "2027-03-12", "parcels": 3, "fragile": true}),
        )],
    );
    check(
        "book transport to \"Bad Homburg\", standard, 2027-01-31, parcels: 2",
        &[("book_transport", json!({"city": "Bad Homburg", "carrier": "Standard", "on": "2027-01-31", "parcels": 2}))],
    );
    check(
        "book transport to 'Halle, Saale and Peine', express, 2027-01-31, parcels: 2",
        &[(
            "book_transport",
            json!({"city": "Halle, Saale and Peine", "carrier": "Express", "on": "2027-01-31", "parcels": 2}),
        )],
    );
    check(
        "Invite ann@example.com and bob@example.org, please",
        &[("invite", json!({"address": ["ann@example.com", "bob@example.org"]}))],
    );
}

#[test]
fn several_wishes_are_several_calls() {
    let two = [("orders", json!({"order": "A-1042"})), ("policy", json!({"question": "how long is the warranty"}))];
    check("Where is A-1042, and how long is the warranty?", &two);
    let both = [("orders", json!({"order": "A-1042"})), ("orders", json!({"order": "B-2001"}))];
    check("where are orders A-1042 and B-2001", &both);
    check("Where is A-1042? I said A-1042! Where is A-1042?", &[("orders", json!({"order": "A-1042"}))]);
}

#[test]
fn an_effect_takes_a_command() {
    check(
        "Refund A-1042, the screen is cracked",
        &[("refund", json!({"order": "A-1042", "reason": "the screen is cracked"}))],
    );
    check(
        "Please refund B-2001 because the chair is too big",
        &[("refund", json!({"order": "B-2001", "reason": "the chair is too big"}))],
    );
    let no_refund = [
        "Can A-1042 be refunded?",
        "How do I get a refund for A-1042?",
        "Don't refund A-1042",
        "Please do not refund A-1042 yet",
        "My wife asked you to refund A-1042",
        "Refund A-1042 if it has not been delivered",
        "You refunded A-1042 last week",
        "The mail says \"refund A-1042\"",
        "No refund for A-1042",
        "refund my other order, not A-1042",
        "Was A-1042 refunded?",
        "I never wanted a refund for A-1042",
        "When will you refund A-1042?",
        // Rules cannot judge a condition, wherever it stands.
        "If A-1042 is late, refund it",
        "Where is A-1042? If it is not delivered yet, then please refund it and tell me",
        "Where is A-1042? If not: refund A-1042",
        "Otherwise refund A-1042",
        "Refund A-1042, but only if it is late",
        "Refund A-1042. Only if it is late, though.",
        "Refund A-1042 once it is back with you",
        "Refund A-1042 when I have returned it",
        "Refund A-1042 as soon as it arrives",
        "As soon as A-1042 is back, refund it",
        "When it arrives, please refund A-1042",
        "Refund A-1042 after my manager has agreed",
        "Wait until A-1042 is back, then refund it",
        "Refund A-1042 once returned",
        "In case A-1042 is lost, refund it",
        "Should A-1042 be lost, refund it",
        "Provided that it is lost, refund A-1042",
        "Refund A-1042 unless it has been sent, and tell me",
        "Is A-1042 late? Then refund it",
        "My note says 'refund A-1042'",
    ];
    for text in no_refund {
        assert!(!calls(text).iter().any(|(name, _)| name == "refund"), "{text}: {:?}", calls(text));
    }
    let refund = [
        "Refund A-1041, sorry, I mean A-1042",
        "Refund A-1042 as soon as possible",
        "When it came the screen was cracked, refund A-1042",
        "It broke once I had opened it. Refund A-1042",
        "Let me know if you can deliver, and refund A-1042",
        "Refund A-1042. If A-1041 is late, refund that as well",
    ];
    for text in refund {
        let refunds: Vec<_> = calls(text).into_iter().filter(|(name, _)| name == "refund").collect();
        assert_eq!(refunds.len(), 1, "{text}: {refunds:?}");
        assert_eq!(refunds[0].1["order"], "A-1042", "{text}");
    }
}

fn say(text: &str) -> String {
    ask(Conversation::new().say(text)).joined_text()
}

#[test]
fn what_is_missing_is_asked_for_by_name_and_the_answer_completes_the_call() {
    let question = say("Where is my order?");
    assert_eq!(question, "To use `orders` I need `order` (The order's number). Which is it?");
    let asked = Conversation::new().say("Where is my order?");
    let Replied::Final(asked) = asked.reply(Reply::text(question).into()) else { panic!() };
    let reply = ask(asked.say("it is a-1042"));
    let call = reply.each_call().next().unwrap();
    assert_eq!((&*call.name, call.arguments.as_text()), ("orders", "{\"order\":\"A-1042\"}"));
    // A refund is asked for, too, and never guessed.
    assert!(say("I want a refund").contains("To use `refund` I need `order`"));
}

#[test]
fn what_nothing_fits_is_answered_with_what_can_be_done() {
    for text in ["What is the weather?", "tell me a joke", "who won the cup in 2014", "17 times 23", "🦀🦀🦀", "?!"]
    {
        let said = say(text);
        assert!(
            said.starts_with("I cannot help with that. I can help with:\n- orders: Looks an order up"),
            "{text}: {said}"
        );
    }
}

#[test]
fn answers_come_from_results_and_name_their_sources() {
    let text = "Where is A-1042, how long is the warranty, and invite ann@example.com";
    let reply = ask(Conversation::new().say(text));
    assert_eq!(reply.each_call().count(), 3);
    let Replied::Calls(mut turn) = Conversation::new().say(text).reply(reply.into()) else { panic!() };
    turn.settle(0, CallResult::done(json!({"status": "delivered", "carrier": "DPD"}))).unwrap();
    turn.settle(1, CallResult::done(json!({"answer": "24 months.", "source": "warranty.md"}))).unwrap();
    turn.settle(2, CallResult::failed(agent_core::ErrorCode::new("call.timeout"), "it took too long")).unwrap();
    let said = ask(turn.close().unwrap()).joined_text();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(
        lines,
        [
            "carrier: DPD, status: delivered [orders]",
            "24 months. [policy: warranty.md]",
            "invite has no answer: it took too long"
        ]
    );
}

#[test]
fn it_is_deterministic_free_and_marked_as_rules() {
    let model = RuleModel::new();
    assert_eq!((model.info().level, model.info().price), (Level::Rule, Some(agent_core::Price::FREE)));
    let texts = ["Where is A-1042, and how long is the warranty?", "refund B-2001", "nonsense"];
    for text in texts {
        let first = ask(Conversation::new().say(text));
        assert!((0..20).all(|_| ask(Conversation::new().say(text)) == first));
    }
}

#[test]
fn the_choice_of_functions_is_respected() {
    let run = |choice| {
        let request =
            ChatRequest::new(Conversation::new().say("Where is A-1042?")).with_functions(desk()).with_choice(choice);
        paused(async {
            let stream = RuleModel::new().stream(request, &RunContext::standalone(caller())).await.unwrap();
            let reply = collect(stream).await.unwrap().0;
            reply.each_call().map(|call| call.name.to_string()).collect::<Vec<_>>()
        })
    };
    assert_eq!(run(FunctionChoice::Auto), ["orders"]);
    assert_eq!(run(FunctionChoice::None), Vec::<String>::new());
    assert_eq!(run(FunctionChoice::Named("policy".into())), ["policy"]);
}

#[test]
fn synonyms_and_the_day_are_the_hosts() {
    let model = RuleModel::new().with_synonym("whereabouts", "order").with_today(jiff_date(2027, 3, 1));
    let run = |text: &str| {
        let request = ChatRequest::new(Conversation::new().say(text)).with_functions(desk());
        let reply = paused(async {
            let stream = model.stream(request, &RunContext::standalone(caller())).await.unwrap();
            collect(stream).await.unwrap().0
        });
        reply.each_call().map(|call| call.arguments.parse().unwrap()).collect::<Vec<Value>>()
    };
    assert_eq!(run("whereabouts of A-1042"), [json!({"order": "A-1042"})]);
    let booked = run("book a transport of 2 parcels to Ulm tomorrow, express");
    assert_eq!(booked[0]["on"], "2027-03-02");
}

fn jiff_date(year: i16, month: i8, day: i8) -> jiff::civil::Date {
    jiff::civil::Date::new(year, month, day).unwrap()
}

#[test]
fn a_megabyte_is_read_quickly_and_only_its_beginning() {
    let text = format!("Where is A-1042? {}", "and the lamp is broken, refund B-2001. ".repeat(30_000));
    let begun = Instant::now();
    assert!(calls(&text).contains(&("orders".to_owned(), json!({"order": "A-1042"}))));
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_it_panic_or_break_a_schema(text in "\\PC{0,200}") {
        for (name, arguments) in calls(&text) {
            let spec = desk().into_iter().find(|spec| *spec.name == *name).unwrap();
            prop_assert!(spec.input.check(&arguments).is_ok());
        }
    }

    #[test]
    fn words_in_any_order_make_no_panic(words in proptest::collection::vec(word(), 0..25)) {
        for (name, arguments) in calls(&words.join(" ")) {
            let spec = desk().into_iter().find(|spec| *spec.name == *name).unwrap();
            prop_assert!(spec.input.check(&arguments).is_ok());
        }
    }
}

fn word() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "refund",
        "order",
        "A-1042",
        "b-2001",
        "where",
        "is",
        "not",
        "don't",
        "please",
        "and",
        ",",
        "?",
        ".",
        "if",
        "I",
        "mean",
        "the",
        "warranty",
        "3",
        "parcels",
        "to",
        "Ulm",
        "express",
        "2027-03-12",
        "\"",
        "it",
        "ann@example.com",
        "那",
        "é",
        "no",
    ])
}

#[test]
fn an_empty_set_of_functions_says_so() {
    let request = ChatRequest::new(Conversation::new().say("Hi"));
    let reply = paused(async {
        let stream = RuleModel::new().stream(request, &RunContext::standalone(caller())).await.unwrap();
        collect(stream).await.unwrap().0
    });
    assert_eq!(reply.joined_text(), "I have no functions to answer with.");
}

#[test]
fn it_conforms() {
    paused(testkit::conformance::chat_model(RuleModel::new()));
}

#[test]
fn a_conversation_without_a_user_is_answered() {
    let reply = ask(Conversation::from_entries(Vec::<Entry>::new()));
    assert!(reply.joined_text().contains("I cannot help with that"));
}

#[test]
fn a_function_of_unsaid_effect_that_sounds_like_one_takes_a_command() {
    let of = |name: &str, description: &str| FunctionSpec::new(name, description, Schema::of::<Order>());
    let functions = [of("orders", "Looks an order up"), of("refund", "Refunds an order")];
    let called = |text: &str| {
        let request = ChatRequest::new(Conversation::new().say(text)).with_functions(functions.clone());
        let cx = RunContext::standalone(caller());
        let (reply, _) = paused(async { collect(RuleModel::new().stream(request, &cx).await.unwrap()).await }).unwrap();
        reply.each_call().map(|call| call.name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(called("Refund order A-1042"), ["refund"]);
    for text in
        ["Was order A-1042 refunded?", "How does a refund of A-1042 work?", "My neighbour got a refund for A-1042."]
    {
        assert!(!called(text).contains(&"refund".to_owned()), "{text}");
    }
    assert_eq!(called("Where is order A-1042?"), ["orders"]);
}

#[test]
fn a_repair_is_no_new_request() {
    let orders = FunctionSpec::new("orders", "Looks an order up", Schema::of::<Order>());
    let asked = Conversation::new().say("What can you do?");
    let Replied::Final(said) = asked.reply(Reply::text("much").into()) else {
        panic!("a reply without calls is final")
    };
    let said = said.say("The answer does not fit its schema: where is order A-1042? Answer again.");
    let mut request = ChatRequest::new(said).with_functions([orders]);
    request.repairs = 2;
    let cx = RunContext::standalone(caller());
    let (reply, _) = paused(async { collect(RuleModel::new().stream(request, &cx).await.unwrap()).await }).unwrap();
    assert!(reply.each_call().next().is_none() && reply.joined_text().contains("orders"), "{reply:?}");
}
