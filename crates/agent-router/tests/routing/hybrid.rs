//! Routing by words and vectors.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use agent_core::{
    Embedder, Embeddings, Limits, MainAgent, MicroUsd, ModelError, ModelErrorClass, ModelInfo, Price, RouteDecision,
    RouteStage, Router, RunContext, Tokens, async_trait, sub_agent,
};
use agent_router::{EmbeddingStage, HierarchicalRouter, HybridRouter, LifeCycle, RouteCard, RouterSnapshot};
use testkit::{HashEmbedder, Line, ScriptedModel, caller, paused, somebody};

use super::behaviour::{brief, cards};

/// What an embedding model does.
#[derive(Debug, Clone, Copy)]
enum Mood {
    Works,
    IsLate,
    Fails,
    Panics,
    IsOther,
}

/// A model that knows what means the same, and no Chinese.
#[derive(Clone)]
struct Meanings {
    words: HashEmbedder,
    mood: Arc<Mutex<Mood>>,
    asked: Arc<AtomicUsize>,
    info: ModelInfo,
}

const MEANINGS: [(&str, &[&str]); 5] = [
    ("money", &["cash", "reimbursed", "moolah"]),
    ("parcel", &["shipment", "package"]),
    ("password", &["passphrase", "credentials"]),
    ("flight", &["plane", "aeroplane"]),
    ("salaries", &["wages", "payslip"]),
];

fn meanings() -> Meanings {
    let info = ModelInfo::new("test", "meanings").with_price(Price::FREE);
    Meanings { words: HashEmbedder::new(512), mood: Arc::new(Mutex::new(Mood::Works)), asked: Arc::default(), info }
}

impl Meanings {
    fn is(&self, mood: Mood) {
        *self.mood.lock().unwrap_or_else(PoisonError::into_inner) = mood;
    }

    fn vector(&self, text: &str) -> Vec<f32> {
        let meaning = |word: &str| {
            let word = word.trim_matches(|letter: char| !letter.is_alphanumeric()).to_lowercase();
            let known = MEANINGS.iter().find(|(_, others)| others.contains(&&*word));
            known.map_or(word, |(meaning, _)| (*meaning).to_owned())
        };
        self.words.vector(&text.split_whitespace().map(meaning).collect::<Vec<_>>().join(" "))
    }
}

#[async_trait]
impl Embedder for Meanings {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    async fn embed(&self, texts: &[&str], _: &RunContext) -> Result<Embeddings, ModelError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let mood = *self.mood.lock().unwrap();
        match mood {
            Mood::Works => {}
            Mood::IsLate => tokio::time::sleep(Duration::from_secs(5)).await,
            Mood::Fails => return Err(ModelError::new(ModelErrorClass::Unavailable, "http://10.0.0.1 is down")),
            Mood::Panics => panic!("a model's own mistake"),
            Mood::IsOther => return Ok(Embeddings::from_vectors(texts.iter().map(|_| vec![1.0; 3])).unwrap()),
        }
        Ok(Embeddings::from_vectors(texts.iter().map(|text| self.vector(text))).unwrap())
    }

    fn unknown_share(&self, text: &str) -> Option<f32> {
        let letters = text.chars().filter(|letter| letter.is_alphanumeric()).count().max(1);
        Some(text.chars().filter(|letter| matches!(letter, '\u{3400}'..='\u{9fff}')).count() as f32 / letters as f32)
    }
}

const OUT_OF_SCOPE: [&str; 4] = ["tell me a joke", "what is the meaning of life", "who won the match", "sing a song"];

fn context() -> RunContext {
    RunContext::standalone(caller())
}

async fn built(cards: Vec<RouteCard>, embedder: &Meanings) -> HybridRouter {
    let stage = EmbeddingStage::new(embedder.clone());
    let builder = HierarchicalRouter::builder().cards(cards).out_of_scope(OUT_OF_SCOPE);
    builder.build_with(stage, &context()).await.unwrap()
}

fn best(decision: &RouteDecision) -> &str {
    &decision.candidates[0].agent
}

/// What the embedding stage says it did.
fn told(decision: &RouteDecision) -> Option<&str> {
    let stage = decision.stages.iter().find(|stage| stage.stage == RouteStage::Embedding);
    stage.map(|stage| &*stage.result)
}

#[test]
fn what_means_the_same_goes_to_the_same_agent() {
    paused(async {
        let embedder = meanings();
        let router = built(cards(), &embedder).await;
        let words = HierarchicalRouter::builder().cards(cards()).out_of_scope(OUT_OF_SCOPE).build().unwrap();
        for (message, agent) in [
            ("I want to be reimbursed", "returns"),
            ("moolah back", "returns"),
            ("my passphrase is gone, I forgot it", "accounts"),
            ("cancel my plane", "flights"),
            ("the wages, please pay them", "payroll"),
        ] {
            let decision = router.decide(message, &context()).await;
            assert_eq!(best(&decision), agent, "{decision}");
            assert_eq!(told(&decision), Some("1 text by meanings"));
            let by_words = words.decide(message, &caller());
            let of = |decision: &RouteDecision| {
                let own = decision.candidates.iter().find(|candidate| *candidate.agent == *agent);
                own.map_or(0.0, |candidate| candidate.probability)
            };
            assert!(of(&decision) > of(&by_words), "{decision}{by_words}");
            // What each stage gave is told, and their sum decides.
            let sum = |place: usize| decision.candidates[place].scores.values().sum::<f32>();
            assert!(decision.candidates[0].scores.len() == 2 && sum(0) >= sum(1), "{decision}");
        }
    });
}

#[test]
fn parts_have_vectors_of_their_own() {
    paused(async {
        let router = built(cards(), &meanings()).await;
        let decision = router.decide("Track my shipment. Cancel my plane.", &context()).await;
        assert_eq!((brief(&decision).as_str(), told(&decision)), ("orders + flights", Some("3 texts by meanings")));
    });
}

#[test]
fn a_stage_that_fails_or_is_late_is_left_out() {
    paused(async {
        let embedder = meanings();
        let router = built(cards(), &embedder).await;
        let words = HierarchicalRouter::builder().cards(cards()).out_of_scope(OUT_OF_SCOPE).build().unwrap();
        let message = "I want to be reimbursed";
        let expected = words.decide(message, &caller());
        for (mood, result) in [
            (Mood::IsLate, "left out: run.deadline"),
            (Mood::Fails, "left out: model.unavailable"),
            (Mood::Panics, "left out: model.panicked"),
            (Mood::IsOther, "left out: vectors of 3 values, it learnt from 512"),
        ] {
            embedder.is(mood);
            let begun = tokio::time::Instant::now();
            let decision = router.decide(message, &context()).await;
            assert!(begun.elapsed() <= Duration::from_millis(501), "{mood:?}");
            assert_eq!((&decision.candidates, told(&decision)), (&expected.candidates, Some(result)));
            assert_eq!((decision.out_of_scope, decision.outcome), (expected.out_of_scope, expected.outcome.clone()));
        }
        // Neither the run's time nor its budget, nor those of the stage, are passed.
        embedder.is(Mood::IsLate);
        let lease = agent_core::Lease::root(Limits::none().with_time(Duration::from_millis(100)));
        let cx = RunContext::standalone_with(caller(), lease, Vec::new());
        let begun = tokio::time::Instant::now();
        assert_eq!(told(&router.decide(message, &cx).await), Some("left out: run.deadline"));
        assert!(begun.elapsed() <= Duration::from_millis(101));
        embedder.is(Mood::Works);
        let lease = agent_core::Lease::root(Limits::none().with_tokens(Tokens(2)));
        let cx = RunContext::standalone_with(caller(), lease, Vec::new());
        assert_eq!(told(&router.decide(message, &cx).await), Some("left out: budget.exceeded"));
        assert_eq!(cx.lease().spent().tokens, Tokens(0));
    });
}

#[test]
fn a_stage_has_a_budget_of_its_own() {
    paused(async {
        let price = Price::per_million(MicroUsd(1_000_000), MicroUsd(0));
        let embedder = Meanings { info: ModelInfo::new("test", "dear").with_price(price), ..meanings() };
        let stage = EmbeddingStage::new(embedder).with_limits(Limits::none().with_tokens(Tokens(20)));
        let router = HierarchicalRouter::builder().cards(cards()).build_with(stage, &context()).await.unwrap();
        let cx = context();
        assert_eq!(told(&router.decide("cancel my plane", &cx).await), Some("1 text by dear"));
        let spent = cx.lease().spent();
        assert!(spent.tokens > Tokens(0) && spent.micro_usd.0 > 0, "{spent:?}");
        let long = "cancel my plane ".repeat(100);
        assert_eq!(told(&router.decide(&long, &cx).await), Some("left out: budget.exceeded"));
        assert_eq!(cx.lease().spent(), spent);
    });
}

#[test]
fn a_model_is_asked_where_it_can_tell_something() {
    paused(async {
        let embedder = meanings();
        let mut cards = cards();
        cards[1] = cards[1].clone().with_triggers(["chargeback"]);
        cards.push(RouteCard::new("天气", "天气预报").with_examples(["明天下雨吗", "今天天气怎么样"]));
        let router = built(cards, &embedder).await;
        let asked = embedder.asked.load(Ordering::Relaxed);
        let check = async |message: &str, expected: Option<&str>| {
            assert_eq!(told(&router.decide(message, &context()).await), expected, "{message}");
        };
        check("this is a chargeback", None).await;
        check("", None).await;
        check("  \n", None).await;
        check("明天天气", Some("abstains: the model does not know 100 % of it")).await;
        let nobody = RunContext::standalone(somebody("umbrella", "eve"));
        for agent in ["orders", "returns", "accounts", "flights", "hotels", "payroll", "天气"] {
            router.set_state(agent, LifeCycle::Disabled).unwrap();
        }
        assert_eq!(told(&router.decide("cancel my plane", &nobody).await), None);
        assert_eq!(embedder.asked.load(Ordering::Relaxed), asked);
        router.set_state("天气", LifeCycle::Active).unwrap();
        assert_eq!(brief(&router.decide("明天天气", &context()).await), "天气");
    });
}

#[test]
fn it_learns_online_or_not_at_all() {
    paused(async {
        let embedder = meanings();
        let router = built(cards(), &embedder).await;
        let message = "the zorblax of mine is out of order";
        let digest = router.snapshot().digest().to_owned();
        embedder.is(Mood::Fails);
        let failed = router.learn(message, Some("hotels"), &context()).await.unwrap_err();
        assert_eq!((failed.code().as_str(), failed.retryable()), ("model.unavailable", true));
        let failed = router.add(RouteCard::new("new", "New things"), &context()).await.unwrap_err();
        assert_eq!(failed.code().as_str(), "model.unavailable");
        embedder.is(Mood::IsOther);
        let failed = router.learn(message, Some("hotels"), &context()).await.unwrap_err();
        assert_eq!((failed.code().as_str(), failed.retryable()), ("route.dimensions", false));
        embedder.is(Mood::Works);
        let failed = router.learn(message, Some("nobody"), &context()).await.unwrap_err();
        assert_eq!((failed.code().as_str(), router.snapshot().digest()), ("route.invalid", &*digest));
        assert!(router.card("new").is_none());

        for _ in 0..3 {
            router.learn(message, Some("hotels"), &context()).await.unwrap();
        }
        let decision = router.decide("zorblax of mine", &context()).await;
        assert_eq!(best(&decision), "hotels", "{decision}");
        assert_eq!(best(&router.decide("cancel my plane", &context()).await), "flights");
        for _ in 0..3 {
            router.learn("cancel my newspaper", None, &context()).await.unwrap();
        }
        assert_eq!(brief(&router.decide("cancel my newspaper", &context()).await), "nobody");

        let weather = RouteCard::new("weather", "Says what the weather will be").with_domain(["world"]);
        let weather = weather.with_examples(["will it rain", "how cold is it outside"]);
        router.add(weather, &context()).await.unwrap();
        assert_eq!(best(&router.decide("is it cold outside", &context()).await), "weather");
        assert_eq!(best(&router.decide("cancel my plane", &context()).await), "flights");
        assert!(router.remove("weather"));
        let decision = router.decide("is it cold outside", &context()).await;
        assert!(decision.candidates.iter().all(|candidate| *candidate.agent != *"weather"), "{decision}");
    });
}

#[test]
fn a_snapshot_needs_the_model_and_no_text_anew() {
    paused(async {
        let embedder = meanings();
        let router = built(cards(), &embedder).await;
        router.learn("moolah please", Some("returns"), &context()).await.unwrap();
        let text = serde_json::to_string(&router.snapshot()).unwrap();
        let read = || serde_json::from_str::<RouterSnapshot>(&text).unwrap();
        let asked = embedder.asked.load(Ordering::Relaxed);
        let loaded = HybridRouter::load(read(), EmbeddingStage::new(embedder.clone())).unwrap();
        assert_eq!(embedder.asked.load(Ordering::Relaxed), asked);
        for message in ["some moolah", "where is my shipment", "明天天气", "cancel it please"] {
            let (one, other) = (router.decide(message, &context()).await, loaded.decide(message, &context()).await);
            assert_eq!(one, other);
        }
        let other = EmbeddingStage::new(HashEmbedder::new(512));
        let failed = HybridRouter::load(read(), other).unwrap_err();
        assert_eq!(failed.to_string(), "the snapshot has vectors of meanings, not of hash");
        // By words alone, it is the router that never saw a vector.
        let words = HierarchicalRouter::load(read()).unwrap();
        assert_eq!(told(&words.decide("some moolah", &caller())), None);
        let failed = HybridRouter::load(words.snapshot(), EmbeddingStage::new(embedder)).unwrap_err();
        assert_eq!(failed.code().as_str(), "route.snapshot_embedder");
    });
}

#[test]
fn decisions_are_recorded_and_compared() {
    paused(async {
        let router = built(cards(), &meanings()).await;
        let recorded =
            [router.record("cancel my plane", &context()).await, router.record("track my package", &context()).await];
        assert!(router.compare(&recorded, &context()).await.is_empty());
        router.remove("flights");
        let changes = router.compare(&recorded, &context()).await;
        assert_eq!(changes.iter().map(|change| &*change.recorded.message).collect::<Vec<_>>(), ["cancel my plane"]);
    });
}

#[test]
fn what_cannot_be_learnt_from_is_an_error() {
    paused(async {
        let stage = || EmbeddingStage::new(meanings());
        let twice = HierarchicalRouter::builder().card(cards()[0].clone()).card(cards()[0].clone());
        assert_eq!(twice.build_with(stage(), &context()).await.unwrap_err().code().as_str(), "route.invalid");
        let embedder = meanings();
        embedder.is(Mood::Fails);
        let failed = HierarchicalRouter::builder().cards(cards());
        let failed = failed.build_with(EmbeddingStage::new(embedder), &context()).await.unwrap_err();
        assert_eq!((failed.code().as_str(), failed.retryable()), ("model.unavailable", true));
        // Nobody to choose, and nothing that the model knows.
        let empty = HierarchicalRouter::builder().build_with(stage(), &context()).await.unwrap();
        assert_eq!(brief(&empty.decide("anything", &context()).await), "nobody");
        let chinese = HierarchicalRouter::builder().card(RouteCard::new("天气", "天气预报"));
        let chinese = chinese.build_with(stage(), &context()).await.unwrap();
        assert_eq!(best(&chinese.decide("天气预报", &context()).await), "天气");
        assert_eq!(brief(&chinese.decide("where is my parcel", &context()).await), "nobody");
    });
}

#[test]
fn it_keeps_the_contract_of_routers() {
    let names = ["orders", "returns", "accounts", "flights", "hotels", "payroll"];
    paused(async {
        for mood in [Mood::Works, Mood::Fails, Mood::Panics, Mood::IsLate] {
            let embedder = meanings();
            let router = built(cards(), &embedder).await;
            embedder.is(mood);
            testkit::conformance::router(router, names).await;
        }
    });
}

#[derive(serde::Deserialize, schemars::JsonSchema)]
struct Question {
    request: String,
}

#[test]
fn a_run_pays_for_the_vectors_of_its_request() {
    fn spent(router: impl Router + 'static) -> Tokens {
        let answer = |input: Question| async move { Ok::<_, agent_core::CallError>(input.request) };
        let flights = sub_agent("flights", "Flights", answer).with_effect(agent_core::Effect::ReadOnly);
        let model = ScriptedModel::new([Line::text("Done.")]);
        let desk = MainAgent::builder("desk", model).sub_agent(flights).router(router).build().unwrap();
        paused(desk.run("cancel my flight", caller())).unwrap().into_report().unwrap().spent.tokens
    }
    let words = HierarchicalRouter::builder().cards(cards()).out_of_scope(OUT_OF_SCOPE).build().unwrap();
    assert!(spent(paused(built(cards(), &meanings()))) > spent(words));
}
