//! From scores to probabilities: two logistic models fitted on held-out decisions.

use serde::{Deserialize, Serialize};

/// Number of values in [`Evidence`].
pub(super) const EVIDENCE: usize = 8;

/// What the scores say about a decision: best score, lead over the next, score of being out of scope, known share; of words, length of
/// the known part, score and lead of the domain, logarithm of the number of known n-grams; of words and vectors, cosine to the nearest
/// vector of the best agent, its lead over the next one's, score and lead of the domain.
pub(super) type Evidence = [f32; EVIDENCE];

/// The truth about a held-out decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Truth {
    /// The best candidate is the right one.
    Right,
    /// Another candidate is.
    Wrong,
    /// No agent should get the request.
    OutOfScope,
}

/// Probabilities of the outcomes of a decision; what is missing to 1 is "in scope, but the
/// best candidate is wrong".
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::routing) struct Probabilities {
    /// That the best candidate is right.
    pub(in crate::routing) right: f64,
    /// That the request is out of scope.
    pub(in crate::routing) out_of_scope: f64,
}

/// Share of requests taken to be out of scope.
const OUT_OF_SCOPE: f64 = 2.0 / 11.0;

/// Pull of the coefficients towards zero, per unit of weight in the data.
const RIDGE: f64 = 3.0;

/// Fewer held-out decisions than this are not worth a fit.
const FEWEST: usize = 40;

/// P(out of scope) and P(right, given in scope), each logistic in the standardised evidence.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Calibration {
    mean: Evidence,
    scale: Evidence,
    out_of_scope: Vec<f64>,
    right: Vec<f64>,
}

impl Calibration {
    /// For words of descriptions alone, where nothing can be held out: by the best score and its lead, fitted on one half of MetaTool's
    /// queries.
    pub(super) fn of_words() -> Self {
        Self::given([(0, 2.3), (1, 5.0), (EVIDENCE, -2.7)], [(0, -8.0), (EVIDENCE, 3.2)])
    }

    /// For words and vectors of descriptions alone: by the lead and the cosine to the nearest vector, fitted on one half of MetaTool's
    /// queries, with CLINC150's requests that are out of scope as those that no tool is for.
    ///
    /// `weight` is what the vectors weigh beside the words, 2 for descriptions alone: scores are as much farther apart.
    pub(super) fn of_vectors(weight: f32) -> Self {
        Self::given([(1, 8.2 / f64::from(weight)), (4, 2.3), (EVIDENCE, -1.7)], [(4, -13.6), (EVIDENCE, 3.2)])
    }

    fn given<const N: usize, const M: usize>(right: [(usize, f64); N], out_of_scope: [(usize, f64); M]) -> Self {
        let weights = |given: &[(usize, f64)]| {
            let mut weights = vec![0.0; EVIDENCE + 1];
            given.iter().for_each(|(place, weight)| weights[*place] = *weight);
            weights
        };
        let (out_of_scope, right) = (weights(&out_of_scope), weights(&right));
        Self { mean: [0.0; EVIDENCE], scale: [1.0; EVIDENCE], out_of_scope, right }
    }

    /// Fits held-out decisions; `None` when they are too few.
    pub(super) fn fit(rows: &[(Evidence, Truth)]) -> Option<Self> {
        let outside = rows.iter().filter(|row| row.1 == Truth::OutOfScope).count();
        let inside = rows.len() - outside;
        if inside < FEWEST {
            return None;
        }
        let mut fitted = Self::standardise(rows);
        let inputs: Vec<Vec<f64>> = rows.iter().map(|row| fitted.input(&row.0)).collect();
        let select = |weigh: &dyn Fn(Truth) -> f64, event: Truth| -> Vec<f64> {
            let samples =
                inputs.iter().zip(rows).map(|(x, row)| Sample { x, weight: weigh(row.1), event: row.1 == event });
            logistic(&samples.collect::<Vec<_>>())
        };
        fitted.right = select(&|truth| if truth == Truth::OutOfScope { 0.0 } else { 1.0 }, Truth::Right);
        let odds = OUT_OF_SCOPE / (1.0 - OUT_OF_SCOPE) * inside as f64 / outside.max(1) as f64;
        fitted.out_of_scope = select(&|truth| if truth == Truth::OutOfScope { odds } else { 1.0 }, Truth::OutOfScope);
        Some(fitted)
    }

    /// The probabilities of a decision with this evidence.
    pub(super) fn probabilities(&self, evidence: &Evidence) -> Probabilities {
        let input = self.input(evidence);
        let out_of_scope = sigmoid(dot(&self.out_of_scope, &input));
        Probabilities { right: (1.0 - out_of_scope) * sigmoid(dot(&self.right, &input)), out_of_scope }
    }

    fn standardise(rows: &[(Evidence, Truth)]) -> Self {
        let count = rows.len() as f32;
        let mean: Evidence = std::array::from_fn(|j| rows.iter().map(|row| row.0[j]).sum::<f32>() / count);
        let scale = std::array::from_fn(|j| {
            let variance = rows.iter().map(|row| (row.0[j] - mean[j]).powi(2)).sum::<f32>() / count;
            variance.sqrt().max(1e-6)
        });
        Self { mean, scale, out_of_scope: Vec::new(), right: Vec::new() }
    }

    fn input(&self, evidence: &Evidence) -> Vec<f64> {
        let scaled = (0..EVIDENCE).map(|j| f64::from((evidence[j] - self.mean[j]) / self.scale[j]));
        scaled.map(|value| value.clamp(-8.0, 8.0)).chain([1.0]).collect()
    }
}

struct Sample<'a> {
    x: &'a [f64],
    weight: f64,
    event: bool,
}

/// Logistic regression by Newton's method with a ridge.
fn logistic(samples: &[Sample<'_>]) -> Vec<f64> {
    const SIZE: usize = EVIDENCE + 1;
    let mut weights = vec![0.0; SIZE];
    for _ in 0..20 {
        let mut gradient = [0.0; SIZE];
        let mut hessian = [[0.0; SIZE]; SIZE];
        for i in 0..SIZE {
            gradient[i] = RIDGE * weights[i];
            hessian[i][i] = RIDGE;
        }
        for Sample { x, weight, event } in samples {
            let p = sigmoid(dot(&weights, x));
            let error = weight * (p - f64::from(u8::from(*event)));
            let curvature = weight * (p * (1.0 - p)).max(1e-6);
            for i in 0..SIZE {
                gradient[i] += error * x[i];
                for j in 0..SIZE {
                    hessian[i][j] += curvature * x[i] * x[j];
                }
            }
        }
        let step = solve(hessian, gradient);
        weights.iter_mut().zip(step).for_each(|(weight, step)| *weight -= step.clamp(-3.0, 3.0));
    }
    weights
}

/// Solves a symmetric positive definite system by elimination.
fn solve<const N: usize>(mut matrix: [[f64; N]; N], mut right: [f64; N]) -> [f64; N] {
    for i in 0..N {
        let pivot = matrix[i];
        for j in i + 1..N {
            let factor = matrix[j][i] / pivot[i];
            for k in i..N {
                matrix[j][k] -= factor * pivot[k];
            }
            right[j] -= factor * right[i];
        }
    }
    for i in (0..N).rev() {
        let rest: f64 = (i + 1..N).map(|k| matrix[i][k] * right[k]).sum();
        right[i] = (right[i] - rest) / matrix[i][i];
    }
    right
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}
