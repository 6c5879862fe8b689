//! What came of the requests, as tables.

use std::collections::BTreeMap;
use std::time::Duration;

use super::load::{End, Load, PHASES, PRIMARY, Ran, SECONDARY};

/// What came of all requests together.
pub(crate) struct Sum {
    pub(crate) requests: usize,
    pub(crate) failed: usize,
    pub(crate) wrong: usize,
    pub(crate) untyped: usize,
    /// Attempts that failed after something of them was to be read.
    pub(crate) cut: usize,
    pub(crate) calls: [u64; 2],
}

impl Sum {
    pub(crate) fn of<'a>(ran: impl IntoIterator<Item = &'a Ran>) -> Self {
        let mut sum = Self { requests: 0, failed: 0, wrong: 0, untyped: 0, cut: 0, calls: [0; 2] };
        for ran in ran {
            sum.requests += 1;
            sum.cut += ran.cut;
            match &ran.end {
                End::Answered => {}
                End::Wrong(_) => sum.wrong += 1,
                End::Failed(_) => sum.failed += 1,
                End::Untyped(_) => {
                    sum.failed += 1;
                    sum.untyped += 1;
                }
            }
            sum.calls[0] += ran.calls(PRIMARY);
            sum.calls[1] += ran.calls(SECONDARY);
        }
        sum
    }
}

/// Percentiles of what requests took that were due in this time, in milliseconds: 50th, 99th, 100th.
pub(crate) fn percentiles(ran: &[Ran], from: Duration, to: Duration) -> [f64; 3] {
    percentiles_of(within(ran, from, to))
}

fn percentiles_of<'a>(ran: impl Iterator<Item = &'a Ran>) -> [f64; 3] {
    let mut took: Vec<f64> = ran.map(|ran| ran.took.as_secs_f64() * 1_000.0).collect();
    took.sort_by(f64::total_cmp);
    [50, 99, 100].map(|percent| match took.len() {
        0 => f64::NAN,
        count => took[(count * percent).div_ceil(100) - 1],
    })
}

fn within(ran: &[Ran], from: Duration, to: Duration) -> impl Iterator<Item = &Ran> {
    ran.iter().filter(move |ran| from <= ran.at && ran.at < to)
}

/// A line for each phase, by when requests were due: what was asked, what came of it, and how much longer it took than requests that
/// were done before the outage.
pub(crate) fn print_phases(load: Load, ran: &[Ran]) {
    println!(
        "{:13} {:>8} {:>6} {:>5} {:>13} {:>15} {:>24} {:>24}",
        "phase",
        "requests",
        "failed",
        "cut",
        "calls primary",
        "calls secondary",
        "ms p50 / p99 / max",
        "added p50 / p99 / max"
    );
    let killed = load.at(PHASES[1].1);
    let before = percentiles_of(ran.iter().filter(|ran| ran.at + ran.took < killed));
    for (name, begins, ends) in PHASES.into_iter().chain([("all", 0, 20)]) {
        let sum = Sum::of(within(ran, load.at(begins), load.at(ends)));
        let took = percentiles(ran, load.at(begins), load.at(ends));
        let added = [0, 1, 2].map(|place| took[place] - before[place]);
        let figures = |[p50, p99, max]: [f64; 3]| format!("{p50:.0} / {p99:.0} / {max:.0}");
        println!(
            "{name:13} {:8} {:6} {:5} {:13} {:15} {:>24} {:>24}",
            sum.requests,
            sum.failed + sum.wrong,
            sum.cut,
            sum.calls[0],
            sum.calls[1],
            figures(took),
            figures(added)
        );
    }
}

/// How many requests took more than half a second longer than most.
pub(crate) fn print_late(ran: &[Ran]) {
    let [median, ..] = percentiles_of(ran.iter());
    let late = ran.iter().filter(|ran| ran.took.as_secs_f64() * 1_000.0 > median + 500.0).count();
    println!("{late} requests took more than {:.0} ms", median + 500.0);
}

pub(crate) fn print_timeline(timeline: &[(Duration, String)]) {
    for (at, what) in timeline {
        println!("  {:6.2} s  {what}", at.as_secs_f64());
    }
}

/// How requests ended that got no answer, and how often.
pub(crate) fn print_ends(ran: &[Ran]) {
    let mut ends: BTreeMap<&str, usize> = BTreeMap::new();
    for ran in ran {
        match &ran.end {
            End::Answered => {}
            End::Wrong(_) => *ends.entry("an answer that is none").or_default() += 1,
            End::Failed(code) | End::Untyped(code) => *ends.entry(code).or_default() += 1,
        }
    }
    println!("failures: {ends:?}");
    let wrong = ran.iter().find_map(|ran| if let End::Wrong(said) = &ran.end { Some(said) } else { None });
    if let Some(said) = wrong {
        println!("an answer that is none: {said:?}");
    }
}
