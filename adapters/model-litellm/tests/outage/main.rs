//! A provider's outage under load: `cargo xtask soak outage`, and a short one with the other tests.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::print_stdout)]

mod load;
mod server;
#[path = "../support/mod.rs"]
mod support;
mod table;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use agent_core::{Bounds, MainAgent, MainAgentBuilder};
use agent_router::{FallbackModel, PlanStep};
use model_litellm::{Gateway, GatewayConfig, RetryOwner};

use load::{Load, PRIMARY, SECONDARY};
use server::Server;
use support::proxy::{config, setting};
use table::{Sum, percentiles, print_ends, print_late, print_phases, print_timeline};

/// A model of this name at a server, of a provider of the same name.
fn direct(server: &Server, name: &'static str) -> PlanStep {
    let gateway = Gateway::new(GatewayConfig::compatible(server.base_url())).unwrap();
    let model = gateway.model(name).with_info(|mut info| {
        info.provider = name.into();
        info
    });
    PlanStep::new(model).with_credential(name)
}

fn plan(primary: PlanStep, secondary: PlanStep) -> FallbackModel {
    FallbackModel::builder("plan").step(primary).step(secondary).build().unwrap()
}

fn desk(plan: &FallbackModel) -> MainAgentBuilder {
    MainAgent::builder("desk", plan.clone()).bounds(Bounds::default().with_attempts(4))
}

/// What the servers counted.
fn counted(calls: &[Arc<AtomicU64>; 2]) -> [u64; 2] {
    [0, 1].map(|place| calls[place].load(Ordering::Relaxed))
}

/// With restarts no run fails. Without them those fail whose answer had begun, and no other.
async fn outage(load: Load) {
    for (name, restarts) in [("restarts allowed", true), ("without restarts", false)] {
        let (primary, secondary) = (Server::start(PRIMARY), Server::start(SECONDARY));
        let plan = plan(direct(&primary, PRIMARY), direct(&secondary, SECONDARY));
        let desk = if restarts { desk(&plan) } else { desk(&plan).without_restarts() };
        let calls = [primary.calls(), secondary.calls()];
        let (ran, timeline) = load::run(load, &desk.build().unwrap(), primary, Some(plan.targets().clone())).await;
        println!("\n{name}: {} requests a second for {:?}, straight at two upstreams", load.rate, load.time);
        print_timeline(&timeline);
        print_phases(load, &ran);
        print_late(&ran);
        print_ends(&ran);
        let sum = Sum::of(&ran);
        let counted = counted(&calls);
        let refused = ran.iter().map(|ran| ran.failed_calls(PRIMARY)).sum::<usize>();
        println!(
            "the upstreams counted {counted:?} calls; the runs tell of {:?}, {refused} of which failed",
            sum.calls
        );
        assert_eq!((sum.wrong, sum.untyped), (0, 0), "{name}");
        assert_eq!(sum.calls[1], counted[1], "the secondary is always there: {name}");
        assert!(sum.calls[0] >= counted[0], "a call that finds nobody is one too: {name}");
        assert_eq!(sum.failed, if restarts { 0 } else { sum.cut }, "{name}");
        assert!(sum.cut > 0, "the outage cut no answer: {name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_run_fails_in_a_short_outage() {
    outage(Load { rate: 50, time: Duration::from_secs(4) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a minute: cargo xtask soak outage"]
async fn no_run_fails_at_two_hundred_requests_a_second() {
    outage(Load { rate: 200, time: Duration::from_secs(20) }).await;
}

/// One who answers while the primary is down.
struct Contender {
    name: &'static str,
    desk: MainAgent,
    plan: Option<FallbackModel>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs LiteLLM and takes a minute: cargo xtask soak outage"]
async fn no_more_runs_fail_than_behind_the_fallbacks_of_litellm() {
    let load = Load { rate: 20, time: Duration::from_secs(20) };
    let address = |name: &str| setting(name).parse().unwrap();
    let mut failed = Vec::new();
    let mut lines = Vec::new();
    for contender in 0..3 {
        let primary = Server::start_at(PRIMARY, address("ADJUTANT_PRIMARY"));
        let secondary = Server::start_at(SECONDARY, address("ADJUTANT_SECONDARY"));
        let contender = match contender {
            0 => {
                let gateway = Gateway::new(config().with_retries(RetryOwner::Gateway)).unwrap();
                let desk = MainAgent::builder("desk", gateway.model(PRIMARY)).build().unwrap();
                Contender { name: "LiteLLM's fallbacks, 2 retries", desk, plan: None }
            }
            1 => {
                let gateway = Gateway::new(config()).unwrap();
                let step = |name: &'static str| PlanStep::new(gateway.model(name)).with_credential(name);
                let plan = plan(step(PRIMARY), step(SECONDARY));
                let desk = desk(&plan).build().unwrap();
                Contender { name: "our plan through LiteLLM", desk, plan: Some(plan) }
            }
            _ => {
                let plan = plan(direct(&primary, PRIMARY), direct(&secondary, SECONDARY));
                let desk = desk(&plan).build().unwrap();
                Contender { name: "our plan at the upstreams", desk, plan: Some(plan) }
            }
        };
        load::warm_up(&contender.desk, 30).await;
        let calls = [primary.calls(), secondary.calls()];
        let warm = counted(&calls);
        let targets = contender.plan.as_ref().map(|plan| plan.targets().clone());
        let (ran, timeline) = load::run(load, &contender.desk, primary, targets).await;
        println!("\n{}: {} requests a second for {:?}", contender.name, load.rate, load.time);
        print_timeline(&timeline);
        print_phases(load, &ran);
        print_late(&ran);
        print_ends(&ran);
        let (sum, counted) = (Sum::of(&ran), counted(&calls));
        let figures = |[p50, p99, max]: [f64; 3]| format!("{p50:.0} / {p99:.0} / {max:.0}");
        lines.push(format!(
            "{:32} {:8} {:6} {:6} {:>16} {:>22} {:>22}",
            contender.name,
            sum.requests,
            sum.failed,
            sum.wrong,
            format!("{} + {}", counted[0] - warm[0], counted[1] - warm[1]),
            figures(percentiles(&ran, Duration::ZERO, load.time)),
            figures(percentiles(&ran, load.at(5), load.at(10))),
        ));
        failed.push(sum.failed + sum.wrong);
        // What LiteLLM cools down is warm again.
        tokio::time::sleep(Duration::from_secs(8)).await;
    }
    println!(
        "\n{:32} {:>8} {:>6} {:>6} {:>16} {:>22} {:>22}",
        "", "requests", "failed", "wrong", "upstream calls", "ms p50 / p99 / max", "in the outage"
    );
    lines.iter().for_each(|line| println!("{line}"));
    assert_eq!(failed[2], 0, "our plan at the upstreams");
    assert!(failed[2] <= failed[0] && failed[1] <= failed[0], "LiteLLM's fallbacks did better: {failed:?}");
}
