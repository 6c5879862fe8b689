//! What a router decided, and why.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What a router decided about a request, with everything that led to it. It names no agent that the caller may not use.
///
/// `Display` writes it as a tree, serde as JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RouteDecision {
    /// What follows.
    pub outcome: RouteOutcome,
    /// The agents that came into question, best first: at most ten.
    pub candidates: Vec<RouteCandidate>,
    /// That no agent is right, from 0 to 1.
    pub out_of_scope: f64,
    /// What the stages did, in order.
    pub stages: Vec<StageTrace>,
    /// Why a model should look at the request though it is probable whom it is for, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub doubts: Vec<String>,
    /// What decided over the best one.
    pub thresholds: RouteThresholds,
    /// How many agents the caller may use.
    pub visible: usize,
    /// What the router knew: the digest of its snapshot.
    pub snapshot: Arc<str>,
}

/// What follows from a decision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum RouteOutcome {
    /// It is for this agent; or for these, each for a part of the request.
    Route {
        /// The agents, in the order of the parts.
        agents: Vec<Routed>,
    },
    /// It may be for one of these.
    Ambiguous {
        /// The agents, best first.
        agents: Vec<Routed>,
        /// What tells them apart, to ask the user.
        question: String,
    },
    /// It is for none.
    OutOfScope,
}

/// An agent that a request, or a part of it, is for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Routed {
    /// The agent.
    pub agent: Arc<str>,
    /// How probable it is that this is right, from 0 to 1.
    pub probability: f64,
    /// The part of the request, where it has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<String>,
    /// The agent's input, where the request says all of it. An agent whose input is one text needs none: it gets the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Value>,
}

/// An agent that came into question.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct RouteCandidate {
    /// The agent.
    pub agent: Arc<str>,
    /// Its domain: `support/returns`.
    pub domain: Arc<str>,
    /// How probable it is that this is right, from 0 to 1.
    pub probability: f64,
    /// What each stage gave it. Scores of different stages cannot be compared.
    pub scores: BTreeMap<RouteStage, f32>,
}

/// A step of a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RouteStage {
    /// Triggers of cards.
    Rules,
    /// Words and letters.
    Lexical,
    /// Vectors of an embedding model.
    Embedding,
    /// A model that was asked.
    Model,
}

/// What a stage did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct StageTrace {
    /// Which.
    pub stage: RouteStage,
    /// What came of it, in words.
    pub result: String,
}

/// What probabilities decide.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[non_exhaustive]
pub struct RouteThresholds {
    /// From which probability on the best agent gets the request.
    pub route: f64,
    /// From which probability of being out of scope on nobody does.
    pub out_of_scope: f64,
    /// From which probability on the agent gets it without a model being asked.
    pub dispatch: f64,
}

impl Default for RouteThresholds {
    fn default() -> Self {
        Self { route: 0.5, out_of_scope: 0.5, dispatch: 0.8 }
    }
}

impl RouteOutcome {
    /// A short name of the kind.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Route { .. } => "route",
            Self::Ambiguous { .. } => "ambiguous",
            Self::OutOfScope => "out_of_scope",
        }
    }
}

impl RouteDecision {
    /// A decision with this outcome, and nothing else said about it.
    #[must_use]
    pub fn new(outcome: RouteOutcome, snapshot: Arc<str>) -> Self {
        Self {
            outcome,
            candidates: Vec::new(),
            out_of_scope: 0.0,
            stages: Vec::new(),
            doubts: Vec::new(),
            thresholds: RouteThresholds::default(),
            visible: 0,
            snapshot,
        }
    }

    /// The agents that get the request without a model being asked, each with its part: all of them are sure enough, and there is no
    /// [doubt](Self::doubts).
    #[must_use]
    pub fn clear(&self) -> &[Routed] {
        match &self.outcome {
            RouteOutcome::Route { agents } if self.doubts.is_empty() && agents.iter().all(|it| self.is_clear(it)) => {
                agents
            }
            _ => &[],
        }
    }

    /// The agents that the outcome names, best first.
    pub fn agents(&self) -> impl Iterator<Item = &Routed> {
        let agents = match &self.outcome {
            RouteOutcome::Route { agents } | RouteOutcome::Ambiguous { agents, .. } => &agents[..],
            RouteOutcome::OutOfScope => &[],
        };
        agents.iter()
    }

    fn is_clear(&self, routed: &Routed) -> bool {
        routed.probability >= self.thresholds.dispatch
    }

    /// The agent that gets the request, if it is one.
    #[must_use]
    pub fn agent(&self) -> Option<&Arc<str>> {
        match &self.outcome {
            RouteOutcome::Route { agents } => match &agents[..] {
                [one] => Some(&one.agent),
                _ => None,
            },
            _ => None,
        }
    }
}

impl Routed {
    /// This agent, for the whole request.
    #[must_use]
    pub fn new(agent: Arc<str>, probability: f64) -> Self {
        Self { agent, probability, part: None, input: None }
    }

    /// The same for this part of the request.
    #[must_use]
    pub fn with_part(mut self, part: impl Into<String>) -> Self {
        self.part = Some(part.into());
        self
    }
}

impl RouteCandidate {
    /// This agent of this domain, which no stage scored yet.
    pub fn new(agent: Arc<str>, domain: impl Into<Arc<str>>, probability: f64) -> Self {
        Self { agent, domain: domain.into(), probability, scores: BTreeMap::new() }
    }
}

impl StageTrace {
    /// What came of this stage, in words.
    pub fn new(stage: RouteStage, result: impl Into<String>) -> Self {
        Self { stage, result: result.into() }
    }
}

impl fmt::Display for RouteOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |agents: &[Routed]| {
            let names = agents.iter().map(|routed| format!("{} ({:.2})", routed.agent, routed.probability));
            names.collect::<Vec<_>>().join(", ")
        };
        match self {
            Self::Route { agents } => write!(f, "route to {}", names(agents)),
            Self::Ambiguous { agents, question } => write!(f, "ambiguous: {}: {question}", names(agents)),
            Self::OutOfScope => write!(f, "out of scope"),
        }
    }
}

impl fmt::Display for RouteDecision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.outcome)?;
        let RouteThresholds { route, out_of_scope, dispatch } = self.thresholds;
        writeln!(
            f,
            "  snapshot {}, {} agents visible",
            self.snapshot.get(..12).unwrap_or(&self.snapshot),
            self.visible
        )?;
        let own = self.out_of_scope;
        writeln!(
            f,
            "  routes from {route:.2}, at once from {dispatch:.2}, out of scope ({own:.2}) from {out_of_scope:.2}"
        )?;
        for StageTrace { stage, result } in &self.stages {
            writeln!(f, "  {stage}: {result}")?;
        }
        for doubt in &self.doubts {
            writeln!(f, "  a model should look at it: {doubt}")?;
        }
        let mut domains: Vec<&str> = Vec::new();
        for candidate in &self.candidates {
            if !domains.contains(&&*candidate.domain) {
                domains.push(&candidate.domain);
            }
        }
        for domain in domains {
            writeln!(f, "  {}", if domain.is_empty() { "(no domain)" } else { domain })?;
            for candidate in self.candidates.iter().filter(|candidate| *candidate.domain == *domain) {
                let scores = candidate.scores.iter().map(|(stage, score)| format!("{stage} {score:.2}"));
                let scores = scores.collect::<Vec<_>>().join(", ");
                writeln!(f, "    {:24} {:.3}  {scores}", candidate.agent, candidate.probability)?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for RouteStage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rules => "rules",
            Self::Lexical => "lexical",
            Self::Embedding => "embedding",
            Self::Model => "model",
        })
    }
}
