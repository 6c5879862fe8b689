//! Times all sides on one scenario, alternating between them in blocks, so that drift of the shared machine hits all alike.

use std::time::Duration;

use anyhow::ensure;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};
use tokio::runtime::Runtime;

use crate::sides::{Side, sides};
use crate::verdict;

/// What was measured of one scenario.
pub struct Comparison {
    scenario: &'static str,
    /// Names, and microseconds a call in each block.
    samples: Vec<(&'static str, Vec<f64>)>,
}

impl Comparison {
    /// Times all sides on the model of this name, which answers in so many chunks of text.
    pub fn new(
        scenario: &'static str,
        address: &str,
        model: &'static str,
        chunks: usize,
        runtime: &Runtime,
    ) -> anyhow::Result<Self> {
        let (blocks, per_block) = if chunks > 100 { (40, 20) } else { (100, 200) };
        let sides = runtime.block_on(async { sides(address, model) })?;
        let mut samples: Vec<(&'static str, Vec<f64>)> = sides.iter().map(|(name, _)| (*name, Vec::new())).collect();
        for block in 0..=blocks {
            for ((name, side), (_, samples)) in sides.iter().zip(&mut samples) {
                let time = runtime.block_on(time(&**side, per_block, chunks, name))?;
                // The first block warms up.
                if block > 0 {
                    samples.push(time.as_secs_f64() * 1e6 / per_block as f64);
                }
            }
        }
        Ok(Self { scenario, samples })
    }

    pub fn median(&self, name: &str) -> f64 {
        self.samples.iter().find(|(known, _)| *known == name).map_or(f64::NAN, |(_, samples)| median(samples.clone()))
    }

    pub fn print(&self) {
        println!("\n{}", self.scenario);
        for (name, samples) in &self.samples {
            println!("  {name:<14} {:>9.1}   {:.3} of bytes", median(samples.clone()), self.ratio(name, "bytes"));
        }
    }

    /// Prints the ratio of two sides, and whether it is at most `bound`.
    pub fn is_at_most(&self, name: &str, bound: f64, of: &str) -> bool {
        let ratio = self.ratio(name, of);
        println!("{name} of {of}: {ratio:.3}, at most {bound:.2}{}", verdict(ratio <= bound));
        ratio <= bound
    }

    /// The median of the ratios of neighbouring blocks, which holds up when the machine changes speed midway.
    fn ratio(&self, name: &str, of: &str) -> f64 {
        let samples = |name| self.samples.iter().find(|(known, _)| *known == name).map(|(_, samples)| samples);
        let (Some(one), Some(other)) = (samples(name), samples(of)) else { return f64::NAN };
        median(one.iter().zip(other).map(|(one, other)| one / other).collect())
    }
}

/// Keeps this process on one core, where there are two: a server on the client's core would be another measurement.
pub fn stay_on_core(core: usize) -> anyhow::Result<()> {
    let mut allowed = sched_getaffinity(None)?;
    let cores: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core)).collect();
    if let [_, _, ..] = cores.as_slice() {
        cores.iter().filter(|known| Some(*known) != cores.get(core)).for_each(|other| allowed.unset(*other));
        sched_setaffinity(None, &allowed)?;
    }
    Ok(())
}

async fn time(side: &dyn Side, calls: usize, chunks: usize, name: &str) -> anyhow::Result<Duration> {
    let begun = thread_cpu();
    for _ in 0..calls {
        let came = side.call().await?;
        ensure!(came == chunks, "{name} got {came} chunks of text, not {chunks}");
    }
    Ok(thread_cpu() - begun)
}

/// CPU time of this thread, on which a current-thread runtime runs everything.
fn thread_cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples.get(samples.len() / 2).copied().unwrap_or(f64::NAN)
}
