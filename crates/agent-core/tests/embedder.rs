//! Embeddings: what they cost, and what may not be asked.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use agent_core::{
    AgentError, Embedder, Embeddings, Lease, Limits, MicroUsd, ModelError, ModelErrorClass, ModelInfo, Price,
    RunContext, Spend, Tokens, Usage, async_trait, embed,
};
use testkit::{HashEmbedder, caller, paused};

/// An embedder that charges, or fails, as told.
struct Priced {
    info: ModelInfo,
    answer: fn(&[&str]) -> Result<Embeddings, ModelError>,
    takes: Duration,
}

impl Priced {
    fn new(price: Option<Price>, answer: fn(&[&str]) -> Result<Embeddings, ModelError>) -> Self {
        let info = ModelInfo::new("testkit", "priced");
        let info = price.map_or(info.clone(), |price| info.with_price(price));
        Self { info, answer, takes: Duration::ZERO }
    }
}

#[async_trait]
impl Embedder for Priced {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    async fn embed(&self, texts: &[&str], _: &RunContext) -> Result<Embeddings, ModelError> {
        tokio::time::sleep(self.takes).await;
        (self.answer)(texts)
    }
}

fn vectors(texts: &[&str]) -> Embeddings {
    Embeddings::from_vectors(texts.iter().map(|text| HashEmbedder::new(8).vector(text))).unwrap()
}

fn read(tokens: u64) -> Usage {
    Usage::new(Tokens(tokens), Tokens::ZERO)
}

/// A dollar for a million tokens.
fn price() -> Option<Price> {
    Some(Price::per_million(MicroUsd(1_000_000), MicroUsd(0)))
}

/// Embeds 40 bytes of text, which are estimated to have 10 tokens, and compares what was spent.
fn check(embedder: &Priced, limits: Limits, expected: Result<Spend, (&str, Spend)>) {
    let lease = Lease::root(limits);
    let cx = RunContext::standalone_with(caller(), lease.clone(), Vec::new());
    let embedded = paused(embed(embedder, &["twenty bytes of text", "and twenty more here"], &cx));
    let code = embedded.as_ref().map(Embeddings::len).map_err(AgentError::code);
    match expected {
        Ok(spent) => assert_eq!((code, lease.spent()), (Ok(2), spent)),
        Err((expected, spent)) => assert_eq!((code.unwrap_err().as_str(), lease.spent()), (expected, spent)),
    }
}

#[test]
fn the_providers_own_figures_are_charged() {
    let spent = Spend::of_tokens(Tokens(7)).with_micro_usd(MicroUsd(7));
    check(&Priced::new(price(), |texts| Ok(vectors(texts).with_usage(read(7)))), Limits::none(), Ok(spent));
    let spent = Spend::of_tokens(Tokens(7)).with_micro_usd(MicroUsd(3));
    let charged = |texts: &[&str]| Ok(vectors(texts).with_usage(read(7)).with_cost(MicroUsd(3)));
    check(&Priced::new(price(), charged), Limits::none(), Ok(spent));
    check(&Priced::new(None, charged), Limits::none(), Ok(spent));
}

#[test]
fn without_figures_the_estimate_is_charged() {
    let embedder = Priced::new(price(), |texts| Ok(vectors(texts)));
    check(&embedder, Limits::none(), Ok(Spend::of_tokens(Tokens(10)).with_micro_usd(MicroUsd(10))));
    let mut unpriced = Spend::of_tokens(Tokens(10));
    unpriced.unpriced_calls = 1;
    check(&Priced::new(None, |texts| Ok(vectors(texts))), Limits::none(), Ok(unpriced));
}

#[test]
fn what_may_not_be_spent_is_not_asked() {
    let never = |_: &[&str]| -> Result<Embeddings, ModelError> { panic!("it is not asked") };
    let tokens = Limits::none().with_tokens(Tokens(9));
    check(&Priced::new(price(), never), tokens, Err(("budget.exceeded", Spend::ZERO)));
    let money = Limits::none().with_micro_usd(MicroUsd(1_000));
    check(&Priced::new(None, never), money, Err(("model.unpriced", Spend::ZERO)));
}

#[test]
fn failures_cost_what_was_used() {
    let refused = |_: &[&str]| Err(ModelError::new(ModelErrorClass::RateLimited, "later"));
    check(&Priced::new(price(), refused), Limits::none(), Err(("model.rate_limited", Spend::ZERO)));
    let after_some = |_: &[&str]| Err(ModelError::new(ModelErrorClass::RateLimited, "later").with_usage(read(6)));
    let spent = Spend::of_tokens(Tokens(6)).with_micro_usd(MicroUsd(6));
    check(&Priced::new(price(), after_some), Limits::none(), Err(("model.rate_limited", spent)));
    let spent = Spend::of_tokens(Tokens(10)).with_micro_usd(MicroUsd(10));
    let cut = |_: &[&str]| Err(ModelError::new(ModelErrorClass::Cut, "it ended"));
    check(&Priced::new(price(), cut), Limits::none(), Err(("model.cut", spent)));
    check(&Priced::new(price(), |texts| Ok(vectors(&texts[1..]))), Limits::none(), Err(("model.malformed", spent)));
}

#[test]
fn the_deadline_ends_it() {
    let slow = Priced { takes: Duration::from_secs(60), ..Priced::new(price(), |texts| Ok(vectors(texts))) };
    let limits = Limits::none().with_time(Duration::from_secs(5));
    let spent = Spend::of_tokens(Tokens(10)).with_micro_usd(MicroUsd(10));
    check(&slow, limits, Err(("run.deadline", spent)));
}

#[test]
fn a_part_of_the_work_has_limits_of_its_own_within_those_around_it() {
    paused(async {
        let texts = &["twenty bytes of text", "and twenty more here"];
        let embedder = Priced { takes: Duration::from_secs(2), ..Priced::new(price(), |texts| Ok(vectors(texts))) };
        let lease = Lease::root(Limits::none().with_tokens(Tokens(25)).with_time(Duration::from_secs(10)));
        let cx = RunContext::standalone_with(caller(), lease.clone(), Vec::new());
        let ended = async |limits: Limits| {
            let embedded = embed(&embedder, texts, &cx.within(limits)).await;
            (embedded.map_err(|error| error.code().to_string()).map(|found| found.len()), lease.spent().tokens)
        };
        let code = |code: &str| Err(code.to_owned());
        assert_eq!(ended(Limits::none().with_tokens(Tokens(9))).await, (code("budget.exceeded"), Tokens(0)));
        assert_eq!(ended(Limits::none().with_time(Duration::from_secs(1))).await, (code("run.deadline"), Tokens(10)));
        // Each part has its own, and all pay into what is around them.
        let some = Limits::none().with_tokens(Tokens(10)).with_time(Duration::from_secs(3));
        assert_eq!(ended(some).await, (Ok(2), Tokens(20)));
        assert_eq!(ended(Limits::none().with_tokens(Tokens(100))).await, (code("budget.exceeded"), Tokens(20)));
        // More time than there is gives no more.
        let long = cx.within(Limits::none().with_time(Duration::from_secs(60)));
        assert_eq!(long.deadline(), cx.deadline());
        assert_eq!(long.path(), cx.path());
    });
}

#[test]
fn no_texts_cost_nothing() {
    let never = Priced::new(None, |_| panic!("it is not asked"));
    let cx = RunContext::standalone_with(caller(), Lease::root(Limits::none().with_tokens(Tokens(0))), Vec::new());
    assert!(paused(embed(&never, &[], &cx)).unwrap().is_empty());
}

#[test]
fn what_is_unknown_is_not_known_unless_the_model_says_so() {
    /// Knows all but what is not ASCII.
    struct Ascii(ModelInfo);

    #[async_trait]
    impl Embedder for Ascii {
        fn info(&self) -> &ModelInfo {
            &self.0
        }

        async fn embed(&self, texts: &[&str], _: &RunContext) -> Result<Embeddings, ModelError> {
            Ok(vectors(texts))
        }

        fn unknown_share(&self, text: &str) -> Option<f32> {
            let unknown = text.chars().filter(|character| !character.is_ascii()).count();
            Some(unknown as f32 / text.chars().count() as f32)
        }
    }

    let silent: Arc<dyn Embedder> = Arc::new(HashEmbedder::new(8));
    assert_eq!(silent.unknown_share("Größe"), None);
    let shared: Arc<dyn Embedder> = Arc::new(Arc::new(Ascii(ModelInfo::new("testkit", "ascii"))));
    assert_eq!(shared.unknown_share("äöab"), Some(0.5));
}
