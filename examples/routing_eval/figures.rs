//! What answers are worth.

use std::fmt::Write;

/// What a router said to one request.
pub(crate) struct Answer {
    pub(crate) is_in_scope: bool,
    /// The place of the right agent, from zero.
    pub(crate) rank: Option<usize>,
    pub(crate) is_domain_right: bool,
    /// How probable the best agent is.
    pub(crate) right: f64,
    pub(crate) out_of_scope: f64,
    /// Whether it was routed without a question.
    pub(crate) is_clear: bool,
}

/// Figures in per cent, but AUROC and ECE, which are shares.
#[derive(Clone, Copy)]
pub(crate) struct Figures([f64; 9]);

const NAMES: [&str; 9] = [
    "accuracy (top-1)",
    "top-5",
    "domain accuracy",
    "right and accepted",
    "out-of-scope recall",
    "joint",
    "AUROC",
    "ECE",
    "routed without a question",
];

const BINS: usize = 15;

impl Figures {
    pub(crate) fn of(answers: &[Answer]) -> Self {
        let share = |of: &dyn Fn(&&Answer) -> bool, among: &dyn Fn(&&Answer) -> bool| {
            let among: Vec<&Answer> = answers.iter().filter(|answer| among(answer)).collect();
            100.0 * among.iter().filter(|answer| of(answer)).count() as f64 / among.len() as f64
        };
        let inside = |answer: &&Answer| answer.is_in_scope;
        let outside = |answer: &&Answer| !answer.is_in_scope;
        let is_accepted = |answer: &Answer| answer.right > answer.out_of_scope;
        let accepted = share(&|answer| answer.rank == Some(0) && is_accepted(answer), &inside);
        let rejected = share(&|answer| !is_accepted(answer), &outside);
        let mut bins = [(0.0, 0.0); BINS];
        for answer in answers {
            let confidence = answer.right.max(answer.out_of_scope);
            let is_right = if is_accepted(answer) { answer.rank == Some(0) } else { !answer.is_in_scope };
            let bin = &mut bins[((confidence * BINS as f64) as usize).min(BINS - 1)];
            *bin = (bin.0 + confidence, bin.1 + f64::from(is_right));
        }
        let ece = bins.iter().map(|(confidence, right)| (confidence - right).abs()).sum::<f64>() / answers.len() as f64;
        Self([
            share(&|answer| answer.rank == Some(0), &inside),
            share(&|answer| answer.rank.is_some_and(|rank| rank < 5), &inside),
            share(&|answer| answer.is_domain_right, &inside),
            accepted,
            rejected,
            (9.0 * accepted + 2.0 * rejected) / 11.0,
            auroc(answers),
            ece,
            share(&|answer| answer.is_clear, &|_| true),
        ])
    }

    /// Means with their spread over seeds.
    pub(crate) fn table(all: &[Self]) -> String {
        let mut table = String::new();
        for (place, name) in NAMES.iter().enumerate() {
            let values: Vec<f64> = all.iter().map(|figures| figures.0[place]).collect();
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            if mean.is_nan() {
                continue;
            }
            let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / values.len() as f64;
            let digits = if matches!(*name, "AUROC" | "ECE") { 3 } else { 1 };
            let spread = if all.len() > 1 { format!(" +- {:.digits$}", variance.sqrt()) } else { String::new() };
            let _ = writeln!(table, "{name:26} {mean:6.digits$}{spread}");
        }
        table
    }
}

/// How often a request that is out of scope looks more like it than one that is not.
fn auroc(answers: &[Answer]) -> f64 {
    let mut order: Vec<(f64, bool)> = answers.iter().map(|answer| (answer.out_of_scope, answer.is_in_scope)).collect();
    order.sort_by(|one, other| one.0.total_cmp(&other.0));
    let (mut below, mut wins) = (0.0, 0.0);
    for (_, is_in_scope) in &order {
        if *is_in_scope { below += 1.0 } else { wins += below }
    }
    let inside = order.iter().filter(|(_, is_in_scope)| *is_in_scope).count();
    wins / (inside * (order.len() - inside)) as f64
}
