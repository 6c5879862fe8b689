//! Times two sides on one scenario, alternating between them in blocks so that drift of the shared machine hits both alike.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::Runtime;

use crate::scenario::Work;
use crate::telemetry::Seen;

const WARM_UP: usize = 200;
const PER_BLOCK: usize = 100;

/// What a scenario must answer and how much work that takes.
#[derive(Clone, Copy)]
pub struct Expected {
    pub answer: &'static str,
    pub work: Work,
}

/// One framework's implementation of a scenario. A trait only so that sides of different types look alike: it is called per
/// block, never per run.
pub trait Side {
    fn name(&self) -> &str;
    fn block(&self, runtime: &Runtime, expected: Expected, runs: usize, into: &mut Samples);
}

/// The run to time and its name.
struct Runner<F>(&'static str, F);

pub fn side<F>(name: &'static str, run: F) -> Box<dyn Side>
where
    F: AsyncFn() -> anyhow::Result<String> + 'static,
{
    Box::new(Runner(name, run))
}

/// What was measured for one side.
#[derive(Default)]
pub struct Samples {
    wall: Vec<Duration>,
    cpu: Duration,
    seen: Seen,
}

impl<F: AsyncFn() -> anyhow::Result<String>> Side for Runner<F> {
    fn name(&self) -> &str {
        self.0
    }

    fn block(&self, runtime: &Runtime, expected: Expected, runs: usize, into: &mut Samples) {
        Work::take();
        Seen::take();
        into.wall.reserve(runs);
        runtime.block_on(async {
            let cpu = thread_cpu();
            for _ in 0..runs {
                let start = Instant::now();
                let answer = (self.1)().await;
                into.wall.push(start.elapsed());
                assert!(
                    answer.as_ref().is_ok_and(|answer| answer == expected.answer),
                    "{} answered {answer:?}, not {:?}",
                    self.0,
                    expected.answer
                );
            }
            into.cpu += thread_cpu() - cpu;
        });
        assert_eq!(Work::take(), expected.work.times(runs as u64), "work of {}", self.0);
        into.seen += Seen::take();
    }
}

/// CPU time of this thread, on which a current-thread runtime runs everything.
/// Leaves out waiting for a core, but not a core being slow: on a shared
/// machine it swings with the wall times.
fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Two sides of one scenario.
pub struct Comparison {
    pub scenario: &'static str,
    pub expected: Expected,
    pub baseline: Box<dyn Side>,
    pub measured: Box<dyn Side>,
    /// What `measured` may cost of what `baseline` costs.
    pub bound: Option<f64>,
}

impl Comparison {
    /// Times both sides and prints a line for each.
    ///
    /// The ratio is the median of those of neighbouring blocks, which holds up better than the ratio of the medians of all
    /// runs when the machine changes speed midway.
    pub fn is_within_bound(&self, runtime: &Runtime, blocks: usize) -> bool {
        let sides = [&self.baseline, &self.measured];
        for side in sides {
            side.block(runtime, self.expected, WARM_UP, &mut Samples::default());
        }
        let mut samples = [Samples::default(), Samples::default()];
        for _ in 0..blocks {
            for (side, samples) in sides.iter().zip(&mut samples) {
                side.block(runtime, self.expected, PER_BLOCK, samples);
            }
        }
        let [baseline, measured] = samples.map(Report::of);
        let ratio = quantile(&mut ratios(&measured.blocks, &baseline.blocks), 0.5);
        let bound = self.bound.map_or("-".to_owned(), |bound| bound.to_string());
        println!("{:<21} {:<9} {baseline}", self.scenario, self.baseline.name());
        println!("{:<21} {:<9} {measured} {ratio:>6.3} {bound:>6}", self.scenario, self.measured.name());
        self.bound.is_none_or(|bound| ratio <= bound)
    }
}

/// Prints the names of the columns.
pub fn print_header() {
    println!(
        "{:<21} {:<9} {:>9} {:>17} {:>8} {:>6} {:>6} {:>6} {:>6} {:>6}",
        "scenario", "side", "median us", "(p10 / p90)", "CPU us", "spans", "events", "fields", "ratio", "bound"
    );
}

fn ratios(these: &[f64], those: &[f64]) -> Vec<f64> {
    these.iter().zip(those).map(|(a, b)| a / b).collect()
}

/// Sorts `values`; not a number if there are none.
fn quantile(values: &mut [f64], at: f64) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let index = (values.len().saturating_sub(1) as f64 * at).round() as usize;
    values.get(index).copied().unwrap_or(f64::NAN)
}

/// Per-run figures, times in microseconds.
struct Report {
    /// Median of each block.
    blocks: Vec<f64>,
    median: f64,
    p10: f64,
    p90: f64,
    cpu: f64,
    spans: f64,
    events: f64,
    fields: f64,
}

impl Report {
    fn of(samples: Samples) -> Self {
        let mut wall: Vec<f64> = samples.wall.iter().copied().map(micros).collect();
        let runs = wall.len() as f64;
        // Before sorting: runs are in order, one block after the other.
        let blocks = wall.chunks_mut(PER_BLOCK).map(|block| quantile(block, 0.5));
        Self {
            blocks: blocks.collect(),
            median: quantile(&mut wall, 0.5),
            p10: quantile(&mut wall, 0.1),
            p90: quantile(&mut wall, 0.9),
            cpu: micros(samples.cpu) / runs,
            spans: samples.seen.spans as f64 / runs,
            events: samples.seen.events as f64 / runs,
            fields: samples.seen.fields as f64 / runs,
        }
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let spread = format!("({:.2} / {:.2})", self.p10, self.p90);
        write!(
            f,
            "{:>9.2} {spread:>17} {:>8.2} {:>6} {:>6} {:>6}",
            self.median, self.cpu, self.spans, self.events, self.fields
        )
    }
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
