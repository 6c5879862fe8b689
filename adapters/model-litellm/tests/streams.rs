//! Streams in time: many at once, slow ones, silent ones, and ones that nobody wants any more.
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use agent_core::{
    ChatModel, Chunk, EventKind, Lease, Limits, MainAgent, MicroUsd, ModelStream, Price, RunContext, Tokens, collect,
    complete,
};
use futures_util::StreamExt;
use model_litellm::{Gateway, GatewayConfig, GatewayModel, Timeouts};
use serde_json::json;
use testkit::{Answer, Completion, FaultUpstream, caller};
use tokio::time::sleep;

use support::{TRANSPORTS, ask, by, context, gateway, hello};

/// How many streams run at once.
const MANY: usize = 1_000;

async fn until(what: &str, patience: Duration, is_so: impl Fn() -> bool) -> Duration {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < patience, "{what} did not come within {patience:?}");
        sleep(Duration::from_millis(1)).await;
    }
    began.elapsed()
}

/// Resident memory of this process, in bytes.
fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 4_096
}

/// Lets this process have the files that so many connections need, both ends of each.
fn allow_files() {
    let limit = rlimit::increase_nofile_limit(4_096).unwrap();
    assert!(limit > 3 * MANY as u64, "{limit} open files are allowed, {MANY} streams need more");
}

/// A gateway whose timeouts do not matter on a busy machine.
fn patient(upstream: &FaultUpstream) -> Gateway {
    Gateway::new(GatewayConfig::litellm(upstream.base_url())).unwrap()
}

async fn first_chunk(model: &GatewayModel) -> ModelStream {
    let mut stream = model.stream(hello(), &context()).await.unwrap();
    assert_eq!(stream.next().await.unwrap().unwrap(), Chunk::Text("word ".to_owned()));
    stream
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_streams_lose_nothing() {
    allow_files();
    let upstream = FaultUpstream::start().await;
    upstream.answering(|request| {
        let text: String = (0..50).map(|word| format!("{}:{word} ", request.last_text())).collect();
        let answer = Completion::text(&text).answer(request);
        // In pieces that have nothing to do with events, while the others send theirs.
        answer.in_packets_of(1_009, Duration::from_millis(20))
    });
    let model = patient(&upstream).model("m");
    let before = resident();
    let streams = (0..MANY).map(|number| {
        let model = model.clone();
        tokio::spawn(async move {
            let asked = agent_core::ChatRequest::new(agent_core::Conversation::new().say(number.to_string()));
            let answered = ask(&model, asked).await.unwrap();
            let expected: String = (0..50).map(|word| format!("{number}:{word} ")).collect();
            assert_eq!(answered.0.joined_text(), expected);
            assert_eq!(answered.0.usage.unwrap().total(), Tokens(17));
        })
    });
    let streams: Vec<_> = streams.collect();
    let peak = Arc::new(AtomicUsize::new(0));
    let watch = tokio::spawn({
        let peak = peak.clone();
        async move {
            loop {
                peak.fetch_max(resident(), Ordering::Relaxed);
                sleep(Duration::from_millis(20)).await;
            }
        }
    });
    for stream in streams {
        stream.await.unwrap();
    }
    watch.abort();
    let grown = peak.load(Ordering::Relaxed).saturating_sub(before) >> 20;
    println!("{MANY} streams and their server took {grown} MiB");
    assert!(grown < 300, "{MANY} streams and their server took {grown} MiB");
    assert_eq!(upstream.requests().len(), MANY);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_dropped_streams_are_closed_at_once() {
    allow_files();
    let upstream = FaultUpstream::start().await;
    upstream.answering(|_| {
        let words = Answer::stream().then_event(&json!({"choices": [{"delta": {"content": "word "}}]}));
        words.then_hang()
    });
    let model = patient(&upstream).model("m");
    let streams: Vec<ModelStream> =
        futures_util::stream::iter(0..MANY).map(|_| first_chunk(&model)).buffer_unordered(64).collect().await;
    assert_eq!(upstream.open_connections(), MANY);
    drop(streams);
    let took = until("the end of all connections", Duration::from_secs(5), || upstream.open_connections() == 0).await;
    println!("{MANY} dropped streams were closed after {took:?}");
    assert!(took < Duration::from_millis(100), "closed after {took:?}");
}

#[tokio::test]
async fn a_run_that_is_cancelled_closes_its_connection() {
    let upstream = FaultUpstream::start().await;
    upstream.answering(|_| Answer::raw().then_hang());
    let desk = MainAgent::builder("desk", patient(&upstream).model("m")).build().unwrap();
    let handle = desk.start("Hello.", caller());
    until("the request", Duration::from_secs(5), || upstream.requests().len() == 1).await;
    drop(handle);
    until("the end of the connection", Duration::from_secs(1), || upstream.open_connections() == 0).await;
}

#[tokio::test]
async fn connections_are_used_again() {
    let upstream = FaultUpstream::start().await;
    let model = patient(&upstream).model("echo");
    for transport in [TRANSPORTS[0], TRANSPORTS[1], TRANSPORTS[0]] {
        ask(&by(model.clone(), transport), hello()).await.unwrap();
        sleep(Duration::from_millis(20)).await;
        assert_eq!(upstream.open_connections(), 1);
    }
    // A server that closes idle connections after five seconds does not meet a request on one.
    sleep(Duration::from_millis(4_500)).await;
    ask(&model, hello()).await.unwrap();
}

#[tokio::test]
async fn what_says_nothing_is_no_first_token() {
    let upstream = FaultUpstream::start().await;
    let role = json!({"choices": [{"delta": {"role": "assistant", "content": ""}}]});
    let ping = move |answer: Answer| answer.then(": ping\n\n").then_event(&role).then_wait(Duration::from_millis(50));
    upstream.answering(move |_| (0..100).fold(Answer::stream(), |answer, _| ping(answer)));
    let began = Instant::now();
    let failed = ask(&gateway(&upstream.base_url()).model("m"), hello()).await.unwrap_err();
    assert_eq!(failed.code().as_str(), "model.first_token_timeout");
    assert!(began.elapsed() < Duration::from_millis(1_500), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_slow_answer_is_one_as_long_as_it_goes_on() {
    let upstream = FaultUpstream::start().await;
    let word = json!({"choices": [{"delta": {"content": "word "}}]});
    upstream.answering(move |_| {
        let slow = |answer: Answer, _| answer.then_event(&word).then_wait(Duration::from_millis(200));
        let answer = (0..6).fold(Answer::stream(), slow);
        answer.then_event(&json!({"choices": [{"delta": {}, "finish_reason": "stop"}]})).then_hang()
    });
    let reply = ask(&gateway(&upstream.base_url()).model("m"), hello()).await.unwrap().0;
    assert_eq!(reply.joined_text(), "word word word word word word ");
}

#[tokio::test]
async fn a_reason_in_every_event_ends_nothing() {
    let upstream = FaultUpstream::start().await;
    let model = gateway(&upstream.base_url()).model("m");
    let said = |answer: Answer, text: &str| {
        let choice = json!({"delta": {"content": text}, "finish_reason": "stop"});
        // Longer than what is waited for after the end.
        answer.then_event(&json!({ "choices": [choice] })).then_wait(Duration::from_millis(300))
    };
    let words = ["", "All ", "is ", "well."];
    let spoken = || words.iter().fold(Answer::stream(), |answer, word| said(answer, word));
    for whole in [spoken(), spoken().then_done()] {
        upstream.script([whole]);
        assert_eq!(ask(&model, hello()).await.unwrap().0.joined_text(), "All is well.");
    }
    for (broken, expected) in [(spoken().then_reset(), "model.cut"), (spoken().then_hang(), "model.stalled")] {
        upstream.script([broken]);
        assert_eq!(ask(&model, hello()).await.unwrap_err().code().as_str(), expected);
    }
}

#[tokio::test]
async fn the_whole_time_bounds_an_answer_that_goes_on() {
    let upstream = FaultUpstream::start().await;
    let word = json!({"choices": [{"delta": {"content": "word "}}]});
    upstream.answering(move |_| {
        (0..100).fold(Answer::stream(), |answer, _| answer.then_event(&word).then_wait(Duration::from_millis(50)))
    });
    let timeouts = Timeouts::default().with_total(Duration::from_millis(600));
    let model = Gateway::new(GatewayConfig::litellm(upstream.base_url()).with_timeouts(timeouts)).unwrap().model("m");
    assert_eq!(ask(&model, hello()).await.unwrap_err().code().as_str(), "model.timed_out");

    let lease = Lease::root(Limits::none().with_time(Duration::from_millis(600)));
    let cx = RunContext::standalone_with(caller(), lease, Vec::new());
    let stream = patient(&upstream).model("m").stream(hello(), &cx).await.unwrap();
    let failed = collect(stream).await.unwrap_err();
    assert_eq!(failed.to_string(), "the model gave no answer: the time of the run is over");
}

#[tokio::test]
async fn a_server_that_is_always_there_ends_with_the_run() {
    let upstream = FaultUpstream::start().await;
    let word = json!({"choices": [{"delta": {"content": "w"}}]});
    let flood = format!("data: {word}\n\n").repeat(1_000);
    upstream.answering(move |_| (0..1_000).fold(Answer::stream(), |answer, _| answer.then(flood.clone())));
    let lease = Lease::root(Limits::none().with_time(Duration::from_millis(500)));
    let cx = RunContext::standalone_with(caller(), lease, Vec::new());
    let began = Instant::now();
    let stream = patient(&upstream).model("m").stream(hello(), &cx).await.unwrap();
    let failed = collect(stream).await.unwrap_err();
    assert_eq!(failed.code().as_str(), "model.timed_out");
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_body_that_ends_after_its_answer_keeps_the_connection() {
    let upstream = FaultUpstream::start().await;
    upstream.answering(|request| {
        let events = Completion::text("Hello.").events(&request.model());
        let answer = events.iter().fold(Answer::stream(), Answer::then_event);
        answer.then_done().then_wait(Duration::from_millis(30))
    });
    let model = patient(&upstream).model("m");
    for _ in 0..3 {
        ask(&model, hello()).await.unwrap();
        sleep(Duration::from_millis(100)).await;
        assert_eq!(upstream.open_connections(), 1);
    }
    // A body that never ends keeps nothing.
    upstream.answering(|request| {
        let events = Completion::text("Hello.").events(&request.model());
        events.iter().fold(Answer::stream(), Answer::then_event).then_done().then_hang()
    });
    ask(&model, hello()).await.unwrap();
    until("the end of the connection", Duration::from_secs(2), || upstream.open_connections() == 0).await;
}

#[tokio::test]
async fn an_answer_without_a_word_costs_what_it_used() {
    let upstream = FaultUpstream::start().await;
    let usage = json!({"prompt_tokens": 100, "completion_tokens": 7, "cost": 0.000_5});
    upstream.answering(move |request| Completion::text("").with_usage(Some(usage.clone())).answer(request));
    for transport in TRANSPORTS {
        let lease = Lease::root(Limits::none());
        let cx = RunContext::standalone_with(caller(), lease.clone(), Vec::new());
        let failed = complete(&by(patient(&upstream).model("m"), transport), hello(), &cx).await.unwrap_err();
        assert_eq!(failed.code().as_str(), "model.empty");
        let spent = lease.spent();
        assert_eq!((spent.tokens, spent.micro_usd, spent.unpriced_calls), (Tokens(107), MicroUsd(500), 0));
    }
}

#[tokio::test]
async fn costs_come_from_wherever_they_stand() {
    let upstream = FaultUpstream::start().await;
    let price = Price::per_million(MicroUsd(1_000_000), MicroUsd(2_000_000));
    let priced = GatewayConfig::litellm(upstream.base_url()).with_price("m", price);
    let cost = async |config: GatewayConfig, header: &'static str, usage: serde_json::Value| {
        upstream.answering(move |request| {
            let answer = Completion::text("Hello.").with_usage(Some(usage.clone())).answer(request);
            answer.with_header("x-litellm-response-cost", header)
        });
        let model = Gateway::new(config).unwrap().model("m");
        let mut costs = Vec::new();
        for transport in TRANSPORTS {
            let lease = Lease::root(Limits::none());
            let cx = RunContext::standalone_with(caller(), lease.clone(), Vec::new());
            complete(&by(model.clone(), transport), hello(), &cx).await.unwrap();
            costs.push((lease.spent().micro_usd.0, lease.spent().unpriced_calls));
        }
        assert_eq!(costs[0], costs[1], "both transports cost the same");
        costs[0]
    };
    let usage = json!({"prompt_tokens": 10, "completion_tokens": 5});
    let with_cost = json!({"prompt_tokens": 10, "completion_tokens": 5, "cost": 0.000_042});
    let unpriced = GatewayConfig::litellm(upstream.base_url());
    assert_eq!(cost(unpriced.clone(), "7.1e-06", usage.clone()).await, (8, 0), "the header's, rounded up");
    assert_eq!(cost(unpriced.clone(), "", with_cost.clone()).await, (42, 0), "the usage's");
    assert_eq!(cost(priced.clone(), "", with_cost).await, (42, 0), "the server's before the host's");
    assert_eq!(cost(priced.clone(), "0.0", usage.clone()).await, (20, 0), "the host's table");
    assert_eq!(cost(priced, "None", usage.clone()).await, (20, 0));
    assert_eq!(cost(unpriced.clone(), "0.0", usage.clone()).await, (0, 1), "unknown is unknown");
    assert_eq!(cost(unpriced, "-1", usage).await, (0, 1));
}

#[tokio::test]
async fn events_tell_what_a_stream_tells() {
    let upstream = FaultUpstream::start().await;
    upstream.answering(|request| Completion::text("All is well.").with_reasoning("Let me see.").answer(request));
    let desk = MainAgent::builder("desk", patient(&upstream).model("m")).build().unwrap();
    let mut handle = desk.start("How is all?", caller());
    let (mut deltas, mut answers) = (String::new(), 0);
    let mut events = handle.events().unwrap();
    while let Some(event) = events.next().await {
        match &event.kind {
            EventKind::Delta { text, .. } => deltas.push_str(text.as_str()),
            EventKind::ModelFinished(_) => answers += 1,
            _ => {}
        }
    }
    assert_eq!((deltas.as_str(), answers), ("Let me see.All is well.", 1));
    assert_eq!(handle.join().await.unwrap().to_string(), "All is well.");
}
