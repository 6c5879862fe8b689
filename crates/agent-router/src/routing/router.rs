//! The router: who may be asked, who is asked, and what it learns.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use agent_core::{Caller, InvalidValue, RouteDecision, RouteRequest, RouteThresholds, Router, RunContext, async_trait};
use rustc_hash::FxHashMap;
use tokio::task::spawn_blocking;

use super::card::{LifeCycle, RouteCard};
use super::hybrid::{HybridError, HybridRouter};
use super::known::{Entry, Known};
use super::ranking::{Classifier, Labelled, Vectors};
use super::snapshot::{FORMAT, RouterSnapshot, SnapshotError, extended};
use super::stage::{Embedded, EmbeddingStage};
use super::thresholds::{self, Judged, RoutePrecision};

/// How much of a message is read, in bytes: what a request is about is said sooner.
const MOST_READ: usize = 8 * 1_024;

/// Decides which agent a request is for: by the triggers of the cards, then by words and letters.
///
/// - Only what the caller may use and what is active comes into question: nothing else is scored or told of.
/// - It works from descriptions alone, better with a few examples, best with many, and [`learn`](Self::learn)s from corrections.
/// - Scores become probabilities, by what was held out of the examples. From them follow an agent, or several for a request of
///   several parts; a few agents and a question that tells them apart; or that the request is for nobody.
/// - Domains are looked at with their agents: an agent's score is its own and its innermost domain's, for every agent that shares an
///   n-gram with the request. So the best one is never worse than by going down domain by domain.
/// - The same cards and changes give the same decisions.
///
/// Clones are one router. Deciding takes microseconds and never waits.
///
/// ```
/// use agent_core::Caller;
/// use agent_router::{HierarchicalRouter, RouteCard};
///
/// let router = HierarchicalRouter::builder()
///     .card(RouteCard::new("refunds", "Refunds orders").with_examples(["I want my money back", "refund my order please"]))
///     .card(RouteCard::new("shipping", "Says where parcels are").with_examples(["where is my parcel", "track my package"]))
///     .build()?;
/// let decision = router.decide("where is my package?", &Caller::new("acme", "ann")?);
/// assert_eq!(decision.candidates[0].agent.as_ref(), "shipping");
/// println!("{decision}");
/// # Ok::<(), agent_core::InvalidValue>(())
/// ```
#[derive(Clone)]
pub struct HierarchicalRouter {
    known: Arc<RwLock<Known>>,
}

/// Makes a [`HierarchicalRouter`].
#[derive(Debug, Default)]
#[must_use = "a builder does nothing until it is built"]
pub struct RouterBuilder {
    cards: Vec<RouteCard>,
    out_of_scope: Vec<String>,
    thresholds: BTreeMap<String, RouteThresholds>,
}

impl RouterBuilder {
    /// Adds an agent.
    pub fn card(mut self, card: RouteCard) -> Self {
        self.cards.push(card);
        self
    }

    /// Adds agents.
    pub fn cards(mut self, cards: impl IntoIterator<Item = RouteCard>) -> Self {
        self.cards.extend(cards);
        self
    }

    /// Adds requests that are for no agent. Without any, agents that were held out stand for them.
    pub fn out_of_scope<S: Into<String>>(mut self, requests: impl IntoIterator<Item = S>) -> Self {
        self.out_of_scope.extend(requests.into_iter().map(Into::into));
        self
    }

    /// Decides by these thresholds.
    pub fn thresholds(self, thresholds: RouteThresholds) -> Self {
        self.domain_thresholds("", thresholds)
    }

    /// Decides by these thresholds in a domain and those within it: `support/returns`.
    pub fn domain_thresholds(mut self, domain: impl Into<String>, thresholds: RouteThresholds) -> Self {
        self.thresholds.insert(domain.into(), thresholds);
        self
    }

    /// The router: learns from all cards, by words.
    ///
    /// # Errors
    ///
    /// [`InvalidValue`] for two agents of one name, a card with neither description nor examples, a blank trigger, and thresholds that
    /// are not within 0 and 1.
    pub fn build(self) -> Result<HierarchicalRouter, InvalidValue> {
        self.ensure_valid()?;
        self.train(None)
    }

    /// The router of words and vectors: embeds descriptions and examples, each text once, and learns from both. It learns on a thread
    /// for blocking work.
    ///
    /// # Errors
    ///
    /// [`HybridError`]: as [`build`](Self::build), or when the model fails.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives up the work; a thread that learns ends by itself.
    pub async fn build_with(self, stage: EmbeddingStage, cx: &RunContext) -> Result<HybridRouter, HybridError> {
        self.ensure_valid()?;
        let texts: Vec<String> =
            self.cards.iter().map(labelled).flat_map(|agent| agent.texts().collect::<Vec<_>>()).collect();
        let texts: Vec<&str> = texts.iter().chain(&self.out_of_scope).map(String::as_str).collect();
        let vectors = stage.learn(&texts, cx).await?;
        let trained = spawn_blocking(move || self.train(Some(&vectors))).await;
        Ok(HybridRouter::new(trained.map_err(|_| HybridError::Stopped)??, stage))
    }

    fn ensure_valid(&self) -> Result<(), InvalidValue> {
        let mut names = BTreeSet::new();
        for card in &self.cards {
            card.ensure_valid()?;
            if !names.insert(&card.name) {
                return Err(InvalidValue::new("card", &card.name, "a name that no other agent has"));
            }
        }
        self.thresholds.values().try_for_each(ensure_valid)
    }

    fn train(self, vectors: Option<&Vectors>) -> Result<HierarchicalRouter, InvalidValue> {
        let Self { cards, out_of_scope, thresholds } = self;
        let agents: Vec<Labelled> = cards.iter().map(labelled).collect();
        let classifier = Classifier::train(&agents, &out_of_scope, vectors);
        let digest = extended("", &(&cards, &out_of_scope));
        let digest = vectors.map_or_else(|| digest.clone(), |vectors| extended(&digest, &vectors.embedder));
        let mut known = Known { digest, classifier, cards: Vec::new(), classes: FxHashMap::default(), thresholds };
        known.place(cards)?;
        Ok(HierarchicalRouter { known: Arc::new(RwLock::new(known)) })
    }
}

impl HierarchicalRouter {
    /// Begins a router without agents.
    pub fn builder() -> RouterBuilder {
        RouterBuilder::default()
    }

    /// Decides which agent a message is for, on behalf of this caller. It does nothing else: `explain` is the same.
    #[must_use]
    pub fn decide(&self, message: &str, caller: &Caller) -> RouteDecision {
        self.read().decide(read_part(message), &Embedded::default(), caller)
    }

    /// Learns which agent should have got a message; `None` is for nobody. It counts for all callers from then on.
    ///
    /// # Errors
    ///
    /// [`InvalidValue`] when there is no such agent.
    pub fn learn(&self, message: &str, right: Option<&str>) -> Result<(), InvalidValue> {
        self.learn_with(message, right, &Vectors::default())
    }

    pub(super) fn learn_with(&self, message: &str, right: Option<&str>, vectors: &Vectors) -> Result<(), InvalidValue> {
        let mut known = self.write();
        let class = right.map(|name| known.class(name)).transpose()?;
        let message = read_part(message);
        known.classifier.learn(message, vectors.get(message), class);
        known.digest = extended(&known.digest, &("learn", message, right));
        Ok(())
    }

    /// Adds an agent, or puts it in the place of the one of this name, without learning anew from the others.
    ///
    /// # Errors
    ///
    /// As [`RouterBuilder::build`].
    pub fn add(&self, card: RouteCard) -> Result<(), InvalidValue> {
        self.add_with(card, &Vectors::default())
    }

    pub(super) fn add_with(&self, card: RouteCard, vectors: &Vectors) -> Result<(), InvalidValue> {
        card.ensure_valid()?;
        let entry = Entry::new(card)?;
        let card = entry.card.clone();
        let mut known = self.write();
        if let Some(class) = known.classes.remove(&card.name) {
            known.classifier.remove(class);
            known.clear(class);
        }
        let class = known.classifier.add(&labelled(&card), vectors);
        known.digest = extended(&known.digest, &("add", &*card));
        known.classes.insert(card.name.clone(), class);
        known.put(class, entry);
        Ok(())
    }

    /// Learns the thresholds of each domain from requests whose agents are known (`None` is for nobody): the lowest with which decisions
    /// are right as often as `precision` says. They take the place of those that were given, and are returned by domain. A domain with
    /// fewer than 30 requests has those of the domain around it; the outermost is `""`. A precision that is not reached makes the threshold 1.
    ///
    /// The requests are to be others than the examples of the cards, which the router knows too well.
    ///
    /// # Errors
    ///
    /// [`InvalidValue`] for an agent that there is not, and a precision that is not within 0 and 1. Nothing changes then.
    pub fn learn_thresholds<'a>(
        &self,
        labelled: impl IntoIterator<Item = (&'a str, Option<&'a str>)>,
        precision: RoutePrecision,
    ) -> Result<BTreeMap<String, RouteThresholds>, InvalidValue> {
        let nothing = Embedded::default();
        let judged = labelled.into_iter().map(|(message, agent)| self.judge(message, &nothing, agent));
        self.adopt(&judged.collect::<Result<Vec<_>, _>>()?, precision)
    }

    pub(super) fn judge(
        &self,
        message: &str,
        embedded: &Embedded,
        agent: Option<&str>,
    ) -> Result<Judged, InvalidValue> {
        let known = self.read();
        let class = agent.map(|name| known.class(name)).transpose()?;
        Ok(known.judge(read_part(message), embedded, class))
    }

    pub(super) fn adopt(
        &self,
        judged: &[Judged],
        precision: RoutePrecision,
    ) -> Result<BTreeMap<String, RouteThresholds>, InvalidValue> {
        precision.ensure_valid()?;
        let learnt = thresholds::learn(judged, precision);
        self.write().adopt(learnt.clone());
        Ok(learnt)
    }

    /// Sets the thresholds of a domain and those within it; of all with `""`.
    ///
    /// # Errors
    ///
    /// [`InvalidValue`] for thresholds that are not within 0 and 1.
    pub fn set_thresholds(&self, domain: &str, thresholds: RouteThresholds) -> Result<(), InvalidValue> {
        ensure_valid(&thresholds)?;
        self.write().adopt([(domain.to_owned(), thresholds)].into());
        Ok(())
    }

    /// Sets whether an agent is in use.
    ///
    /// # Errors
    ///
    /// [`InvalidValue`] when there is no such agent.
    pub fn set_state(&self, name: &str, state: LifeCycle) -> Result<(), InvalidValue> {
        let mut known = self.write();
        let class = known.class(name)?;
        if let Some(Some(of_class)) = known.cards.get_mut(class as usize) {
            of_class.card = Arc::new(RouteCard { state, ..(*of_class.card).clone() });
        }
        known.digest = extended(&known.digest, &("state", name, state));
        Ok(())
    }

    /// Removes an agent. `false` when there is no such one.
    pub fn remove(&self, name: &str) -> bool {
        let mut known = self.write();
        let Some(class) = known.classes.remove(name) else { return false };
        known.classifier.remove(class);
        known.clear(class);
        known.digest = extended(&known.digest, &("remove", name));
        true
    }

    /// The card of an agent.
    #[must_use]
    pub fn card(&self, name: &str) -> Option<Arc<RouteCard>> {
        let known = self.read();
        let class = known.classes.get(name)?;
        Some(known.card(*class)?.card.clone())
    }

    /// Everything that it knows, to be kept.
    #[must_use]
    pub fn snapshot(&self) -> RouterSnapshot {
        let known = self.read();
        let cards = known.cards.iter().flatten().map(|of_class| (*of_class.card).clone()).collect();
        let (digest, thresholds) = (known.digest.clone(), known.thresholds.clone());
        RouterSnapshot { format: FORMAT, digest, cards, thresholds, classifier: known.classifier.clone() }
    }

    /// The router that a snapshot was taken of. Of one of words and vectors, it is the words' part.
    ///
    /// # Errors
    ///
    /// [`SnapshotError`].
    pub fn load(snapshot: RouterSnapshot) -> Result<Self, SnapshotError> {
        let classifier = snapshot.classifier.without_vectors();
        Self::load_all(RouterSnapshot { classifier, ..snapshot })
    }

    pub(super) fn load_all(snapshot: RouterSnapshot) -> Result<Self, SnapshotError> {
        let RouterSnapshot { format, digest, cards, thresholds, classifier } = snapshot;
        if format != FORMAT {
            return Err(SnapshotError::Format { found: format });
        }
        let mut known = Known { digest, classifier, cards: Vec::new(), classes: FxHashMap::default(), thresholds };
        known.place(cards).map_err(|error| SnapshotError::Inconsistent { name: error.to_string() })?;
        Ok(Self { known: Arc::new(RwLock::new(known)) })
    }

    pub(super) fn read(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Known> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Router for HierarchicalRouter {
    async fn route(&self, request: RouteRequest<'_>, cx: &RunContext) -> RouteDecision {
        self.read().route(read_part(request.message), &Embedded::default(), &request, cx.caller())
    }

    fn may_use(&self, agent: &str, caller: &Caller) -> bool {
        self.card(agent).is_none_or(|card| card.is_for(caller))
    }
}

fn ensure_valid(thresholds: &RouteThresholds) -> Result<(), InvalidValue> {
    let RouteThresholds { route, out_of_scope, dispatch, .. } = thresholds;
    for (field, value) in [("route", route), ("out_of_scope", out_of_scope), ("dispatch", dispatch)] {
        if !(0.0..=1.0).contains(value) {
            return Err(InvalidValue::new(format!("thresholds.{field}"), value, "0 to 1"));
        }
    }
    Ok(())
}

impl fmt::Debug for HierarchicalRouter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = self.read();
        f.debug_struct("HierarchicalRouter")
            .field("agents", &known.classes.len())
            .field("digest", &known.digest)
            .finish_non_exhaustive()
    }
}

pub(super) fn labelled(card: &RouteCard) -> Labelled {
    let described = std::iter::once(card.description.clone()).chain(card.tools.iter().cloned()).collect();
    Labelled {
        name: card.name.to_string(),
        domain: card.domain.join("/"),
        described,
        examples: card.examples.iter().map(|example| read_part(example).to_owned()).collect(),
    }
}

/// As much of a message as is read.
pub(super) fn read_part(message: &str) -> &str {
    message.get(..message.floor_char_boundary(MOST_READ)).unwrap_or(message)
}
