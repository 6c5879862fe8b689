//! What an embedding model says of each class: a linear row over vectors, and where the vectors themselves lie.

use serde::{Deserialize, Serialize};

use super::linear::{self, Penalties};
use super::model::{Corpus, OUT_OF_SCOPE};
use super::packed::Packed;
use super::vocabulary::Vector;

/// What errors weigh in training.
const PENALTIES: Penalties = Penalties { positive: 6.0, negative: 1.0, passes: 20 };

/// How many groups of vectors are kept of all agents, and of all domains, about.
const MOST_GROUPS: usize = 8_192;

/// And of one.
const MOST_OF_ONE: usize = 32;

/// Passes over an agent's vectors to find its groups.
const GROUPING: usize = 6;

/// Vectors that a new row is trained against.
const COUNTEREXAMPLES: usize = 256;

/// What a row scores a vector that it claims.
const CLAIM: f32 = 0.8;

/// Share of the way to its target that a row goes in one correction.
const RATE: f32 = 0.5;

/// What a class scores that no vector was seen of: as one that a request is no example of.
const UNSEEN: Likeness = Likeness { row: -1.0, nearest: 0.0 };

/// How like a class a vector is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Likeness {
    /// The score of the linear row: 1 for an example of the class, -1 for one of another.
    pub(super) row: f32,
    /// The cosine to the nearest vector of the class, or group of vectors.
    pub(super) nearest: f32,
}

/// Rows and vectors by class, numbered as the lexical rows are.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Dense {
    classes: Vec<Option<Place>>,
}

/// Where a class lies.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Place {
    row: Packed<f32>,
    bias: f32,
    /// Its vectors one after the other, or the centers of groups of them; of what is out of scope, those that were refused.
    groups: Packed<f32>,
}

/// A vector of length 1 with its agent's number, or `None` for out of scope.
pub(super) type Embedded<'a> = (&'a [f32], Option<usize>);

impl Dense {
    pub(super) fn train(corpus: &Corpus<'_>, samples: &[Embedded<'_>]) -> Self {
        let domains = corpus.domains.len();
        let mut dense = Self { classes: vec![None; 1 + domains + corpus.agents.len()] };
        let vectors: Vec<Vector> = samples.iter().map(|(values, _)| vector(values)).collect();
        let domain_of = |agent: Option<usize>| agent.and_then(|agent| corpus.agents.get(agent)).map(|agent| agent.1);
        for (values, agent) in samples {
            let of_agent = agent.map_or(OUT_OF_SCOPE, |agent| (agent + 1 + domains) as u32);
            let of_domain = domain_of(*agent).map(|domain| domain as u32 + 1);
            for class in [Some(of_agent), of_domain].into_iter().flatten() {
                dense.place(class, values.len());
            }
        }
        let outside = samples.iter().any(|(_, agent)| agent.is_none());
        let examples: Vec<linear::Example<'_>> = vectors
            .iter()
            .zip(samples)
            .map(|(vector, (_, agent))| (vector, Some(domain_of(*agent).unwrap_or(domains))))
            .collect();
        linear::train(&examples, domains + usize::from(outside), PENALTIES, |dimension, row, weight| {
            let class = if row == domains { OUT_OF_SCOPE } else { row as u32 + 1 };
            dense.set(class, dimension, weight);
        });
        dense.group(corpus, samples);
        let mut members: Vec<Vec<usize>> = vec![Vec::new(); domains];
        let mut places = Vec::with_capacity(corpus.agents.len());
        for (number, (_, domain, _)) in corpus.agents.iter().enumerate() {
            places.push(members[*domain].len());
            members[*domain].push(number);
        }
        for (domain, members) in members.iter().enumerate() {
            let own = vectors.iter().zip(samples).filter(|(_, (_, agent))| domain_of(*agent) == Some(domain));
            let examples: Vec<linear::Example<'_>> =
                own.map(|(vector, (_, agent))| (vector, agent.map(|agent| places[agent]))).collect();
            linear::train(&examples, members.len(), PENALTIES, |dimension, row, weight| {
                dense.set((members[row] + 1 + domains) as u32, dimension, weight);
            });
        }
        dense
    }

    /// How many values a vector has, if any was seen.
    pub(super) fn dimensions(&self) -> Option<usize> {
        self.classes.iter().flatten().next().map(|place| place.row.0.len())
    }

    /// How like a class a vector of length 1 is.
    pub(super) fn likeness(&self, values: &[f32], class: u32) -> Likeness {
        let Some(Some(place)) = self.classes.get(class as usize) else { return UNSEEN };
        let cosines = place.groups.0.chunks_exact(values.len().max(1)).map(|group| dot(group, values));
        Likeness { row: dot(&place.row.0, values) + place.bias, nearest: cosines.fold(0.0, f32::max) }
    }

    /// Keeps where the vectors of each class lie.
    fn group(&mut self, corpus: &Corpus<'_>, samples: &[Embedded<'_>]) {
        let domains = corpus.domains.len();
        let mut own: Vec<Vec<&[f32]>> = vec![Vec::new(); self.classes.len()];
        for (values, agent) in samples {
            if let Some((agent, domain)) = agent.and_then(|agent| Some((agent, corpus.agents.get(agent)?.1))) {
                own[domain + 1].push(values);
                own[agent + 1 + domains].push(values);
            }
        }
        for ((place, vectors), class) in self.classes.iter_mut().zip(own).zip(0..) {
            let many = if class <= domains { domains } else { corpus.agents.len() };
            if let Some(place) = place {
                place.groups = Packed(groups(&vectors, (MOST_GROUPS / many.max(1)).clamp(1, MOST_OF_ONE)));
            }
        }
    }

    /// Learns that a vector is one of an agent, and of a domain: it is kept with theirs. Their rows stay: what they claim, they claim
    /// of others' requests as well.
    pub(super) fn correct(&mut self, values: &[f32], agent: u32, domain: Option<u32>) {
        for class in [Some(agent), domain].into_iter().flatten() {
            self.place(class, values.len()).gather(values);
        }
    }

    /// Learns that a vector is one of no agent: it is kept, and the row of what is out of scope claims it.
    pub(super) fn refuse(&mut self, values: &[f32]) {
        self.claim(values, OUT_OF_SCOPE);
        self.place(OUT_OF_SCOPE, values.len()).gather(values);
    }

    /// Adds an agent: what its vectors claim against those of its neighbours, and its domain against the other domains.
    pub(super) fn insert(
        &mut self,
        vectors: &[&[f32]],
        (agent, neighbours): (u32, &[u32]),
        (domain, domains): (u32, &[u32]),
    ) {
        let Some(dimensions) = vectors.first().map(|first| first.len()) else { return };
        if !self.classes.get(domain as usize).is_some_and(Option::is_some) {
            self.fit(vectors, domain, domains);
        }
        self.fit(vectors, agent, neighbours);
        self.place(agent, dimensions).groups = Packed(groups(vectors, MOST_OF_ONE));
        for vector in vectors {
            self.claim(vector, domain);
            self.place(domain, dimensions).gather(vector);
        }
    }

    /// Removes what is known of a class.
    pub(super) fn remove(&mut self, class: u32) {
        if let Some(place) = self.classes.get_mut(class as usize) {
            *place = None;
        }
    }
    fn place(&mut self, class: u32, dimensions: usize) -> &mut Place {
        let at = class as usize;
        if self.classes.len() <= at {
            self.classes.resize(at + 1, None);
        }
        self.classes[at].get_or_insert_with(|| Place {
            row: Packed(vec![0.0; dimensions]),
            bias: 0.0,
            groups: Packed(Vec::new()),
        })
    }

    /// Trains the row of a class against what is kept of others.
    fn fit(&mut self, positives: &[&[f32]], class: u32, others: &[u32]) {
        let Some(dimensions) = positives.first().map(|first| first.len()) else { return };
        let kept = others.iter().filter_map(|other| self.classes.get(*other as usize)?.as_ref());
        let kept: Vec<&[f32]> = kept.flat_map(|place| place.groups.0.chunks_exact(dimensions)).collect();
        let stride = kept.len().div_ceil(COUNTEREXAMPLES).max(1);
        let negatives = kept.into_iter().step_by(stride).map(|values| (vector(values), None));
        let examples: Vec<(Vector, Option<usize>)> =
            positives.iter().map(|values| (vector(values), Some(0))).chain(negatives).collect();
        let examples: Vec<linear::Example<'_>> = examples.iter().map(|(vector, label)| (vector, *label)).collect();
        self.place(class, dimensions);
        linear::train(&examples, 1, PENALTIES, |dimension, _, weight| self.set(class, dimension, weight));
    }

    /// Moves the row of a class half of the way to claiming a vector.
    fn claim(&mut self, values: &[f32], class: u32) {
        let place = self.place(class, values.len());
        let missing = CLAIM - dot(&place.row.0, values) - place.bias;
        if missing > 0.0 {
            place.row.0.iter_mut().zip(values).for_each(|(weight, value)| *weight += RATE * missing * value);
        }
    }

    /// Sets a weight of a class of which vectors were seen.
    fn set(&mut self, class: u32, dimension: u32, weight: f32) {
        let Some(Some(place)) = self.classes.get_mut(class as usize) else { return };
        match place.row.0.get_mut(dimension as usize) {
            Some(value) => *value = weight,
            None => place.bias = weight,
        }
    }
}

impl Place {
    /// Keeps a vector: by itself as long as there is room, else as one of the nearest group.
    fn gather(&mut self, values: &[f32]) {
        let groups = &mut self.groups.0;
        if groups.len() < MOST_OF_ONE * values.len() {
            groups.extend_from_slice(values);
            return;
        }
        let nearest =
            groups.chunks_exact_mut(values.len()).max_by(|one, other| dot(one, values).total_cmp(&dot(other, values)));
        if let Some(group) = nearest {
            group.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
            let length = dot(group, group).sqrt();
            group.iter_mut().for_each(|sum| *sum /= length.max(f32::MIN_POSITIVE));
        }
    }
}

fn vector(values: &[f32]) -> Vector {
    // The last term is the bias.
    Vector { terms: (0..).zip(values.iter().copied().chain([1.0])).collect(), known: 1.0 }
}

/// The vectors themselves if they are few, else the centers of so many groups: spherical k-means, begun with the vectors that lie
/// farthest from those before.
fn groups(vectors: &[&[f32]], most: usize) -> Vec<f32> {
    if vectors.len() <= most {
        return vectors.concat();
    }
    let mut nearest = vec![f32::MIN; vectors.len()];
    let mut centers: Vec<Vec<f32>> = Vec::with_capacity(most);
    let mut next = 0;
    while centers.len() < most {
        centers.push(vectors[next].to_vec());
        for (nearest, vector) in nearest.iter_mut().zip(vectors) {
            *nearest = nearest.max(dot(vector, vectors[next]));
        }
        next = (0..vectors.len()).min_by(|one, other| nearest[*one].total_cmp(&nearest[*other])).unwrap_or(0);
    }
    for _ in 0..GROUPING {
        let mut sums = vec![vec![0.0; vectors[0].len()]; most];
        for vector in vectors {
            let cosine = |center: &usize| dot(&centers[*center], vector);
            let own = (0..most).max_by(|one, other| cosine(one).total_cmp(&cosine(other))).unwrap_or(0);
            sums[own].iter_mut().zip(*vector).for_each(|(sum, value)| *sum += value);
        }
        for (center, sum) in centers.iter_mut().zip(sums) {
            let length = dot(&sum, &sum).sqrt();
            if length > 0.0 {
                *center = sum.into_iter().map(|value| value / length).collect();
            }
        }
    }
    centers.concat()
}

/// In lanes, so that the compiler can use them.
fn dot(one: &[f32], other: &[f32]) -> f32 {
    const LANES: usize = 16;
    let (ones, rest) = one.as_chunks::<LANES>();
    let (others, other_rest) = other.as_chunks::<LANES>();
    let mut lanes = [0.0; LANES];
    for (one, other) in ones.iter().zip(others) {
        for (lane, (one, other)) in lanes.iter_mut().zip(one.iter().zip(other)) {
            *lane += one * other;
        }
    }
    lanes.iter().sum::<f32>() + rest.iter().zip(other_rest).map(|(one, other)| one * other).sum::<f32>()
}
